//! The end of a node's service, in the order in which nobody misses an answer.
//!
//! First its slots are handed over (`cluster::lifecycle`), while all clients are served as ever, within
//! `shutdown-timeout`. While it is not this node's turn, because enough others come or go before it, that does not
//! begin to run; but it waits no longer for its turn than for the rest. From then on no new client is accepted, and
//! those that are there are *dismissed*: each connection closes at the first moment when all that it has sent is
//! answered. Clients of the cluster face are served a little longer if they are busy, because each of their commands is
//! now answered with MOVED, which tells them where to go; then they have nothing under way here.
//!
//! Invariant: what was read from a connection is answered before it closes, unless [`CLOSE_PATIENCE`] is over: a client
//! that keeps its pipeline full and does not read, or that waits in WAIT, is cut off in the middle. What clients that
//! have gone have begun is waited for as long. Not promised: that a command which is sent just while the connection
//! closes is answered. It is not run either.

use std::time::{Duration, Instant};

use crate::node::{Node, wait_while};
use crate::server::batch::RETRY_FOR_MAX;
use crate::server::state::client::{Client, state};

/// How long clients of the cluster face are told where to go, at most.
const MOVED_PATIENCE: Duration = Duration::from_millis(1_000);
/// Who has sent nothing for so long has gone elsewhere, or waits for nothing.
const QUIET_MS: u64 = 150;
/// How long connections may take to close: longer than any batch may wait for what it lacks.
const CLOSE_PATIENCE: Duration = RETRY_FOR_MAX.saturating_add(Duration::from_millis(500));
/// Between two looks.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// Hands everything over, within `shutdown-timeout`, and ends the service. Connections to peers stay: the process ends
/// next.
pub async fn leave(node: &Node) {
    let patience = Duration::from_secs(node.config.settings().shutdown_timeout_s.max(1));
    let is_handed_over = tokio::select! {
        () = node.cluster.hand_over() => true,
        () = lose_patience(patience, || node.cluster.is_in_turn()) => false,
    };
    if !is_handed_over {
        tracing::warn!("could not hand everything over in time");
    }
    node.accepts.send_replace(false);
    let (clients, clock) = (&node.shared.node.clients, &node.shared.node.store.clock);
    clients.dismiss(|client| !client.is_in(state::CLUSTER_FACE));
    if is_handed_over && !node.shared.view.load().is_solo {
        let is_busy = |client: &Client| client.is_in(state::CLUSTER_FACE) && client.idle_ms(clock.now_ms()) < QUIET_MS;
        wait_while(MOVED_PATIENCE, LOOK_PERIOD, || clients.any(is_busy)).await;
    }
    clients.dismiss(|_| true);
    wait_while(CLOSE_PATIENCE, LOOK_PERIOD, || !clients.is_empty()).await;
    if is_handed_over {
        node.cluster.say_goodbye().await;
    }
}

/// Returns when a node that has just been told to stop is to wait no longer until it has handed over.
async fn lose_patience(patience: Duration, is_in_turn: impl Fn() -> bool) {
    let (told, mut turn) = (Instant::now(), None);
    while Instant::now() < patience_ends(told, turn, patience) {
        turn = is_in_turn().then(|| turn.unwrap_or_else(Instant::now));
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// When a node's patience ends that was told to stop at `told`, and whose turn it is since `turn`.
fn patience_ends(told: Instant, turn: Option<Instant>, patience: Duration) -> Instant {
    let turn_at_latest = told + patience;
    turn.map_or(turn_at_latest, |turn| turn.min(turn_at_latest)) + patience
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_runs_from_a_nodes_turn_on_and_for_its_turn_it_waits_no_longer() {
        let (told, patience) = (Instant::now(), Duration::from_secs(10));
        let ends = |turn_s: Option<u64>| {
            let turn = turn_s.map(|turn_s| told + Duration::from_secs(turn_s));
            patience_ends(told, turn, patience).duration_since(told).as_secs()
        };
        assert_eq!([Some(0), Some(4), Some(15), None].map(ends), [10, 14, 20, 20]);
    }
}
