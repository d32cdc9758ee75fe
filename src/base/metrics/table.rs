//! The table: every metric of a node, one row each.
//!
//! Names follow Prometheus's rules (base units, the unit last, `_total` on counters); `rondo_` is put before them when
//! they are rendered. A row with labels in braces is one series of its family; a gauge with label names in brackets is
//! given their values by its source.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution over fixed bounds.
    Histogram,
}

/// What a part gives the values of at a scrape: one of [`Gauge`] or [`Kept`].
pub trait Given {
    /// The row.
    fn row(self) -> &'static Metric;
}

impl Given for Gauge {
    fn row(self) -> &'static Metric {
        self.metric()
    }
}

impl Given for Kept {
    fn row(self) -> &'static Metric {
        self.metric()
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name, without `rondo_`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Labels with their values, for one series of a family.
    pub fixed_labels: &'static [(&'static str, &'static str)],
    /// Names of the labels whose values differ from series to series.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

impl Metric {
    /// What is counted, by the last word of the name as Prometheus asks for it.
    pub fn unit(&self) -> &'static str {
        let base = self.name.trim_end_matches("_total");
        ["seconds", "bytes"].into_iter().find(|unit| base.ends_with(unit)).unwrap_or("number")
    }
}

/// Kinds of commands that have a latency histogram of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Commands that only read keys.
    Read,
    /// Commands that may write keys.
    Write,
    /// Everything else.
    Admin,
}

impl Class {
    /// Every class, in the order of its discriminant.
    pub const ALL: [Class; 3] = [Class::Read, Class::Write, Class::Admin];

    /// The value of the label `class`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Write => "write",
            Class::Admin => "admin",
        }
    }
}

