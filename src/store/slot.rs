//! One hash slot: a table of entries, and the one function that gives a change its meaning.
//!
//! That is [`SlotTable::apply`], with a shortcut for a string put in place of a string ([`SlotTable::overwrite`], which
//! means the same). It runs for a client's command at the coordinator and for the same command's delta at a replica;
//! what comes from there, whole states too, is let in by `incoming`. Nothing else gives a key a value.
//!
//! Invariants:
//! - a version never sees less than before: `apply` is given a later stamp, and `merge` keeps what either has seen (its
//!   dot may be the earlier of two, where the later write lost);
//! - an expired entry is as good as deleted: a mutation never builds on it (callers delete it first, see `keyspace`);
//! - `bytes` is what the table's entries take, kept with every change;
//! - `deadline_min_ms` is when the sweeper has to look next: no later than the earliest deadline, or a second after a
//!   walk that found little.
//!
//! Knows no lock (its owner holds one), no clock and no option beyond [`Rules`].

use crate::base::clock::Hlc;
use crate::base::version::{Actor, Dot, Version};
use crate::store::census::{Census, One};
use crate::store::clear::is_clear;
use crate::store::counter::Counter;
use crate::store::draws::draws;
use crate::store::elements::{Elements, PackLimits};
use crate::store::entry::{Data, Entry, Meta, Payload, rest_unnamed};
use crate::store::eviction::Access;
use crate::store::hash_name;
use crate::store::index::{Index, Place, Whereabouts};
use crate::store::mutation::Mutation;
use crate::store::strings::string_of;
use crate::store::value::{Set, Value};
use crate::store::whole::{self, Built};

/// What `apply` needs to know beside the entry and the mutation.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Deletions leave tombstones: true as soon as the key has other replicas.
    pub tombstones: bool,
    /// When a hash stops being packed.
    pub hash: PackLimits,
    /// When a set stops being packed.
    pub set: PackLimits,
    /// Most members of what OBJECT ENCODING calls an intset.
    pub intset_entries_max: usize,
    /// The second in which new keys are created.
    pub now_s: u32,
    /// The use of a key that a change of it is.
    pub access: Access,
}

impl Rules {
    /// What an entry begins with that takes the place of `old`: a key that is overwritten stays as old as it was.
    fn meta_over(&self, old: Option<&Entry>, deadline_ms: u64) -> Meta {
        let old = old.filter(|entry| !entry.is_tombstone());
        let created_s = old.map_or(self.now_s, |entry| entry.meta().created_s);
        Meta { deadline_ms, created_s, access: self.access.after(old.map_or(0, Entry::access)), ..Meta::default() }
    }
}

/// A key's name with its hash, computed once.
#[derive(Clone, Copy, Debug)]
pub struct Name<'k> {
    /// The database.
    pub db: u8,
    /// The key.
    pub key: &'k [u8],
    /// The table's hash of both.
    pub hash: u64,
}

