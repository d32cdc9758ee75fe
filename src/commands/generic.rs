//! Keys of any type: deleting, finding, moving and copying them.
//!
//! Deadlines are in `expiry`; KEYS, SCAN and other commands about the whole keyspace are run by the server.
//!
//! RENAME, COPY and MOVE write the value as one mutation under the new name, so no replica ever shows half of it. They
//! cost what the value is large; Redis only moves a pointer.

use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Gather, Group, Handler, KEY, Keys, flag};
use crate::protocol::parse_i64;
use crate::store::keyspace::value_ref;

/// DEL key ...: how many of them existed.
pub static DEL: Command = Command {
    name: "del",
    summary: "Delete a key",
    syntax: "key [key ...]",
    since: "1.0.0",
    complexity: "O(N) where N is the number of keys that will be removed. When a key to remove holds a value other than a string, the individual complexity for this key is O(M) where M is the number of elements in the list, set, sorted set or hash. Removing a single key that holds a string value is O(1).",
    group: Group::Generic,
    arity: -2,
    flags: flag::WRITE | flag::KEYSPACE,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::FanOut(del, Gather::Sum),
};
fn del(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let mut deleted = 0;
    for key in cx.args.iter().skip(1) {
        if cx.keys.delete(key) {
            cx.keys.notify(b'g', "del", key);
            deleted += 1;
        }
    }
    cx.out.int(deleted);
    Ok(())
}

/// UNLINK key ...: as DEL.
pub static UNLINK: Command = Command {
    name: "unlink",
    summary: "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking.",
    syntax: "key [key ...]",
    since: "4.0.0",
    complexity: "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different thread in order to reclaim memory, where N is the number of allocations the deleted objects where composed of.",
    group: Group::Generic,
    arity: -2,
    flags: flag::WRITE | flag::FAST | flag::KEYSPACE,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::FanOut(del, Gather::Sum),
};

/// EXISTS key ...: how many of them exist, repeats counted.
pub static EXISTS: Command = Command {
    name: "exists",
    summary: "Determine if a key exists",
    syntax: "key [key ...]",
    since: "1.0.0",
    complexity: "O(N) where N is the number of keys to check.",
    group: Group::Generic,
    arity: -2,
    flags: flag::READONLY | flag::FAST | flag::KEYSPACE,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::FanOut(exists, Gather::Sum),
};
fn exists(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let found = cx.args.iter().skip(1).filter(|key| cx.keys.look(key).is_some()).count();
    cx.out.int(found as i64);
    Ok(())
}

/// TOUCH key ...: how many of them exist; each counts as used.
pub static TOUCH: Command = Command {
    name: "touch",
    summary: "Alters the last access time of a key(s). Returns the number of existing keys specified.",
    syntax: "key [key ...]",
    since: "3.2.1",
    complexity: "O(N) where N is the number of keys that will be touched.",
    group: Group::Generic,
    arity: -2,
    flags: flag::READONLY | flag::FAST | flag::KEYSPACE,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::FanOut(touch, Gather::Sum),
};
fn touch(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let found = cx.args.iter().skip(1).filter(|key| cx.keys.read(key).is_some()).count();
    cx.out.int(found as i64);
    Ok(())
}

/// TYPE key: the type's name as a simple string, `none` for no key.
pub static TYPE: Command = Command {
    name: "type",
    summary: "Determine the type stored at key",
    syntax: "key",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 2,
    flags: flag::READONLY | flag::FAST | flag::KEYSPACE,
    keys: KEY,
    handler: Handler::Keys(type_of),
};
fn type_of(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let name = cx.keys.look(cx.arg(1)?).and_then(value_ref).map_or("none", |view| view.type_name());
    cx.out.simple(name);
    Ok(())
}

/// RENAME key newkey: OK.
pub static RENAME: Command = Command {
    name: "rename",
    summary: "Rename a key",
    syntax: "key newkey",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 3,
    flags: flag::WRITE | flag::KEYSPACE,
    keys: Keys::Range { first: 1, last: 2, step: 1 },
    handler: Handler::Keys(rename),
};
fn rename(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    move_to(cx, true)?;
    cx.out.ok();
    Ok(())
}

/// RENAMENX key newkey: 1, or 0 when there already was a key of the new name.
pub static RENAMENX: Command = Command {
    name: "renamenx",
    summary: "Rename a key, only if the new key does not exist",
    syntax: "key newkey",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 3,
    flags: flag::WRITE | flag::FAST | flag::KEYSPACE,
    keys: Keys::Range { first: 1, last: 2, step: 1 },
    handler: Handler::Keys(renamenx),
};
fn renamenx(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let moved = move_to(cx, false)?;
    cx.out.int(i64::from(moved));
    Ok(())
}

