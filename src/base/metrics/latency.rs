//! A latency distribution over fixed bounds: powers of two microseconds.
//!
//! Bucket `k` counts what took more than 2^(k-1) and at most 2^k microseconds; the last one counts everything longer.
//! Finding the bucket is one instruction, and sums of distributions are distributions, which is why shards can have
//! one each.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets up to 2^24 us (16.8 s), and one for everything longer.
pub const BUCKETS: usize = 26;

/// The bounds shown to Prometheus: 2^5 (32 us) to 2^23 (8.4 s).
pub const SHOWN: std::ops::RangeInclusive<usize> = 5..=23;

/// One distribution of one thread. Counting is for its one writer; reading is for anybody.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Latency {
    /// Counts `times` events that took `us` microseconds each.
    pub fn record(&self, us: u64, times: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(us)) {
            add(bucket, times);
        }
        add(&self.sum_us, us.wrapping_mul(times));
    }

    /// Adds this distribution to `totals`.
    pub fn add_to(&self, totals: &mut LatencyTotals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        totals.sum_us += self.sum_us.load(Ordering::Relaxed);
    }
}

/// The one writer's addition: no other thread stores to this cell, so nothing is lost between the load and the store.
pub fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

fn bucket_of(us: u64) -> usize {
    let power = u64::BITS - us.saturating_sub(1).leading_zeros();
    (power as usize).min(BUCKETS - 1)
}

/// The sum of distributions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LatencyTotals {
    /// Events per bucket, not cumulated.
    pub buckets: [u64; BUCKETS],
    /// Microseconds of all events together.
    pub sum_us: u64,
}

impl LatencyTotals {
    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bound in microseconds under which `percent` of the events lie; 0 when there were none. At most twice too
    /// high.
    pub fn percentile_us(&self, percent: f64) -> u64 {
        let wanted = (self.count() as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (power, events) in self.buckets.iter().enumerate() {
            seen += events;
            if seen >= wanted {
                return 1 << power;
            }
        }
        0
    }

    /// How many events may have taken longer than `us` microseconds: those in its bucket and in all above.
    pub fn count_above(&self, us: u64) -> u64 {
        self.buckets.iter().skip(bucket_of(us)).sum()
    }

    /// (bound in microseconds, events at most that long) for every bucket that Prometheus is shown.
    pub fn cumulated(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        let all = self.buckets.iter().enumerate().map(move |(power, events)| {
            seen += events;
            (power, seen)
        });
        all.filter(|(power, _)| SHOWN.contains(power)).map(|(power, seen)| (1 << power, seen))
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &LatencyTotals) -> LatencyTotals {
        let mut rest = self.clone();
        for (now, before) in rest.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.saturating_sub(*before);
        }
        rest.sum_us = rest.sum_us.saturating_sub(earlier.sum_us);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_at_its_power_of_two() {
        let cases =
            [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 24, 24), ((1 << 24) + 1, 25), (u64::MAX, 25)];
        for (us, bucket) in cases {
            assert_eq!(bucket_of(us), bucket, "{us}");
        }
    }

    #[test]
    fn percentiles_are_the_bound_of_the_bucket_that_holds_them() {
        let latency = Latency::default();
        latency.record(10, 99);
        latency.record(5_000, 1);
        let mut totals = LatencyTotals::default();
        latency.add_to(&mut totals);
        assert_eq!(
            (totals.percentile_us(50.0), totals.percentile_us(99.0), totals.percentile_us(99.9)),
            (16, 16, 8_192)
        );
        assert_eq!((totals.count(), totals.sum_us), (100, 5_990));
        assert_eq!([9, 17, 5_000, 8_193].map(|us| totals.count_above(us)), [100, 1, 1, 0]);
        assert_eq!(LatencyTotals::default().percentile_us(50.0), 0);
        let shown: Vec<_> = totals.cumulated().collect();
        assert_eq!((shown[0], shown[shown.len() - 1]), ((32, 99), (1 << 23, 100)));
    }
}
