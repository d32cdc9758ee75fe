//! What COMMAND, CONFIG, LATENCY, MEMORY and SLOWLOG can do.
//!
//! Each row is a row like any other, under the name `parent|subcommand`; what it does not say is as in the first
//! lines of its list.

use crate::commands::memory;
use crate::commands::spec::{Command, Group, Handler, Keys, NodeCommand, flag};

const COMMAND_BASE: Command = Command {
    name: "command",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::Server,
    arity: 2,
    flags: flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Command),
};

/// COMMAND's subcommands.
pub static COMMAND: &[Command] = &[
    Command { name: "command|count", summary: "Get total number of Redis commands", since: "2.8.13", ..COMMAND_BASE },
    Command {
        name: "command|docs",
        summary: "Get array of specific Redis command documentation",
        syntax: "[command-name [command-name ...]]",
        since: "7.0.0",
        complexity: "O(N) where N is the number of commands to look up",
        arity: -2,
        ..COMMAND_BASE
    },
    Command {
        name: "command|getkeys",
        summary: "Extract keys given a full Redis command",
        syntax: "command [argument ...]",
        since: "2.8.13",
        complexity: "O(N) where N is the number of arguments to the command",
        arity: -4,
        ..COMMAND_BASE
    },
    Command {
        name: "command|getkeysandflags",
        summary: "Extract keys and access flags given a full Redis command",
        syntax: "command [argument ...]",
        since: "7.0.0",
        complexity: "O(N) where N is the number of arguments to the command",
        arity: -4,
        ..COMMAND_BASE
    },
    Command {
        name: "command|help",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        ..COMMAND_BASE
    },
    Command {
        name: "command|info",
        summary: "Get array of specific Redis command details, or all when no argument is given.",
        syntax: "[command-name [command-name ...]]",
        since: "2.8.13",
        complexity: "O(N) where N is the number of commands to look up",
        arity: -2,
        ..COMMAND_BASE
    },
    Command {
        name: "command|list",
        summary: "Get an array of Redis command names",
        syntax: "[FILTERBY <MODULE module-name|ACLCAT category|PATTERN pattern>]",
        since: "7.0.0",
        complexity: "O(N) where N is the total number of Redis commands",
        arity: -2,
        ..COMMAND_BASE
    },
];

const CONFIG_BASE: Command = Command {
    name: "config",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::Server,
    arity: 2,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Config),
};

/// CONFIG's subcommands.
pub static CONFIG: &[Command] = &[
    Command {
        name: "config|get",
        summary: "Get the values of configuration parameters",
        syntax: "parameter [parameter ...]",
        since: "2.0.0",
        complexity: "O(N) when N is the number of configuration parameters provided",
        arity: -3,
        ..CONFIG_BASE
    },
    Command {
        name: "config|help",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: flag::LOADING | flag::STALE,
        ..CONFIG_BASE
    },
    Command { name: "config|resetstat", summary: "Reset the stats returned by INFO", since: "2.0.0", ..CONFIG_BASE },
    Command {
        name: "config|rewrite",
        summary: "Rewrite the configuration file with the in memory configuration",
        since: "2.8.0",
        ..CONFIG_BASE
    },
    Command {
        name: "config|set",
        summary: "Set configuration parameters to the given values",
        syntax: "parameter value [parameter value ...]",
        since: "2.0.0",
        complexity: "O(N) when N is the number of configuration parameters provided",
        arity: -4,
        ..CONFIG_BASE
    },
];

const LATENCY_BASE: Command = Command {
    name: "latency",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::Server,
    arity: 2,
    flags: flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Latency),
};