/// Puts a whole value in the place of whatever there is: to listeners it is a new key in any case.
fn put_anew(cx: &mut Cx<'_, '_>, key: &[u8], whole: &[u8], deadline_ms: u64) -> Result<(), CommandError> {
    let was_there = cx.keys.exists(key);
    cx.put_whole(key, whole, deadline_ms)?;
    if was_there {
        cx.keys.notify(b'n', "new", key);
    }
    Ok(())
}

fn move_to(cx: &mut Cx<'_, '_>, replace: bool) -> Result<bool, CommandError> {
    let (from, to) = (cx.arg(1)?, cx.arg(2)?);
    let (whole, deadline_ms) = cx.keys.copy_of(from).ok_or(CommandError::NoSuchKey)?;
    if from == to {
        return Ok(replace);
    }
    if !replace && cx.keys.exists(to) {
        return Ok(false);
    }
    let before = cx.keys.changes();
    put_anew(cx, to, &whole, deadline_ms)?;
    cx.keys.delete(from);
    cx.keys.count_changes_as(before, 1);
    cx.keys.notify(b'g', "rename_from", from);
    cx.keys.notify(b'g', "rename_to", to);
    Ok(true)
}

const NO_MOVE: CommandError = CommandError::text("ERR MOVE is not allowed in cluster mode");
const NO_COPY: CommandError = CommandError::text("ERR Copying to another database is not allowed in cluster mode");
const SAME_OBJECTS: CommandError = CommandError::text("ERR source and destination objects are the same");

