//! What may be asked for again when nobody knows whether it has run: a node was asked, and died or fell silent.
//!
//! What only reads may. Of what writes, a command may that, run twice in a row, leaves and answers what it does when it
//! is run once ([`Command::is_repeatable`]). But others may have written in between. If a key has not been written
//! since the command was first sent, it has not run, and may. If the key holds the very value that the command gives
//! it, until when the command would have it held, running it now changes nothing that anybody could see but by as much
//! as clocks differ. Otherwise it would undo what was written later, and is not repeated.
//!
//! What adds elements to a collection may only once whoever was asked is gone. One that is silent may tell others of
//! its run when it goes on, and if its elements have been deleted meanwhile, they come back: the deletion has seen only
//! those of the second run.

use std::ops::RangeInclusive;

use smallvec::SmallVec;

use crate::base::clock::SKEW_MS_MAX;
use crate::commands::expiry::Unit;
use crate::commands::spec::{Command, flag};
use crate::protocol::Args;

/// When a request whose fate is unknown may be asked for again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RetryPolicy {
    /// Never.
    Never,
    /// When who was asked is gone: its connection has ended.
    OnceGone,
    /// Also while who was asked is silent.
    Always,
}

/// Whether a request may be asked for again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Repeat<'a> {
    /// It changes nothing.
    Reads,
    /// If its keys have not been written since. The keys that it gives a value whatever they held, with these values,
    /// may also hold those already.
    Writes(SmallVec<[(&'a [u8], &'a [u8]); 1]>),
    /// What it does, or says, depends on whether it has run before.
    Never,
}

/// When this request of `command` may be asked for again.
pub fn retry_policy(command: &Command, args: Args<'_>) -> RetryPolicy {
    match command.is_repeatable(args) {
        true if command.adds_elements() => RetryPolicy::OnceGone,
        true => RetryPolicy::Always,
        false => RetryPolicy::Never,
    }
}

/// Whether this request of `command` may be asked for again.
pub fn repeat_of<'a>(command: &Command, args: Args<'a>) -> Repeat<'a> {
    if command.has(flag::READONLY) {
        return Repeat::Reads;
    }
    if !command.is_repeatable(args) {
        return Repeat::Never;
    }
    // Where keys with a value stand, and how far behind each its value is.
    let (keys, value) = match command.name {
        "set" => (1..2, 1),
        "setex" | "psetex" => (1..2, 2),
        "mset" => (1..args.len(), 1),
        _ => (0..0, 0),
    };
    let pairs = keys.step_by(2).filter_map(|at| Some((args.get(at)?, args.get(at + value)?)));
    Repeat::Writes(pairs.collect())
}

/// The deadlines, in milliseconds since 1970 and 0 for none, of which a repeatable request gives its keys one if it
/// runs between these times of this node's clock. Who runs it may have another clock.
pub fn deadlines_of(command: &Command, args: Args<'_>, first_ms: u64, last_ms: u64) -> RangeInclusive<u64> {
    let word = |at: usize| args.get(at).unwrap_or_default();
    let options = if command.name == "set" { 3..args.len() } else { 0..0 };
    let named = options.clone().find_map(|at| Some((Unit::parse(word(at))?, word(at + 1))));
    let given = match command.name {
        "setex" => Some((Unit::Ex, word(2))),
        "psetex" => Some((Unit::Px, word(2))),
        _ => named,
    };
    let Some((unit, amount)) = given else {
        let keeps = options.clone().any(|at| word(at).eq_ignore_ascii_case(b"KEEPTTL"));
        return 0..=if keeps { u64::MAX } else { 0 };
    };
    let at = |now_ms| unit.deadline_ms(amount, now_ms, command.name).unwrap_or(0);
    at(first_ms.saturating_sub(SKEW_MS_MAX))..=at(last_ms + SKEW_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table::find;
    use crate::protocol::{Limits, Scan, Scanner};

    /// What `tell` says of a request.
    fn of_request<T>(line: &str, tell: impl FnOnce(&Command, Args<'_>) -> T) -> T {
        let mut scanner = Scanner::new();
        let input = format!("{line}\r\n");
        assert!(matches!(scanner.scan(input.as_bytes(), &Limits::default()), Ok(Scan::Request { .. })), "{line}");
        let args = scanner.args(input.as_bytes());
        tell(find(args.name()).expect("a command").1, args)
    }

    fn repeat(line: &str) -> String {
        of_request(line, |command, args| match repeat_of(command, args) {
            _ if retry_policy(command, args) == RetryPolicy::OnceGone => "adds".into(),
            Repeat::Reads => "reads".into(),
            Repeat::Never => "never".into(),
            Repeat::Writes(pairs) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                pairs.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect::<Vec<_>>().join(" ")
            }
        })
    }

    #[test]
    fn a_repeatable_request_says_until_when_it_would_have_its_keys_held() {
        let deadlines = |line| of_request(line, |command, args| deadlines_of(command, args, 10_000, 12_000));
        let relative = |ms: u64| 10_000 + ms - SKEW_MS_MAX..=12_000 + ms + SKEW_MS_MAX;
        assert_eq!([deadlines("SET k v"), deadlines("MSET a 1 b 2"), deadlines("SET px ex")], [0..=0, 0..=0, 0..=0]);
        assert_eq!([deadlines("SETEX k 9 v"), deadlines("set k v ex 9")], [relative(9_000), relative(9_000)]);
        assert_eq!([deadlines("PSETEX k 9 v"), deadlines("SET k v PX 9")], [relative(9), relative(9)]);
        assert_eq!([deadlines("SET k v EXAT 7"), deadlines("SET k v PXAT 7000")], [7_000..=7_000, 7_000..=7_000]);
        assert_eq!(deadlines("SET k v KEEPTTL"), 0..=u64::MAX);
    }

    #[test]
    fn only_what_does_not_depend_on_what_was_there_may_be_repeated() {
        for (line, expected) in [
            ("GET k", "reads"),
            ("SET k v", "k=v"),
            ("SET k v EX 10", "k=v"),
            ("SET k v NX", "never"),
            ("set k v px 5 xx", "never"),
            ("SET k v GET", "never"),
            ("SET k v KeepTTL", "k=v"),
            ("SETEX k 9 v", "k=v"),
            ("PSETEX k 9 v", "k=v"),
            ("MSET a 1 b 2", "a=1 b=2"),
            ("MSETNX a 1", "never"),
            ("SETNX k v", "never"),
            ("HSET h f v", "never"),
            ("SADD s m", "never"),
            ("SUNIONSTORE s s t", "adds"),
            ("SREM s m", "never"),
            ("HMSET h f v", "adds"),
            ("GETEX k PERSIST", "never"),
            ("EXPIREAT k 5", "never"),
            ("INCR k", "never"),
            ("DEL k", "never"),
            ("FLUSHALL", "never"),
        ] {
            assert_eq!(repeat(line), expected, "{line}");
        }
    }
}
