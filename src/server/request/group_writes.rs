//! What a group of requests that run as one has written so far, and what tells that enough nodes hold it: whoever reads
//! a key behind that finds here which of the writes it has to wait for.
//!
//! A write is found by its stamp. The group runs its requests one after the other and alone on their slots, so what it
//! stamps on a slot lies behind all that was stamped there before and in the order of its requests.
//!
//! Writes in a row that wait for the same are one part, so that where all share a wait there is hardly anything to
//! keep. Strict writes share none, since each may be declined.

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::replication::wait::WaitPlaces;

/// See the head of the file.
#[derive(Debug)]
pub struct GroupWrites {
    since: Hlc,
    /// By `until`.
    parts: Vec<Part>,
}

/// Writes to one slot.
#[derive(Debug)]
struct Part {
    slot: Slot,
    /// A stamp from behind the last of them, and from before what was written next.
    until: Hlc,
    waits: WaitPlaces,
}

impl GroupWrites {
    /// Of a group that has written nothing yet; `since` is a stamp from before whatever it writes, and behind all that
    /// was written to its slots before.
    pub fn since(since: Hlc) -> GroupWrites {
        GroupWrites { since, parts: Vec::new() }
    }

    /// Notes what a request has just written to a slot, with the node's latest stamp and the places of what it waits
    /// for.
    pub fn note(&mut self, slot: Slot, until: Hlc, waits: &WaitPlaces) {
        match self.parts.last_mut().filter(|last| last.slot == slot && last.waits == *waits) {
            Some(last) => last.until = until,
            None => self.parts.push(Part { slot, until, waits: waits.clone() }),
        }
    }

    /// The places of what a write of this node waits for that bears this stamp; `None` when the group has not made it,
    /// or it waits for nobody.
    pub fn waits_of(&self, slot: Slot, stamp: Hlc) -> Option<&WaitPlaces> {
        if stamp <= self.since {
            return None;
        }
        let first = self.parts.partition_point(|part| part.until < stamp);
        let found = self.parts.iter().skip(first).find(|part| part.slot == slot);
        found.map(|part| &part.waits).filter(|waits| !waits.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::slot_of;

    #[test]
    fn a_write_is_found_by_its_stamp() {
        let (a, b) = (slot_of(b"a"), slot_of(b"b"));
        let places = |places: &[usize]| WaitPlaces::from_slice(places);
        let mut written = GroupWrites::since(Hlc(10));
        written.note(a, Hlc(12), &places(&[0]));
        // One request on two slots.
        written.note(a, Hlc(15), &places(&[1, 2]));
        written.note(b, Hlc(15), &places(&[3]));
        written.note(b, Hlc(20), &places(&[]));
        let found = |slot, stamp| written.waits_of(slot, Hlc(stamp)).map(|waits| waits.to_vec());
        assert_eq!([9, 10].map(|stamp| found(a, stamp)), [None, None], "written before the group began");
        assert_eq!([11, 12].map(|stamp| found(a, stamp)), [Some(vec![0]), Some(vec![0])]);
        assert_eq!((found(a, 13), found(b, 14)), (Some(vec![1, 2]), Some(vec![3])));
        assert_eq!((found(b, 17), found(b, 21)), (None, None), "waits for nobody; not noted yet");
    }

    #[test]
    fn writes_in_a_row_that_share_a_wait_are_kept_as_one() {
        let (a, mut written) = (slot_of(b"a"), GroupWrites::since(Hlc(0)));
        (1..=1_000).for_each(|stamp| written.note(a, Hlc(stamp), &WaitPlaces::from_slice(&[0])));
        assert_eq!(written.parts.len(), 1);
        assert!(written.waits_of(a, Hlc(1)).is_some() && written.waits_of(a, Hlc(1_000)).is_some());
        written.note(a, Hlc(1_001), &WaitPlaces::from_slice(&[1]));
        assert_eq!(written.parts.len(), 2);
    }
}
