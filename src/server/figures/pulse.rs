//! Whether the event loops of a node still turn.
//!
//! Every worker's loop runs [`Pulse::beat`], which wakes fifty times a second and notes the time. A loop that is stuck
//! (in an endless command, or starved of CPU) stops noting, and [`Pulse::stalled`] names it. What a process that is
//! stopped as a whole would say about itself is not asked: it cannot answer either. But when it goes on,
//! [`Pulse::tell_lateness`] has somebody act on it that its peers may have taken over what it coordinates, before any
//! loop goes on to what comes behind that.
//!
//! A loop may be at work for long: a transaction of a million requests, a value of many megabytes. Then another thread
//! tells the peers so for it (`node::at_work`), which is as good as a beat. It does so up to [`WORK_MAX`]; a loop that
//! is stuck for longer is taken for stopped. Peers that such words do not reach take the node's slots over, and it
//! hears that from them (`peer::trust`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::peer::link::{HEARTBEAT, STALL_MS_MAX};

/// How often a loop notes that it turns.
const BEAT: Duration = Duration::from_millis(20);

/// How late a loop may be, in milliseconds, before peers may have taken the node for stopped: that takes `STALL_MS_MAX`
/// after an acknowledgement, which may be as much older than the last beat as two beats and a heartbeat take.
pub const LATE_MS: u64 = STALL_MS_MAX - 2 * BEAT.as_millis() as u64 - HEARTBEAT.as_millis() as u64;

/// After which silence of a loop the peers are to be told that it is at work, in milliseconds: it has missed a beat,
/// and is not late yet.
const WORK_MS_MIN: u64 = 30;
/// How long a loop may be at work before nobody speaks for it any more.
pub const WORK_MAX: Duration = Duration::from_secs(10);

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
    /// The same for when it was said last that loops are at work.
    said_ms: AtomicU64,
    /// How often a loop has found itself late, and how many of these times have been told and acted on.
    lapses: AtomicU64,
    lapses_told: AtomicU64,
    /// When it was told last.
    told_ms: Mutex<u64>,
}

impl Pulse {
    /// A pulse for this many loops, all of them well.
    pub fn new(workers: usize) -> Pulse {
        let beats = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let (lapses, lapses_told, told_ms) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(0));
        Pulse { started: Instant::now(), beats, said_ms: AtomicU64::new(0), lapses, lapses_told, told_ms }
    }

    /// Notes for ever that the loop this runs on turns; to be spawned on it.
    pub async fn beat(&self, worker: usize) {
        let mut interval = tokio::time::interval(BEAT);
        while let Some(beat) = self.beats.get(worker) {
            interval.tick().await;
            let now_ms = self.now_ms();
            self.note_lapse(beat, now_ms);
            beat.store(now_ms, Ordering::Release);
        }
    }

    /// Whether a loop is at work and the peers are to be told so now. Not if one has been for too long.
    pub fn is_to_be_said(&self) -> bool {
        let now_ms = self.now_ms();
        self.stalled(WORK_MAX).is_empty() && self.beats.iter().any(|beat| self.silence_ms(beat, now_ms) >= WORK_MS_MIN)
    }

    /// The peers have just been told that loops are at work.
    pub fn note_said(&self) {
        let now_ms = self.now_ms();
        self.beats.iter().for_each(|beat| self.note_lapse(beat, now_ms));
        self.said_ms.store(now_ms, Ordering::Release);
    }

    /// Notes it when a loop is late that gives a sign now, or for which one is given.
    fn note_lapse(&self, beat: &AtomicU64, now_ms: u64) {
        if self.silence_ms(beat, now_ms) > LATE_MS {
            self.lapses.fetch_add(1, Ordering::Release);
        }
    }

    /// How long peers have heard nothing of a loop, at least.
    fn silence_ms(&self, beat: &AtomicU64, now_ms: u64) -> u64 {
        now_ms.saturating_sub(beat.load(Ordering::Acquire).max(self.said_ms.load(Ordering::Acquire)))
    }

    /// Calls `tell` when a loop has been late since that was last told, or is at `now`; while it is, every
    /// [`TELL_AGAIN_MS`]. Who comes while another is telling waits for it.
    #[inline]
    pub fn tell_lateness(&self, now: Instant, tell: impl FnOnce()) {
        let now_ms = self.ms(now);
        // In this order: who gives the sign that ends a loop's lateness notes the lapse first.
        if self.is_late(now_ms) || self.has_untold() {
            self.tell(now_ms, tell);
        }
    }

    #[cold]
    fn tell(&self, now_ms: u64, tell: impl FnOnce()) {
        let mut told_ms = self.told_ms.lock();
        let lapses = self.lapses.load(Ordering::Acquire);
        if self.has_untold() || now_ms >= *told_ms + TELL_AGAIN_MS {
            tell();
            *told_ms = now_ms;
            self.lapses_told.store(lapses, Ordering::Release);
        }
    }

    fn has_untold(&self) -> bool {
        self.lapses.load(Ordering::Acquire) != self.lapses_told.load(Ordering::Acquire)
    }

    fn is_late(&self, now_ms: u64) -> bool {
        self.beats.iter().any(|beat| self.silence_ms(beat, now_ms) > LATE_MS)
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
        let told = |now: Instant| {
            let mut times = 0;
            pulse.tell_lateness(now, || times += 1);
            times
        };
        told(Instant::now());
        std::thread::sleep(Duration::from_millis(LATE_MS + 20));
        beat_for_a_moment().await;
        assert_eq!(told(Instant::now()), 1);
        std::thread::sleep(Duration::from_millis(LATE_MS + 20));
        let now = Instant::now();
        assert_eq!((told(now), told(now)), (1, 0), "while it lasts, it is told now and then");
    }

    #[tokio::test]
    async fn a_loop_that_is_at_work_is_not_late_while_the_peers_are_told_so() {
        let pulse = Pulse::new(1);
        let told = || {
            let mut times = 0;
            pulse.tell_lateness(Instant::now(), || times += 1);
            times
        };
        let work = |is_told: bool| {
            let until = Instant::now() + Duration::from_millis(3 * LATE_MS);
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
                if is_told && pulse.is_to_be_said() {
                    pulse.note_said();
                }
            }
        };
        for is_told in [true, false] {
            tokio::select! {
                () = pulse.beat(0) => unreachable!("beats for ever"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            told();
            assert!(!pulse.is_to_be_said(), "it turns");
            let lapses = pulse.lapses.load(Ordering::Relaxed);
            work(is_told);
            assert_eq!(told(), u64::from(!is_told));
            pulse.note_said();
            assert_eq!(pulse.lapses.load(Ordering::Relaxed) > lapses, !is_told, "too late");
        }
    }

    #[test]
    fn nobody_goes_on_while_it_is_told_that_a_loop_was_late() {
        let pulse = Pulse::new(1);
        pulse.lapses.fetch_add(1, Ordering::Relaxed);
        let (begun, has_begun) = std::sync::mpsc::channel();
        let has_acted = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pulse.tell_lateness(Instant::now(), || {
                    begun.send(()).expect("somebody waits");
                    std::thread::sleep(Duration::from_millis(50));
                    has_acted.store(true, Ordering::Release);
                });
            });
            has_begun.recv().expect("it is told");
            pulse.tell_lateness(Instant::now(), || unreachable!("it has been told"));
            assert!(has_acted.load(Ordering::Acquire));
        });
    }
}
