//! Hashes: fields with values under one key.
//!
//! A field's value is bytes, or a counter once HINCRBY has added to it; both read alike (`store::hash`). Writing takes
//! one mutation a field, so that fields written on both sides of a partition are kept field by field. Whether a hash
//! is still small and packed is the store's business.
//!
//! HINCRBY and HINCRBYFLOAT are in `hash_number`, HRANDFIELD in `random`, HSCAN in `scan`.

use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, flag};
use crate::protocol::Reply;
use crate::store::element::Element;
use crate::store::elements::Elements;
use crate::store::hash::field;
use crate::store::keyspace::value_ref;
use crate::store::mutation::Mutation;
use crate::store::{Keyspace, ValueRef};

/// The fields of the hash at `key`, `None` when there is no such key; counts as a use of the key.
pub(super) fn read_hash<'k>(keys: &'k mut Keyspace<'_>, key: &[u8]) -> Result<Option<&'k Elements>, CommandError> {
    as_hash(keys.read(key))
}

/// The same without counting as a use, for commands that go on to write.
pub(super) fn peek_hash<'k>(keys: &'k Keyspace<'_>, key: &[u8]) -> Result<Option<&'k Elements>, CommandError> {
    as_hash(keys.peek(key).and_then(value_ref))
}

fn as_hash(view: Option<ValueRef<'_>>) -> Result<Option<&Elements>, CommandError> {
    match view {
        None => Ok(None),
        Some(ValueRef::Hash(fields)) => Ok(Some(fields)),
        Some(_) => Err(CommandError::WrongType),
    }
}

/// Notes that the last element of a collection went and its key with it.
pub(super) fn notify_if_gone(keys: &mut Keyspace<'_>, key: &[u8]) {
    if !keys.exists(key) {
        keys.notify(b'g', "del", key);
    }
}

/// Writes a field's value as a bulk reply.
pub(super) fn reply_value(out: &mut Reply<'_>, element: Element<'_>) {
    out.bulk(&field(element.payload).text());
}

/// HSET key field value ...: how many of the fields are new.
pub static HSET: Command = Command {
    name: "hset",
    summary: "Set the string value of a hash field",
    syntax: "key field value [field value ...]",
    since: "2.0.0",
    complexity: "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs.",
    group: Group::Hash,
    arity: -4,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hset),
};
fn hset(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let added = put_pairs(cx, "hset")?;
    cx.out.int(added as i64);
    Ok(())
}

/// HMSET key field value ...: OK.
pub static HMSET: Command = Command {
    name: "hmset",
    summary: "Set multiple hash fields to multiple values",
    syntax: "key field value [field value ...]",
    since: "2.0.0",
    complexity: "O(N) where N is the number of fields being set.",
    group: Group::Hash,
    arity: -4,
    flags: flag::WRITE | flag::REPEATABLE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hmset),
};
fn hmset(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    put_pairs(cx, "hmset")?;
    cx.out.ok();
    Ok(())
}

/// Puts every pair of the request of `command` into the hash: how many of the fields are new.
fn put_pairs(cx: &mut Cx<'_, '_>, command: &'static str) -> Result<usize, CommandError> {
    if !cx.args.len().is_multiple_of(2) {
        return Err(CommandError::Arity(command.into()));
    }
    let key = cx.arg(1)?;
    let before = peek_hash(cx.keys, key)?.map_or(0, Elements::len);
    for at in (2..cx.args.len()).step_by(2) {
        cx.keys.write(key, Mutation::PutField { field: cx.arg(at)?, value: cx.arg(at + 1)? });
    }
    cx.keys.notify(b'h', "hset", key);
    let after = peek_hash(cx.keys, key)?.map_or(0, Elements::len);
    Ok(after.saturating_sub(before))
}

/// HSETNX key field value: 1, or 0 when the field was there.
pub static HSETNX: Command = Command {
    name: "hsetnx",
    summary: "Set the value of a hash field, only if the field does not exist",
    syntax: "key field value",
    since: "2.0.0",
    complexity: "O(1)",
    group: Group::Hash,
    arity: 4,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hsetnx),
};
fn hsetnx(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, field, value) = (cx.arg(1)?, cx.arg(2)?, cx.arg(3)?);
    let absent = peek_hash(cx.keys, key)?.is_none_or(|fields| fields.get(field).is_none());
    if absent {
        cx.keys.write(key, Mutation::PutField { field, value });
        cx.keys.notify(b'h', "hset", key);
    }
    cx.out.int(absent.into());
    Ok(())
}

