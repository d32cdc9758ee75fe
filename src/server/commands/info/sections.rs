//! The sections of INFO, one function each, and their order.

use std::fmt::{Display, Write as _};

use super::{Facts, REDIS_VERSION};
use crate::base::metrics::{Count, Gauge, Kept};
use crate::peer::handshake::WIRE_VERSION;
use crate::server::figures::process;

/// One section.
pub struct Section {
    /// What INFO is asked for, in lower case.
    pub name: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// Shown when nothing is asked for.
    pub default: bool,
    /// Writes its lines.
    pub write: fn(&mut Lines<'_>, &Facts<'_>),
}

const fn section(
    name: &'static str,
    title: &'static str,
    default: bool,
    write: fn(&mut Lines<'_>, &Facts<'_>),
) -> Section {
    Section { name, title, default, write }
}

/// What CONFIG GET says of `hz`, too.
const HZ: u32 = 10;

/// All sections, in Redis's order, then ours.
pub static ALL: &[Section] = &[
    section("server", "Server", true, server),
    section("clients", "Clients", true, clients),
    section("memory", "Memory", true, memory),
    section("persistence", "Persistence", true, persistence),
    section("stats", "Stats", true, stats),
    section("replication", "Replication", true, replication),
    section("cpu", "CPU", true, cpu),
    section("modules", "Modules", true, |_, _| {}),
    section("commandstats", "Commandstats", false, command_stats),
    section("errorstats", "Errorstats", true, error_stats),
    section("latencystats", "Latencystats", false, latency_stats),
    section("cluster", "Cluster", true, cluster),
    section("keyspace", "Keyspace", true, keyspace),
    section("ring", "Ring", true, ring),
    section("quorum", "Quorum", true, quorum),
];

/// Where lines go.
pub struct Lines<'a>(pub &'a mut String);

impl Lines<'_> {
    fn put(&mut self, name: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    fn zeros(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.put(name, 0));
    }

    /// A number of bytes, and the same for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.put(name, bytes);
        self.put(&format!("{name}_human"), human(bytes));
    }
}

