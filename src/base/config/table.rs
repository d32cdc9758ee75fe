//! The table: one row per option.
//!
//! Rows stand in the order of their sections, which is the order of `--help` and of `OPTIONS.md`. Names, ranges and
//! defaults are redis-server 7.0.15's where it has the option. Two defaults differ on purpose: reply buffers of
//! ordinary clients are bounded (Redis: without limit, so one client that never reads takes the machine down), and a
//! port that is not given is derived from `port`, so that several nodes on one machine differ in one number only.

use super::kind::Kind;
use super::types::{LogFormat, LogLevel, MaxmemoryPolicy, QuorumMode};
use crate::base::ids::DATABASES_MAX;

/// An option.
#[derive(Debug)]
pub struct Opt {
    /// Its name in files, flags, CONFIG GET and (upper case, `RONDO_` before it) the environment.
    pub name: &'static str,
    /// Where help texts list it.
    pub section: Section,
    /// What values it takes.
    pub kind: Kind,
    /// The value when nobody gives one, as a file would write it.
    pub default: &'static str,
    /// Whether CONFIG SET may change it while the node runs.
    pub live: bool,
    /// One sentence.
    pub help: &'static str,
}

/// A chapter of the options.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the titles say it")]
pub enum Section {
    Network,
    Clients,
    Cluster,
    Memory,
    Data,
    Observing,
    Process,
}

impl Section {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Section::Network => "Network",
            Section::Clients => "Clients",
            Section::Cluster => "Cluster",
            Section::Memory => "Memory",
            Section::Data => "Data",
            Section::Observing => "Logs, metrics and slow commands",
            Section::Process => "Process",
        }
    }
}

impl Opt {
    /// Whether the value must not be shown.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// The row with this name (in any case), or that Redis calls by this older name.
    pub fn find(name: &str) -> Option<(usize, &'static Opt)> {
        let name = name.to_ascii_lowercase();
        let name = ALIASES.iter().find(|(old, _)| *old == name).map_or(name.as_str(), |(_, new)| new);
        OPTIONS.iter().enumerate().find(|(_, opt)| opt.name == name)
    }
}

/// Redis's older names, which CONFIG GET lists as well: (old, new).
pub const ALIASES: &[(&str, &str)] =
    &[("hash-max-ziplist-entries", "hash-max-listpack-entries"), ("hash-max-ziplist-value", "hash-max-listpack-value")];

