//! `/status`: the whole cluster as JSON, from any node; the one source of `rondo cluster`, `rondo top` and the live
//! page.
//!
//! | file | what it is |
//! |---|---|
//! | `local` | what this node says of itself |
//! | `gather` | asks every other member for its figures |
//! | `advice` | what is wrong with a cluster, and what to do, pure |
//!
//! - `GET /status` is a [`ClusterStatus`]: what the asked node believes of every member, each member's own figures as
//!   it gives them, and what is wrong with what to do about it ([`Advice`]).
//! - `GET /status/node` is a [`NodeFigures`]: the asked node's own figures. `gather` asks the others for theirs.
//! - `GET /status/slots` is a [`SlotStatus`]: who holds and coordinates which slots, for drawing the ring. It changes
//!   when `ring.digest` or a member's `condition` does.
//!
//! Shape of `/status`, shortened:
//! ```json
//! {"cluster": "rondo", "seen_from": "<node id>", "time_ms": 0, "healthy": true,
//!  "advice": [{"severity": "warning", "node": "<name>", "problem": "...", "next_step": "..."}],
//!  "ring": {"digest": "0f...", "agreed": true, "members": 3, "up": 3, "replicas": 3, "write_quorum": 2,
//!           "read_quorum": 2, "quorum_mode": "sloppy", "slots_unserved": 0, "waiting": null},
//!  "nodes": [{"id": "...", "name": "a", "host": "127.0.0.1", "port": 6379, "condition": "up",
//!             "down_s": null, "slots_held": 16384, "slots_coordinated": 5461, "silent": null,
//!             "figures": {"keys": 0, "memory": {"used_bytes": 0}, "rates": {"reads": 0.0, "hit_ratio": null},
//!                         "latency": {"read": {"p99_us": 64}}, "recent": {"quorum_failures": 0},
//!                         "links": [{"peer": "<node id>", "open": true}]}}]}
//! ```
//! Counts named `*_us`, `*_ms`, `*_s` and `*_bytes` are in that unit; rates are per second over the last ten seconds;
//! a ratio lies between 0 and 1 and is null when nothing happened. Fields are added, and not renamed.
//!
//! The types serialize and deserialize, so who reads the answer in Rust uses the types that wrote it.

mod local;
mod advice;
mod gather;

pub use gather::Gatherer;
pub use local::{Events, SlotStatus, figures, slots};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The cluster, seen from one node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// `cluster-name`.
    pub cluster: String,
    /// The id of the node that was asked.
    pub seen_from: String,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// True when nothing in `advice` is worse than [`Severity::Info`].
    pub healthy: bool,
    /// What is wrong, worst first.
    pub advice: Vec<Advice>,
    /// The ring as the asked node sees it.
    pub ring: RingStatus,
    /// Every member, by name.
    pub nodes: Vec<Member>,
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Clients are served, but something must be done.
    Warning,
    /// Clients see errors, or are about to.
    Critical,
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Advice {
    /// How bad it is.
    pub severity: Severity,
    /// The name of the node that it is about; none for the cluster.
    pub node: Option<String>,
    /// What is wrong, a sentence.
    pub problem: String,
    /// What to do about it, a sentence.
    pub next_step: String,
}

/// The ring.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RingStatus {
    /// Equal on nodes that agree who owns what.
    pub digest: String,
    /// Every node that answered showed the same digest.
    pub agreed: bool,
    /// Nodes that own slots or are about to.
    pub members: usize,
    /// Those of them whose `condition` is up.
    pub up: usize,
    /// N.
    pub replicas: usize,
    /// W.
    pub write_quorum: usize,
    /// R.
    pub read_quorum: usize,
    /// `sloppy` or `strict`.
    pub quorum_mode: String,
    /// Slots that nobody can coordinate now, or not with W and R; all on a node that belongs to no cluster.
    pub slots_unserved: usize,
    /// What the asked node waits for, while it is no member of a cluster.
    #[serde(default)]
    pub waiting: Option<String>,
}

/// What is believed of a member, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It answers and holds what it should.
    Up,
    /// It is coming: it fetches its future slots.
    Joining,
    /// It is going: it hands its slots over.
    Leaving,
    /// It answers, and fetches again what it forgot in a restart.
    Filling,
    /// It answers, and is being handed what it missed.
    Catching,
    /// It does not answer.
    Down,
}

impl Condition {
    /// The word that people read, and the JSON.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Joining => "joining",
            Condition::Leaving => "leaving",
            Condition::Filling => "filling",
            Condition::Catching => "catching",
            Condition::Down => "down",
        }
    }
}

/// One member.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its `node-name`; without one, where clients reach it.
    pub name: String,
    /// The host that clients connect to.
    pub host: String,
    /// Its standalone face.
    pub port: u16,
    /// Its cluster face.
    pub cluster_port: u16,
    /// Its HTTP pages; 0 for none.
    pub admin_port: u16,
    /// Where other nodes reach it.
    pub peer_addr: String,
    /// Its failure domain.
    pub zone: String,
    /// Its share of the data, relative to the others.
    pub weight: f64,
    /// What the asked node believes of it.
    pub condition: Condition,
    /// For how many seconds the asked node has found it down; none for one that is not.
    #[serde(default)]
    pub down_s: Option<u64>,
    /// Whether an operator has told some node to give it up.
    #[serde(default)]
    pub given_up: bool,
    /// Slots that it holds a copy of.
    pub slots_held: usize,
    /// Slots whose commands it runs now.
    pub slots_coordinated: usize,
    /// What it says of itself; none when it did not answer.
    pub figures: Option<NodeFigures>,
    /// Why it did not answer.
    pub silent: Option<String>,
}

