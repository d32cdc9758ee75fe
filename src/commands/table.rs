//! The one table of commands, and how a name is looked up in it.
//!
//! A lookup hashes at most [`NAME_BYTES_MAX`] bytes, lower-cased on the way, and compares once.

use std::sync::OnceLock;

use hashbrown::HashTable;

use crate::commands::node_rows::{cluster, connection, keyspace, pubsub, server, transactions};
use crate::commands::spec::{Command, flag};
use crate::commands::{
    bitfield, bitmap, counter, exchange, expiry, generic, hash, hash_number, lcs, random, scan, set, set_algebra,
    string, substring,
};

/// The longest command name, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// Every command, in the order of the manual's chapters.
pub static COMMANDS: &[&Command] = &[
    // Keys of any type.
    &generic::DEL,
    &generic::UNLINK,
    &generic::EXISTS,
    &generic::TOUCH,
    &generic::TYPE,
    &generic::RENAME,
    &generic::RENAMENX,
    &generic::COPY,
    &generic::MOVE,
    &generic::OBJECT,
    &expiry::EXPIRE,
    &expiry::PEXPIRE,
    &expiry::EXPIREAT,
    &expiry::PEXPIREAT,
    &expiry::PERSIST,
    &expiry::TTL,
    &expiry::PTTL,
    &expiry::EXPIRETIME,
    &expiry::PEXPIRETIME,
    // Strings.
    &string::GET,
    &string::SET,
    &string::SETNX,
    &string::SETEX,
    &string::PSETEX,
    &string::GETSET,
    &string::GETDEL,
    &string::GETEX,
    &string::MGET,
    &string::MSET,
    &string::MSETNX,
    &substring::APPEND,
    &substring::STRLEN,
    &substring::GETRANGE,
    &substring::SUBSTR,
    &substring::SETRANGE,
    &lcs::LCS,
    &counter::INCR,
    &counter::DECR,
    &counter::INCRBY,
    &counter::DECRBY,
    &counter::INCRBYFLOAT,
    // Bits.
    &bitmap::SETBIT,
    &bitmap::GETBIT,
    &bitmap::BITCOUNT,
    &bitmap::BITPOS,
    &bitmap::BITOP,
    &bitfield::BITFIELD,
    &bitfield::BITFIELD_RO,
    // Hashes.
    &hash::HSET,
    &hash::HSETNX,
    &hash::HMSET,
    &hash::HGET,
    &hash::HMGET,
    &hash::HGETALL,
    &hash::HDEL,
    &hash::HEXISTS,
    &hash::HLEN,
    &hash::HSTRLEN,
    &hash::HKEYS,
    &hash::HVALS,
    &hash_number::HINCRBY,
    &hash_number::HINCRBYFLOAT,
    &random::HRANDFIELD,
    &scan::HSCAN,
    // Sets.
    &set::SADD,
    &set::SREM,
    &set::SISMEMBER,
    &set::SMISMEMBER,
    &set::SMEMBERS,
    &set::SCARD,
    &set::SMOVE,
    &random::SRANDMEMBER,
    &random::SPOP,
    &scan::SSCAN,
    &set_algebra::SINTER,
    &set_algebra::SINTERSTORE,
    &set_algebra::SINTERCARD,
    &set_algebra::SUNION,
    &set_algebra::SUNIONSTORE,
    &set_algebra::SDIFF,
    &set_algebra::SDIFFSTORE,
    // Connections.
    &connection::PING,
    &connection::ECHO,
    &connection::HELLO,
    &connection::AUTH,
    &connection::SELECT,
    &connection::QUIT,
    &connection::RESET,
    &connection::CLIENT,
    &connection::COMMAND,
    &connection::READONLY,
    &connection::READWRITE,
    &connection::ASKING,
    // The whole keyspace.
    &keyspace::DBSIZE,
    &keyspace::KEYS,
    &keyspace::SCAN,
    &keyspace::RANDOMKEY,
    &keyspace::FLUSHALL,
    &keyspace::FLUSHDB,
    &keyspace::SWAPDB,
    &keyspace::WAIT,
    // The node.
    &server::CONFIG,
    &server::INFO,
    &server::TIME,
    &server::ROLE,
    &server::SHUTDOWN,
    &server::SLOWLOG,
    &server::MONITOR,
    &server::LATENCY,
    &server::MEMORY,
    &server::DEBUG,
    &server::SAVE,
    &server::BGSAVE,
    &server::BGREWRITEAOF,
    &server::LASTSAVE,
    // Transactions.
    &transactions::MULTI,
    &transactions::EXEC,
    &transactions::DISCARD,
    &transactions::WATCH,
    &transactions::UNWATCH,
    // Publish and subscribe.
    &pubsub::SUBSCRIBE,
    &pubsub::PSUBSCRIBE,
    &pubsub::SSUBSCRIBE,
    &pubsub::UNSUBSCRIBE,
    &pubsub::PUNSUBSCRIBE,
    &pubsub::SUNSUBSCRIBE,
    &pubsub::PUBLISH,
    &pubsub::SPUBLISH,
    &pubsub::PUBSUB,
    // The cluster.
    &cluster::CLUSTER,
    &cluster::SENTINEL,
    &cluster::FORGET,
    &cluster::META,
    &cluster::CONSISTENCY,
    // Between nodes.
    &exchange::FETCH,
    &exchange::APPLY,
];

