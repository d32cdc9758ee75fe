//! Numbers: INCR and its family.
//!
//! Whole numbers grow by `Mutation::Add`, so that additions on both sides of a partition add up; what would overflow
//! the sum that this node sees is refused. INCRBYFLOAT writes the sum as text: sums of floats depend on their order,
//! so of two written at once the later stays.

use crate::commands::CommandError;
use crate::commands::long_double::LongDouble;
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, flag};
use crate::protocol::parse_i64;
use crate::store::ValueRef;
use crate::store::mutation::Mutation;
use crate::store::whole::{self, Encoding};

/// INCR key: the sum.
pub static INCR: Command = Command {
    name: "incr",
    summary: "Increment the integer value of a key by one",
    syntax: "key",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 2,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(incr),
};
fn incr(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    add(cx, 1)
}

/// DECR key: the difference.
pub static DECR: Command = Command {
    name: "decr",
    summary: "Decrement the integer value of a key by one",
    syntax: "key",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 2,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(decr),
};
fn decr(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    add(cx, -1)
}

/// INCRBY key increment: the sum.
pub static INCRBY: Command = Command {
    name: "incrby",
    summary: "Increment the integer value of a key by the given amount",
    syntax: "key increment",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 3,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(incrby),
};
fn incrby(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let by = cx.int(2)?;
    add(cx, by)
}

/// DECRBY key decrement: the difference.
pub static DECRBY: Command = Command {
    name: "decrby",
    summary: "Decrement the integer value of a key by the given number",
    syntax: "key decrement",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 3,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(decrby),
};
fn decrby(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let by = cx.int(2)?.checked_neg().ok_or(CommandError::text("ERR decrement would overflow"))?;
    add(cx, by)
}

fn add(cx: &mut Cx<'_, '_>, by: i64) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let old = match cx.keys.read(key) {
        None => 0,
        Some(ValueRef::Number(number)) => number,
        Some(ValueRef::String(bytes)) => parse_i64(bytes).ok_or(CommandError::NotInteger)?,
        Some(ValueRef::Hash(_) | ValueRef::Set(_)) => return Err(CommandError::WrongType),
    };
    let sum = old.checked_add(by).ok_or(CommandError::Overflow)?;
    cx.keys.write(key, Mutation::Add { by });
    cx.keys.notify(b'$', "incrby", key);
    cx.out.int(sum);
    Ok(())
}

/// INCRBYFLOAT key increment: the sum, as text.
pub static INCRBYFLOAT: Command = Command {
    name: "incrbyfloat",
    summary: "Increment the float value of a key by the given amount",
    syntax: "key increment",
    since: "2.6.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 3,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(incrbyfloat),
};
fn incrbyfloat(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, by) = (cx.arg(1)?, cx.arg(2)?);
    let old = match cx.string(key)? {
        Some(text) => LongDouble::parse(&text).ok_or(CommandError::NotFloat)?,
        None => LongDouble::ZERO,
    };
    let by = LongDouble::parse(by).ok_or(CommandError::NotFloat)?;
    let sum = old.plus(by).ok_or(CommandError::text("ERR increment would produce NaN or Infinity"))?;
    let text = sum.to_text();
    let deadline_ms = cx.keys.peek(key).map_or(0, |entry| entry.deadline_ms());
    // Redis keeps the sum as text even when it is whole.
    let whole = whole::string(text.as_bytes(), Some(Encoding::EmbStr));
    cx.keys.write(key, Mutation::Replace { whole: &whole, deadline_ms });
    cx.keys.notify(b'$', "incrbyfloat", key);
    cx.out.bulk(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    #[test]
    fn numbers_grow_and_read_as_strings() {
        let mut node = Node::new();
        assert_eq!((node.run("INCR n"), node.run("INCRBY n 41")), (":1\r\n".into(), ":42\r\n".into()));
        assert_eq!((node.run("DECR n"), node.run("DECRBY n 50")), (":41\r\n".into(), ":-9\r\n".into()));
        assert_eq!((node.run("GET n"), node.run("STRLEN n")), ("$2\r\n-9\r\n".into(), ":2\r\n".into()));
        node.run("SET n 10 EX 100");
        assert_eq!((node.run("INCR n"), node.run("TTL n")), (":11\r\n".into(), ":100\r\n".into()));
        assert_eq!(node.run("APPEND n x"), ":3\r\n");
        assert_eq!((node.run("GET n"), node.run("TTL n")), ("$3\r\n11x\r\n".into(), ":100\r\n".into()));
        assert_eq!(node.run("INCR n"), "-ERR value is not an integer or out of range\r\n");
    }

    #[test]
    fn overflow_is_refused_and_changes_nothing() {
        let mut node = Node::new();
        node.run("SET n 9223372036854775807");
        assert_eq!(node.run("INCR n"), "-ERR increment or decrement would overflow\r\n");
        assert_eq!(node.run("DECRBY n -9223372036854775808"), "-ERR decrement would overflow\r\n");
        assert_eq!(node.run("GET n"), "$19\r\n9223372036854775807\r\n");
        node.run("SADD s m");
        assert!(node.run("INCR s").starts_with("-WRONGTYPE "));
    }

    #[test]
    fn floats_add_as_long_doubles_and_keep_the_deadline() {
        let mut node = Node::new();
        node.run("SET f 10.50 EX 9");
        assert_eq!(node.run("INCRBYFLOAT f 0.1"), "$4\r\n10.6\r\n");
        assert_eq!(node.run("INCRBYFLOAT f -0.6"), "$2\r\n10\r\n");
        assert_eq!((node.run("TTL f"), node.run("OBJECT ENCODING f")), (":9\r\n".into(), "$6\r\nembstr\r\n".into()));
        assert_eq!((node.run("INCR f"), node.run("OBJECT ENCODING f")), (":11\r\n".into(), "$3\r\nint\r\n".into()));
        assert_eq!(node.run("INCRBYFLOAT f x"), "-ERR value is not a valid float\r\n");
        assert_eq!(node.run("INCRBYFLOAT f inf"), "-ERR increment would produce NaN or Infinity\r\n");
    }
}
