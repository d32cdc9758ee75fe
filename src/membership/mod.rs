//! Liveness: who is alive, decided by SWIM (Das, Gupta, Motivala, 2002) as the `foca` crate runs it, over UDP.
//!
//! | file | what it is |
//! |---|---|
//! | `identity` | who a member is; which of two claims to one address stands |
//! | `seal` | datagrams on the wire: authenticated, fresh, or dropped before they are decoded |
//! | `timers`, `detector` | the decisions, without a socket or a clock of their own |
//! | `driver` | the one task that owns them and talks |
//!
//! A node pings one other at a time; who does not answer, not even through others, becomes *suspect*, and *down* when
//! it has not objected in time. The news travels on the pings themselves.
//!
//! Beside that a node whose threads are at work for long, so that its connections are silent, says so to everybody with
//! datagrams of their own ([`AtWork`]): it is not stopped.
//!
//! Invariants: a datagram that does not open changes nothing; a node that was itself stopped for a while blames nobody
//! for what it missed; every table is bounded.
//!
//! Never changes the ring, and carries no data: a node that is down here is only stood in for. Members are trusted:
//! whoever holds the cluster secret can lie about the others.

mod identity;
mod seal;
mod timers;
mod detector;
mod driver;

#[cfg(test)]
mod tests;

use crate::base::ids::NodeId;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Most addresses that are remembered at a time; news of further ones is refused.
pub const MEMBERS_MAX: usize = 2_048;
/// How often it is looked whether this node is at work.
const AT_WORK_LOOK: Duration = Duration::from_millis(10);
/// How long [`Membership::leave`] takes at most.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Announcements and the like that wait for the driver.
const COMMANDS_MAX: usize = 64;

/// What a node must know to take part.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    /// Who we are.
    pub id: NodeId,
    /// Which boot of ours this is: above all earlier ones. The greater of the stored one plus 1 and the wall clock in
    /// milliseconds does.
    pub generation: u64,
    /// Where to listen.
    pub bind: SocketAddr,
    /// Where others reach us; port 0 means the one that we listen on.
    pub advertised: SocketAddr,
    /// The cluster's name: nodes of other names are not heard.
    pub cluster: String,
    /// What authenticates and encrypts every datagram. Without one, only loopback may be bound.
    pub secret: Option<String>,
    /// How often another node is pinged, in milliseconds. Every other time follows from it, see [`Timing`].
    pub probe_period_ms: u64,
}

impl MembershipConfig {
    /// A ping every half second: suspect after one to a few of them, down two seconds later.
    pub const PROBE_PERIOD_MS: u64 = 500;
}

/// The times that follow from the probe period.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two pings.
    pub probe_period: Duration,
    /// For an answer, before others are asked to ping: 150 ms of 500.
    pub probe_rtt: Duration,
    /// From suspect to down: 2 s.
    pub suspect_to_down: Duration,
    /// Between two rounds of spreading news: 200 ms.
    pub gossip: Duration,
    /// Between two announcements to a few members, and to a few that are down, which heals partitions: 10 s.
    pub announce: Duration,
    /// Between two announcements to everybody ever heard of, while nobody is known to live: 1 s.
    pub announce_alone: Duration,
}

impl Timing {
    /// The timing of this probe period; at least 10 ms.
    pub fn of(probe_period_ms: u64) -> Timing {
        let ms = probe_period_ms.max(10);
        let tenths = |tenths: u64| Duration::from_millis(ms.saturating_mul(tenths) / 10);
        Timing {
            probe_period: tenths(10),
            probe_rtt: tenths(3),
            suspect_to_down: tenths(40),
            gossip: tenths(4),
            announce: tenths(200),
            announce_alone: tenths(20),
        }
    }
}

/// What is believed of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It did not answer, and may still object.
    Suspect,
    /// It left, or never objected.
    Down,
}

/// One member as the view shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Who it is.
    pub id: NodeId,
    /// Where it is reached.
    pub addr: SocketAddr,
    /// Its boot, plus one for each time that it was declared down and came back within that boot.
    pub generation: u64,
    /// What is believed of it.
    pub liveness: Liveness,
}

/// Everybody that is known, ourselves included, by ascending id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberList {
    peers: Vec<Peer>,
}

impl MemberList {
    /// Everybody that is known, by ascending id; we are always in it, alive.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// What is known of this node.
    pub fn get(&self, id: &NodeId) -> Option<&Peer> {
        self.peers.binary_search_by(|peer| peer.id.cmp(id)).ok().and_then(|index| self.peers.get(index))
    }

    /// What is believed of this node; one that was never heard of is down.
    pub fn liveness(&self, id: &NodeId) -> Liveness {
        self.get(id).map_or(Liveness::Down, |peer| peer.liveness)
    }
}

