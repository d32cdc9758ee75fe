//! A walk over a slot's entries in steps, while they come and go: SCAN, comparisons of replicas, transfers.
//!
//! A cursor is the table's layout number and the place where the walk goes on; 0 is the start and the end. A step
//! that finds another layout starts over, since entries may have moved, or have never been there: a client may bring
//! another node's cursor, and keys would be missed if it were taken for our own. So what is there from the first step
//! to the last is visited at least once, but for one chance in 2^24 where a slot passes to another node between two
//! steps.
//!
//! A cursor takes [`CURSOR_BITS`], few enough for a client's cursor to be told beside it which slot is meant, and still
//! to be a whole number in JavaScript, which knows those below 2^53. The layout number takes most of them: where a step
//! of a large table can end at every fourth place alone, it costs nothing but a few keys more in that step.

use crate::base::ids::ActorId;
use crate::store::entry::Entry;
use crate::store::slot::SlotTable;

/// Bits of a cursor.
pub const CURSOR_BITS: u32 = PLACE_BITS + LAYOUT_BITS;
/// Those that say the place.
const PLACE_BITS: u32 = 15;
/// Those of the layout number.
const LAYOUT_BITS: u32 = 24;
const LAYOUT_MASK: u32 = (1 << LAYOUT_BITS) - 1;

/// The layout number of the empty tables of this life of a node: far from those of any other.
pub(super) fn first_layout(actor: ActorId) -> u32 {
    let mixed = (actor.node ^ actor.generation.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> u32::BITS) as u32
}

impl SlotTable {
    /// Visits about `count` entries from `cursor` on and gives the next cursor, 0 at the end.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, visit: impl FnMut(&'a Entry)) -> u64 {
        self.scan_in(PLACE_BITS, cursor, count, visit)
    }

    /// The same, with the place in so many bits. Where there are more places than these tell apart, a step ends only at
    /// every second of them, or fourth, and so on.
    fn scan_in<'a>(&'a self, bits: u32, cursor: u64, count: usize, mut visit: impl FnMut(&'a Entry)) -> u64 {
        let coarse = (usize::BITS - self.index.places().leading_zeros()).saturating_sub(bits);
        let told = (cursor & ((1 << bits) - 1)) as usize;
        let layout = u64::from(self.layout & LAYOUT_MASK);
        let from = if cursor >> bits == layout { told << coarse } else { 0 };
        let mut seen = 0;
        for place in from..self.index.places() {
            if seen >= count && place.is_multiple_of(1 << coarse) {
                return layout << bits | (place >> coarse) as u64;
            }
            self.index.prefetch_ahead(place, from);
            if let Some(entry) = self.index.get(place) {
                visit(entry);
                seen += 1;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::store::mutation::Mutation;
    use crate::store::{Effects, Store};

    const KEYS: usize = 300;

    fn store(generation: u64) -> Store {
        let store = Store::new(ActorId { node: 1, generation });
        let mut effects = Effects::default();
        let mut keys = store.lock_many(&[slot_of(b"{k}")], 0, 1, &mut effects);
        for n in 0..KEYS {
            keys.write(format!("{{k}}{n}").as_bytes(), Mutation::Assign { value: b"v", deadline_ms: 0 });
        }
        drop(keys);
        store
    }

    /// Walks in steps of `count`: how often an entry was visited, how many there are, and the largest cursor.
    fn walk(table: &SlotTable, bits: u32, count: usize) -> (usize, usize, u64) {
        let (mut cursor, mut visits, mut seen, mut largest) = (0, 0, BTreeSet::new(), 0);
        loop {
            cursor = table.scan_in(bits, cursor, count, |entry| {
                visits += 1;
                seen.insert(entry.key().to_vec());
            });
            largest = cursor.max(largest);
            if cursor == 0 {
                return (visits, seen.len(), largest);
            }
        }
    }

    #[test]
    fn each_entry_is_visited_once_in_however_few_bits_the_place_is_told() {
        let store = store(1);
        let table = store.table(slot_of(b"{k}"));
        for (bits, count) in [(PLACE_BITS, 1), (PLACE_BITS, 7), (5, 1), (5, 10), (3, 2), (1, 1)] {
            let (visits, seen, largest) = walk(&table, bits, count);
            assert_eq!((visits, seen), (KEYS, KEYS), "{bits} bits");
            assert!(largest >> (bits + LAYOUT_BITS) == 0, "{bits} bits: {largest}");
        }
    }

    #[test]
    fn a_cursor_of_another_layout_starts_over() {
        let store = store(1);
        let table = store.table(slot_of(b"{k}"));
        let cursor = table.scan(0, 10, |_| ());
        let rest = |cursor| {
            let mut visits = 0;
            // More than there are: the walk ends at the end, not behind the last of them.
            assert_eq!(table.scan(cursor, KEYS + 1, |_| visits += 1), 0);
            visits
        };
        assert_eq!((rest(cursor), rest(cursor ^ 1 << PLACE_BITS)), (KEYS - 10, KEYS));
    }

    #[test]
    fn a_cursor_of_another_life_or_node_starts_over() {
        let cursor = store(1).table(slot_of(b"{k}")).scan(0, 10, |_| ());
        // More lives than the 256 that eight bits tell apart.
        for generation in 2..400 {
            let (store, mut visits) = (store(generation), 0);
            store.table(slot_of(b"{k}")).scan(cursor, KEYS + 1, |_| visits += 1);
            assert_eq!(visits, KEYS, "{generation}");
        }
        let distinct: BTreeSet<u32> = (0..400).map(|node| first_layout(ActorId { node, generation: 1 })).collect();
        assert_eq!(distinct.len(), 400);
    }
}
