//! Time: the wall clock, and the hybrid logical clock that stamps every write.
//!
//! An [`Hlc`] is 48 bits of milliseconds since 1970 and 16 bits of counter (Kulkarni et al., "Logical Physical Clocks",
//! 2014). One node's stamps only grow, also when its wall clock steps back, and they grow past every stamp it has
//! accepted from a peer, so that cause never looks later than effect.
//!
//! Invariant: [`Clock::tick`] never gives out the same stamp twice, from any thread.
//!
//! A stamp more than [`SKEW_MS_MAX`] ahead of our own wall clock is refused: accepting it would make a write that
//! nobody can overwrite until the rest of the world has caught up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far ahead of us a peer's clock may be, in milliseconds.
pub const SKEW_MS_MAX: u64 = 500;

const LOGICAL_BITS: u32 = 16;

/// The wall clock in microseconds since 1970. May step.
pub fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// A hybrid logical time: `milliseconds << 16 | counter`. Orders as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first stamp of this millisecond.
    pub fn at_ms(ms: u64) -> Hlc {
        Hlc(ms << LOGICAL_BITS)
    }

    /// The wall-clock part, in milliseconds since 1970.
    pub fn ms(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }
}

/// A peer's stamp lies too far in the future. The peer's fault; nothing changed; it may try again once its clock is
/// right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stamp is {ahead_ms} ms ahead of this node's clock")]
pub struct ClockError {
    /// How far ahead the stamp is.
    pub ahead_ms: u64,
}

/// One per node, shared by all its threads.
#[derive(Debug, Default)]
pub struct Clock {
    last: AtomicU64,
}

impl Clock {
    /// A clock that has given out nothing yet.
    pub fn new() -> Clock {
        Clock::default()
    }

    /// Wall-clock milliseconds since 1970. May step; use it for deadlines of keys, never for durations.
    pub fn now_ms(&self) -> u64 {
        wall_us() / 1_000
    }

    /// A stamp later than every stamp this clock has given out or observed, and not before `now_ms`.
    ///
    /// The caller passes the time it has already read for its batch, so a stamp costs one atomic operation.
    pub fn tick(&self, now_ms: u64) -> Hlc {
        let floor = Hlc::at_ms(now_ms).0;
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(floor.max(last + 1)))
            .unwrap_or_else(|last| last);
        Hlc(floor.max(previous + 1))
    }

    /// The latest stamp that was given out or observed: whatever is given out from now on is later.
    pub fn so_far(&self) -> Hlc {
        Hlc(self.last.load(Ordering::Relaxed))
    }

    /// The latest stamp that was given out or observed, and not before `now_ms`. What is given out next may be that
    /// very stamp, as the first of its millisecond.
    pub fn latest(&self, now_ms: u64) -> Hlc {
        Hlc(self.last.load(Ordering::Relaxed).max(Hlc::at_ms(now_ms).0))
    }

    /// How far the latest stamp is ahead of the wall clock, in milliseconds: a little where others have pushed it, and
    /// more after the wall clock was set back.
    pub fn stamps_ahead_ms(&self) -> u64 {
        Hlc(self.last.load(Ordering::Relaxed)).ms().saturating_sub(self.now_ms())
    }

    /// Makes every later [`tick`](Clock::tick) later than `stamp`.
    pub fn observe(&self, stamp: Hlc, now_ms: u64) -> Result<(), ClockError> {
        if stamp.ms() > now_ms + SKEW_MS_MAX {
            return Err(ClockError { ahead_ms: stamp.ms() - now_ms });
        }
        // Almost always older than what we have: look before writing, so that replicas do not fight over the line.
        if self.last.load(Ordering::Relaxed) < stamp.0 {
            self.last.fetch_max(stamp.0, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_when_the_wall_clock_stands_or_steps_back() {
        let clock = Clock::new();
        let first = clock.tick(1_000);
        let second = clock.tick(1_000);
        let third = clock.tick(500);
        assert!(first < second && second < third);
        assert_eq!(third.ms(), 1_000);
        assert_eq!(clock.tick(2_000), Hlc::at_ms(2_000));
    }

    #[test]
    fn what_is_stamped_from_now_on_is_later_than_what_was_so_far() {
        let clock = Clock::new();
        for now_ms in [1_000, 1_000, 2_000, 1_500] {
            let so_far = clock.so_far();
            let first = clock.tick(now_ms);
            assert!(so_far < first && clock.so_far() == first, "at {now_ms}");
        }
    }

    #[test]
    fn a_peers_stamp_pushes_ours_unless_it_is_absurd() {
        let clock = Clock::new();
        let ahead = Hlc::at_ms(1_400);
        assert_eq!(clock.observe(ahead, 1_000), Ok(()));
        assert!(clock.tick(1_000) > ahead);
        assert_eq!(clock.observe(Hlc::at_ms(1_501), 1_000), Err(ClockError { ahead_ms: 501 }));
        assert!(clock.tick(1_000) < Hlc::at_ms(1_501));
    }
}
