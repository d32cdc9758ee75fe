//! The cluster, for smart clients, for clients that ask a Sentinel, and for the curious.
//!
//! Rows only: the server runs these commands, because they need connections, options or other nodes. Arity, flags
//! and key positions are Redis 7.0.15's: `oracle_tests` compares them with a real redis-server.

use crate::commands::spec::{Command, Group, Handler, KEY, Keys, NodeCommand, flag};

/// CLUSTER: nodes, slots and who has which.
pub static CLUSTER: Command = Command {
    name: "cluster",
    summary: "A container for cluster commands",
    syntax: "subcommand [argument ...]",
    since: "3.0.0",
    complexity: "Depends on subcommand.",
    group: Group::Cluster,
    arity: -2,
    flags: 0,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Cluster),
};

/// SENTINEL: where the master is, for clients that were told to ask. Always this cluster's nearest live node.
pub static SENTINEL: Command = Command {
    name: "sentinel",
    summary: "A container for Sentinel commands",
    syntax: "subcommand [argument ...]",
    since: "2.8.4",
    complexity: "Depends on subcommand.",
    group: Group::Sentinel,
    arity: -2,
    flags: flag::ADMIN,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Sentinel),
};

/// RONDO.META: a map of what the cluster knows of a key: owners, version, created, modified, deadline, agreement.
pub static META: Command = Command {
    name: "rondo.meta",
    summary: "Show where a key lives, its version, and whether its replicas agree",
    syntax: "key",
    since: "0.1.0",
    complexity: "O(N) where N is the number of replicas of the key",
    group: Group::Cluster,
    arity: 2,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Node(NodeCommand::Meta),
};

/// RONDO.CONSISTENCY: without arguments what holds for this connection, with some OK.
pub static CONSISTENCY: Command = Command {
    name: "rondo.consistency",
    summary: "Set how many replicas this connection's reads and writes wait for",
    syntax: "[R replicas] [W replicas] [STRICT|SLOPPY]",
    since: "0.1.0",
    complexity: "O(1)",
    group: Group::Connection,
    arity: -1,
    flags: flag::LOADING | flag::STALE | flag::FAST,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Consistency),
};

/// RONDO.FOUND: OK when the node has been told; it begins the cluster unless it reaches one.
pub static FOUND: Command = Command {
    name: "rondo.found",
    summary: "Have a node that waits for its cluster begin a new, empty one",
    syntax: "",
    since: "0.1.0",
    complexity: "O(1)",
    group: Group::Cluster,
    arity: 1,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Found),
};

/// RONDO.FORGET: OK when the work has begun; CLUSTER NODES shows when it is done.
pub static FORGET: Command = Command {
    name: "rondo.forget",
    summary: "Give a dead node up for ever; the others fetch what they hold in its place",
    syntax: "node-id|node-name",
    since: "0.1.0",
    complexity: "O(1), and in the background O(K) where K is the number of keys that the node held",
    group: Group::Cluster,
    arity: 2,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Forget),
};
