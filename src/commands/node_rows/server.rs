//! The node: options, figures, diagnosis, shutdown.
//!
//! Rows only: the server runs these commands, because they need connections, options or other nodes. Arity, flags
//! and key positions are Redis 7.0.15's: `oracle_tests` compares them with a real redis-server.

use crate::commands::spec::{Command, Group, Handler, Keys, NodeCommand, flag};

/// CONFIG: options, read and changed.
pub static CONFIG: Command = Command {
    name: "config",
    summary: "A container for server configuration commands",
    syntax: "subcommand [argument ...]",
    since: "2.0.0",
    complexity: "Depends on subcommand.",
    group: Group::Server,
    arity: -2,
    flags: 0,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Config),
};

/// INFO: figures, in sections of lines.
pub static INFO: Command = Command {
    name: "info",
    summary: "Get information and statistics about the server",
    syntax: "[section [section ...]]",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Server,
    arity: -1,
    flags: flag::LOADING | flag::STALE | flag::DANGEROUS,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Info),
};

/// TIME: seconds since 1970, and microseconds.
pub static TIME: Command = Command {
    name: "time",
    summary: "Return the current server time",
    syntax: "",
    since: "2.6.0",
    complexity: "O(1)",
    group: Group::Server,
    arity: 1,
    flags: flag::LOADING | flag::STALE | flag::FAST,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Time),
};

/// ROLE: which part this node plays.
pub static ROLE: Command = Command {
    name: "role",
    summary: "Return the role of the instance in the context of replication",
    syntax: "",
    since: "2.8.12",
    complexity: "O(1)",
    group: Group::Server,
    arity: 1,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::DANGEROUS,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Role),
};

/// SHUTDOWN: no reply; the node drains and ends.
pub static SHUTDOWN: Command = Command {
    name: "shutdown",
    summary: "Synchronously save the dataset to disk and then shut down the server",
    syntax: "[NOSAVE|SAVE] [NOW] [FORCE] [ABORT]",
    since: "1.0.0",
    complexity: "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
    group: Group::Server,
    arity: -1,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::NO_MULTI | flag::ALLOW_BUSY,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Shutdown),
};

/// SLOWLOG: commands that took long.
pub static SLOWLOG: Command = Command {
    name: "slowlog",
    summary: "A container for slow log commands",
    syntax: "subcommand [argument ...]",
    since: "2.2.12",
    complexity: "Depends on subcommand.",
    group: Group::Server,
    arity: -2,
    flags: 0,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::SlowLog),
};

/// MONITOR: from now on this connection is shown what clients ask of the node.
pub static MONITOR: Command = Command {
    name: "monitor",
    summary: "Listen for all requests received by the server in real time",
    syntax: "",
    since: "1.0.0",
    complexity: "",
    group: Group::Server,
    arity: 1,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Monitor),
};

/// LATENCY: spikes and histograms.
pub static LATENCY: Command = Command {
    name: "latency",
    summary: "A container for latency diagnostics commands",
    syntax: "subcommand [argument ...]",
    since: "2.8.13",
    complexity: "Depends on subcommand.",
    group: Group::Server,
    arity: -2,
    flags: 0,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Latency),
};

/// MEMORY: what a key and the node take.
pub static MEMORY: Command = Command {
    name: "memory",
    summary: "A container for memory diagnostics commands",
    syntax: "subcommand [argument ...]",
    since: "4.0.0",
    complexity: "Depends on subcommand.",
    group: Group::Server,
    arity: -2,
    flags: 0,
    keys: Keys::Subcommand { at: 2 },
    handler: Handler::Node(NodeCommand::Memory),
};

/// DEBUG: refused whatever it is asked for.
pub static DEBUG: Command = Command {
    name: "debug",
    summary: "A container for debugging commands",
    syntax: "",
    since: "1.0.0",
    complexity: "Depends on subcommand.",
    group: Group::Server,
    arity: -2,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Debug),
};

/// SAVE: refused, there is no snapshot to write.
pub static SAVE: Command = Command {
    name: "save",
    summary: "Synchronously save the dataset to disk",
    syntax: "",
    since: "1.0.0",
    complexity: "O(N) where N is the total number of keys in all databases",
    group: Group::Server,
    arity: 1,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING | flag::NO_MULTI,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Unsupported),
};

/// BGSAVE: refused, as SAVE.
pub static BGSAVE: Command = Command {
    name: "bgsave",
    summary: "Asynchronously save the dataset to disk",
    syntax: "[SCHEDULE]",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Server,
    arity: -1,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Unsupported),
};

/// BGREWRITEAOF: refused, there is no append-only file.
pub static BGREWRITEAOF: Command = Command {
    name: "bgrewriteaof",
    summary: "Asynchronously rewrite the append-only file",
    syntax: "",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Server,
    arity: 1,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::NO_ASYNC_LOADING,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Unsupported),
};

/// LASTSAVE: refused, nothing is ever saved.
pub static LASTSAVE: Command = Command {
    name: "lastsave",
    summary: "Get the UNIX time stamp of the last successful save to disk",
    syntax: "",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Server,
    arity: 1,
    flags: flag::LOADING | flag::STALE | flag::FAST | flag::DANGEROUS,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Unsupported),
};
