//! What redis.conf knows and rondo has not.
//!
//! [`FIXED`] are options that clients and tools ask for and whose answer is always the same and true of us. They may be
//! set to what they are; anything else is refused by CONFIG SET, and in a file brings a warning that says why.
//! [`SKIPPED`] are the remaining directives of Redis 7: a file or command line made for redis-server may contain them,
//! and they change nothing here; CONFIG SET says so. [`REFUSED`] are those that protect data: a node that went on
//! without them would be open where its owner believes it shut, so it does not start.

/// An option with one possible value.
#[derive(Debug)]
pub struct Fixed {
    /// Redis's name.
    pub name: &'static str,
    /// What CONFIG GET answers.
    pub value: &'static str,
    /// Why it cannot be anything else.
    pub why: &'static str,
}

impl Fixed {
    /// The fixed or refused option with this name, in any case.
    pub fn find(name: &str) -> Option<&'static Fixed> {
        FIXED.iter().chain(REFUSED).find(|fixed| fixed.name.eq_ignore_ascii_case(name))
    }
}

const fn fixed(name: &'static str, value: &'static str, why: &'static str) -> Fixed {
    Fixed { name, value, why }
}

const IN_MEMORY: &str = "rondo keeps data in memory and on other nodes, not in files";
const LEADERLESS: &str = "rondo has no primary and no replica: every node takes writes";
const NO_TLS: &str = "rondo does not speak TLS yet";
const NO_ACL: &str = "rondo has one password (requirepass) and no users yet";

/// Options with one possible value. `cluster-enabled` is not among them: it depends on the face that is asked.
pub static FIXED: &[Fixed] = &[
    fixed("activedefrag", "no", "the allocator needs no defragmentation"),
    fixed("appendonly", "no", IN_MEMORY),
    fixed("daemonize", "no", "rondo runs in the foreground: leave that to systemd or a shell"),
    fixed("enable-debug-command", "no", "DEBUG is not offered"),
    fixed("enable-module-command", "no", "modules are not offered"),
    fixed("enable-protected-configs", "no", "no option of rondo is protected in that way"),
    fixed("hz", "10", "background work runs as often as it is needed"),
    fixed("latency-monitor-threshold", "0", "there is no latency monitor: /metrics has latency histograms"),
    fixed("masterauth", "", LEADERLESS),
    fixed("maxmemory-clients", "0", "clients are bounded one by one: client-output-buffer-limit"),
    fixed(
        "maxmemory-eviction-tenacity",
        "10",
        "a command evicts a bounded number of keys, and the rest is evicted beside it",
    ),
    fixed("min-replicas-to-write", "0", "write-quorum says how many nodes must hold a write"),
    fixed("pidfile", "", "rondo runs in the foreground and writes no pid file"),
    fixed("replica-read-only", "no", LEADERLESS),
    fixed("replicaof", "", LEADERLESS),
    fixed("save", "", IN_MEMORY),
    fixed("slave-read-only", "no", LEADERLESS),
    fixed("slaveof", "", LEADERLESS),
    fixed("stop-writes-on-bgsave-error", "no", IN_MEMORY),
    fixed("supervised", "no", "rondo runs in the foreground: leave that to systemd or a shell"),
    fixed("unixsocket", "", "rondo listens on TCP only"),
];

/// Protections that rondo does not have: the name, the one value that asks for nothing, and what to tell the owner.
pub static REFUSED: &[Fixed] = &[
    fixed("aclfile", "", NO_ACL),
    fixed("rename-command", "", "rondo cannot rename or disable commands yet"),
    fixed("tls-port", "0", NO_TLS),
    fixed("user", "", NO_ACL),
];

/// The skipped directive with this name, in any case.
pub fn skipped(name: &str) -> Option<&'static str> {
    SKIPPED.iter().find(|known| known.eq_ignore_ascii_case(name)).copied()
}

