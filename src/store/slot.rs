//! One hash slot: a table of entries, with what is counted of them.
//!
//! What a change means is said above this file: `apply` gives a key a value, `strings` has a shortcut for it, `clear`
//! empties a slot, `incoming` lets in what other replicas send. Nothing else gives a key a value. Here are the steps
//! that they are made of, each of which keeps the table whole.
//!
//! Invariants:
//! - a version never sees less than before: whatever is put over an entry is given a later stamp, and `merge` keeps
//!   what either has seen (its dot may be the earlier of two, where the later write lost);
//! - `bytes` is what the table's entries take, and `census` the sum over them, kept with every change;
//! - `deadline_min_ms` is when the sweeper has to look next: no later than the earliest deadline, or a second after a
//!   walk that found little.
//!
//! Knows no lock (its owner holds one), no clock and no option beyond [`Rules`].

use crate::base::clock::Hlc;
use crate::base::version::{Actor, Dot, Version};
use crate::store::census::{Census, DbCounts, One};
use crate::store::draws::draws;
use crate::store::entry::{Entry, Meta, Payload};
use crate::store::index::{Index, Place, Whereabouts};
use crate::store::name::{Name, hash_of};
use crate::store::parts::earlier;
use crate::store::rules::Rules;
use crate::store::scope::{Scope, is_clear};

impl Rules {
    /// What an entry begins with that takes the place of `old`: a key that is overwritten stays as old as it was.
    fn meta_over(&self, old: Option<&Entry>, deadline_ms: u64) -> Meta {
        let old = old.filter(|entry| !entry.is_tombstone());
        let created_s = old.map_or(self.now_s, |entry| entry.meta().created_s);
        Meta { deadline_ms, created_s, access: self.access.after(old.map_or(0, Entry::access)), ..Meta::default() }
    }
}

/// A slot's entries; see the head of the file.
#[derive(Debug, Default)]
pub struct SlotTable {
    pub(super) index: Index,
    pub(super) bytes: usize,
    pub(super) deadline_min_ms: u64,
    /// The earliest deadline given since the sweep that is under way began; 0 for none.
    pub(super) deadline_noted_ms: u64,
    /// Moves when entries may have changed places: where a walk was going on means nothing then. Each life of a node
    /// begins with its own ([`first_layout`](super::scan::first_layout)).
    pub(super) layout: u32,
    pub(super) census: Census,
    /// Moves with every change of an entry's version or presence: what was computed of the table is stale then.
    pub(super) changes: u32,
    /// The latest stamp of a clear that the table holds; 0 for none.
    pub(super) cleared_at: Hlc,
    /// The latest stamp of anything that has left the table without a trace; 0 for none.
    pub(super) forgotten_at: Hlc,
    /// See [`SlotTable::stable`].
    pub(super) stable: Hlc,
}

impl SlotTable {
    /// Every write of the slot's keys stamped at or before this, whichever copy has it, this table has seen.
    pub fn stable(&self) -> Hlc {
        self.stable
    }

    /// Notes up to where writes are stable. Who decides that is `cluster::stability`.
    pub fn note_stable(&mut self, up_to: Hlc) {
        self.stable = self.stable.max(up_to);
    }

    /// The entry called so, tombstones and expired ones included.
    #[inline]
    pub fn find(&self, name: Name<'_>) -> Option<&Entry> {
        self.entry(self.place_of(name)?)
    }

    /// As [`find`](SlotTable::find), to change what is not versioned (access time).
    #[inline]
    pub fn find_mut(&mut self, name: Name<'_>) -> Option<&mut Entry> {
        self.entry_mut(self.place_of(name)?)
    }

    /// The entry at a place.
    #[inline]
    pub fn entry(&self, place: Place) -> Option<&Entry> {
        self.index.get(place)
    }

