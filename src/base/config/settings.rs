//! The options as plain typed fields, checked against each other: what the running node reads.
//!
//! A [`Settings`] never changes; CONFIG SET replaces it as a whole. Names, units and defaults are the table's, so a
//! field says only what the table does not.

use super::entry::Entry;
use super::kind::Value;
use super::table::Opt;
use super::types::{Bind, BufferLimits, EventClasses, LogFormat, LogLevel, MaxmemoryPolicy, PeerAddr, QuorumMode};

/// How far a derived port lies above `port`: cluster, admin, peer.
const CLUSTER_PORT_OFFSET: u16 = 1_000;
const ADMIN_PORT_OFFSET: u16 = 3_000;
const PEER_PORT_OFFSET: u16 = 10_000;

/// The four ports of a node; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// The standalone face.
    pub port: u16,
    /// The cluster face.
    pub cluster: u16,
    /// HTTP.
    pub admin: u16,
    /// Between nodes, TCP and UDP.
    pub peer: u16,
}

impl Ports {
    /// The ports of a node that was given nothing but `port`; `None` when one of them would be above 65,535.
    pub fn derived_from(port: u16) -> Option<Ports> {
        Some(Ports {
            port,
            cluster: port.checked_add(CLUSTER_PORT_OFFSET)?,
            admin: port.checked_add(ADMIN_PORT_OFFSET)?,
            peer: port.checked_add(PEER_PORT_OFFSET)?,
        })
    }

