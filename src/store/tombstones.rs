//! How deletions are forgotten: tombstones that nobody needs any more go, a bounded piece of a slot at a time.
//!
//! A tombstone keeps an older copy of its key from coming back. When it may go is not decided here
//! (`cluster::stability`): the caller names the stamp up to which every home replica is known to hold the deletion.

use std::sync::atomic::Ordering;

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::store::Store;
use crate::store::census::One;
use crate::store::entry::Entry;
use crate::store::name::hash_of;
use crate::store::slot::SlotTable;

/// Most places looked at under one lock.
const PLACES_MAX: usize = 512;

impl SlotTable {
    /// How many there are.
    pub fn tombstones(&self) -> usize {
        self.census.tombstones as usize
    }

    /// Bytes that they take, of [`SlotTable::footprint_bytes`]: their own, and their share of the index.
    #[inline]
    pub(super) fn tombstone_bytes(&self) -> usize {
        match self.tombstones() {
            0 => 0,
            count => {
                let index_bytes = self.index.allocation_bytes() * count / self.index.len().max(1);
                self.census.tombstone_bytes() + index_bytes
            }
        }
    }

    /// Forgets tombstones stamped at or before `bound` in the places from `from` on; gives how many, and where to go
    /// on.
    fn collect_tombstones(&mut self, from: usize, bound: Hlc) -> (usize, Option<usize>) {
        let to = (from + PLACES_MAX).min(self.index.places());
        let mut collected = 0;
        for place in from..to {
            let may_go = |entry: &&Entry| entry.is_tombstone() && entry.dot().hlc <= bound;
            let hash = self.index.get(place).filter(may_go).map(hash_of);
            let Some(entry) = hash.and_then(|hash| self.index.remove(place, hash)) else { continue };
            self.count_out(One::of(&entry));
            self.note_forgotten(entry.dot().hlc);
            collected += 1;
        }
        if collected > 0 {
            self.note_change();
            self.note_clears();
        }
        if to < self.index.places() {
            return (collected, Some(to));
        }
        self.shrink_if_sparse();
        (collected, None)
    }
}

impl Store {
    /// Bytes of [`Store::used_bytes`] that tombstones take.
    pub fn tombstone_bytes(&self) -> u64 {
        u64::try_from(self.tombstone_bytes.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Tombstones in all slots.
    pub fn count_tombstones(&self) -> usize {
        Slot::all().map(|slot| self.table(slot).tombstones()).sum()
    }

    /// Forgets the tombstones of `slot` that are stamped at or before `bound`; gives how many.
    pub fn collect_tombstones(&self, slot: Slot, bound: Hlc) -> usize {
        let (mut collected, mut next) = (0, Some(0));
        while let Some(from) = next {
            let mut table = self.table(slot);
            if table.tombstones() == 0 {
                break;
            }
            let piece = table.collect_tombstones(from, bound);
            collected += piece.0;
            next = piece.1;
        }
        collected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::store::Effects;
    use crate::store::mutation::Mutation;

    #[test]
    fn exactly_the_old_tombstones_go_and_their_memory_with_them() {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        store.set_replicated(true);
        let mut effects = Effects::default();
        let slot = slot_of(b"{t}");
        for n in 0..3_000u64 {
            let key = format!("{{t}}{n}").into_bytes();
            let mut keys = store.lock(slot, 0, 1_000 + n, &mut effects);
            keys.write(&key, Mutation::Assign { value: b"v", deadline_ms: 0 });
            if n >= 10 {
                keys.write(&key, Mutation::Delete);
            }
        }
        assert_eq!(store.collect_tombstones(slot, Hlc::at_ms(1_009)), 0);
        assert_eq!(store.collect_tombstones(slot, Hlc::at_ms(2_010)), 1_000);
        assert_eq!(store.table(slot).tombstones(), 1_990);
        assert_eq!(store.collect_tombstones(slot, Hlc(u64::MAX)), 1_990);
        assert_eq!(store.table(slot).len(), 10);
        assert!(store.used_bytes() < 4_000, "{}", store.used_bytes());
    }
}
