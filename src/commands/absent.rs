//! The commands of Redis 7.0 that rondo does not have, and what it says to whoever sends one.
//!
//! To a program such a command is an unknown one: COMMAND does not list it, and the error begins as Redis's does for a
//! name that it does not know, which is what client libraries look at. Only the person who reads it is told more.

/// What is absent, in words that end a sentence, and the names that belong to it, in lower case.
const FAMILIES: &[(&str, &str)] = &[
    (
        "rondo has no lists yet",
        "blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange lrem lset \
         ltrim rpop rpoplpush rpush rpushx",
    ),
    (
        "rondo has no sorted sets yet",
        "bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount \
         zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem \
         zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan \
         zscore zunion zunionstore",
    ),
    (
        "rondo has no streams yet",
        "xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim",
    ),
    (
        "rondo has no geo commands yet",
        "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch \
         geosearchstore",
    ),
    ("rondo has no HyperLogLog yet", "pfadd pfcount pfdebug pfmerge pfselftest"),
    ("rondo runs no scripts yet", "eval eval_ro evalsha evalsha_ro script"),
    ("rondo runs no functions yet", "fcall fcall_ro function"),
    ("rondo does not sort yet", "sort sort_ro"),
    ("rondo gives out and takes in no serialized values yet", "dump migrate restore restore-asking"),
    ("rondo knows no users yet, only requirepass", "acl"),
    ("rondo loads no modules", "module"),
    (
        "rondo has no masters and replicas, a node joins others by its option join",
        "failover psync replconf replicaof slaveof sync",
    ),
    ("rondo draws nothing", "lolwut"),
];

/// Why rondo does not know `name`, in any case, if Redis does: words that end a sentence.
pub fn reason(name: &[u8]) -> Option<&'static str> {
    let is_of = |names: &str| names.split(' ').any(|of_redis| of_redis.as_bytes().eq_ignore_ascii_case(name));
    FAMILIES.iter().find(|(_, names)| is_of(names)).map(|(reason, _)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::oracle::Oracle;
    use crate::commands::table;
    use crate::protocol::client::Value;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_of_redis_is_either_here_or_absent() {
        let Some(mut oracle) = Oracle::start() else { return };
        let Value::Array(listed) = oracle.run(&["COMMAND", "LIST"]) else { panic!("no list") };
        let name = |value: &Value| match value {
            Value::Bulk(bytes) | Value::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("not a name: {other:?}"),
        };
        let of_redis: BTreeSet<String> = listed.iter().map(name).filter(|name| !name.contains('|')).collect();
        for name in &of_redis {
            assert!(table::find(name.as_bytes()).is_some() != reason(name.as_bytes()).is_some(), "{name}");
        }
        let absent: BTreeSet<&str> = FAMILIES.iter().flat_map(|(_, names)| names.split(' ')).collect();
        assert!(absent.iter().all(|name| of_redis.contains(*name)), "{absent:?}");
        assert_eq!(reason(b"LPush"), Some("rondo has no lists yet"));
        assert_eq!(reason(b"nosuch"), None);
    }
}
