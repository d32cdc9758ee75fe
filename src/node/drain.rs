//! The end of a node's service, in the order in which nobody misses an answer.
//!
//! First its slots are handed over (`cluster::lifecycle`), while all clients are served as ever. From then on no new client
//! is accepted, and those that are there are *dismissed*: each connection closes at the first moment when all that it has
//! sent is answered. Clients of the cluster face are served a little longer if they are busy, because each of their
//! commands is now answered with MOVED, which tells them where to go; then they have nothing under way here.
//!
//! Invariant: what was read from a connection is answered before it closes, unless [`CLOSE_PATIENCE`] is over: a client
//! that keeps its pipeline full and does not read, or that waits in WAIT, is cut off in the middle. Not promised: that a
//! command which is sent just while the connection closes is answered. It is not run either.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::node::Node;
use crate::server::state::client::{Client, state};

/// How long clients of the cluster face are told where to go, at most.
const MOVED_PATIENCE: Duration = Duration::from_millis(1_000);
/// Who has sent nothing for so long has gone elsewhere, or waits for nothing.
const QUIET_MS: u64 = 150;
/// How long connections may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_millis(1_500);
/// Between two looks.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// Hands everything over, within `patience`, and ends the service. Connections to peers stay: the process ends next.
pub async fn leave(node: &Node, patience: Duration) {
    let is_handed_over = tokio::time::timeout(patience, node.cluster.hand_over()).await.is_ok();
    if !is_handed_over {
        tracing::warn!("could not hand everything over in time");
    }
    node.accepts.send_replace(false);
    dismiss(node, |client| !client.is_in(state::CLUSTER_FACE));
    if is_handed_over && !node.shared.view.load().is_solo {
        wait_while(MOVED_PATIENCE, || is_any_busy(node)).await;
    }
    dismiss(node, |_| true);
    wait_while(CLOSE_PATIENCE, || !node.shared.node.clients.is_empty()).await;
    if is_handed_over {
        node.cluster.say_goodbye().await;
    }
}

fn dismiss(node: &Node, which: impl Fn(&Client) -> bool) {
    node.shared.node.clients.all().iter().filter(|client| which(client)).for_each(|client| client.dismiss());
}

/// True when some client of the cluster face has sent something of late.
fn is_any_busy(node: &Node) -> bool {
    let now_ms = node.shared.node.store.clock.now_ms();
    let is_busy = |client: &Client| now_ms.saturating_sub(client.active_ms.load(Relaxed)) < QUIET_MS;
    node.shared.node.clients.all().iter().any(|client| client.is_in(state::CLUSTER_FACE) && is_busy(client))
}

async fn wait_while(patience: Duration, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while is_so() && Instant::now() < until {
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}