/// LATENCY's subcommands.
pub static LATENCY: &[Command] = &[
    Command {
        name: "latency|doctor",
        summary: "Return a human readable latency analysis report.",
        since: "2.8.13",
        ..LATENCY_BASE
    },
    Command {
        name: "latency|graph",
        summary: "Return a latency graph for the event.",
        syntax: "event",
        since: "2.8.13",
        arity: 3,
        ..LATENCY_BASE
    },
    Command {
        name: "latency|help",
        summary: "Show helpful text about the different subcommands.",
        since: "2.8.13",
        flags: flag::LOADING | flag::STALE,
        ..LATENCY_BASE
    },
    Command {
        name: "latency|histogram",
        summary: "Return the cumulative distribution of latencies of a subset of commands or all.",
        syntax: "[command [command ...]]",
        since: "7.0.0",
        complexity: "O(N) where N is the number of commands with latency information being retrieved.",
        arity: -2,
        ..LATENCY_BASE
    },
    Command {
        name: "latency|history",
        summary: "Return timestamp-latency samples for the event.",
        syntax: "event",
        since: "2.8.13",
        arity: 3,
        ..LATENCY_BASE
    },
    Command {
        name: "latency|latest",
        summary: "Return the latest latency samples for all events.",
        since: "2.8.13",
        ..LATENCY_BASE
    },
    Command {
        name: "latency|reset",
        summary: "Reset latency data for one or more events.",
        syntax: "[event [event ...]]",
        since: "2.8.13",
        arity: -2,
        ..LATENCY_BASE
    },
];

const MEMORY_BASE: Command = Command {
    name: "memory",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::Server,
    arity: 2,
    flags: 0,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Memory),
};

/// MEMORY's subcommands.
pub static MEMORY: &[Command] = &[
    Command { name: "memory|doctor", summary: "Outputs memory problems report", since: "4.0.0", ..MEMORY_BASE },
    Command {
        name: "memory|help",
        summary: "Show helpful text about the different subcommands",
        since: "4.0.0",
        flags: flag::LOADING | flag::STALE,
        ..MEMORY_BASE
    },
    Command {
        name: "memory|malloc-stats",
        summary: "Show allocator internal stats",
        since: "4.0.0",
        complexity: "Depends on how much memory is allocated, could be slow",
        ..MEMORY_BASE
    },
    Command {
        name: "memory|purge",
        summary: "Ask the allocator to release memory",
        since: "4.0.0",
        complexity: "Depends on how much memory is allocated, could be slow",
        ..MEMORY_BASE
    },
    Command { name: "memory|stats", summary: "Show memory usage details", since: "4.0.0", ..MEMORY_BASE },
    Command {
        name: "memory|usage",
        summary: "Estimate the memory usage of a key",
        syntax: "key [SAMPLES count]",
        since: "4.0.0",
        complexity: "O(N) where N is the number of samples.",
        arity: -3,
        flags: flag::READONLY,
        keys: Keys::Range { first: 2, last: 2, step: 1 },
        handler: Handler::Keys(memory::usage),
        ..MEMORY_BASE
    },
];

const SLOWLOG_BASE: Command = Command {
    name: "slowlog",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::Server,
    arity: 2,
    flags: flag::ADMIN | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::SlowLog),
};

/// SLOWLOG's subcommands.
pub static SLOWLOG: &[Command] = &[
    Command {
        name: "slowlog|get",
        summary: "Get the slow log's entries",
        syntax: "[count]",
        since: "2.2.12",
        complexity: "O(N) where N is the number of entries returned",
        arity: -2,
        ..SLOWLOG_BASE
    },
    Command {
        name: "slowlog|help",
        summary: "Show helpful text about the different subcommands",
        since: "6.2.0",
        flags: flag::LOADING | flag::STALE,
        ..SLOWLOG_BASE
    },
    Command { name: "slowlog|len", summary: "Get the slow log's length", since: "2.2.12", ..SLOWLOG_BASE },
    Command {
        name: "slowlog|reset",
        summary: "Clear all entries from the slow log",
        since: "2.2.12",
        complexity: "O(N) where N is the number of entries in the slowlog",
        ..SLOWLOG_BASE
    },
];