/// HGET key field: the value, or null.
pub static HGET: Command = Command {
    name: "hget",
    summary: "Get the value of a hash field",
    syntax: "key field",
    since: "2.0.0",
    complexity: "O(1)",
    group: Group::Hash,
    arity: 3,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hget),
};
fn hget(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, field) = (cx.arg(1)?, cx.arg(2)?);
    match read_hash(cx.keys, key)?.and_then(|fields| fields.get(field)) {
        Some(element) => reply_value(&mut cx.out, element),
        None => cx.out.null(),
    }
    Ok(())
}

/// HMGET key field ...: the values in the order of the fields, with nulls.
pub static HMGET: Command = Command {
    name: "hmget",
    summary: "Get the values of all the given hash fields",
    syntax: "key field [field ...]",
    since: "2.0.0",
    complexity: "O(N) where N is the number of fields being requested.",
    group: Group::Hash,
    arity: -3,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hmget),
};
fn hmget(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let fields = read_hash(cx.keys, key)?;
    cx.out.array(cx.args.len().saturating_sub(2));
    for name in cx.args.iter().skip(2) {
        match fields.and_then(|fields| fields.get(name)) {
            Some(element) => reply_value(&mut cx.out, element),
            None => cx.out.null(),
        }
    }
    Ok(())
}

/// HGETALL key: a map of every field and its value.
pub static HGETALL: Command = Command {
    name: "hgetall",
    summary: "Get all the fields and values in a hash",
    syntax: "key",
    since: "2.0.0",
    complexity: "O(N) where N is the size of the hash.",
    group: Group::Hash,
    arity: 2,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(hgetall),
};
fn hgetall(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let fields = read_hash(cx.keys, key)?;
    cx.out.map(fields.map_or(0, Elements::len));
    for element in fields.into_iter().flat_map(Elements::iter) {
        cx.out.bulk(element.member);
        reply_value(&mut cx.out, element);
    }
    Ok(())
}

/// HDEL key field ...: how many of the fields were there.
pub static HDEL: Command = Command {
    name: "hdel",
    summary: "Delete one or more hash fields",
    syntax: "key field [field ...]",
    since: "2.0.0",
    complexity: "O(N) where N is the number of fields to be removed.",
    group: Group::Hash,
    arity: -3,
    flags: flag::WRITE | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hdel),
};
fn hdel(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let mut removed = 0;
    for field in cx.args.iter().skip(2) {
        if peek_hash(cx.keys, key)?.is_some_and(|fields| fields.get(field).is_some()) {
            cx.keys.write(key, Mutation::RemoveField { field });
            removed += 1;
        }
    }
    if removed > 0 {
        cx.keys.notify(b'h', "hdel", key);
        notify_if_gone(cx.keys, key);
    }
    cx.out.int(removed);
    Ok(())
}

/// HEXISTS key field: 1 or 0.
pub static HEXISTS: Command = Command {
    name: "hexists",
    summary: "Determine if a hash field exists",
    syntax: "key field",
    since: "2.0.0",
    complexity: "O(1)",
    group: Group::Hash,
    arity: 3,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hexists),
};
fn hexists(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, field) = (cx.arg(1)?, cx.arg(2)?);
    let exists = read_hash(cx.keys, key)?.is_some_and(|fields| fields.get(field).is_some());
    cx.out.int(exists.into());
    Ok(())
}

/// HLEN key: how many fields there are.
pub static HLEN: Command = Command {
    name: "hlen",
    summary: "Get the number of fields in a hash",
    syntax: "key",
    since: "2.0.0",
    complexity: "O(1)",
    group: Group::Hash,
    arity: 2,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hlen),
};
fn hlen(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let len = read_hash(cx.keys, key)?.map_or(0, Elements::len);
    cx.out.int(len as i64);
    Ok(())
}

/// HSTRLEN key field: the value's length in bytes, 0 without one.
pub static HSTRLEN: Command = Command {
    name: "hstrlen",
    summary: "Get the length of the value of a hash field",
    syntax: "key field",
    since: "3.2.0",
    complexity: "O(1)",
    group: Group::Hash,
    arity: 3,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hstrlen),
};
fn hstrlen(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, name) = (cx.arg(1)?, cx.arg(2)?);
    let element = read_hash(cx.keys, key)?.and_then(|fields| fields.get(name));
    cx.out.int(element.map_or(0, |element| field(element.payload).text().len()) as i64);
    Ok(())
}

