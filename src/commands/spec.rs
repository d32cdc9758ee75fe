//! The shape of a command's row, and what its function is given.
//!
//! Flags and key positions are those that COMMAND reports in Redis 7.0.15, so that smart clients route alike.

use crate::base::ids::Slot;
use crate::base::metrics::Class;
use crate::commands::CommandError;
pub use crate::commands::node_command::NodeCommand;
use crate::protocol::{Args, REPLY_BYTES_MAX, Reply, parse_i64};
use crate::store::mutation::Mutation;
use crate::store::{Keyspace, ValueRef};

/// A command's row in the table.
#[derive(Debug)]
pub struct Command {
    /// The name in lower case.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Its arguments, as the manual spells them: `key [NX|XX] value`.
    pub syntax: &'static str,
    /// The Redis version that introduced it; for our own commands the rondo version.
    pub since: &'static str,
    /// Its cost, as COMMAND DOCS says it.
    pub complexity: &'static str,
    /// Which part of the manual it belongs to.
    pub group: Group,
    /// Arguments with the name: exactly this many, or at least as many as the negative number says.
    pub arity: i8,
    /// [`flag`] bits.
    pub flags: u32,
    /// Where its keys are.
    pub keys: Keys,
    /// How it is run.
    pub handler: Handler,
}

/// What COMMAND calls flags, and what the server checks before running a command.
pub mod flag {
    /// May change a key.
    pub const WRITE: u32 = 1 << 0;
    /// Reads keys and changes none.
    pub const READONLY: u32 = 1 << 1;
    /// May need memory: refused when memory is full and nothing may be evicted.
    pub const DENYOOM: u32 = 1 << 2;
    /// For the operator.
    pub const ADMIN: u32 = 1 << 3;
    /// Of the publish-subscribe family.
    pub const PUBSUB: u32 = 1 << 4;
    /// Not allowed from scripts.
    pub const NOSCRIPT: u32 = 1 << 5;
    /// Runs while a node loads its data.
    pub const LOADING: u32 = 1 << 6;
    /// Runs on a stale replica.
    pub const STALE: u32 = 1 << 7;
    /// Hidden from MONITOR.
    pub const SKIP_MONITOR: u32 = 1 << 8;
    /// Hidden from the slow log.
    pub const SKIP_SLOWLOG: u32 = 1 << 9;
    /// Constant or logarithmic time.
    pub const FAST: u32 = 1 << 10;
    /// Allowed before authentication.
    pub const NO_AUTH: u32 = 1 << 11;
    /// Its keys depend on its arguments in a way that key positions cannot say.
    pub const MOVABLEKEYS: u32 = 1 << 13;
    /// Not allowed between MULTI and EXEC.
    pub const NO_MULTI: u32 = 1 << 14;
    /// ACL category @dangerous, which no flag implies.
    pub const DANGEROUS: u32 = 1 << 15;
    /// ACL category @keyspace.
    pub const KEYSPACE: u32 = 1 << 16;
    /// Does not run while a replica of Redis loads in the background; kept for COMMAND.
    pub const NO_ASYNC_LOADING: u32 = 1 << 17;
    /// Runs while a script is stuck.
    pub const ALLOW_BUSY: u32 = 1 << 18;
    /// A write to CLIENT PAUSE, though it changes no key; COMMAND does not tell.
    pub const MAY_REPLICATE: u32 = 1 << 19;
    /// Between nodes only: a client that sends it is told that there is no such command.
    pub const INTERNAL: u32 = 1 << 20;
    /// Run twice in a row, a write leaves and answers what it does when it is run once: see [`Command::is_repeatable`].
    ///
    /// [`Command::is_repeatable`]: super::Command::is_repeatable
    pub const REPEATABLE: u32 = 1 << 21;
    /// A write that looks keys up as a reader does, too: what it finds there counts as a hit, what not as a miss.
    pub const READS_TOO: u32 = 1 << 22;
    /// May look at its keys in another database than the one that is selected, whose number is one of its words.
    pub const OTHER_DATABASE: u32 = 1 << 23;
    /// What it costs is bounded neither by its words nor by its reply: a node that says nothing may be busy with it.
    pub const LONG: u32 = 1 << 24;

    /// The flags that COMMAND names, in the order in which Redis lists them.
    pub const NAMES: [(u32, &str); 16] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_MONITOR, "skip_monitor"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (MOVABLEKEYS, "movablekeys"),
        (ALLOW_BUSY, "allow_busy"),
    ];
}

/// A chapter of the manual; also an ACL category.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// Strings and numbers.
    String,
    /// Bits in strings.
    Bitmap,
    /// Hashes.
    Hash,
    /// Sets.
    Set,
    /// Publish and subscribe.
    PubSub,
    /// MULTI and its family.
    Transactions,
    /// Connections.
    Connection,
    /// The node.
    Server,
    /// The cluster.
    Cluster,
    /// Sentinel, for clients that ask one for the way.
    Sentinel,
}

