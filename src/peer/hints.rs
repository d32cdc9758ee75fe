//! Hinted handoff (DeCandia et al., "Dynamo", 2007, section 4.6), the part that remembers: what a peer has missed.
//!
//! A hint is a bit: the hash slot that was written while the peer could not be told, and for all of them one stamp from
//! which on entries count. Every hinted value is in the store anyway, with its stamp, so hints cost nothing per key and
//! need no bound. Whoever delivers them (`node::handoff`) takes all there are, and puts back what did not arrive.
//!
//! Invariants: what is noted is among the hints until it has arrived; what is noted while they are delivered belongs to
//! the next time, with its own stamp.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::base::slots::AtomicSlots;

/// How much older than noted a hinted write's stamp may be, in milliseconds: its batch has read the clock before.
const STAMP_MARGIN_MS: u64 = 2_000;

/// What was written while a peer could not be told.
#[derive(Debug)]
pub struct Hints {
    /// Under a lock, because `since` belongs to them.
    slots: Mutex<Option<AtomicSlots>>,
    since: AtomicU64,
    is_delivering: AtomicBool,
    /// Writes noted and not delivered yet.
    pub writes: AtomicU64,
    /// How many of them were noted when their slots were taken.
    taken_writes: AtomicU64,
}

impl Default for Hints {
    fn default() -> Hints {
        Hints {
            slots: Mutex::new(None),
            since: AtomicU64::new(u64::MAX),
            is_delivering: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            taken_writes: AtomicU64::new(0),
        }
    }
}

impl Hints {
    /// Notes a write of a slot that was stamped at this time or later.
    pub fn note(&self, slot: Slot, stamped_ms: u64) {
        let mut slots = self.slots.lock();
        slots.get_or_insert_default().insert(slot);
        self.since.fetch_min(Hlc::at_ms(stamped_ms.saturating_sub(STAMP_MARGIN_MS)).0, Ordering::Relaxed);
        // Under the lock, as all of it: who takes slots takes the writes that belong to them.
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// True when nothing was missed, or all of it has been delivered.
    pub fn is_empty(&self) -> bool {
        self.slots.lock().is_none() && !self.is_delivering.load(Ordering::Acquire)
    }

    /// Takes what was missed: the slots, and the stamp from which on their entries count. The caller delivers it and
    /// says so with [`Hints::delivered`], or puts it back with [`Hints::restore`].
    pub fn take(&self) -> Option<(Vec<Slot>, Hlc)> {
        let mut slots = self.slots.lock();
        let hinted = slots.take()?;
        self.is_delivering.store(true, Ordering::Release);
        // Under the lock: whatever is noted from here on belongs to the next time, its stamp too.
        let since = Hlc(self.since.swap(u64::MAX, Ordering::Relaxed));
        self.taken_writes.store(self.writes.load(Ordering::Relaxed), Ordering::Relaxed);
        drop(slots);
        Some((hinted.iter().collect(), since))
    }

    /// What was taken has arrived; gives how many writes that were.
    pub fn delivered(&self) -> u64 {
        let writes = self.taken_writes.swap(0, Ordering::Relaxed);
        self.writes.fetch_sub(writes, Ordering::Relaxed);
        self.is_delivering.store(false, Ordering::Release);
        writes
    }

    /// Puts back what could not be delivered.
    pub fn restore(&self, slots: &[Slot], since: Hlc) {
        let mut noted = self.slots.lock();
        let hinted = noted.get_or_insert_default();
        slots.iter().for_each(|slot| hinted.insert(*slot));
        self.since.fetch_min(since.0, Ordering::Relaxed);
        drop(noted);
        self.is_delivering.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_hinted_until_just_those_are_delivered() {
        let hints = Hints::default();
        let (one, other) = (Slot::all().next().expect("a slot"), Slot::all().last().expect("a slot"));
        hints.note(one, 10_000);
        hints.note(one, 10_001);
        let (slots, since) = hints.take().expect("hinted");
        hints.restore(&slots, since);
        assert_eq!(hints.writes.load(Ordering::Relaxed), 2, "no write came by failing to deliver");
        let (again, since_again) = hints.take().expect("restored");
        assert_eq!((again, since_again), (slots, since));
        hints.note(other, 20_000);
        assert_eq!(hints.delivered(), 2);
        assert_eq!((hints.writes.load(Ordering::Relaxed), hints.is_empty()), (1, false));
        assert_eq!(hints.take().map(|(slots, _)| slots), Some(vec![other]));
        hints.delivered();
        assert_eq!((hints.writes.load(Ordering::Relaxed), hints.is_empty()), (0, true));
    }
}
