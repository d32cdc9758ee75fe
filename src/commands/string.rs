//! Strings: GET, SET and what reads or replaces a whole value.

use crate::commands::spec::{Command, Cx, Group, Handler, Keys, flag};
use crate::commands::{CommandError, expiry};
use crate::store::mutation::Mutation;

pub(super) const KEY: Keys = Keys::Range { first: 1, last: 1, step: 1 };

/// GET key: the string, or null.
pub static GET: Command = Command {
    name: "get",
    summary: "Returns the string value of a key.",
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
    summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
    syntax: "key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: -3,
    flags: flag::WRITE | flag::DENYOOM,
    keys: KEY,
    handler: Handler::Keys(set),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

struct SetOptions {
    condition: Condition,
    get: bool,
    deadline: expiry::Deadline,
}

fn set(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, value) = (cx.arg(1)?, cx.arg(2)?);
    if cx.args.len() == 3 {
        // The usual case, kept free of everything the options need.
        cx.keys.write(key, Mutation::Assign { value, deadline_ms: 0 });
        cx.keys.notify(b'$', "set", key);
        cx.out.ok();
        return Ok(());
    }
    let options = set_options(cx)?;
    let deadline_ms = match options.deadline {
        expiry::Deadline::None => 0,
        expiry::Deadline::Keep => cx.keys.peek(key).map_or(0, |entry| entry.deadline_ms()),
        expiry::Deadline::At(deadline_ms) => deadline_ms,
    };
    if options.get {
        let old = cx.keys.read(key);
        Cx::reply_string(&mut cx.out, old)?;
    }
    let exists = options.condition != Condition::Always && cx.keys.exists(key);
    let refused = match options.condition {
        Condition::Always => false,
        Condition::IfAbsent => exists,
        Condition::IfPresent => !exists,
    };
    if refused {
        if !options.get {
            cx.out.null();
        }
        return Ok(());
    }
    expiry::assign(cx, key, value, deadline_ms);
    cx.keys.notify(b'$', "set", key);
    if !options.get {
        cx.out.ok();
    }
    Ok(())
}

fn set_options(cx: &Cx<'_, '_>) -> Result<SetOptions, CommandError> {
    let mut options = SetOptions { condition: Condition::Always, get: false, deadline: expiry::Deadline::None };
    let mut at = 3;
    while let Some(word) = cx.args.get(at) {
        let unset = matches!(options.deadline, expiry::Deadline::None);
        let word = word.to_ascii_uppercase();
        match &word[..] {
            b"NX" if options.condition != Condition::IfPresent => options.condition = Condition::IfAbsent,
            b"XX" if options.condition != Condition::IfAbsent => options.condition = Condition::IfPresent,
            b"GET" => options.get = true,
            b"KEEPTTL" if unset => options.deadline = expiry::Deadline::Keep,
            unit if unset && expiry::Unit::parse(unit).is_some() && at + 1 < cx.args.len() => {
                at += 1;
                let unit = expiry::Unit::parse(unit).ok_or(CommandError::Syntax)?;
                options.deadline = expiry::Deadline::At(unit.deadline_ms(cx.int(at)?, cx.keys.now_ms(), "set")?);
            }
            _ => return Err(CommandError::Syntax),
        }
        at += 1;
    }
    Ok(options)
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
        assert_eq!(node.run("SET k x PX 100"), "+OK\r\n");
        node.advance_ms(99);
        assert_eq!(node.run("GET k"), "$1\r\nx\r\n");
        node.advance_ms(1);
        assert_eq!(node.run("GET k"), "$-1\r\n");
    }
}
