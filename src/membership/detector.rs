//! Who is alive: foca and its deadlines, as one object that is told the time and what arrived, and says what to send.
//!
//! A turn is one call ([`on_packet`](Detector::on_packet), [`on_due`](Detector::on_due), ...) and then
//! [`next_send`](Detector::next_send) until it is empty; [`view`](Detector::view) tells what is believed after it.
//!
//! What it adds to foca:
//! - A node that was stopped blames nobody: see [`on_due`](Detector::on_due) and `timers`.
//! - A node that knows nobody alive keeps knocking at every address it was told or remembers. (foca knocks at members
//!   that are down only while another lives, so two nodes would never find each other again.)
//!
//! Holds no socket and no clock; its dice are seeded by the caller, so equal calls give equal answers.

use super::identity::{GuardedCodec, Identity, KnownAddrs};
use super::seal::{DATAGRAM_BYTES_MAX, OVERHEAD_BYTES, cluster_number};
use super::timers::Timers;
use super::{Liveness, MemberList, MembershipConfig, Peer, Timing};
use crate::base::ids::NodeId;
use bytes::Bytes;
use foca::{AccumulatingRuntime, Foca, NoCustomBroadcast, OwnedNotification, PeriodicParams, State, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How long a member that is down is remembered.
const REMEMBER_DOWN: Duration = Duration::from_secs(24 * 60 * 60);
/// Who is asked to ping for us, and to how many news goes at once.
const HELPERS: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// To how many members, down or not, we announce ourselves at a time.
const ANNOUNCE_TO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
/// How often each piece of news is passed on: `4 log10(n + 1)`, as memberlist has it, for a hundred members.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(8).unwrap();
/// Addresses to knock at that are remembered; the first ones stay.
const SEEDS_MAX: usize = 64;
/// Events that wait; beyond it, members that are down are no longer scheduled to be forgotten.
const TIMERS_MAX: usize = 65_536;
/// After forgiving itself so often without a deadline met in between, a node that is always late blames after all.
const FORGIVEN_MAX: u32 = 8;

enum Event {
    Foca(Timer<Identity>),
    /// Time to knock, if nobody is known to live.
    Knock,
}

/// The state of one member's SWIM.
pub(super) struct Detector {
    foca: Foca<Identity, GuardedCodec, StdRng, NoCustomBroadcast>,
    outbox: AccumulatingRuntime<Identity>,
    timers: Timers<Event>,
    timing: Timing,
    known: KnownAddrs,
    cluster: u64,
    seeds: Vec<SocketAddr>,
    sends: VecDeque<(SocketAddr, Bytes)>,
    forgiven: u32,
    rejoins: u64,
}

impl Detector {
    /// A member that knows nobody. `config.advertised` must have its port.
    pub(super) fn new(now: Instant, config: &MembershipConfig, seed: u64) -> Detector {
        let timing = Timing::of(config.probe_period_ms);
        let (known, cluster) = (KnownAddrs::default(), cluster_number(&config.cluster));
        let identity = Identity { addr: config.advertised, id: config.id, generation: config.generation, cluster };
        let codec = GuardedCodec { own_addr: config.advertised, cluster, known: known.clone() };
        let mut timers = Timers::new();
        timers.push(now + timing.announce_alone, Event::Knock);
        Detector {
            foca: Foca::new(identity, foca_config(&timing), StdRng::seed_from_u64(seed), codec),
            outbox: AccumulatingRuntime::new(),
            timers,
            timing,
            known,
            cluster,
            seeds: Vec::new(),
            sends: VecDeque::new(),
            forgiven: 0,
            rejoins: 0,
        }
    }

    /// Takes in the body of a datagram; an error means that it made no sense and changed nothing.
    pub(super) fn on_packet(&mut self, now: Instant, body: &[u8]) -> Result<(), foca::Error> {
        let heard = self.foca.handle_data(body, &mut self.outbox);
        self.take_outbox(now);
        heard
    }

    /// When [`on_due`](Detector::on_due) wants to be called.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Does everything that is due; returns how late it is when it is so late that nothing was done.
    ///
    /// Half a probe period late means that this node did not run, not that nobody answered: every deadline is put off
    /// by that long and one probe period more, in which the datagrams that have piled up are read. The caller should
    /// have read what it could before calling.
    pub(super) fn on_due(&mut self, now: Instant) -> Option<Duration> {
        let late = self.timers.late(now);
        if late > self.timing.probe_period / 2 && self.forgiven < FORGIVEN_MAX {
            self.forgiven += 1;
            self.timers.forgive(now, self.timing.probe_period);
            return Some(late);
        }
        self.forgiven = 0;
        while let Some(event) = self.timers.pop(now) {
            match event {
                Event::Foca(timer) => {
                    if let Err(error) = self.foca.handle_timer(timer, &mut self.outbox) {
                        debug!(%error, "gossip timer");
                    }
                }
                Event::Knock => {
                    self.knock();
                    self.timers.push(now + self.timing.announce_alone, Event::Knock);
                }
            }
            self.take_outbox(now);
        }
        None
    }

    /// Asks whoever is at this address to let us in, now and while nobody is known to live.
    pub(super) fn announce(&mut self, now: Instant, addr: SocketAddr) {
        if !self.seeds.contains(&addr) && self.seeds.len() < SEEDS_MAX {
            self.seeds.push(addr);
        }
        self.knock_at(addr);
        self.take_outbox(now);
    }

    /// Goes on as this generation, if it is a later one.
    pub(super) fn outlive(&mut self, now: Instant, generation: u64) {
        let identity = Identity { generation, ..*self.foca.identity() };
        if generation > self.foca.identity().generation
            && let Err(error) = self.foca.change_identity(identity, &mut self.outbox)
        {
            warn!(%error, generation, "cannot go on as a later generation");
        }
        self.take_outbox(now);
    }

    /// Says goodbye to a few; [`gossip`](Detector::gossip) repeats it.
    pub(super) fn leave(&mut self, now: Instant) {
        if let Err(error) = self.foca.leave_cluster(&mut self.outbox) {
            debug!(%error, "goodbye");
        }
        self.take_outbox(now);
    }

    /// Passes on the latest news to a few.
    pub(super) fn gossip(&mut self, now: Instant) {
        if let Err(error) = self.foca.gossip(&mut self.outbox) {
            debug!(%error, "gossip");
        }
        self.take_outbox(now);
    }

    /// The next datagram body to send, and where to.
    pub(super) fn next_send(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.sends.pop_front()
    }

    /// How often this node was declared down and came back.
    pub(super) fn rejoins(&self) -> u64 {
        self.rejoins
    }

    /// What is believed now.
    pub(super) fn view(&self) -> MemberList {
        let mut peers: BTreeMap<NodeId, Peer> = BTreeMap::new();
        for member in self.foca.iter_membership_state() {
            let liveness = match member.state() {
                State::Alive => Liveness::Alive,
                State::Suspect => Liveness::Suspect,
                State::Down => Liveness::Down,
            };
            let peer = peer_of(member.id(), liveness);
            // A node that moved is remembered at both addresses: its latest life counts.
            match peers.get(&peer.id) {
                Some(known) if known.generation >= peer.generation => {}
                _ => drop(peers.insert(peer.id, peer)),
            }
        }
        let ourselves = peer_of(self.foca.identity(), Liveness::Alive);
        peers.insert(ourselves.id, ourselves);
        MemberList { peers: peers.into_values().collect() }
    }

    /// Makes the set of admitted addresses what foca knows, so that refused or forgotten ones take no room.
    pub(super) fn forget_strangers(&mut self) {
        let addrs = self.foca.iter_membership_state().map(|member| member.id().addr).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = addrs;
    }

    /// Knocks everywhere, if nobody is known to live.
    fn knock(&mut self) {
        if self.foca.num_members() > 0 {
            return;
        }
        let remembered = self.foca.iter_membership_state().map(|member| member.id().addr);
        let addrs: Vec<SocketAddr> = self.seeds.iter().copied().chain(remembered.take(SEEDS_MAX)).collect();
        for addr in addrs {
            self.knock_at(addr);
        }
    }

    fn knock_at(&mut self, addr: SocketAddr) {
        if addr == self.foca.identity().addr {
            return;
        }
        let somebody = Identity::anybody_at(addr, self.cluster);
        if let Err(error) = self.foca.announce(somebody, &mut self.outbox) {
            debug!(%error, %addr, "announce");
        }
    }

    /// Takes over what foca wants done after a call.
    fn take_outbox(&mut self, now: Instant) {
        while let Some((to, body)) = self.outbox.to_send() {
            self.sends.push_back((to.addr, body));
        }
        while let Some((after, timer)) = self.outbox.to_schedule() {
            if self.timers.len() < TIMERS_MAX || !matches!(timer, Timer::RemoveDown(_)) {
                self.timers.push(now + after, Event::Foca(timer));
            }
        }
        while let Some(notification) = self.outbox.to_notify() {
            self.note(notification);
        }
    }

    fn note(&mut self, notification: OwnedNotification<Identity>) {
        match notification {
            OwnedNotification::MemberUp(member) => {
                debug!(node = %member.id, addr = %member.addr, generation = member.generation, "heard of, or heard again");
            }
            OwnedNotification::MemberDown(member) => {
                debug!(node = %member.id, addr = %member.addr, generation = member.generation, "taken for down");
            }
            OwnedNotification::Rename(before, after) if before.id != after.id => {
                warn!(addr = %after.addr, before = %before.id, after = %after.id, "another node took over the address");
            }
            OwnedNotification::Rejoin(ourselves) => {
                self.rejoins += 1;
                warn!(generation = ourselves.generation, "was declared down; back as the next generation");
            }
            OwnedNotification::Defunct => info!("left the membership"),
            OwnedNotification::Rename(..) | OwnedNotification::Active | OwnedNotification::Idle => {}
        }
    }
}

fn peer_of(identity: &Identity, liveness: Liveness) -> Peer {
    Peer { id: identity.id, addr: identity.addr, generation: identity.generation, liveness }
}

fn foca_config(timing: &Timing) -> foca::Config {
    let every = |frequency, num_members| Some(PeriodicParams { frequency, num_members });
    foca::Config {
        probe_period: timing.probe_period,
        probe_rtt: timing.probe_rtt,
        num_indirect_probes: HELPERS,
        max_transmissions: TRANSMISSIONS,
        suspect_to_down_after: timing.suspect_to_down,
        remove_down_after: Some(REMEMBER_DOWN),
        max_packet_size: const { NonZeroUsize::new(DATAGRAM_BYTES_MAX - OVERHEAD_BYTES).unwrap() },
        notify_down_members: true,
        periodic_announce: every(timing.announce, ANNOUNCE_TO),
        periodic_announce_to_down_members: every(timing.announce, ANNOUNCE_TO),
        periodic_gossip: every(timing.gossip, HELPERS),
    }
}
