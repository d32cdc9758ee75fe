//! Strings as a whole: reading one, setting one, and what does both.
//!
//! Parts of strings are in `substring`, numbers in `counter`, bits in `bitmap` and `bitfield`.

use crate::commands::CommandError;
use crate::commands::expiry::{self, Unit};
use crate::commands::spec::{Command, Cx, Gather, Group, Handler, KEY, Keys, flag};
use crate::store::mutation::Mutation;
use crate::store::{ValueRef, keyspace};

/// GET key: the string, or null.
pub static GET: Command = Command {
    name: "get",
    summary: "Get the value of a key",
    syntax: "key",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 2,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(get),
};
fn get(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let view = cx.keys.read(cx.arg(1)?);
    Cx::reply_string(&mut cx.out, view)
}

/// SET key value with options: OK, null when a condition failed, or the old value with GET.
pub static SET: Command = Command {
    name: "set",
    summary: "Set the string value of a key",
    syntax: "key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: -3,
    flags: flag::WRITE | flag::READS_TOO | flag::REPEATABLE | flag::DENYOOM,
    keys: KEY,
    handler: Handler::Keys(set),
};
fn set(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, value) = (cx.arg(1)?, cx.arg(2)?);
    if cx.args.len() == 3 {
        // The usual case, kept free of everything the options need.
        put(cx, key, value);
        cx.out.ok();
        return Ok(());
    }
    let options = Options::parse(cx, 3, true)?;
    let deadline_ms = match options.expiry {
        Expiry::None | Expiry::Persist => 0,
        Expiry::Keep => cx.keys.peek(key).map_or(0, |entry| entry.deadline_ms()),
        Expiry::In(unit, amount) => unit.deadline_ms(amount, cx.keys.now_ms(), "set")?,
    };
    if options.get {
        let old = cx.keys.read(key);
        Cx::reply_string(&mut cx.out, old)?;
    }
    let refused = match options.condition {
        Condition::Always => false,
        Condition::IfAbsent => cx.keys.exists(key),
        Condition::IfPresent => !cx.keys.exists(key),
    };
    if refused {
        if !options.get {
            cx.out.null();
        }
        return Ok(());
    }
    // Also with a deadline that has passed: the key has been there, and goes as any that expires.
    cx.keys.write(key, Mutation::Assign { value, deadline_ms });
    cx.keys.notify(b'$', "set", key);
    if matches!(options.expiry, Expiry::In(..)) {
        cx.keys.notify(b'g', "expire", key);
    }
    if !options.get {
        cx.out.ok();
    }
    Ok(())
}

/// Sets a string without a deadline.
fn put(cx: &mut Cx<'_, '_>, key: &[u8], value: &[u8]) {
    cx.keys.write(key, Mutation::Assign { value, deadline_ms: 0 });
    cx.keys.notify(b'$', "set", key);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// What SET and GETEX say about the deadline; the number is looked at only when all options are known to be right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry<'a> {
    None,
    Keep,
    Persist,
    In(Unit, &'a [u8]),
}

/// The options of SET and GETEX.
struct Options<'a> {
    condition: Condition,
    get: bool,
    expiry: Expiry<'a>,
}

impl<'a> Options<'a> {
    /// Reads the options from argument `at` on; `setting` is true for SET, false for GETEX.
    fn parse(cx: &Cx<'a, '_>, mut at: usize, setting: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options { condition: Condition::Always, get: false, expiry: Expiry::None };
        while let Some(word) = cx.args.get(at) {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let expiry = options.expiry;
            if setting && is(b"NX") && options.condition != Condition::IfPresent {
                options.condition = Condition::IfAbsent;
            } else if setting && is(b"XX") && options.condition != Condition::IfAbsent {
                options.condition = Condition::IfPresent;
            } else if setting && is(b"GET") {
                options.get = true;
            } else if setting && is(b"KEEPTTL") && matches!(expiry, Expiry::None | Expiry::Keep) {
                options.expiry = Expiry::Keep;
            } else if !setting && is(b"PERSIST") && matches!(expiry, Expiry::None | Expiry::Persist) {
                options.expiry = Expiry::Persist;
            } else {
                let unit = Unit::parse(word).ok_or(CommandError::Syntax)?;
                // The same unit may come twice: the last counts.
                let fits = matches!(expiry, Expiry::None) || matches!(expiry, Expiry::In(before, _) if before == unit);
                at += 1;
                let amount = cx.args.get(at).filter(|_| fits).ok_or(CommandError::Syntax)?;
                options.expiry = Expiry::In(unit, amount);
            }
            at += 1;
        }
        Ok(options)
    }
}

/// SETNX key value: 1 when the key was set, 0 when there already was one.
pub static SETNX: Command = Command {
    name: "setnx",
    summary: "Set the value of a key, only if the key does not exist",
    syntax: "key value",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 3,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(setnx),
};
fn setnx(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, value) = (cx.arg(1)?, cx.arg(2)?);
    let absent = !cx.keys.exists(key);
    if absent {
        put(cx, key, value);
    }
    cx.out.int(i64::from(absent));
    Ok(())
}

