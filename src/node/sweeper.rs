//! The sweeper: expired keys leave, slot by slot, a bounded piece under each lock and in each turn.
//!
//! Every node sweeps what it holds, without a word to others: a deadline is part of the version that all of them hold.
//! What is removed is given back by the workers that made it ([`Gone`]), a little at a time: memory that one thread
//! frees for another is looked through by that one when it next needs some, and a million entries would hold its
//! clients up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::Slot;
use crate::base::metrics::Count;
use crate::node::Node;
use crate::node::work::Work;
use crate::node::workers::maker_of;
use crate::store::entry::Entry;
use crate::store::expiry::{GRACE_MS, Sweep, SweepRules};
use crate::store::{Event, due};

/// How often expired keys are looked for.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);
/// How long the sweeper works before it lets others run.
const SWEEP_TURN: Duration = Duration::from_millis(1);
/// Most entries that a worker gives back at once.
const FREE_ENTRIES_MAX: usize = 512;

/// Removes expired keys, slot by slot, a bounded piece under each lock and in each turn.
pub async fn sweep(node: Arc<Node>) {
    let mut gone = Gone::new(&node);
    let mut tick = tokio::time::interval(SWEEP_PERIOD);
    loop {
        tick.tick().await;
        let (mut turn, mut rules) = (Instant::now(), sweep_rules(&node));
        for group in 0..due::GROUPS {
            let store = &node.shared.node.store;
            if store.stands_still(store.clock.now_ms()) {
                break;
            }
            for slot in store.slots_with_due_keys(group, rules.before_ms) {
                sweep_slot(&node, slot, &mut turn, rules, &mut gone).await;
            }
            if turn.elapsed() > SWEEP_TURN {
                gone.give_back(&node);
                rest(&node).await;
                (turn, rules) = (Instant::now(), sweep_rules(&node));
            }
        }
        gone.give_back(&node);
    }
}

/// Entries that were removed, by who made them.
struct Gone(Vec<Vec<Entry>>);

impl Gone {
    fn new(node: &Node) -> Gone {
        Gone((0..node.workers.len()).map(|_| Vec::new()).collect())
    }

    /// Takes one; what no worker has made is given back at once.
    fn put(&mut self, entry: Entry) {
        let maker = entry.maker();
        if let Some((_, of_worker)) = self.0.iter_mut().enumerate().find(|(worker, _)| maker_of(*worker) == maker) {
            of_worker.push(entry);
        }
    }

    /// Sends all of them where they come from.
    fn give_back(&mut self, node: &Node) {
        for (worker, entries) in self.0.iter_mut().enumerate() {
            while !entries.is_empty() {
                let few = entries.split_off(entries.len().saturating_sub(FREE_ENTRIES_MAX));
                node.workers.give(worker, Work::Free(few));
            }
        }
    }
}

/// Ends a turn of sweeping. Where keys are replicated the same ones expire on all their nodes at the same time, and
/// nodes may share a machine: a pause leaves workers their processors, or peers would take them for stopped.
async fn rest(node: &Node) {
    match node.shared.node.store.is_replicated() {
        true => tokio::time::sleep(SWEEP_TURN).await,
        false => tokio::task::yield_now().await,
    }
}

fn sweep_rules(node: &Node) -> SweepRules {
    let store = &node.shared.node.store;
    let grace_ms = if store.is_replicated() { GRACE_MS } else { 0 };
    let before_ms = store.clock.now_ms().saturating_sub(grace_ms);
    // A replica that has not heard of a deadline may hold an older value without one. The cluster is asked after the
    // time was read: what it knows must be no older than that.
    SweepRules { before_ms, keep_tombstones: node.cluster.older_copies_possible() }
}

async fn sweep_slot(node: &Node, slot: Slot, turn: &mut Instant, rules: SweepRules, gone: &mut Gone) {
    let hub = &node.shared.node.pubsub;
    // Replicas say nothing of it, and do not count it, as in Redis.
    let is_ours = node.shared.view.load().is_coordinator(slot);
    let is_told = is_ours && hub.wants_events();
    let mut walk = Sweep::default();
    loop {
        let mut events = Vec::new();
        walk = node.shared.node.store.table(slot).sweep(walk, rules, |entry| {
            if is_told {
                events.push(Event { class: b'x', name: "expired", db: entry.db(), key: entry.key().into() });
            }
            gone.put(entry);
        });
        hub.publish_events(&events);
        if is_ours {
            node.shared.node.metrics.count(Count::ExpiredKeys, walk.removed as u64);
        }
        if turn.elapsed() > SWEEP_TURN {
            gone.give_back(node);
            rest(node).await;
            *turn = Instant::now();
        }
        if walk.next_place.is_none() {
            return;
        }
    }
}