    /// As [`entry`](SlotTable::entry), to change what is not versioned.
    #[inline]
    pub fn entry_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.index.get_mut(place)
    }

    /// Where the entry called so is, until the table is changed.
    #[inline]
    pub fn place_of(&self, name: Name<'_>) -> Option<Place> {
        self.index.find(name.hash, |entry| entry.is_called(name.db, name.key))
    }

    /// Has the entries fetched that this may be the hash of.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Notes where the index lies, for who wants to have it fetched.
    #[inline]
    pub(super) fn note_whereabouts(&self, at: &Whereabouts) {
        at.note(&self.index);
    }

    /// Keys in the slot, expired ones not yet removed included, tombstones not.
    pub fn len(&self) -> usize {
        self.index.len() - self.census.tombstones as usize
    }

    /// True when some key has a deadline.
    #[inline]
    pub fn has_deadlines(&self) -> bool {
        self.census.expiring != 0
    }

    /// True when the slot has no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the table and its entries take.
    #[inline]
    pub fn footprint_bytes(&self) -> usize {
        self.bytes + self.index.allocation_bytes()
    }

    /// Some entry, chosen by the random number `draw`; `None` when there is none.
    pub fn pick(&self, draw: u64) -> Option<&Entry> {
        self.pick_where(draw, |_| true)
    }

    /// Some entry of which `fits` holds, chosen by the random number `draw`, found wherever there is one.
    pub fn pick_where(&self, draw: u64, fits: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        if self.index.is_empty() {
            return None;
        }
        draws(draw, self.index.places()).find_map(|place| self.index.get(place).filter(|entry| fits(entry)))
    }

    /// Every entry, tombstones and expired ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.index.iter()
    }

    /// Gives what a conflict was settled to a dot of its own, and says its stamp. The merged version may share its dot
    /// with one side, and who is asked for a dot would not tell them apart. It is the first stamp behind both sides: a
    /// later one would have it win over what another coordinator has written since, which is not here yet. For the
    /// key's coordinator only: two that did it would conflict.
    pub fn restamp(&mut self, name: Name<'_>) -> Option<Hlc> {
        let stamp = Hlc(self.find(name)?.version().latest().0 + 1);
        self.note_change();
        self.change(name, Dot { hlc: stamp, actor: Actor::SELF }, false, |_| {});
        Some(stamp)
    }

    /// Takes an entry out without a trace: eviction, expiry that every replica sees, a slot handed over.
    pub fn forget(&mut self, name: Name<'_>) -> bool {
        let removed = self.place_of(name).and_then(|place| self.index.remove(place, name.hash));
        let Some(entry) = removed else { return false };
        self.count_out(One::of(&entry));
        self.note_forgotten(entry.dot().hlc);
        self.note_change();
        if is_clear(name.db) {
            self.note_clears();
        }
        self.shrink_if_sparse();
        true
    }

    /// Whether anything that was written after `since` may have left without a trace.
    pub fn has_forgotten_since(&self, since: Hlc) -> bool {
        self.forgotten_at > since
    }

    /// To be called for whatever leaves the table without a trace, with the stamp of its last write.
    #[inline]
    pub(super) fn note_forgotten(&mut self, stamp: Hlc) {
        self.forgotten_at = self.forgotten_at.max(stamp);
    }

    /// Puts a new entry in place of whatever there was.
    pub(super) fn put_over(&mut self, name: Name<'_>, dot: Dot, payload: Payload<'_>, deadline_ms: u64, rules: &Rules) {
        let old = self.find(name);
        let meta = Meta { rest: Some(dot), ..rules.meta_over(old, deadline_ms) };
        let version = old.map_or_else(|| Version::first(dot), |entry| entry.version().advanced(dot));
        self.put_entry(name, Entry::new(name.db, name.key, payload, &version, meta));
    }

    /// Changes an entry under a new dot, but not what a string says, keeping count of its bytes. `redates` says whether
    /// it is a write of the deadline.
    pub(super) fn change(&mut self, name: Name<'_>, dot: Dot, redates: bool, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.find_mut(name) else { return };
        let (before, rest) = (One::of(entry), entry.rest_after(dot, redates));
        change(entry);
        if entry.dot().actor != dot.actor || !entry.move_dot(dot, rest) {
            let version = entry.version().advanced(dot);
            entry.rebuild(&version, Meta { rest: Some(rest), ..entry.meta() });
        }
        let after = One::of(entry);
        self.count_in(after);
        self.count_out(before);
    }

    /// Gives an entry exactly this version: what a delta's context says, the sender knows best.
    pub(super) fn set_version(&mut self, name: Name<'_>, version: &Version) {
        let Some(entry) = self.find_mut(name) else { return };
        let plain = entry.context_is_empty() && version.context.is_empty();
        if entry.dot() == version.dot && (plain || entry.version() == *version) {
            return;
        }
        self.note_change();
        let Some(entry) = self.find_mut(name) else { return };
        let (before, meta) = (One::of(entry), entry.meta());
        entry.rebuild(version, meta);
        let after = One::of(entry);
        self.count_in(after);
        self.count_out(before);
    }

    /// Counts an entry that has come.
    #[inline]
    pub(super) fn count_in(&mut self, one: One) {
        self.bytes += one.bytes();
        self.census += one;
    }

    /// Counts an entry no more, as it was when it was counted.
    #[inline]
    pub(super) fn count_out(&mut self, one: One) {
        self.bytes -= one.bytes();
        self.census -= one;
    }

    /// The slot's keys of each database that has some.
    pub fn counts(&self) -> impl Iterator<Item = (u8, DbCounts)> + '_ {
        let mut of_first = DbCounts { keys: self.len() as u64, expires: u64::from(self.census.expiring) };
        self.census.others().for_each(|(_, of_db)| of_first -= of_db);
        let first = (of_first.keys != 0).then_some((0, of_first));
        first.into_iter().chain(self.census.others())
    }

    /// How many keys of this database the slot holds.
    pub fn len_of(&self, db: u8) -> u64 {
        self.counts().find(|(other, _)| *other == db).map_or(0, |(_, of_db)| of_db.keys)
    }

    /// To be called when a clear may have been forgotten.
    pub(super) fn note_clears(&mut self) {
        if self.cleared_at != Hlc(0) {
            let clears = Scope::each().filter_map(|scope| self.find(scope.name()));
            let stamps = clears.map(|entry| entry.dot().hlc);
            self.cleared_at = stamps.max().unwrap_or_default();
        }
    }

    /// Puts an entry where the one of its name is, or beside all others, and counts it.
    pub(super) fn put_entry(&mut self, name: Name<'_>, entry: Entry) {
        if is_clear(name.db) {
            self.cleared_at = self.cleared_at.max(entry.dot().hlc);
        }
        self.count_in(One::of(&entry));
        if let Some(present) = self.find_mut(name) {
            let old = std::mem::replace(present, entry);
            self.count_out(One::of(&old));
            return;
        }
        if self.index.is_full() {
            self.layout = self.layout.wrapping_add(1);
        }
        self.index.insert(name.hash, entry, hash_of);
    }

    /// To be called by whatever changes an entry's version or presence: a digest that was kept holds no longer.
    #[inline]
    pub(super) fn note_change(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    /// Gives memory back after many keys have gone.
    pub(super) fn shrink_if_sparse(&mut self) {
        if self.index.shrink_if_sparse(hash_of) {
            self.layout = self.layout.wrapping_add(1);
        }
    }

    /// Has the sweeper look no later than at this deadline.
    pub(super) fn note_deadline(&mut self, deadline_ms: u64) {
        self.deadline_min_ms = earlier(self.deadline_min_ms, deadline_ms);
        self.deadline_noted_ms = earlier(self.deadline_noted_ms, deadline_ms);
    }
}
