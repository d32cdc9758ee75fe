//! Walking a collection in steps: cursors, options, HSCAN and SSCAN.
//!
//! A cursor is where the walk goes on, 0 at its start and its end. What is there during the whole walk is seen at least
//! once, whichever node answers: one that cannot go on from a cursor starts over (`Elements::scan`). A packed
//! collection is answered whole, as Redis does with its small ones.

use crate::base::glob;
use crate::base::words::until_nul;
use crate::commands::CommandError;
use crate::commands::hash::{read_hash, reply_value};
use crate::commands::set::read_set;
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, flag};
use crate::protocol::{Args, Reply, parse_i64};
use crate::store::canonical_int;
use crate::store::element::Element;
use crate::store::elements::Elements;

/// How many elements a step visits unless COUNT says otherwise.
const COUNT_DEFAULT: usize = 10;

/// What a SCAN command says beside the cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanOptions<'a> {
    /// MATCH: answer only what this glob matches; `None` for everything.
    pub pattern: Option<&'a [u8]>,
    /// COUNT: about how many elements to visit.
    pub count: usize,
    /// TYPE: answer only keys of this type; SCAN alone knows it.
    pub type_name: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options from argument `from` on; TYPE only when `typed`.
    pub fn parse(args: Args<'a>, from: usize, typed: bool) -> Result<ScanOptions<'a>, CommandError> {
        let mut options = ScanOptions { pattern: None, count: COUNT_DEFAULT, type_name: None };
        for at in (from..args.len()).step_by(2) {
            let (Some(word), Some(value)) = (args.get(at), args.get(at + 1)) else { return Err(CommandError::Syntax) };
            if word.eq_ignore_ascii_case(b"COUNT") {
                let count = parse_i64(value).ok_or(CommandError::NotInteger)?;
                options.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(CommandError::Syntax)?;
            } else if word.eq_ignore_ascii_case(b"MATCH") {
                options.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else if typed && word.eq_ignore_ascii_case(b"TYPE") {
                options.type_name = Some(value);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// Whether MATCH lets `name` through.
    pub fn lets_through(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name, false))
    }
}

/// The cursor that `text` spells, by the rules of C's `strtoul`: no text is 0, a minus sign counts from the end.
pub fn cursor(text: &[u8]) -> Result<u64, CommandError> {
    let text = until_nul(text);
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let invalid = CommandError::text("ERR invalid cursor");
    if text.is_empty() {
        return Ok(0);
    }
    // Rust's own parser would take another sign.
    let digits = Some(digits).filter(|digits| digits.first().is_some_and(u8::is_ascii_digit)).ok_or(invalid.clone())?;
    let value: u64 = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(invalid)?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// HSCAN key cursor [MATCH pattern] [COUNT count]: the next cursor, and an array of fields and values.
pub static HSCAN: Command = Command {
    name: "hscan",
    summary: "Incrementally iterate hash fields and associated values",
    syntax: "key cursor [MATCH pattern] [COUNT count]",
    since: "2.8.0",
    complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection..",
    group: Group::Hash,
    arity: -3,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(hscan),
};
fn hscan(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, cursor) = (cx.arg(1)?, cursor(cx.arg(2)?)?);
    let Some(fields) = read_hash(cx.keys, key)? else {
        reply_end(&mut cx.out);
        return Ok(());
    };
    let (next, found) = step(fields, cursor, &ScanOptions::parse(cx.args, 3, false)?);
    cx.out.array(2);
    cx.out.bulk(next.to_string().as_bytes());
    cx.out.array(found.len() * 2);
    for element in found {
        cx.out.bulk(element.member);
        reply_value(&mut cx.out, element);
    }
    Ok(())
}

/// SSCAN key cursor [MATCH pattern] [COUNT count]: the next cursor, and an array of members.
pub static SSCAN: Command = Command {
    name: "sscan",
    summary: "Incrementally iterate Set elements",
    syntax: "key cursor [MATCH pattern] [COUNT count]",
    since: "2.8.0",
    complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection..",
    group: Group::Set,
    arity: -3,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(sscan),
};
fn sscan(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, cursor) = (cx.arg(1)?, cursor(cx.arg(2)?)?);
    let Some(set) = read_set(cx.keys, key)? else {
        reply_end(&mut cx.out);
        return Ok(());
    };
    let (next, mut found) = step(&set.members, cursor, &ScanOptions::parse(cx.args, 3, false)?);
    if set.intset && set.members.is_packed() {
        found.sort_by_cached_key(|element| canonical_int(element.member));
    }
    cx.out.array(2);
    cx.out.bulk(next.to_string().as_bytes());
    cx.out.array(found.len());
    found.iter().for_each(|element| cx.out.bulk(element.member));
    Ok(())
}

/// What a step of the walk finds, and where the next goes on.
fn step<'k>(elements: &'k Elements, cursor: u64, options: &ScanOptions<'_>) -> (u64, Vec<Element<'k>>) {
    let mut found = Vec::new();
    let next = elements.scan(cursor, options.count, |element| {
        if options.lets_through(element.member) {
            found.push(element);
        }
    });
    (next, found)
}

