//! BITFIELD: whole numbers of 1 to 64 bits at any bit of a string.
//!
//! A request is a list of operations. All are read and checked first; then they run in order, on a copy of the bytes
//! from the first to the last that any of them is about; then the bytes that changed are written as one patch. So a
//! request is one write, however many numbers it sets, and costs nothing for the rest of the string.

use crate::commands::CommandError;
use crate::commands::bitmap::{bit_offset, in_longest_string};
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, flag};
use crate::protocol::parse_i64;
use crate::store::mutation::Mutation;

const TYPE_ERROR: CommandError = CommandError::text(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
);

/// BITFIELD key operations: an array with the result of each; null for a SET or INCRBY that failed.
pub static BITFIELD: Command = Command {
    name: "bitfield",
    summary: "Perform arbitrary bitfield integer operations on strings",
    syntax: "key [<GET encoding offset|[OVERFLOW <WRAP|SAT|FAIL>] <SET encoding offset value|INCRBY encoding offset increment>> [<GET encoding offset|[OVERFLOW <WRAP|SAT|FAIL>] <SET encoding offset value|INCRBY encoding offset increment>> ...]]",
    since: "3.2.0",
    complexity: "O(1) for each subcommand specified",
    group: Group::Bitmap,
    arity: -2,
    flags: flag::WRITE | flag::DENYOOM,
    keys: KEY,
    handler: Handler::Keys(bitfield),
};
fn bitfield(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    run(cx, false)
}

/// BITFIELD_RO key GET ...: an array with the numbers.
pub static BITFIELD_RO: Command = Command {
    name: "bitfield_ro",
    summary: "Perform arbitrary bitfield integer operations on strings. Read-only variant of BITFIELD",
    syntax: "key [GET encoding offset [GET encoding offset ...]]",
    since: "6.0.0",
    complexity: "O(1) for each subcommand specified",
    group: Group::Bitmap,
    arity: -2,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(bitfield_ro),
};
fn bitfield_ro(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    run(cx, true)
}

/// The type of a number.
#[derive(Clone, Copy)]
struct Width {
    signed: bool,
    bits: u32,
}

impl Width {
    fn parse(text: &[u8]) -> Result<Width, CommandError> {
        let (kind, digits) = text.split_first().ok_or(TYPE_ERROR)?;
        let (signed, most) = match kind {
            b'i' => (true, 64),
            b'u' => (false, 63),
            _ => return Err(TYPE_ERROR),
        };
        let bits = parse_i64(digits).filter(|bits| (1..=most).contains(bits)).ok_or(TYPE_ERROR)?;
        Ok(Width { signed, bits: bits as u32 })
    }

    fn min(self) -> i128 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    fn max(self) -> i128 {
        if self.signed { (1 << (self.bits - 1)) - 1 } else { (1 << self.bits) - 1 }
    }

    /// The number whose lowest bits these are.
    fn wrapped(self, value: i128) -> i128 {
        let low = value & ((1 << self.bits) - 1);
        if self.signed && low > self.max() { low - (1 << self.bits) } else { low }
    }

    /// The number that SET is asked to store, as Redis's 64-bit arithmetic sees it.
    ///
    /// A negative one means an unsigned number's bits; one so low that its distance to the largest number of this width
    /// leaves 64 bits counts as too high, not as too low.
    fn asked(self, value: i64) -> i128 {
        let turned_over = match self.signed {
            true => self.bits < 64 && (self.max() as i64).checked_sub(value).is_none(),
            false => value < 0,
        };
        i128::from(value) + if turned_over { 1 << 64 } else { 0 }
    }

    fn contains(self, value: i128) -> bool {
        (self.min()..=self.max()).contains(&value)
    }
}

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