/// Where a command's keys are among its arguments.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    /// It has none.
    None,
    /// From `first` to `last` (counted from the end when negative) in steps of `step`, as COMMAND reports it.
    Range { first: u8, last: i8, step: u8 },
    /// Argument `at` says how many keys follow it.
    Counted { at: u8 },
    /// Subcommands: the key is argument `at`, if the subcommand has one.
    Subcommand { at: u8 },
}

/// The keys of most commands: the first argument.
pub const KEY: Keys = Keys::Range { first: 1, last: 1, step: 1 };

/// What runs a command on its locked keys.
pub type KeysFunction = fn(&mut Cx<'_, '_>) -> Result<(), CommandError>;

/// How a command is run.
#[derive(Clone, Copy)]
pub enum Handler {
    /// On the locked slots of its keys.
    Keys(KeysFunction),
    /// The same, and it may be cut into one part a key, run wherever each key lives.
    FanOut(KeysFunction, Gather),
    /// By the server, which knows connections, options and the cluster.
    Node(NodeCommand),
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Handler::Keys(_) => f.write_str("Keys"),
            Handler::FanOut(_, gather) => write!(f, "FanOut({gather:?})"),
            Handler::Node(command) => write!(f, "Node({command:?})"),
        }
    }
}

/// How the parts of a command that was cut by key become one reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gather {
    /// Integers are added (DEL, EXISTS ...).
    Sum,
    /// Arrays of one become one array in the order of the keys (MGET).
    Concat,
    /// All parts say OK, or the first error is the answer (MSET).
    Ok,
}

impl Command {
    /// True when a request of `len` arguments, the name included, has enough and not too many.
    #[inline]
    pub fn accepts(&self, len: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { len >= arity } else { len == arity }
    }

    /// True when all of these [`flag`] bits are set.
    #[inline]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Whether it counts as a read or a write, where latencies are told apart.
    #[inline]
    pub fn class(&self) -> Class {
        match () {
            () if self.has(flag::WRITE) => Class::Write,
            () if self.has(flag::READONLY) => Class::Read,
            () => Class::Admin,
        }
    }

    /// True when it may be a name for a family of subcommands; false for most, without looking.
    #[inline]
    pub fn may_be_family(&self) -> bool {
        matches!(self.arity, -1 | -2) && matches!(self.keys, Keys::None | Keys::Subcommand { .. })
    }

    /// True when it looks its keys up only to write them, which Redis counts neither as hits nor as misses.
    #[inline]
    pub fn only_writes(&self) -> bool {
        self.flags & (flag::WRITE | flag::READS_TOO) == flag::WRITE
    }

    /// True for a request that may be run a second time when nobody knows whether it was run: the effect and the reply
    /// are those of running it once. With NX, XX or GET behind its value SET is none: its reply tells what it found.
    pub fn is_repeatable(&self, args: Args<'_>) -> bool {
        let tells = |word: &[u8]| [&b"NX"[..], b"XX", b"GET"].iter().any(|it| word.eq_ignore_ascii_case(it));
        let may_tell = args.len() > 3 && self.name == "set";
        self.has(flag::READONLY) || self.has(flag::REPEATABLE) && !(may_tell && args.iter().skip(3).any(tells))
    }

    /// True for a write that may add elements to a collection.
    pub fn adds_elements(&self) -> bool {
        self.has(flag::DENYOOM) && !matches!(self.group, Group::Generic | Group::String | Group::Bitmap)
    }

    /// Where the only key is, for a command that always has exactly one.
    #[inline]
    pub fn only_key(&self) -> Option<usize> {
        match self.keys {
            Keys::Range { first, last, .. } if i16::from(first) == i16::from(last) => Some(usize::from(first)),
            _ => None,
        }
    }

    /// The positions of the keys in a request of these arguments; empty when there are none or too few arguments.
    pub fn key_positions(&self, args: Args<'_>) -> std::iter::StepBy<std::ops::Range<usize>> {
        self.positions(args.len(), |at| args.get(at))
    }

    /// The same for a request that is given as a list.
    pub fn key_positions_of(&self, words: &[&[u8]]) -> std::iter::StepBy<std::ops::Range<usize>> {
        self.positions(words.len(), |at| words.get(at).copied())
    }

    #[inline]
    fn positions<'a>(
        &self,
        len: usize,
        word: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> std::iter::StepBy<std::ops::Range<usize>> {
        let (from, to, step) = match self.keys {
            Keys::None => (0, 0, 1),
            Keys::Range { first, last, step } => {
                let to =
                    if last < 0 { len.saturating_sub(usize::from(last.unsigned_abs()) - 1) } else { last as usize + 1 };
                (usize::from(first), to.min(len), usize::from(step))
            }
            Keys::Counted { at } => {
                let at = usize::from(at);
                let count = word(at).and_then(parse_i64).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
                (at + 1, (at + 1).saturating_add(count).min(len), 1)
            }
            Keys::Subcommand { at } => (usize::from(at), (usize::from(at) + 1).min(len), 1),
        };
        (from.min(to)..to).step_by(step.max(1))
    }
}

/// What a command's function works with.
pub struct Cx<'a, 's> {
    /// The request, the command's name first.
    pub args: Args<'a>,
    /// The slots of its keys, locked.
    pub keys: &'a mut Keyspace<'s>,
    /// Where the reply goes.
    pub out: Reply<'a>,
    /// The limits that options set.
    pub limits: CommandLimits,
}