/// SETEX key seconds value: OK.
pub static SETEX: Command = Command {
    name: "setex",
    summary: "Set the value and expiration of a key",
    syntax: "key seconds value",
    since: "2.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 4,
    flags: flag::WRITE | flag::REPEATABLE | flag::DENYOOM,
    keys: KEY,
    handler: Handler::Keys(setex),
};
fn setex(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    set_expiring(cx, Unit::Ex, "setex")
}

/// PSETEX key milliseconds value: OK.
pub static PSETEX: Command = Command {
    name: "psetex",
    summary: "Set the value and expiration in milliseconds of a key",
    syntax: "key milliseconds value",
    since: "2.6.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 4,
    flags: flag::WRITE | flag::REPEATABLE | flag::DENYOOM,
    keys: KEY,
    handler: Handler::Keys(psetex),
};
fn psetex(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    set_expiring(cx, Unit::Px, "psetex")
}

fn set_expiring(cx: &mut Cx<'_, '_>, unit: Unit, command: &'static str) -> Result<(), CommandError> {
    let (key, amount, value) = (cx.arg(1)?, cx.arg(2)?, cx.arg(3)?);
    let deadline_ms = unit.deadline_ms(amount, cx.keys.now_ms(), command)?;
    cx.keys.write(key, Mutation::Assign { value, deadline_ms });
    cx.keys.notify(b'$', "set", key);
    cx.keys.notify(b'g', "expire", key);
    cx.out.ok();
    Ok(())
}

/// GETSET key value: the old string, or null.
pub static GETSET: Command = Command {
    name: "getset",
    summary: "Set the string value of a key and return its old value",
    syntax: "key value",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 3,
    flags: flag::WRITE | flag::READS_TOO | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(getset),
};
fn getset(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, value) = (cx.arg(1)?, cx.arg(2)?);
    let old = cx.keys.read(key);
    Cx::reply_string(&mut cx.out, old)?;
    put(cx, key, value);
    Ok(())
}

/// GETDEL key: the string, which is then deleted, or null.
pub static GETDEL: Command = Command {
    name: "getdel",
    summary: "Get the value of a key and delete the key",
    syntax: "key",
    since: "6.2.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 2,
    flags: flag::WRITE | flag::READS_TOO | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(getdel),
};
fn getdel(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let old = cx.keys.read(key);
    Cx::reply_string(&mut cx.out, old)?;
    if cx.keys.delete(key) {
        cx.keys.notify(b'g', "del", key);
    }
    Ok(())
}

/// GETEX key with a deadline: the string, whose deadline is then changed, or null.
pub static GETEX: Command = Command {
    name: "getex",
    summary: "Get the value of a key and optionally set its expiration",
    syntax: "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]",
    since: "6.2.0",
    complexity: "O(1)",
    group: Group::String,
    arity: -2,
    flags: flag::WRITE | flag::READS_TOO | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(getex),
};
fn getex(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let options = Options::parse(cx, 2, false)?;
    let view = cx.keys.read(key);
    let absent = view.is_none();
    if absent || matches!(view, Some(ValueRef::Hash(_) | ValueRef::Set(_))) {
        return Cx::reply_string(&mut cx.out, view);
    }
    // Redis looks at the amount only now, when the key is known to be a string.
    let deadline_ms = match options.expiry {
        Expiry::In(unit, amount) => Some(unit.deadline_ms(amount, cx.keys.now_ms(), "getex")?),
        Expiry::Persist => Some(0),
        Expiry::None | Expiry::Keep => None,
    };
    let view = cx.keys.peek(key).and_then(keyspace::value_ref);
    Cx::reply_string(&mut cx.out, view)?;
    match deadline_ms {
        None => {}
        Some(0) => expiry::persist_key(cx, key),
        Some(deadline_ms) => expiry::expire_key(cx, key, deadline_ms),
    }
    Ok(())
}

/// MGET key ...: the strings; null for what is absent or no string.
pub static MGET: Command = Command {
    name: "mget",
    summary: "Get the values of all the given keys",
    syntax: "key [key ...]",
    since: "1.0.0",
    complexity: "O(N) where N is the number of keys to retrieve.",
    group: Group::String,
    arity: -2,
    flags: flag::READONLY | flag::FAST,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::FanOut(mget, Gather::Concat),
};
fn mget(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    cx.out.array(cx.args.len() - 1);
    for key in cx.args.iter().skip(1) {
        match cx.keys.read(key) {
            Some(ValueRef::String(bytes)) => cx.out.bulk(bytes),
            Some(ValueRef::Number(number)) => cx.out.bulk_int(number),
            Some(ValueRef::Hash(_) | ValueRef::Set(_)) | None => cx.out.null(),
        }
    }
    Ok(())
}

