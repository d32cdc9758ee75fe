//! What a slot holds, as numbers that two replicas can compare: a tree of two levels over (key, version).
//!
//! Each live key is a [`Mark`]: a fingerprint of its name and one of its version, made with a seed that all nodes of a
//! cluster share and of actors' long forms, so equal contents give equal marks everywhere. The digest of a slot, and of
//! each of its [`BUCKETS`], is the exclusive or of its marks, mixed: order does not matter.
//!
//! A digest counts only live keys that do not expire before a moment which both sides agree on
//! ([`Measure::horizon_ms`]): replicas sweep expired keys and collect tombstones at times of their own, and none of
//! that is a difference. A tombstone here that is a live key there still shows, because the live side counts it.
//!
//! Writing costs one addition ([`SlotTable`] counts its changes): a digest is computed when it is asked for, a bounded
//! piece of the slot under each lock, and kept until the slot changes. A slot that changes meanwhile gives a digest of
//! no single moment; comparing it costs a look at its keys, not an error.

use std::collections::HashMap;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::ids::{ActorId, Slot};
use crate::store::Store;
use crate::store::entry::Entry;
use crate::store::fingerprint::{fingerprint, version_fingerprint};
use crate::store::parts::earlier;
use crate::store::scope::is_clear;
use crate::store::slot::SlotTable;

/// Parts of a slot that have a digest of their own, by the high bits of the key's fingerprint.
pub const BUCKETS: usize = 64;

/// Entries read under one lock.
const PIECE_ENTRIES: usize = 256;
/// Digests kept; beyond it they are all computed anew.
const KEPT_MAX: usize = crate::base::ids::SLOT_COUNT;

/// What both sides of a comparison have to agree on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Measure {
    /// Keys the fingerprints: the same on all nodes of a cluster.
    pub seed: u64,
    /// Keys that expire at or before this are left out, in milliseconds since 1970.
    pub horizon_ms: u64,
}

/// One key, as replicas compare it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Fingerprint of database and key.
    pub key: u64,
    /// Fingerprint of the version.
    pub version: u64,
    /// It is a tombstone, or expires before the horizon: that one side has it and the other does not is no difference.
    pub fades: bool,
    /// It is a clear of the slot ([`clear`](crate::store::clear)). It fades, but where two replicas differ in anything
    /// else it may be the cause, and both should have it.
    pub clears: bool,
}

impl Mark {
    /// The mark of an entry; `ids` are the actors' long forms.
    pub fn of(entry: &Entry, measure: Measure, ids: &[ActorId]) -> Mark {
        let deadline_ms = entry.deadline_ms();
        let expires = deadline_ms != 0 && deadline_ms <= measure.horizon_ms;
        Mark {
            key: fingerprint(entry.db(), entry.key(), measure.seed),
            version: version_fingerprint(&entry.version(), measure.seed, ids),
            fades: entry.is_tombstone() || expires,
            clears: is_clear(entry.db()),
        }
    }

    /// Which of the slot's buckets the key is in.
    pub fn bucket(&self) -> usize {
        (self.key >> 58) as usize
    }

    /// What it adds to a digest.
    pub fn mixed(&self, seed: u64) -> u64 {
        let mut bytes = [0; 16];
        let (key, version) = bytes.split_at_mut(8);
        key.copy_from_slice(&self.key.to_le_bytes());
        version.copy_from_slice(&self.version.to_le_bytes());
        xxh3_64_with_seed(&bytes, seed)
    }
}

/// Digests that were computed and still hold.
#[derive(Debug, Default)]
pub(super) struct Digests(Mutex<HashMap<Slot, Kept>>);

#[derive(Clone, Copy, Debug)]
struct Kept {
    measure: Measure,
    /// The slot's count of changes when it was computed.
    changes: u32,
    /// Earliest deadline among what it counts; 0 for none.
    deadline_min_ms: u64,
    digest: u64,
}

impl Kept {
    fn holds(&self, measure: Measure, changes: u32) -> bool {
        let same_keys = measure.horizon_ms >= self.measure.horizon_ms
            && (self.deadline_min_ms == 0 || self.deadline_min_ms > measure.horizon_ms);
        self.changes == changes && self.measure.seed == measure.seed && same_keys
    }
}

impl SlotTable {
    /// Gives up everything, and the memory for it. Whoever has been here before notices: what was computed is stale,
    /// walks start over, and all that there was has left without a trace.
    pub fn reset(&mut self) {
        if let Some(stamp) = self.iter().map(|entry| entry.dot().hlc).max() {
            self.note_forgotten(stamp);
        }
        let (changes, layout) = (self.changes.wrapping_add(1), self.layout.wrapping_add(1));
        let forgotten_at = self.forgotten_at;
        *self = SlotTable { changes, layout, forgotten_at, ..SlotTable::default() };
    }
}

