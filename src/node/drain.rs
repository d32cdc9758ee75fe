//! The end of a node's service, in the order in which nobody misses an answer.
//!
//! First its slots are handed over (`cluster::lifecycle`), while all clients are served as ever. From then on no new
//! client is accepted, and those that are there are *dismissed*: each connection closes at the first moment when all
//! that it has sent is answered. Clients of the cluster face are served a little longer if they are busy, because each
//! of their commands is now answered with MOVED, which tells them where to go; then they have nothing under way here.
//!
//! Invariant: what was read from a connection is answered before it closes, unless [`CLOSE_PATIENCE`] is over: a client
//! that keeps its pipeline full and does not read, or that waits in WAIT, is cut off in the middle. What clients that
//! have gone have begun is waited for as long. Not promised: that a command which is sent just while the connection
//! closes is answered. It is not run either.

use std::time::Duration;

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

/// Hands everything over, within `patience`, and ends the service. Connections to peers stay: the process ends next.
pub async fn leave(node: &Node, patience: Duration) {
    let is_handed_over = tokio::time::timeout(patience, node.cluster.hand_over()).await.is_ok();
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
