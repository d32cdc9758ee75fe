//! A worker: one thread, one current-thread runtime, its share of the connections, and what they work with.
//!
//! Connections are dealt to workers and stay. The store is shared: any worker runs any local key's command inline,
//! under the slot's lock. What is in a [`Worker`] belongs to its thread alone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use arc_swap::ArcSwap;

use crate::base::clock::Hlc;
use crate::base::config::SettingsReader;
use crate::base::ids::NodeId;
use crate::base::metrics;
use crate::commands::scratch::Scratch;
use crate::peer::handshake::Hello;
use crate::peer::registry::Peer;
use crate::replication::coordinator::Coordinator;
use crate::replication::view::View;
use crate::server::batch::Batch;
use crate::server::batch::question::Target;
use crate::server::batch::scanned::writes;
use crate::server::batch::window::Window;
use crate::server::error::RequestError;
use crate::server::figures::pulse::Pulse;
use crate::server::figures::tally::{SteadyTime, Tally};
use crate::server::forward::ForwardLink;
use crate::server::forward::call::{About, AnswerPatience, Call};
use crate::server::forward::wire::Manner;
use crate::server::spares::Spares;
use crate::server::state::NodeState;
use crate::server::state::client::Client;
use crate::store::Effects;

/// How much one read may bring.
pub const INPUT_BYTES: usize = 256 << 10;

/// What all workers share.
pub struct Shared {
    /// The node.
    pub node: Arc<NodeState>,
    /// The coordinator's side of replication.
    pub coordinator: Arc<Coordinator>,
    /// The view that batches work with.
    pub view: ArcSwap<View>,
    /// How this node introduces itself.
    pub hello: Hello,
    /// The cluster's secret.
    pub secret: Arc<[u8]>,
    /// When the process began, for clocks that only measure.
    pub epoch: Instant,
    /// Whether the workers turn.
    pub pulse: Pulse,
}

/// See the head of the file.
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// What it shares.
    pub shared: Arc<Shared>,
    /// Its counters.
    pub metrics: metrics::Worker,
    /// The options in force.
    pub settings: SettingsReader,
    /// The commands that were run, until their time is shared out.
    pub tally: Tally,
    /// What commands did beside answering, emptied after each.
    pub effects: RefCell<Effects>,
    /// Where bytes are read to before they are understood.
    pub input: RefCell<Box<[u8]>>,
    /// The requests that are about to run.
    pub window: RefCell<Window>,
    /// A command has taken long since it was last looked at what may have changed meanwhile.
    pub held_up: std::cell::Cell<bool>,
    /// Where commands run whose keys have several coordinators.
    pub scratch: Scratch,
    /// Memory that goes from one batch to the next.
    pub spares: Spares,
    forwards: RefCell<AHashMap<NodeId, Rc<ForwardLink>>>,
    draw: std::cell::Cell<u64>,
}

impl Worker {
    /// A worker with no connections.
    pub fn new(index: usize, shared: Arc<Shared>) -> Worker {
        let (metrics, settings) = (shared.node.metrics.worker(), shared.node.config.reader());
        Worker {
            index,
            shared,
            metrics,
            settings,
            tally: Tally::default(),
            effects: RefCell::default(),
            input: RefCell::new(vec![0; INPUT_BYTES].into()),
            window: RefCell::default(),
            held_up: std::cell::Cell::new(false),
            scratch: Scratch::default(),
            spares: Spares::default(),
            forwards: RefCell::default(),
            draw: std::cell::Cell::new(rand::random::<u64>() | 1),
        }
    }

    /// A cheap random number.
    pub fn draw(&self) -> usize {
        let next = xorshift(self.draw.get());
        self.draw.set(next);
        next as usize
    }

    /// Asks a peer, over this worker's link to it, which is opened at the first question.
    pub fn ask(&self, peer: &Arc<Peer>, manner: Manner, requests: &[u8]) -> Rc<Call> {
        let about = About { manner, is_fenced: false, stamp: self.stamp(), patience: AnswerPatience::of(manner.kind) };
        self.link_to(peer).ask(about, |out| out.extend_from_slice(requests))
    }

