//! The slow log: commands that took long, kept in memory, the latest ones only.
//!
//! Times are those of the command itself, without the wait for its turn or for replicas. A command that another node
//! coordinates is in that node's log, and its sender is the node that asked. Long requests are kept in part, as Redis
//! 7.0.15 keeps them, so that an entry's size is bounded; passwords are not kept. The log has one lock; only slow
//! commands take it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::base::config::Settings;
use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply, parse_i64};

/// Arguments kept of a request.
const ARGS_MAX: usize = 32;

/// Bytes kept of an argument.
const ARG_BYTES_MAX: usize = 128;

/// Entries that SLOWLOG GET answers with unless told otherwise.
const GET_DEFAULT: i64 = 10;

/// One slow command.
#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    at_s: u64,
    took_us: u64,
    args: Vec<Vec<u8>>,
    addr: SocketAddr,
    name: Vec<u8>,
}

/// Who sent a slow command.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Its address.
    pub addr: SocketAddr,
    /// Its name, or nothing.
    pub name: &'a [u8],
}

/// The latest slow commands.
#[derive(Debug, Default)]
pub struct SlowLog {
    log: Mutex<Log>,
    /// From how many microseconds on a command is slow; `u64::MAX` when none is.
    limit_us: AtomicU64,
    len_max: AtomicUsize,
}

