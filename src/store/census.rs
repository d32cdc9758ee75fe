//! How many keys there are, counted as they come and go rather than looked for.
//!
//! Each slot's table keeps a [`Census`] of its entries, by database, so the size of a node's keyspace is a walk over
//! the slots, not over the keys: whoever asks for INFO every few seconds stops nobody.
//!
//! Invariant: a table's census is the sum of [`One::of`] over its entries.

use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};

use crate::base::ids::Slot;
use crate::store::Store;
use crate::store::entry::Entry;

/// What a table holds. Its keys are told from what its index holds and what stands here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Entries that say that a key is gone.
    pub tombstones: u32,
    /// Keys with a deadline.
    pub expiring: u32,
    /// None while there is nothing of it: the table has to fit the lines that are fetched ahead of it.
    rare: Option<Box<Rare>>,
}

/// What most tables have nothing of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Rare {
    /// Keys of other databases than 0, for each that has some: at most as many as there are databases.
    others: BTreeMap<u8, DbCounts>,
    /// Bytes that tombstones take, without their places in the index.
    tombstone_bytes: usize,
}

/// Keys of one database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DbCounts {
    /// All of them, expired ones not yet removed included.
    pub keys: u64,
    /// Those with a deadline.
    pub expires: u64,
}

/// One entry, as it counts.
#[derive(Clone, Copy, Debug)]
pub struct One {
    db: u8,
    bytes: usize,
    is_tombstone: bool,
    is_expiring: bool,
}

impl One {
    /// What there is to count of an entry.
    #[inline]
    pub fn of(entry: &Entry) -> One {
        let is_tombstone = entry.is_tombstone();
        let is_expiring = !is_tombstone && entry.deadline_ms() != 0;
        One { db: entry.db(), bytes: entry.memory_bytes(), is_tombstone, is_expiring }
    }

    /// Its memory, in bytes.
    #[inline]
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// Whether it is counted among what is rare.
    fn is_rare(self) -> bool {
        self.is_tombstone || self.db != 0
    }

    fn counts(self) -> DbCounts {
        DbCounts { keys: 1, expires: u64::from(self.is_expiring) }
    }
}

impl Census {
    /// Notes whether a key of this database had a deadline, and whether it has one now.
    #[inline]
    pub fn redate(&mut self, db: u8, had: bool, has: bool) {
        if had != has {
            let key = One { db, bytes: 0, is_tombstone: false, is_expiring: had };
            *self += One { is_expiring: has, ..key };
            *self -= key;
        }
    }
}

impl Census {
    fn add_rare(&mut self, one: One) {
        let rare = self.rare.get_or_insert_default();
        match one.is_tombstone {
            true => rare.tombstone_bytes += one.bytes,
            false => *rare.others.entry(one.db).or_default() += one.counts(),
        }
    }

    fn take_off_rare(&mut self, one: One) {
        let Some(rare) = &mut self.rare else { return };
        if one.is_tombstone {
            rare.tombstone_bytes -= one.bytes;
        } else if let Some(of_db) = rare.others.get_mut(&one.db) {
            *of_db -= one.counts();
            rare.others.retain(|_, of_db| of_db.keys != 0);
        }
        if **rare == Rare::default() {
            self.rare = None;
        }
    }

    /// Its keys of other databases than 0, for each that has some.
    pub fn others(&self) -> impl Iterator<Item = (u8, DbCounts)> + '_ {
        self.rare.iter().flat_map(|rare| &rare.others).map(|(db, of_db)| (*db, *of_db))
    }

    /// Bytes that tombstones take, without their places in the index.
    pub fn tombstone_bytes(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.tombstone_bytes)
    }
}

impl AddAssign<One> for Census {
    #[inline]
    fn add_assign(&mut self, one: One) {
        self.tombstones += u32::from(one.is_tombstone);
        self.expiring += u32::from(one.is_expiring);
        if one.is_rare() {
            self.add_rare(one);
        }
    }
}

impl SubAssign<One> for Census {
    #[inline]
    fn sub_assign(&mut self, one: One) {
        self.tombstones -= u32::from(one.is_tombstone);
        self.expiring -= u32::from(one.is_expiring);
        if one.is_rare() {
            self.take_off_rare(one);
        }
    }
}

impl AddAssign for DbCounts {
    fn add_assign(&mut self, other: DbCounts) {
        self.keys += other.keys;
        self.expires += other.expires;
    }
}

impl SubAssign for DbCounts {
    fn sub_assign(&mut self, other: DbCounts) {
        self.keys -= other.keys;
        self.expires -= other.expires;
    }
}

impl Store {
    /// The keys in these slots, by database; databases without a key are left out.
    pub fn count_keys(&self, slots: impl Iterator<Item = Slot>) -> BTreeMap<u8, DbCounts> {
        let mut counts = BTreeMap::<u8, DbCounts>::new();
        for slot in slots {
            self.table(slot).counts().for_each(|(db, of_db)| *counts.entry(db).or_default() += of_db);
        }
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

    /// What a slot's census should be, and all keys by database.
    fn counted_one_by_one(store: &Store) -> (BTreeMap<u16, Census>, BTreeMap<u8, DbCounts>) {
        let (mut censuses, mut counts) = (BTreeMap::<u16, Census>::new(), BTreeMap::<u8, DbCounts>::new());
        for slot in Slot::all() {
            for entry in store.table(slot).iter() {
                *censuses.entry(slot.number()).or_default() += One::of(entry);
                if !entry.is_tombstone() {
                    let of_db = counts.entry(entry.db()).or_default();
                    of_db.keys += 1;
                    of_db.expires += u64::from(entry.deadline_ms() != 0);
                }
            }
        }
        (censuses, counts)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn counts_follow_every_change(replicated: bool, steps in prop::collection::vec((0u8..9, 0u8..12, 0u8..3), 0..120)) {
            let store = Store::new(ActorId { node: 1, generation: 1 });
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
            let (censuses, counts) = counted_one_by_one(&store);
            for slot in Slot::all() {
                let (counted, none) = (censuses.get(&slot.number()), Census::default());
                prop_assert_eq!(&store.table(slot).census, counted.unwrap_or(&none));
            }
            let tombstone_bytes = Slot::all().map(|slot| store.table(slot).tombstone_bytes()).sum::<usize>();
            prop_assert_eq!(store.tombstone_bytes(), tombstone_bytes as u64);
            prop_assert_eq!(store.has_deadlines(), censuses.values().any(|census| census.expiring != 0));
            prop_assert_eq!(store.count_keys(Slot::all()), counts);
        }
    }
}
