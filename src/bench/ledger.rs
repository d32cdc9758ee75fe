//! What a load has written, and whether it is still there: the pure side of reading back.
//!
//! Every SET of such a load carries its number in the first [`STAMP_BYTES`] bytes of its value, so a value that is
//! found later tells which SET it came from. A [`Ledger`] notes for each SET its key, when it was sent, and when it was
//! acknowledged, if it was.
//!
//! A key is a register, read when all writes are over. The value found is right when some order of the writes explains
//! it in which each takes effect between its sending and its acknowledgement (linearizability; Herlihy and Wing, 1990).
//! A SET whose outcome is unknown may take effect at any time after it was sent, or never. So a found SET is wrong only
//! if it was acknowledged before another was sent that was acknowledged too: those others are lost.
//!
//! Bounded: [`WRITES_MAX`] SETs a thread; the load ends when they are used up.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Hexadecimal digits at the start of a value.
pub const STAMP_BYTES: usize = 16;
/// SETs that one thread can note; 24 bytes each.
pub const WRITES_MAX: usize = 16_000_000;
/// A SET's number is the thread's (8 bits), the run's (32 bits) and its place in the ledger (24 bits), from 1.
const THREAD_SHIFT: u32 = 56;
const RUN_SHIFT: u32 = 24;
const UNKNOWN: u64 = u64::MAX;
const EXAMPLES_MAX: usize = 10;

/// One SET.
#[derive(Clone, Copy, Debug)]
struct Write {
    key: u64,
    sent_ns: u64,
    /// [`UNKNOWN`] when it was answered with an error or never.
    acknowledged_ns: u64,
}

/// The SETs of one thread. Their numbers are told apart between threads, and from those of other runs.
#[derive(Clone, Debug)]
pub struct Ledger {
    base: u64,
    writes: Vec<Write>,
}

impl Ledger {
    /// The ledger of thread number `thread` in a run that `run` stands for.
    pub fn new(thread: usize, run: u32) -> Ledger {
        let base = ((thread as u64) << THREAD_SHIFT) + (u64::from(run) << RUN_SHIFT) + 1;
        Ledger { base, writes: Vec::new() }
    }

    /// Notes a SET that is about to be sent; its number.
    pub fn sent(&mut self, key: u64, now_ns: u64) -> u64 {
        self.writes.push(Write { key, sent_ns: now_ns, acknowledged_ns: UNKNOWN });
        self.base + self.writes.len() as u64 - 1
    }

    /// Notes that it was acknowledged.
    pub fn acknowledged(&mut self, number: u64, now_ns: u64) {
        let place = usize::try_from(number.wrapping_sub(self.base)).ok();
        if let Some(write) = place.and_then(|place| self.writes.get_mut(place)) {
            write.acknowledged_ns = now_ns;
        }
    }

    /// Whether no more can be noted.
    pub fn is_full(&self) -> bool {
        self.writes.len() >= WRITES_MAX
    }
}

/// What a SET's value begins with.
pub fn stamp_of(number: u64) -> [u8; STAMP_BYTES] {
    let mut stamp = [b'0'; STAMP_BYTES];
    for (place, digit) in stamp.iter_mut().rev().enumerate() {
        let nibble = (number >> (4 * place)) & 15;
        *digit = char::from_digit(nibble as u32, 16).map_or(b'0', |digit| digit as u8);
    }
    stamp
}

/// The number of the SET that a value came from, if it carries one.
pub fn number_of(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.get(..STAMP_BYTES)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// What was found under a key afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The value of this SET of the load.
    Write(u64),
    /// A value that no SET of the load wrote, as from before it.
    Other,
    /// No value.
    Nothing,
    /// The key could not be read.
    Error,
}

/// All SETs of a load by key, to be held against what is found.
#[derive(Debug)]
pub struct History {
    by_key: HashMap<u64, Vec<(u64, Write)>>,
    verdict: Verdict,
}

/// What reading back has shown.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// Keys that were looked at.
    pub keys: u64,
    /// SETs that were acknowledged.
    pub acknowledged: u64,
    /// SETs whose outcome the load does not know.
    pub unknown: u64,
    /// Acknowledged SETs newer than what their key holds.
    pub lost: u64,
    /// Keys without a value of which no SET of the load was acknowledged.
    pub absent: u64,
    /// Keys that could not be read.
    pub unreadable: u64,
    /// The first keys of which something is lost, with what was found there.
    pub examples: Vec<String>,
}

impl History {
    /// Puts the threads' ledgers together.
    pub fn new(ledgers: &[Ledger]) -> History {
        let mut by_key: HashMap<u64, Vec<(u64, Write)>> = HashMap::new();
        let mut verdict = Verdict::default();
        for ledger in ledgers {
            for (write, number) in ledger.writes.iter().zip(ledger.base..) {
                match write.acknowledged_ns {
                    UNKNOWN => verdict.unknown += 1,
                    _ => verdict.acknowledged += 1,
                }
                by_key.entry(write.key).or_default().push((number, *write));
            }
        }
        History { by_key, verdict }
    }

