//! Keys of any type: deleting, finding, moving and copying them, and OBJECT.
//!
//! Deadlines are in `expiry`; KEYS, SCAN and other commands about the whole keyspace are run by the server.
//!
//! RENAME, COPY and MOVE write the value as one mutation under the new name, so no replica ever shows half of it. They
//! cost what the value is large; Redis only moves a pointer.

use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Gather, Group, Handler, KEY, Keys, flag};
use crate::commands::subcommands;
use crate::protocol::parse_i64;
use crate::store::keyspace::value_ref;
use crate::store::whole::Encoding;

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

/// OBJECT subcommand: how a value is kept and when it was used; null for no key.
pub static OBJECT: Command = Command {
    name: "object",
    summary: "A container for object introspection commands",
    syntax: "subcommand [argument ...]",
    since: "2.2.3",
    complexity: "Depends on subcommand.",
    group: Group::Generic,
    arity: -2,
    flags: 0,
    keys: Keys::Subcommand { at: 2 },
    handler: Handler::Keys(object),
};
pub(super) fn object(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let known = subcommands::short_name(subcommands::checked(&OBJECT, cx.args)?);
    if known == "help" {
        cx.out.array(OBJECT_HELP.len());
        OBJECT_HELP.iter().for_each(|line| cx.out.simple(line));
        return Ok(());
    }
    let (access, shares) = (cx.keys.access(), cx.keys.shares_values());
    let Some(entry) = cx.keys.look_untold(cx.arg(2)?) else {
        cx.out.null();
        return Ok(());
    };
    match known {
        "encoding" => {
            let encoding = Encoding::of(entry).map_or("", Encoding::name);
            cx.out.bulk(encoding.as_bytes());
        }
        "freq" if access.is_lfu() => {
            let frequency = access.frequency(entry);
            cx.out.int(i64::from(frequency));
        }
        "freq" => return Err(CommandError::text(NO_FREQUENCY)),
        "idletime" if access.is_lfu() => return Err(CommandError::text(NO_IDLE_TIME)),
        "idletime" => {
            let idle_s = access.idle_s(entry);
            cx.out.int(i64::from(idle_s));
        }
        _ => {
            let count = if shares { references(entry) } else { 1 };
            cx.out.int(count);
        }
    }
    Ok(())
}

/// What Redis says: the small numbers are shared by everybody, all else has one owner.
fn references(entry: &crate::store::entry::Entry) -> i64 {
    let small = Encoding::of(entry) == Some(Encoding::Int)
        && value_ref(entry)
            .and_then(|view| view.text())
            .and_then(|text| parse_i64(&text))
            .is_some_and(|n| (0..10_000).contains(&n));
    if small { i64::from(i32::MAX) } else { 1 }
}

const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
const NO_IDLE_TIME: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";

const OBJECT_HELP: [&str; 15] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    fn expect(node: &mut Node, steps: &[(&str, &str)]) {
        for (line, reply) in steps {
            assert_eq!(node.run(line), format!("{reply}\r\n"), "{line}");
        }
    }

    #[test]
    fn object_does_not_tell_of_a_key_that_is_not_there() {
        let mut node = Node::new();
        node.effects.notify = true;
        assert_eq!(node.run("OBJECT ENCODING none"), "$-1\r\n");
        assert!(node.effects.events.is_empty() && node.effects.misses == 1);
        node.run("TYPE none");
        assert_eq!(node.effects.events.len(), 1);
    }

    #[test]
    fn a_small_number_has_owners_without_end_unless_keys_go_for_their_use() {
        use crate::base::config::MaxmemoryPolicy::{AllkeysLru, AllkeysRandom, VolatileLfu, VolatileTtl};
        let mut node = Node::new();
        node.run("MSET small 5 large 10000");
        assert_eq!(node.run("OBJECT REFCOUNT small"), ":2147483647\r\n");
        for (bytes_max, policy, count) in [
            (0, AllkeysLru, "2147483647"),
            (1 << 40, AllkeysLru, "1"),
            (1 << 40, VolatileLfu, "1"),
            (1 << 40, VolatileTtl, "2147483647"),
            (1 << 40, AllkeysRandom, "2147483647"),
        ] {
            node.store.eviction.bytes_max.store(bytes_max, std::sync::atomic::Ordering::Relaxed);
            node.store.eviction.set_policy(policy);
            assert_eq!(node.run("OBJECT REFCOUNT small"), format!(":{count}\r\n"), "{policy:?}");
            assert_eq!(node.run("OBJECT REFCOUNT large"), ":1\r\n");
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

    #[test]
    fn encodings_are_those_of_redis_and_move_with_the_value() {
        let mut node = Node::new();
        let long = "x".repeat(44);
        for (line, encoding) in [
            ("SET k 123".to_owned(), "int"),
            ("SET k 0123".to_owned(), "embstr"),
            (format!("SET k {long}"), "embstr"),
            (format!("SET k {long}x"), "raw"),
            ("SET k 12".to_owned(), "int"),
            ("APPEND k 3".to_owned(), "raw"),
            ("RENAME k k".to_owned(), "raw"),
            ("COPY k j REPLACE".to_owned(), "raw"),
            ("RENAME j k".to_owned(), "raw"),
            ("INCR k".to_owned(), "int"),
        ] {
            node.run(&line);
            assert_eq!(node.run("OBJECT ENCODING k"), format!("${}\r\n{encoding}\r\n", encoding.len()), "{line}");
        }
        expect(
            &mut node,
            &[
                ("OBJECT REFCOUNT k", ":2147483647"),
                ("OBJECT IDLETIME k", ":0"),
                ("OBJECT ENCODING none", "$-1"),
                ("OBJECT nope", "-ERR unknown subcommand 'nope'. Try OBJECT HELP."),
                ("OBJECT FREQ", "-ERR wrong number of arguments for 'object|freq' command"),
            ],
        );
        assert!(node.run("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected"));
        assert!(node.run("OBJECT HELP").starts_with("*15\r\n+OBJECT <subcommand>"));
    }
}
