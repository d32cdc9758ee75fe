//! The whole keyspace, whichever nodes hold it.
//!
//! Rows only: the server runs these commands, because they need connections, options or other nodes. Arity, flags
//! and key positions are Redis 7.0.15's: `oracle_tests` compares them with a real redis-server.

use crate::commands::spec::{Command, Group, Handler, Keys, NodeCommand, flag};

/// DBSIZE: how many keys the database has.
pub static DBSIZE: Command = Command {
    name: "dbsize",
    summary: "Return the number of keys in the selected database",
    syntax: "",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Server,
    arity: 1,
    flags: flag::READONLY | flag::FAST | flag::KEYSPACE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::DbSize),
};

/// KEYS: all names that match a glob pattern.
pub static KEYS: Command = Command {
    name: "keys",
    summary: "Find all keys matching the given pattern",
    syntax: "pattern",
    since: "1.0.0",
    complexity: "O(N) with N being the number of keys in the database, under the assumption that the key names in the database and the given pattern have limited length.",
    group: Group::Generic,
    arity: 2,
    flags: flag::READONLY | flag::DANGEROUS | flag::KEYSPACE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Keys),
};

/// RONDO.KEYS: the names of a node's share of some slots, or null when there are too many to look through at once.
pub static KEYS_OF_STRETCH: Command = Command {
    name: "rondo.keys",
    summary: "Tell another node the keys of some slots that match a pattern",
    syntax: "pattern from to",
    since: "0.1.0",
    complexity: "O(N) with N being the number of keys in these slots.",
    group: Group::Generic,
    arity: 4,
    flags: flag::READONLY | flag::INTERNAL,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::KeysOfStretch),
};

/// SCAN: a cursor and some names; cursor 0 is the end.
pub static SCAN: Command = Command {
    name: "scan",
    summary: "Incrementally iterate the keys space",
    syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
    since: "2.8.0",
    complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
    group: Group::Generic,
    arity: -2,
    flags: flag::READONLY | flag::KEYSPACE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Scan),
};

/// RANDOMKEY: some name, or null.
pub static RANDOMKEY: Command = Command {
    name: "randomkey",
    summary: "Return a random key from the keyspace",
    syntax: "",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 1,
    flags: flag::READONLY | flag::KEYSPACE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::RandomKey),
};

/// FLUSHALL: OK, and every database is empty.
pub static FLUSHALL: Command = Command {
    name: "flushall",
    summary: "Remove all keys from all databases",
    syntax: "[ASYNC|SYNC]",
    since: "1.0.0",
    complexity: "O(N) where N is the total number of keys in all databases",
    group: Group::Server,
    arity: -1,
    flags: flag::WRITE | flag::DANGEROUS | flag::KEYSPACE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::FlushAll),
};

/// FLUSHDB: OK, and the database is empty.
pub static FLUSHDB: Command = Command {
    name: "flushdb",
    summary: "Remove all keys from the current database",
    syntax: "[ASYNC|SYNC]",
    since: "1.0.0",
    complexity: "O(N) where N is the number of keys in the selected database",
    group: Group::Server,
    arity: -1,
    flags: flag::WRITE | flag::DANGEROUS | flag::KEYSPACE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::FlushDb),
};

/// SWAPDB: OK, and two databases have changed places.
pub static SWAPDB: Command = Command {
    name: "swapdb",
    summary: "Swaps two Redis databases",
    syntax: "index1 index2",
    since: "4.0.0",
    complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
    group: Group::Server,
    arity: 3,
    flags: flag::WRITE | flag::FAST | flag::DANGEROUS | flag::KEYSPACE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::SwapDb),
};

/// WAIT: how many replicas hold this connection's writes.
pub static WAIT: Command = Command {
    name: "wait",
    summary: "Wait for the synchronous replication of all the write commands sent in the context of the current connection",
    syntax: "numreplicas timeout",
    since: "3.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 3,
    flags: flag::NOSCRIPT,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Wait),
};
