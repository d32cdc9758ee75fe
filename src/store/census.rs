//! How many keys there are, counted as they come and go rather than looked for.
//!
//! Each slot's table keeps a [`Census`] of its entries, so the size of a node's keyspace is a walk over the slots, not
//! over the keys. Only a slot that holds keys of several databases is counted entry by entry; that is rare.
//!
//! Invariant: a table's census is the sum of [`Census::of`] over its entries.

use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};

use crate::base::ids::Slot;
use crate::store::Store;
use crate::store::entry::Entry;
use crate::store::slot::SlotTable;

/// What a table holds, its plain keys apart: those are the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Entries that say that a key is gone.
    pub tombstones: u32,
    /// Keys with a deadline.
    pub expiring: u32,
    /// Keys of other databases than 0.
    pub other_dbs: u32,
}

impl Census {
    /// The census of one entry.
    #[inline]
    pub fn of(entry: &Entry) -> Census {
        let live = !entry.is_tombstone();
        Census {
            tombstones: u32::from(!live),
            expiring: u32::from(live && entry.deadline_ms() != 0),
            other_dbs: u32::from(live && entry.db() != 0),
        }
    }
}

impl AddAssign for Census {
    #[inline]
    fn add_assign(&mut self, other: Census) {
        self.tombstones += other.tombstones;
        self.expiring += other.expiring;
        self.other_dbs += other.other_dbs;
    }
}

impl SubAssign for Census {
    #[inline]
    fn sub_assign(&mut self, other: Census) {
        self.tombstones -= other.tombstones;
        self.expiring -= other.expiring;
        self.other_dbs -= other.other_dbs;
    }
}

/// Keys of one database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DbCounts {
    /// All of them, expired ones not yet removed included.
    pub keys: u64,
    /// Those with a deadline.
    pub expires: u64,
}

impl SlotTable {
    /// Adds the slot's keys, by database.
    pub fn count_into(&self, counts: &mut BTreeMap<u8, DbCounts>) {
        if self.is_empty() {
            return;
        }
        if self.census.other_dbs == 0 {
            let of_db = counts.entry(0).or_default();
            of_db.keys += self.len() as u64;
            of_db.expires += u64::from(self.census.expiring);
            return;
        }
        for entry in self.iter().filter(|entry| !entry.is_tombstone()) {
            let of_db = counts.entry(entry.db()).or_default();
            of_db.keys += 1;
            of_db.expires += u64::from(entry.deadline_ms() != 0);
        }
    }
}

impl Store {
    /// The keys in these slots, by database; databases without a key are left out.
    pub fn count_keys(&self, slots: impl Iterator<Item = Slot>) -> BTreeMap<u8, DbCounts> {
        let mut counts = BTreeMap::new();
        slots.for_each(|slot| self.table(slot).count_into(&mut counts));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::store::Effects;
    use crate::store::expiry::{Sweep, SweepRules};
    use crate::store::mutation::Mutation;
    use proptest::prelude::*;

    fn counted_one_by_one(store: &Store) -> (Census, BTreeMap<u8, DbCounts>) {
        let (mut census, mut counts) = (Census::default(), BTreeMap::<u8, DbCounts>::new());
        for slot in Slot::all() {
            for entry in store.table(slot).iter() {
                census += Census::of(entry);
                if !entry.is_tombstone() {
                    let of_db = counts.entry(entry.db()).or_default();
                    of_db.keys += 1;
                    of_db.expires += u64::from(entry.deadline_ms() != 0);
                }
            }
        }
        (census, counts)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn counts_follow_every_change(replicated: bool, steps in prop::collection::vec((0u8..9, 0u8..12, 0u8..3), 0..120)) {
            let store = Store::new(ActorId { node: 1, boot: 1 });
            store.set_replicated(replicated);
            let mut effects = Effects::default();
            for (at, (what, key, db)) in steps.into_iter().enumerate() {
                let (now_ms, key) = (1_000 + at as u64, [b'k', key % 6]);
                let deadline_ms = if key[1] < 3 { now_ms + 5 } else { 0 };
                let mut keys = store.lock(slot_of(&key), db, now_ms, &mut effects);
                match what {
                    0 => keys.write(&key, Mutation::Assign { value: b"v", deadline_ms }),
                    1 => keys.write(&key, Mutation::Assign { value: b"a longer value than before", deadline_ms: 0 }),
                    2 if keys.exists(&key) => keys.write(&key, Mutation::Expire { deadline_ms: now_ms + 3 }),
                    3 if keys.exists(&key) => keys.write(&key, Mutation::Expire { deadline_ms: 0 }),
                    4 | 5 => drop(keys.delete(&key)),
                    6 => {
                        keys.delete(&key);
                        keys.write(&key, Mutation::AddMember { member: b"m" });
                    }
                    7 => {
                        drop(keys);
                        let rules = SweepRules { before_ms: now_ms, keep_tombstones: replicated };
                        store.table(slot_of(&key)).sweep(Sweep::default(), rules, |_| {});
                    }
                    _ => {}
                }
            }
            let (census, counts) = counted_one_by_one(&store);
            let mut kept = Census::default();
            Slot::all().for_each(|slot| kept += store.table(slot).census);
            prop_assert_eq!(kept, census);
            prop_assert_eq!(store.has_deadlines(), census.expiring != 0);
            prop_assert_eq!(store.count_keys(Slot::all()), counts);
        }
    }
}
