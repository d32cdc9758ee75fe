//! How often a share of SCAN has looked up keys for their type, slot by slot.
//!
//! What a share has found behind the place where the step of all nodes ends is dropped, and found again by the next
//! step. So it does not count its lookups itself where shares are put together: it tells them, and who has asked counts
//! those of the slots that it keeps.

use crate::base::metrics::{Count, Worker};
use crate::base::wire::{Reader, WireError, put_u16, put_varint};

/// Lookups in one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlotLookups {
    /// The slot's number.
    pub slot: u16,
    /// Lookups that found a key.
    pub hits: u64,
    /// Lookups of keys whose time is over.
    pub misses: u64,
}

impl SlotLookups {
    /// Notes one more.
    pub fn note(&mut self, is_hit: bool) {
        *if is_hit { &mut self.hits } else { &mut self.misses } += 1;
    }

    /// Counts them as those of a command.
    pub fn count(&self, metrics: &Worker) {
        metrics.count(Count::KeyspaceHits, self.hits);
        metrics.count(Count::KeyspaceMisses, self.misses);
    }

    /// Appends them as they travel.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_u16(out, self.slot);
        put_varint(out, self.hits);
        put_varint(out, self.misses);
    }

    /// Reads what [`put`](SlotLookups::put) has written of any number of slots.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<SlotLookups>, WireError> {
        let (mut reader, mut all) = (Reader::new(bytes), Vec::new());
        while !reader.is_empty() {
            all.push(SlotLookups { slot: reader.u16()?, hits: reader.varint()?, misses: reader.varint()? });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_arrive_as_they_were_told() {
        let mut one = SlotLookups { slot: 16_383, ..SlotLookups::default() };
        (0..300).for_each(|number| one.note(number % 3 != 0));
        let (other, mut told) = (SlotLookups { slot: 7, hits: 0, misses: 1 }, Vec::new());
        [one, other].iter().for_each(|it| it.put(&mut told));
        assert_eq!((one.hits, one.misses), (200, 100));
        assert_eq!(SlotLookups::read_all(&told), Ok(vec![one, other]));
        assert_eq!(SlotLookups::read_all(&[]), Ok(vec![]));
        assert!(SlotLookups::read_all(&told[..told.len() - 1]).is_err());
    }
}
