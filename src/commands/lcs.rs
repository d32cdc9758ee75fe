//! LCS: the longest common subsequence of two strings.
//!
//! By dynamic programming over the table of the lengths for all pairs of prefixes (Wagner and Fischer, 1974), walked
//! back from its end. The table takes four bytes a pair, and is refused when that is more than the longest string may
//! take; what a client can ask for is so bounded.

use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Group, Handler, Keys, flag};
use crate::protocol::parse_i64;

/// LCS key1 key2 with options: the subsequence, its length, or a map of the ranges that match.
pub static LCS: Command = Command {
    name: "lcs",
    summary: "Find longest common substring",
    syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    since: "7.0.0",
    complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
    group: Group::String,
    arity: -3,
    flags: flag::READONLY,
    keys: Keys::Range { first: 1, last: 2, step: 1 },
    handler: Handler::Keys(lcs),
};
fn lcs(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let no_strings = |_| CommandError::text("ERR The specified keys must contain string values");
    let (key_a, key_b) = (cx.arg(1)?, cx.arg(2)?);
    // Both are looked up, whatever the first holds.
    let a = cx.string(key_a).map(|text| text.unwrap_or_default().into_owned());
    let b = cx.string(key_b).map(|text| text.unwrap_or_default().into_owned());
    let (a, b) = (a.map_err(no_strings)?, b.map_err(no_strings)?);
    let options = Options::parse(cx)?;
    let table = Table::new(&a, &b, cx.limits.string_bytes_max)?;
    let length = table.at(a.len(), b.len());
    if options.ranges {
        reply_matches(cx, &table.matches(&a, &b), &options, length);
    } else if options.length {
        cx.out.int(i64::from(length));
    } else {
        cx.out.bulk(&table.subsequence(&a, &b));
    }
    Ok(())
}

#[derive(Default)]
struct Options {
    length: bool,
    ranges: bool,
    shortest: i64,
    lengths: bool,
}

impl Options {
    fn parse(cx: &Cx<'_, '_>) -> Result<Options, CommandError> {
        let (mut options, mut at) = (Options::default(), 3);
        while let Some(word) = cx.args.get(at) {
            match () {
                () if word.eq_ignore_ascii_case(b"IDX") => options.ranges = true,
                () if word.eq_ignore_ascii_case(b"LEN") => options.length = true,
                () if word.eq_ignore_ascii_case(b"WITHMATCHLEN") => options.lengths = true,
                () if word.eq_ignore_ascii_case(b"MINMATCHLEN") && at + 1 < cx.args.len() => {
                    at += 1;
                    options.shortest = parse_i64(cx.arg(at)?).ok_or(CommandError::NotInteger)?.max(0);
                }
                () => return Err(CommandError::Syntax),
            }
            at += 1;
        }
        if options.ranges && options.length {
            return Err(CommandError::text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

/// A stretch that both strings share: where it starts in each, and its length.
struct Match {
    in_a: usize,
    in_b: usize,
    len: usize,
}

const TOO_LARGE: CommandError =
    CommandError::text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
const NO_MEMORY: CommandError =
    CommandError::text("ERR Insufficient memory, failed allocating transient memory for LCS");

/// The length of the longest common subsequence for each pair of prefixes.
struct Table {
    lengths: Vec<u32>,
    columns: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8], bytes_max: usize) -> Result<Table, CommandError> {
        let columns = b.len() + 1;
        let cells = (a.len() + 1).checked_mul(columns).filter(|cells| *cells <= bytes_max / size_of::<u32>());
        let mut lengths = Vec::new();
        lengths.try_reserve_exact(cells.ok_or(TOO_LARGE)?).map_err(|_| NO_MEMORY)?;
        lengths.resize(columns, 0);
        for byte_a in a {
            let above = lengths.len() - columns;
            lengths.push(0);
            for (n, byte_b) in b.iter().enumerate() {
                let value = |at: usize| lengths.get(at).copied().unwrap_or(0);
                let next = match byte_a == byte_b {
                    true => value(above + n) + 1,
                    false => value(above + n + 1).max(value(lengths.len() - 1)),
                };
                lengths.push(next);
            }
        }
        Ok(Table { lengths, columns })
    }

    fn at(&self, a: usize, b: usize) -> u32 {
        self.lengths.get(a * self.columns + b).copied().unwrap_or(0)
    }

    /// Walks back from the end, showing `visit` each pair of equal bytes that is part of the subsequence.
    fn walk(&self, a: &[u8], b: &[u8], mut visit: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a.get(i - 1) == b.get(j - 1) {
                (i, j) = (i - 1, j - 1);
                visit(i, j);
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }

    fn subsequence(&self, a: &[u8], b: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        self.walk(a, b, |i, _| found.extend(a.get(i)));
        found.reverse();
        found
    }

    /// The stretches, the last one first.
    fn matches(&self, a: &[u8], b: &[u8]) -> Vec<Match> {
        let mut found: Vec<Match> = Vec::new();
        self.walk(a, b, |i, j| match found.last_mut() {
            Some(last) if last.in_a == i + 1 && last.in_b == j + 1 => {
                *last = Match { in_a: i, in_b: j, len: last.len + 1 };
            }
            _ => found.push(Match { in_a: i, in_b: j, len: 1 }),
        });
        found
    }
}

fn reply_matches(cx: &mut Cx<'_, '_>, matches: &[Match], options: &Options, length: u32) {
    let shown: Vec<&Match> = matches.iter().filter(|found| found.len as i64 >= options.shortest).collect();
    cx.out.map(2);
    cx.out.bulk(b"matches");
    cx.out.array(shown.len());
    for found in shown {
        cx.out.array(if options.lengths { 3 } else { 2 });
        for start in [found.in_a, found.in_b] {
            cx.out.array(2);
            cx.out.int(start as i64);
            cx.out.int((start + found.len - 1) as i64);
        }
        if options.lengths {
            cx.out.int(found.len as i64);
        }
    }
    cx.out.bulk(b"len");
    cx.out.int(i64::from(length));
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;

    #[test]
    fn the_manuals_example() {
        let mut node = Node::new();
        node.run("MSET a ohmytext b mynewtext");
        assert_eq!(node.run("LCS a b"), "$6\r\nmytext\r\n");
        assert_eq!(node.run("LCS a b LEN"), ":6\r\n");
        assert_eq!(
            node.run("LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN"),
            "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n"
        );
        assert_eq!(node.run("LCS a none"), "$0\r\n\r\n");
        let both = "-ERR If you want both the length and indexes, please just use IDX.\r\n";
        assert_eq!(node.run("LCS a b IDX LEN"), both);
    }

    #[test]
    fn a_table_that_is_too_large_is_refused() {
        let mut node = Node::new();
        node.run("SETRANGE a 99999 x");
        let refused = "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n";
        assert_eq!(node.run("LCS a a"), refused);
        node.run("SADD s m");
        assert_eq!(node.run("LCS a s"), "-ERR The specified keys must contain string values\r\n");
    }
}
