//! What a node counts, from one table, at the price of one plain addition.
//!
//! | file | what it is |
//! |---|---|
//! | `table`, `page` | one row per metric; the table as a page for people |
//! | `shard` | one thread's share of the counters |
//! | `latency` | a latency distribution over fixed bounds |
//! | `registry` | hands out shards, sums them, and asks the sources |
//! | `render` | totals and gauges as Prometheus's text |
//!
//! Every worker thread owns a [`Worker`]: a shard of counters in cache lines that no other thread writes. Counting is a
//! relaxed load and a relaxed store, not an atomic read-modify-write, because a shard has one writer. Whoever wants
//! figures ([`Registry::totals`]: a scrape, INFO) sums the shards. Threads that count rarely use
//! [`Registry::count`], which pays for an atomic addition to a shard of its own.
//!
//! Figures that are a state and not a count (keys, members, bytes in use) are gauges: nobody maintains them, they are
//! asked for at the scrape from the sources that parts register with [`Registry::add_source`]. So are the few counters
//! that a part keeps itself ([`Kept`]).
//!
//! Latencies go to histograms with fixed bounds, powers of two microseconds ([`Latency`]). The exporter's own
//! histograms keep every raw sample until the next scrape, which at a million commands per second is a leak with a
//! schedule.
//!
//! [`Registry::render`] writes Prometheus's text format: counters and gauges through `metrics-exporter-prometheus`,
//! what it cannot express (histograms made of sums, counters of fractional seconds) behind it, and on request the same
//! values under the `redis_*` names that existing dashboards read.
//!
//! CONFIG RESETSTAT does not touch a shard: the registry remembers the totals of that moment and INFO subtracts them,
//! so counters stay monotonic for Prometheus.
//!
//! What it costs (2026-11-26, release build, callgrind on the worker's thread, with all counting compiled out against
//! it): 14 of the 1,561 instructions of a GET in a pipeline of 64, 15 of the 2,109 of a SET, and some 200 of the 4,900
//! that a batch of a single GET takes outside the kernel. In 14 pairs of runs of a million commands the processor time
//! differed by +3.8 % (GET) and -1.4 % (SET) in the median, and by up to 49 % either way within: nothing that can be
//! told from noise. A scrape takes 2.5 ms of it with 10,000 connections (`scripts/scrape-cost`).
//!
//! Adding a metric: one row in `table.rs`, then count it, or give it in a source, and write `METRICS.md` anew (the test
//! that compares them says how).
#![doc = include_str!("METRICS.md")]

mod latency;
#[cfg(test)]
mod page;
mod table;
mod shard;
mod registry;
mod render;

pub use latency::{Latency, LatencyTotals};
pub use registry::{CommandTotals, Gauges, Registry, Totals};
pub use shard::Worker;
pub use table::{Class, Count, Gauge, Given, Kept, Kind, Metric, metrics};

#[cfg(test)]
mod tests;
