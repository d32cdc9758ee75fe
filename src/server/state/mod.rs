//! What all connections of a node share.
//!
//! | file | what it is |
//! |---|---|
//! | `client`, `client_line` | the record of one connection; how CLIENT LIST shows it |
//! | `clients` | the list of all connections, and whether they are paused |
//! | `monitors` | MONITOR: connections that are shown what clients ask |
//! | `slot_map` | who coordinates which slots, as smart clients are told |
//! | `snapshot` | the cluster as this node's commands see it |
//!
//! One value behind one `Arc`: options, counters, data, clients, and a snapshot of the cluster. Every part looks after
//! its own locking; nothing here is held while anything waits.

pub mod client;
pub mod client_line;
pub mod clients;
pub mod monitors;
pub mod slot_map;
pub mod snapshot;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::base::config::Config;
use crate::base::ids::slot_of;
use crate::base::metrics::{Count, Registry};
use crate::cluster::Cluster;
use crate::commands::table::counted_names;
use crate::replication::view::View;
use crate::server::figures::memory::MemoryFigures;
use crate::server::figures::process::{self, Process};
use crate::server::figures::recent::Recent;
use crate::server::figures::slow_log::SlowLog;
use crate::server::figures::{ErrorCodes, Sampler};
use crate::server::pubsub::Hub;
use crate::server::state::client::{Client, state};
use crate::server::state::clients::Clients;
use crate::server::state::monitors::Monitors;
use crate::server::state::snapshot::ClusterSnapshot;
use crate::store::eviction::Evicted;
use crate::store::{Event, Store};

/// See the head of the file.
pub struct NodeState {
    /// The options in force.
    pub config: Arc<Config>,
    /// The counters, made for the commands of the table in its order.
    pub metrics: Arc<Registry>,
    /// The data.
    pub store: Arc<Store>,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// Who listens to what.
    pub pubsub: Arc<Hub>,
    /// Who is shown what clients ask.
    pub monitors: Monitors,
    /// Commands that took long.
    pub slow_log: Arc<SlowLog>,
    /// Error replies by code.
    pub errors: ErrorCodes,
    /// Rates and peaks; somebody has to call [`NodeState::sample`] ten times a second.
    pub sampler: Sampler,
    /// The last seconds, kept by the same call.
    pub recent: Recent,
    /// Told when the node is to stop.
    pub stop: Notify,
    /// The process.
    pub process: Process,
    /// The cluster.
    pub snapshot: ArcSwap<ClusterSnapshot>,
    /// This node's part in it, for what an operator tells it to do; not there until the node has started.
    pub cluster: OnceLock<Arc<Cluster>>,
}

impl NodeState {
    /// Evicts until memory is below its limit, or so many keys, and tells of those that this node coordinates by
    /// `view`.
    pub fn evict(&self, view: &View, now_ms: u64, keys_max: u64) -> Evicted {
        let mut events = Vec::new();
        let evicted = self.store.evict(now_ms, keys_max, |db, key| {
            if self.pubsub.wants_events() && view.is_coordinator(slot_of(key)) {
                events.push(Event { class: b'e', name: "evicted", db, key: key.into() });
            }
        });
        self.pubsub.publish_events(&events);
        self.metrics.count(Count::EvictedKeys, evicted.keys());
        evicted
    }

    /// The state of a node that begins at `now_ms`.
    pub fn new(
        config: Arc<Config>,
        store: Arc<Store>,
        snapshot: ClusterSnapshot,
        run_id: String,
        now_ms: u64,
    ) -> NodeState {
        let slow_log = Arc::new(SlowLog::default());
        slow_log.follow(&config.settings());
        let log = slow_log.clone();
        config.on_change(move |settings| log.follow(settings));
        NodeState {
            pubsub: Hub::new(config.clone()),
            config,
            metrics: Arc::new(Registry::new(counted_names())),
            store,
            clients: Arc::default(),
            monitors: Monitors::default(),
            slow_log,
            errors: ErrorCodes::default(),
            sampler: Sampler::default(),
            recent: Recent::default(),
            stop: Notify::new(),
            process: Process::read(run_id, now_ms),
            snapshot: ArcSwap::from_pointee(snapshot),
            cluster: OnceLock::new(),
        }
    }

    /// Reads the counters for rates, peaks and percentiles.
    pub fn sample(&self, now_ms: u64) {
        let totals = self.metrics.totals();
        self.sampler.sample(now_ms, &totals, self.store.used_bytes());
        self.recent.note(now_ms, &totals);
    }

    /// Ends all that a client listens to.
    pub fn stop_listening(&self, client: &Client) {
        self.pubsub.leave(&client.mailbox);
        if client.is_in(state::MONITOR) {
            self.monitors.leave(client.id);
        }
    }

    /// The node's memory now.
    pub fn memory(&self) -> MemoryFigures {
        let used_bytes = self.store.used_bytes();
        let keys = self.store.count_keys(crate::base::ids::Slot::all()).values().map(|of_db| of_db.keys).sum();
        MemoryFigures {
            used_bytes,
            tombstone_bytes: self.store.tombstone_bytes(),
            peak_bytes: self.sampler.peak_bytes(used_bytes),
            resident_bytes: process::resident_bytes(),
            startup_bytes: self.process.startup_bytes,
            limit_bytes: self.config.settings().maxmemory,
            keys,
            client_bytes: self.clients.all().iter().map(|it| it.mailbox.len_bytes() as u64).sum(),
        }
    }
}