const fn at_start(section: Section, name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Opt {
    Opt { name, section, kind, default, live: false, help }
}

const fn live(section: Section, name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Opt {
    Opt { name, section, kind, default, live: true, help }
}

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

const fn bytes(min: u64) -> Kind {
    Kind::Bytes { min, max: i64::MAX as u64 }
}

const fn millis(min: u64, max: u64) -> Kind {
    Kind::Millis { min, max }
}

const DAY_MS: u64 = 86_400_000;
const INT_MAX: i64 = i32::MAX as i64;
const MB: u64 = 1 << 20;

use Section::{Clients, Cluster, Data, Memory, Network, Observing, Process};

/// Every option of a node.
#[rustfmt::skip]
pub static OPTIONS: &[Opt] = &[
    at_start(Network, "port", Kind::Port, "6379",
        "TCP port of the standalone face: one Redis holding the whole keyspace; 0 for none"),
    at_start(Network, "cluster-port", Kind::Port, "auto",
        "TCP port of the cluster face, for Redis Cluster clients; auto is port + 1000, 0 for none"),
    at_start(Network, "peer-port", Kind::Port, "auto",
        "TCP and UDP port between nodes; auto is port + 10000, 0 for a node that is always alone"),
    at_start(Network, "admin-port", Kind::Port, "auto",
        "HTTP port of the live page, /metrics, /livez, /readyz and /warmz, on the addresses of bind and without a password; auto is \
         port + 3000, 0 for none"),
    at_start(Network, "bind", Kind::Binds, "127.0.0.1 -::1",
        "addresses to listen on, or names of them; one with a - before it may be missing; * and ::* are all of this machine's"),
    at_start(Network, "advertise-host", Kind::Name, "",
        "host that other nodes and cluster clients are told to reach this node at; empty is the first bound address"),
    at_start(Network, "tcp-backlog", int(0, INT_MAX), "511",
        "connections that may wait to be accepted"),
    live(Network, "tcp-keepalive", int(0, INT_MAX), "300",
        "seconds of silence after which TCP asks whether a client is still there; 0 for never"),

    live(Clients, "protected-mode", Kind::YesNo, "yes",
        "refuse clients from other machines while there is no password"),
    live(Clients, "requirepass", Kind::Secret, "",
        "password that clients must give with AUTH or HELLO; empty for none"),
    live(Clients, "maxclients", int(1, u32::MAX as i64), "10000",
        "clients that may be connected at the same time; lowered at the start where the hard limit of open files is too low"),
    live(Clients, "timeout", int(0, INT_MAX), "0",
        "seconds after which an idle client is disconnected; 0 for never"),
    live(Clients, "proto-max-bulk-len", bytes(MB), "512mb",
        "longest single argument, and longest string that APPEND, SETRANGE, SETBIT and the like make, which is 2gb at most"),
    live(Clients, "client-query-buffer-limit", bytes(MB), "1gb",
        "bytes of one request that may wait to be complete"),
    live(Clients, "client-output-buffer-limit", Kind::BufferLimits, "normal 1gb 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60",
        "bytes of replies that may wait for one client of a class before it is disconnected: hard limit, or soft limit \
         for so many seconds; 0 for none"),

    at_start(Cluster, "join", Kind::Peers, "",
        "peer addresses of all members of the cluster, the same on each; the first of them begins it, and so does a node \
         without any"),
    at_start(Cluster, "cluster-name", Kind::Text, "rondo",
        "nodes with different names never form one cluster"),
    at_start(Cluster, "cluster-secret", Kind::Secret, "",
        "key that authenticates traffic between nodes; without one the peer port is open to this machine only"),
    at_start(Cluster, "node-name", Kind::Name, "",
        "what logs, tables and metrics call this node; empty is its host and port"),
    at_start(Cluster, "sentinel-master-names", Kind::Text, "mymaster",
        "names, separated by commas, that SENTINEL MASTERS lists; a client that asks by name is answered for any"),
    at_start(Cluster, "zone", Kind::Name, "",
        "failure zone of this node; copies of a key go to distinct zones while there are enough; a member keeps the one that it \
         joined with until it leaves and joins again"),
    at_start(Cluster, "weight", Kind::Float { min: 0.01, max: 100.0 }, "1",
        "this node's share of the keys, relative to the others; kept like zone"),
    at_start(Cluster, "replicas", int(1, 16), "3",
        "nodes that hold each key (N), or all while there are fewer"),
    live(Cluster, "write-quorum", int(1, 16), "2",
        "nodes that must hold a write before it is acknowledged (W)"),
    live(Cluster, "read-quorum", int(1, 16), "2",
        "nodes that must agree on a read before it is answered (R)"),
    live(Cluster, "quorum-mode", Kind::Choice(QuorumMode::NAMES), "sloppy",
        "sloppy lets healthy nodes stand in for a key's own; strict refuses instead"),
    live(Cluster, "hint-age-max-ms", millis(0, 30 * DAY_MS), "3h",
        "a node that was down for longer is not handed the writes since then, but compared with, slot by slot"),
    live(Cluster, "anti-entropy-interval-ms", millis(0, DAY_MS), "10s",
        "time between two comparisons of what replicas hold, which also forget deletions that all of them hold; 0 for never"),
    live(Cluster, "tombstone-age-min-ms", millis(0, DAY_MS), "60s",
        "age below which a deletion, or who made an old write, is not forgotten, even when every replica holds it"),
    live(Cluster, "tombstone-horizon-ms", millis(1_000, 365 * DAY_MS), "1d",
        "absence after which deletions are forgotten without a node, which then fetches all its data anew; at least 1s"),
    live(Cluster, "tombstone-bytes-max", bytes(0), "256mb",
        "bytes of remembered deletions beyond which five minutes of absence are enough for that; 0 for no limit"),
    at_start(Cluster, "link-bytes-max", bytes(MB), "64mb",
        "bytes that may wait to be sent to one other node by one of this node's workers"),
    at_start(Cluster, "data-dir", Kind::Text, "",
        "directory in which the node keeps its id, and who the members are, over restarts; empty keeps nothing, and a node that \
         restarts while it reaches nobody may then begin a second cluster"),

    live(Memory, "maxmemory", Kind::Bytes { min: 0, max: u64::MAX }, "0",
        "bytes that keys and values may take, without deletions that are remembered; 0 for no limit"),
    live(Memory, "maxmemory-policy", Kind::Choice(MaxmemoryPolicy::NAMES), "noeviction",
        "which keys to give up at maxmemory (volatile-* only those with a TTL), or refuse writes: volatile-lru, \
         volatile-lfu, volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction"),
    live(Memory, "maxmemory-samples", int(1, INT_MAX), "5",
        "a third of the keys that are looked at to choose one to evict"),
    live(Memory, "lfu-log-factor", int(0, INT_MAX), "10",
        "how much harder each step of a key's use counter is than the one before"),
    live(Memory, "lfu-decay-time", int(0, INT_MAX), "1",
        "minutes after which an unused key's use counter is lowered by one; 0 for at every look"),

    at_start(Data, "databases", int(1, DATABASES_MAX as i64), "16",
        "databases that SELECT may choose from"),
    live(Data, "notify-keyspace-events", Kind::Events, "",
        "classes of keyspace events to publish, from Ag$lshzxeKEtmdn; empty for none"),
    live(Data, "hash-max-listpack-entries", int(0, i64::MAX), "512",
        "fields up to which a hash stays in its compact form"),
    live(Data, "hash-max-listpack-value", bytes(0), "64",
        "bytes of a field or value up to which a hash stays in its compact form"),
    live(Data, "set-max-intset-entries", int(0, i64::MAX), "512",
        "members up to which a set of integers stays in its compact form"),

    live(Observing, "loglevel", Kind::Choice(LogLevel::NAMES), "notice",
        "how much to log: debug, verbose, notice or warning"),
    at_start(Observing, "logfile", Kind::Text, "",
        "file to append the log to, opened anew at SIGHUP (for logrotate, say); empty for standard output"),
    at_start(Observing, "log-format", Kind::Choice(LogFormat::NAMES), "text",
        "lines for people, or one JSON object per line"),
    live(Observing, "metrics-redis-compat", Kind::YesNo, "yes",
        "add the redis_* names that dashboards made for redis_exporter read"),
    live(Observing, "latency-tracking", Kind::YesNo, "yes",
        "keep a latency distribution per command for INFO latencystats"),
    live(Observing, "latency-tracking-info-percentiles", Kind::Percentiles, "50 99 99.9",
        "percentiles that INFO latencystats shows"),
    live(Observing, "slowlog-log-slower-than", int(-1, i64::MAX), "10000",
        "microseconds from which a command goes to the slow log; 0 for every command, -1 for none"),
    live(Observing, "slowlog-max-len", int(0, i64::MAX), "128",
        "commands that the slow log keeps"),

    at_start(Process, "workers", int(0, 255), "0",
        "threads that serve clients; 0 is one fewer than processors, but at least one"),
    live(Process, "shutdown-timeout", int(0, INT_MAX), "10",
        "seconds that a node told to stop may take to hand over, and again for its turn when more than three go at once; its \
         clients then have up to 3 more to be answered"),
];
