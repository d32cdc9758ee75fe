//! What a node knows of itself in figures: how fast things go and went, how long commands take, whether its threads
//! turn.
//!
//! | file | what it is |
//! |---|---|
//! | `memory` | how much memory a node takes |
//! | `process` | what the operating system says of this process and machine |
//! | `pulse` | whether the event loops of a node still turn |
//! | `recent` | what happened in the last ten seconds |
//! | `slow_log` | commands that took long, the latest ones only |
//! | `tally` | how long commands take |
//!
//! Here are those that need a history: rates per second, the peak of memory, errors by their code.
//!
//! Counters only grow; what INFO calls *instantaneous* is how fast they grew lately. [`Sampler::sample`] is called ten
//! times a second and remembers the last [`SAMPLES`] readings. Errors are counted by the first word of their text,
//! which only an error reply pays for; the list of codes is bounded, because peers may make up their own.

pub mod memory;
pub mod process;
pub mod pulse;
pub mod recent;
pub mod slow_log;
pub mod tally;

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use crate::base::metrics::{Count, Totals};

/// Readings that rates are computed over: 1.6 s of them at ten a second, as in Redis.
const SAMPLES: usize = 16;

/// Codes counted apart; all others are counted as [`CODE_OTHER`].
const CODES_MAX: usize = 128;
const CODE_OTHER: &str = "OTHER";

/// Per second, lately.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    /// Commands run.
    pub commands: f64,
    /// Bytes from clients.
    pub input_bytes: f64,
    /// Bytes to clients.
    pub output_bytes: f64,
}

/// Readings of the counters over time.
#[derive(Debug, Default)]
pub struct Sampler {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    readings: VecDeque<Reading>,
    peak_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at_ms: u64,
    commands: u64,
    input_bytes: u64,
    output_bytes: u64,
}

impl Sampler {
    /// Reads the counters, which stood at `totals` at `now_ms`, and how much memory was used.
    pub fn sample(&self, now_ms: u64, totals: &Totals, used_bytes: u64) {
        let reading = Reading {
            at_ms: now_ms,
            commands: totals.commands.iter().map(|command| command.calls).sum(),
            input_bytes: totals.count(Count::NetInputBytes),
            output_bytes: totals.count(Count::NetOutputBytes),
        };
        let mut state = self.state.lock();
        state.peak_bytes = state.peak_bytes.max(used_bytes);
        if state.readings.len() == SAMPLES {
            state.readings.pop_front();
        }
        state.readings.push_back(reading);
    }

    /// How fast the counters grew between the oldest and the newest reading.
    pub fn rates(&self) -> Rates {
        let state = self.state.lock();
        let (Some(first), Some(last)) = (state.readings.front(), state.readings.back()) else {
            return Rates::default();
        };
        let seconds = last.at_ms.saturating_sub(first.at_ms) as f64 / 1_000.0;
        if seconds <= 0.0 {
            return Rates::default();
        }
        let rate = |of: fn(&Reading) -> u64| of(last).saturating_sub(of(first)) as f64 / seconds;
        Rates {
            commands: rate(|reading| reading.commands),
            input_bytes: rate(|reading| reading.input_bytes),
            output_bytes: rate(|reading| reading.output_bytes),
        }
    }

    /// The most memory that was ever used, `used_bytes` being what is used now.
    pub fn peak_bytes(&self, used_bytes: u64) -> u64 {
        let mut state = self.state.lock();
        state.peak_bytes = state.peak_bytes.max(used_bytes);
        state.peak_bytes
    }
}

/// Error replies by code.
#[derive(Debug, Default)]
pub struct ErrorCodes {
    counts: Mutex<BTreeMap<String, u64>>,
}

impl ErrorCodes {
    /// Counts an error reply by what the client reads, without the leading `-`.
    pub fn note(&self, text: impl AsRef<[u8]>) {
        let code = text.as_ref().split(|byte| *byte == b' ').next().unwrap_or_default();
        let code = std::str::from_utf8(code).unwrap_or(CODE_OTHER);
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(code) {
            *count += 1;
            return;
        }
        let code = if counts.len() < CODES_MAX && code.len() < 32 { code } else { CODE_OTHER };
        *counts.entry(code.to_owned()).or_default() += 1;
    }

    /// The codes and how often each was sent.
    pub fn all(&self) -> Vec<(String, u64)> {
        self.counts.lock().iter().map(|(code, count)| (code.clone(), *count)).collect()
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.counts.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::Registry;

    #[test]
    fn rates_are_those_of_the_last_readings() {
        let (registry, sampler) = (Registry::new(vec!["get"]), Sampler::default());
        let worker = registry.worker();
        assert_eq!(sampler.rates(), Rates::default());
        for at in 0..40 {
            sampler.sample(at * 100, &registry.totals(), 1_000 * (at % 10));
            worker.ran(0, 5, 5);
            worker.count(Count::NetInputBytes, 10);
        }
        assert_eq!(sampler.rates(), Rates { commands: 50.0, input_bytes: 100.0, output_bytes: 0.0 });
        assert_eq!((sampler.peak_bytes(1), sampler.peak_bytes(20_000), sampler.peak_bytes(1)), (9_000, 20_000, 20_000));
    }

    #[test]
    fn errors_are_counted_by_code_and_codes_are_bounded() {
        let errors = ErrorCodes::default();
        ["ERR a", "WRONGTYPE b", "ERR c"].iter().for_each(|text| errors.note(text));
        assert_eq!(errors.all(), [("ERR".to_owned(), 2), ("WRONGTYPE".to_owned(), 1)]);
        (0..1_000).for_each(|n| errors.note(format!("E{n} x")));
        assert!(errors.all().len() <= CODES_MAX + 1);
        errors.reset();
        assert!(errors.all().is_empty());
    }
}