    /// Where a node's cluster face is, as smart clients reach it.
    pub fn cluster_addr(&self, id: &NodeId) -> Option<String> {
        let snapshot = self.shared.node.snapshot.load();
        snapshot.rows.get(id).map(|row| format!("{}:{}", row.host, row.cluster_port))
    }

    /// Opens links to these peers before anybody needs them.
    pub fn open_links(&self, view: &View) {
        for peer in view.peers.iter().flatten() {
            self.link_to(peer);
        }
    }

    fn link_to(&self, peer: &Arc<Peer>) -> Rc<ForwardLink> {
        let mut forwards = self.forwards.borrow_mut();
        if let Some(link) = forwards.get(&peer.id).filter(|link| link.is_to(peer)) {
            return link.clone();
        }
        let link = Rc::new(ForwardLink::new(peer.clone(), self.shared.epoch));
        tokio::task::spawn_local(link.clone().keep(self.shared.hello.clone(), self.shared.secret.clone()));
        forwards.insert(peer.id, link.clone());
        link
    }

    /// The view to run a batch with that begins `now`.
    pub fn view(&self, now: Instant) -> arc_swap::Guard<Arc<View>> {
        let view = self.shared.view.load();
        self.look_at_pulse(&view, now);
        view
    }

    /// When this node stood still for so long that others may have taken its slots over, makes it confirm what it holds
    /// before it builds on it.
    #[inline]
    pub fn look_at_pulse(&self, view: &View, now: Instant) {
        if !view.is_solo {
            self.shared.pulse.tell_lateness(now, || self.shared.coordinator.unsettle_coordinated_slots(view));
        }
    }

    /// What others write from now on at this node's word is later than this, and what this node knows of is not.
    fn stamp(&self) -> Hlc {
        let clock = &self.shared.node.store.clock;
        clock.tick(clock.now_ms())
    }

    /// Counts a batch that is over: how long its commands took from their arrival to their replies, and what it did not
    /// learn.
    pub fn count_answered(&self, batch: &Batch, took: Duration) {
        let us = took.as_micros() as u64;
        for (class, count) in metrics::Class::ALL.into_iter().zip(batch.answered) {
            if count != 0 {
                self.metrics.answered(class, us, count);
            }
        }
        self.count_failures(batch.forward_failures, batch.unknown_outcomes);
    }

    /// Counts what a batch did not learn: requests without an answer, and writes whose clients were told so.
    pub fn count_failures(&self, forward_failures: u64, unknown_outcomes: u64) {
        if forward_failures + unknown_outcomes == 0 {
            return;
        }
        self.metrics.count(metrics::Count::ForwardFailures, forward_failures);
        (0..unknown_outcomes).for_each(|_| self.count_error(RequestError::UnknownOutcome.text().as_bytes()));
    }

    /// Counts an error that a client reads.
    pub fn count_error(&self, text: &[u8]) {
        self.metrics.count(metrics::Count::ErrorReplies, 1);
        if RequestError::of(text) == Some(RequestError::UnknownOutcome) {
            self.metrics.count(metrics::Count::UnknownOutcomes, 1);
        }
        self.shared.node.errors.note(text);
    }

    /// The reply to a request for which too few replicas were found for too long. Counts it.
    pub fn refusal(&self, request: &[u8]) -> String {
        let text = RequestError::NobodyInTime.text();
        self.count_refusal(writes(request));
        self.count_error(text.as_bytes());
        format!("-{text}\r\n")
    }

    /// Counts a command that is refused because there are too few replicas for it.
    pub fn count_refusal(&self, is_write: bool) {
        let count = if is_write { metrics::Count::WriteQuorumFailures } else { metrics::Count::ReadQuorumFailures };
        self.metrics.count(count, 1);
    }

