//! Locked slots as a command sees them.
//!
//! Reading skips what is expired or deleted, counts hits and misses, and notes which version was seen. An expired key
//! that is looked at goes at once on a node that is alone, as in Redis; where it has replicas it is left to the
//! sweeper, so that reading never writes. Writing stamps a mutation, applies it, and records its delta in [`Effects`],
//! from where the coordinator sends it to the other active nodes of the slot. A command that changes a key which has
//! expired first deletes it, in so many words, so that no replica whose clock is a little behind builds on the old
//! value; also if all that is left here is the tombstone that expiry has made of it.
//!
//! A `Keyspace` is never held across an await: it is locks.

use std::borrow::Cow;
use std::cell::Cell;

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::ids::{Slot, slot_of};
use crate::base::version::{Actor, ActorTable, Dot, Version};
use crate::store::access::Access;
use crate::store::effects::{Effects, Event};
use crate::store::elements::Elements;
use crate::store::entry::{Data, Entry, FLAG_RAW};
use crate::store::index::Place;
use crate::store::mutation::{Delta, Mutation};
use crate::store::name::Name;
use crate::store::scope::Scope;
use crate::store::value::{Set, Value};
use crate::store::whole;
use crate::store::{Store, TableGuard, hash_name, in_database};

/// How far before its bound a bounded command has to begin, in milliseconds: room for 300,000 writes and more.
const STAMP_ROOM_MS: u64 = 5;

/// What a key holds, as a command looks at it.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// A string.
    String(&'a [u8]),
    /// A string that INCR has made a number of.
    Number(i64),
    /// A hash; payloads are read with `store::hash::field`.
    Hash(&'a Elements),
    /// A set.
    Set(&'a Set),
}

impl<'a> ValueRef<'a> {
    /// The bytes of a string or number; `None` for other types.
    pub fn text(&self) -> Option<Cow<'a, [u8]>> {
        match self {
            ValueRef::String(bytes) => Some(Cow::Borrowed(bytes)),
            ValueRef::Number(number) => Some(Cow::Owned(number.to_string().into_bytes())),
            ValueRef::Hash(_) | ValueRef::Set(_) => None,
        }
    }

    /// The type's name, as TYPE says it.
    pub fn type_name(&self) -> &'static str {
        match self {
            ValueRef::String(_) | ValueRef::Number(_) => "string",
            ValueRef::Hash(_) => "hash",
            ValueRef::Set(_) => "set",
        }
    }
}

/// What came of an entry's content for the keyspace's users; `None` for a tombstone.
pub fn value_ref(entry: &Entry) -> Option<ValueRef<'_>> {
    match entry.data() {
        Data::String(bytes) => Some(ValueRef::String(bytes)),
        Data::Tombstone => None,
        Data::Value(Value::Counter(counter)) => Some(ValueRef::Number(counter.total())),
        Data::Value(Value::Hash(fields)) => Some(ValueRef::Hash(fields)),
        Data::Value(Value::Set(set)) => Some(ValueRef::Set(set)),
    }
}

/// Locked slots; see the head of the file.
#[derive(Debug)]
pub struct Keyspace<'s> {
    store: &'s Store,
    /// In the order of the slots.
    tables: SmallVec<[(Slot, TableGuard<'s>); 1]>,
    effects: &'s mut Effects,
    /// A key whose time is over is removed by whoever finds it.
    removes_expired: bool,
    now_ms: u64,
    db: u8,
    known: KnownHash,
    /// Whether a key has been looked for.
    has_looked: Cell<bool>,
    /// No write is stamped later than this.
    stamp_max: Hlc,
    /// The stamp of the last write.
    stamped: Hlc,
}

/// The hash of a key that was computed before the slot was locked. The key is told by where it lies, which is enough:
/// it is part of the request, and that stays where it is until the command has run.
#[derive(Clone, Copy, Debug, Default)]
struct KnownHash {
    address: usize,
    len: usize,
    hash: u64,
}

impl KnownHash {
    #[inline]
    fn name<'k>(&self, db: u8, key: &'k [u8]) -> Name<'k> {
        let is_known = key.as_ptr().addr() == self.address && key.len() == self.len;
        let hash = if is_known { in_database(db, self.hash) } else { hash_name(db, key) };
        Name { db, key, hash }
    }
}