impl<'k> Name<'k> {
    /// The name of a key whose hash is not known yet.
    pub fn of(db: u8, key: &'k [u8]) -> Name<'k> {
        Name { db, key, hash: hash_name(db, key) }
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
    /// Moves when entries may have changed places: where a walk was going on means nothing then.
    pub(super) layout: u8,
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

    /// Makes the change that `mutation` stands for, under the stamp `dot`.
    pub fn apply(&mut self, name: Name<'_>, dot: Dot, mutation: &Mutation<'_>, rules: &Rules) {
        self.note_change();
        if mutation.may_create_in_part() {
            self.bury_absent(name);
        }
        match *mutation {
            Mutation::Assign { value, deadline_ms } => self.assign(name, dot, value, deadline_ms, rules),
            Mutation::Replace { whole, deadline_ms } => self.replace(name, dot, whole, deadline_ms, rules),
            Mutation::Patch { offset, bytes } => self.patch(name, dot, offset as usize, bytes, rules),
            // Who applies a clear also sweeps the table.
            Mutation::Delete | Mutation::Clear => self.bury(name, dot, rules),
            Mutation::Expire { deadline_ms } => self.change(name, dot, true, |entry| {
                rules.access.touch(entry);
                entry.set_deadline_ms(deadline_ms);
            }),
            Mutation::Add { by } => {
                self.ensure(name, dot, rules, |old| Value::Counter(counter_from(old)));
                self.change_value(name, dot, rules, |value| {
                    if let Value::Counter(counter) = value {
                        counter.add(dot, by);
                    }
                });
            }
            Mutation::PutField { field, value } => {
                self.ensure(name, dot, rules, |_| Value::Hash(Elements::default()));
                self.change_value(name, dot, rules, |hash| hash.put_field(field, dot, value, rules.hash));
            }
            Mutation::AddField { field, by } => {
                self.ensure(name, dot, rules, |_| Value::Hash(Elements::default()));
                self.change_value(name, dot, rules, |hash| hash.add_field(field, dot, by, rules.hash));
            }
            Mutation::RemoveField { field } => self.change_value(name, dot, rules, |value| {
                if let Value::Hash(fields) = value {
                    fields.remove(field);
                }
            }),
            Mutation::AddMember { member } => {
                let new = Set { members: Elements::default(), intset: true };
                self.ensure(name, dot, rules, |_| Value::Set(new));
                self.change_value(name, dot, rules, |set| set.add_member(member, dot, rules));
            }
            Mutation::RemoveMember { member } => self.change_value(name, dot, rules, |value| {
                if let Value::Set(set) = value {
                    set.members.remove(member);
                }
            }),
        }
        match *mutation {
            Mutation::Assign { deadline_ms, .. }
            | Mutation::Replace { deadline_ms, .. }
            | Mutation::Expire { deadline_ms } => self.note_deadline(deadline_ms),
            _ => {}
        }
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

    /// Puts a whole value in place of whatever there was. One that is none changes nothing: it was checked on the way
    /// in, and this node makes no such.
    fn replace(&mut self, name: Name<'_>, dot: Dot, whole: &[u8], deadline_ms: u64, rules: &Rules) {
        let value = match whole::build(whole, dot, rules) {
            Ok(Built::String(bytes, flags)) => {
                self.assign(name, dot, bytes, deadline_ms, rules);
                if let Some(entry) = self.find_mut(name) {
                    entry.set_flags(flags);
                }
                return;
            }
            Ok(Built::Value(value)) => value,
            Err(_) => return,
        };
        self.put_over(name, dot, Payload::Value(Box::new(value)), deadline_ms, rules);
    }

    /// Deletes: a tombstone when other replicas must learn of it, nothing at all when there are none.
    fn bury(&mut self, name: Name<'_>, dot: Dot, rules: &Rules) {
        if !rules.tombstones {
            self.forget(name);
            return;
        }
        let version = self.find(name).map_or_else(|| Version::first(dot), |entry| entry.version().advanced(dot));
        // No key, so none that was ever made: a merge takes the earlier of two creations.
        self.put_entry(name, Entry::new(name.db, name.key, Payload::Tombstone, &version, Meta::default()));
    }

    /// Makes sure that the key holds a boxed value, made from the old entry when it is a string or absent.
    fn ensure(&mut self, name: Name<'_>, dot: Dot, rules: &Rules, make: impl FnOnce(Option<&Entry>) -> Value) {
        let old = self.find(name);
        if old.is_some_and(|entry| matches!(entry.data(), Data::Value(_))) {
            return;
        }
        let version = old.map_or_else(|| Version::first(dot), |entry| entry.version().advanced(dot));
        // Its first use is noted with the change that it is made for.
        let mut meta = Meta { created_s: rules.now_s, ..Meta::default() };
        if let Some(entry) = old.filter(|entry| !entry.is_tombstone()) {
            let rest = rest_unnamed(false, entry.deadline_ms(), entry.dot());
            meta = Meta { rest: Some(rest), ..entry.meta() };
        }
        let value = Box::new(make(old));
        self.put_entry(name, Entry::new(name.db, name.key, Payload::Value(value), &version, meta));
    }

    /// Changes the boxed value under a new dot; a collection left empty is a deleted key.
    fn change_value(&mut self, name: Name<'_>, dot: Dot, rules: &Rules, change: impl FnOnce(&mut Value)) {
        let mut emptied = false;
        self.change(name, dot, false, |entry| {
            rules.access.touch(entry);
            if let Some(value) = entry.value_mut() {
                change(value);
                emptied = match value {
                    Value::Hash(fields) => fields.is_empty(),
                    Value::Set(set) => set.members.is_empty(),
                    Value::Counter(_) => false,
                };
            }
        });
        if emptied {
            self.bury(name, dot, rules);
        }
    }

    /// Changes an entry under a new dot, but not what a string says, keeping count of its bytes. `redates` says whether
    /// it is a write of the deadline.
    fn change(&mut self, name: Name<'_>, dot: Dot, redates: bool, change: impl FnOnce(&mut Entry)) {
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

    pub(super) fn put_entry(&mut self, name: Name<'_>, entry: Entry) {
        if is_clear(name.db) {
            self.cleared_at = self.cleared_at.max(entry.dot().hlc);
        }
        self.count_in(One::of(&entry));
        if let Some(place) = self.find_mut(name) {
            let old = std::mem::replace(place, entry);
            self.count_out(One::of(&old));
            return;
        }
        if self.index.is_full() {
            self.layout = self.layout.wrapping_add(1);
        }
        self.index.insert(name.hash, entry, hash_of);
    }

    pub(super) fn note_deadline(&mut self, deadline_ms: u64) {
        self.deadline_min_ms = earlier(self.deadline_min_ms, deadline_ms);
        self.deadline_noted_ms = earlier(self.deadline_noted_ms, deadline_ms);
    }
}

/// The hash under which an entry stands.
pub(super) fn hash_of(entry: &Entry) -> u64 {
    hash_name(entry.db(), entry.key())
}

/// The earlier of two times, of which 0 is none.
pub(super) fn earlier(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

/// The counter that INCR makes of what was there; only numbers get this far.
fn counter_from(old: Option<&Entry>) -> Counter {
    let Some(entry) = old else { return Counter::on_base(0, Dot::default()) };
    Counter::on_text(&string_of(entry), entry.written())
}

#[cfg(test)]
mod tests {
    use crate::base::ids::{ActorId, slot_of};
    use crate::store::mutation::Mutation;
    use crate::store::{Effects, Store, whole};

    #[test]
    fn a_key_that_is_overwritten_stays_as_old_as_it_was_and_a_deleted_one_has_no_age() {
        let (store, mut effects) = (Store::new(ActorId { node: 1, generation: 1 }), Effects::default());
        store.set_replicated(true);
        let set = whole::set([&b"m"[..]].into_iter(), None);
        let string = whole::string(b"s", None);
        let mut created = |now_s: u64, mutation: Mutation<'_>| {
            let mut keys = store.lock(slot_of(b"k"), 0, now_s * 1_000, &mut effects);
            keys.write(b"k", mutation);
            keys.entry(b"k").map(|entry| entry.meta().created_s)
        };
        let deadline_ms = 0;
        let overwriting = [
            Mutation::Assign { value: b"v", deadline_ms },
            Mutation::Replace { whole: &set, deadline_ms },
            Mutation::Replace { whole: &string, deadline_ms },
            Mutation::Replace { whole: &set, deadline_ms },
            Mutation::Assign { value: b"a longer value than before", deadline_ms },
            Mutation::Patch { offset: 1_000, bytes: b"z" },
        ];
        for (at, first) in overwriting.into_iter().enumerate() {
            let made_s = 10 * (at as u64 + 1);
            assert_eq!(created(made_s, first), Some(made_s as u32));
            for (later_s, mutation) in (made_s + 1..).zip(overwriting) {
                assert_eq!(created(later_s, mutation), Some(made_s as u32), "{mutation:?} on {first:?}");
            }
            assert_eq!(created(made_s + 8, Mutation::Delete), Some(0));
        }
    }
}
