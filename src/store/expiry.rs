//! How expired keys leave: found without being touched, a bounded piece of a slot at a time.
//!
//! Each slot knows the earliest deadline it may hold. The sweeper (a background task of the node) asks the slots whose
//! earliest deadline has passed, in turn, and walks their places in pieces of [`SWEEP_PLACES_MAX`], so that no lock is
//! held for long whatever the slot's size. A walk that finds little puts the slot off for a while, because a slot of
//! many keys with scattered deadlines always has one that has just passed.
//!
//! Between two pieces of a walk the slot goes on being used: deadlines that are given meanwhile are noted apart,
//! because the walk may have passed their keys, and when the table has been laid out anew the walk starts over.
//!
//! A key stays invisible-but-present for [`GRACE_MS`] after its deadline when it has replicas: a replica whose clock
//! is behind must not find it gone while it still counts it alive.

use crate::store::census::One;
use crate::store::entry::{Entry, FLAG_EXPIRED, Meta, Payload};
use crate::store::name::hash_of;
use crate::store::parts::earlier;
use crate::store::slot::SlotTable;

/// Most places looked at under one lock.
pub const SWEEP_PLACES_MAX: usize = 512;

/// How long after its deadline a replicated key is kept, in milliseconds.
pub const GRACE_MS: u64 = 500;

/// How long a slot is left alone after a walk that found little, in milliseconds.
const LOW_YIELD_PAUSE_MS: u64 = 1_000;

/// What the sweeper does with what it finds.
#[derive(Clone, Copy, Debug)]
pub struct SweepRules {
    /// Keys whose deadline is at or before this go, in milliseconds since 1970.
    pub before_ms: u64,
    /// Some replica may still hold an older version: leave a tombstone instead of nothing.
    pub keep_tombstones: bool,
}

/// Where a sweep stands, and what it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sweep {
    /// The place to go on from; `None` when the walk is done.
    pub next_place: Option<usize>,
    /// Keys removed in this piece.
    pub removed: usize,
    /// Earliest deadline seen so far in this walk; 0 for none.
    pub deadline_min_ms: u64,
    /// Entries seen so far in this walk.
    pub seen: usize,
    /// Keys removed so far in this walk.
    pub removed_in_walk: usize,
    /// The table's layout when the walk began.
    pub layout: u32,
}

/// Whether some key may have passed its deadline, in a slot whose earliest one is this; 0 for none.
pub(super) fn is_due(deadline_min_ms: u64, before_ms: u64) -> bool {
    (1..=before_ms).contains(&deadline_min_ms)
}

impl SlotTable {
    /// Removes expired keys from one piece of the table, and gives each to `gone`.
    pub fn sweep(&mut self, so_far: Sweep, rules: SweepRules, mut gone: impl FnMut(Entry)) -> Sweep {
        let so_far = match so_far.next_place {
            Some(_) if so_far.layout == self.layout => so_far,
            _ => {
                self.deadline_noted_ms = 0;
                Sweep { layout: self.layout, ..Sweep::default() }
            }
        };
        let from = so_far.next_place.unwrap_or(0);
        let to = (from + SWEEP_PLACES_MAX).min(self.index.places());
        let mut sweep = Sweep { next_place: None, removed: 0, ..so_far };
        for place in from..to {
            self.index.prefetch_ahead(place, from);
            let Some(entry) = self.index.get(place) else { continue };
            sweep.seen += 1;
            let deadline_ms = entry.deadline_ms();
            if deadline_ms == 0 {
                continue;
            }
            if deadline_ms <= rules.before_ms {
                self.expire_place(place, rules.keep_tombstones).into_iter().for_each(&mut gone);
                sweep.removed += 1;
            } else {
                sweep.deadline_min_ms = earlier(sweep.deadline_min_ms, deadline_ms);
            }
        }
        sweep.removed_in_walk += sweep.removed;
        if to < self.index.places() {
            sweep.next_place = Some(to);
        } else {
            self.finish_sweep(&sweep, rules.before_ms);
        }
        sweep
    }

    fn expire_place(&mut self, place: usize, keep_tombstone: bool) -> Option<Entry> {
        let counted = One::of(self.index.get(place)?);
        self.count_out(counted);
        let entry = self.index.get_mut(place)?;
        if keep_tombstone {
            let version = entry.version();
            let meta = Meta { flags: FLAG_EXPIRED, rest: Some(entry.written()), ..Meta::default() };
            let tombstone = Entry::new(entry.db(), entry.key(), Payload::Tombstone, &version, meta);
            let counted = One::of(&tombstone);
            let expired = std::mem::replace(entry, tombstone);
            self.count_in(counted);
            return Some(expired);
        }
        let (hash, stamp) = (hash_of(entry), entry.dot().hlc);
        self.note_forgotten(stamp);
        self.note_change();
        self.index.remove(place, hash)
    }