impl Store {
    /// The digest of all that `slot` holds by this measure; 0 for nothing.
    pub fn slot_digest(&self, slot: Slot, measure: Measure) -> u64 {
        let (changes, is_empty) = {
            let table = self.table(slot);
            (table.changes, table.is_empty())
        };
        if is_empty {
            return 0;
        }
        let kept = self.digests.0.lock().get(&slot).copied();
        if let Some(kept) = kept.filter(|kept| kept.holds(measure, changes)) {
            return kept.digest;
        }
        let (mut digest, mut deadline_min_ms) = (0, 0);
        let (before, after) = self.each_mark(slot, measure, |mark, entry| {
            if !mark.fades {
                digest ^= mark.mixed(measure.seed);
                deadline_min_ms = earlier(deadline_min_ms, entry.deadline_ms());
            }
        });
        if before == after {
            let mut digests = self.digests.0.lock();
            if digests.len() >= KEPT_MAX && !digests.contains_key(&slot) {
                digests.clear();
            }
            digests.insert(slot, Kept { measure, changes: before, deadline_min_ms, digest });
        }
        digest
    }

    /// The digest of each bucket of `slot`.
    pub fn bucket_digests(&self, slot: Slot, measure: Measure) -> [u64; BUCKETS] {
        let mut digests = [0; BUCKETS];
        self.each_mark(slot, measure, |mark, _| {
            if let Some(digest) = digests.get_mut(mark.bucket()).filter(|_| !mark.fades) {
                *digest ^= mark.mixed(measure.seed);
            }
        });
        digests
    }

    /// Every key in the buckets of `slot` that `buckets` names, a bit each; what fades too, and clears in any bucket.
    pub fn slot_marks(&self, slot: Slot, measure: Measure, buckets: u64) -> Vec<Mark> {
        let mut marks = Vec::new();
        self.each_mark(slot, measure, |mark, _| {
            if buckets >> mark.bucket() & 1 == 1 || mark.clears {
                marks.push(mark);
            }
        });
        marks
    }