/// COPY source destination with options: 1, or 0 when there is no source or the destination exists.
pub static COPY: Command = Command {
    name: "copy",
    summary: "Copy a key",
    syntax: "source destination [DB destination-db] [REPLACE]",
    since: "6.2.0",
    complexity: "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
    group: Group::Generic,
    arity: -3,
    flags: flag::WRITE | flag::READS_TOO | flag::DENYOOM | flag::KEYSPACE | flag::OTHER_DATABASE | flag::LONG,
    keys: Keys::Range { first: 1, last: 2, step: 1 },
    handler: Handler::Keys(copy),
};
fn copy(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (from, to, from_db) = (cx.arg(1)?, cx.arg(2)?, cx.keys.db());
    let (mut replace, mut to_db, mut at) = (false, from_db, 3);
    while let Some(word) = cx.args.get(at) {
        if word.eq_ignore_ascii_case(b"REPLACE") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"DB") && at + 1 < cx.args.len() {
            at += 1;
            to_db = database(cx, cx.arg(at)?)?;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    if cx.limits.cluster_face && to_db != 0 {
        return Err(NO_COPY);
    }
    if from_db == to_db && from == to {
        return Err(SAME_OBJECTS);
    }
    cx.keys.read(from);
    let copied = cx.keys.copy_of(from);
    let is_put = in_database(cx, to_db, |cx| {
        let Some((whole, deadline_ms)) = copied.filter(|_| replace || !cx.keys.exists(to)) else { return Ok(false) };
        put_anew(cx, to, &whole, deadline_ms)?;
        cx.keys.notify(b'g', "copy_to", to);
        Ok(true)
    })?;
    cx.out.int(i64::from(is_put));
    Ok(())
}

/// MOVE key db: 1, or 0 when there is no such key or the other database has one.
pub static MOVE: Command = Command {
    name: "move",
    summary: "Move a key to another database",
    syntax: "key db",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Generic,
    arity: 3,
    flags: flag::WRITE | flag::FAST | flag::KEYSPACE | flag::OTHER_DATABASE,
    keys: KEY,
    handler: Handler::Keys(move_key),
};
fn move_key(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    if cx.limits.cluster_face {
        return Err(NO_MOVE);
    }
    let (key, from_db) = (cx.arg(1)?, cx.keys.db());
    let to_db = database(cx, cx.arg(2)?)?;
    if from_db == to_db {
        return Err(SAME_OBJECTS);
    }
    let moved = cx.keys.copy_of(key).filter(|_| !in_database(cx, to_db, |cx| cx.keys.exists(key)));
    if let Some((whole, deadline_ms)) = &moved {
        let before = cx.keys.changes();
        in_database(cx, to_db, |cx| cx.put_whole(key, whole, *deadline_ms))?;
        cx.keys.delete(key);
        cx.keys.count_changes_as(before, 1);
        cx.keys.notify(b'g', "move_from", key);
        in_database(cx, to_db, |cx| cx.keys.notify(b'g', "move_to", key));
    }
    cx.out.int(i64::from(moved.is_some()));
    Ok(())
}

/// What `run` does with keys of another database.
fn in_database<T>(cx: &mut Cx<'_, '_>, db: u8, run: impl FnOnce(&mut Cx<'_, '_>) -> T) -> T {
    let before = cx.keys.db();
    cx.keys.select(db);
    let done = run(cx);
    cx.keys.select(before);
    done
}

fn database(cx: &Cx<'_, '_>, text: &[u8]) -> Result<u8, CommandError> {
    let number = parse_i64(text).ok_or(CommandError::NotInteger)?;
    if i32::try_from(number).is_err() {
        let text = "ERR value is out of range, value must between -2147483648 and 2147483647";
        return Err(CommandError::text(text));
    }
    let known = u8::try_from(number).ok().filter(|db| *db < cx.limits.databases);
    known.ok_or(CommandError::text("ERR DB index is out of range"))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    fn expect(node: &mut Node, steps: &[(&str, &str)]) {
        for (line, reply) in steps {
            assert_eq!(node.run(line), format!("{reply}\r\n"), "{line}");
        }
    }

    #[test]
    fn keys_are_counted_and_deleted() {
        let mut node = Node::new();
        expect(
            &mut node,
            &[
                ("MSET a 1 b 2 c 3", "+OK"),
                ("EXISTS a a b none", ":3"),
                ("TOUCH a none", ":1"),
                ("TYPE a", "+string"),
                ("DEL a a none", ":1"),
                ("UNLINK b c", ":2"),
                ("TYPE a", "+none"),
                ("EXISTS a b c", ":0"),
            ],
        );
    }

    #[test]
    fn a_look_at_an_expired_key_removes_it_where_nobody_else_holds_it() {
        use crate::base::ids::Slot;
        for (replicated, look) in
            [false, true].into_iter().flat_map(|it| ["GET k", "EXISTS k", "TTL k"].map(|l| (it, l)))
        {
            let mut node = Node::new();
            node.store.set_replicated(replicated);
            node.run("SET k v PX 5");
            node.advance_ms(6);
            node.run(look);
            let left = node.store.count_keys(Slot::all()).get(&0).map_or(0, |of_db| of_db.keys);
            assert_eq!(left, u64::from(replicated), "{look}");
            assert_eq!(node.run("DEL k"), ":0\r\n");
            assert!(node.store.count_keys(Slot::all()).is_empty(), "DEL after {look}");
        }
    }

    #[test]
    fn values_of_every_type_are_renamed_and_copied_with_their_deadline() {
        let mut node = Node::new();
        expect(
            &mut node,
            &[
                ("RENAME none x", "-ERR no such key"),
                ("HSET h f v", ":1"),
                ("SADD s m n", ":2"),
                ("SET k v EX 100", "+OK"),
                ("RENAME k k", "+OK"),
                ("RENAMENX k k", ":0"),
                ("RENAMENX k h", ":0"),
                ("RENAME k j", "+OK"),
                ("TTL j", ":100"),
                ("EXISTS k", ":0"),
                ("RENAME h j", "+OK"),
                ("TTL j", ":-1"),
                ("HGET j f", "$1\r\nv"),
                ("COPY s j", ":0"),
                ("COPY s j REPLACE", ":1"),
                ("SISMEMBER j n", ":1"),
                ("COPY s s", "-ERR source and destination objects are the same"),
                ("COPY s s DB 1", ":1"),
                ("COPY s s DB 16", "-ERR DB index is out of range"),
                ("COPY s t DB", "-ERR syntax error"),
                ("COPY none t", ":0"),
            ],
        );
        node.db = 1;
        expect(&mut node, &[("SCARD s", ":2"), ("MOVE s 0", ":0"), ("MOVE s 2", ":1"), ("EXISTS s", ":0")]);
        expect(&mut node, &[("MOVE s 1", "-ERR source and destination objects are the same")]);
    }

    #[test]
    fn a_value_that_no_frame_would_hold_is_not_put_anywhere() {
        let mut node = Node::new();
        node.limits.whole_bytes_max = 40;
        let long = "m".repeat(50);
        node.run(&format!("SADD large {long}"));
        node.run("SADD small m");
        node.run("SET k v");
        let refused = "-ERR the value is larger than the 2 GB that rondo puts in place at once";
        let changes = node.effects.writes;
        for line in [
            "RENAME large k",
            "RENAMENX large none",
            "COPY large k REPLACE",
            "COPY large k DB 1",
            "MOVE large 1",
            "SUNIONSTORE k large small",
            "SINTERSTORE none large large",
        ] {
            expect(&mut node, &[(line, refused)]);
        }
        assert_eq!((node.effects.writes, node.db), (changes, 0));
        expect(&mut node, &[("GET k", "$1\r\nv"), ("SCARD large", ":1"), ("EXISTS none", ":0")]);
        expect(&mut node, &[("COPY small k REPLACE", ":1"), ("SUNIONSTORE k small", ":1"), ("MOVE small 1", ":1")]);
    }
}
