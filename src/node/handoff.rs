//! Hinted handoff, the part that delivers: a peer that is back is given what was noted for it (`peer::hints`).
//!
//! Entries travel whole, with their versions, so that to deliver one twice, or one that the peer has by now, changes
//! nothing. A peer that was away for longer than `hint-age-max-ms` has its slots compared instead. What fails is tried
//! again, each time after a longer pause. Until all has arrived other nodes take the peer for unfit (`view`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::base::ids::NodeId;
use crate::base::metrics::Count;
use crate::node::{Node, view};
use crate::peer::registry::Peer;

/// How often hints are looked for.
const HANDOFF_PERIOD: Duration = Duration::from_millis(50);
/// After a hand-over that failed, at first and at most.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Most peers that are handed over to at the same time.
const HANDOFFS_MAX: usize = 16;

/// Gives peers that are back what they missed, with the original versions: several at a time, so that nobody waits for
/// one that does not answer.
pub async fn keep_up(node: Arc<Node>) {
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
            if may_try && peer.is_usable() && !peer.hints.is_empty() && node.cluster.is_in_step_with(&peer.id) {
                let (node, id) = (node.clone(), peer.id);
                let handing = async move {
                    let is_done = hand_to(&node, &peer).await;
                    view::refresh(&node);
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
    let Some((mut slots, since)) = peer.hints.take() else { return true };
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
            let writes = peer.hints.delivered();
            if !is_recent {
                metrics.count(Count::HintsDropped, writes);
            }
            metrics.count(Count::HintsReplayed, keys);
            tracing::info!(name = peer.name(), peer = %peer.addr, slots = count, keys, "handed over what the peer had missed");
        }
        Err(error) => {
            peer.hints.restore(&slots, since);
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
