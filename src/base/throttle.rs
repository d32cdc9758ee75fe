//! What would fill a log is let through seldom: once in a while, and whoever is let through hears how many were not.
//!
//! Decides only; whoever asks writes the line.

use std::time::{Duration, Instant};

/// Lets one through in each period.
#[derive(Debug)]
pub struct Throttle {
    period: Duration,
    last: Option<Instant>,
    withheld: u64,
}

impl Throttle {
    /// One that has let nothing through yet, so the first is.
    pub fn new(period: Duration) -> Throttle {
        Throttle { period, last: None, withheld: 0 }
    }

    /// When something is to go through at `now`: how many have not since the last that has.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < self.period) {
            self.withheld += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.withheld))
    }

    /// Whether something is to go through now.
    pub fn passes(&mut self) -> bool {
        self.pass(Instant::now()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_period_passes_and_is_told_how_many_have_not() {
        let (mut throttle, start) = (Throttle::new(Duration::from_secs(10)), Instant::now());
        let mut passed = |seconds| throttle.pass(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 9, 10, 11, 25].map(&mut passed), [Some(0), None, None, Some(2), None, Some(1)]);
        let mut again = Throttle::new(Duration::from_secs(3_600));
        assert!(again.passes() && !again.passes());
    }
}
