//! What this node has fetched of its slots, in this life: how many it has filled, which it holds whole, and whether it
//! holds what it gains by others on their way. Who finds that out is in the files that are named at each.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::base::ids::{SLOT_COUNT, Slot};
use crate::base::slots::AtomicSlots;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    filled_slots: AtomicUsize,
    /// Fetched from so many others that they may be promised; see `whole`.
    pub whole: AtomicSlots,
    may_have_joined: AtomicBool,
    taken_over: Mutex<Option<u64>>,
}

impl Holdings {
    /// Nothing is anywhere: this node holds all that there is.
    pub fn found(&self) {
        self.note_filled(SLOT_COUNT);
        Slot::all().for_each(|slot| self.whole.insert(slot));
    }

    /// How many of its slots are filled; see `transfer`.
    pub fn filled_slots(&self) -> usize {
        self.filled_slots.load(Ordering::Relaxed)
    }

    /// Notes how many of its slots are filled.
    pub fn note_filled(&self, slots: usize) {
        self.filled_slots.store(slots, Ordering::Relaxed);
    }

    /// True when an earlier life of this node was joining, too, or too few have said whether it was: it may have come
    /// further than was heard of, and have accepted what this one does not know.
    pub fn may_have_joined(&self) -> bool {
        self.may_have_joined.load(Ordering::Relaxed)
    }

    /// Notes whether that is so; see `lifecycle`.
    pub fn note_may_have_joined(&self, may_have: bool) {
        self.may_have_joined.store(may_have, Ordering::Relaxed);
    }

    /// True when this node holds what it gains by those that are on their way in this era; see `take_over`.
    pub fn has_taken_over_in(&self, era: u64) -> bool {
        *self.taken_over.lock() == Some(era)
    }

    /// Notes that it does.
    pub fn note_taken_over_in(&self, era: u64) {
        *self.taken_over.lock() = Some(era);
    }
}
