//! Bits of strings: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Bit 0 is the highest of the first byte.
//!
//! What is done to the bytes is in `bits`, numbers of several bits in `bitfield`.

use std::borrow::Cow;
use std::ops::Range;

use crate::commands::CommandError;
use crate::commands::bits;
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, Keys, flag};
use crate::commands::substring::{is_backwards, length, within};
use crate::protocol::parse_i64;
use crate::store::keyspace::value_ref;
use crate::store::mutation::Mutation;
use crate::store::whole::{self, Encoding};

const OFFSET_ERROR: CommandError = CommandError::text("ERR bit offset is not an integer or out of range");

/// SETBIT key offset bit: the old bit.
pub static SETBIT: Command = Command {
    name: "setbit",
    summary: "Sets or clears the bit at offset in the string value stored at key",
    syntax: "key offset value",
    since: "2.2.0",
    complexity: "O(1)",
    group: Group::Bitmap,
    arity: 4,
    flags: flag::WRITE | flag::DENYOOM,
    keys: KEY,
    handler: Handler::Keys(setbit),
};
fn setbit(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, offset) = (cx.arg(1)?, bit_offset(cx, cx.arg(2)?)?);
    let on = match cx.arg(3)? {
        b"0" => false,
        b"1" => true,
        _ => return Err(CommandError::text("ERR bit is not an integer or out of range")),
    };
    let (at, mask) = (offset / 8, 0x80u8 >> (offset % 8));
    let text = cx.string(key)?.unwrap_or_default();
    let (len, byte) = (text.len(), text.get(at).copied().unwrap_or(0));
    let old = byte & mask != 0;
    let new = if on { byte | mask } else { byte & !mask };
    let changes = at >= len || old != on;
    // Even a bit that is as it was makes the string a raw one, as in Redis.
    let patch = Mutation::Patch { offset: at as u64, bytes: &[new] };
    if changes {
        cx.keys.write(key, patch);
        cx.keys.notify(b'$', "setbit", key);
    } else if !cx.keys.unpack(key) {
        cx.keys.write_unnoticed(key, patch);
    }
    cx.out.int(i64::from(old));
    Ok(())
}

/// GETBIT key offset: the bit, 0 behind the end.
pub static GETBIT: Command = Command {
    name: "getbit",
    summary: "Returns the bit value at offset in the string value stored at key",
    syntax: "key offset",
    since: "2.2.0",
    complexity: "O(1)",
    group: Group::Bitmap,
    arity: 3,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(getbit),
};
fn getbit(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, offset) = (cx.arg(1)?, bit_offset(cx, cx.arg(2)?)?);
    let byte = cx.string(key)?.and_then(|text| text.get(offset / 8).copied()).unwrap_or(0);
    cx.out.int(i64::from(byte >> (7 - offset % 8) & 1));
    Ok(())
}

/// The bit that a text names, within the longest string.
pub(super) fn bit_offset(cx: &Cx<'_, '_>, text: &[u8]) -> Result<usize, CommandError> {
    in_longest_string(cx, parse_i64(text).and_then(|offset| usize::try_from(offset).ok()))
}

/// A bit, if there is one, and if the longest string has it.
pub(super) fn in_longest_string(cx: &Cx<'_, '_>, offset: Option<usize>) -> Result<usize, CommandError> {
    offset.filter(|offset| offset / 8 < cx.limits.string_bytes_max).ok_or(OFFSET_ERROR)
}

/// How many bits one step of a range is.
fn unit_bits(word: Option<&[u8]>) -> Result<usize, CommandError> {
    match word {
        Some(word) if word.eq_ignore_ascii_case(b"BIT") => Ok(1),
        Some(word) if !word.eq_ignore_ascii_case(b"BYTE") => Err(CommandError::Syntax),
        _ => Ok(8),
    }
}

/// The bits that the arguments of BITCOUNT mean of `len` bytes; `None` when there are none.
///
/// As in Redis, ends that are both counted from the end and in the wrong order are not looked at further.
fn range_of_bitcount(cx: &Cx<'_, '_>, len: usize) -> Result<Option<Range<usize>>, CommandError> {
    let (start, end) = (cx.int(2)?, cx.int(3)?);
    if is_backwards(start, end) {
        return Ok(None);
    }
    Ok(bits_between(start, end, unit_bits(cx.args.get(4))?, len))
}

