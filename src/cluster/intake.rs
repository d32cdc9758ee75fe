//! What other nodes hand over, merged into what this node holds.
//!
//! It is merged on threads that end soon after (`Merge`), one piece at a time. An entry's memory belongs to the thread
//! that made it, and what becomes free of it only that thread can use again; but what a thread leaves behind when it
//! ends, the allocator gives to whoever needs memory next. So the workers, which write what clients ask for, have the
//! memory of what was handed over, key by key as it goes. Made by a thread that lives on, it would have holes that no
//! new key could use: a node that others had filled took 1.9 times the memory of what it held, while its keys expired
//! and others took their place. The workers do not merge it themselves: busy with that, they kept clients waiting for
//! two seconds while a node left (2026-11-29, four nodes and the load on two cores).
//!
//! Invariants: who hands something over is answered when all of it is merged, or when something in it is refused: then
//! what was before that is merged, and nothing behind it. How much waits here is bounded by who hands over: one piece a
//! connection at a time.
//!
//! Asks nobody for anything (`transfer`, `reconcile`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, oneshot};

use crate::base::ids::slot_of;
use crate::base::metrics::{Count, Registry};
use crate::peer::entries::Entries;
use crate::peer::refusal::Refusal;
use crate::store::Store;
use crate::store::scope::is_clear;

/// Has [`Portion::merge`] run soon, on a thread that may take its time and ends before long; called from within a
/// runtime.
pub type Merge = fn(Portion);

/// See the head of the file.
pub struct Intake {
    pub(super) store: Arc<Store>,
    pub(super) metrics: Arc<Registry>,
    merge: Merge,
    /// Whose piece is being merged.
    turn: Mutex<()>,
    /// Keys that were merged.
    received: AtomicU64,
}

/// What was handed over in one piece.
pub struct Portion {
    intake: Arc<Intake>,
    entries: Entries,
    merged: oneshot::Sender<Result<(), Refusal>>,
}

impl Intake {
    /// The way into `store`.
    pub fn new(store: Arc<Store>, metrics: Arc<Registry>, merge: Merge) -> Arc<Intake> {
        Arc::new(Intake { store, metrics, merge, turn: Mutex::default(), received: AtomicU64::new(0) })
    }

    /// How many keys were merged.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Merges what another node holds into what this one holds.
    pub(super) async fn take(self: &Arc<Self>, entries: Entries) -> Result<(), Refusal> {
        if entries.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let (merged, outcome) = oneshot::channel();
        (self.merge)(Portion { intake: self.clone(), entries, merged });
        // Whoever was to merge it ends only with the node.
        outcome.await.unwrap_or(Err(Refusal::Warming))
    }

    fn merge_all(&self, entries: &Entries) -> Result<(), Refusal> {
        for key in entries.iter(&self.store.actors) {
            let key = key.map_err(|_| Refusal::Malformed)?;
            if !key.is_named() || !is_clear(key.db) && slot_of(key.key) != key.slot {
                return Err(Refusal::Malformed);
            }
            let now_ms = self.store.clock.now_ms();
            if self.store.clock.observe(key.state.version.latest(), now_ms).is_err() {
                self.metrics.count(Count::ClockRefusals, 1);
                return Err(Refusal::Skew);
            }
            let slot = key.slot;
            key.merge_into(&mut self.store.table(slot), &self.store, now_ms, &self.metrics);
            self.received.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Portion {
    /// Merges it on this thread, which so has made its entries. Takes milliseconds.
    pub fn merge(self) {
        let outcome = self.intake.merge_all(&self.entries);
        // Whoever has handed it over may have gone.
        _ = self.merged.send(outcome);
    }
}
