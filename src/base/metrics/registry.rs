//! The registry: hands out shards, sums them, and asks the sources for what they know.

use super::latency::LatencyTotals;
use super::shard::{Shard, Worker};
use super::table::{Class, Count, Given, Metric};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One per node.
pub struct Registry {
    commands: Vec<&'static str>,
    /// Written by any thread, with atomic additions.
    shared: Shard,
    shards: Mutex<Vec<Arc<Shard>>>,
    sources: Mutex<Vec<Source>>,
    /// The totals at the last CONFIG RESETSTAT.
    at_reset: Mutex<Totals>,
}

type Source = Box<dyn Fn(&mut Gauges) + Send + Sync>;

impl Registry {
    /// A registry for these commands; their order gives the index that [`Worker::ran`] takes.
    pub fn new(commands: Vec<&'static str>) -> Registry {
        let at_reset = Mutex::new(Totals::zero(&commands));
        let shared = Shard::new(0);
        Registry { commands, shared, shards: Mutex::default(), sources: Mutex::default(), at_reset }
    }

    /// The counting side for one more thread. Its counts outlive it.
    pub fn worker(&self) -> Worker {
        let shard = Arc::new(Shard::new(self.commands.len()));
        self.shards.lock().push(shard.clone());
        Worker::new(shard)
    }

    /// Adds to a counter from a thread that has no [`Worker`].
    pub fn count(&self, count: Count, n: u64) {
        if let Some(cell) = self.shared.counts.get(count as usize) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Registers somebody who knows gauges. Called at every scrape, on the scraping thread: it must not wait.
    pub fn add_source(&self, source: impl Fn(&mut Gauges) + Send + Sync + 'static) {
        self.sources.lock().push(Box::new(source));
    }

    /// What was counted since the node started.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::zero(&self.commands);
        totals.add(&self.shared);
        self.shards.lock().iter().for_each(|shard| totals.add(shard));
        totals
    }

    /// What was counted since CONFIG RESETSTAT, or since the node started: INFO's figures.
    pub fn totals_since_reset(&self) -> Totals {
        self.totals().since(&self.at_reset.lock())
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        *self.at_reset.lock() = self.totals();
    }

    /// The gauges as they are now.
    pub fn gauges(&self) -> Gauges {
        let mut gauges = Gauges::default();
        self.sources.lock().iter().for_each(|source| source(&mut gauges));
        gauges
    }
}

/// The sums over all shards.
#[derive(Clone, Debug)]
pub struct Totals {
    counts: [u64; Count::COUNT],
    latency: [LatencyTotals; Class::ALL.len()],
    /// One per command, in the registry's order.
    pub commands: Vec<CommandTotals>,
}

/// What was counted of one command.
#[derive(Clone, Debug)]
pub struct CommandTotals {
    /// The command's name.
    pub name: &'static str,
    /// Runs.
    pub calls: u64,
    /// Microseconds of all runs together.
    pub us: u64,
    /// Refused before they ran.
    pub rejected: u64,
    /// Ran and replied with an error.
    pub failed: u64,
    /// The distribution of the runs' times.
    pub latency: LatencyTotals,
}

impl Default for Totals {
    /// Nothing counted, of no command.
    fn default() -> Totals {
        Totals::zero(&[])
    }
}

impl Totals {
    fn zero(commands: &[&'static str]) -> Totals {
        let zero = |name: &&'static str| CommandTotals {
            name,
            calls: 0,
            us: 0,
            rejected: 0,
            failed: 0,
            latency: LatencyTotals::default(),
        };
        Totals {
            counts: [0; Count::COUNT],
            latency: std::array::from_fn(|_| LatencyTotals::default()),
            commands: commands.iter().map(zero).collect(),
        }
    }

    /// The value of a counter.
    pub fn count(&self, count: Count) -> u64 {
        self.counts.get(count as usize).copied().unwrap_or(0)
    }

    /// Times from arrival to reply of the commands of a class.
    pub fn latency(&self, class: Class) -> &LatencyTotals {
        let [read, write, admin] = &self.latency;
        match class {
            Class::Read => read,
            Class::Write => write,
            Class::Admin => admin,
        }
    }

    fn add(&mut self, shard: &Shard) {
        for (total, cell) in self.counts.iter_mut().zip(&shard.counts) {
            *total += cell.load(Ordering::Relaxed);
        }
        for (total, latency) in self.latency.iter_mut().zip(&shard.latency) {
            latency.add_to(total);
        }
        for (total, cells) in self.commands.iter_mut().zip(&shard.commands) {
            total.calls += cells.calls.load(Ordering::Relaxed);
            total.us += cells.us.load(Ordering::Relaxed);
            total.rejected += cells.rejected.load(Ordering::Relaxed);
            total.failed += cells.failed.load(Ordering::Relaxed);
            cells.latency.add_to(&mut total.latency);
        }
    }

    /// These totals without the commands' own, for whoever keeps many of them.
    pub fn without_commands(&self) -> Totals {
        Totals { counts: self.counts, latency: self.latency.clone(), commands: Vec::new() }
    }

    /// What was counted since `earlier`.
    pub fn since(mut self, earlier: &Totals) -> Totals {
        for (now, before) in self.counts.iter_mut().zip(&earlier.counts) {
            *now = now.saturating_sub(*before);
        }
        for (now, before) in self.latency.iter_mut().zip(&earlier.latency) {
            *now = now.since(before);
        }
        for (now, before) in self.commands.iter_mut().zip(&earlier.commands) {
            now.calls = now.calls.saturating_sub(before.calls);
            now.us = now.us.saturating_sub(before.us);
            now.rejected = now.rejected.saturating_sub(before.rejected);
            now.failed = now.failed.saturating_sub(before.failed);
            now.latency = now.latency.since(&before.latency);
        }
        self
    }
}

/// What the sources gave at one scrape: gauges, and counters that they keep themselves.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub(super) series: Vec<Series>,
}

/// One value with the values of its labels, in the order of the row.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) metric: &'static Metric,
    pub(super) labels: Vec<String>,
    pub(super) value: f64,
}

impl Gauges {
    /// Gives the value of a metric without labels.
    pub fn set(&mut self, given: impl Given, value: f64) {
        self.set_labelled(given, &[], value);
    }

    /// Gives one series of a metric with labels; `labels` are their values in the order of the row.
    pub fn set_labelled(&mut self, given: impl Given, labels: &[&str], value: f64) {
        let metric = given.row();
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        self.series.push(Series { metric, labels: labels.iter().map(|text| (*text).to_owned()).collect(), value });
    }

    /// The value of a metric: the sum over its series.
    pub fn get(&self, given: impl Given) -> f64 {
        self.of(given.row()).map(|series| series.value).sum()
    }

    /// The value of the series whose first label is this.
    pub fn get_labelled(&self, given: impl Given, label: &str) -> Option<f64> {
        self.of(given.row()).find(|series| series.labels.first().is_some_and(|it| it == label)).map(|it| it.value)
    }

    pub(super) fn of(&self, metric: &'static Metric) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| std::ptr::eq(series.metric, metric))
    }
}
