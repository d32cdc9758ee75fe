//! Background work of the main thread: eviction, rates, idle clients. What is longer has files of its own, and is
//! started here: the `sweeper` of expired keys, hinted `handoff`, `memory`.

use std::sync::Arc;
use std::time::Duration;

use crate::base::config::MaxmemoryPolicy;
use crate::base::metrics::Count;
use crate::node::{Node, handoff, memory, sweeper};

/// How often a node looks whether it holds too much.
const EVICT_PERIOD: Duration = Duration::from_millis(20);
/// Keys evicted before others get their turn.
const EVICT_KEYS_MAX: u64 = 64;
/// How often idle clients are looked for.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// Starts all of it.
pub fn start(node: &Arc<Node>) {
    tokio::task::spawn_local(sweeper::sweep(node.clone()));
    tokio::task::spawn_local(memory::watch(node.clone()));
    tokio::task::spawn_local(evict(node.clone()));
    tokio::task::spawn_local(handoff::keep_up(node.clone()));
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