/// The commands that clients may send.
pub fn listed() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().copied().filter(|command| !command.has(flag::INTERNAL))
}

/// A command's place in [`COMMANDS`]: what metrics are indexed by.
pub type CommandIndex = usize;

/// The command called `name`, in any case, and its place in the table.
#[inline]
pub fn find(name: &[u8]) -> Option<(CommandIndex, &'static Command)> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let is_it = |at: &CommandIndex| COMMANDS.get(*at).is_some_and(|it| name.eq_ignore_ascii_case(it.name.as_bytes()));
    let index = *index().find(hash(name), is_it)?;
    COMMANDS.get(index).map(|command| (index, *command))
}

fn index() -> &'static HashTable<CommandIndex> {
    static INDEX: OnceLock<HashTable<CommandIndex>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = HashTable::with_capacity(COMMANDS.len());
        let hash_at = |at: &CommandIndex| COMMANDS.get(*at).map_or(0, |command| hash(command.name.as_bytes()));
        for at in 0..COMMANDS.len() {
            index.insert_unique(hash_at(&at), at, hash_at);
        }
        index
    })
}

/// The bytes, letters in lower case, one above the other, spread by a multiplication. Names are ours and few, so nothing
/// a client sends can make them collide.
#[inline]
fn hash(name: &[u8]) -> u64 {
    let folded = name.iter().fold(name.len() as u64, |hash, byte| hash.rotate_left(8) ^ u64::from(byte | 0x20));
    folded.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::spec::Keys;
    use crate::commands::testing::Node;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_is_found_in_any_case_and_only_once() {
        let names: BTreeSet<_> = COMMANDS.iter().map(|command| command.name).collect();
        assert_eq!(names.len(), COMMANDS.len());
        for (at, command) in COMMANDS.iter().enumerate() {
            assert_eq!(find(command.name.to_uppercase().as_bytes()).map(|it| it.0), Some(at));
            assert!(command.name.len() <= NAME_BYTES_MAX && command.name == command.name.to_lowercase());
        }
        assert!(find(b"no such command").is_none() && find(&[b'x'; 100]).is_none() && find(b"").is_none());
    }

    /// Such an error needs no other replica's word (`server::readiness`); any other reply does.
    #[test]
    fn who_errs_about_arguments_alone_has_looked_for_no_key() {
        let mut node = Node::new();
        node.run("SADD s a");
        for line in
            ["SETBIT k -1 1", "SETBIT k 1 2", "SET k v EX abc", "SET k v NX XX", "EXPIRE k soon", "GETRANGE k a b"]
        {
            assert!(node.run(line).starts_with('-') && !node.has_looked, "{line}");
        }
        for line in
            ["GET k", "GET s", "INCR s", "SETNX s v", "EXISTS k", "TTL k", "SISMEMBER k a", "DEL k", "PERSIST k"]
        {
            node.run(line);
            assert!(node.has_looked, "{line}");
        }
    }

    #[test]
    fn rows_agree_with_themselves() {
        for command in COMMANDS {
            let name = command.name;
            assert!(!(command.has(flag::WRITE) && command.has(flag::READONLY)), "{name}");
            assert!(!command.summary.is_empty() && !command.since.is_empty() && command.arity != 0, "{name}");
            if let Keys::Range { first, step, .. } = command.keys {
                assert!(first > 0 && step > 0 && command.arity.unsigned_abs() >= first, "{name}");
            }
        }
    }
}
