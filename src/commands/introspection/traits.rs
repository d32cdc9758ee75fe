//! What COMMAND INFO says beyond the rows: what happens to each key, and hints for clients that route by themselves.
//!
//! The words are those of Redis 7.0.15, compared with a real one in `oracle_tests`. Commands with the same traits share
//! a line.

/// What happens to the keys of each of these commands; a second text is for the keys behind the first one.
pub const KEY_FLAGS: &[(&[&str], &[&str])] = &[
    (
        &["RO access"],
        &[
            "bitcount",
            "bitfield_ro",
            "bitpos",
            "expiretime",
            "get",
            "getbit",
            "getrange",
            "hget",
            "hgetall",
            "hkeys",
            "hmget",
            "hrandfield",
            "hscan",
            "hvals",
            "lcs",
            "mget",
            "pexpiretime",
            "pttl",
            "sdiff",
            "sinter",
            "sintercard",
            "smembers",
            "smismember",
            "srandmember",
            "sscan",
            "substr",
            "sunion",
            "ttl",
        ],
    ),
    (
        &["RO"],
        &[
            "exists",
            "hexists",
            "hlen",
            "hstrlen",
            "memory|usage",
            "object|encoding",
            "object|freq",
            "object|idletime",
            "object|refcount",
            "scard",
            "sismember",
            "strlen",
            "touch",
            "type",
            "watch",
        ],
    ),
    (
        &["RW access update"],
        &[
            "decr",
            "decrby",
            "getex",
            "getset",
            "hincrby",
            "hincrbyfloat",
            "incr",
            "incrby",
            "incrbyfloat",
            "move",
            "setbit",
        ],
    ),
    (&["RW update"], &["expire", "expireat", "hmset", "hset", "persist", "pexpire", "pexpireat", "setrange"]),
    (&["OW update"], &["mset", "psetex", "setex"]),
    (&["OW update", "RO access"], &["bitop", "sdiffstore", "sunionstore"]),
    (&["RW insert"], &["append", "hsetnx", "sadd"]),
    (&["not_key"], &["spublish", "ssubscribe", "sunsubscribe"]),
    (&["OW insert"], &["msetnx", "setnx"]),
    (&["RM delete"], &["del", "unlink"]),
    (&["RW access delete"], &["getdel", "spop"]),
    (&["RW access update variable_flags"], &["bitfield", "set"]),
    (&["RW delete"], &["hdel", "srem"]),
    (&["RO access", "OW update"], &["copy"]),
    (&["RW access delete", "OW insert"], &["renamenx"]),
    (&["RW access delete", "OW update"], &["rename"]),
    (&["RW access delete", "RW insert"], &["smove"]),
    (&["RW update", "RO access"], &["sinterstore"]),
];

/// What is to be noted of a command's only key specification.
pub const NOTES: &[(&[&str], &[&str])] = &[
    (&["This command allows both access and modification of the key"], &["bitfield"]),
    (&["RW and ACCESS due to the optional `GET` argument"], &["set"]),
    (&["RW and UPDATE because it changes the TTL"], &["getex"]),
];

/// Hints on answers (their order, their randomness) and on how a client of a cluster should spread the command.
pub const TIPS: &[(&[&str], &[&str])] = &[
    (
        &["nondeterministic_output"],
        &[
            "client|info",
            "client|list",
            "cluster|getkeysinslot",
            "cluster|info",
            "cluster|links",
            "cluster|nodes",
            "cluster|replicas",
            "cluster|shards",
            "cluster|slaves",
            "cluster|slots",
            "hrandfield",
            "hscan",
            "lastsave",
            "object|encoding",
            "object|freq",
            "object|idletime",
            "object|refcount",
            "pttl",
            "spop",
            "srandmember",
            "sscan",
            "time",
            "ttl",
        ],
    ),
    (
        &["nondeterministic_output_order"],
        &[
            "command",
            "command|docs",
            "command|info",
            "command|list",
            "hgetall",
            "hkeys",
            "hvals",
            "sdiff",
            "sinter",
            "smembers",
            "sunion",
        ],
    ),
    (
        &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        &["latency|doctor", "latency|graph", "latency|histogram", "latency|history", "latency|latest"],
    ),
    (
        &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        &["info", "memory|doctor", "memory|malloc-stats", "memory|stats"],
    ),
    (&["request_policy:all_shards", "response_policy:all_succeeded"], &["flushall", "flushdb", "memory|purge", "ping"]),
    (&["request_policy:multi_shard", "response_policy:agg_sum"], &["del", "exists", "touch", "unlink"]),
    (&["request_policy:all_nodes", "response_policy:all_succeeded"], &["config|set", "latency|reset", "slowlog|reset"]),
    (&["nondeterministic_output", "request_policy:special"], &["scan"]),
    (&["request_policy:all_nodes", "nondeterministic_output"], &["slowlog|get"]),
    (&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"], &["slowlog|len"]),
    (&["request_policy:all_shards", "nondeterministic_output"], &["randomkey"]),
    (&["request_policy:all_shards", "nondeterministic_output_order"], &["keys"]),
    (&["request_policy:all_shards", "response_policy:agg_min"], &["wait"]),
    (&["request_policy:all_shards", "response_policy:agg_sum"], &["dbsize"]),
    (&["request_policy:multi_shard"], &["mget"]),
    (&["request_policy:multi_shard", "response_policy:agg_min"], &["msetnx"]),
    (&["request_policy:multi_shard", "response_policy:all_succeeded"], &["mset"]),
];

/// Commands that Redis advises against: since when, and what to use instead.
pub const DEPRECATED: &[(&str, &str, &str)] = &[
    ("getset", "6.2.0", "`SET` with the `!GET` argument"),
    ("hmset", "4.0.0", "`HSET` with multiple field-value pairs"),
    ("substr", "2.0.0", "`GETRANGE`"),
];

/// The traits that `table` lists for the command called `name`; none for commands it does not list.
pub fn traits_of(table: &'static [(&[&str], &[&str])], name: &str) -> &'static [&'static str] {
    table.iter().find(|(_, names)| names.contains(&name)).map(|(traits, _)| *traits).unwrap_or_default()
}
