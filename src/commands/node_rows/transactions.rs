//! MULTI and its family.
//!
//! Rows only: the server runs these commands, because they need connections, options or other nodes. Arity, flags
//! and key positions are Redis 7.0.15's: `oracle_tests` compares them with a real redis-server.

use crate::commands::spec::{Command, Group, Handler, Keys, NodeCommand, flag};

/// MULTI: OK; what follows is queued until EXEC.
pub static MULTI: Command = Command {
    name: "multi",
    summary: "Mark the start of a transaction block",
    syntax: "",
    since: "1.2.0",
    complexity: "O(1)",
    group: Group::Transactions,
    arity: 1,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::ALLOW_BUSY,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Multi),
};

/// EXEC: the replies of what was queued, or null when a watched key changed.
pub static EXEC: Command = Command {
    name: "exec",
    summary: "Execute all commands issued after MULTI",
    syntax: "",
    since: "1.2.0",
    complexity: "Depends on commands in the transaction",
    group: Group::Transactions,
    arity: 1,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::SKIP_SLOWLOG,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Exec),
};

/// DISCARD: OK; the queue is forgotten.
pub static DISCARD: Command = Command {
    name: "discard",
    summary: "Discard all commands issued after MULTI",
    syntax: "",
    since: "2.0.0",
    complexity: "O(N), when N is the number of queued commands",
    group: Group::Transactions,
    arity: 1,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::ALLOW_BUSY,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Discard),
};

/// WATCH: OK; EXEC fails when one of these keys changes before it.
pub static WATCH: Command = Command {
    name: "watch",
    summary: "Watch the given keys to determine execution of the MULTI/EXEC block",
    syntax: "key [key ...]",
    since: "2.2.0",
    complexity: "O(1) for every key.",
    group: Group::Transactions,
    arity: -2,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::ALLOW_BUSY,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::Node(NodeCommand::Watch),
};

/// UNWATCH: OK.
pub static UNWATCH: Command = Command {
    name: "unwatch",
    summary: "Forget about all watched keys",
    syntax: "",
    since: "2.2.0",
    complexity: "O(1)",
    group: Group::Transactions,
    arity: 1,
    flags: flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::ALLOW_BUSY,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Unwatch),
};
