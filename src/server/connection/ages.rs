//! How old questions of another node are, judged by two clocks that nobody has set to each other.
//!
//! A question says when it was sent by its asker's monotonic clock. The smallest difference to our own clock that was
//! seen on a link is taken for the clocks' offset, and whatever exceeds it for waiting time. Clocks drift, and that of
//! a machine which was stopped may have stood still; so what is taken for the offset rises slowly while it is not seen
//! anew, and a link on which everything has been late for a while is given up: on the next one the offset is learnt
//! from nothing.
//!
//! Invariant: between two looks the offset rises by no more than [`RISE_NS_MAX`], so that a process that was stopped
//! finds what lay about meanwhile too old, however long that was.

use std::time::{Duration, Instant};

use crate::peer::link::transfer_ms;
use crate::server::forward::wire::STALE_MS_MAX;

/// How much the offset rises, in nanoseconds a microsecond: more than any clock drifts.
const RISE_NS_PER_US: i64 = 1;
/// How much it rises between two questions.
const RISE_NS_MAX: i64 = 20_000_000;
/// For how long every question may be late.
const HOPELESS: Duration = Duration::from_secs(1);

/// See the head of the file.
#[derive(Debug)]
pub struct Ages {
    epoch: Instant,
    offset_ns: i64,
    looked: Option<Instant>,
    late_since: Option<Instant>,
}

impl Ages {
    /// Of a new link; our clock counts from `epoch`.
    pub fn new(epoch: Instant) -> Ages {
        Ages { epoch, offset_ns: i64::MAX, looked: None, late_since: None }
    }

    /// From when on a question of this many bytes that was sent at this time by the asker's clock has waited for too
    /// long; it has come `now`.
    pub fn late_at(&mut self, sent_ms: u64, bytes: usize, now: Instant) -> Instant {
        let ours_ns = now.saturating_duration_since(self.epoch).as_nanos() as i64;
        let difference_ns = ours_ns.saturating_sub((sent_ms as i64).saturating_mul(1_000_000));
        let since_us = self.looked.map_or(0, |looked| now.saturating_duration_since(looked).as_micros() as i64);
        let risen_ns = self.offset_ns.saturating_add(since_us.saturating_mul(RISE_NS_PER_US).min(RISE_NS_MAX));
        self.offset_ns = risen_ns.min(difference_ns);
        self.looked = Some(now);
        let most_ns = 1_000_000 * (STALE_MS_MAX + transfer_ms(bytes)) as i64;
        let left_ns = most_ns.saturating_sub(difference_ns.saturating_sub(self.offset_ns));
        self.late_since = if left_ns < 0 { self.late_since.or(Some(now)) } else { None };
        let by = Duration::from_nanos(left_ns.unsigned_abs());
        // A process is older than whatever has waited for it, but for one that has just begun.
        if left_ns < 0 { now.checked_sub(by).unwrap_or(self.epoch) } else { now + by }
    }

    /// Whether everything has been late for so long that the clocks' offset must have been mistaken.
    pub fn is_hopeless(&self) -> bool {
        let late_for = |since| self.looked.map(|looked| looked.saturating_duration_since(since));
        self.late_since.and_then(late_for).is_some_and(|late_for| late_for > HOPELESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_late(ages: &mut Ages, sent_ms: u64, bytes: usize, now: Instant) -> bool {
        now > ages.late_at(sent_ms, bytes, now)
    }

    fn at(epoch: Instant, ms: u64) -> Instant {
        epoch + Duration::from_millis(ms)
    }

    #[test]
    fn what_lay_about_while_this_process_was_stopped_is_late_and_what_comes_then_is_not() {
        let epoch = Instant::now();
        let mut ages = Ages::new(epoch);
        for ms in 0..2_000 {
            assert!(!is_late(&mut ages, 70_000 + ms, 100, at(epoch, ms + 3)));
        }
        let woken = at(epoch, 62_000);
        assert!(is_late(&mut ages, 70_000 + 2_000, 100, woken) && is_late(&mut ages, 70_000 + 61_850, 100, woken));
        assert!(
            !is_late(&mut ages, 70_000 + 61_950, 100, woken)
                && !is_late(&mut ages, 70_000 + 62_010, 100, at(epoch, 62_013))
        );
        assert!(!ages.is_hopeless());
    }

    #[test]
    fn clocks_that_drift_apart_make_nothing_late() {
        let epoch = Instant::now();
        let mut ages = Ages::new(epoch);
        // Half a millisecond a second, for an hour: ten times as much as a clock that nobody disciplines.
        for s in 0..3_600 {
            assert!(!is_late(&mut ages, 1_000_000 + s * 1_000 - s / 2, 100, at(epoch, s * 1_000)), "after {s} s");
        }
        // And as much with a question every tenth of a millisecond, which is as busy as a link gets.
        for n in 0..4_000_000u64 {
            let now = at(epoch, 3_600_000) + Duration::from_micros(n * 100);
            let sent_ms = 1_000_000 + 3_600_000 - 1_800 + n / 10 - n / 20_000;
            assert!(!is_late(&mut ages, sent_ms, 100, now), "question {n}");
        }
    }

    #[test]
    fn a_clock_that_stood_still_ends_the_link_after_a_second() {
        let epoch = Instant::now();
        let mut ages = Ages::new(epoch);
        assert!(!is_late(&mut ages, 5_000, 100, at(epoch, 10)));
        for ms in (20..1_020).step_by(10) {
            assert!(is_late(&mut ages, 5_000 + ms - 300, 100, at(epoch, ms)) && !ages.is_hopeless());
        }
        assert!(is_late(&mut ages, 5_000 + 1_030 - 300, 100, at(epoch, 1_030)) && ages.is_hopeless());
        assert!(!is_late(&mut ages, 5_000 + 1_040, 100, at(epoch, 1_050)) && !ages.is_hopeless());
    }

    #[test]
    fn a_long_question_may_take_as_long_as_its_bytes_need() {
        let epoch = Instant::now();
        let mut ages = Ages::new(epoch);
        assert!(!is_late(&mut ages, 0, 100, at(epoch, 1)));
        assert!(
            !is_late(&mut ages, 100, 64 << 20, at(epoch, 1_100)) && is_late(&mut ages, 100, 1 << 20, at(epoch, 1_100))
        );
    }
}
