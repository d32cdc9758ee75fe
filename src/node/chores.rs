//! Background work of the main thread: expired keys, eviction, hinted handoff, rates.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::ids::{Slot, slot_of};
use crate::base::metrics::Count;
use crate::node::{Node, picture};
use crate::peer::registry::Peer;
use crate::store::eviction::{Evicted, Policy};
use crate::store::expiry::{GRACE_MS, Sweep, SweepRules};
use crate::store::{Event, due};

/// How often expired keys are looked for.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);
/// How long the sweeper works before it lets others run.
const SWEEP_TURN: Duration = Duration::from_millis(1);
/// How often a node looks whether it holds too much.
const EVICT_PERIOD: Duration = Duration::from_millis(20);
/// Keys evicted before others get their turn.
const EVICT_KEYS_MAX: u64 = 64;
/// How often hints are looked for.
const HANDOFF_PERIOD: Duration = Duration::from_millis(50);
/// How often idle clients are looked for.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// Starts all of it.
pub fn start(node: &Arc<Node>) {
    tokio::task::spawn_local(sweep(node.clone()));
    tokio::task::spawn_local(evict(node.clone()));
    tokio::task::spawn_local(hand_off(node.clone()));
    tokio::task::spawn_local(sample(node.clone()));
    tokio::task::spawn_local(close_idle(node.clone()));
}

async fn sample(node: Arc<Node>) {
    let mut tick = tokio::time::interval(SAMPLE_PERIOD);
    loop {
        tick.tick().await;
        node.shared.node.sample(node.shared.node.store.clock.now_ms());
    }
}

/// Closes clients that have asked nothing for longer than `timeout`.
async fn close_idle(node: Arc<Node>) {
    let mut tick = tokio::time::interval(IDLE_PERIOD);
    loop {
        tick.tick().await;
        let timeout_s = node.config.settings().timeout_s;
        if timeout_s != 0 {
            node.shared.node.clients.kill_idle(timeout_s * 1_000, node.shared.node.store.clock.now_ms());
        }
    }
}

/// Removes expired keys, slot by slot, a bounded piece under each lock and in each turn.
async fn sweep(node: Arc<Node>) {
    let mut tick = tokio::time::interval(SWEEP_PERIOD);
    loop {
        tick.tick().await;
        let (mut turn, mut rules) = (Instant::now(), sweep_rules(&node));
        for group in 0..due::GROUPS {
            let store = &node.shared.node.store;
            if store.stands_still(store.clock.now_ms()) {
                break;
            }
            for slot in store.sweep_due(group, rules.before_ms) {
                sweep_slot(&node, slot, &mut turn, rules).await;
            }
            if turn.elapsed() > SWEEP_TURN {
                rest(&node).await;
                (turn, rules) = (Instant::now(), sweep_rules(&node));
            }
        }
    }
}

/// Evicts where no command does: a replica grows by what others coordinate.
async fn evict(node: Arc<Node>) {
    let (store, hub) = (&node.shared.node.store, &node.shared.node.pubsub);
    let mut tick = tokio::time::interval(EVICT_PERIOD);
    loop {
        tick.tick().await;
        while store.is_over_limit() && store.eviction.policy() != Policy::NoEviction {
            let mut events = Vec::new();
            let (Evicted::Enough(keys) | Evicted::NotEnough(keys)) =
                store.evict(store.clock.now_ms(), EVICT_KEYS_MAX, |db, key| {
                    if hub.wants_events() && node.shared.view.load().is_coordinator(slot_of(key)) {
                        events.push(Event { class: b'e', name: "evicted", db, key: key.into() });
                    }
                });
            hub.publish_events(&events);
            node.shared.node.metrics.count(Count::EvictedKeys, keys);
            tokio::task::yield_now().await;
            if keys == 0 {
                break;
            }
        }
    }
}

/// Ends a turn of sweeping. Where keys are replicated the same ones expire on all their nodes at the same time, and nodes may
/// share a machine: a pause leaves workers their processors, or peers would take them for stopped.
async fn rest(node: &Node) {
    match node.shared.node.store.is_replicated() {
        true => tokio::time::sleep(SWEEP_TURN).await,
        false => tokio::task::yield_now().await,
    }
}

fn sweep_rules(node: &Node) -> SweepRules {
    let store = &node.shared.node.store;
    let grace_ms = if store.is_replicated() { GRACE_MS } else { 0 };
    let keep_tombstones = node.peers.all().iter().any(|peer| !peer.missed.is_empty());
    SweepRules { before_ms: store.clock.now_ms().saturating_sub(grace_ms), keep_tombstones }
}

async fn sweep_slot(node: &Node, slot: Slot, turn: &mut Instant, rules: SweepRules) {
    let hub = &node.shared.node.pubsub;
    let is_told = hub.wants_events() && node.shared.view.load().is_coordinator(slot);
    let mut walk = Sweep::default();
    loop {
        let mut events = Vec::new();
        walk = node.shared.node.store.table(slot).sweep(walk, rules, |entry| {
            if is_told {
                events.push(Event { class: b'x', name: "expired", db: entry.db(), key: entry.key().into() });
            }
        });
        hub.publish_events(&events);
        node.shared.node.metrics.count(Count::ExpiredKeys, walk.removed as u64);
        if turn.elapsed() > SWEEP_TURN {
            rest(node).await;
            *turn = Instant::now();
        }
        if walk.next_place.is_none() {
            return;
        }
    }
}

/// Gives peers that are back what they missed, with the original versions.
async fn hand_off(node: Arc<Node>) {
    let mut tick = tokio::time::interval(HANDOFF_PERIOD);
    loop {
        tick.tick().await;
        for peer in node.peers.all() {
            // Who was away for too long may hold what is deleted, and gives nothing of it to others.
            if peer.is_usable() && !peer.missed.is_empty() && !node.cluster.is_outdated() {
                hand_to(&node, &peer).await;
                picture::refresh(&node);
            }
        }
    }
}

async fn hand_to(node: &Node, peer: &Peer) {
    let Some((mut slots, since)) = peer.missed.take() else { return };
    let (metrics, writes) = (&node.shared.node.metrics, peer.missed.writes.load(Ordering::Relaxed));
    let count = slots.len();
    let age_ms = node.shared.node.store.clock.now_ms().saturating_sub(since.ms());
    let handed = if age_ms <= node.config.settings().hint_age_max_ms {
        node.cluster.push_slots(peer.id, &mut slots, since).await
    } else {
        // Nearly everything was written since: what differs is less.
        node.cluster.reconcile(peer.id, &mut slots).await.inspect(|_| metrics.count(Count::HintsDropped, writes))
    };
    match handed {
        Ok(keys) => {
            peer.missed.delivered();
            peer.missed.writes.store(0, Ordering::Relaxed);
            metrics.count(Count::HintsReplayed, keys);
            tracing::info!(peer = %peer.addr, slots = count, keys, "handed over what the peer had missed");
        }
        Err(error) => {
            peer.missed.restore(&slots, since);
            tracing::warn!(peer = %peer.addr, %error, "could not hand over what the peer had missed");
        }
    }
}