    /// Option name and port of each, in the order in which people read them.
    pub fn named(&self) -> [(&'static str, u16); 4] {
        let Ports { port, cluster, admin, peer } = *self;
        [("port", port), ("cluster-port", cluster), ("admin-port", admin), ("peer-port", peer)]
    }
}

/// Options that are each fine and together are not. The operator's fault; nothing was changed or started.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum RuleError {
    #[error("{option} is auto and would be above 65535 ({base} + {offset}): give it, or a smaller port")]
    PortTooHigh { option: &'static str, base: u16, offset: u16 },
    #[error("{option} is auto, but there is no port to derive it from: give it")]
    PortUnknown { option: &'static str },
    #[error("{first} and {second} are both {port}")]
    SamePort { first: &'static str, second: &'static str, port: u16 },
    #[error("{option} is {quorum}, more than the {replicas} replicas")]
    QuorumAboveReplicas { option: &'static str, quorum: usize, replicas: usize },
    #[error("join needs a peer-port: it is 0")]
    JoinWithoutPeerPort,
    #[error("join {peer} needs a cluster-secret: without one the peer port is open to this machine only")]
    JoinWithoutSecret { peer: String },
}

impl RuleError {
    /// The option to be blamed.
    pub fn option(&self) -> &'static str {
        match self {
            RuleError::PortTooHigh { option, .. }
            | RuleError::PortUnknown { option }
            | RuleError::SamePort { second: option, .. }
            | RuleError::QuorumAboveReplicas { option, .. } => option,
            RuleError::JoinWithoutPeerPort | RuleError::JoinWithoutSecret { .. } => "join",
        }
    }
}

/// Every option of a node.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "a field is the option of its name; the table describes it")]
pub struct Settings {
    pub ports: Ports,
    pub bind: Vec<Bind>,
    pub advertise_host: String,
    pub tcp_backlog: u32,
    pub tcp_keepalive_s: u64,

    pub protected_mode: bool,
    pub requirepass: String,
    pub maxclients: usize,
    pub timeout_s: u64,
    pub proto_max_bulk_len: u64,
    pub client_query_buffer_limit: u64,
    pub client_output_buffer_limit: BufferLimits,

    pub join: Vec<PeerAddr>,
    pub cluster_name: String,
    pub cluster_secret: String,
    pub node_name: String,
    pub sentinel_master_names: String,
    pub zone: String,
    pub weight: f64,
    pub replicas: usize,
    pub write_quorum: usize,
    pub read_quorum: usize,
    pub quorum_mode: QuorumMode,
    pub hint_age_max_ms: u64,
    pub anti_entropy_interval_ms: u64,
    pub tombstone_age_min_ms: u64,
    pub tombstone_horizon_ms: u64,
    pub tombstone_bytes_max: u64,
    pub link_bytes_max: u64,
    pub data_dir: String,

    pub maxmemory: u64,
    pub maxmemory_policy: MaxmemoryPolicy,
    pub maxmemory_samples: usize,
    pub lfu_log_factor: u32,
    pub lfu_decay_time_min: u32,

    pub databases: usize,
    pub notify_keyspace_events: EventClasses,
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: usize,
    pub set_max_intset_entries: usize,

    pub loglevel: LogLevel,
    pub logfile: String,
    pub log_format: LogFormat,
    pub metrics_redis_compat: bool,
    pub latency_tracking: bool,
    pub latency_percentiles: Vec<f64>,
    /// `None`: no command is logged.
    pub slowlog_log_slower_than_us: Option<u64>,
    pub slowlog_max_len: usize,

    /// Never 0: one per processor is filled in.
    pub workers: usize,
    pub shutdown_timeout_s: u64,
}

impl Settings {
    /// Makes fields of the values and checks them against each other; every rule that is broken is named.
    pub fn new(entries: &[Entry]) -> Result<Settings, Vec<RuleError>> {
        let (ports, mut broken) = resolve_ports(&Values(entries));
        let settings = Settings::fields(&Values(entries), ports);
        settings.check(&mut broken);
        if broken.is_empty() { Ok(settings) } else { Err(broken) }
    }

    /// Addresses for the peer port and its UDP twin: those of `bind`, or without a `cluster-secret` only loopback.
    pub fn peer_bind(&self) -> Vec<Bind> {
        if !self.cluster_secret.is_empty() {
            return self.bind.clone();
        }
        let loopback: Vec<Bind> = self.bind.iter().filter(|bind| bind.ip.is_loopback()).cloned().collect();
        if !loopback.is_empty() {
            return loopback;
        }
        vec![Bind::loopback()]
    }

    fn fields(values: &Values<'_>, ports: Ports) -> Settings {
        Settings {
            ports,
            bind: values.binds("bind"),
            advertise_host: values.text("advertise-host"),
            tcp_backlog: values.count("tcp-backlog"),
            tcp_keepalive_s: values.count("tcp-keepalive"),
            protected_mode: values.yes("protected-mode"),
            requirepass: values.text("requirepass"),
            maxclients: values.count("maxclients"),
            timeout_s: values.count("timeout"),
            proto_max_bulk_len: values.bytes("proto-max-bulk-len"),
            client_query_buffer_limit: values.bytes("client-query-buffer-limit"),
            client_output_buffer_limit: values.buffer_limits("client-output-buffer-limit"),
            join: values.peers("join"),
            cluster_name: values.text("cluster-name"),
            cluster_secret: values.text("cluster-secret"),
            node_name: values.text("node-name"),
            sentinel_master_names: values.text("sentinel-master-names"),
            zone: values.text("zone"),
            weight: values.float("weight"),
            replicas: values.count("replicas"),
            write_quorum: values.count("write-quorum"),
            read_quorum: values.count("read-quorum"),
            quorum_mode: values.word("quorum-mode", QuorumMode::from_name),
            hint_age_max_ms: values.millis("hint-age-max-ms"),
            anti_entropy_interval_ms: values.millis("anti-entropy-interval-ms"),
            tombstone_age_min_ms: values.millis("tombstone-age-min-ms"),
            tombstone_horizon_ms: values.millis("tombstone-horizon-ms"),
            tombstone_bytes_max: values.bytes("tombstone-bytes-max"),
            link_bytes_max: values.bytes("link-bytes-max"),
            data_dir: values.text("data-dir"),
            maxmemory: values.bytes("maxmemory"),
            maxmemory_policy: values.word("maxmemory-policy", MaxmemoryPolicy::from_name),
            maxmemory_samples: values.count("maxmemory-samples"),
            lfu_log_factor: values.count("lfu-log-factor"),
            lfu_decay_time_min: values.count("lfu-decay-time"),
            databases: values.count("databases"),
            notify_keyspace_events: values.events("notify-keyspace-events"),
            hash_max_listpack_entries: values.count("hash-max-listpack-entries"),
            hash_max_listpack_value: usize::try_from(values.bytes("hash-max-listpack-value")).unwrap_or(usize::MAX),
            set_max_intset_entries: values.count("set-max-intset-entries"),
            loglevel: values.word("loglevel", LogLevel::from_name),
            logfile: values.text("logfile"),
            log_format: values.word("log-format", LogFormat::from_name),
            metrics_redis_compat: values.yes("metrics-redis-compat"),
            latency_tracking: values.yes("latency-tracking"),
            latency_percentiles: values.percentiles("latency-tracking-info-percentiles"),
            slowlog_log_slower_than_us: u64::try_from(values.int("slowlog-log-slower-than")).ok(),
            slowlog_max_len: values.count("slowlog-max-len"),
            workers: values.workers(),
            shutdown_timeout_s: values.count("shutdown-timeout"),
        }
    }

    fn check(&self, broken: &mut Vec<RuleError>) {
        let replicas = self.replicas;
        for (option, quorum) in [("write-quorum", self.write_quorum), ("read-quorum", self.read_quorum)] {
            if quorum > replicas {
                broken.push(RuleError::QuorumAboveReplicas { option, quorum, replicas });
            }
        }
        if !self.join.is_empty() && self.ports.peer == 0 {
            broken.push(RuleError::JoinWithoutPeerPort);
        }
        let outside = self.join.iter().find(|peer| !peer.is_loopback()).filter(|_| self.cluster_secret.is_empty());
        broken.extend(outside.map(|peer| RuleError::JoinWithoutSecret { peer: peer.to_string() }));
        let given: Vec<_> = self.ports.named().into_iter().filter(|(_, port)| *port != 0).collect();
        for (i, &(first, port)) in given.iter().enumerate() {
            if let Some((second, _)) = given.iter().skip(i + 1).find(|(_, other)| *other == port) {
                broken.push(RuleError::SamePort { first, second, port });
            }
        }
    }
}

/// The ports as given or derived; one that cannot be derived is 0 and named in the list.
fn resolve_ports(values: &Values<'_>) -> (Ports, Vec<RuleError>) {
    let mut broken = Vec::new();
    let base = values.port("port").unwrap_or(0);
    let mut resolve = |option: &'static str, offset: u16| match (values.port(option), base) {
        (Some(port), _) => port,
        (None, 0) => {
            broken.push(RuleError::PortUnknown { option });
            0
        }
        (None, base) => base.checked_add(offset).unwrap_or_else(|| {
            broken.push(RuleError::PortTooHigh { option, base, offset });
            0
        }),
    };
    let ports = Ports {
        port: base,
        cluster: resolve("cluster-port", CLUSTER_PORT_OFFSET),
        admin: resolve("admin-port", ADMIN_PORT_OFFSET),
        peer: resolve("peer-port", PEER_PORT_OFFSET),
    };
    (ports, broken)
}

/// Typed access by name. A name or a type that the table does not have is a mistake in this file, which a test finds.
struct Values<'a>(&'a [Entry]);