/// Directives of Redis up to 7.4 that change nothing here.
#[rustfmt::skip]
pub static SKIPPED: &[&str] = &[
    "acl-pubsub-default", "acllog-max-len", "active-defrag-cycle-max", "active-defrag-cycle-min",
    "active-defrag-ignore-bytes", "active-defrag-max-scan-fields", "active-defrag-threshold-lower",
    "active-defrag-threshold-upper", "active-expire-effort", "activerehashing", "always-show-logo",
    "aof-disable-auto-gc", "aof-load-truncated", "aof-rewrite-cpulist", "aof-rewrite-incremental-fsync",
    "aof-timestamp-enabled", "aof-use-rdb-preamble", "aof_rewrite_cpulist", "appenddirname", "appendfilename",
    "appendfsync", "auto-aof-rewrite-min-size", "auto-aof-rewrite-percentage", "bgsave-cpulist", "bgsave_cpulist",
    "bind-source-addr", "bio-cpulist", "bio_cpulist", "busy-reply-threshold", "cluster-allow-pubsubshard-when-down",
    "cluster-allow-reads-when-down", "cluster-allow-replica-migration", "cluster-announce-bus-port",
    "cluster-announce-hostname", "cluster-announce-human-nodename", "cluster-announce-ip", "cluster-announce-port",
    "cluster-announce-tls-port", "cluster-config-file", "cluster-enabled", "cluster-link-sendbuf-limit",
    "cluster-migration-barrier", "cluster-node-timeout", "cluster-preferred-endpoint-type",
    "cluster-replica-no-failover", "cluster-replica-validity-factor", "cluster-require-full-coverage",
    "cluster-slave-no-failover", "cluster-slave-validity-factor", "crash-log-enabled", "crash-memcheck-enabled",
    "dbfilename", "dir", "disable-thp", "dynamic-hz", "gopher-enabled", "hide-user-data-from-log",
    "hll-sparse-max-bytes", "ignore-warnings", "io-threads", "io-threads-do-reads", "jemalloc-bg-thread",
    "latency-tracking-info", "lazyfree-lazy-eviction", "lazyfree-lazy-expire", "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del", "lazyfree-lazy-user-flush", "list-compress-depth", "list-max-listpack-size",
    "list-max-ziplist-size", "loadmodule", "locale-collate", "lua-time-limit", "masteruser", "max-new-connections-per-cycle",
    "max-new-tls-connections-per-cycle", "min-replicas-max-lag", "min-slaves-max-lag", "min-slaves-to-write",
    "no-appendfsync-on-rewrite", "oom-score-adj", "oom-score-adj-values", "proc-title-template",
    "propagation-error-behavior", "rdb-del-sync-files", "rdb-save-incremental-fsync", "rdbchecksum", "rdbcompression",
    "repl-backlog-size", "repl-backlog-ttl", "repl-disable-tcp-nodelay", "repl-diskless-load",
    "repl-diskless-sync", "repl-diskless-sync-delay", "repl-diskless-sync-max-replicas", "repl-ping-replica-period",
    "repl-ping-slave-period", "repl-timeout", "replica-announce-ip", "replica-announce-port", "replica-announced",
    "replica-full-sync-buffer-limit", "replica-ignore-disk-write-errors", "replica-ignore-maxmemory",
    "replica-lazy-flush", "replica-priority", "replica-serve-stale-data", "sanitize-dump-payload", "server-cpulist",
    "server_cpulist", "set-max-listpack-entries", "set-max-listpack-value", "set-proc-title", "shutdown-on-sigint",
    "shutdown-on-sigterm", "slave-announce-ip", "slave-announce-port", "slave-ignore-maxmemory", "slave-lazy-flush",
    "slave-priority", "slave-serve-stale-data", "socket-mark-id", "stream-node-max-bytes", "stream-node-max-entries",
    "syslog-enabled", "syslog-facility", "syslog-ident", "tls-auth-clients", "tls-ca-cert-dir", "tls-ca-cert-file",
    "tls-cert-file", "tls-ciphers", "tls-ciphersuites", "tls-client-cert-file", "tls-client-key-file",
    "tls-client-key-file-pass", "tls-cluster", "tls-dh-params-file", "tls-key-file", "tls-key-file-pass",
    "tls-prefer-server-ciphers", "tls-protocols", "tls-replication", "tls-session-cache-size",
    "tls-session-cache-timeout", "tls-session-caching", "tracking-table-max-keys", "unixsocketperm",
    "zset-max-listpack-entries", "zset-max-listpack-value", "zset-max-ziplist-entries", "zset-max-ziplist-value",
];
