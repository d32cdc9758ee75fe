//! The background side of ballots and settling, on the main thread: asking for promises, comparing slots.
//!
//! Slots are compared in rounds, one after the other while some are not settled, because each key of such a slot costs
//! its first writer a round trip more. What a round asks of a replica is bounded by entries: a worker over there looks
//! at all of them before it turns to its clients again. The next round goes on behind the last slot of the one before,
//! so that slots that cannot be settled now hold up no others; or at the slot that somebody waits for (SCAN).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::Count;
use crate::node::{Node, wait_while};
use crate::replication::settle::Comparison;

/// How often promises are asked for and leases prolonged.
const CAMPAIGN_PERIOD: Duration = Duration::from_millis(40);
/// How often slots that are not settled are looked for.
const SETTLE_PERIOD: Duration = Duration::from_millis(20);
/// How long none is looked for when none could be compared, as by a node that reaches nobody.
const FRUITLESS_PAUSE: Duration = Duration::from_millis(100);
/// Most slots that are compared in one round, and about how many entries.
const SLOTS_MAX: usize = 1_024;
const ENTRIES_MAX: usize = 4_096;
/// Slots or entries looked at before others get their turn.
const SLOTS_PER_TURN: usize = 64;
const ENTRIES_PER_TURN: usize = 1_024;
/// How long a comparison may take.
const COMPARE_PATIENCE: Duration = Duration::from_millis(400);
const LOOK_PERIOD: Duration = Duration::from_millis(1);

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
    let mut last = None;
    loop {
        tick.tick().await;
        let mut goes_on = true;
        while goes_on && node.shared.coordinator.ballots.has_unsettled() {
            let begun = begin(&node, last).await;
            if begun.is_empty() {
                tokio::time::sleep(FRUITLESS_PAUSE).await;
                break;
            }
            // Whoever cannot be compared now is looked at again only when all others have been.
            last = begun.last().map(|it| it.slot);
            goes_on = finish(&node, begun).await > 0;
        }
    }
}

/// Puts the questions for some slots on their lanes, first those from the one that is sought, or those behind `last`.
async fn begin(node: &Node, last: Option<Slot>) -> Vec<Comparison> {
    let (coordinator, view) = (&node.shared.coordinator, node.shared.view.load_full());
    let read_quorum = node.config.settings().read_quorum;
    let mut slots: Vec<(Slot, u32)> = coordinator.ballots.unsettled_slots().collect();
    let sought = coordinator.ballots.take_sought();
    let is_behind = |slot: Slot| sought.map_or(last.is_some_and(|last| slot <= last), |sought| slot < sought);
    let done = slots.partition_point(|(slot, _)| is_behind(*slot));
    slots.rotate_left(done);
    let (mut begun, mut entries, mut turn) = (Vec::new(), 0, 0);
    for (at, (slot, tenure)) in slots.into_iter().enumerate() {
        let now_ms = coordinator.store.clock.now_ms();
        if let Some(comparison) = coordinator.compare(&view, slot, tenure, read_quorum, now_ms) {
            begun.push(comparison);
            entries += coordinator.store.table(slot).len();
        }
        if begun.len() >= SLOTS_MAX || entries >= ENTRIES_MAX {
            break;
        }
        if at % SLOTS_PER_TURN == SLOTS_PER_TURN - 1 || entries - turn >= ENTRIES_PER_TURN {
            turn = entries;
            view.flush();
            tokio::task::yield_now().await;
        }
    }
    view.flush();
    begun
}

/// Waits for the answers, fetches what differs, and settles what may be; gives how many slots that were.
async fn finish(node: &Node, begun: Vec<Comparison>) -> usize {
    wait_while(COMPARE_PATIENCE, LOOK_PERIOD, || !begun.iter().all(Comparison::is_over)).await;
    let mut agreeing: HashMap<Slot, usize> = HashMap::new();
    let mut to_fetch: HashMap<NodeId, Vec<Slot>> = HashMap::new();
    for it in &begun {
        let compared = it.compared();
        agreeing.insert(it.slot, compared.agreeing);
        if compared.agreeing < it.need {
            compared.differing.iter().for_each(|peer| to_fetch.entry(peer.id).or_default().push(it.slot));
        }
    }
    let mut fetched: HashMap<Slot, Vec<NodeId>> = HashMap::new();
    for (peer, slots) in to_fetch {
        for slot in node.cluster.fetch(peer, slots).await {
            fetched.entry(slot).or_default().push(peer);
        }
    }
    let (coordinator, mut settled) = (&node.shared.coordinator, 0);
    for it in begun {
        let from = fetched.get(&it.slot).map_or(&[][..], Vec::as_slice);
        let counted = from.iter().filter_map(|id| node.peers.get(id)).filter(|peer| it.counts(peer)).count();
        let others = agreeing.get(&it.slot).copied().unwrap_or_default() + counted;
        if others >= it.need && coordinator.ballots.settle(it.slot, it.tenure) {
            settled += 1;
        }
    }
    coordinator.metrics.count(Count::SlotsSettled, settled as u64);
    settled
}
