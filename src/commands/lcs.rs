//! LCS: the longest common subsequence of two strings.
//!
//! The lengths for all pairs of prefixes (Wagner and Fischer, 1974) grow by one or by nothing from each pair to the
//! next, so a row of them is a row of bits, and a word of it is made of the one above it by one addition (Hyyrö,
//! "Bit-parallel LCS-length computation revisited", 2004): what would hold the slot for half a second takes some
//! milliseconds. Walked back from its end, the table of bits says which bytes are part of the subsequence.
//!
//! Refused like redis-server does, which counts four bytes a pair, when that is more than the longest string may take;
//! what a client can ask for is so bounded.

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
    flags: flag::READONLY | flag::LONG,
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
    let length = table.length();
    if options.ranges {
        reply_matches(cx, &table.matches(&a, &b), &options, length);
    } else if options.length {
        cx.out.int(length as i64);
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

const WORD_BITS: usize = u64::BITS as usize;

/// Bytes that redis-server takes for one pair of prefixes.
const PAIR_BYTES: usize = 4;

/// For each prefix of `a`, a row: for each byte of `b` a bit, 0 where the longest common subsequence grows when that
/// byte is added to the prefix of `b` before it.
struct Table {
    rows: Vec<u64>,
    columns: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8], bytes_max: usize) -> Result<Table, CommandError> {
        let pairs = (a.len() + 1).checked_mul(b.len() + 1);
        pairs.filter(|pairs| *pairs <= bytes_max / PAIR_BYTES).ok_or(TOO_LARGE)?;
        let columns = b.len().div_ceil(WORD_BITS);
        let mut rows = Vec::new();
        rows.try_reserve_exact((a.len() + 1) * columns).map_err(|_| NO_MEMORY)?;
        rows.resize(columns, u64::MAX);
        let places = Places::new(a, b, columns);
        for byte in a {
            let above = rows.len() - columns;
            let mut carry = false;
            for (n, places) in places.of(*byte).iter().enumerate() {
                let bits = rows.get(above + n).copied().unwrap_or_default();
                let (sum, first) = bits.overflowing_add(bits & places);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                carry = first || second;
                rows.push(sum | bits & !places);
            }
        }
        Ok(Table { rows, columns })
    }

    /// The length of the subsequence of the whole strings. Behind the end of `b` no bit is ever cleared.
    fn length(&self) -> usize {
        let last = self.rows.len().saturating_sub(self.columns);
        self.rows.iter().skip(last).map(|bits| bits.count_zeros() as usize).sum()
    }

    /// Whether the prefix of `a` with so many bytes has more in common with that of `b` than with that of `b` but for
    /// its last byte.
    fn grows(&self, a_len: usize, b_len: usize) -> bool {
        let bits = self.rows.get(a_len * self.columns + (b_len - 1) / WORD_BITS).copied().unwrap_or(u64::MAX);
        bits >> ((b_len - 1) % WORD_BITS) & 1 == 0
    }

    /// Walks back from the end, showing `visit` each pair of equal bytes that is part of the subsequence. Of several
    /// ways it takes redis-server's: it leaves out a byte of `b`, if that costs nothing, else one of `a`.
    fn walk(&self, a: &[u8], b: &[u8], mut visit: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a.get(i - 1) == b.get(j - 1) {
                (i, j) = (i - 1, j - 1);
                visit(i, j);
            } else if self.grows(i, j) {
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

/// Where in `b` each byte that occurs in `a` stands, a bit a place.
struct Places {
    words: Vec<u64>,
    columns: usize,
    /// Which of the rows of `words` is a byte's.
    rows: [Option<u8>; 256],
}

impl Places {
    fn new(a: &[u8], b: &[u8], columns: usize) -> Places {
        let mut rows = [None; 256];
        let mut count = 0;
        for byte in a {
            let row = &mut rows[usize::from(*byte)];
            if row.is_none() {
                *row = Some(count as u8);
                count += 1;
            }
        }
        let mut words = vec![0; count * columns];
        for (at, byte) in b.iter().enumerate() {
            let row = rows[usize::from(*byte)].map(|row| usize::from(row) * columns);
            if let Some(word) = row.and_then(|row| words.get_mut(row + at / WORD_BITS)) {
                *word |= 1 << (at % WORD_BITS);
            }
        }
        Places { words, columns, rows }
    }

    fn of(&self, byte: u8) -> &[u64] {
        let from = self.rows[usize::from(byte)].map_or(0, |row| usize::from(row) * self.columns);
        self.words.get(from..from + self.columns).unwrap_or_default()
    }
}

fn reply_matches(cx: &mut Cx<'_, '_>, matches: &[Match], options: &Options, length: usize) {
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
    cx.out.int(length as i64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::commands::testing::Node;

    /// The lengths for all pairs of prefixes, four bytes each.
    fn lengths(a: &[u8], b: &[u8]) -> Vec<Vec<u32>> {
        let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
        for (i, byte_a) in a.iter().enumerate() {
            for (j, byte_b) in b.iter().enumerate() {
                rows[i + 1][j + 1] = if byte_a == byte_b { rows[i][j] + 1 } else { rows[i][j + 1].max(rows[i + 1][j]) };
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn a_bit_says_where_a_length_grows(a in "[a-d]{0,150}", b in "[a-e]{0,150}", is_equal in 0u8..8) {
            let (a, b) = (a.as_bytes(), if is_equal == 0 { a.as_bytes() } else { b.as_bytes() });
            let (table, lengths) = (Table::new(a, b, 1 << 20).expect("small"), lengths(a, b));
            for (i, row) in lengths.iter().enumerate() {
                prop_assert!((1..row.len()).all(|j| table.grows(i, j) == (row[j] > row[j - 1])), "{i}");
            }
            prop_assert_eq!(table.length(), lengths[a.len()][b.len()] as usize);
            // The way back is the one that the lengths say.
            let (mut i, mut j, mut pairs) = (a.len(), b.len(), Vec::new());
            while i > 0 && j > 0 {
                if a[i - 1] == b[j - 1] {
                    (i, j) = (i - 1, j - 1);
                    pairs.push((i, j));
                } else if lengths[i - 1][j] > lengths[i][j - 1] {
                    i -= 1;
                } else {
                    j -= 1;
                }
            }
            let mut walked = Vec::new();
            table.walk(a, b, |i, j| walked.push((i, j)));
            prop_assert_eq!(walked, pairs);
        }
    }

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
