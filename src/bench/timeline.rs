//! How a load went over time: for each interval, what became of the operations that were due in it.
//!
//! An operation belongs to the interval in which it should have started, not to that of its reply. So the counts of an
//! interval add up to the rate of an open loop, and a stall shows where it delayed operations, not where it ended.
//!
//! Latency is kept to two significant digits, in nanoseconds, of answered operations only: the others are counted.
//! Bounded: [`INTERVALS_MAX`] intervals; what is due later counts to the last one.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The most intervals a load may be cut into.
pub const INTERVALS_MAX: u64 = 10_000;
const DIGITS: u8 = 2;

/// What became of the operations of one interval.
#[derive(Clone, Debug)]
struct Interval {
    answered: u64,
    refused: u64,
    misses: u64,
    latency: Histogram<u64>,
}

/// The intervals of a load, from the beginning of measuring.
#[derive(Clone, Debug)]
pub struct Timeline {
    interval_ns: u64,
    intervals: Vec<Interval>,
    empty: Interval,
}

impl Timeline {
    /// Nothing yet, to be cut into intervals of so many nanoseconds.
    pub fn new(interval_ns: u64) -> Result<Timeline, hdrhistogram::CreationError> {
        let empty = Interval { answered: 0, refused: 0, misses: 0, latency: Histogram::new(DIGITS)? };
        Ok(Timeline { interval_ns: interval_ns.max(1), intervals: Vec::new(), empty })
    }

    /// An operation that was due at `due_ns` was answered `latency_ns` later.
    pub fn answered(&mut self, due_ns: u64, latency_ns: u64, missed: bool) {
        let interval = self.of(due_ns);
        interval.answered += 1;
        interval.misses += u64::from(missed);
        // It grows to what it is given, which here has no bound but the length of the load.
        _ = interval.latency.record(latency_ns.max(1));
    }

    /// An operation that was due at `due_ns` was answered with an error, or never.
    pub fn refused(&mut self, due_ns: u64) {
        self.of(due_ns).refused += 1;
    }

    /// Adds another thread's operations.
    pub fn merge(&mut self, other: &Timeline) {
        for (place, theirs) in other.intervals.iter().enumerate() {
            let ours = self.of(place as u64 * self.interval_ns);
            ours.answered += theirs.answered;
            ours.refused += theirs.refused;
            ours.misses += theirs.misses;
            // Resizing histograms of the same precision: there is nothing that could not be added.
            ours.latency += &theirs.latency;
        }
    }

    fn of(&mut self, due_ns: u64) -> &mut Interval {
        let place = (due_ns / self.interval_ns).min(INTERVALS_MAX - 1) as usize;
        if self.intervals.len() <= place {
            self.intervals.resize(place + 1, self.empty.clone());
        }
        self.intervals.get_mut(place).unwrap_or(&mut self.empty)
    }

    /// For scripts: milliseconds and counts, the intervals in order.
    pub fn json(&self) -> Value {
        let intervals = self.intervals.iter().map(|interval| {
            let ms = |quantile| interval.latency.value_at_quantile(quantile) as f64 / 1e6;
            json!({
                "answered": interval.answered,
                "refused": interval.refused,
                "misses": interval.misses,
                "p50_ms": ms(0.5),
                "p99_ms": ms(0.99),
                "p99_9_ms": ms(0.999),
                "max_ms": interval.latency.max() as f64 / 1e6,
            })
        });
        json!({ "interval_ms": self.interval_ns as f64 / 1e6, "intervals": intervals.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_count_where_they_were_due() {
        let mut one = Timeline::new(1_000_000).unwrap();
        one.answered(999_999, 5_000_000, false);
        one.answered(3_000_000, 1_000_000, true);
        one.refused(3_999_999);
        let mut two = Timeline::new(1_000_000).unwrap();
        two.answered(3_500_000, 9_000_000, false);
        two.merge(&one);
        let json = two.json();
        let count = |name: &str| -> Vec<u64> {
            json["intervals"].as_array().unwrap().iter().map(|interval| interval[name].as_u64().unwrap()).collect()
        };
        assert_eq!((count("answered"), count("refused")), (vec![1, 0, 0, 2], vec![0, 0, 0, 1]));
        assert_eq!(count("misses"), [0, 0, 0, 1]);
        assert_eq!(json["interval_ms"], 1.0);
        let max = json["intervals"][3]["max_ms"].as_f64().unwrap();
        assert!((9.0..9.2).contains(&max), "{max}");
    }

    #[test]
    fn the_number_of_intervals_is_bounded() {
        let mut timeline = Timeline::new(1).unwrap();
        timeline.refused(u64::MAX);
        assert_eq!(timeline.json()["intervals"].as_array().unwrap().len() as u64, INTERVALS_MAX);
    }
}