impl<'s> Keyspace<'s> {
    pub(super) fn new(
        store: &'s Store,
        tables: SmallVec<[(Slot, TableGuard<'s>); 1]>,
        db: u8,
        now_ms: u64,
        effects: &'s mut Effects,
    ) -> Keyspace<'s> {
        let removes_expired = !store.is_replicated() && !store.stands_still(now_ms);
        let known = KnownHash::default();
        Keyspace {
            store,
            tables,
            effects,
            removes_expired,
            now_ms,
            db,
            known,
            has_looked: Cell::new(false),
            stamp_max: Hlc(u64::MAX),
            stamped: Hlc(0),
        }
    }

    /// The same, knowing the hash of a key in database 0.
    #[inline]
    pub(super) fn knowing(mut self, key: &[u8], hash: u64) -> Keyspace<'s> {
        self.known = KnownHash { address: key.as_ptr().addr(), len: key.len(), hash };
        self
    }

    /// The time of the batch, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The database that keys are looked up in.
    pub fn db(&self) -> u8 {
        self.db
    }

    /// Looks keys up in another database from now on.
    pub fn select(&mut self, db: u8) {
        self.db = db;
    }

    /// What `key` holds; `None` when there is no such key. Counts as a use of the key.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<ValueRef<'_>> {
        let name = self.name(key);
        let place = self.place_of(name);
        let (now_ms, access) = (self.now_ms, self.store.eviction.use_at(self.now_ms));
        let Keyspace { tables, effects, .. } = self;
        let found = place.and_then(|(at, place)| tables.get_mut(at)?.1.entry_mut(place));
        effects.note_lookup(found.as_deref());
        match found.filter(|entry| is_live(entry, now_ms)) {
            Some(entry) => {
                effects.note_hit();
                if !effects.no_touch {
                    access.touch(entry);
                }
                value_ref(entry)
            }
            None => {
                effects.note_miss(name.db, key);
                None
            }
        }
    }

    /// The live entry called `key`, noting the version seen, but not as a use: TTL, TYPE, EXISTS and their like.
    pub fn look(&mut self, key: &[u8]) -> Option<&Entry> {
        self.look_telling(key, true)
    }

    /// The same, without telling of a key that is not there: OBJECT.
    pub fn look_untold(&mut self, key: &[u8]) -> Option<&Entry> {
        self.look_telling(key, false)
    }

    fn look_telling(&mut self, key: &[u8], tells: bool) -> Option<&Entry> {
        let name = self.name(key);
        let place = self.place_of(name);
        let now_ms = self.now_ms;
        let Keyspace { tables, effects, .. } = self;
        let found = place.and_then(|(at, place)| tables.get(at)?.1.entry(place));
        effects.note_lookup(found);
        let live = found.filter(|entry| is_live(entry, now_ms));
        match live {
            Some(_) => effects.note_hit(),
            None => {
                let notify = effects.notify;
                effects.notify = notify && tells;
                effects.note_miss(name.db, key);
                effects.notify = notify;
            }
        }
        live
    }

    /// What a use of a key would be now, to compare entries with.
    pub fn access(&self) -> Access {
        self.store.eviction.use_at(self.now_ms)
    }

    /// Whether Redis would let keys share what they hold.
    pub fn shares_values(&self) -> bool {
        self.store.eviction.shares_values()
    }

    /// The live entry called `key`, without counting as a use and unseen by the verification of reads.
    pub fn peek(&self, key: &[u8]) -> Option<&Entry> {
        self.entry(key).filter(|entry| is_live(entry, self.now_ms))
    }

    /// True when `key` exists. Not a use.
    pub fn exists(&self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// Makes one change, under a new stamp, and records it.
    #[inline]
    pub fn write(&mut self, key: &[u8], mutation: Mutation<'_>) {
        self.store.missing_keys.note_write(self.db, key);
        self.clear_ground(self.name(key), &mutation);
        self.put(key, mutation);
        self.effects.writes += 1;
    }

    /// Changes so far.
    pub fn changes(&self) -> u64 {
        self.effects.writes
    }

    /// Counts all that was changed since there were `before` as no more than `most` changes: the move of a key is one
    /// to a client.
    pub fn count_changes_as(&mut self, before: u64, most: u64) {
        self.effects.writes = self.effects.writes.min(before + most);
    }

    /// As [`write`](Keyspace::write), but it is not counted as a change, and WATCH does not notice.
    pub fn write_unnoticed(&mut self, key: &[u8], mutation: Mutation<'_>) {
        self.clear_ground(self.name(key), &mutation);
        let (before, _) = self.version_of(key);
        self.put(key, mutation);
        self.store.unnoticed.note(self.name(key).hash, before, self.version_of(key).0);
    }

    #[inline]
    fn put(&mut self, key: &[u8], mutation: Mutation<'_>) {
        let may_be_new = self.effects.notify && !self.exists(key);
        self.stamp_and_apply(self.name(key), mutation);
        // One whose deadline has passed is new too.
        if may_be_new && self.entry(key).is_some_and(|entry| !entry.is_tombstone()) {
            self.notify(b'n', "new", key);
        }
    }

    /// Whether nothing has happened to `key` since it had the version `seen`, the default one for none, that WATCH
    /// should notice.
    pub fn is_as_seen(&self, key: &[u8], seen: &Version) -> bool {
        let (now, _) = self.version_of(key);
        now == *seen || self.store.unnoticed.leads(self.name(key).hash, seen, &now)
    }

    /// Whether `key`, which is not there now and was not at `since`, may have been in between: something of its slot
    /// that was written later than that has gone without a trace.
    pub fn may_have_been_there(&self, key: &[u8], since: Hlc) -> bool {
        let table = table_at(&self.tables, key).and_then(|at| self.tables.get(at));
        table.is_none_or(|(_, table)| table.has_forgotten_since(since))
    }

    /// Calls the string that `key` holds a raw one from now on. It is the same at the same version: nobody is told.
    /// False for what is no string but a counter, which has to be written as a string to become one.
    pub fn unpack(&mut self, key: &[u8]) -> bool {
        let name = self.name(key);
        let found = table_of(&mut self.tables, key).and_then(|table| table.find_mut(name));
        let Some(entry) = found.filter(|entry| matches!(entry.data(), Data::String(_))) else { return false };
        entry.set_flags(FLAG_RAW);
        true
    }

    /// Deletes `key`. False when there was none.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let existed = self.exists(key);
        if existed {
            self.write(key, Mutation::Delete);
        } else {
            self.delete_if_expired(self.name(key));
        }
        existed
    }

    /// Clears the locked slot, which is the only one: keys in these databases go without a trace but one.
    pub fn clear(&mut self, scope: Scope) {
        self.stamp_and_apply(scope.name(), Mutation::Clear);
    }

    /// A copy of what `key` holds, ready for `Mutation::Replace`, and its deadline. Not a use.
    pub fn copy_of(&self, key: &[u8]) -> Option<(Vec<u8>, u64)> {
        let entry = self.peek(key)?;
        Some((whole::of(entry)?, entry.deadline_ms()))
    }

    /// The last write of `key` that is known here, the zero dot for none, and whether the key is live.
    pub fn seen(&self, key: &[u8]) -> (Dot, bool) {
        self.entry(key).map_or((Dot::default(), false), |entry| (entry.dot(), is_live(entry, self.now_ms)))
    }

    /// The version of `key` that is known here, the default one for none, and whether the key is live.
    pub fn version_of(&self, key: &[u8]) -> (Version, bool) {
        self.entry(key).map_or_else(Default::default, |entry| (entry.version(), is_live(entry, self.now_ms)))
    }

    /// Whether other nodes hold copies of what this one holds.
    pub fn is_replicated(&self) -> bool {
        self.store.is_replicated()
    }

    /// The actors that this node has met, to name versions to other nodes.
    pub fn actors(&self) -> &ActorTable {
        &self.store.actors
    }

    /// What commands did so far.
    pub fn effects(&self) -> &Effects {
        self.effects
    }

    /// Takes the recorded deltas, to be sent while the slots are locked; [`Keyspace::give_back_deltas`] saves the
    /// memory.
    pub fn take_deltas(&mut self) -> Vec<u8> {
        self.effects.deltas.take()
    }

    /// Gives back the memory that deltas were recorded in.
    pub fn give_back_deltas(&mut self, deltas: Vec<u8>) {
        self.effects.deltas.give_back(deltas);
    }

    /// Notes an event for keyspace notifications; does nothing when nobody listens.
    #[inline]
    pub fn notify(&mut self, class: u8, name: &'static str, key: &[u8]) {
        if self.effects.notify {
            self.effects.events.push(Event { class, name, db: self.db, key: key.into() });
        }
    }

    /// Whether the command that runs looks keys up only to write them: that is neither a hit nor a miss.
    pub fn only_write(&mut self, only_writes: bool) {
        self.effects.only_writes = only_writes;
    }

    /// Whether the next command leaves it unseen that it has used a key.
    pub fn leave_untouched(&mut self, no_touch: bool) {
        self.effects.no_touch = no_touch;
    }

    /// Lets no write from now on be stamped later than `max`; false, and nothing changed, when the next would be close
    /// to it. Should the clock be pushed past it while a command runs, its further writes follow the last in single
    /// steps.
    pub fn stamp_until(&mut self, max: Hlc) -> bool {
        let next = self.store.clock.tick(self.now_ms);
        let is_well_before = next.ms().saturating_add(STAMP_ROOM_MS) < max.ms();
        if is_well_before {
            (self.stamp_max, self.stamped) = (max, next);
        }
        is_well_before
    }

    /// The entry called `key`, whatever it is. Not a use.
    pub fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let at = table_at(&self.tables, key)?;
        self.tables.get(at).and_then(|(_, table)| table.find(self.name(key)))
    }

    /// Whether any key has been looked for so far; if none has, nothing that was said depends on what keys hold.
    pub fn has_looked(&self) -> bool {
        self.has_looked.get()
    }

    #[inline]
    fn name<'k>(&self, key: &'k [u8]) -> Name<'k> {
        self.has_looked.set(true);
        self.known.name(self.db, key)
    }

    /// Where the entry called so is: the place of its table and that in it. One whose time is over is removed, where no
    /// replica has to be told and clients are not paused.
    #[inline]
    fn place_of(&mut self, name: Name<'_>) -> Option<(usize, Place)> {
        let at = table_at(&self.tables, name.key)?;
        let (_, table) = self.tables.get(at)?;
        let place = table.place_of(name)?;
        if self.removes_expired && table.entry(place).is_some_and(|entry| entry.is_expired(self.now_ms)) {
            self.delete_expired(name);
            return None;
        }
        Some((at, place))
    }

    #[inline]
    fn delete_if_expired(&mut self, name: Name<'_>) {
        let now_ms = self.now_ms;
        // Most slots hold no key that could expire, and need not be searched.
        let table = table_of(&mut self.tables, name.key).filter(|table| table.has_deadlines());
        if table.and_then(|table| table.find(name)).is_some_and(|entry| entry.is_expired(now_ms)) {
            self.delete_expired(name);
        }
    }

    #[cold]
    fn delete_expired(&mut self, name: Name<'_>) {
        self.stamp_and_apply(name, Mutation::Delete);
        self.effects.expired += 1;
        self.notify(b'x', "expired", name.key);
    }

    /// Makes sure that `mutation` builds on nothing that is over, here or on any replica. A tombstone may stand for a
    /// key that has expired, and then has its version; a replica that has not come to that yet would build on its
    /// value.
    #[inline]
    fn clear_ground(&mut self, name: Name<'_>, mutation: &Mutation<'_>) {
        self.delete_if_expired(name);
        let may_build = mutation.may_create_in_part() && self.store.is_replicated();
        let table = table_of(&mut self.tables, name.key).filter(|table| may_build && table.tombstones() != 0);
        if table.and_then(|table| table.find(name)).is_some_and(Entry::is_tombstone) {
            self.stamp_and_apply(name, Mutation::Delete);
        }
    }

    fn stamp_and_apply(&mut self, name: Name<'_>, mutation: Mutation<'_>) {
        let tick = self.store.clock.tick(self.now_ms);
        let hlc = if tick <= self.stamp_max { tick } else { Hlc(self.stamped.0 + 1) };
        self.stamped = hlc;
        let dot = Dot { hlc, actor: Actor::SELF };
        let found = table_at(&self.tables, name.key).and_then(|at| self.tables.get_mut(at));
        let Some((slot, table)) = found else { return };
        let rules = self.store.rules(self.now_ms);
        let (mut base, mut version) = (None, Version::first(dot));
        if !table.overwrite(name, &version, &mutation, &rules) {
            base = rules.tombstones.then(|| table.base_of(name, &mutation)).flatten();
            table.apply(name, dot, &mutation, &rules);
            if let Some(scope) = Scope::of(name) {
                self.effects.writes += table.sweep_cleared(scope, dot, &self.store.actors) as u64;
            }
            version = base.as_ref().map_or(version, |base| base.advanced(dot));
            if let Some(floor) = version.floor_for(table.stable()).filter(|_| rules.tombstones) {
                version = version.floored(floor);
                table.set_version(name, &version);
            }
        }
        self.effects.note_write(dot);
        if rules.tombstones {
            let delta = Delta { slot: *slot, db: name.db, key: name.key, base, version, mutation };
            self.effects.deltas.record(&delta, &self.store.actors);
        }
    }
}

#[inline]
fn is_live(entry: &Entry, now_ms: u64) -> bool {
    !entry.is_tombstone() && !entry.is_expired(now_ms)
}

/// Which of the locked tables, which are in the order of their slots, holds `key`: the only one, or the one of its
/// slot.
#[inline]
fn table_at(tables: &[(Slot, TableGuard<'_>)], key: &[u8]) -> Option<usize> {
    if let [_] = tables { Some(0) } else { table_among(tables, key) }
}

#[inline(never)]
fn table_among(tables: &[(Slot, TableGuard<'_>)], key: &[u8]) -> Option<usize> {
    let slot = slot_of(key);
    tables.binary_search_by_key(&slot, |(locked, _)| *locked).ok()
}

#[inline]
fn table_of<'t, 's>(tables: &'t mut [(Slot, TableGuard<'s>)], key: &[u8]) -> Option<&'t mut TableGuard<'s>> {
    let at = table_at(tables, key)?;
    tables.get_mut(at).map(|(_, table)| table)
}
