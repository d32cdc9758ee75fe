//! Numbers in the fields of hashes.
//!
//! HINCRBY turns a field into a counter, to which both sides of a partition may add without losing an addition.
//! HINCRBYFLOAT writes the sum as text: sums of floats depend on their order, so of two written at once the later
//! stays.

use crate::commands::CommandError;
use crate::commands::hash::peek_hash;
use crate::commands::long_double::LongDouble;
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, flag};
use crate::protocol::parse_i64;
use crate::store::hash::field;
use crate::store::mutation::Mutation;

/// HINCRBY key field increment: the sum.
pub static HINCRBY: Command = Command {
    name: "hincrby",
    summary: "Increment the integer value of a hash field by the given number",
    syntax: "key field increment",
    since: "2.0.0",
    complexity: "O(1)",
    group: Group::Hash,
    arity: 4,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hincrby),
};
fn hincrby(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, name, by) = (cx.arg(1)?, cx.arg(2)?, cx.int(3)?);
    let element = peek_hash(cx.keys, key)?.and_then(|fields| fields.get(name));
    let old = match element {
        Some(element) => {
            parse_i64(&field(element.payload).text()).ok_or(CommandError::text("ERR hash value is not an integer"))?
        }
        None => 0,
    };
    let sum = old.checked_add(by).ok_or(CommandError::Overflow)?;
    cx.keys.write(key, Mutation::AddField { field: name, by });
    cx.keys.notify(b'h', "hincrby", key);
    cx.out.int(sum);
    Ok(())
}

/// HINCRBYFLOAT key field increment: the sum, as a string.
pub static HINCRBYFLOAT: Command = Command {
    name: "hincrbyfloat",
    summary: "Increment the float value of a hash field by the given amount",
    syntax: "key field increment",
    since: "2.6.0",
    complexity: "O(1)",
    group: Group::Hash,
    arity: 4,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(hincrbyfloat),
};
fn hincrbyfloat(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, name) = (cx.arg(1)?, cx.arg(2)?);
    let by = LongDouble::parse(cx.arg(3)?).ok_or(CommandError::NotFloat)?;
    if !by.is_finite() {
        return Err(CommandError::text("ERR value is NaN or Infinity"));
    }
    let element = peek_hash(cx.keys, key)?.and_then(|fields| fields.get(name));
    let old = match element {
        Some(element) => LongDouble::parse(&field(element.payload).text())
            .ok_or(CommandError::text("ERR hash value is not a float"))?,
        None => LongDouble::ZERO,
    };
    let sum = old.plus(by).ok_or(CommandError::text("ERR increment would produce NaN or Infinity"))?;
    let text = sum.to_text();
    cx.keys.write(key, Mutation::PutField { field: name, value: text.as_bytes() });
    cx.keys.notify(b'h', "hincrbyfloat", key);
    cx.out.bulk(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    #[test]
    fn numbers_grow_and_read_as_text() {
        let mut node = Node::new();
        assert_eq!((node.run("HINCRBY h n 5"), node.run("HINCRBY h n -7")), (":5\r\n".into(), ":-2\r\n".into()));
        assert_eq!((node.run("HGET h n"), node.run("HSTRLEN h n")), ("$2\r\n-2\r\n".into(), ":2\r\n".into()));
        node.run("HSET h n 10");
        assert_eq!(node.run("HINCRBY h n 1"), ":11\r\n");
        assert_eq!(node.run("HINCRBY h n 9223372036854775807"), "-ERR increment or decrement would overflow\r\n");
        assert_eq!(node.run("HINCRBY h n x"), "-ERR value is not an integer or out of range\r\n");
        assert_eq!(node.run("HINCRBYFLOAT h n 0.1"), "$4\r\n11.1\r\n");
        assert_eq!(node.run("HINCRBY h n 1"), "-ERR hash value is not an integer\r\n");
        assert_eq!(node.run("HINCRBYFLOAT h f 5.0e3"), "$4\r\n5000\r\n");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let mut node = Node::new();
        node.run("HSET h t abc");
        assert_eq!(node.run("HINCRBYFLOAT h t 1"), "-ERR hash value is not a float\r\n");
        assert_eq!(node.run("HINCRBYFLOAT h t x"), "-ERR value is not a valid float\r\n");
        assert_eq!(node.run("HINCRBYFLOAT h t inf"), "-ERR value is NaN or Infinity\r\n");
        node.run("HSET h t 1e4932");
        assert_eq!(node.run("HINCRBYFLOAT h t 1e4932"), "-ERR increment would produce NaN or Infinity\r\n");
    }
}