impl Overflow {
    /// What becomes of `value` in a number of this width; `None` when the operation fails.
    fn fit(self, value: i128, width: Width) -> Option<i128> {
        match self {
            _ if width.contains(value) => Some(value),
            Overflow::Wrap => Some(width.wrapped(value)),
            Overflow::Saturate => Some(value.clamp(width.min(), width.max())),
            Overflow::Fail => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

#[derive(Clone, Copy)]
struct Operation {
    action: Action,
    width: Width,
    offset: usize,
    overflow: Overflow,
}

impl Operation {
    fn parse_all(cx: &Cx<'_, '_>, only_get: bool) -> Result<Vec<Operation>, CommandError> {
        let (mut operations, mut overflow, mut writes, mut at) = (Vec::new(), Overflow::Wrap, false, 2);
        while let Some(word) = cx.args.get(at) {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let follow = cx.args.len() - at - 1;
            if is(b"OVERFLOW") && follow >= 1 {
                overflow = parse_overflow(cx.arg(at + 1)?)?;
                at += 2;
                continue;
            }
            let words = match () {
                () if is(b"GET") && follow >= 2 => 3,
                () if (is(b"SET") || is(b"INCRBY")) && follow >= 3 => 4,
                () => return Err(CommandError::Syntax),
            };
            let width = Width::parse(cx.arg(at + 1)?)?;
            let offset = parse_offset(cx, cx.arg(at + 2)?, width)?;
            let action = match words {
                3 => Action::Get,
                _ if is(b"SET") => Action::Set(cx.int(at + 3)?),
                _ => Action::Add(cx.int(at + 3)?),
            };
            writes |= words == 4;
            operations.push(Operation { action, width, offset, overflow });
            at += words;
        }
        if writes && only_get {
            return Err(CommandError::text("ERR BITFIELD_RO only supports the GET subcommand"));
        }
        Ok(operations)
    }

    /// The first byte behind the number.
    fn end(&self) -> usize {
        (self.offset + self.width.bits as usize).div_ceil(8)
    }

    /// The first byte that the number touches.
    fn first(&self) -> usize {
        self.offset / 8
    }

    /// Runs on `bytes`, which begin with the string's byte `start`, not behind the number, and are long enough for what
    /// is written; gives the reply, and of a write whether it changed the number.
    fn run(&self, bytes: &mut [u8], start: usize) -> (Option<i128>, Option<bool>) {
        let offset = self.offset - start * 8;
        let old = self.width.wrapped(i128::from(read_bits(bytes, offset, self.width.bits)));
        let (value, shows_new) = match self.action {
            Action::Get => return (Some(old), None),
            Action::Set(value) => (self.width.asked(value), false),
            Action::Add(by) => (old + i128::from(by), true),
        };
        let Some(new) = self.overflow.fit(value, self.width) else { return (None, None) };
        write_bits(bytes, offset, self.width.bits, new as u64);
        (Some(if shows_new { new } else { old }), Some(new != old))
    }
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, CommandError> {
    match () {
        () if word.eq_ignore_ascii_case(b"WRAP") => Ok(Overflow::Wrap),
        () if word.eq_ignore_ascii_case(b"SAT") => Ok(Overflow::Saturate),
        () if word.eq_ignore_ascii_case(b"FAIL") => Ok(Overflow::Fail),
        () => Err(CommandError::text("ERR Invalid OVERFLOW type specified")),
    }
}

/// A bit, or with `#` the bit at which the number of that index starts.
fn parse_offset(cx: &Cx<'_, '_>, text: &[u8], width: Width) -> Result<usize, CommandError> {
    let Some(index) = text.strip_prefix(b"#") else { return bit_offset(cx, text) };
    let index = parse_i64(index).and_then(|index| usize::try_from(index).ok());
    in_longest_string(cx, index.and_then(|index| index.checked_mul(width.bits as usize)))
}

fn read_bits(bytes: &[u8], offset: usize, bits: u32) -> u64 {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    (offset..offset + bits as usize).fold(0, |value, at| value << 1 | u64::from(bit(at)))
}

fn write_bits(bytes: &mut [u8], offset: usize, bits: u32, value: u64) {
    for n in 0..bits {
        let at = offset + n as usize;
        if let Some(byte) = bytes.get_mut(at / 8) {
            let mask = 0x80 >> (at % 8);
            let on = value >> (bits - 1 - n) & 1 != 0;
            *byte = if on { *byte | mask } else { *byte & !mask };
        }
    }
}

/// A copy of the bytes of `text` between the first and the last that operations are about, and where it starts.
fn touched(operations: &[Operation], text: &[u8]) -> (usize, Vec<u8>) {
    let start = operations.iter().map(Operation::first).min().unwrap_or(0);
    let end = operations.iter().map(Operation::end).max().unwrap_or(0).min(text.len());
    (start, text.get(start..end).unwrap_or_default().to_vec())
}

fn run(cx: &mut Cx<'_, '_>, only_get: bool) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let operations = Operation::parse_all(cx, only_get)?;
    let writing = operations.iter().filter(|operation| !matches!(operation.action, Action::Get));
    let (first, end) = writing
        .fold((usize::MAX, 0), |(first, end), operation| (first.min(operation.first()), end.max(operation.end())));
    cx.keys.only_write(end != 0);
    let text = cx.string(key)?.unwrap_or_default();
    let is_longer = end > text.len();
    let (start, mut bytes) = touched(&operations, &text);
    bytes.resize(bytes.len().max(end.saturating_sub(start)), 0);
    cx.out.array(operations.len());
    let mut changed = false;
    for operation in &operations {
        let (reply, wrote) = operation.run(&mut bytes, start);
        changed |= wrote.is_some_and(|changed| changed || is_longer);
        match reply {
            Some(number) => cx.out.int(number as i64),
            None => cx.out.null(),
        }
    }
    // Redis unpacks the string and makes room in it before it finds that an operation fails, and leaves it so.
    let of_writes = first.checked_sub(start).zip(end.checked_sub(start));
    let Some(patch) = of_writes.and_then(|(first, end)| bytes.get(first..end)) else { return Ok(()) };
    let patch = Mutation::Patch { offset: first as u64, bytes: patch };
    if changed {
        cx.keys.write(key, patch);
        cx.keys.notify(b'$', "setbit", key);
    } else if is_longer || !cx.keys.unpack(key) {
        cx.keys.write_unnoticed(key, patch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    #[test]
    fn numbers_are_set_added_to_and_read() {
        let mut node = Node::new();
        let steps = [
            ("BITFIELD f SET u8 0 255 GET u4 0", "*2\r\n:0\r\n:15\r\n"),
            ("BITFIELD f INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", "*2\r\n:1\r\n:1\r\n"),
            ("BITFIELD g SET i8 #1 -1 GET u8 #1 GET i8 8", "*3\r\n:0\r\n:255\r\n:-1\r\n"),
            ("BITFIELD g INCRBY i8 8 -128", "*1\r\n:127\r\n"),
            ("BITFIELD g OVERFLOW FAIL INCRBY i8 8 1", "*1\r\n$-1\r\n"),
            ("BITFIELD g OVERFLOW SAT INCRBY i8 8 1", "*1\r\n:127\r\n"),
            (
                "BITFIELD g SET i64 0 -9223372036854775808 GET i64 0",
                "*2\r\n:35747322042253312\r\n:-9223372036854775808\r\n",
            ),
            ("BITFIELD_RO g GET u1 0", "*1\r\n:1\r\n"),
            ("BITFIELD h OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0", "*2\r\n:0\r\n:127\r\n"),
            ("BITFIELD h OVERFLOW SAT SET i8 0 -9223372036854775 GET i8 0", "*2\r\n:127\r\n:-128\r\n"),
            ("BITFIELD h OVERFLOW SAT SET u8 0 -1 GET u8 0", "*2\r\n:128\r\n:255\r\n"),
            ("BITFIELD g", "*0\r\n"),
        ];
        for (line, reply) in steps {
            assert_eq!(node.run(line), reply, "{line}");
        }
    }

    #[test]
    fn a_number_may_begin_in_the_last_byte_that_a_string_may_have() {
        let mut node = Node::new();
        node.limits.string_bytes_max = 10;
        assert_eq!(node.run("BITFIELD f SET u8 79 255 GET u8 79"), "*2\r\n:0\r\n:255\r\n");
        assert_eq!(node.run("STRLEN f"), ":11\r\n");
        assert_eq!(node.run("BITFIELD f SET u8 80 1"), "-ERR bit offset is not an integer or out of range\r\n");
    }

    #[test]
    fn only_the_bytes_between_the_first_and_the_last_number_are_copied() {
        let at = |offset, bits| super::Operation {
            action: super::Action::Get,
            width: super::Width { signed: false, bits },
            offset,
            overflow: super::Overflow::Wrap,
        };
        let text: Vec<u8> = (0..100).collect();
        assert_eq!(super::touched(&[at(170, 8), at(160, 4)], &text), (20, vec![20, 21, 22]));
        assert_eq!(super::touched(&[at(796, 16)], &text), (99, vec![99]));
        assert_eq!(super::touched(&[at(8_000, 16)], &text), (1_000, vec![]));
        assert_eq!(super::touched(&[], &text), (0, vec![]));
        let mut node = Node::new();
        let steps = [
            ("BITFIELD f SET u8 800 255 GET u8 792 INCRBY u4 804 1 GET u8 800", "*4\r\n:0\r\n:0\r\n:0\r\n:240\r\n"),
            ("BITFIELD f GET u8 800 GET u8 808 GET u16 796", "*3\r\n:240\r\n:0\r\n:3840\r\n"),
            ("BITFIELD f GET u8 99999 SET u8 8 1", "*2\r\n:0\r\n:0\r\n"),
            ("BITFIELD f OVERFLOW FAIL INCRBY u8 800 100 SET u8 1600 7", "*2\r\n$-1\r\n:0\r\n"),
            ("STRLEN f", ":201\r\n"),
            ("BITFIELD f GET u8 8 GET u8 800 GET u8 1600", "*3\r\n:1\r\n:240\r\n:7\r\n"),
        ];
        for (line, reply) in steps {
            assert_eq!(node.run(line), reply, "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut node = Node::new();
        let type_error = "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
        let steps = [
            ("BITFIELD f GET u64 0", type_error),
            ("BITFIELD f GET x8 0", type_error),
            ("BITFIELD f GET i65 0", type_error),
            ("BITFIELD f GET u8", "syntax error"),
            ("BITFIELD f SET u8 0 x", "value is not an integer or out of range"),
            ("BITFIELD f GET u8 -1", "bit offset is not an integer or out of range"),
            ("BITFIELD f OVERFLOW UP", "Invalid OVERFLOW type specified"),
            ("BITFIELD_RO f SET u8 0 1", "BITFIELD_RO only supports the GET subcommand"),
        ];
        for (line, text) in steps {
            assert_eq!(node.run(line), format!("-ERR {text}\r\n"), "{line}");
        }
        assert_eq!(node.run("EXISTS f"), ":0\r\n");
    }
}