#[derive(Debug, Default)]
struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl SlowLog {
    /// Takes over the limits by the options.
    pub fn follow(&self, settings: &Settings) {
        self.limit_us.store(settings.slowlog_log_slower_than_us.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.len_max.store(settings.slowlog_max_len, Ordering::Relaxed);
    }

    /// From how many microseconds on a command is slow.
    #[inline]
    pub fn limit_us(&self) -> u64 {
        self.limit_us.load(Ordering::Relaxed)
    }

    /// Whether a command that took so long is to be kept.
    #[inline]
    pub fn is_slow(&self, us: u64) -> bool {
        us >= self.limit_us() && self.limit_us() != u64::MAX
    }

    /// Keeps a command that ran at `now_ms` for `took_us`, together with `more` others of its pipeline; forgets the oldest
    /// beyond the limit.
    pub fn note(&self, args: Args<'_>, more: u64, took_us: u64, now_ms: u64, sender: Sender<'_>) {
        let mut args = trimmed(args);
        if more != 0 {
            args.push(format!("... ({more} more commands of this pipeline)").into_bytes());
        }
        let mut log = self.log.lock();
        let id = log.next_id;
        log.next_id += 1;
        let (addr, name) = (sender.addr, sender.name.to_vec());
        log.entries.push_front(Entry { id, at_s: now_ms / 1_000, took_us, args, addr, name });
        log.entries.truncate(self.len_max.load(Ordering::Relaxed));
    }

    /// How many commands are kept.
    pub fn len(&self) -> usize {
        self.log.lock().entries.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The request as it is kept: what is left out is said in its place.
fn trimmed(args: Args<'_>) -> Vec<Vec<u8>> {
    let whole = args.len() <= ARGS_MAX;
    let kept = if whole { args.len() } else { ARGS_MAX - 1 };
    let one = |arg: &[u8]| match arg.split_at_checked(ARG_BYTES_MAX) {
        Some((head, rest)) if !rest.is_empty() => {
            [head, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
        }
        _ => arg.to_vec(),
    };
    let shown = |(at, arg): (usize, &[u8])| if is_secret(args, at) { b"(redacted)".to_vec() } else { one(arg) };
    let mut list: Vec<Vec<u8>> = args.iter().enumerate().take(kept).map(shown).collect();
    if !whole {
        list.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    list
}

/// Whether an argument may hold a password.
pub fn is_secret(args: Args<'_>, at: usize) -> bool {
    let is = |at: usize, word: &[u8]| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    let behind = |word: &[u8], most: usize| (1..=most.min(at)).any(|back| is(at - back, word));
    match args.name().to_ascii_lowercase().as_slice() {
        b"auth" => at > 0,
        b"hello" => at > 2 && behind(b"AUTH", 2),
        b"config" => at > 2 && (is(at - 1, b"requirepass") || is(at - 1, b"cluster-secret")),
        _ => false,
    }
}

/// Runs SLOWLOG.
pub fn run(row: &'static Command, args: Args<'_>, log: &SlowLog, out: &mut Reply<'_>) -> Result<(), CommandError> {
    match subcommands::short_name(subcommands::checked(row, args)?) {
        "get" => get(args, log, out)?,
        "len" => out.int(log.len() as i64),
        "reset" => {
            log.log.lock().entries.clear();
            out.ok();
        }
        _ => subcommands::help(out, row.name),
    }
    Ok(())
}

fn get(args: Args<'_>, log: &SlowLog, out: &mut Reply<'_>) -> Result<(), CommandError> {
    if args.len() > 3 {
        return Err(CommandError::Arity("slowlog|get".into()));
    }
    let count = args.get(2).map_or(Some(GET_DEFAULT), parse_i64).filter(|count| *count >= -1);
    let count = count.ok_or(CommandError::text("ERR count should be greater than or equal to -1"))?;
    let entries: Vec<Entry> = {
        let log = log.log.lock();
        log.entries.iter().take(usize::try_from(count).unwrap_or(usize::MAX)).cloned().collect()
    };
    out.array(entries.len());
    for entry in entries {
        out.array(6);
        out.int(entry.id as i64);
        out.int(entry.at_s as i64);
        out.int(entry.took_us as i64);
        out.array(entry.args.len());
        entry.args.iter().for_each(|arg| out.bulk(arg));
        out.bulk(entry.addr.to_string().as_bytes());
        out.bulk(&entry.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table;
    use crate::protocol::{Limits, Proto, Scanner};

    fn note(log: &SlowLog, line: &str, len_max: usize) {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let sender = Sender { addr: SocketAddr::from(([127, 0, 0, 1], 9)), name: b"app" };
        log.len_max.store(len_max, Ordering::Relaxed);
        log.note(scanner.args(buf.as_bytes()), 0, 20_000, 5_000, sender);
    }

    fn ask(log: &SlowLog, line: &str) -> String {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let (_, row) = table::find(b"slowlog").expect("a row");
        let mut reply = Vec::new();
        if let Err(error) = run(row, scanner.args(buf.as_bytes()), log, &mut Reply::new(&mut reply, Proto::Resp2)) {
            Reply::new(&mut reply, Proto::Resp2).error(error.to_string());
        }
        String::from_utf8(reply).expect("text")
    }

    #[test]
    fn the_latest_come_first_and_the_oldest_go() {
        let log = SlowLog::default();
        ["SET a 1", "GET a", "DEL a"].iter().for_each(|line| note(&log, line, 2));
        assert_eq!(ask(&log, "SLOWLOG LEN"), ":2\r\n");
        let first = "*6\r\n:2\r\n:5\r\n:20000\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n$11\r\n127.0.0.1:9\r\n$3\r\napp\r\n";
        assert_eq!(ask(&log, "SLOWLOG GET 1"), format!("*1\r\n{first}"));
        assert!(ask(&log, "SLOWLOG GET -1").starts_with("*2\r\n"));
        assert_eq!((ask(&log, "SLOWLOG RESET"), ask(&log, "SLOWLOG GET")), ("+OK\r\n".into(), "*0\r\n".into()));
        note(&log, "GET b", 2);
        assert!(ask(&log, "SLOWLOG GET").contains(":3\r\n"));
    }

    #[test]
    fn counts_are_checked_and_long_requests_cut() {
        let log = SlowLog::default();
        for count in ["x", "-2"] {
            let refused = "-ERR count should be greater than or equal to -1\r\n";
            assert_eq!(ask(&log, &format!("SLOWLOG GET {count}")), refused);
        }
        note(&log, &format!("MSET {} {}", "k".repeat(200), "v ".repeat(40)), 9);
        let shown = ask(&log, "SLOWLOG GET");
        assert!(
            shown.contains("*32\r\n")
                && shown.contains("... (72 more bytes)")
                && shown.contains("... (11 more arguments)")
        );
    }

    #[test]
    fn passwords_are_not_kept() {
        let log = SlowLog::default();
        let lines = ["AUTH pw", "AUTH me pw", "HELLO 3 AUTH me pw SETNAME x", "CONFIG SET requirepass pw"];
        lines.iter().for_each(|line| note(&log, line, 9));
        let shown = ask(&log, "SLOWLOG GET");
        assert!(!shown.contains("pw") && !shown.contains("\r\nme\r\n"), "{shown}");
        assert!(shown.contains("SETNAME") && shown.contains("requirepass"));
        assert_eq!((log.is_slow(0), log.limit_us()), (true, 0));
    }
}