    fn finish_sweep(&mut self, sweep: &Sweep, before_ms: u64) {
        let low_yield = sweep.removed_in_walk * 8 < sweep.seen;
        self.deadline_min_ms = match earlier(sweep.deadline_min_ms, self.deadline_noted_ms) {
            0 => 0,
            next if low_yield => next.max(before_ms + LOW_YIELD_PAUSE_MS),
            next => next,
        };
        self.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::ids::{ActorId, Slot};
    use crate::base::version::Dot;
    use crate::store::Store;
    use crate::store::mutation::Mutation;
    use crate::store::name::Name;

    fn fill(table: &mut SlotTable, store: &Store, keys: u64, deadline_ms: impl Fn(u64) -> u64) {
        for n in 0..keys {
            let key = n.to_string().into_bytes();
            let name = Name::of(0, &key);
            let dot = Dot { hlc: Hlc(n + 1), ..Dot::default() };
            table.apply(name, dot, &Mutation::Assign { value: b"v", deadline_ms: deadline_ms(n) }, &store.rules(0));
        }
    }

    fn sweep_all(table: &mut SlotTable, rules: SweepRules) -> usize {
        let mut sweep = Sweep::default();
        let mut removed = 0;
        loop {
            sweep = table.sweep(sweep, rules, |_| {});
            removed += sweep.removed;
            if sweep.next_place.is_none() {
                return removed;
            }
        }
    }

    #[test]
    fn exactly_the_expired_go_and_the_memory_with_them() {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        let mut table = store.table(Slot::new(0).expect("a slot"));
        fill(&mut table, &store, 5_000, |n| 100 + n % 10);
        assert!(is_due(table.deadline_min_ms, 100) && !is_due(table.deadline_min_ms, 99));
        let rules = SweepRules { before_ms: 104, keep_tombstones: false };
        assert_eq!(sweep_all(&mut table, rules), 2_500);
        assert_eq!(table.len(), 2_500);
        assert!(!is_due(table.deadline_min_ms, 104) && is_due(table.deadline_min_ms, 105));
        assert_eq!(sweep_all(&mut table, SweepRules { before_ms: 200, ..rules }), 2_500);
        assert!(table.is_empty() && !is_due(table.deadline_min_ms, u64::MAX));
        assert_eq!(table.bytes, 0);
        assert!(table.footprint_bytes() < 2_000);
    }

    #[test]
    fn nothing_that_comes_or_moves_during_a_walk_is_forgotten() {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        let mut table = store.table(Slot::new(0).expect("a slot"));
        fill(&mut table, &store, 5_000, |_| 0);
        fill(&mut table, &store, 2, |_| 100);
        let rules = SweepRules { before_ms: 100, keep_tombstones: false };
        let begun = table.sweep(Sweep::default(), rules, |_| {});
        assert!(begun.next_place.is_some());
        fill(&mut table, &store, 5_000, |_| 20_000);
        let mut sweep = begun;
        while sweep.next_place.is_some() {
            sweep = table.sweep(sweep, rules, |_| {});
        }
        assert!(is_due(table.deadline_min_ms, 20_000), "given behind the walk's back");
        let begun = table.sweep(Sweep::default(), SweepRules { before_ms: 20_000, ..rules }, |_| {});
        fill(&mut table, &store, 40_000, |_| 20_000);
        let mut sweep = begun;
        while sweep.next_place.is_some() {
            sweep = table.sweep(sweep, SweepRules { before_ms: 20_000, ..rules }, |_| {});
        }
        assert!(
            table.is_empty() || is_due(table.deadline_min_ms, u64::MAX),
            "moved behind the walk's back: {}",
            table.len()
        );
        while !table.is_empty() {
            assert!(is_due(table.deadline_min_ms, u64::MAX));
            sweep_all(&mut table, SweepRules { before_ms: 20_000, ..rules });
        }
    }

    #[test]
    fn a_walk_that_finds_little_puts_the_slot_off() {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        let mut table = store.table(Slot::new(0).expect("a slot"));
        fill(&mut table, &store, 1_000, |n| 100 + n);
        let rules = SweepRules { before_ms: 100, keep_tombstones: true };
        assert_eq!(sweep_all(&mut table, rules), 1);
        assert_eq!((table.len(), table.census.tombstones), (999, 1));
        assert!(!is_due(table.deadline_min_ms, 500) && is_due(table.deadline_min_ms, 1_100));
    }
}
