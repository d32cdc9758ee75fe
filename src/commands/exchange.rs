//! What nodes ask each other for in the name of a command whose keys have several coordinators: RONDO.FETCH,
//! RONDO.APPLY and RONDO.GROW.
//!
//! They are rows as any other, so a fetch is confirmed by R nodes and a change held by W, forwarded and asked again as
//! any request is. No client may send them, and COMMAND does not list them: their arguments and replies are bytes of
//! our own, and RONDO.APPLY changes what it is told to. RONDO.GROW does the same for commands that are refused where
//! memory is full. `scratch` is where the command itself runs in between.

use crate::base::version::{ActorTable, Version};
use crate::base::wire::{Reader, WireError, put_bytes, put_varint};
use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Gather, Group, Handler, KEY, Keys, flag};
use crate::store::Keyspace;
use crate::store::mutation::{Mutation, put_full_version, read_full_version};

/// What has to be the same of a key for what was computed of it to hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Its version, of a deletion too; the default one when the key is not known.
    pub version: Version,
    /// Whether it is there.
    pub is_live: bool,
}

impl Standing {
    fn of(keys: &Keyspace<'_>, key: &[u8]) -> Standing {
        let (version, is_live) = keys.version_of(key);
        Standing { version, is_live }
    }

    fn put(&self, out: &mut Vec<u8>, actors: &ActorTable) {
        put_full_version(out, &self.version, actors);
        out.push(u8::from(self.is_live));
    }

    /// Reads what a change has left, as another node has put it.
    pub fn read(bytes: &[u8], actors: &ActorTable) -> Result<Standing, WireError> {
        let mut reader = Reader::new(bytes);
        let standing = Standing::take(&mut reader, actors)?;
        if reader.is_empty() { Ok(standing) } else { Err(WireError) }
    }

    fn take(reader: &mut Reader<'_>, actors: &ActorTable) -> Result<Standing, WireError> {
        Ok(Standing { version: read_full_version(reader, actors)?, is_live: reader.u8()? != 0 })
    }
}

/// What a key holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fetched {
    /// Which write made it so.
    pub standing: Standing,
    /// The value (see `store::whole`); `None` when the key does not exist.
    pub whole: Option<Vec<u8>>,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub deadline_ms: u64,
}

impl Fetched {
    /// The mutation, as it travels, that makes a key hold this again.
    pub fn restoring(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.whole {
            Some(whole) => Mutation::Replace { whole, deadline_ms: self.deadline_ms }.encode(&mut bytes),
            None => Mutation::Delete.encode(&mut bytes),
        }
        bytes
    }

    /// Appends it as it travels.
    pub fn put(&self, out: &mut Vec<u8>, actors: &ActorTable) {
        self.standing.put(out, actors);
        put_varint(out, self.deadline_ms);
        put_bytes(out, self.whole.as_deref().unwrap_or_default());
    }

    /// Reads what another node has put.
    pub fn read(bytes: &[u8], actors: &ActorTable) -> Result<Fetched, WireError> {
        let mut reader = Reader::new(bytes);
        let standing = Standing::take(&mut reader, actors)?;
        let deadline_ms = reader.varint()?;
        let bytes = reader.bytes()?;
        if !reader.is_empty() {
            return Err(WireError);
        }
        let whole = standing.is_live.then(|| bytes.to_vec());
        if let Some(whole) = &whole {
            crate::store::whole::check(whole)?;
        }
        Ok(Fetched { standing, whole, deadline_ms })
    }
}

/// RONDO.FETCH key ...: an array of what the keys hold.
pub static FETCH: Command = Command {
    name: "rondo.fetch",
    summary: "Hand a key's value to another node",
    syntax: "key [key ...]",
    since: "0.1.0",
    complexity: "O(N) where N is the total size of the values.",
    group: Group::Generic,
    arity: -2,
    flags: flag::READONLY | flag::INTERNAL,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::FanOut(fetch, Gather::Concat),
};
fn fetch(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    cx.out.array(cx.args.len().saturating_sub(1));
    // What the command finds is counted and told of once, where it runs.
    cx.keys.only_write(true);
    for key in cx.args.iter().skip(1) {
        // Looked up once and no more: what was seen then is what other replicas have to confirm.
        let is_there = cx.keys.read(key).is_some();
        let (whole, deadline_ms) = cx.keys.copy_of(key).filter(|_| is_there).unzip();
        let standing = Standing { is_live: whole.is_some(), ..Standing::of(cx.keys, key) };
        let fetched = Fetched { standing, whole, deadline_ms: deadline_ms.unwrap_or_default() };
        let mut bytes = Vec::new();
        fetched.put(&mut bytes, cx.keys.actors());
        cx.out.bulk(&bytes);
    }
    Ok(())
}

