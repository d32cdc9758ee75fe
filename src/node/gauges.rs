//! What `/metrics`, INFO and `/status` read at the moment of asking, from the parts that know it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::base::ids::Slot;
use crate::base::metrics::{Gauge, Gauges, Kept};
use crate::node::{Node, Ready};
use crate::ring::RowState;
use crate::server::admin::Health;
use crate::server::figures::process;
use crate::server::figures::pulse::SILENCE_MAX;

/// Registers the node as a source. The registry is the node's own: it must not keep the node.
pub fn add(node: &Arc<Node>) {
    let (node, started) = (Arc::downgrade(node), Instant::now());
    let metrics = node.upgrade().map(|node| node.shared.node.metrics.clone());
    let source = move |gauges: &mut Gauges| {
        let Some(node) = node.upgrade() else { return };
        gauges.set(Gauge::Uptime, started.elapsed().as_secs_f64());
        gauges.set(Gauge::WorkersStuck, node.shared.pulse.stalled(SILENCE_MAX).len() as f64);
        of_process(&node, gauges);
        of_data(&node, gauges);
        of_ring(&node, gauges);
        of_peers(&node, gauges);
        of_gossip(&node, gauges);
    };
    if let Some(metrics) = metrics {
        metrics.add_source(source);
    }
}

fn of_process(node: &Node, gauges: &mut Gauges) {
    let (state, settings) = (&node.shared.node, node.config.settings());
    let snapshot = state.snapshot.load();
    let (id, name) = (snapshot.this.to_string(), &snapshot.figures.node_name);
    let labels = [&settings.cluster_name, env!("CARGO_PKG_VERSION"), &id, name, &settings.zone];
    gauges.set_labelled(Gauge::Info, &labels, 1.0);
    gauges.set(Gauge::StartTime, state.process.started_ms as f64 / 1_000.0);
    gauges.set(Gauge::Ready, f64::from(u8::from(Ready(node.shared.clone()).ready().is_ok())));
    gauges.set(Gauge::Workers, settings.workers as f64);
    gauges.set(Gauge::ConnectedClients, state.clients.len() as f64);
    gauges.set(Gauge::BlockedClients, state.clients.count_blocked() as f64);
    gauges.set(Gauge::MaxClients, settings.maxclients as f64);
    let (user, system) = process::cpu_seconds();
    gauges.set_labelled(Kept::CpuSeconds, &["user"], user);
    gauges.set_labelled(Kept::CpuSeconds, &["system"], system);
    for (code, count) in state.errors.all() {
        gauges.set_labelled(Kept::Errors, &[&code], count as f64);
    }
}

fn of_data(node: &Node, gauges: &mut Gauges) {
    let store = &node.shared.node.store;
    gauges.set(Gauge::MemoryUsed, store.used_bytes() as f64);
    gauges.set(Gauge::MemoryMax, node.config.settings().maxmemory as f64);
    gauges.set(Gauge::Tombstones, store.count_tombstones() as f64);
    gauges.set(Gauge::TombstoneBytes, store.tombstone_bytes() as f64);
    gauges.set(Gauge::MemoryResident, process::resident_bytes() as f64);
    for (db, counts) in store.count_keys(Slot::all()) {
        gauges.set_labelled(Gauge::Keys, &[&db.to_string()], counts.keys as f64);
        gauges.set_labelled(Gauge::KeysExpiring, &[&db.to_string()], counts.expires as f64);
    }
    let (sent, received) = node.cluster.transferred_keys();
    gauges.set_labelled(Kept::TransferredKeys, &["out"], sent as f64);
    gauges.set_labelled(Kept::TransferredKeys, &["in"], received as f64);
}

fn of_ring(node: &Node, gauges: &mut Gauges) {
    let snapshot = node.shared.node.snapshot.load();
    let figures = &snapshot.figures;
    for (state, name) in [(RowState::Joining, "joining"), (RowState::Normal, "normal"), (RowState::Leaving, "leaving")]
    {
        let count = snapshot.rows.iter().filter(|row| row.state == state).count();
        gauges.set_labelled(Gauge::Members, &[name], count as f64);
    }
    gauges.set(Gauge::MembersDown, (figures.members - figures.members_alive) as f64);
    let digest = format!("{:016x}", figures.digest);
    gauges.set_labelled(Gauge::RingInfo, &[&node.config.settings().cluster_name, &digest], 1.0);
    gauges.set_labelled(Gauge::Slots, &["held"], figures.slots_held as f64);
    gauges.set_labelled(Gauge::Slots, &["coordinated"], figures.slots_first as f64);
    let unserved: usize = snapshot.map.runs.iter().filter(|run| !run.served).map(|run| run.len()).sum();
    gauges.set(Gauge::SlotsUnserved, unserved as f64);
}

fn of_gossip(node: &Node, gauges: &mut Gauges) {
    let stats = node.cluster.gossip_stats();
    let packets = [
        ("sent", stats.packets_sent),
        ("unsent", stats.packets_unsent),
        ("received", stats.packets_received),
        ("refused", stats.packets_refused),
        ("replayed", stats.packets_replayed),
        ("senseless", stats.packets_senseless),
    ];
    for (outcome, count) in packets {
        gauges.set_labelled(Kept::GossipPackets, &[outcome], count as f64);
    }
    gauges.set(Gauge::GossipSilence, node.cluster.gossip_silence().as_secs_f64());
    gauges.set(Kept::Stalls, stats.stalls as f64);
    gauges.set(Kept::Rejoins, stats.rejoins as f64);
}

fn of_peers(node: &Node, gauges: &mut Gauges) {
    let (peers, clocks) = (node.peers.all(), node.cluster.peer_clocks());
    let pending: u64 = peers.iter().map(|peer| peer.hints.writes.load(Ordering::Relaxed)).sum();
    gauges.set(Gauge::HintsPending, pending as f64);
    let ballots = &node.shared.coordinator.ballots;
    gauges.set(Gauge::SlotsPromised, ballots.own_count() as f64);
    gauges.set(Gauge::SlotsUnsettled, ballots.unsettled_count() as f64);
    let rows = &node.shared.node.snapshot.load().rows;
    for peer in peers.iter().filter(|peer| rows.get(&peer.id).is_some_and(|row| row.state.is_member())) {
        let addr = peer.addr.to_string();
        gauges.set_labelled(Gauge::PeerUp, &[&addr], f64::from(u8::from(peer.is_usable())));
        gauges.set_labelled(Gauge::LinkQueuedBytes, &[&addr], peer.queued_bytes() as f64);
        gauges.set_labelled(Kept::LinkSentBytes, &[&addr], peer.sent_bytes() as f64);
        gauges.set_labelled(Kept::LinkBreaks, &[&addr], peer.breaks() as f64);
        if let Some(clock) = clocks.get(&peer.id) {
            gauges.set_labelled(Gauge::PeerRoundTrip, &[&addr], clock.round_trip.as_secs_f64());
            gauges.set_labelled(Gauge::PeerClockAhead, &[&addr], clock.ahead_us as f64 / 1e6);
        }
    }
}