    /// Closes a client whose replies have outgrown its `client-output-buffer-limit`.
    pub fn cut_off(&self, client: &Client) {
        if !client.is_killed() {
            self.metrics.count(metrics::Count::OutputLimitDisconnects, 1);
            client.kill();
        }
    }

    /// Counts what the commands run since the last time did and took: `took` together.
    pub fn count_turn(&self, took: Duration) -> SteadyTime {
        self.count_lookups_of(&mut self.effects.borrow_mut());
        self.tally.share_out(took, &self.metrics)
    }

    /// Counts what has been looked up and changed according to `effects`, which forgets it.
    pub fn count_lookups_of(&self, effects: &mut Effects) {
        self.metrics.count(metrics::Count::KeyspaceHits, std::mem::take(&mut effects.hits));
        self.metrics.count(metrics::Count::KeyspaceMisses, std::mem::take(&mut effects.misses));
        self.metrics.count(metrics::Count::KeyChanges, std::mem::take(&mut effects.writes));
    }

    /// Sends what a batch has for other nodes: its questions, and what its commands have put on lanes.
    pub fn send_off(&self, view: &View, batch: &mut Batch) {
        if view.is_solo {
            return;
        }
        batch.ask(|Target { peer, manner, fence }, patience, write| {
            let Some(peer) = view.peer(peer) else { return Call::not_run() };
            let stamp = fence.unwrap_or_else(|| self.stamp());
            self.link_to(peer).ask(About { manner, is_fenced: fence.is_some(), stamp, patience }, write)
        });
        view.flush();
    }
}

/// The number after `x`, which is not 0, in a sequence that passes for random: xorshift64 (Marsaglia 2003).
fn xorshift(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ x << 17
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::base::config::{Config, Sources, load};
    use crate::base::ids::ActorId;
    use crate::peer::handshake::LinkKind;
    use crate::replication::ballots::Ballots;
    use crate::server::state::snapshot::tests::snapshot_of;
    use crate::store::Store;

    /// What so many workers share of a node of a cluster of three, of which it sees only itself.
    pub fn shared(workers: usize, view: View) -> Arc<Shared> {
        let loaded = load(&Sources::default(), &|_| unreachable!("no file is given")).unwrap();
        let config = Arc::new(Config::new(loaded).unwrap());
        let store = Arc::new(Store::new(ActorId { node: 1, generation: 1 }));
        let node = Arc::new(NodeState::new(config, store.clone(), snapshot_of(3, 2), "ab".repeat(20), 1_000));
        let hello =
            Hello { cluster: "c".into(), node: node.snapshot.load().this, generation: 1, kind: LinkKind::Control };
        let (metrics, ballots) = (node.metrics.clone(), Arc::new(Ballots::new(Hlc(0))));
        let coordinator = Arc::new(Coordinator { store, metrics, ballots, current_view: Default::default() });
        Arc::new(Shared {
            node,
            coordinator,
            view: ArcSwap::from_pointee(view),
            hello,
            secret: Arc::new([]),
            epoch: Instant::now(),
            pulse: Pulse::new(workers),
        })
    }

    /// Who confirms a read is picked by a draw. If draws alternated, keys that are read in turn would always have the
    /// same confirmer each, and a load that repeats would overload some.
    #[test]
    fn draws_do_not_fall_into_step_with_requests_that_come_in_turn() {
        for seed in [1, 2, 0xffff_0000_0000, u64::MAX] {
            let draws: Vec<u64> =
                std::iter::successors(Some(seed), |x| Some(xorshift(*x))).skip(20).take(4_000).collect();
            for (period, nodes) in (1..=8).flat_map(|period| (2..=6).map(move |nodes| (period, nodes))) {
                for node in 0..nodes {
                    let times = draws.iter().step_by(period).filter(|draw| **draw % nodes == node).count();
                    let fair = draws.len() / period / nodes as usize;
                    assert!((fair / 2..fair * 2).contains(&times), "{times} of {fair}: {seed} {period} {nodes}");
                }
            }
        }
    }
}