/// The bits that the arguments of BITPOS mean of `len` bytes; `None` when there are none.
///
/// As in Redis, the unit is read before the end.
fn range_of_bitpos(cx: &Cx<'_, '_>, len: usize) -> Result<Option<Range<usize>>, CommandError> {
    let start = cx.int(3)?;
    let unit = unit_bits(cx.args.get(5))?;
    let end = if cx.args.len() > 4 { cx.int(4)? } else { -1 };
    Ok(bits_between(start, end, unit, len))
}

/// Two inclusive ends in units of `unit` bits, as bits of `len` bytes.
fn bits_between(start: i64, end: i64, unit: usize, len: usize) -> Option<Range<usize>> {
    within(start, end, len * 8 / unit).map(|range| range.start * unit..range.end * unit)
}

/// BITCOUNT key with a range: how many bits are 1.
pub static BITCOUNT: Command = Command {
    name: "bitcount",
    summary: "Count set bits in a string",
    syntax: "key [start end [BYTE|BIT]]",
    since: "2.6.0",
    complexity: "O(N)",
    group: Group::Bitmap,
    arity: -2,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(bitcount),
};
fn bitcount(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let len = length(cx.keys.read(key))?;
    let Some(len) = len else {
        cx.out.int(0);
        return Ok(());
    };
    let range = match cx.args.len() {
        2 => Some(0..len * 8),
        4 | 5 => range_of_bitcount(cx, len)?,
        _ => return Err(CommandError::Syntax),
    };
    let text = seen_text(cx, key).unwrap_or_default();
    let count = range.map_or(0, |range| bits::count(&text, range));
    cx.out.int(count as i64);
    Ok(())
}

/// The text of a string that has been looked up already.
fn seen_text<'t>(cx: &'t Cx<'_, '_>, key: &[u8]) -> Option<Cow<'t, [u8]>> {
    cx.keys.peek(key).and_then(value_ref)?.text()
}

