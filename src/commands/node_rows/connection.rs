//! Connections: who is talking, in which protocol, to which database.
//!
//! Rows only: the server runs these commands, because they need connections, options or other nodes. Arity, flags
//! and key positions are Redis 7.0.15's: `oracle_tests` compares them with a real redis-server.

use crate::commands::spec::{Command, Group, Handler, Keys, NodeCommand, flag};

/// PING: PONG, or the message as a bulk string.
pub static PING: Command = Command {
    name: "ping",
    summary: "Ping the server",
    syntax: "[message]",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Connection,
    arity: -1,
    flags: flag::FAST,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Ping),
};

/// ECHO: the message.
pub static ECHO: Command = Command {
    name: "echo",
    summary: "Echo the given string",
    syntax: "message",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Connection,
    arity: 2,
    flags: flag::LOADING | flag::STALE | flag::FAST,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Echo),
};

/// HELLO: what this server is, as a map; the protocol is changed on the way.
pub static HELLO: Command = Command {
    name: "hello",
    summary: "Handshake with Redis",
    syntax: "[protover [AUTH username password] [SETNAME clientname]]",
    since: "6.0.0",
    complexity: "O(1)",
    group: Group::Connection,
    arity: -1,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Hello),
};

/// AUTH: OK, or WRONGPASS.
pub static AUTH: Command = Command {
    name: "auth",
    summary: "Authenticate to the server",
    syntax: "[username] password",
    since: "1.0.0",
    complexity: "O(N) where N is the number of passwords defined for the user",
    group: Group::Connection,
    arity: -2,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Auth),
};

/// SELECT: OK.
pub static SELECT: Command = Command {
    name: "select",
    summary: "Change the selected database for the current connection",
    syntax: "index",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Connection,
    arity: 2,
    flags: flag::LOADING | flag::STALE | flag::FAST,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Select),
};

/// QUIT: OK, and the connection closes.
pub static QUIT: Command = Command {
    name: "quit",
    summary: "Close the connection",
    syntax: "",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Connection,
    arity: -1,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Quit),
};

/// RESET: the connection is as if new.
pub static RESET: Command = Command {
    name: "reset",
    summary: "Reset the connection",
    syntax: "",
    since: "6.2.0",
    complexity: "O(1)",
    group: Group::Connection,
    arity: 1,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Reset),
};

/// CLIENT: about this connection and the others.
pub static CLIENT: Command = Command {
    name: "client",
    summary: "A container for client connection commands",
    syntax: "subcommand [argument ...]",
    since: "2.4.0",
    complexity: "Depends on subcommand.",
    group: Group::Connection,
    arity: -2,
    flags: 0,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Client),
};

/// COMMAND: what this table says, for programs.
pub static COMMAND: Command = Command {
    name: "command",
    summary: "Get array of Redis command details",
    syntax: "subcommand [argument ...]",
    since: "2.8.13",
    complexity: "O(N) where N is the total number of Redis commands",
    group: Group::Server,
    arity: -1,
    flags: flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Command),
};

/// READONLY: OK.
pub static READONLY: Command = Command {
    name: "readonly",
    summary: "Enables read queries for a connection to a cluster replica node",
    syntax: "",
    since: "3.0.0",
    complexity: "O(1)",
    group: Group::Cluster,
    arity: 1,
    flags: flag::LOADING | flag::STALE | flag::FAST,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::ClusterHint),
};

/// READWRITE: OK.
pub static READWRITE: Command = Command {
    name: "readwrite",
    summary: "Disables read queries for a connection to a cluster replica node",
    syntax: "",
    since: "3.0.0",
    complexity: "O(1)",
    group: Group::Cluster,
    arity: 1,
    flags: flag::LOADING | flag::STALE | flag::FAST,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::ClusterHint),
};

/// ASKING: OK.
pub static ASKING: Command = Command {
    name: "asking",
    summary: "Sent by cluster clients after an -ASK redirect",
    syntax: "",
    since: "3.0.0",
    complexity: "O(1)",
    group: Group::Cluster,
    arity: 1,
    flags: flag::FAST,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::ClusterHint),
};