    /// Visits every entry of a slot, piece by piece; gives the slot's counts of changes before and after.
    fn each_mark(&self, slot: Slot, measure: Measure, mut visit: impl FnMut(Mark, &Entry)) -> (u32, u32) {
        let ids = self.actors.ids();
        let (mut cursor, mut before) = (0, None);
        loop {
            let table = self.table(slot);
            before.get_or_insert(table.changes);
            cursor = table.scan(cursor, PIECE_ENTRIES, |entry| visit(Mark::of(entry, measure, &ids), entry));
            if cursor == 0 {
                return (before.unwrap_or_default(), table.changes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::ids::slot_of;
    use crate::store::Effects;
    use crate::store::expiry::{Sweep, SweepRules};
    use crate::store::mutation::Mutation;
    use crate::store::name::Name;
    use crate::store::state::State;

    const MEASURE: Measure = Measure { seed: 7, horizon_ms: 5_000 };

    fn store(node: u64, others: &[u64]) -> Store {
        let store = Store::new(ActorId { node, generation: 1 });
        for other in others {
            store.actors.intern(ActorId { node: *other, generation: 1 }).expect("room");
        }
        store.set_replicated(true);
        store
    }

    fn write(store: &Store, key: &[u8], mutation: Mutation<'_>) {
        let mut effects = Effects::default();
        store.lock(slot_of(key), 0, 1_000, &mut effects).write(key, mutation);
    }

    fn copy(from: &Store, to: &Store, key: &[u8]) {
        let name = Name::of(0, key);
        let mut bytes = Vec::new();
        let table = from.table(slot_of(key));
        let Some(entry) = table.find(name) else { return };
        State::of(entry).encode(&mut bytes, &from.actors);
        drop(table);
        let state = State::decode(&mut crate::base::wire::Reader::new(&bytes), &to.actors).expect("own bytes");
        to.table(slot_of(key)).merge(name, state, &to.rules(0), &to.actors);
    }

    #[test]
    fn equal_contents_give_equal_digests_whoever_holds_them_and_in_whatever_order() {
        let (one, two) = (store(1, &[2, 3]), store(2, &[3, 1]));
        let keys: Vec<Vec<u8>> = (0..1_000).map(|n| format!("{{t}}{n}").into_bytes()).collect();
        let slot = slot_of(b"{t}");
        for key in &keys {
            write(&one, key, Mutation::Assign { value: b"v", deadline_ms: 0 });
        }
        assert_ne!(one.slot_digest(slot, MEASURE), two.slot_digest(slot, MEASURE));
        keys.iter().rev().for_each(|key| copy(&one, &two, key));
        // The same keys written over by the other node name both in their versions.
        for key in keys.iter().take(10) {
            write(&two, key, Mutation::Assign { value: b"w", deadline_ms: 0 });
        }
        assert_ne!(one.slot_digest(slot, MEASURE), two.slot_digest(slot, MEASURE));
        let differing = (0..BUCKETS)
            .filter(|at| one.bucket_digests(slot, MEASURE)[*at] != two.bucket_digests(slot, MEASURE)[*at])
            .count();
        assert!((1..=10).contains(&differing), "{differing}");
        keys.iter().for_each(|key| copy(&two, &one, key));
        assert_eq!(one.slot_digest(slot, MEASURE), two.slot_digest(slot, MEASURE));
        assert_eq!(one.bucket_digests(slot, MEASURE), two.bucket_digests(slot, MEASURE));
        let folded = one.bucket_digests(slot, MEASURE).into_iter().fold(0, |all, one| all ^ one);
        assert_eq!(folded, one.slot_digest(slot, MEASURE));
        let other_seed = Measure { seed: 8, ..MEASURE };
        assert_ne!(one.slot_digest(slot, other_seed), one.slot_digest(slot, MEASURE));
    }

    #[test]
    fn what_expires_or_was_deleted_does_not_count_but_a_missed_deletion_does() {
        let (one, two) = (store(1, &[2]), store(2, &[1]));
        let slot = slot_of(b"{t}");
        for (key, deadline_ms) in [(&b"{t}stays"[..], 0), (b"{t}goes", 4_000), (b"{t}later", 9_000)] {
            write(&one, key, Mutation::Assign { value: b"v", deadline_ms });
            copy(&one, &two, key);
        }
        let before = one.slot_digest(slot, MEASURE);
        two.table(slot).sweep(Sweep::default(), SweepRules { before_ms: 4_500, keep_tombstones: false }, |_| {});
        assert_eq!(two.slot_digest(slot, MEASURE), before);
        // Kept or not, a digest ends with the first deadline that it counts.
        let late = Measure { horizon_ms: 10_000, ..MEASURE };
        assert_ne!(one.slot_digest(slot, late), before);
        assert_eq!(one.slot_digest(slot, late), two.slot_digest(slot, late));
        write(&one, b"{t}stays", Mutation::Delete);
        assert_ne!(one.slot_digest(slot, MEASURE), two.slot_digest(slot, MEASURE));
        copy(&one, &two, b"{t}stays");
        assert_eq!(one.slot_digest(slot, MEASURE), two.slot_digest(slot, MEASURE));
        let marks = one.slot_marks(slot, MEASURE, u64::MAX);
        assert_eq!((marks.len(), marks.iter().filter(|mark| mark.fades).count()), (3, 2));
    }

    #[test]
    fn every_change_of_a_version_is_noticed() {
        let one = store(1, &[2]);
        let slot = slot_of(b"{t}");
        let mut seen = vec![one.slot_digest(slot, MEASURE)];
        let steps = [
            Mutation::Assign { value: b"1", deadline_ms: 0 },
            Mutation::Assign { value: b"2", deadline_ms: 0 },
            Mutation::Patch { offset: 0, bytes: b"3" },
            Mutation::Add { by: 1 },
            Mutation::Expire { deadline_ms: 90_000 },
        ];
        for step in steps {
            write(&one, b"{t}", step);
            let digest = one.slot_digest(slot, MEASURE);
            assert!(!seen.contains(&digest), "{step:?}");
            seen.push(digest);
        }
        one.table(slot).restamp(Name::of(0, b"{t}"));
        assert!(!seen.contains(&one.slot_digest(slot, MEASURE)));
        one.table(slot).forget(Name::of(0, b"{t}"));
        assert_eq!(one.slot_digest(slot, MEASURE), 0);
    }
    #[test]
    fn a_slot_given_up_is_noticed_by_walks_and_watches() {
        let one = store(1, &[2]);
        let slot = slot_of(b"{t}");
        let fill = || {
            for n in 0..100 {
                write(&one, format!("{{t}}{n}").as_bytes(), Mutation::Assign { value: b"v", deadline_ms: 0 });
            }
        };
        fill();
        let cursor = one.table(slot).scan(0, 50, |_| {});
        let stamp = one.table(slot).iter().map(|entry| entry.dot().hlc).max().expect("an entry");
        one.table(slot).reset();
        let since = Hlc(stamp.0 - 1);
        assert!(one.table(slot).is_empty() && one.table(slot).has_forgotten_since(since));
        one.table(slot).reset();
        assert!(one.table(slot).has_forgotten_since(since));
        fill();
        let mut visits = 0;
        one.table(slot).scan(cursor, 1_000, |_| visits += 1);
        assert_eq!(visits, 100);
    }
}
