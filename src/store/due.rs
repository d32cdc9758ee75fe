//! Where the sweeper has to look: the earliest deadline in each group of 64 slots.
//!
//! Looking at all slots ten times a second would cost a node at rest a hundredth of a core. A slot's earliest deadline
//! is noted in its group when it changes, which takes an atomic operation only when it comes earlier than the group's.
//! What is noted may be too early, never too late: the sweeper takes a group's note away before it looks at the slots,
//! and notes anew what they say.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::ids::{SLOT_COUNT, Slot};

/// How many slots share a note.
const GROUP_SLOTS: usize = 64;
/// How many groups there are.
pub const GROUPS: usize = SLOT_COUNT.div_ceil(GROUP_SLOTS);

/// See the head of the file.
#[derive(Debug)]
pub struct Due {
    /// By group, in milliseconds since 1970; `u64::MAX` for none.
    earliest_ms: Box<[AtomicU64]>,
}

impl Default for Due {
    fn default() -> Due {
        Due { earliest_ms: (0..GROUPS).map(|_| AtomicU64::new(u64::MAX)).collect() }
    }
}

impl Due {
    /// Notes that this is the earliest deadline in a slot now, 0 for none. It has to be in the slot before.
    #[inline]
    pub fn note(&self, slot: Slot, deadline_ms: u64) {
        if let Some(earliest) = self.earliest_ms.get(slot.index() / GROUP_SLOTS)
            && deadline_ms != 0
        {
            earliest.fetch_min(deadline_ms, Ordering::Release);
        }
    }

    /// The slots of a group, to be noted anew, if some deadline in it may have passed.
    pub fn take(&self, group: usize, before_ms: u64) -> impl Iterator<Item = Slot> + use<> {
        let earliest = self.earliest_ms.get(group).filter(|earliest| earliest.load(Ordering::Relaxed) <= before_ms);
        let is_due = earliest.is_some_and(|earliest| earliest.swap(u64::MAX, Ordering::Acquire) <= before_ms);
        let slots = if is_due { group * GROUP_SLOTS..(group + 1) * GROUP_SLOTS } else { 0..0 };
        slots.filter_map(|number| Slot::new(u16::try_from(number).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).expect("a slot")
    }

    #[test]
    fn a_group_is_looked_at_when_its_earliest_deadline_has_passed_and_noted_anew() {
        let due = Due::default();
        let look = |group, before_ms| due.take(group, before_ms).map(Slot::index).collect::<Vec<_>>();
        assert!(look(0, u64::MAX - 1).is_empty());
        due.note(slot(65), 500);
        due.note(slot(66), 300);
        due.note(slot(67), 0);
        assert_eq!((look(0, 1_000), look(1, 299)), (vec![], vec![]));
        assert_eq!(look(1, 300), (64..128).collect::<Vec<_>>());
        assert!(look(1, 1_000).is_empty(), "until it is noted again");
        due.note(slot(65), 500);
        assert_eq!(look(1, 1_000).len(), 64);
        due.note(slot(16_383), 1);
        assert_eq!(look(GROUPS - 1, 1).last(), Some(&16_383));
    }
}