/// Why a node could not start to take part. The operator's to mend; nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Without a secret, anybody who reaches the port could speak for the cluster.
    #[error("gossip on {0} needs a cluster-secret: without one only loopback is bound")]
    Unprotected(IpAddr),
    /// The port is taken, or the address is not ours.
    #[error("cannot listen for gossip on {addr}: {source}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether gossip may be bound there: anywhere with a secret, else on loopback only. An empty secret is none.
pub fn check_bind(bind: IpAddr, secret: Option<&str>) -> Result<(), MembershipError> {
    let protected = secret.is_some_and(|secret| !secret.is_empty());
    if protected || bind.is_loopback() { Ok(()) } else { Err(MembershipError::Unprotected(bind)) }
}

/// Declares the counters once: shared atomics, and a copy of them to read.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened since the start.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct MembershipStats { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        struct Counters { $($name: AtomicU64,)* }

        impl Counters {
            fn read(&self) -> MembershipStats {
                MembershipStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Datagrams sent.
    packets_sent,
    /// Datagrams that the system did not take.
    packets_unsent,
    /// Datagrams that opened and were understood.
    packets_received,
    /// Datagrams dropped unopened: forged, damaged, of another cluster, or without our secret.
    packets_refused,
    /// Datagrams dropped because they were heard before, or come from an earlier generation.
    packets_replayed,
    /// Datagrams that opened but made no sense.
    packets_senseless,
    /// Times that this node found itself to have been stopped, and gave everybody more time.
    stalls,
    /// Times that this node was declared down and came back under its next generation.
    rejoins,
}

/// When a datagram was last understood.
#[derive(Debug)]
struct Heard {
    epoch: Instant,
    last_ms: AtomicU64,
}

impl Heard {
    /// Counts from now on.
    fn new() -> Heard {
        Heard { epoch: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.last_ms.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.epoch.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

enum Command {
    Announce(SocketAddr),
    Leave(oneshot::Sender<()>),
}

/// That a node's threads are at work, in which its connections are silent for long, though it is not stopped.
pub trait AtWork: Send + 'static {
    /// Whether that is to be said to everybody now. Asked every [`AT_WORK_LOOK`]; nothing may hold it up.
    fn is_to_be_said(&self) -> bool;
    /// Another says so.
    fn hear(&self, id: NodeId);
}

/// For tests: never is, and hears nobody.
#[cfg(test)]
pub struct NeverAtWork;

#[cfg(test)]
impl AtWork for NeverAtWork {
    fn is_to_be_said(&self) -> bool {
        false
    }

    fn hear(&self, _: NodeId) {}
}

/// A running member. Dropping it falls silent without a word, as a crash would; [`leave`](Membership::leave) says
/// goodbye.
#[derive(Debug)]
pub struct Membership {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<MemberList>>,
    counters: Arc<Counters>,
    heard: Arc<Heard>,
    addr: SocketAddr,
    /// What the driver is to be, at least.
    generation: Arc<AtomicU64>,
}

impl Membership {
    /// Binds the port and starts the driver on the current tokio runtime. What that waits for, members wait for.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(config: MembershipConfig, at_work: impl AtWork) -> Result<Membership, MembershipError> {
        check_bind(config.bind.ip(), config.secret.as_deref())?;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (counters, heard) = (Arc::new(Counters::default()), Arc::new(Heard::new()));
        let generation = Arc::new(AtomicU64::new(config.generation));
        let driver = driver::Driver::bind(config, counters.clone(), heard.clone(), generation.clone())?;
        let (addr, view) = (driver.addr(), driver.view());
        tokio::spawn(driver.run(inbox, at_work));
        Ok(Membership { commands, view, counters, heard, addr, generation })
    }

    /// The latest view, and a way to wait for the next.
    pub fn view(&self) -> watch::Receiver<Arc<MemberList>> {
        self.view.clone()
    }

    /// Where others reach us.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Goes on as this generation, if it is a later one: others have known an earlier boot of ours by one above our
    /// own, because our clock has gone back, and hear nothing from us otherwise.
    pub fn outlive(&self, generation: u64) {
        self.generation.fetch_max(generation, Ordering::AcqRel);
    }

    /// Asks the member at this address to let us in. It is asked again and again while nobody is known to live.
    pub fn announce(&self, addr: SocketAddr) {
        // Full means that many are asked already; closed, that we have left.
        let _ = self.commands.try_send(Command::Announce(addr));
    }

    /// Tells the others that we go, so that they need not find out; returns when that is sent, within two seconds.
    pub async fn leave(self) {
        let (done, left) = oneshot::channel();
        let goodbye = async {
            if self.commands.send(Command::Leave(done)).await.is_ok() {
                let _ = left.await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, goodbye).await;
    }

    /// How long no datagram was understood: since the start, if none ever was.
    pub fn silence(&self) -> Duration {
        self.heard.silence()
    }

    /// What happened since the start.
    pub fn stats(&self) -> MembershipStats {
        self.counters.read()
    }
}