/// Bytes for people, as Redis spells them: `200B`, `1.73M`.
pub fn human(bytes: u64) -> String {
    let units = [(1u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let unit = units.iter().find(|(size, _)| bytes >= *size);
    unit.map_or_else(|| format!("{bytes}B"), |(size, name)| format!("{:.2}{name}", bytes as f64 / *size as f64))
}

fn server(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    let (settings, process) = (facts.settings, facts.process);
    lines.put("redis_version", REDIS_VERSION);
    lines.put("redis_git_sha1", "00000000");
    lines.put("redis_git_dirty", 0);
    lines.put("redis_build_id", "0");
    lines.put("redis_mode", if facts.face.cluster { "cluster" } else { "standalone" });
    lines.put("os", &process.os);
    lines.put("arch_bits", usize::BITS);
    lines.put("monotonic_clock", "POSIX clock_gettime");
    lines.put("multiplexing_api", "epoll");
    lines.put("process_id", process.pid);
    lines.put("process_supervised", "no");
    lines.put("run_id", &process.run_id);
    lines.put("tcp_port", facts.face.port);
    lines.put("server_time_usec", facts.now_ms.saturating_mul(1_000));
    let uptime_s = facts.now_ms.saturating_sub(process.started_ms) / 1_000;
    lines.put("uptime_in_seconds", uptime_s);
    lines.put("uptime_in_days", uptime_s / 86_400);
    lines.put("hz", HZ);
    lines.put("configured_hz", HZ);
    lines.put("lru_clock", (facts.now_ms / 1_000) & 0x00ff_ffff);
    lines.put("executable", &process.executable);
    lines.put("config_file", facts.config_file);
    lines.put("io_threads_active", u8::from(settings.workers > 1));
    lines.put("server_name", "rondo");
    lines.put("rondo_version", env!("CARGO_PKG_VERSION"));
    lines.put("wire_version", WIRE_VERSION);
    lines.put("workers", settings.workers);
}

fn clients(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    lines.put("connected_clients", facts.clients.connected);
    lines.put("cluster_connections", 0);
    lines.put("maxclients", facts.settings.maxclients);
    lines.put("client_recent_max_input_buffer", facts.clients.input_bytes_max);
    lines.put("client_recent_max_output_buffer", facts.clients.output_bytes_max);
    lines.put("blocked_clients", facts.clients.blocked);
    lines.zeros(&["tracking_clients", "clients_in_timeout_table"]);
}

fn memory(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    let memory = facts.memory;
    let percent = |part: u64, whole: u64| format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64);
    lines.bytes("used_memory", memory.used_bytes);
    lines.bytes("used_memory_rss", memory.resident_bytes);
    lines.bytes("used_memory_peak", memory.peak_bytes);
    lines.put("used_memory_peak_perc", percent(memory.used_bytes, memory.peak_bytes));
    lines.zeros(&["used_memory_overhead", "used_memory_startup"]);
    lines.put("used_memory_dataset", memory.used_bytes);
    lines.put("used_memory_dataset_perc", percent(memory.used_bytes, memory.used_bytes));
    lines.put("allocator_allocated", memory.used_bytes);
    lines.put("allocator_active", memory.resident_bytes);
    lines.put("allocator_resident", memory.resident_bytes);
    lines.bytes("total_system_memory", facts.process.machine_bytes);
    lines.zeros(&["used_memory_lua", "used_memory_vm_eval"]);
    lines.put("used_memory_lua_human", human(0));
    lines.zeros(&[
        "used_memory_scripts_eval",
        "number_of_cached_scripts",
        "number_of_functions",
        "number_of_libraries",
    ]);
    lines.zeros(&["used_memory_vm_functions", "used_memory_vm_total"]);
    lines.put("used_memory_vm_total_human", human(0));
    lines.put("used_memory_functions", 0);
    lines.bytes("used_memory_scripts", 0);
    lines.bytes("maxmemory", facts.settings.maxmemory);
    lines.put("maxmemory_policy", facts.settings.maxmemory_policy.name());
    lines.put("allocator_frag_ratio", "1.00");
    lines.put("allocator_frag_bytes", 0);
    lines.put("allocator_rss_ratio", "1.00");
    lines.put("allocator_rss_bytes", 0);
    lines.put("rss_overhead_ratio", "1.00");
    lines.put("rss_overhead_bytes", 0);
    lines.put("mem_fragmentation_ratio", format_args!("{:.2}", memory.fragmentation()));
    lines.put("mem_fragmentation_bytes", memory.resident_bytes.saturating_sub(memory.used_bytes));
    lines.put("mem_not_counted_for_evict", memory.tombstone_bytes);
    lines.zeros(&["mem_replication_backlog", "mem_total_replication_buffers", "mem_clients_slaves"]);
    lines.put("mem_clients_normal", memory.client_bytes);
    lines.zeros(&["mem_cluster_links", "mem_aof_buffer"]);
    lines.put("mem_allocator", "mimalloc");
    lines.zeros(&["active_defrag_running", "lazyfree_pending_objects", "lazyfreed_objects"]);
}

fn persistence(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    lines.zeros(&["loading", "async_loading", "current_cow_peak", "current_cow_size", "current_cow_size_age"]);
    lines.put("current_fork_perc", "0.00");
    lines.zeros(&["current_save_keys_processed", "current_save_keys_total"]);
    // Nothing is ever saved, so these are the changes since the start.
    lines.put("rdb_changes_since_last_save", facts.changes);
    lines.zeros(&["rdb_bgsave_in_progress"]);
    lines.put("rdb_last_save_time", facts.process.started_ms / 1_000);
    lines.put("rdb_last_bgsave_status", "ok");
    lines.put("rdb_last_bgsave_time_sec", -1);
    lines.put("rdb_current_bgsave_time_sec", -1);
    lines.zeros(&["rdb_saves", "rdb_last_cow_size", "rdb_last_load_keys_expired", "rdb_last_load_keys_loaded"]);
    lines.zeros(&["aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]);
    lines.put("aof_last_rewrite_time_sec", -1);
    lines.put("aof_current_rewrite_time_sec", -1);
    lines.put("aof_last_bgrewrite_status", "ok");
    lines.zeros(&["aof_rewrites", "aof_rewrites_consecutive_failures"]);
    lines.put("aof_last_write_status", "ok");
    lines.zeros(&["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"]);
}

fn stats(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    let count = |count: Count| facts.totals.count(count);
    let kbps = |bytes: f64| format!("{:.2}", bytes / 1_024.0);
    lines.put("total_connections_received", count(Count::ConnectionsAccepted));
    lines.put("total_commands_processed", facts.totals.commands.iter().map(|command| command.calls).sum::<u64>());
    lines.put("instantaneous_ops_per_sec", facts.rates.commands.round());
    lines.put("total_net_input_bytes", count(Count::NetInputBytes));
    lines.put("total_net_output_bytes", count(Count::NetOutputBytes));
    lines.zeros(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"]);
    lines.put("instantaneous_input_kbps", kbps(facts.rates.input_bytes));
    lines.put("instantaneous_output_kbps", kbps(facts.rates.output_bytes));
    lines.put("instantaneous_input_repl_kbps", "0.00");
    lines.put("instantaneous_output_repl_kbps", "0.00");
    lines.put("rejected_connections", count(Count::ConnectionsRejected));
    lines.zeros(&["sync_full", "sync_partial_ok", "sync_partial_err"]);
    lines.put("expired_keys", count(Count::ExpiredKeys));
    lines.put("expired_stale_perc", "0.00");
    lines.zeros(&["expired_time_cap_reached_count", "expire_cycle_cpu_milliseconds"]);
    lines.put("evicted_keys", count(Count::EvictedKeys));
    // Those would be clients of a `maxmemory-clients`; who is cut by its own output limit Redis does not tell, /metrics
    // does.
    lines.zeros(&["evicted_clients", "total_eviction_exceeded_time", "current_eviction_exceeded_time"]);
    lines.put("keyspace_hits", count(Count::KeyspaceHits));
    lines.put("keyspace_misses", count(Count::KeyspaceMisses));
    let [channels, patterns, shard_channels] = facts.clients.subscribed;
    lines.put("pubsub_channels", channels);
    lines.put("pubsub_patterns", patterns);
    lines.put("pubsubshard_channels", shard_channels);
    lines.zeros(&["latest_fork_usec", "total_forks", "migrate_cached_sockets", "slave_expires_tracked_keys"]);
    lines.zeros(&["active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses"]);
    lines.zeros(&["total_active_defrag_time", "current_active_defrag_time"]);
    lines.zeros(&["tracking_total_keys", "tracking_total_items", "tracking_total_prefixes"]);
    lines.put("unexpected_error_replies", 0);
    lines.put("total_error_replies", count(Count::ErrorReplies));
    lines.zeros(&["dump_payload_sanitizations", "total_reads_processed", "total_writes_processed"]);
    lines.zeros(&["io_threaded_reads_processed", "io_threaded_writes_processed"]);
    lines.zeros(&["reply_buffer_shrinks", "reply_buffer_expands"]);
}

/// Every node is a master without slaves: what clients ask here is whether they may write.
fn replication(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    lines.put("role", "master");
    lines.put("connected_slaves", 0);
    lines.put("master_failover_state", "no-failover");
    lines.put("master_replid", &facts.process.run_id);
    lines.put("master_replid2", "0".repeat(40));
    lines.put("master_repl_offset", 0);
    lines.put("second_repl_offset", -1);
    lines.zeros(&[
        "repl_backlog_active",
        "repl_backlog_size",
        "repl_backlog_first_byte_offset",
        "repl_backlog_histlen",
    ]);
}

fn cpu(lines: &mut Lines<'_>, _: &Facts<'_>) {
    let (user, system) = process::cpu_seconds();
    lines.put("used_cpu_sys", format_args!("{system:.6}"));
    lines.put("used_cpu_user", format_args!("{user:.6}"));
    lines.put("used_cpu_sys_children", "0.000000");
    lines.put("used_cpu_user_children", "0.000000");
}

fn command_stats(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    for command in facts.totals.commands.iter().filter(|it| it.calls + it.rejected > 0) {
        let per_call = command.us as f64 / command.calls.max(1) as f64;
        let (calls, us, rejected, failed) = (command.calls, command.us, command.rejected, command.failed);
        let text = format!(
            "calls={calls},usec={us},usec_per_call={per_call:.2},rejected_calls={rejected},failed_calls={failed}"
        );
        lines.put(&format!("cmdstat_{}", command.name), text);
    }
}

fn error_stats(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    for (code, count) in facts.errors {
        lines.put(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn latency_stats(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    if !facts.settings.latency_tracking {
        return;
    }
    for command in facts.totals.commands.iter().filter(|it| it.latency.count() > 0) {
        let percentile = |percent: &f64| format!("p{percent}={}.000", command.latency.percentile_us(*percent));
        let all: Vec<String> = facts.settings.latency_percentiles.iter().map(percentile).collect();
        lines.put(&format!("latency_percentiles_usec_{}", command.name), all.join(","));
    }
}

fn cluster(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    lines.put("cluster_enabled", u8::from(facts.face.cluster));
}

fn keyspace(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    for database in facts.databases {
        let (keys, expires) = (database.keys, database.expires);
        lines.put(&format!("db{}", database.db), format_args!("keys={keys},expires={expires},avg_ttl=0"));
    }
}

fn ring(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    let ring = facts.ring;
    lines.put("ring_node_id", &ring.node_id);
    lines.put("ring_node_name", &ring.node_name);
    lines.put("ring_zone", &facts.settings.zone);
    lines.put("ring_weight", facts.settings.weight);
    lines.put("ring_state", ring.state);
    lines.put("ring_ready", facts.gauges.get(Gauge::Ready));
    lines.put("ring_members", ring.members);
    lines.put("ring_members_alive", ring.members_alive);
    lines.put("ring_slots_held", ring.slots_held);
    lines.put("ring_slots_first", ring.slots_first);
    lines.put("ring_digest", format_args!("{:016x}", ring.digest));
    lines.put("ring_peers_refused", facts.totals.count(Count::PeersRefused));
    lines.put("ring_stalls", facts.gauges.get(Kept::Stalls));
    lines.put("ring_rejoins", facts.gauges.get(Kept::Rejoins));
}

fn quorum(lines: &mut Lines<'_>, facts: &Facts<'_>) {
    let (settings, gauges) = (facts.settings, facts.gauges);
    let count = |count: Count| facts.totals.count(count);
    lines.put("quorum_replicas", settings.replicas);
    lines.put("quorum_write", settings.write_quorum);
    lines.put("quorum_read", settings.read_quorum);
    lines.put("quorum_mode", settings.quorum_mode.name());
    lines.put("quorum_read_failures", count(Count::ReadQuorumFailures));
    lines.put("quorum_write_failures", count(Count::WriteQuorumFailures));
    lines.put("quorum_unknown_outcomes", count(Count::UnknownOutcomes));
    lines.put("forwarded_commands", count(Count::Forwarded));
    lines.put("forward_failures", count(Count::ForwardFailures));
    lines.put("conflicts", count(Count::Conflicts));
    lines.put("read_repairs", count(Count::ReadRepairs));
    lines.put("anti_entropy_rounds", count(Count::AntiEntropyRounds));
    lines.put("anti_entropy_differing_slots", count(Count::AntiEntropySlots));
    lines.put("anti_entropy_repairs", count(Count::AntiEntropyRepairs));
    lines.put("tombstones", gauges.get(Gauge::Tombstones));
    lines.put("tombstones_collected", count(Count::TombstonesCollected));
    lines.put("hints_pending", gauges.get(Gauge::HintsPending));
    lines.put("slots_promised", gauges.get(Gauge::SlotsPromised));
    lines.put("slots_unsettled", gauges.get(Gauge::SlotsUnsettled));
    lines.put("slots_settled", count(Count::SlotsSettled));
    lines.put("ballot_promises", count(Count::PromisesGiven));
    lines.put("ballot_refusals", count(Count::PromisesRefused));
    lines.put("strict_declined", count(Count::StrictDeclined));
    lines.put("hints_stored", count(Count::HintsStored));
    lines.put("hints_replayed", count(Count::HintsReplayed));
    lines.put("hints_dropped", count(Count::HintsDropped));
    lines.put("link_queued_bytes", gauges.get(Gauge::LinkQueuedBytes));
}