/// The answer for a key that does not exist; its options are not even read, as in Redis.
fn reply_end(out: &mut Reply<'_>) {
    out.array(2);
    out.bulk(b"0");
    out.array(0);
}

#[cfg(test)]
mod tests {
    use super::cursor;
    use crate::commands::testing::Node;
    use std::collections::BTreeSet;

    #[test]
    fn cursors_are_read_as_strtoul_does() {
        let read = [&b""[..], b"0", b"17", b"+5", b"-1", b"18446744073709551615", b"7\x00x", b"\x00x"].map(cursor);
        assert_eq!(read, [0, 0, 17, 5, u64::MAX, u64::MAX, 7, 0].map(Ok));
        for text in [&b"x"[..], b" 1", b"1 ", b"-", b"+-1", b"18446744073709551616", b"\xff"] {
            assert!(cursor(text).is_err(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn small_collections_come_whole_and_options_are_checked_late() {
        let mut node = Node::new();
        node.run("HSET h a 1 b 2 ab 3");
        node.run("SADD s 3 1 2");
        assert_eq!(
            node.run("HSCAN h 0 MATCH a* COUNT 1"),
            "*2\r\n$1\r\n0\r\n*4\r\n$1\r\na\r\n$1\r\n1\r\n$2\r\nab\r\n$1\r\n3\r\n"
        );
        assert_eq!(node.run("SSCAN s 0"), "*2\r\n$1\r\n0\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
        assert_eq!(node.run("HSCAN none 0 NONSENSE"), "*2\r\n$1\r\n0\r\n*0\r\n");
        assert_eq!(node.run("HSCAN none x"), "-ERR invalid cursor\r\n");
        for options in ["NONSENSE", "MATCH", "COUNT 0", "TYPE hash", "MATCH a COUNT"] {
            assert_eq!(node.run(&format!("HSCAN h 0 {options}")), "-ERR syntax error\r\n");
        }
        assert_eq!(node.run("SSCAN s 0 COUNT x"), "-ERR value is not an integer or out of range\r\n");
        assert_eq!(node.run("SSCAN h 0"), "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
    }

    #[test]
    fn a_walk_sees_every_member_of_a_large_set() {
        let mut node = Node::new();
        (0..1_000).for_each(|n| drop(node.run(&format!("SADD s m{n}"))));
        let (mut next, mut seen, mut steps) = ("0".to_owned(), BTreeSet::new(), 0);
        loop {
            let reply = node.run(&format!("SSCAN s {next} COUNT 50"));
            let mut bulks = reply.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with(['$', '*']));
            next = bulks.next().expect("a cursor").to_owned();
            seen.extend(bulks.map(str::to_owned));
            steps += 1;
            if next == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1_000);
        assert!((20..=21).contains(&steps), "{steps}");
    }
}
