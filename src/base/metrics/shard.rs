//! One thread's share of the counters.
//!
//! A shard is written by one thread and read by any. [`Worker`] enforces the one writer: it cannot be shared between
//! threads (it is not `Sync`) nor copied. All cells of a shard are in memory of its own, aligned to pairs of cache
//! lines, so that two workers never write to the same line.

use super::latency::{Latency, add};
use super::table::{Class, Count};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The cells. Two cache lines of alignment, because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    pub(super) counts: [AtomicU64; Count::COUNT],
    pub(super) latency: [Latency; Class::ALL.len()],
    pub(super) commands: Box<[CommandCells]>,
}

/// What is counted per command; a line pair of its own keeps a shard's edge away from its neighbour's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct CommandCells {
    pub(super) calls: AtomicU64,
    pub(super) us: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) latency: Latency,
}

impl Shard {
    pub(super) fn new(commands: usize) -> Shard {
        Shard {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            latency: std::array::from_fn(|_| Latency::default()),
            commands: (0..commands).map(|_| CommandCells::default()).collect(),
        }
    }
}

/// The counting side of one thread. Commands are named by their index in the list that the registry was made with; an
/// index outside it counts nothing.
#[derive(Debug)]
pub struct Worker {
    shard: Arc<Shard>,
    one_thread: PhantomData<Cell<()>>,
}

impl Worker {
    pub(super) fn new(shard: Arc<Shard>) -> Worker {
        Worker { shard, one_thread: PhantomData }
    }

    /// Adds `n` to a counter.
    pub fn count(&self, count: Count, n: u64) {
        if let Some(cell) = self.shard.counts.get(count as usize) {
            add(cell, n);
        }
    }

    /// `calls` runs of a command that took `us_total` microseconds together, not counting what they waited for
    /// replicas.
    pub fn ran(&self, command: usize, calls: u64, us_total: u64) {
        if let Some(cells) = self.shard.commands.get(command) {
            add(&cells.calls, calls);
            add(&cells.us, us_total);
            cells.latency.record(us_total / calls.max(1), calls);
        }
    }

    /// A command that was refused before it ran: wrong arguments, no permission, no memory.
    pub fn rejected(&self, command: usize) {
        if let Some(cells) = self.shard.commands.get(command) {
            add(&cells.rejected, 1);
        }
    }

    /// A command that ran and replied with an error; also counted by [`ran`](Worker::ran).
    pub fn failed(&self, command: usize) {
        if let Some(cells) = self.shard.commands.get(command) {
            add(&cells.failed, 1);
        }
    }

    /// `times` commands of a class that were answered `us` microseconds after they had arrived.
    pub fn answered(&self, class: Class, us: u64, times: u64) {
        if let Some(latency) = self.shard.latency.get(class as usize) {
            latency.record(us, times);
        }
    }
}