/// Defines an enum of metrics of one kind, and their rows in the order of the discriminants.
macro_rules! rows {
    ($(#[$doc:meta])* $enum:ident, $table:ident, $kind:expr;
     $($variant:ident = $name:literal $({ $($key:ident = $value:literal),+ })? $([ $($label:ident),+ ])?, $help:literal;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $enum { $(#[doc = $help] $variant),+ }

        impl $enum {
            /// How many there are.
            pub const COUNT: usize = [$($enum::$variant),+].len();

            /// Each of them, in the order of the table.
            pub fn all() -> impl Iterator<Item = $enum> {
                [$($enum::$variant),+].into_iter()
            }

            /// The row.
            pub fn metric(self) -> &'static Metric {
                &$table[self as usize]
            }
        }

        pub(super) static $table: [Metric; $enum::COUNT] = [$(Metric {
            name: $name,
            kind: $kind,
            fixed_labels: &[$($((stringify!($key), $value)),+)?],
            labels: &[$($(stringify!($label)),+)?],
            help: $help,
        }),+];
    };
}

rows! {
    /// The counters.
    Count, COUNTS, Kind::Counter;
    ConnectionsAccepted = "connections_accepted_total", "Client connections accepted.";
    ConnectionsRejected = "connections_rejected_total", "Client connections refused because maxclients was reached.";
    NetInputBytes = "net_input_bytes_total", "Bytes read from clients.";
    NetOutputBytes = "net_output_bytes_total", "Bytes written to clients.";
    ProtocolErrors = "protocol_errors_total", "Connections closed because of malformed input.";
    AuthFailures = "auth_failures_total", "Wrong passwords given by clients.";
    ErrorReplies = "error_replies_total", "Error replies sent to clients.";
    OutputLimitDisconnects = "output_limit_disconnects_total", "Clients disconnected because their replies outgrew client-output-buffer-limit.";
    KeyspaceHits = "keyspace_hits_total", "Keys found by reading commands.";
    KeyspaceMisses = "keyspace_misses_total", "Keys not found by reading commands.";
    KeyChanges = "key_changes_total", "Changes that commands made to keys.";
    ExpiredKeys = "expired_keys_total", "Keys removed because their time was up, of those that the node coordinates.";
    EvictedKeys = "evicted_keys_total", "Copies of keys given up because maxmemory was reached.";
    Forwarded = "forwarded_commands_total", "Commands sent on to the coordinator of their key.";
    ForwardFailures = "forward_failures_total", "Forwarded commands that were not answered.";
    ReadQuorumFailures = "quorum_failures_total" { operation = "read" }, "Commands refused because too few replicas answered.";
    WriteQuorumFailures = "quorum_failures_total" { operation = "write" }, "Commands refused because too few replicas answered.";
    UnknownOutcomes = "unknown_outcomes_total", "Writes whose outcome could not be learned.";
    Conflicts = "conflicts_total", "Merges of two versions of which neither had seen the other.";
    ReadRepairs = "read_repairs_total", "Keys mended because a read found replicas that differed.";
    HintsStored = "hints_stored_total", "Writes kept for a replica that was down.";
    HintsReplayed = "hints_replayed_total", "Kept writes delivered to the replica that they were for.";
    HintsDropped = "hints_dropped_total", "Kept writes that outlived hint-age-max-ms: their slots were compared instead.";
    AntiEntropyRounds = "anti_entropy_rounds_total", "Comparisons of all that this node shares with other nodes.";
    AntiEntropySlots = "anti_entropy_differing_slots_total", "Hash slots that a comparison found to differ.";
    AntiEntropyRepairs = "anti_entropy_repairs_total", "Keys that travelled, either way, because a comparison found them to differ.";
    TombstonesCollected = "tombstones_collected_total", "Deletions forgotten because every replica holds them.";
    PeersRefused = "peers_refused_total", "Connections to peer-port refused: another cluster-secret, cluster-name or version, or this node's own id.";
    ClockRefusals = "clock_refusals_total", "Peer messages refused because their stamp lay too far in the future.";
    PromisesGiven = "ballot_promises_total", "Hash slots promised to a coordinator for strict writes.";
    PromisesRefused = "ballot_refusals_total", "Hash slots that another node would not promise to this one, or had promised elsewhere.";
    StrictDeclined = "strict_declined_total", "Strict writes and reads declined because their hash slot is promised to another node.";
    SlotsSettled = "slots_settled_total", "Hash slots compared with their home replicas by a new coordinator.";
}

rows! {
    /// The gauges.
    Gauge, GAUGES, Kind::Gauge;
    Info = "info" [cluster, version, node, name, zone], "Always 1; the labels say what this node is.";
    StartTime = "start_time_seconds", "When this node started, in seconds since 1970.";
    Uptime = "uptime_seconds", "Time since this node started.";
    Ready = "ready", "Whether this node's slots can reach their quorums (1) or not (0).";
    Workers = "workers", "Threads that serve clients.";
    WorkersStuck = "workers_stuck", "Threads that serve clients and have not turned for seconds.";
    ConnectedClients = "connected_clients", "Clients connected now.";
    BlockedClients = "blocked_clients", "Clients whose command waits until CLIENT PAUSE is over.";
    MaxClients = "max_clients", "Clients that may be connected at the same time.";
    MemoryUsed = "memory_used_bytes", "Memory taken by keys and values.";
    MemoryMax = "memory_max_bytes", "Memory that keys and values may take; 0 for no limit.";
    MemoryResident = "memory_resident_bytes", "Resident memory of the process.";
    Keys = "keys" [db], "Keys held, of all replicas on this node.";
    KeysExpiring = "keys_expiring" [db], "Keys held that have a deadline.";
    Members = "members" [state], "Nodes in the ring by state.";
    MembersDown = "members_down", "Nodes in the ring that this node cannot reach, or that have not caught up yet.";
    RingInfo = "ring_info" [cluster, digest], "Always 1; nodes that agree on the ring show the same digest.";
    Slots = "slots" [role], "Hash slots that this node holds a copy of (held) and runs the commands of (coordinated).";
    SlotsUnserved = "slots_unserved", "Hash slots that no node can run the commands of, or not with W and R, as this node sees it.";
    Tombstones = "tombstones", "Deleted keys that are remembered so that no older copy comes back.";
    TombstoneBytes = "tombstone_bytes", "Memory that they take, of that in use; maxmemory does not count it.";
    HintsPending = "hints_pending", "Writes that replicas have missed and are still to be handed; they are among the keys, only their hash slots are kept.";
    SlotsPromised = "slots_promised", "Hash slots that this node has promised to itself for strict writes.";
    SlotsUnsettled = "slots_unsettled", "Hash slots that this node coordinates and has not compared with their home replicas yet.";
    LinkQueuedBytes = "link_queued_bytes" [peer], "Bytes waiting to be sent to another node, or to be acknowledged by it.";
    PeerUp = "peer_up" [peer], "Whether the links to another node are open (1) or not (0).";
    PeerRoundTrip = "peer_round_trip_seconds" [peer], "The shortest of the last round trips to another node.";
    GossipSilence = "gossip_silence_seconds", "Time since gossip last brought something that was understood; without end on a node that is alone.";
    PeerClockAhead = "peer_clock_ahead_seconds" [peer], "How far another node's clock is ahead of this node's; negative when behind.";
}

rows! {
    /// Counters that the parts keep themselves, and give at a scrape as they give gauges.
    Kept, KEPT, Kind::Counter;
    CpuSeconds = "cpu_seconds_total" [mode], "Processor time used by all threads, in user mode and in the kernel.";
    Errors = "errors_total" [code], "Error replies by the first word of their text, since the last CONFIG RESETSTAT.";
    LinkSentBytes = "link_sent_bytes_total" [peer], "Bytes sent to another node on the links for replicas.";
    LinkBreaks = "link_breaks_total" [peer], "Times that a link for replicas to another node was lost.";
    GossipPackets = "gossip_packets_total" [outcome], "Datagrams of gossip sent, unsent (the system did not take them), received, refused (forged, damaged, or of another secret or cluster), replayed (heard before), senseless.";
    Stalls = "stalls_total", "Times that this node found itself to have been stopped for a while, and gave the others more time.";
    Rejoins = "rejoins_total", "Times that gossip had declared this node down though it lived, and it came back.";
    TransferredKeys = "transferred_keys_total" [direction], "Keys sent whole to other nodes (out) or received whole (in): handover, hints, refilling.";
}

/// Families with one series per command, and the latency histogram: their values come from the shards.
pub(super) static COMMANDS: [Metric; 4] = [
    per_command("commands_total", "Commands run."),
    per_command("commands_duration_seconds_total", "Time spent running commands."),
    per_command("commands_rejected_total", "Commands refused before they ran."),
    per_command("commands_failed_total", "Commands that ran and replied with an error."),
];

/// Time from the arrival of a command to its reply, replicas included.
pub(super) static COMMAND_LATENCY: Metric = Metric {
    name: "command_latency_seconds",
    kind: Kind::Histogram,
    fixed_labels: &[],
    labels: &["class"],
    help: "Time from the arrival of a command to its reply, waiting for replicas included.",
};

const fn per_command(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, fixed_labels: &[], labels: &["command"], help }
}

/// Every row, for listings and tests.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    COUNTS.iter().chain(&COMMANDS).chain(&KEPT).chain([&COMMAND_LATENCY]).chain(&GAUGES)
}

/// Where a `redis_*` series takes its value from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compat {
    Count(Count),
    Gauge(Gauge),
    /// The series of a kept counter whose label has this value.
    Kept(Kept, &'static str),
    Constant(f64),
    /// Index into [`COMMANDS`], shown per command under the label `cmd`.
    Command(usize),
    /// All commands together.
    AllCommands,
}

/// The names that dashboards made for redis_exporter read, and ours behind them.
///
/// `redis_instance_info` is left out on purpose: public alert rules count its `role="master"` series and call a cluster
/// without a leader broken.
pub(super) static REDIS_NAMES: &[(&str, Compat)] = &[
    ("redis_up", Compat::Constant(1.0)),
    ("redis_uptime_in_seconds", Compat::Gauge(Gauge::Uptime)),
    ("redis_start_time_seconds", Compat::Gauge(Gauge::StartTime)),
    ("redis_cpu_user_seconds_total", Compat::Kept(Kept::CpuSeconds, "user")),
    ("redis_cpu_sys_seconds_total", Compat::Kept(Kept::CpuSeconds, "system")),
    ("redis_connected_clients", Compat::Gauge(Gauge::ConnectedClients)),
    ("redis_blocked_clients", Compat::Gauge(Gauge::BlockedClients)),
    ("redis_config_maxclients", Compat::Gauge(Gauge::MaxClients)),
    ("redis_connected_slaves", Compat::Constant(0.0)),
    ("redis_memory_used_bytes", Compat::Gauge(Gauge::MemoryUsed)),
    ("redis_memory_max_bytes", Compat::Gauge(Gauge::MemoryMax)),
    ("redis_memory_used_rss_bytes", Compat::Gauge(Gauge::MemoryResident)),
    ("redis_db_keys", Compat::Gauge(Gauge::Keys)),
    ("redis_db_keys_expiring", Compat::Gauge(Gauge::KeysExpiring)),
    ("redis_commands_processed_total", Compat::AllCommands),
    ("redis_commands_total", Compat::Command(0)),
    ("redis_commands_duration_seconds_total", Compat::Command(1)),
    ("redis_commands_rejected_calls_total", Compat::Command(2)),
    ("redis_commands_failed_calls_total", Compat::Command(3)),
    ("redis_connections_received_total", Compat::Count(Count::ConnectionsAccepted)),
    ("redis_rejected_connections_total", Compat::Count(Count::ConnectionsRejected)),
    ("redis_keyspace_hits_total", Compat::Count(Count::KeyspaceHits)),
    ("redis_keyspace_misses_total", Compat::Count(Count::KeyspaceMisses)),
    ("redis_net_input_bytes_total", Compat::Count(Count::NetInputBytes)),
    ("redis_net_output_bytes_total", Compat::Count(Count::NetOutputBytes)),
    ("redis_expired_keys_total", Compat::Count(Count::ExpiredKeys)),
    ("redis_evicted_keys_total", Compat::Count(Count::EvictedKeys)),
];
