//! Background work of the main thread: eviction, hinted handoff, rates, idle clients. Expired keys are the `sweeper`'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::base::config::MaxmemoryPolicy;
use crate::base::ids::NodeId;
use crate::base::metrics::Count;
use crate::node::{Node, memory, picture, sweeper};
use crate::peer::registry::Peer;

/// How often a node looks whether it holds too much.
const EVICT_PERIOD: Duration = Duration::from_millis(20);
/// Keys evicted before others get their turn.
const EVICT_KEYS_MAX: u64 = 64;
/// How often hints are looked for.
const HANDOFF_PERIOD: Duration = Duration::from_millis(50);
/// After a hand-over that failed, at first and at most.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Most peers that are handed over to at the same time.
const HANDOFFS_MAX: usize = 16;
/// How often idle clients are looked for.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// Starts all of it.
pub fn start(node: &Arc<Node>) {
    tokio::task::spawn_local(sweeper::sweep(node.clone()));
    tokio::task::spawn_local(memory::watch(node.clone()));
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

/// Closes clients that have asked nothing for longer than `timeout`, or read nothing though too much waits for them.
async fn close_idle(node: Arc<Node>) {
    let mut tick = tokio::time::interval(IDLE_PERIOD);
    loop {
        tick.tick().await;
        let (settings, now_ms) = (node.config.settings(), node.shared.node.store.clock.now_ms());
        let clients = &node.shared.node.clients;
        if settings.timeout_s != 0 {
            clients.kill_idle(settings.timeout_s * 1_000, now_ms);
        }
        let unread = clients.kill_unread(&settings.client_output_buffer_limit, now_ms);
        node.shared.node.metrics.count(Count::OutputLimitDisconnects, unread as u64);
    }
}

/// Evicts where no command does: a replica grows by what others coordinate.
async fn evict(node: Arc<Node>) {
    let store = &node.shared.node.store;
    let mut tick = tokio::time::interval(EVICT_PERIOD);
    loop {
        tick.tick().await;
        while store.is_over_limit() && store.eviction.policy() != MaxmemoryPolicy::Noeviction {
            let evicted = node.shared.node.evict(&node.shared.view.load(), store.clock.now_ms(), EVICT_KEYS_MAX);
            tokio::task::yield_now().await;
            if evicted.keys() == 0 {
                break;
            }
        }
    }
}

/// Gives peers that are back what they missed, with the original versions: several at a time, so that nobody waits for
/// one that does not answer.
async fn hand_off(node: Arc<Node>) {
    let mut tick = tokio::time::interval(HANDOFF_PERIOD);
    let mut failures: HashMap<NodeId, Failure> = HashMap::new();
    let mut running: HashMap<NodeId, JoinHandle<bool>> = HashMap::new();
    loop {
        tick.tick().await;
        for id in running.iter().filter(|(_, task)| task.is_finished()).map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(task) = running.remove(&id) else { continue };
            if task.await.unwrap_or(false) {
                failures.remove(&id);
            } else {
                failures.insert(id, Failure::after(failures.get(&id), Instant::now()));
            }
        }
        let peers = node.peers.all();
        failures.retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        for peer in peers {
            if running.len() >= HANDOFFS_MAX || running.contains_key(&peer.id) {
                continue;
            }
            let may_try = failures.get(&peer.id).is_none_or(|failure| failure.is_over(Instant::now()));
            // Who was away for too long may hold what is deleted, and gives nothing of it to others.
            if may_try && peer.is_usable() && !peer.missed.is_empty() && node.cluster.is_in_step_with(&peer.id) {
                let (node, id) = (node.clone(), peer.id);
                let handing = async move {
                    let is_done = hand_to(&node, &peer).await;
                    picture::refresh(&node);
                    is_done
                };
                running.insert(id, tokio::task::spawn_local(handing));
            }
        }
    }
}

/// A hand-over that failed: the next one waits, each time longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Failure {
    at: Instant,
    pause: Duration,
}

impl Failure {
    fn after(last: Option<&Failure>, now: Instant) -> Failure {
        Failure { at: now, pause: last.map_or(RETRY_PAUSE, |last| (last.pause * 2).min(RETRY_PAUSE_MAX)) }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.at) >= self.pause
    }
}

/// True when it is done.
async fn hand_to(node: &Node, peer: &Peer) -> bool {
    let Some((mut slots, since)) = peer.missed.take() else { return true };
    let metrics = &node.shared.node.metrics;
    let count = slots.len();
    let age_ms = node.shared.node.store.clock.now_ms().saturating_sub(since.ms());
    let is_recent = age_ms <= node.config.settings().hint_age_max_ms;
    let handed = if is_recent {
        node.cluster.push_slots(peer.id, &mut slots, since).await
    } else {
        // Nearly everything was written since: what differs is less.
        node.cluster.reconcile(peer.id, &mut slots, since).await
    };
    match handed {
        Ok(keys) => {
            let writes = peer.missed.delivered();
            if !is_recent {
                metrics.count(Count::HintsDropped, writes);
            }
            metrics.count(Count::HintsReplayed, keys);
            tracing::info!(name = peer.name(), peer = %peer.addr, slots = count, keys, "handed over what the peer had missed");
        }
        Err(error) => {
            peer.missed.restore(&slots, since);
            tracing::warn!(name = peer.name(), peer = %peer.addr, %error, "could not hand over what the peer had missed");
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_over_that_fails_again_and_again_is_tried_less_often() {
        let now = Instant::now();
        let first = Failure::after(None, now);
        assert!(!first.is_over(now) && first.is_over(now + RETRY_PAUSE));
        let second = Failure::after(Some(&first), now);
        assert!(!second.is_over(now + RETRY_PAUSE) && second.is_over(now + 2 * RETRY_PAUSE));
        let many = (0..60).fold(second, |last, _| Failure::after(Some(&last), now));
        assert!(many.is_over(now + RETRY_PAUSE_MAX));
    }
}