/// HKEYS key: an array of every field.
pub static HKEYS: Command = Command {
    name: "hkeys",
    summary: "Get all the fields in a hash",
    syntax: "key",
    since: "2.0.0",
    complexity: "O(N) where N is the size of the hash.",
    group: Group::Hash,
    arity: 2,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(hkeys),
};
fn hkeys(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let fields = read_hash(cx.keys, key)?;
    cx.out.array(fields.map_or(0, Elements::len));
    fields.into_iter().flat_map(Elements::iter).for_each(|element| cx.out.bulk(element.member));
    Ok(())
}

/// HVALS key: an array of every value.
pub static HVALS: Command = Command {
    name: "hvals",
    summary: "Get all the values in a hash",
    syntax: "key",
    since: "2.0.0",
    complexity: "O(N) where N is the size of the hash.",
    group: Group::Hash,
    arity: 2,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(hvals),
};
fn hvals(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let fields = read_hash(cx.keys, key)?;
    cx.out.array(fields.map_or(0, Elements::len));
    fields.into_iter().flat_map(Elements::iter).for_each(|element| reply_value(&mut cx.out, element));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;
    use crate::protocol::Proto;

    #[test]
    fn fields_are_put_read_and_removed() {
        let mut node = Node::new();
        assert_eq!(node.run("HSET h a 1 b 2 a 3"), ":2\r\n");
        assert_eq!(node.run("HSET h a 4 c 5"), ":1\r\n");
        assert_eq!(node.run("HMSET h d 6"), "+OK\r\n");
        assert_eq!(
            node.run("HGETALL h"),
            "*8\r\n$1\r\na\r\n$1\r\n4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n5\r\n$1\r\nd\r\n$1\r\n6\r\n"
        );
        assert_eq!(node.run("HMGET h d nope b"), "*3\r\n$1\r\n6\r\n$-1\r\n$1\r\n2\r\n");
        assert_eq!((node.run("HSETNX h a 9"), node.run("HSETNX h e eee")), (":0\r\n".into(), ":1\r\n".into()));
        assert_eq!((node.run("HSTRLEN h e"), node.run("HSTRLEN h f")), (":3\r\n".into(), ":0\r\n".into()));
        assert_eq!((node.run("HEXISTS h e"), node.run("HLEN h")), (":1\r\n".into(), ":5\r\n".into()));
        assert_eq!(node.run("HDEL h a a b nope"), ":2\r\n");
        assert_eq!(node.run("HKEYS h"), "*3\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n");
        assert_eq!(node.run("HVALS h"), "*3\r\n$1\r\n5\r\n$1\r\n6\r\n$3\r\neee\r\n");
        assert_eq!(node.run("HDEL h c d e f"), ":3\r\n");
        assert_eq!((node.run("HLEN h"), node.run("HGET h c")), (":0\r\n".into(), "$-1\r\n".into()));
    }

    #[test]
    fn what_is_not_there_and_what_is_no_hash() {
        let mut node = Node::new();
        assert_eq!((node.run("HGETALL h"), node.run("HKEYS h")), ("*0\r\n".into(), "*0\r\n".into()));
        assert_eq!(node.run("HMGET h a b"), "*2\r\n$-1\r\n$-1\r\n");
        assert_eq!(node.run("HSET h a 1 b"), "-ERR wrong number of arguments for 'hset' command\r\n");
        assert_eq!(node.run("HMSET h a 1 b"), "-ERR wrong number of arguments for 'hmset' command\r\n");
        node.run("SET s x");
        for line in ["HSET s a 1", "HSETNX s a 1", "HGET s a", "HMGET s a", "HDEL s a", "HLEN s", "HGETALL s"] {
            assert_eq!(node.run(line), "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
        }
        node.proto = Proto::Resp3;
        assert_eq!((node.run("HGETALL h"), node.run("HGET h a")), ("%0\r\n".into(), "_\r\n".into()));
        node.run("HSET h a 1");
        assert_eq!(node.run("HGETALL h"), "%1\r\n$1\r\na\r\n$1\r\n1\r\n");
    }

    #[test]
    fn events_are_those_of_redis() {
        let mut node = Node::new();
        node.effects.notify = true;
        for line in ["HSET h a 1 b 2", "HSETNX h a 1", "HDEL h x", "HDEL h a b"] {
            node.run(line);
        }
        let events: Vec<_> = node.take_events().iter().map(|event| (event.class, event.name)).collect();
        assert_eq!(events, [(b'n', "new"), (b'h', "hset"), (b'h', "hdel"), (b'g', "del")]);
    }
}