#[cfg(test)]
impl Member {
    /// A member with these figures, for tests of what is said about it.
    pub fn with_figures(name: &str, condition: Condition, figures: Option<NodeFigures>) -> Member {
        Member {
            id: name.into(),
            name: name.into(),
            host: "h".into(),
            port: 1,
            cluster_port: 2,
            admin_port: 3,
            peer_addr: "h:4".into(),
            zone: String::new(),
            weight: 1.0,
            condition,
            down_s: None,
            given_up: false,
            slots_held: 16_384,
            slots_coordinated: 16_384,
            figures,
            silent: None,
        }
    }
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NodeFigures {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version of rondo.
    pub version: String,
    /// The version of what nodes say to each other: those of another one do not talk to it.
    #[serde(default)]
    pub wire_version: u8,
    /// Its process.
    pub pid: u32,
    /// Its clock, in milliseconds since 1970.
    pub time_ms: u64,
    /// How long it has been running, in seconds.
    pub uptime_s: u64,
    /// Its slots can reach their quorums.
    pub ready: bool,
    /// Why not.
    pub not_ready: Option<String>,
    /// Its threads that serve clients.
    pub workers: usize,
    /// Those that have been stuck for seconds.
    pub workers_stuck: usize,
    /// The digest of its ring.
    pub ring_digest: String,
    /// Keys that it holds, of all databases.
    pub keys: u64,
    /// Those with a deadline.
    pub keys_expiring: u64,
    /// Its memory.
    pub memory: Memory,
    /// Clients connected now.
    pub clients: u64,
    /// Clients that may be.
    pub clients_max: u64,
    /// How fast things go.
    pub rates: Rates,
    /// How long commands take, waiting for replicas included.
    pub latency: LatencyByClass,
    /// Reads and writes of the last ten seconds that took longer than a command should.
    #[serde(default)]
    pub slow_commands: u64,
    /// What happened in the last ten seconds.
    pub recent: Events,
    /// What happened since it started.
    pub totals: Events,
    /// How long gossip has brought nothing, in seconds.
    #[serde(default)]
    pub gossip_silence_s: u64,
    /// How far its stamps are ahead of its clock, in milliseconds: far, if that was set back.
    #[serde(default)]
    pub stamps_ahead_ms: u64,
    /// What its options say of where its slots lie; nothing from an older version.
    #[serde(default)]
    pub placing_options: Option<Placing>,
    /// Its values of options that all nodes of a cluster should have alike, by name; of a password only whether there
    /// is one.
    #[serde(default)]
    pub common_options: BTreeMap<String, String>,
    /// Ids of dead nodes that it was told to give up, and has not given up yet.
    #[serde(default)]
    pub giving_up: Vec<String>,
    /// Why it cannot write down who the members are, if it cannot: then nobody joins or leaves.
    #[serde(default)]
    pub members_unwritten: Option<String>,
    /// Its links to the other nodes.
    pub links: Vec<Link>,
}

/// What decides which slots a node holds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Placing {
    /// `zone`.
    pub zone: String,
    /// `weight`.
    pub weight: f64,
}

/// Memory of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Taken by keys and values, and by deletions that are remembered.
    pub used_bytes: u64,
    /// Those of the deletions, which `max_bytes` does not count.
    pub tombstone_bytes: u64,
    /// `maxmemory`; 0 for no limit.
    pub max_bytes: u64,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// `maxmemory-policy`.
    pub policy: String,
}

/// Per second, over the last ten seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Commands answered.
    pub commands: f64,
    /// Those that only read keys.
    pub reads: f64,
    /// Those that may write keys.
    pub writes: f64,
    /// Error replies.
    pub errors: f64,
    /// Commands sent on to another node.
    pub forwarded: f64,
    /// Bytes from clients.
    pub input_bytes: f64,
    /// Bytes to clients.
    pub output_bytes: f64,
    /// Keys found, of those looked for.
    pub hit_ratio: Option<f64>,
}

/// Times by class of command, over the last ten seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LatencyByClass {
    /// Commands that only read keys.
    pub read: Percentiles,
    /// Commands that may write keys.
    pub write: Percentiles,
    /// Everything else.
    pub admin: Percentiles,
}

/// Upper bounds, in microseconds, at most twice too high; 0 when nothing ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the commands took at most this.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p999_us: u64,
}

/// A link to another node.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Link {
    /// The other node's id.
    pub peer: String,
    /// Where it is reached.
    pub addr: String,
    /// It is connected and answers.
    pub open: bool,
    /// Bytes not sent, or sent and not acknowledged.
    pub queued_bytes: u64,
    /// Writes that it missed and has not been handed yet.
    pub hints: u64,
    /// The shortest of the last round trips.
    pub round_trip_us: Option<u64>,
    /// How far its clock is ahead of this node's; negative when behind.
    pub clock_ahead_ms: Option<f64>,
}
