//! How long commands take: measured where it can differ, shared out where it cannot.
//!
//! Reading the clock twice for each command would cost as much as the smallest commands themselves. So a command that
//! may take long (its work depends on more than its own length) is timed apart; those that cannot ([`is_steady`]) are
//! counted, and get equal shares of what is left of the time of their batch: exact sums, and within one pipeline the
//! same figure for each. A batch of one command is exact either way. When `slowlog-log-slower-than` is below
//! [`ALL_BELOW_US`], every command is timed apart.
//!
//! In the slow log such commands of one pipeline stand as one entry, if they took long together.
//!
//! Times are those of the node's own work, without waiting for replicas or other nodes.

use std::cell::{Cell, RefCell};
use std::sync::LazyLock;
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::metrics;
use crate::commands::spec::flag;
use crate::commands::table::{COMMANDS, CommandIndex};

/// Requests longer than this, in bytes, are timed apart whatever they are.
const STEADY_BYTES_MAX: usize = 16 << 10;

/// Below this `slowlog-log-slower-than`, in microseconds, every command is timed apart.
const ALL_BELOW_US: u64 = 1_000;

/// Commands that Redis does not call fast, and that do a fixed amount of work for their length all the same.
const STEADY_TOO: [&str; 5] = ["set", "setex", "psetex", "ping", "echo"];

/// Whether a command of the table does a fixed amount of work for the length of its request.
fn is_steady(command: usize) -> bool {
    static STEADY: LazyLock<Box<[bool]>> =
        LazyLock::new(|| COMMANDS.iter().map(|row| row.has(flag::FAST) || STEADY_TOO.contains(&row.name)).collect());
    STEADY.get(command).copied().unwrap_or(false)
}

/// Whether a command has to be timed apart; `limit_us` is the slow log's, `u64::MAX` for none.
#[inline]
pub fn is_apart(command: usize, request_bytes: usize, limit_us: u64) -> bool {
    limit_us < ALL_BELOW_US || request_bytes > STEADY_BYTES_MAX || !is_steady(command)
}

/// The commands that a worker has run since it last looked at the clock. A pipeline mostly repeats one command, so a
/// run of equal ones is two cells, and only what was before it is looked up.
#[derive(Debug, Default)]
pub struct Tally {
    command: Cell<CommandIndex>,
    runs: Cell<u64>,
    before: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Place in the table, and runs.
    steady: SmallVec<[(usize, u64); 4]>,
    apart: Duration,
}

impl State {
    fn is_empty(&self) -> bool {
        self.steady.is_empty() && self.apart.is_zero()
    }
}

/// What the commands took that were not timed apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SteadyTime {
    /// How many there were.
    pub commands: u64,
    /// All of them together, in microseconds.
    pub us: u64,
}

impl Tally {
    /// Notes a run of a command that is not timed apart.
    #[inline]
    pub fn count(&self, command: usize) {
        if self.command.get() != command {
            self.set_down();
            self.command.set(command);
        }
        self.runs.set(self.runs.get() + 1);
    }

    /// Adds what is in the two cells to what was before.
    fn set_down(&self) {
        let (command, new) = (self.command.get(), self.runs.take());
        let mut state = self.before.borrow_mut();
        match state.steady.iter_mut().find(|(known, _)| *known == command) {
            Some((_, runs)) => *runs += new,
            None if new != 0 => state.steady.push((command, new)),
            None => {}
        }
    }

    /// Notes a run that was timed apart; no run but its time where it was noted already.
    pub fn count_apart(&self, command: usize, runs: u64, took: Duration, metrics: &metrics::Worker) {
        metrics.ran(command, runs, took.as_micros() as u64);
        self.before.borrow_mut().apart += took;
    }

    /// The commands noted since the last time took `took` together: gives each its share.
    pub fn share_out(&self, took: Duration, metrics: &metrics::Worker) -> SteadyTime {
        if self.before.borrow().is_empty() {
            // Runs of one command at most: there is nothing to divide.
            let (commands, us) = (self.runs.take(), took.as_micros() as u64);
            if commands != 0 {
                metrics.ran(self.command.get(), commands, us);
            }
            return SteadyTime { commands, us };
        }
        self.set_down();
        let mut state = self.before.borrow_mut();
        let took_ns = took.saturating_sub(std::mem::take(&mut state.apart)).as_nanos() as u64;
        let commands: u64 = state.steady.iter().map(|(_, runs)| runs).sum();
        for (command, runs) in state.steady.drain(..) {
            metrics.ran(command, runs, took_ns * runs / commands.max(1) / 1_000);
        }
        SteadyTime { commands, us: took_ns / 1_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::Registry;
    use crate::commands::table::find;

    fn place(name: &str) -> usize {
        find(name.as_bytes()).expect("a command").0
    }

    #[test]
    fn what_may_take_long_is_timed_apart() {
        assert!(!is_apart(place("get"), 100, 10_000) && !is_apart(place("set"), 100, 10_000));
        assert!(is_apart(place("set"), 100_000, 10_000) && is_apart(place("get"), 100, 0));
        assert!(is_apart(place("keys"), 100, u64::MAX) && is_apart(place("smembers"), 100, u64::MAX));
    }

    #[test]
    fn the_rest_of_the_time_is_shared_out_and_nothing_is_counted_twice() {
        let registry = Registry::new(COMMANDS.iter().map(|row| row.name).collect());
        let (metrics, tally) = (registry.worker(), Tally::default());
        let [get, set, keys] = ["get", "set", "keys"].map(place);
        for _ in 0..3 {
            tally.count(get);
            tally.count(set);
        }
        tally.count_apart(keys, 1, Duration::from_micros(600), &metrics);
        let share = tally.share_out(Duration::from_micros(1_000), &metrics);
        assert_eq!(share, SteadyTime { commands: 6, us: 400 });
        let totals = registry.totals();
        let figures = |at: usize| (totals.commands[at].calls, totals.commands[at].us);
        assert_eq!((figures(get), figures(set), figures(keys)), ((3, 200), (3, 200), (1, 600)));
        assert_eq!(tally.share_out(Duration::from_micros(9), &metrics), SteadyTime { commands: 0, us: 9 });
    }
}
