//! What a peer has promised to this node: slots, and until which stamp this node may write to them strictly.
//!
//! Belongs to the present connections of the peer's lanes: when a lane is opened anew, what was promised on it is
//! forgotten and asked for again. A promise is noted under the lock of its slot's table. One question a lane is on its
//! way at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::base::slots::AtomicSlots;
use crate::peer::lane::{lane_index, slots_of_lane};

/// A question for promises.
#[derive(Clone, Debug, Default)]
pub struct SoughtPromises {
    /// The stamp up to which it asks to be allowed to write.
    pub until: Hlc,
    /// Who may vote as it sees it (`View::electorate_digest`).
    pub electorate_digest: u64,
    /// The slots that it asks for; none when only the stamp is to move.
    pub slots: Vec<Slot>,
}

#[derive(Debug)]
struct LaneState {
    question: Option<(u64, SoughtPromises)>,
    /// Nothing is held on this lane, and the peer is to know that.
    is_fresh: bool,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Granted {
    slots: AtomicSlots,
    lanes: Vec<(Mutex<LaneState>, AtomicU64)>,
}

impl Granted {
    /// Nothing is promised on any of so many lanes.
    pub fn new(lanes: usize) -> Granted {
        let lane = || (Mutex::new(LaneState { question: None, is_fresh: true }), AtomicU64::new(0));
        Granted { slots: AtomicSlots::default(), lanes: (0..lanes.max(1)).map(|_| lane()).collect() }
    }

    /// True when the peer has promised the slot.
    #[inline]
    pub fn has(&self, slot: Slot) -> bool {
        self.slots.contains(slot)
    }

    /// The latest stamp of strict writes to a slot that the peer allows; `None` when the slot is not promised.
    pub fn until(&self, slot: Slot) -> Option<Hlc> {
        let (_, until) = self.lanes.get(lane_index(slot, self.lanes.len()))?;
        self.has(slot).then(|| Hlc(until.load(Ordering::Acquire)))
    }

    /// Notes the promise of a slot. Call it under the slot's lock.
    pub fn note(&self, slot: Slot) {
        self.slots.insert(slot);
    }

    /// The peer says that it has not promised this slot.
    pub fn forget(&self, slot: Slot) {
        self.slots.remove(slot);
    }

    /// Forgets everything on a lane: its connection is a new one, or the peer has promised some of it elsewhere.
    pub fn reset(&self, lane: usize) {
        let Some((state, _)) = self.lanes.get(lane) else { return };
        let mut state = state.lock();
        slots_of_lane(lane, self.lanes.len()).for_each(|slot| self.forget(slot));
        *state = LaneState { question: None, is_fresh: true };
    }

    /// Puts a question on a lane, unless one is on its way. `send` is told whether to begin afresh, and gives the
    /// frame's number.
    pub fn ask(&self, lane: usize, question: SoughtPromises, send: impl FnOnce(&SoughtPromises, bool) -> Option<u64>) {
        let Some((state, _)) = self.lanes.get(lane) else { return };
        let mut state = state.lock();
        if state.question.is_none() {
            state.question = send(&question, state.is_fresh).map(|number| (number, question));
        }
    }

    /// True when a question is on its way.
    #[cfg(test)]
    pub fn is_asking(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|(state, _)| state.lock().question.is_some())
    }

    /// The peer has granted question `number`; its slots are given for the caller to note.
    pub fn answered(&self, lane: usize, number: u64) -> Option<SoughtPromises> {
        let (state, until) = self.lanes.get(lane)?;
        let mut state = state.lock();
        let (_, question) = state.question.take_if(|(asked, _)| *asked == number)?;
        if std::mem::take(&mut state.is_fresh) {
            // The peer may have lost its memory of what it let before.
            until.store(question.until.0, Ordering::Release);
        } else {
            until.fetch_max(question.until.0, Ordering::AcqRel);
        }
        Some(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).expect("a slot")
    }

    #[test]
    fn what_is_granted_belongs_to_a_lane_and_its_connection() {
        let granted = Granted::new(2);
        let mut fresh = Vec::new();
        let question = |slots| SoughtPromises { until: Hlc(50), electorate_digest: 1, slots };
        granted.ask(1, question(vec![slot(3)]), |_, is_fresh| {
            fresh.push(is_fresh);
            Some(7)
        });
        granted.ask(1, question(vec![]), |_, _| unreachable!("one question at a time"));
        assert!(granted.answered(1, 6).is_none() && granted.answered(0, 7).is_none());
        let slots = granted.answered(1, 7).expect("asked").slots;
        assert_eq!((slots, granted.until(slot(3))), (vec![slot(3)], None));
        granted.note(slot(3));
        granted.note(slot(2));
        assert_eq!((granted.until(slot(3)), granted.until(slot(2))), (Some(Hlc(50)), Some(Hlc(0))));
        granted.ask(1, question(vec![]), |_, is_fresh| {
            fresh.push(is_fresh);
            Some(8)
        });
        assert!(granted.is_asking(1) && !granted.is_asking(0));
        granted.reset(1);
        assert!(!granted.has(slot(3)) && granted.has(slot(2)) && !granted.is_asking(1));
        assert_eq!(fresh, [true, false]);
        assert!(granted.answered(1, 8).is_none());
    }
}
