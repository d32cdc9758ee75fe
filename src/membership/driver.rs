//! The one task that owns the detector and the socket: it reads, waits, sends, and publishes the view.
//!
//! A turn: what has arrived is read first, up to a bound, so that an answer that is already here counts before its
//! deadline does; then what is due is done; then everything is sent. Datagrams that the system does not take at once
//! are dropped: SWIM repeats itself, and a queue would only make news old.

use super::detector::Detector;
use super::seal::{DATAGRAM_BYTES_MAX, Keyring, Opener, Refusal, Sealer};
use super::{AT_WORK_LOOK, AtWork, Command, Counters, Heard, Liveness, MemberList, MembershipConfig, MembershipError};
use crate::base::clock::wall_us;
use crate::base::ids::NodeId;
use crate::base::net::{UdpSocket, bind_udp};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, warn};

/// Datagrams read in a turn before the deadlines are looked at.
const READS_MAX: usize = 256;
/// A goodbye is said this often, to other members each time, so far apart.
const GOODBYES: usize = 3;
const GOODBYE_INTERVAL: Duration = Duration::from_millis(30);

/// Everything the task owns.
pub(super) struct Driver {
    socket: UdpSocket,
    addr: SocketAddr,
    detector: Detector,
    sealer: Sealer,
    opener: Opener,
    view: watch::Sender<Arc<MemberList>>,
    counters: Arc<Counters>,
    heard: Arc<Heard>,
    keyring: Keyring,
    id: NodeId,
    /// The generation that we go by, and the one that we are told to go by.
    generation: u64,
    wanted_generation: Arc<AtomicU64>,
    buffer: Vec<u8>,
}

impl Driver {
    /// Binds the socket. Must be called within a tokio runtime.
    pub(super) fn bind(
        mut config: MembershipConfig,
        counters: Arc<Counters>,
        heard: Arc<Heard>,
        wanted_generation: Arc<AtomicU64>,
    ) -> Result<Driver, MembershipError> {
        let failed = |source| MembershipError::Bind { addr: config.bind, source };
        let socket = bind_udp(config.bind).map_err(failed)?;
        let port = socket.local_addr().map_err(failed)?.port();
        if config.advertised.port() == 0 {
            config.advertised.set_port(port);
        }
        let keyring = Keyring::new(&config.cluster, config.secret.as_deref());
        let detector = Detector::new(Instant::now(), &config, rand::random());
        let (view, _) = watch::channel(Arc::new(detector.view()));
        Ok(Driver {
            socket,
            addr: config.advertised,
            sealer: Sealer::new(&keyring, config.id.short(), config.generation, first_sequence()),
            opener: Opener::new(&keyring, config.id.short()),
            detector,
            view,
            counters,
            heard,
            id: config.id,
            generation: config.generation,
            wanted_generation,
            keyring,
            // One more than is allowed, so that longer ones show.
            buffer: vec![0; DATAGRAM_BYTES_MAX + 1],
        })
    }

    /// Where others reach us.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The view as it will be published.
    pub(super) fn view(&self) -> watch::Receiver<Arc<MemberList>> {
        self.view.subscribe()
    }

    /// Runs until told to leave, or until nobody holds the other end of `inbox`.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>, at_work: impl AtWork) {
        let mut look = tokio::time::interval(AT_WORK_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.detector.next_deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => {
                    self.read(&at_work);
                    self.on_due();
                }
                _ = look.tick() => {
                    if at_work.is_to_be_said() {
                        self.say_at_work();
                    }
                    continue;
                }
                command = inbox.recv() => match command {
                    Some(Command::Announce(addr)) => self.detector.announce(Instant::now(), addr),
                    Some(Command::Leave(done)) => {
                        self.leave().await;
                        // The leaver may have given up waiting.
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
                readable = self.socket.readable() => {
                    if let Err(error) = readable {
                        warn!(%error, "the gossip socket is gone");
                        return;
                    }
                    self.read(&at_work);
                }
            }
            self.outlive();
            self.send();
            self.publish();
        }
    }

    /// Goes by a later generation if told to.
    fn outlive(&mut self) {
        let wanted = self.wanted_generation.load(Ordering::Acquire);
        if wanted > self.generation {
            self.generation = wanted;
            self.sealer = Sealer::new(&self.keyring, self.id.short(), wanted, first_sequence());
            self.detector.outlive(Instant::now(), wanted);
        }
    }

    /// Reads what has arrived, as far as it goes.
    fn read(&mut self, at_work: &impl AtWork) {
        for _ in 0..READS_MAX {
            match self.socket.try_recv(&mut self.buffer) {
                Ok(len) => self.hear(len, at_work),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => debug!(%error, "gossip receive"),
            }
        }
    }

    fn hear(&mut self, len: usize, at_work: &impl AtWork) {
        let body = match self.opener.open(self.buffer.get(..len).unwrap_or_default()) {
            Ok(body) => body,
            Err(Refusal::Replayed) => return count(&self.counters.packets_replayed),
            Err(Refusal::Malformed | Refusal::Unproven | Refusal::Echo) => {
                return count(&self.counters.packets_refused);
            }
        };
        if let Ok(id) = body.as_slice().try_into() {
            count(&self.counters.packets_received);
            return at_work.hear(NodeId::from_bytes(id));
        }
        match self.detector.on_packet(Instant::now(), &body) {
            Ok(()) => {
                count(&self.counters.packets_received);
                self.heard.note();
            }
            Err(error) => {
                debug!(%error, "gossip datagram");
                count(&self.counters.packets_senseless);
            }
        }
    }

    fn on_due(&mut self) {
        if let Some(late) = self.detector.on_due(Instant::now()) {
            warn!(late_ms = late.as_millis() as u64, "this node was stopped; giving everybody more time to answer");
            count(&self.counters.stalls);
        }
    }

    /// A body that is nothing but the sender's id; one of foca's is longer.
    fn say_at_work(&mut self) {
        let (view, id) = (self.view.borrow().clone(), self.id);
        let others = view.peers().iter().filter(|peer| peer.id != id && peer.liveness != Liveness::Down);
        others.for_each(|peer| self.send_to(peer.addr, id.as_bytes()));
    }

    fn send(&mut self) {
        while let Some((to, body)) = self.detector.next_send() {
            self.send_to(to, &body);
        }
    }

    fn send_to(&mut self, to: SocketAddr, body: &[u8]) {
        match self.socket.try_send_to(&self.sealer.seal(body), to) {
            Ok(_) => count(&self.counters.packets_sent),
            Err(error) => {
                debug!(%error, %to, "gossip send");
                count(&self.counters.packets_unsent);
            }
        }
    }

    /// Tells the watchers, if there is something to tell.
    fn publish(&mut self) {
        self.counters.rejoins.store(self.detector.rejoins(), Ordering::Relaxed);
        let view = self.detector.view();
        if view != **self.view.borrow() {
            self.detector.forget_strangers();
            self.view.send_replace(Arc::new(view));
        }
    }

    async fn leave(&mut self) {
        self.detector.leave(Instant::now());
        for _ in 1..GOODBYES {
            self.send();
            tokio::time::sleep(GOODBYE_INTERVAL).await;
            self.detector.gossip(Instant::now());
        }
        self.send();
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Microseconds since 1970: above every sequence number of an earlier start, unless that sent a million datagrams a
/// second.
fn first_sequence() -> u64 {
    wall_us()
}