/// RONDO.APPLY key mutation ...: the key's standing afterwards.
pub static APPLY: Command = Command {
    name: "rondo.apply",
    summary: "Make changes that another node has computed",
    syntax: "key mutation [mutation ...]",
    since: "0.1.0",
    complexity: "O(N) where N is the size of the mutations.",
    group: Group::Generic,
    arity: -3,
    flags: flag::WRITE | flag::INTERNAL,
    keys: KEY,
    handler: Handler::Keys(apply),
};

/// As [`APPLY`], in the name of a command that is refused where memory is full.
pub static GROW: Command = Command {
    name: "rondo.grow",
    summary: "Make changes that another node has computed, if there is room",
    flags: flag::WRITE | flag::INTERNAL | flag::DENYOOM,
    ..APPLY
};

fn apply(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let garbled = |_| CommandError::text("ERR a mutation that makes no sense");
    let mutations: Result<Vec<Mutation<'_>>, WireError> =
        cx.args.iter().skip(2).map(|bytes| Mutation::decode(&mut Reader::new(bytes))).collect();
    let before = cx.keys.changes();
    for mutation in mutations.map_err(garbled)? {
        cx.keys.write(key, mutation);
    }
    // What the command changes is counted once, where it runs, and what is put back is no change.
    cx.keys.count_changes_as(before, 0);
    let mut bytes = Vec::new();
    Standing::of(cx.keys, key).put(&mut bytes, cx.keys.actors());
    cx.out.bulk(&bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Node;
    use crate::protocol::client::Value;
    use crate::store::Effects;

    fn fetched(node: &mut Node, key: &str) -> Fetched {
        let Value::Array(items) = node.run_args(&["RONDO.FETCH", key]) else { panic!("an array") };
        let [Value::Bulk(bytes)] = items.as_slice() else { panic!("one bulk") };
        Fetched::read(bytes, &node.store.actors).expect("own bytes")
    }

    #[test]
    fn what_is_fetched_can_be_applied_elsewhere() {
        let (mut here, mut there) = (Node::new(), Node::new());
        there.store.set_replicated(true);
        for line in ["SET s v PX 70000", "HSET h f 1 g 2", "SADD i 1 2 3", "INCRBY n 7"] {
            here.run(line);
        }
        for (key, look, reply) in [
            ("s", "GET s", "$1\r\nv\r\n"),
            ("h", "HGET h g", "$1\r\n2\r\n"),
            ("i", "OBJECT ENCODING i", "$6\r\nintset\r\n"),
            ("n", "GET n", "$1\r\n7\r\n"),
        ] {
            let found = fetched(&mut here, key);
            let whole = found.whole.expect("a value");
            let mut mutation = Vec::new();
            Mutation::Replace { whole: &whole, deadline_ms: found.deadline_ms }.encode(&mut mutation);
            let Value::Bulk(after) = there.run_args(&[b"RONDO.APPLY", key.as_bytes(), &mutation[..]]) else {
                panic!("a bulk")
            };
            let after = Standing::read(&after, &there.store.actors).expect("own bytes");
            assert_eq!(after, fetched(&mut there, key).standing, "the version after the change");
            assert_eq!(there.run(look), reply);
        }
        assert_eq!(there.run("PTTL s"), ":70000\r\n");
        let none = fetched(&mut here, "none");
        assert_eq!((none.whole, none.standing), (None, Standing::default()));
    }

    #[test]
    fn a_fetch_is_neither_counted_nor_told_of() {
        let mut node = Node::new();
        node.run("SET k v");
        node.effects = Effects { notify: true, ..Effects::default() };
        assert!(fetched(&mut node, "none").whole.is_none() && fetched(&mut node, "k").whole.is_some());
        assert_eq!((node.effects.lookups(), node.effects.events.len()), ((0, 0), 0));
    }

    #[test]
    fn nonsense_changes_nothing() {
        let mut node = Node::new();
        node.run("SET k v");
        let mut good = Vec::new();
        Mutation::Delete.encode(&mut good);
        let reply = node.run_args(&[b"RONDO.APPLY", &b"k"[..], &good, b"\xff\x01"]);
        assert!(matches!(reply, Value::Error(_)), "{reply:?}");
        assert_eq!(node.run("GET k"), "$1\r\nv\r\n");
        let actors = &node.store.actors;
        assert!(Fetched::read(b"", actors).is_err() && Fetched::read(&[0; 40], actors).is_err());
    }
}
