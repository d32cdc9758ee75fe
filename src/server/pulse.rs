//! Whether the event loops of a node still turn.
//!
//! Every worker's loop runs [`Pulse::beat`], which wakes twice a second and notes the time. A loop that is stuck (in an
//! endless command, or starved of CPU) stops noting, and [`Pulse::stalled`] names it. What a process that is stopped as a
//! whole would say about itself is not asked: it cannot answer either.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a loop notes that it turns.
const BEAT: Duration = Duration::from_millis(500);

/// How long a loop may be silent. Redis calls a script "busy" after the same time.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// One per node.
#[derive(Debug)]
pub struct Pulse {
    started: Instant,
    /// Per worker, milliseconds from `started` to its last beat.
    beats: Box<[AtomicU64]>,
}

impl Pulse {
    /// A pulse for this many loops, all of them well.
    pub fn new(workers: usize) -> Pulse {
        Pulse { started: Instant::now(), beats: (0..workers).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Notes for ever that the loop this runs on turns; to be spawned on it.
    pub async fn beat(&self, worker: usize) {
        let mut interval = tokio::time::interval(BEAT);
        while let Some(beat) = self.beats.get(worker) {
            interval.tick().await;
            beat.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// The loops that have been silent for longer than `silence_max`, and for how long.
    pub fn stalled(&self, silence_max: Duration) -> Vec<(usize, Duration)> {
        let now = self.now_ms();
        let silence = |beat: &AtomicU64| Duration::from_millis(now.saturating_sub(beat.load(Ordering::Relaxed)));
        self.beats.iter().map(silence).enumerate().filter(|(_, silence)| *silence > silence_max).collect()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
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
}