    /// Holds what was found under a key against what was written there.
    pub fn judge(&mut self, key: u64, found: Found) {
        let writes = self.by_key.get(&key).map_or(&[][..], Vec::as_slice);
        let acknowledged = || writes.iter().filter(|(_, write)| write.acknowledged_ns != UNKNOWN);
        let found_write = match found {
            Found::Write(number) => writes.iter().find(|(own, _)| *own == number),
            _ => None,
        };
        let lost = match (found, found_write) {
            (Found::Error, _) => 0,
            // One of unknown outcome gives `UNKNOWN` here, and nothing was sent after that.
            (_, Some((_, write))) => acknowledged().filter(|(_, other)| other.sent_ns > write.acknowledged_ns).count(),
            (_, None) => acknowledged().count(),
        };
        let absent = found == Found::Nothing && acknowledged().count() == 0;
        if lost > 0 && self.verdict.examples.len() < EXAMPLES_MAX {
            self.verdict.examples.push(format!("key {key}: {lost} acknowledged writes are newer than {found:?}"));
        }
        self.verdict.keys += 1;
        self.verdict.lost += lost as u64;
        self.verdict.absent += u64::from(absent);
        self.verdict.unreadable += u64::from(found == Found::Error);
    }

    /// What has been found.
    pub fn verdict(self) -> Verdict {
        self.verdict
    }
}

impl Verdict {
    /// What keeps this from being a proof that every acknowledged write is there, in one line.
    pub fn failure(&self) -> Option<String> {
        let Verdict { acknowledged, lost, unreadable, .. } = self;
        match (lost, unreadable) {
            (0, 0) => None,
            (0, _) => Some(format!("{unreadable} keys could not be read back")),
            (_, 0) => Some(format!("{lost} of {acknowledged} acknowledged writes are lost")),
            _ => Some(format!(
                "{lost} of {acknowledged} acknowledged writes are lost, and {unreadable} keys could not be read back"
            )),
        }
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "keys": self.keys,
            "acknowledged": self.acknowledged,
            "unknown": self.unknown,
            "lost": self.lost,
            "absent": self.absent,
            "unreadable": self.unreadable,
            "examples": self.examples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes to key 7 as (sent, acknowledged), numbered from 1; what is lost when `found` is there.
    fn lost(writes: &[(u64, Option<u64>)], found: Found) -> u64 {
        let mut ledger = Ledger::new(0, 0);
        for (sent, acknowledged) in writes {
            let number = ledger.sent(7, *sent);
            acknowledged.iter().for_each(|at| ledger.acknowledged(number, *at));
        }
        let mut history = History::new(&[ledger]);
        history.judge(7, found);
        history.verdict().lost
    }

    #[test]
    fn a_later_acknowledged_write_is_missed() {
        let writes = [(0, Some(10)), (20, Some(30)), (40, Some(50))];
        assert_eq!(lost(&writes, Found::Write(3)), 0);
        assert_eq!(lost(&writes, Found::Write(2)), 1);
        assert_eq!(lost(&writes, Found::Write(1)), 2);
        assert_eq!(lost(&writes, Found::Other), 3);
        assert_eq!(lost(&writes, Found::Nothing), 3);
        assert_eq!(lost(&writes, Found::Write(99)), 3, "a number that nobody gave out");
        assert_eq!(lost(&writes, Found::Error), 0, "what cannot be read is counted apart");
    }

    #[test]
    fn concurrent_writes_may_end_in_either_order_and_unknown_ones_at_any_time() {
        assert_eq!(lost(&[(0, Some(30)), (20, Some(40))], Found::Write(1)), 0);
        assert_eq!(lost(&[(0, None), (20, Some(40))], Found::Write(1)), 0);
        assert_eq!(lost(&[(0, Some(10)), (20, None)], Found::Write(1)), 0);
        assert_eq!(lost(&[(0, Some(10)), (20, None)], Found::Write(2)), 0);
        assert_eq!(lost(&[(0, None)], Found::Nothing), 0);
    }

    #[test]
    fn threads_are_told_apart_and_keys_counted() {
        let (mut one, mut two) = (Ledger::new(0, 9), Ledger::new(1, 9));
        let (first, second) = (one.sent(1, 5), two.sent(2, 5));
        assert_ne!(first, second);
        one.acknowledged(second, 9);
        two.acknowledged(second, 9);
        let mut history = History::new(&[one, two]);
        history.judge(1, Found::Nothing);
        history.judge(2, Found::Write(second));
        history.judge(3, Found::Error);
        let expected = Verdict { keys: 3, acknowledged: 1, unknown: 1, absent: 1, unreadable: 1, ..Verdict::default() };
        let verdict = history.verdict();
        assert_eq!(verdict, expected);
        assert_eq!(verdict.failure().as_deref(), Some("1 keys could not be read back"));
        assert_eq!(Verdict { unreadable: 0, ..verdict }.failure(), None);
    }

    #[test]
    fn a_stamp_is_read_back() {
        for number in [0, 1, 0xfedc_ba98_7654_3210, u64::MAX] {
            assert_eq!(number_of(&stamp_of(number)), Some(number));
        }
        assert_eq!(stamp_of(0xab), *b"00000000000000ab");
        assert_eq!((number_of(b"short"), number_of(&[0xff; 20])), (None, None));
    }
}