/// MSET key value ...: OK.
pub static MSET: Command = Command {
    name: "mset",
    summary: "Set multiple keys to multiple values",
    syntax: "key value [key value ...]",
    since: "1.0.1",
    complexity: "O(N) where N is the number of keys to set.",
    group: Group::String,
    arity: -3,
    flags: flag::WRITE | flag::REPEATABLE | flag::DENYOOM,
    keys: Keys::Range { first: 1, last: -1, step: 2 },
    handler: Handler::FanOut(mset, Gather::Ok),
};
fn mset(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    put_pairs(cx, "mset", false)?;
    cx.out.ok();
    Ok(())
}

/// MSETNX key value ...: 1 when all keys were set, 0 when none was because one already existed.
pub static MSETNX: Command = Command {
    name: "msetnx",
    summary: "Set multiple keys to multiple values, only if none of the keys exist",
    syntax: "key value [key value ...]",
    since: "1.0.1",
    complexity: "O(N) where N is the number of keys to set.",
    group: Group::String,
    arity: -3,
    flags: flag::WRITE | flag::DENYOOM,
    keys: Keys::Range { first: 1, last: -1, step: 2 },
    handler: Handler::Keys(msetnx),
};
fn msetnx(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let done = put_pairs(cx, "msetnx", true)?;
    cx.out.int(i64::from(done));
    Ok(())
}

fn put_pairs(cx: &mut Cx<'_, '_>, command: &'static str, only_if_absent: bool) -> Result<bool, CommandError> {
    let (args, len) = (cx.args, cx.args.len());
    if len.is_multiple_of(2) {
        return Err(CommandError::Arity(command.into()));
    }
    if only_if_absent && args.iter().skip(1).step_by(2).any(|key| cx.keys.exists(key)) {
        return Ok(false);
    }
    for at in (1..len).step_by(2) {
        put(cx, cx.arg(at)?, cx.arg(at + 1)?);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    #[test]
    fn set_and_get() {
        let mut node = Node::new();
        assert_eq!(node.run("GET k"), "$-1\r\n");
        assert_eq!(node.run("SET k v"), "+OK\r\n");
        assert_eq!(node.run("GET k"), "$1\r\nv\r\n");
        assert_eq!(node.run("SET k w NX"), "$-1\r\n");
        assert_eq!(node.run("SET k w XX GET"), "$1\r\nv\r\n");
        assert_eq!(node.run("SET k x NX XX"), "-ERR syntax error\r\n");
        assert_eq!(node.run("SET k x EX 0"), "-ERR invalid expire time in 'set' command\r\n");
        assert_eq!(node.run("SET k x EX x y"), "-ERR syntax error\r\n");
        assert_eq!(node.run("SET k x PX 5 px 100"), "+OK\r\n");
        node.advance_ms(99);
        assert_eq!(node.run("GET k"), "$1\r\nx\r\n");
        node.advance_ms(1);
        assert_eq!(node.run("GET k"), "$-1\r\n");
    }

    #[test]
    fn getex_and_getdel_and_getset() {
        let mut node = Node::new();
        node.run("SADD s m");
        node.run("SET k v");
        assert_eq!(node.run("GETEX k EX 10"), "$1\r\nv\r\n");
        assert_eq!(node.run("TTL k"), ":10\r\n");
        assert_eq!(node.run("GETEX k PERSIST"), "$1\r\nv\r\n");
        assert_eq!(node.run("TTL k"), ":-1\r\n");
        assert_eq!(node.run("GETEX k EX 1 PERSIST"), "-ERR syntax error\r\n");
        assert_eq!(node.run("GETEX k EX x"), "-ERR value is not an integer or out of range\r\n");
        assert_eq!(node.run("GETEX none EX x"), "$-1\r\n");
        assert_eq!(node.run("GETEX k EXAT 1"), "$1\r\nv\r\n");
        assert_eq!(node.run("GETSET k a"), "$-1\r\n");
        assert_eq!(node.run("GETDEL k"), "$1\r\na\r\n");
        assert_eq!(node.run("EXISTS k"), ":0\r\n");
        for line in ["GETSET s v", "GETDEL s", "GETEX s", "SET s v GET"] {
            assert!(node.run(line).starts_with("-WRONGTYPE "), "{line}");
        }
    }

    #[test]
    fn several_at_once() {
        let mut node = Node::new();
        node.run("SADD s m");
        assert_eq!(node.run("MSET a 1 b 2"), "+OK\r\n");
        assert_eq!(node.run("MSET a 1 b"), "-ERR wrong number of arguments for 'mset' command\r\n");
        assert_eq!(node.run("MSETNX c 3 a 4"), ":0\r\n");
        assert_eq!(node.run("MSETNX c 3 d 4"), ":1\r\n");
        assert_eq!(node.run("MGET a none s c"), "*4\r\n$1\r\n1\r\n$-1\r\n$-1\r\n$1\r\n3\r\n");
        assert_eq!((node.run("SETNX a 9"), node.run("SETNX e 9")), (":0\r\n".into(), ":1\r\n".into()));
        assert_eq!(node.run("SETEX e 0 v"), "-ERR invalid expire time in 'setex' command\r\n");
        assert_eq!(node.run("PSETEX e 1500 v"), "+OK\r\n");
        assert_eq!(node.run("TTL e"), ":2\r\n");
    }
}
