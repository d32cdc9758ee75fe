//! The slow log: commands that took long, kept in memory, the latest ones only.
//!
//! Times are those of the command itself, without the wait for its turn or for replicas. A command that another node
//! coordinates is in that node's log, and its sender is the node that asked. Long requests are kept in part, as Redis
//! 7.0.15 keeps them, and so are long names of clients, which Redis keeps whole, so that an entry's size is bounded;
//! passwords are not kept. The log has one lock; only slow commands take it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::base::config::Settings;
use crate::protocol::Args;

/// Arguments kept of a request.
const ARGS_MAX: usize = 32;

/// Bytes kept of an argument, or of a client's name.
const ARG_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Clone, Debug)]
pub struct SlowCommand {
    /// Its number: grows from each to the next, also over [`SlowLog::clear`].
    pub id: u64,
    /// When it ran, in seconds since 1970.
    pub at_s: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// What is kept of its arguments.
    pub args: Vec<Vec<u8>>,
    /// Its sender's address.
    pub addr: SocketAddr,
    /// What is kept of its sender's name, or nothing.
    pub name: Vec<u8>,
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
    entries: VecDeque<SlowCommand>,
    next_id: u64,
}

impl SlowLog {
    /// Takes over the limits by the options.
    pub fn follow(&self, settings: &Settings) {
        self.set_limits(settings.slowlog_log_slower_than_us.unwrap_or(u64::MAX), settings.slowlog_max_len);
    }

    /// From now on keeps commands that take this many microseconds or longer (`u64::MAX` for none), and no more of
    /// them.
    pub fn set_limits(&self, limit_us: u64, len_max: usize) {
        self.limit_us.store(limit_us, Ordering::Relaxed);
        self.len_max.store(len_max, Ordering::Relaxed);
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

    /// Keeps a command that ran at `now_ms` for `took_us`, together with `more` others of its pipeline; forgets the
    /// oldest beyond the limit.
    pub fn note(&self, args: Args<'_>, more: u64, took_us: u64, now_ms: u64, sender: Sender<'_>) {
        let mut args = trimmed(args);
        if more != 0 {
            args.push(format!("... ({more} more commands of this pipeline)").into_bytes());
        }
        let mut log = self.log.lock();
        let id = log.next_id;
        log.next_id += 1;
        let (addr, name) = (sender.addr, shortened(sender.name));
        log.entries.push_front(SlowCommand { id, at_s: now_ms / 1_000, took_us, args, addr, name });
        log.entries.truncate(self.len_max.load(Ordering::Relaxed));
    }

    /// The latest commands, `most` of them, the last one first.
    pub fn latest(&self, most: usize) -> Vec<SlowCommand> {
        self.log.lock().entries.iter().take(most).cloned().collect()
    }

    /// Forgets all that is kept.
    pub fn clear(&self) {
        self.log.lock().entries.clear();
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
    let shown = |(at, arg): (usize, &[u8])| if is_secret(args, at) { b"(redacted)".to_vec() } else { shortened(arg) };
    let mut list: Vec<Vec<u8>> = args.iter().enumerate().take(kept).map(shown).collect();
    if !whole {
        list.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    list
}

/// A text as it is kept: how much is left out is said at its end.
fn shortened(text: &[u8]) -> Vec<u8> {
    match text.split_at_checked(ARG_BYTES_MAX) {
        Some((head, rest)) if !rest.is_empty() => {
            [head, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
        }
        _ => text.to_vec(),
    }
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
