//! What CLIENT and PUBSUB can do.
//!
//! Each row is a row like any other, under the name `parent|subcommand`; what it does not say is as in the first
//! lines of its list.

use crate::commands::spec::{Command, Group, Handler, Keys, NodeCommand, flag};

const CLIENT_BASE: Command = Command {
    name: "client",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::Connection,
    arity: 2,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Client),
};

/// CLIENT's subcommands.
pub static CLIENT: &[Command] = &[
    Command { name: "client|getname", summary: "Get the current connection name", since: "2.6.9", ..CLIENT_BASE },
    Command {
        name: "client|getredir",
        summary: "Get tracking notifications redirection client ID if any",
        since: "6.0.0",
        ..CLIENT_BASE
    },
    Command {
        name: "client|help",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: flag::LOADING | flag::STALE,
        ..CLIENT_BASE
    },
    Command {
        name: "client|id",
        summary: "Returns the client ID for the current connection",
        since: "5.0.0",
        ..CLIENT_BASE
    },
    Command {
        name: "client|info",
        summary: "Returns information about the current client connection.",
        since: "6.2.0",
        ..CLIENT_BASE
    },
    Command {
        name: "client|kill",
        summary: "Kill the connection of a client",
        syntax: "<ip:port|[ID client-id] [TYPE NORMAL|MASTER|SLAVE|REPLICA|PUBSUB] [USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME yes/no]>",
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        arity: -3,
        flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
        ..CLIENT_BASE
    },
    Command {
        name: "client|list",
        summary: "Get the list of client connections",
        syntax: "[TYPE NORMAL|MASTER|REPLICA|PUBSUB] [ID client-id [client-id ...]]",
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        arity: -2,
        flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
        ..CLIENT_BASE
    },
    Command {
        name: "client|no-evict",
        summary: "Set client eviction mode for the current connection",
        syntax: "<ON|OFF>",
        since: "7.0.0",
        arity: 3,
        flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
        ..CLIENT_BASE
    },
    Command {
        name: "client|no-touch",
        summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys",
        syntax: "<ON|OFF>",
        since: "7.2.0",
        arity: 3,
        ..CLIENT_BASE
    },
    Command {
        name: "client|pause",
        summary: "Stop processing commands from clients for some time",
        syntax: "timeout [WRITE|ALL]",
        since: "2.9.50",
        arity: -3,
        flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
        ..CLIENT_BASE
    },
    Command {
        name: "client|reply",
        summary: "Instruct the server whether to reply to commands",
        syntax: "<ON|OFF|SKIP>",
        since: "3.2.0",
        arity: 3,
        ..CLIENT_BASE
    },
    Command {
        name: "client|setinfo",
        summary: "Set client or connection specific info",
        syntax: "<LIB-NAME libname|LIB-VER libver>",
        since: "7.2.0",
        arity: 4,
        ..CLIENT_BASE
    },
    Command {
        name: "client|setname",
        summary: "Set the current connection name",
        syntax: "connection-name",
        since: "2.6.9",
        arity: 3,
        ..CLIENT_BASE
    },
    Command {
        name: "client|tracking",
        summary: "Enable or disable server assisted client side caching support",
        syntax: "<ON|OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
        since: "6.0.0",
        complexity: "O(1). Some options may introduce additional complexity.",
        arity: -3,
        ..CLIENT_BASE
    },
    Command {
        name: "client|trackinginfo",
        summary: "Return information about server assisted client side caching for the current connection",
        since: "6.2.0",
        ..CLIENT_BASE
    },
    Command {
        name: "client|unblock",
        summary: "Unblock a client blocked in a blocking command from a different connection",
        syntax: "client-id [TIMEOUT|ERROR]",
        since: "5.0.0",
        complexity: "O(log N) where N is the number of client connections",
        arity: -3,
        flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
        ..CLIENT_BASE
    },
    Command {
        name: "client|unpause",
        summary: "Resume processing of clients that were paused",
        since: "6.2.0",
        complexity: "O(N) Where N is the number of paused clients",
        flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
        ..CLIENT_BASE
    },
];

const PUBSUB_BASE: Command = Command {
    name: "pubsub",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::PubSub,
    arity: 2,
    flags: flag::PUBSUB | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::PubSub),
};

/// PUBSUB's subcommands.
pub static PUBSUB: &[Command] = &[
    Command {
        name: "pubsub|channels",
        summary: "List active channels",
        syntax: "[pattern]",
        since: "2.8.0",
        complexity: "O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively short channels and patterns)",
        arity: -2,
        ..PUBSUB_BASE
    },
    Command {
        name: "pubsub|help",
        summary: "Show helpful text about the different subcommands",
        since: "6.2.0",
        flags: flag::LOADING | flag::STALE,
        ..PUBSUB_BASE
    },
    Command {
        name: "pubsub|numpat",
        summary: "Get the count of unique patterns pattern subscriptions",
        since: "2.8.0",
        ..PUBSUB_BASE
    },
    Command {
        name: "pubsub|numsub",
        summary: "Get the count of subscribers for channels",
        syntax: "[channel [channel ...]]",
        since: "2.8.0",
        complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
        arity: -2,
        ..PUBSUB_BASE
    },
    Command {
        name: "pubsub|shardchannels",
        summary: "List active shard channels",
        syntax: "[pattern]",
        since: "7.0.0",
        complexity: "O(N) where N is the number of active shard channels, and assuming constant time pattern matching (relatively short shard channels).",
        arity: -2,
        ..PUBSUB_BASE
    },
    Command {
        name: "pubsub|shardnumsub",
        summary: "Get the count of subscribers for shard channels",
        syntax: "[shardchannel [shardchannel ...]]",
        since: "7.0.0",
        complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
        arity: -2,
        ..PUBSUB_BASE
    },
];