/// Options that commands check.
#[derive(Clone, Copy, Debug)]
pub struct CommandLimits {
    /// `proto-max-bulk-len`: the longest string, in bytes.
    pub string_bytes_max: usize,
    /// `databases`.
    pub databases: u8,
    /// Whether the cluster face is asked, which has database 0 alone.
    pub cluster_face: bool,
    /// Most bytes of replies that may lie in one buffer.
    pub reply_bytes_max: usize,
    /// Most bytes of a key and of a value that is put there at once: other nodes are told of them together, in one
    /// frame.
    pub whole_bytes_max: usize,
}

/// What a frame between nodes holds of a key and its value, with room for all that goes with them.
pub const WHOLE_BYTES_MAX: usize = 2 << 30;

impl Default for CommandLimits {
    fn default() -> CommandLimits {
        CommandLimits {
            string_bytes_max: 512 << 20,
            databases: 16,
            cluster_face: false,
            reply_bytes_max: REPLY_BYTES_MAX,
            whole_bytes_max: WHOLE_BYTES_MAX,
        }
    }
}

impl<'a> Cx<'a, '_> {
    /// Runs a command: the one way in, for whoever runs it. After an error, what it has written of its reply is to be
    /// thrown away; after [`CommandError::ReplyTooLarge`] it has run all the same.
    #[inline]
    pub fn run(&mut self, command: KeysFunction) -> Result<(), CommandError> {
        self.out.limit(self.limits.reply_bytes_max);
        command(self)?;
        if self.out.is_cut() { Err(CommandError::ReplyTooLarge) } else { Ok(()) }
    }

    /// Puts a whole value (see `store::whole`) under `key`, in place of whatever is there. Refused, with nothing
    /// changed, if it is larger than other nodes can be told.
    pub fn put_whole(&mut self, key: &[u8], whole: &[u8], deadline_ms: u64) -> Result<(), CommandError> {
        if key.len().saturating_add(whole.len()) > self.limits.whole_bytes_max {
            return Err(CommandError::WholeTooLarge);
        }
        self.keys.write(key, Mutation::Replace { whole, deadline_ms });
        Ok(())
    }

    /// Argument `at`, or a syntax error: arity has been checked, so only optional ones can be missing.
    #[inline]
    pub fn arg(&self, at: usize) -> Result<&'a [u8], CommandError> {
        self.args.get(at).ok_or(CommandError::Syntax)
    }

    /// Argument `at` as a whole number.
    pub fn int(&self, at: usize) -> Result<i64, CommandError> {
        parse_i64(self.arg(at)?).ok_or(CommandError::NotInteger)
    }

    /// The string that `key` holds, `None` when there is no such key; counts as a use of the key.
    pub fn string(&mut self, key: &[u8]) -> Result<Option<std::borrow::Cow<'_, [u8]>>, CommandError> {
        match self.keys.read(key) {
            None => Ok(None),
            Some(view) => view.text().map(Some).ok_or(CommandError::WrongType),
        }
    }

    /// Writes a string or number as a bulk reply; for other types WRONGTYPE, with nothing written.
    #[inline]
    pub fn reply_string(out: &mut Reply<'_>, view: Option<ValueRef<'_>>) -> Result<(), CommandError> {
        match view {
            None => out.null(),
            Some(ValueRef::String(bytes)) => out.bulk(bytes),
            Some(ValueRef::Number(number)) => out.bulk_int(number),
            Some(ValueRef::Hash(_) | ValueRef::Set(_)) => return Err(CommandError::WrongType),
        }
        Ok(())
    }
}

/// The slots of all keys of a request, in the order of the keys, repeats included.
pub fn slots_of(command: &Command, args: Args<'_>) -> smallvec::SmallVec<[Slot; 4]> {
    command.key_positions(args).filter_map(|at| args.get(at)).map(crate::base::ids::slot_of).collect()
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    #[test]
    fn no_command_answers_with_more_than_it_may() {
        let mut node = Node::new();
        node.run("MSET a 12345678 b 12345678 c 12345678 {a}2 x");
        node.run("HSET h 1 12345678 2 12345678 3 12345678");
        node.run("SADD s 12345678a 12345678b 12345678c");
        node.limits.reply_bytes_max = 39;
        let refused = "-ERR the reply is larger than client-output-buffer-limit or rondo allows\r\n";
        for line in [
            "MGET a b c",
            "HMGET h 1 2 3",
            "HGETALL h",
            "HVALS h",
            "HSCAN h 0",
            "SMEMBERS s",
            "SSCAN s 0",
            "SRANDMEMBER s -1000000000000",
            "HRANDFIELD h -1000000000000 WITHVALUES",
            "SUNION s s",
            "SPOP s 3",
        ] {
            assert_eq!(node.run(line), refused, "{line}");
        }
        assert_eq!(node.run("MGET a b"), "*2\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n");
        assert_eq!(node.run("EXISTS s"), ":0\r\n", "SPOP has run");
    }
}
