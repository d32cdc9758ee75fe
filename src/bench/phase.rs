//! What all connections of one phase share: its options, its clock and its budget.
//!
//! A load has one or two phases, the fill and the load proper. Everything here is read-only or atomic; the hot path
//! touches the clock and, when a number of operations ends the phase, the budget, once per batch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::keys::{Filler, KeySpace};
use super::options::{Limit, Options};
use super::topology::Directory;

/// One phase of a load.
#[derive(Debug)]
pub struct Phase {
    /// How the load is run; in a fill, already changed to what a fill needs.
    pub options: Options,
    /// The keys.
    pub space: Arc<KeySpace>,
    /// Who owns which slot, when keys go to their owners.
    pub directory: Option<Arc<Directory>>,
    /// Deals out the keys; `None` in the load proper.
    pub filler: Option<Arc<Filler>>,
    clock: OnceLock<(Instant, SystemTime)>,
    measure_from_ns: u64,
    end_ns: Option<u64>,
    /// Operations that may still be sent, when a number decides.
    budget: AtomicU64,
    settled: AtomicU64,
    stopped: AtomicBool,
}

impl Phase {
    /// A phase that has not begun.
    pub fn new(
        options: Options,
        space: Arc<KeySpace>,
        directory: Option<Arc<Directory>>,
        filler: Option<Arc<Filler>>,
    ) -> Arc<Phase> {
        let (budget, end) = match options.limit {
            Limit::Operations(count) => (count, None),
            Limit::Time(time) => (0, Some(options.warmup + time)),
        };
        Arc::new(Phase {
            measure_from_ns: options.warmup.as_nanos() as u64,
            end_ns: end.map(|end| end.as_nanos() as u64),
            options,
            space,
            directory,
            filler,
            clock: OnceLock::new(),
            budget: AtomicU64::new(budget),
            settled: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        })
    }

    /// Starts the clock.
    pub fn begin(&self) {
        self.clock.get_or_init(|| (Instant::now(), SystemTime::now()));
    }

    /// When measuring began, in milliseconds since 1970; `None` before the phase has begun.
    pub fn began_unix_ms(&self) -> Option<u64> {
        let (_, began) = self.clock.get()?;
        let since = (*began + self.options.warmup).duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    }

    /// Nanoseconds since the phase began; 0 before.
    pub fn now_ns(&self) -> u64 {
        self.clock.get().map_or(0, |(start, _)| start.elapsed().as_nanos() as u64)
    }

    /// From when on operations count, in nanoseconds since the phase began.
    pub fn measure_from_ns(&self) -> u64 {
        self.measure_from_ns
    }

    /// When no more operations are to start, if time decides.
    pub fn end_ns(&self) -> Option<u64> {
        self.end_ns
    }

    /// Takes up to `wanted` operations out of what may still be sent at `now_ns`; those before measuring are free.
    pub fn take(&self, wanted: usize, now_ns: u64) -> usize {
        if self.end_ns.is_some() || now_ns < self.measure_from_ns {
            return wanted;
        }
        let take = |left: u64| Some(left.saturating_sub(wanted as u64));
        let left = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        wanted.min(usize::try_from(left).unwrap_or(wanted))
    }

    /// Notes that operations were answered or given up.
    pub fn settled(&self, count: u64) {
        self.settled.fetch_add(count, Ordering::Relaxed);
    }

    /// Ends the phase early.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was ended early.
    pub fn was_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// How many operations were answered or given up, and how long the phase has run.
    pub fn progress(&self) -> (u64, Duration) {
        (self.settled.load(Ordering::Relaxed), Duration::from_nanos(self.now_ns()))
    }

    /// What the progress line counts up to.
    pub fn progress_end(&self) -> Limit {
        match (&self.filler, self.options.limit) {
            (Some(_), _) => Limit::Operations(self.space.count()),
            (None, Limit::Time(time)) => Limit::Time(time + self.options.warmup),
            (None, limit) => limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_given_out_once_and_warming_up_is_free() {
        let mut options = Options::of_line("-n 10 --warmup 1").unwrap();
        let space = Arc::new(KeySpace::new("k", 1));
        let phase = Phase::new(options.clone(), space.clone(), None, None);
        let warm = phase.measure_from_ns();
        assert_eq!(phase.take(64, warm - 1), 64);
        assert_eq!([4, 4, 4, 4].map(|wanted| phase.take(wanted, warm)), [4, 4, 2, 0]);
        assert_eq!(phase.end_ns(), None);
        options.limit = Limit::Time(Duration::from_secs(2));
        let phase = Phase::new(options, space, None, None);
        assert_eq!((phase.take(64, warm), phase.end_ns()), (64, Some(3_000_000_000)));
    }
}
