//! What OBJECT can do.

use crate::commands::generic::object;
use crate::commands::spec::{Command, Group, Handler, Keys, flag};

const OBJECT_BASE: Command = Command {
    name: "object",
    summary: "",
    syntax: "key",
    since: "2.2.3",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 3,
    flags: flag::READONLY | flag::KEYSPACE,
    keys: Keys::Range { first: 2, last: 2, step: 1 },
    handler: Handler::Keys(object),
};

/// OBJECT's subcommands.
pub static OBJECT: &[Command] = &[
    Command { name: "object|encoding", summary: "Inspect the internal encoding of a Redis object", ..OBJECT_BASE },
    Command {
        name: "object|freq",
        summary: "Get the logarithmic access frequency counter of a Redis object",
        since: "4.0.0",
        ..OBJECT_BASE
    },
    Command {
        name: "object|help",
        summary: "Show helpful text about the different subcommands",
        syntax: "",
        since: "6.2.0",
        arity: 2,
        flags: flag::LOADING | flag::STALE | flag::KEYSPACE,
        keys: Keys::None,
        ..OBJECT_BASE
    },
    Command { name: "object|idletime", summary: "Get the time since a Redis object was last accessed", ..OBJECT_BASE },
    Command { name: "object|refcount", summary: "Get the number of references to the value of the key", ..OBJECT_BASE },
];
