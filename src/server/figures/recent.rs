//! What happened in the last ten seconds: the node's counters now, less what they were then.
//!
//! Counters only grow, so somebody has to remember. [`Recent::note`] keeps one reading a second for [`WINDOW_S`]
//! seconds; [`Recent::read`] gives the difference between the newest and the oldest, from which rates, hit ratios and
//! percentiles follow. INFO's rates, which are those of the last 1.6 seconds as in Redis, are `figures`' business.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::base::metrics::Totals;

/// How far back it goes, in seconds.
pub const WINDOW_S: usize = 10;

const PERIOD_MS: u64 = 1_000;

/// Readings of the counters, oldest first.
#[derive(Debug, Default)]
pub struct Recent {
    readings: Mutex<VecDeque<(u64, Totals)>>,
}

/// What was counted, and in how many seconds: 0 when there is nothing to compare yet.
#[derive(Debug)]
pub struct Lately {
    /// The length of the window, in seconds.
    pub seconds: f64,
    /// What was counted in it. Commands are not told apart.
    pub totals: Totals,
}

impl Lately {
    /// `count` as events per second.
    pub fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

impl Recent {
    /// Takes a reading, unless the last one is less than a second old. A clock that stepped back starts anew.
    pub fn note(&self, now_ms: u64, totals: &Totals) {
        let mut readings = self.readings.lock();
        match readings.back() {
            Some((at_ms, _)) if now_ms < *at_ms => readings.clear(),
            Some((at_ms, _)) if now_ms - *at_ms < PERIOD_MS => return,
            _ => {}
        }
        if readings.len() > WINDOW_S {
            readings.pop_front();
        }
        readings.push_back((now_ms, totals.without_commands()));
    }

    /// What was counted between the oldest reading that is kept and the newest.
    pub fn read(&self) -> Lately {
        let readings = self.readings.lock();
        match (readings.front(), readings.back()) {
            (Some((from_ms, first)), Some((to_ms, last))) if from_ms < to_ms => {
                let seconds = (to_ms - from_ms) as f64 / 1_000.0;
                Lately { seconds, totals: last.clone().since(first) }
            }
            _ => Lately { seconds: 0.0, totals: Totals::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::{Class, Count, Registry};

    #[test]
    fn only_the_last_ten_seconds_count() {
        let (registry, recent) = (Registry::new(vec!["get"]), Recent::default());
        let worker = registry.worker();
        assert_eq!(recent.read().rate(5), 0.0);
        for tick in 0..400 {
            recent.note(tick * 100, &registry.totals());
            let us = if tick < 200 { 100_000 } else { 100 };
            worker.answered(Class::Read, us, 3);
            worker.count(Count::Conflicts, u64::from(tick < 200));
        }
        let lately = recent.read();
        assert_eq!(lately.seconds, 10.0);
        let reads = lately.totals.latency(Class::Read);
        assert_eq!((lately.rate(reads.count()), reads.percentile_us(99.9)), (30.0, 128));
        assert_eq!(lately.totals.count(Count::Conflicts), 0);
        recent.note(1_000, &registry.totals());
        assert_eq!(recent.read().seconds, 0.0, "the clock stepped back");
    }
}