/// One accessor per kind of value.
macro_rules! accessors {
    ($($name:ident: $variant:ident -> $type:ty),+ $(,)?) => {
        $(fn $name(&self, name: &str) -> $type {
            match self.value(name) {
                Value::$variant(value) => value.clone(),
                other => unreachable!("{name} is {other:?} in the table"),
            }
        })+
    };
}

impl Values<'_> {
    fn value(&self, name: &str) -> &Value {
        match Opt::find(name).and_then(|(index, _)| self.0.get(index)) {
            Some(entry) => &entry.value,
            None => unreachable!("{name} is not in the table"),
        }
    }

    accessors! {
        yes: YesNo -> bool,
        int: Int -> i64,
        bytes: Bytes -> u64,
        millis: Millis -> u64,
        float: Float -> f64,
        choice: Choice -> &'static str,
        text: Text -> String,
        port: Port -> Option<u16>,
        binds: Binds -> Vec<Bind>,
        peers: Peers -> Vec<PeerAddr>,
        percentiles: Percentiles -> Vec<f64>,
        buffer_limits: BufferLimits -> BufferLimits,
        events: Events -> EventClasses,
    }

    /// A whole number that the table keeps within `T`; one that `T` cannot hold is as good as its largest.
    fn count<T: TryFrom<i64> + Bounded>(&self, name: &str) -> T {
        T::try_from(self.int(name)).unwrap_or(T::LARGEST)
    }

    fn word<T>(&self, name: &str, from_name: impl Fn(&str) -> Option<T>) -> T {
        let word = self.choice(name);
        from_name(word).unwrap_or_else(|| unreachable!("{name} has no word {word}"))
    }

    fn workers(&self) -> usize {
        match self.count("workers") {
            0 => workers_for(std::thread::available_parallelism().map_or(1, usize::from)),
            given => given,
        }
    }
}

/// How many workers suit a machine of so many processors: one is left to the main thread, which transfers, sweeps and
/// accepts, and to whatever else runs there. A worker that shares its processor makes its clients wait whenever it gets
/// no turn.
pub fn workers_for(processors: usize) -> usize {
    processors.saturating_sub(1).max(1)
}

/// Unsigned numbers that know their largest value.
trait Bounded {
    const LARGEST: Self;
}

impl Bounded for u32 {
    const LARGEST: u32 = u32::MAX;
}

impl Bounded for u64 {
    const LARGEST: u64 = u64::MAX;
}

impl Bounded for usize {
    const LARGEST: usize = usize::MAX;
}