/// BITPOS key bit with a range: the position of the first such bit, -1 for none.
pub static BITPOS: Command = Command {
    name: "bitpos",
    summary: "Find first bit set or clear in a string",
    syntax: "key bit [start [end [BYTE|BIT]]]",
    since: "2.8.7",
    complexity: "O(N)",
    group: Group::Bitmap,
    arity: -3,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(bitpos),
};
fn bitpos(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let wanted = match cx.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::text("ERR The bit argument must be 1 or 0.")),
    };
    let Some(len) = length(cx.keys.read(key))? else {
        cx.out.int(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let range = match cx.args.len() {
        3 => Some(0..len * 8),
        4..=6 => range_of_bitpos(cx, len)?,
        _ => return Err(CommandError::Syntax),
    };
    let end_is_given = cx.args.len() > 4;
    let text = seen_text(cx, key).unwrap_or_default();
    let position = match range.filter(|range| !range.is_empty()) {
        None => -1,
        Some(range) => match bits::first(&text, range, wanted) {
            Some(at) => at as i64,
            // Without an end the string is followed by zeros without end.
            None if !wanted && !end_is_given => (len * 8) as i64,
            None => -1,
        },
    };
    cx.out.int(position);
    Ok(())
}

/// BITOP operation destination key ...: the length of the result, which is stored.
pub static BITOP: Command = Command {
    name: "bitop",
    summary: "Perform bitwise operations between strings",
    syntax: "operation destkey key [key ...]",
    since: "2.6.0",
    complexity: "O(N)",
    group: Group::Bitmap,
    arity: -4,
    flags: flag::WRITE | flag::READS_TOO | flag::DENYOOM | flag::LONG,
    keys: Keys::Range { first: 2, last: -1, step: 1 },
    handler: Handler::Keys(bitop),
};
fn bitop(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (name, destination) = (cx.arg(1)?, cx.arg(2)?);
    let result = match () {
        () if name.eq_ignore_ascii_case(b"AND") => combined(cx, |a, b| a & b)?,
        () if name.eq_ignore_ascii_case(b"OR") => combined(cx, |a, b| a | b)?,
        () if name.eq_ignore_ascii_case(b"XOR") => combined(cx, |a, b| a ^ b)?,
        () if !name.eq_ignore_ascii_case(b"NOT") => return Err(CommandError::Syntax),
        () if cx.args.len() != 4 => {
            return Err(CommandError::text("ERR BITOP NOT must be called with a single source key."));
        }
        () => cx.string(cx.arg(3)?)?.unwrap_or_default().iter().map(|byte| !byte).collect(),
    };
    if !result.is_empty() {
        let whole = whole::string(&result, Some(Encoding::Raw));
        cx.put_whole(destination, &whole, 0)?;
        cx.keys.notify(b'$', "set", destination);
    } else if cx.keys.delete(destination) {
        cx.keys.notify(b'g', "del", destination);
    }
    cx.out.int(result.len() as i64);
    Ok(())
}

/// The strings of all source keys, combined from the first on.
fn combined(cx: &mut Cx<'_, '_>, operation: impl Fn(u8, u8) -> u8) -> Result<Vec<u8>, CommandError> {
    let mut result = cx.string(cx.arg(3)?)?.unwrap_or_default().into_owned();
    for key in cx.args.iter().skip(4) {
        bits::combine(&mut result, &cx.string(key)?.unwrap_or_default(), &operation);
    }
    Ok(result)
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
    fn single_bits() {
        let mut node = Node::new();
        expect(
            &mut node,
            &[
                ("SETBIT b 7 1", ":0"),
                ("SETBIT b 7 0", ":1"),
                ("SETBIT b 17 1", ":0"),
                ("STRLEN b", ":3"),
                ("GETBIT b 17", ":1"),
                ("GETBIT b 1000", ":0"),
                ("SETBIT b -1 1", "-ERR bit offset is not an integer or out of range"),
                ("SETBIT b 4294967296 1", "-ERR bit offset is not an integer or out of range"),
                ("SETBIT b 1 2", "-ERR bit is not an integer or out of range"),
            ],
        );
    }

    #[test]
    fn counting_and_finding() {
        let mut node = Node::new();
        expect(
            &mut node,
            &[
                ("SET b foobar", "+OK"),
                ("BITCOUNT b", ":26"),
                ("BITCOUNT b 1 1", ":6"),
                ("BITCOUNT b 5 30 BIT", ":17"),
                ("BITCOUNT b 5 -30 BIT", ":10"),
                ("BITCOUNT b 0", "-ERR syntax error"),
                ("BITCOUNT none", ":0"),
                ("SET p \"\\x00\\xff\\xf0\"", "+OK"),
                ("BITPOS p 1", ":8"),
                ("BITPOS p 1 2", ":16"),
                ("BITPOS p 0 1", ":20"),
                ("BITPOS p 1 9 15 BIT", ":9"),
                ("BITPOS p 0 1 1", ":-1"),
                ("BITPOS p 0 -20 -30", ":0"),
                ("BITPOS p 1 0 BIT 3", "-ERR syntax error"),
                ("BITCOUNT p -2 -3 NOSUCH", ":0"),
                ("BITCOUNT p 0 -3 NOSUCH", "-ERR syntax error"),
                ("SET p \"\\xff\"", "+OK"),
                ("BITPOS p 0", ":8"),
                ("BITPOS p 0 0", ":8"),
                ("BITPOS p 0 0 -1", ":-1"),
                ("BITPOS none 0", ":0"),
                ("BITPOS none 1", ":-1"),
            ],
        );
    }

    #[test]
    fn operations_pad_with_zeros() {
        let mut node = Node::new();
        expect(
            &mut node,
            &[
                ("MSET a abc b ab", "+OK"),
                ("BITOP AND d a b", ":3"),
                ("GET d", "$3\r\nab\0"),
                ("BITOP XOR d a b", ":3"),
                ("GET d", "$3\r\n\0\0c"),
                ("BITOP OR d none a", ":3"),
                ("GET d", "$3\r\nabc"),
                ("BITOP NOT d a b", "-ERR BITOP NOT must be called with a single source key."),
                ("BITOP NOT d none", ":0"),
                ("EXISTS d", ":0"),
            ],
        );
    }
}
