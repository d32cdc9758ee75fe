//! How far a replica is behind on a lane: for how long the oldest frame that it has not acknowledged has waited, at
//! most.
//!
//! Frames bear no time. Each look, every few milliseconds, notes the number of the last frame: whatever was appended
//! before that look has that number at most, and once it is acknowledged nothing older waits. Between two looks the lag
//! grows with time, whether anything waits or not: who does not look knows nothing.
//!
//! Invariant: no frame that waits was appended longer ago than the lag says.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most looks that are remembered. A replica that is behind by so many of them is far behind however it is measured.
const MARKS_MAX: usize = 64;

/// See the head of the file.
#[derive(Debug)]
pub struct Lag {
    /// Looks, each with the number of the last frame then, in ascending order: those not acknowledged at the last look.
    marks: VecDeque<(u64, Instant)>,
    /// Whatever was appended before this is acknowledged.
    since: Instant,
}

impl Lag {
    /// Of a lane on which nothing waits.
    pub fn new(now: Instant) -> Lag {
        Lag { marks: VecDeque::new(), since: now }
    }

    /// Looks at the numbers of the last frame appended and of the last one acknowledged.
    pub fn look(&mut self, last: u64, acked: u64, now: Instant) {
        self.since = if last <= acked { now } else { self.since_of(acked) };
        self.marks.retain(|(number, _)| *number > acked);
        let is_news = self.marks.back().is_none_or(|(number, _)| *number < last);
        if last > acked && is_news && self.marks.len() < MARKS_MAX {
            self.marks.push_back((last, now));
        }
    }

    /// No frame waits for longer than this, now that so many are acknowledged.
    pub fn of(&self, acked: u64, now: Instant) -> Duration {
        now.saturating_duration_since(self.since_of(acked))
    }

    fn since_of(&self, acked: u64) -> Instant {
        self.marks.iter().take_while(|(number, _)| *number <= acked).last().map_or(self.since, |(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK_MS: u64 = 10;

    /// Appends a frame a millisecond, has it acknowledged after what `delay` says, and looks now and then; gives the
    /// longest lag from the time `from_ms` on.
    fn longest(delay_ms: impl Fn(u64) -> u64, looks: impl Fn(u64) -> bool, from_ms: u64, to_ms: u64) -> u64 {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut lag, mut acked, mut longest) = (Lag::new(start), 0, 0);
        // Frame n is appended n milliseconds after the start.
        for ms in 1..to_ms {
            while acked < ms && acked + 1 + delay_ms(acked + 1) <= ms {
                acked += 1;
            }
            if looks(ms) {
                lag.look(ms, acked, at(ms));
            }
            let (oldest, shown) = (ms - acked.min(ms), lag.of(acked, at(ms)).as_millis() as u64);
            assert!(acked == ms || shown + 1 >= oldest, "{ms}: shows {shown}, waits {oldest}");
            longest = if ms >= from_ms { longest.max(shown) } else { 0 };
        }
        longest
    }

    #[test]
    fn no_frame_waits_for_longer_than_the_lag_says() {
        let often = |ms: u64| ms.is_multiple_of(LOOK_MS);
        assert!(longest(|_| 0, often, 50, 1_000) <= LOOK_MS);
        assert!(longest(|_| 30, often, 50, 1_000) <= 30 + 2 * LOOK_MS, "nor is it shown as much longer than it is");
        assert!((2_000..2_030).contains(&longest(|ms| if ms < 1_000 { 20 } else { 9_000 }, often, 50, 3_000)));
        longest(|ms| ms / 2, often, 50, 3_000);
    }

    #[test]
    fn who_was_behind_for_long_and_has_caught_up_is_prompt_again() {
        let often = |ms: u64| ms.is_multiple_of(LOOK_MS);
        let delay = |ms: u64| 2_000_u64.saturating_sub(ms);
        assert!(longest(delay, often, 2_050, 3_000) <= LOOK_MS);
    }

    #[test]
    fn who_does_not_look_knows_of_nothing_that_is_in_time() {
        let seldom = |ms: u64| ms < 100 && ms.is_multiple_of(LOOK_MS) || ms == 400;
        assert!(longest(|_| 0, seldom, 50, 390) >= 290);
        assert!(longest(|_| 0, seldom, 400, 410) <= LOOK_MS);
    }
}
