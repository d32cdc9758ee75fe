//! Parts of strings: lengths, ranges, appending and overwriting.
//!
//! Offsets count bytes. A change writes only the bytes that change, as a patch, so a replica is sent no more than that.

use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, flag};
use crate::store::ValueRef;
use crate::store::mutation::Mutation;

/// APPEND key value: the new length.
pub static APPEND: Command = Command {
    name: "append",
    summary: "Append a value to a key",
    syntax: "key value",
    since: "2.0.0",
    complexity: "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present value is of any size, since the dynamic string library used by Redis will double the free space available on every reallocation.",
    group: Group::String,
    arity: 3,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(append),
};
fn append(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, bytes) = (cx.arg(1)?, cx.arg(2)?);
    let old = length(cx.keys.read(key))?;
    let new = check_length(cx, old.unwrap_or(0), bytes.len())?;
    let mutation = match old {
        Some(old) => Mutation::Patch { offset: old as u64, bytes },
        None => Mutation::Assign { value: bytes, deadline_ms: 0 },
    };
    cx.keys.write(key, mutation);
    cx.keys.notify(b'$', "append", key);
    cx.out.int(new as i64);
    Ok(())
}

/// STRLEN key: the length, 0 for no key.
pub static STRLEN: Command = Command {
    name: "strlen",
    summary: "Get the length of the value stored in a key",
    syntax: "key",
    since: "2.2.0",
    complexity: "O(1)",
    group: Group::String,
    arity: 2,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(strlen),
};
fn strlen(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let length = length(cx.keys.read(cx.arg(1)?))?;
    cx.out.int(length.unwrap_or(0) as i64);
    Ok(())
}

/// GETRANGE key start end: the part, both ends included; negative ones count from the end.
pub static GETRANGE: Command = Command {
    name: "getrange",
    summary: "Get a substring of the string stored at a key",
    syntax: "key start end",
    since: "2.4.0",
    complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.",
    group: Group::String,
    arity: 4,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(getrange),
};
fn getrange(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (start, end) = (cx.int(2)?, cx.int(3)?);
    let text = cx.keys.read(cx.arg(1)?).map(|view| view.text().ok_or(CommandError::WrongType)).transpose()?;
    let text = text.as_deref().unwrap_or_default();
    let range = if is_backwards(start, end) { None } else { within(start, end, text.len()) };
    cx.out.bulk(range.and_then(|range| text.get(range)).unwrap_or_default());
    Ok(())
}

/// SUBSTR key start end: GETRANGE under its old name.
pub static SUBSTR: Command = Command {
    name: "substr",
    summary: "Get a substring of the string stored at a key",
    syntax: "key start end",
    since: "1.0.0",
    complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.",
    group: Group::String,
    arity: 4,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(getrange),
};

/// SETRANGE key offset value: the new length.
pub static SETRANGE: Command = Command {
    name: "setrange",
    summary: "Overwrite part of a string at key starting at the specified offset",
    syntax: "key offset value",
    since: "2.2.0",
    complexity: "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument.",
    group: Group::String,
    arity: 4,
    flags: flag::WRITE | flag::REPEATABLE | flag::DENYOOM,
    keys: KEY,
    handler: Handler::Keys(setrange),
};
fn setrange(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, offset, bytes) = (cx.arg(1)?, cx.int(2)?, cx.arg(3)?);
    let offset = usize::try_from(offset).map_err(|_| CommandError::text("ERR offset is out of range"))?;
    let old = length(cx.keys.read(key))?.unwrap_or(0);
    if bytes.is_empty() {
        cx.out.int(old as i64);
        return Ok(());
    }
    let end = check_length(cx, offset, bytes.len())?;
    cx.keys.write(key, Mutation::Patch { offset: offset as u64, bytes });
    cx.keys.notify(b'$', "setrange", key);
    cx.out.int(old.max(end) as i64);
    Ok(())
}

/// The length of a string or number, `None` for no key.
pub(super) fn length(view: Option<ValueRef<'_>>) -> Result<Option<usize>, CommandError> {
    Ok(match view {
        None => None,
        Some(ValueRef::String(bytes)) => Some(bytes.len()),
        Some(ValueRef::Number(number)) => Some(itoa::Buffer::new().format(number).len()),
        Some(ValueRef::Hash(_) | ValueRef::Set(_)) => return Err(CommandError::WrongType),
    })
}

/// The sum of two lengths, if a string may be as long.
fn check_length(cx: &Cx<'_, '_>, one: usize, other: usize) -> Result<usize, CommandError> {
    one.checked_add(other).filter(|sum| *sum <= cx.limits.string_bytes_max).ok_or(CommandError::StringTooLong)
}

/// Ends that are both counted from the end and in the wrong order: Redis looks at most such no further.
pub(super) fn is_backwards(start: i64, end: i64) -> bool {
    start < 0 && end < 0 && start > end
}

/// Two inclusive ends, negative ones counted from the end and cut off at the start, as a range within `len`; `None`
/// when nothing is in it.
pub(super) fn within(start: i64, end: i64, len: usize) -> Option<std::ops::Range<usize>> {
    let len = len as i64;
    let absolute = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (absolute(start), absolute(end).min(len - 1));
    (start <= end).then(|| start as usize..end as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::within;
    use crate::commands::testing::Node;

    #[test]
    fn ranges_are_read_and_written() {
        let mut node = Node::new();
        assert_eq!(node.run("APPEND k Hello"), ":5\r\n");
        assert_eq!(node.run("APPEND k \" World\""), ":11\r\n");
        assert_eq!(node.run("GETRANGE k 0 4"), "$5\r\nHello\r\n");
        assert_eq!(node.run("SUBSTR k -5 -1"), "$5\r\nWorld\r\n");
        assert_eq!(node.run("GETRANGE none 0 -1"), "$0\r\n\r\n");
        assert_eq!(node.run("GETRANGE k -100 -200"), "$0\r\n\r\n");
        assert_eq!(node.run("SETRANGE k 6 Redis"), ":11\r\n");
        assert_eq!(node.run("GET k"), "$11\r\nHello Redis\r\n");
        assert_eq!(node.run("SETRANGE z 3 x"), ":4\r\n");
        assert_eq!(node.run("GET z"), "$4\r\n\0\0\0x\r\n");
        assert_eq!((node.run("SETRANGE e 5 \"\""), node.run("EXISTS e")), (":0\r\n".into(), ":0\r\n".into()));
        assert_eq!(node.run("SETRANGE z -1 x"), "-ERR offset is out of range\r\n");
        let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
        assert_eq!(node.run("SETRANGE z 536870912 x"), too_long);
        assert_eq!(node.run("SETRANGE z 9223372036854775807 x"), too_long);
    }

    #[test]
    fn ends_count_from_either_side() {
        assert_eq!(within(0, -1, 5), Some(0..5));
        assert_eq!(within(-3, -2, 5), Some(2..4));
        assert_eq!(within(-100, 100, 5), Some(0..5));
        assert_eq!(within(3, 1, 5), None);
        assert_eq!(within(0, 0, 0), None);
        assert_eq!(within(i64::MIN, i64::MAX, 5), Some(0..5));
    }
}
