//! A set of hash slots that many threads read and change without a lock: a bit a slot, 2 KB in all.
//!
//! Each slot stands for itself. Whoever needs several to change as one needs a lock around them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ids::{SLOT_COUNT, Slot};

const WORD_BITS: usize = u64::BITS as usize;

/// See the head of the file.
#[derive(Debug)]
pub struct AtomicSlots {
    words: Box<[AtomicU64]>,
}

impl Default for AtomicSlots {
    fn default() -> AtomicSlots {
        AtomicSlots { words: (0..SLOT_COUNT.div_ceil(WORD_BITS)).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl AtomicSlots {
    /// True for a slot of the set.
    #[inline]
    pub fn contains(&self, slot: Slot) -> bool {
        self.word(slot).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Takes a slot in.
    pub fn insert(&self, slot: Slot) {
        if let Some((word, bit)) = self.word(slot) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Takes a slot out. It is looked at first: to change a word costs far more, and who forgets much mostly forgets
    /// what is not there.
    pub fn remove(&self, slot: Slot) {
        if let Some((word, bit)) = self.word(slot).filter(|(word, bit)| word.load(Ordering::Acquire) & bit != 0) {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Takes all slots out, one after the other.
    pub fn clear(&self) {
        self.words.iter().for_each(|word| word.store(0, Ordering::Release));
    }

    /// The slots of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        Slot::all().filter(|slot| self.contains(*slot))
    }

    #[inline]
    fn word(&self, slot: Slot) -> Option<(&AtomicU64, u64)> {
        self.words.get(slot.index() / WORD_BITS).map(|word| (word, 1 << (slot.index() % WORD_BITS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_and_go_one_by_one_and_go_together() {
        let (set, slots) = (AtomicSlots::default(), Slot::all().skip(60).take(9).collect::<Vec<_>>());
        slots.iter().for_each(|slot| set.insert(*slot));
        assert_eq!(set.iter().collect::<Vec<_>>(), slots);
        set.remove(slots[4]);
        assert_eq!(set.iter().count(), 8);
        assert!(!set.contains(slots[4]) && set.contains(slots[5]));
        Slot::all().for_each(|slot| set.insert(slot));
        assert_eq!(set.iter().count(), SLOT_COUNT);
        set.clear();
        assert_eq!(set.iter().next(), None);
    }
}
