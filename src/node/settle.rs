//! The background side of ballots and settling, on the main thread: asking for promises, comparing slots.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::Count;
use crate::node::Node;
use crate::replication::settle::Comparison;

/// How often promises are asked for and leases prolonged.
const CAMPAIGN_PERIOD: Duration = Duration::from_millis(40);
/// How often slots that are not settled are looked for.
const SETTLE_PERIOD: Duration = Duration::from_millis(20);
/// Most slots that are compared at the same time.
const SLOTS_MAX: usize = 1_024;
/// Slots compared before others get their turn.
const SLOTS_PER_TURN: usize = 64;
/// How long a comparison may take.
const COMPARE_PATIENCE: Duration = Duration::from_millis(400);
const LOOK_PERIOD: Duration = Duration::from_millis(2);

/// Starts both.
pub fn start(node: &Arc<Node>) {
    tokio::task::spawn_local(campaign(node.clone()));
    tokio::task::spawn_local(settle(node.clone()));
}

async fn campaign(node: Arc<Node>) {
    let coordinator = &node.shared.coordinator;
    let mut tick = tokio::time::interval(CAMPAIGN_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if coordinator.ballots.is_wanted(node.shared.node.store.clock.now_ms()) {
            coordinator.campaign(&node.shared.view.load(), &|slot| node.cluster.is_whole(slot));
        }
    }
}

async fn settle(node: Arc<Node>) {
    let mut tick = tokio::time::interval(SETTLE_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if node.shared.coordinator.ballots.has_unsettled() {
            let begun = begin(&node).await;
            finish(&node, begun).await;
        }
    }
}

/// Puts the questions for some slots on their lanes.
async fn begin(node: &Node) -> Vec<Comparison> {
    let (coordinator, view) = (&node.shared.coordinator, node.shared.view.load_full());
    let read_quorum = node.config.settings().read_quorum;
    let slots: Vec<(Slot, u32)> = coordinator.ballots.unsettled_slots().collect();
    let mut begun = Vec::new();
    for (at, (slot, tenure)) in slots.into_iter().enumerate() {
        let now_ms = coordinator.store.clock.now_ms();
        begun.extend(coordinator.compare(&view, slot, tenure, read_quorum, now_ms));
        if begun.len() >= SLOTS_MAX {
            break;
        }
        if at % SLOTS_PER_TURN == SLOTS_PER_TURN - 1 {
            view.peers.iter().flatten().flat_map(|peer| &peer.lanes).for_each(crate::peer::lane::Lane::flush);
            tokio::task::yield_now().await;
        }
    }
    view.peers.iter().flatten().flat_map(|peer| &peer.lanes).for_each(crate::peer::lane::Lane::flush);
    begun
}

/// Waits for the answers, fetches what differs, and settles what may be.
async fn finish(node: &Node, begun: Vec<Comparison>) {
    let until = Instant::now() + COMPARE_PATIENCE;
    while !begun.iter().all(Comparison::is_over) && Instant::now() < until {
        tokio::time::sleep(LOOK_PERIOD).await;
    }
    let mut agreeing: HashMap<Slot, usize> = HashMap::new();
    let mut to_fetch: HashMap<NodeId, Vec<Slot>> = HashMap::new();
    for it in &begun {
        let outcome = it.outcome();
        agreeing.insert(it.slot, outcome.agreeing);
        if outcome.agreeing < it.need {
            outcome.differing.iter().for_each(|peer| to_fetch.entry(peer.id).or_default().push(it.slot));
        }
    }
    let mut fetched: HashMap<Slot, Vec<NodeId>> = HashMap::new();
    for (peer, slots) in to_fetch {
        for slot in node.cluster.fetch(peer, slots).await {
            fetched.entry(slot).or_default().push(peer);
        }
    }
    let coordinator = &node.shared.coordinator;
    for it in begun {
        let from = fetched.get(&it.slot).map_or(&[][..], Vec::as_slice);
        let counted = from.iter().filter_map(|id| node.peers.get(id)).filter(|peer| it.counts(peer)).count();
        let others = agreeing.get(&it.slot).copied().unwrap_or_default() + counted;
        if others >= it.need && coordinator.ballots.settle(it.slot, it.tenure) {
            coordinator.metrics.count(Count::SlotsSettled, 1);
        }
    }
}
