//! The one table of commands, and how a name is looked up in it.
//!
//! A lookup hashes at most [`NAME_BYTES_MAX`] bytes, lower-cased on the way, and compares once.

use std::sync::LazyLock;

use crate::commands::node_rows::{cluster, connection, keyspace, pubsub, server, transactions};
use crate::commands::spec::{Command, flag};
use crate::commands::subcommands::{self, objects};
use crate::commands::{
    bitfield, bitmap, counter, exchange, expiry, generic, hash, hash_number, lcs, random, scan, set, set_algebra,
    string, substring,
};
use crate::protocol::Args;

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
    &objects::FAMILY,
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
    &cluster::FOUND,
    &cluster::META,
    &cluster::CONSISTENCY,
    // Between nodes.
    &exchange::FETCH,
    &exchange::APPLY,
    &exchange::GROW,
    &keyspace::KEYS_OF_STRETCH,
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
    let (index, folded) = (&*INDEX, folded(name));
    for bucket in buckets_of(folded) {
        let found = index.get(bucket)?;
        // An empty bucket ends the search.
        let command = COMMANDS.get(usize::from(found.at))?;
        if found.folded == folded && (name.len() <= FOLDED_BYTES_MAX || is_called(command, name)) {
            return Some((usize::from(found.at), *command));
        }
    }
    None
}

/// Where a request of `parent`, whose own figures are at `at`, is counted: behind all commands if it asks for a
/// subcommand, nowhere if there is no such.
#[inline]
pub fn counted_at(at: CommandIndex, parent: &Command, args: Args<'_>) -> Option<CommandIndex> {
    match args.get(1) {
        Some(name) if parent.may_be_family() && !subcommands::of(parent.name).is_empty() => {
            subcommands::place(parent.name, name).map(|place| COMMANDS.len() + place)
        }
        _ => Some(at),
    }
}

/// The names under which requests are counted.
pub fn counted_names() -> Vec<&'static str> {
    COMMANDS.iter().map(|row| row.name).chain(subcommands::all().map(|row| row.name)).collect()
}

/// Whether that is the command's name, in any case: names in the table are in lower case.
#[inline]
fn is_called(command: &Command, name: &[u8]) -> bool {
    name.len() == command.name.len() && name.iter().zip(command.name.bytes()).all(|(a, b)| a.to_ascii_lowercase() == b)
}

/// Buckets of [`INDEX`]: several for each command, so that most names are in the first that they are looked for in.
const BUCKETS: usize = 1_024;
const _: () = assert!(COMMANDS.len() * 2 < BUCKETS);
/// What an empty bucket holds: the place of no command.
const EMPTY: u16 = u16::MAX;

/// A place in [`INDEX`].
#[derive(Clone, Copy)]
struct Bucket {
    /// The command's name, [`folded`].
    folded: u64,
    /// Its place in the table, or [`EMPTY`].
    at: u16,
}

/// The commands, each in the first bucket of its name that was free. Of our own, because every request is looked up and
/// a map for any key costs twice as much.
static INDEX: LazyLock<[Bucket; BUCKETS]> = LazyLock::new(|| {
    let mut index = [Bucket { folded: 0, at: EMPTY }; BUCKETS];
    for (at, command) in COMMANDS.iter().enumerate() {
        let folded = folded(command.name.as_bytes());
        let free = buckets_of(folded).find(|bucket| index.get(*bucket).is_some_and(|it| it.at == EMPTY));
        if let Some(bucket) = free.and_then(|bucket| index.get_mut(bucket)) {
            *bucket = Bucket { folded, at: at as u16 };
        }
    }
    index
});

/// Up to this length, and where the table has letters only, [`folded`] tells names apart in all but case.
const FOLDED_BYTES_MAX: usize = 8;

/// The length and the bytes of a name, letters in lower case, one above the other.
#[inline]
fn folded(name: &[u8]) -> u64 {
    name.iter().fold(name.len() as u64, |folded, byte| folded.rotate_left(8) ^ u64::from(byte | 0x20))
}

/// The buckets in which a name is looked for, in this order: what it folds to, spread by a multiplication, and all that
/// follow. Names are ours and few, so nothing a client sends can make them collide.
#[inline]
fn buckets_of(folded: u64) -> impl Iterator<Item = usize> + use<> {
    let first = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (usize::BITS - BUCKETS.ilog2());
    (first..first + BUCKETS).map(|bucket| bucket % BUCKETS)
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
            let is_told_apart = command.name.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(
                is_told_apart || command.name.len() > FOLDED_BYTES_MAX,
                "{}: folds to what others fold to",
                command.name
            );
        }
        assert!(find(b"no such command").is_none() && find(&[b'x'; 100]).is_none() && find(b"").is_none());
    }

    /// With one byte changed, left out or put in, a name is no command's, or another one's that is written so.
    #[test]
    fn nothing_but_its_name_finds_a_command() {
        for command in COMMANDS {
            let name = command.name.as_bytes();
            let changed = (0..name.len()).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte)));
            for (at, byte) in changed {
                let (before, rest) = name.split_at(at);
                let behind = rest.get(1..).unwrap_or_default();
                for other in
                    [[before, &[byte], behind].concat(), [before, &[byte], rest].concat(), [before, behind].concat()]
                {
                    let meant = COMMANDS.iter().position(|it| it.name.as_bytes().eq_ignore_ascii_case(&other));
                    assert_eq!(find(&other).map(|found| found.0), meant, "{}", other.escape_ascii());
                }
            }
        }
    }

    /// Such an error needs no other replica's word (`server::request::readiness`); any other reply does.
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
