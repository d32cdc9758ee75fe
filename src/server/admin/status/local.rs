//! What this node says of itself, read from its parts at the moment of asking.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::{LatencyByClass, Link, Memory, NodeFigures, Percentiles, Placing, Rates};
use crate::base::config::Settings;
use crate::base::ids::NodeId;
use crate::base::metrics::{Class, Count, Gauge, Gauges, Totals};
use crate::peer::handshake::WIRE_VERSION;
use crate::peer::registry::Peer;
use crate::server::admin::Admin;
use crate::server::figures::pulse::SILENCE_MAX;
use crate::server::figures::recent::Lately;

/// Defines [`Events`]: each field is the sum of counters of the metrics' table.
macro_rules! events {
    ($($(#[$doc:meta])* $field:ident = $($count:ident)+;)+) => {
        /// Things that happen, counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Events { $($(#[$doc])* pub $field: u64,)+ }

        impl Events {
            fn of(totals: &Totals) -> Events {
                Events { $($field: 0 $(+ totals.count(Count::$count))+,)+ }
            }
        }
    };
}

events! {
    /// Commands refused because too few replicas answered.
    quorum_failures = ReadQuorumFailures WriteQuorumFailures;
    /// Writes whose outcome could not be learned.
    unknown_outcomes = UnknownOutcomes;
    /// Merges of versions that did not know of each other.
    conflicts = Conflicts;
    /// Keys mended because a read found replicas that differed.
    read_repairs = ReadRepairs;
    /// Keys mended by comparing what replicas hold in the background.
    anti_entropy_repairs = AntiEntropyRepairs;
    /// Writes kept for a replica that was down.
    hints_stored = HintsStored;
    /// Kept writes that were delivered.
    hints_replayed = HintsReplayed;
    /// Kept writes that were given up.
    hints_dropped = HintsDropped;
    /// Commands sent on to the coordinator of their key.
    forwarded = Forwarded;
    /// Of those, the ones that were not answered.
    forward_failures = ForwardFailures;
    /// Keys removed because their time was up.
    expired_keys = ExpiredKeys;
    /// Keys given up because maxmemory was reached.
    evicted_keys = EvictedKeys;
    /// Error replies.
    error_replies = ErrorReplies;
    /// Clients refused because of maxclients.
    connections_rejected = ConnectionsRejected;
    /// Connections of other nodes refused: another secret, another cluster, another version.
    peers_refused = PeersRefused;
    /// Peer messages refused because their stamp lay too far in the future.
    clock_refusals = ClockRefusals;
}

/// What a read or a write should not take longer than, in microseconds.
pub const SLOW_US: u64 = 100_000;

/// This node's figures.
pub fn figures(admin: &Admin) -> NodeFigures {
    let (state, settings) = (&admin.shared.node, admin.shared.node.config.settings());
    let snapshot = state.snapshot.load();
    let now_ms = state.store.clock.now_ms();
    let (lately, totals, gauges) = (state.recent.read(), state.metrics.totals(), state.metrics.gauges());
    let ready = admin.health.ready();
    let view = admin.shared.view.load();
    NodeFigures {
        id: snapshot.this.to_string(),
        name: snapshot.figures.node_name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        wire_version: WIRE_VERSION,
        pid: state.process.pid,
        time_ms: now_ms,
        uptime_s: now_ms.saturating_sub(state.process.started_ms) / 1_000,
        ready: ready.is_ok(),
        not_ready: ready.err(),
        workers: settings.workers,
        workers_stuck: admin.shared.pulse.stalled(SILENCE_MAX).len(),
        ring_digest: digest(snapshot.figures.digest),
        keys: gauges.get(Gauge::Keys) as u64,
        keys_expiring: gauges.get(Gauge::KeysExpiring) as u64,
        memory: Memory {
            used_bytes: gauges.get(Gauge::MemoryUsed) as u64,
            tombstone_bytes: gauges.get(Gauge::TombstoneBytes) as u64,
            max_bytes: settings.maxmemory,
            resident_bytes: gauges.get(Gauge::MemoryResident) as u64,
            policy: settings.maxmemory_policy.name().into(),
        },
        clients: state.clients.len() as u64,
        clients_max: settings.maxclients as u64,
        rates: rates(&lately),
        latency: latency(&lately.totals),
        slow_commands: [Class::Read, Class::Write]
            .map(|class| lately.totals.latency(class).count_above(SLOW_US))
            .iter()
            .sum(),
        recent: Events::of(&lately.totals),
        totals: Events::of(&totals),
        gossip_silence_s: gauges.get(Gauge::GossipSilence) as u64,
        stamps_ahead_ms: state.store.clock.stamps_ahead_ms(),
        placing_options: Some(Placing { zone: settings.zone.clone(), weight: settings.weight }),
        common_options: common_options(&settings),
        giving_up: giving_up(admin),
        members_unwritten: state.cluster.get().and_then(|cluster| cluster.members_unwritten()),
        links: view.peers.iter().flatten().map(|peer| link(peer, &gauges)).collect(),
    }
}

fn common_options(settings: &Settings) -> BTreeMap<String, String> {
    let password = if settings.requirepass.is_empty() { "empty" } else { "set" };
    let options = [
        ("replicas", settings.replicas.to_string()),
        ("write-quorum", settings.write_quorum.to_string()),
        ("read-quorum", settings.read_quorum.to_string()),
        ("quorum-mode", settings.quorum_mode.name().into()),
        ("requirepass", password.into()),
    ];
    options.map(|(name, value)| (name.into(), value)).into()
}

/// Ids of the nodes that this one was told to give up.
fn giving_up(admin: &Admin) -> Vec<String> {
    let ids = admin.shared.node.cluster.get().map(|cluster| cluster.giving_up()).unwrap_or_default();
    ids.iter().map(ToString::to_string).collect()
}

/// A ring's digest as people see it.
pub fn digest(digest: u64) -> String {
    format!("{digest:016x}")
}

fn rates(lately: &Lately) -> Rates {
    let count = |count: Count| lately.totals.count(count);
    let answered = |class: Class| lately.totals.latency(class).count();
    let (reads, writes, admin) = (answered(Class::Read), answered(Class::Write), answered(Class::Admin));
    let (hits, misses) = (count(Count::KeyspaceHits), count(Count::KeyspaceMisses));
    Rates {
        commands: lately.rate(reads + writes + admin),
        reads: lately.rate(reads),
        writes: lately.rate(writes),
        errors: lately.rate(count(Count::ErrorReplies)),
        forwarded: lately.rate(count(Count::Forwarded)),
        input_bytes: lately.rate(count(Count::NetInputBytes)),
        output_bytes: lately.rate(count(Count::NetOutputBytes)),
        hit_ratio: (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64),
    }
}

fn latency(totals: &Totals) -> LatencyByClass {
    let percentiles = |class: Class| {
        let latency = totals.latency(class);
        Percentiles {
            p50_us: latency.percentile_us(50.0),
            p99_us: latency.percentile_us(99.0),
            p999_us: latency.percentile_us(99.9),
        }
    };
    LatencyByClass {
        read: percentiles(Class::Read),
        write: percentiles(Class::Write),
        admin: percentiles(Class::Admin),
    }
}

fn link(peer: &Peer, gauges: &Gauges) -> Link {
    let addr = peer.addr.to_string();
    let seconds = |gauge: Gauge| gauges.get_labelled(gauge, &addr);
    Link {
        round_trip_us: seconds(Gauge::PeerRoundTrip).map(|seconds| (seconds * 1e6) as u64),
        clock_ahead_ms: seconds(Gauge::PeerClockAhead).map(|seconds| seconds * 1e3),
        peer: peer.id.to_string(),
        addr,
        open: peer.is_usable(),
        queued_bytes: peer.queued_bytes() as u64,
        hints: peer.hints.writes.load(Ordering::Relaxed),
    }
}

/// Who holds and coordinates which slots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SlotStatus {
    /// The digest of the ring that these are the slots of.
    pub digest: String,
    /// Ids; runs name nodes by their place here.
    pub nodes: Vec<String>,
    /// Slots beside each other with the same holders: first slot, last slot, and the holders, the one that coordinates
    /// first, the others by id. Without gaps, in the order of the slots.
    pub runs: Vec<(u16, u16, Vec<usize>)>,
}

/// The slots as this node sees them.
pub fn slots(admin: &Admin) -> SlotStatus {
    let snapshot = admin.shared.node.snapshot.load();
    let mut nodes: Vec<NodeId> = snapshot.rows.iter().map(|row| row.id).collect();
    let runs = &snapshot.map.runs;
    nodes.retain(|id| runs.iter().any(|run| run.nodes.contains(id)));
    let places: BTreeMap<NodeId, usize> = nodes.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let holders = |ids: &[NodeId]| ids.iter().filter_map(|id| places.get(id).copied()).collect();
    SlotStatus {
        digest: digest(snapshot.figures.digest),
        nodes: nodes.iter().map(ToString::to_string).collect(),
        runs: runs.iter().map(|run| (run.first.number(), run.last.number(), holders(&run.nodes))).collect(),
    }
}
