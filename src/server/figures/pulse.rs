//! Whether the event loops of a node still turn.
//!
//! Every worker's loop runs [`Pulse::beat`], which wakes fifty times a second and notes the time. A loop that is stuck (in
//! an endless command, or starved of CPU) stops noting, and [`Pulse::stalled`] names it. What a process that is stopped as a
//! whole would say about itself is not asked: it cannot answer either. But when it goes on, [`Pulse::was_late`] tells that
//! its peers may have taken over what it coordinates.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a loop notes that it turns.
const BEAT: Duration = Duration::from_millis(20);

/// How late a loop may be, in milliseconds, before peers may have taken the node for stopped: that takes `STALL_MS_MAX`
/// after an acknowledgement, which may be as much older than the last beat as two beats and a heartbeat take.
pub const LATE_MS: u64 = 80;

/// How often lateness is told while it lasts, in milliseconds.
const TELL_AGAIN_MS: u64 = 20;

/// How long a loop may be silent. Redis calls a script "busy" after the same time.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// One per node.
#[derive(Debug)]
pub struct Pulse {
    started: Instant,
    /// Per worker, milliseconds from `started` to its last beat.
    beats: Box<[AtomicU64]>,
    /// A loop has found itself late, and nobody has been told.
    is_untold: AtomicBool,
    told_ms: AtomicU64,
}

impl Pulse {
    /// A pulse for this many loops, all of them well.
    pub fn new(workers: usize) -> Pulse {
        let beats = (0..workers).map(|_| AtomicU64::new(0)).collect();
        Pulse { started: Instant::now(), beats, is_untold: AtomicBool::new(false), told_ms: AtomicU64::new(0) }
    }

    /// Notes for ever that the loop this runs on turns; to be spawned on it.
    pub async fn beat(&self, worker: usize) {
        let mut interval = tokio::time::interval(BEAT);
        while let Some(beat) = self.beats.get(worker) {
            interval.tick().await;
            let now_ms = self.now_ms();
            if now_ms - beat.load(Ordering::Relaxed) > LATE_MS {
                self.is_untold.store(true, Ordering::Release);
            }
            beat.store(now_ms, Ordering::Relaxed);
        }
    }

    /// True when a loop has been late since this was last asked, or is at `now`; while it is, every [`TELL_AGAIN_MS`].
    #[inline]
    pub fn was_late(&self, now: Instant) -> bool {
        if self.is_untold.load(Ordering::Acquire) && self.is_untold.swap(false, Ordering::AcqRel) {
            return true;
        }
        let now_ms = self.ms(now);
        if self.beats.iter().all(|beat| now_ms.saturating_sub(beat.load(Ordering::Relaxed)) <= LATE_MS) {
            return false;
        }
        let told_ms = self.told_ms.load(Ordering::Relaxed);
        let tell = |was| self.told_ms.compare_exchange(was, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        now_ms >= told_ms + TELL_AGAIN_MS && tell(told_ms)
    }

    /// The loops that have been silent for longer than `silence_max`, and for how long.
    pub fn stalled(&self, silence_max: Duration) -> Vec<(usize, Duration)> {
        let now = self.now_ms();
        let silence = |beat: &AtomicU64| Duration::from_millis(now.saturating_sub(beat.load(Ordering::Relaxed)));
        self.beats.iter().map(silence).enumerate().filter(|(_, silence)| *silence > silence_max).collect()
    }

    fn now_ms(&self) -> u64 {
        self.ms(Instant::now())
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_stops_is_named() {
        let pulse = Pulse::new(2);
        tokio::time::sleep(Duration::from_millis(60)).await;
        let both_silent = pulse.stalled(Duration::from_millis(30));
        assert_eq!(both_silent.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [0, 1]);
        tokio::select! {
            () = pulse.beat(1) => unreachable!("beats for ever"),
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
        let one_silent = pulse.stalled(Duration::from_millis(30));
        assert_eq!(one_silent.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [0]);
        assert_eq!(pulse.stalled(SILENCE_MAX), []);
    }

    #[tokio::test]
    async fn a_loop_that_was_late_tells_once_also_when_it_goes_on_before_anybody_looks() {
        let pulse = Pulse::new(1);
        let beat_for_a_moment = async || {
            tokio::select! {
                () = pulse.beat(0) => unreachable!("beats for ever"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        };
        beat_for_a_moment().await;
        pulse.is_untold.store(false, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(LATE_MS + 20));
        beat_for_a_moment().await;
        assert!(pulse.was_late(Instant::now()));
        std::thread::sleep(Duration::from_millis(LATE_MS + 20));
        let now = Instant::now();
        assert!(pulse.was_late(now) && !pulse.was_late(now), "while it lasts, it is told now and then");
    }
}
