//! Data: hash slots, entries, versions and merge. Knows no RESP and no socket.
//!
//! A [`Store`] is 16,384 slots, each one lock and one table. A command locks the slots of its keys, works on them
//! through a [`Keyspace`], and lets go before anything waits. Any thread may lock any slot; whoever locks several
//! takes them in ascending order, so that no two can wait for each other.
//!
//! | file | what it is |
//! |---|---|
//! | `keyspace` | locked slots as a command sees them: read, write |
//! | `effects` | the record of what was written, found and to be told |
//! | `apply` | the one function that gives a change its meaning |
//! | `strings` | strings, which it changes where they lie |
//! | `incoming` | what other replicas send: deltas and whole states |
//! | `clear`, `scope` | whole slots emptied at once: FLUSHALL, FLUSHDB; which databases of them |
//! | `slot`, `rules` | one slot's table, and the steps that changes of it are made of; what they go by |
//! | `mutation` | the primitives that change a key, and their form on the wire |
//! | `deltas` | how changes are recorded and read: those of one key in a row are one chain |
//! | `merge`, `siblings`, `date`, `mark`, `state` | two replicas' states of a key become one |
//! | `digest`, `fingerprint` | what a slot holds, as numbers that replicas compare; names and versions as numbers |
//! | `expiry`, `due`, `eviction`, `access` | how keys leave on their own; when each was used |
//! | `tombstones` | how deletions are forgotten |
//! | `missing_keys`, `unnoticed` | changes that leave nothing to tell WATCH of, and those that it is not told of |
//! | `scan` | walking a table in steps while it changes |
//! | `census` | how many keys there are |
//! | `index`, `name`, `prefetch` | where a slot's entries are, by what hash, and having them fetched in time |
//! | `draws` | where to look for an entry at random |
//! | `entry`, `parts` | one key in memory; what it is made from and shows |
//! | `value`, `counter`, `hash`, `elements` | the types |
//! | `element`, `packed`, `table` | one element of a collection; where those of a small one are, and of a large one |
//! | `whole` | a value apart from any key, for RENAME, COPY and what stores its result |
//! | `size` | what an allocation takes |

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::base::clock::Clock;
use crate::base::ids::{ActorId, SLOT_COUNT, Slot, slot_of};
use crate::base::version::ActorTable;
use crate::store::elements::PackLimits;
use crate::store::index::Whereabouts;
use crate::store::prefetch::prefetch;
use crate::store::rules::Rules;
use crate::store::slot::SlotTable;

mod draws;
pub mod due;
pub mod unnoticed;
pub mod prefetch;
pub mod size;
pub mod counter;
pub mod element;
mod table;
mod packed;
pub mod elements;
pub mod siblings;
pub mod hash;
pub mod value;
mod parts;
pub mod entry;
pub mod index;
pub mod census;
pub mod access;
pub mod rules;
pub mod name;
pub mod scope;
pub mod whole;
pub mod mutation;
pub mod deltas;
pub mod effects;
pub mod state;
mod date;
pub mod fingerprint;
mod mark;
pub mod merge;
pub mod slot;
mod strings;
pub mod clear;
mod apply;
pub mod incoming;
pub mod scan;
pub mod expiry;
pub mod tombstones;
pub mod digest;
pub mod eviction;
pub mod missing_keys;
pub mod keyspace;

#[cfg(test)]
mod clear_tests;
#[cfg(test)]
mod entry_tests;
#[cfg(test)]
mod merge_tests;

pub use effects::{Effects, Event};
pub use keyspace::{Keyspace, ValueRef};
pub use name::{hash_name, in_database};

/// The options that shape values, changeable while the node runs.
#[derive(Debug)]
pub struct Tuning {
    /// `hash-max-listpack-entries`.
    pub hash_entries_max: AtomicUsize,
    /// `hash-max-listpack-value`, in bytes.
    pub hash_value_bytes_max: AtomicUsize,
    /// `set-max-intset-entries`.
    pub intset_entries_max: AtomicUsize,
}

impl Tuning {
    /// Takes over the options of another store.
    pub fn copy_from(&self, other: &Tuning) {
        let copy = |to: &AtomicUsize, from: &AtomicUsize| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        copy(&self.hash_entries_max, &other.hash_entries_max);
        copy(&self.hash_value_bytes_max, &other.hash_value_bytes_max);
        copy(&self.intset_entries_max, &other.intset_entries_max);
    }
}

/// One slot. Lines of its own, so that workers on neighbouring slots do not disturb each other.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct SlotCell {
    index_at: Whereabouts,
    /// The table's earliest deadline, for the sweeper.
    deadline_min_ms: AtomicU64,
    table: Mutex<SlotTable>,
}

impl SlotCell {
    fn beginning_with(layout: u32) -> SlotCell {
        SlotCell { table: Mutex::new(SlotTable { layout, ..SlotTable::default() }), ..SlotCell::default() }
    }
}

// One more line would be a miss a write: `Store::prefetch_slot` has these fetched.
const _: () = assert!(size_of::<SlotCell>() == 2 * 64);

/// Where a key belongs: computed once a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// Its slot.
    pub slot: Slot,
    /// Its hash in database 0, see [`hash_name`].
    pub hash: u64,
}

impl Spot {
    /// Where `key` belongs.
    #[inline]
    pub fn of(key: &[u8]) -> Spot {
        Spot { slot: slot_of(key), hash: hash_name(0, key) }
    }
}

/// All the data of a node.
#[derive(Debug)]
pub struct Store {
    slots: Box<[SlotCell]>,
    /// The clock that stamps this node's writes.
    pub clock: Clock,
    /// The actors this node has met.
    pub actors: ActorTable,
    /// Options that shape values.
    pub tuning: Tuning,
    /// The settings of eviction.
    pub eviction: eviction::Eviction,
    used_bytes: AtomicI64,
    /// See [`Store::tombstone_bytes`].
    tombstone_bytes: AtomicI64,
    /// Keys with a deadline.
    expiring: AtomicI64,
    replicated: AtomicBool,
    still_until_ms: AtomicU64,
    unnoticed: unnoticed::Unnoticed,
    missing_keys: missing_keys::MissingKeys,
    digests: digest::Digests,
    due: due::Due,
}

impl Store {
    /// An empty store whose writes are stamped by `this`.
    pub fn new(this: ActorId) -> Store {
        Store {
            slots: (0..SLOT_COUNT).map(|_| SlotCell::beginning_with(scan::first_layout(this))).collect(),
            clock: Clock::new(),
            actors: ActorTable::new(this),
            tuning: Tuning {
                hash_entries_max: AtomicUsize::new(512),
                hash_value_bytes_max: AtomicUsize::new(64),
                intset_entries_max: AtomicUsize::new(512),
            },
            eviction: eviction::Eviction::default(),
            used_bytes: AtomicI64::new(0),
            tombstone_bytes: AtomicI64::new(0),
            expiring: AtomicI64::new(0),
            replicated: AtomicBool::new(false),
            still_until_ms: AtomicU64::new(0),
            unnoticed: unnoticed::Unnoticed::default(),
            missing_keys: missing_keys::MissingKeys::default(),
            digests: digest::Digests::default(),
            due: due::Due::default(),
        }
    }

    /// True when keys have replicas elsewhere: deletions then leave tombstones and writes are recorded as deltas.
    pub fn is_replicated(&self) -> bool {
        self.replicated.load(Ordering::Relaxed)
    }

    /// Sets whether keys have replicas elsewhere.
    pub fn set_replicated(&self, replicated: bool) {
        self.replicated.store(replicated, Ordering::Relaxed);
    }

    /// Has nothing leave on its own until this time, in milliseconds since 1970: while clients are paused, expired keys
    /// are not seen but stay, and none is evicted, as in Redis.
    pub fn stand_still_until(&self, until_ms: u64) {
        self.still_until_ms.store(until_ms, Ordering::Relaxed);
    }

    /// True while nothing leaves on its own.
    pub fn stands_still(&self, now_ms: u64) -> bool {
        now_ms < self.still_until_ms.load(Ordering::Relaxed)
    }

    /// Bytes that all entries and tables take, as this store counts them.
    pub fn used_bytes(&self) -> u64 {
        u64::try_from(self.used_bytes.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// True when some key has a deadline, in any slot.
    pub fn has_deadlines(&self) -> bool {
        self.expiring.load(Ordering::Relaxed) != 0
    }

    /// Locks the slot of a command's only key, at wall-clock time `now_ms`; `spot` is where that `key` belongs.
    #[inline]
    pub fn lock_key<'s>(
        &'s self,
        key: &[u8],
        spot: Spot,
        db: u8,
        now_ms: u64,
        effects: &'s mut Effects,
    ) -> Keyspace<'s> {
        let table = self.waited_for(spot.slot, &mut effects.has_waited);
        Keyspace::new(self, [(spot.slot, table)].into(), db, now_ms, effects).knowing(key, spot.hash)
    }

    /// Locks one slot for a command at wall-clock time `now_ms`.
    pub fn lock<'s>(&'s self, slot: Slot, db: u8, now_ms: u64, effects: &'s mut Effects) -> Keyspace<'s> {
        Keyspace::new(self, [(slot, self.table(slot))].into(), db, now_ms, effects)
    }

    /// Locks several slots, in ascending order whatever order they come in.
    pub fn lock_many<'s>(&'s self, slots: &[Slot], db: u8, now_ms: u64, effects: &'s mut Effects) -> Keyspace<'s> {
        let mut slots: Vec<Slot> = slots.to_vec();
        slots.sort_unstable();
        slots.dedup();
        let tables = slots.into_iter().map(|slot| (slot, self.waited_for(slot, &mut effects.has_waited))).collect();
        Keyspace::new(self, tables, db, now_ms, effects)
    }

    /// Locks one slot's table as it is, for replication and background work.
    #[inline]
    pub fn table(&self, slot: Slot) -> TableGuard<'_> {
        self.guard(slot, self.cell(slot).table.lock())
    }

    /// As [`Store::table`], and notes whether somebody else had it.
    #[inline]
    fn waited_for(&self, slot: Slot, has_waited: &mut bool) -> TableGuard<'_> {
        let lock = &self.cell(slot).table;
        let table = lock.try_lock().unwrap_or_else(|| {
            *has_waited = true;
            lock.lock()
        });
        self.guard(slot, table)
    }

    #[inline]
    fn guard<'s>(&'s self, slot: Slot, table: MutexGuard<'s, SlotTable>) -> TableGuard<'s> {
        let cell = self.cell(slot);
        let (bytes_before, expiring_before) = (table.footprint_bytes(), table.census.expiring);
        let tombstone_bytes_before = table.tombstone_bytes();
        TableGuard { table, cell, store: self, slot, bytes_before, tombstone_bytes_before, expiring_before }
    }

    /// The slots of a group, of [`due::GROUPS`], in which some key might have passed its deadline when they were last
    /// unlocked. Takes no lock.
    pub fn slots_with_due_keys(&self, group: usize, before_ms: u64) -> Vec<Slot> {
        let is_due = |slot: &Slot| {
            let deadline_ms = self.cell(*slot).deadline_min_ms.load(Ordering::Relaxed);
            self.due.note(*slot, deadline_ms);
            expiry::is_due(deadline_ms, before_ms)
        };
        self.due.take(group, before_ms).filter(is_due).collect()
    }

    /// First of three steps that have a key's memory fetched while other keys are being worked on: the slot itself.
    /// Each step needs what the one before has fetched, so they are made for a dozen keys or more before the next.
    #[inline]
    pub fn prefetch_slot(&self, spot: Spot) {
        let cell: *const SlotCell = self.cell(spot.slot);
        prefetch(cell);
        prefetch(cell.cast::<u8>().wrapping_add(64));
    }

    /// Second step: the line of the slot's index in which the key probably is.
    #[inline]
    pub fn prefetch_index(&self, spot: Spot) {
        self.cell(spot.slot).index_at.prefetch(spot.hash);
    }

    /// Third step: the entry. A slot that somebody has locked is left alone.
    #[inline]
    pub fn prefetch_entry(&self, spot: Spot) {
        if let Some(table) = self.cell(spot.slot).table.try_lock() {
            table.prefetch(spot.hash);
        }
    }

    /// False when the slot held nothing when it was last unlocked. Takes no lock.
    #[inline]
    fn may_hold_entries(&self, slot: Slot) -> bool {
        self.cell(slot).index_at.is_somewhere()
    }

    #[inline]
    fn cell(&self, slot: Slot) -> &SlotCell {
        #[expect(clippy::indexing_slicing, reason = "a Slot is below SLOT_COUNT by construction")]
        &self.slots[slot.index()]
    }

    /// The rules under which mutations are applied now.
    pub fn rules(&self, now_ms: u64) -> Rules {
        let load = |value: &AtomicUsize| value.load(Ordering::Relaxed);
        let value_bytes_max = load(&self.tuning.hash_value_bytes_max);
        Rules {
            tombstones: self.is_replicated(),
            hash: PackLimits {
                entries_max: load(&self.tuning.hash_entries_max),
                member_bytes_max: value_bytes_max,
                // One more for the tag that says whether the field counts.
                payload_bytes_max: value_bytes_max.saturating_add(1),
            },
            set: PackLimits::SET,
            intset_entries_max: load(&self.tuning.intset_entries_max),
            now_s: (now_ms / 1_000) as u32,
            access: self.eviction.use_at(now_ms),
        }
    }
}

/// A locked slot. Adds what its table grew by to the store's counts when it is let go.
#[derive(Debug)]
pub struct TableGuard<'s> {
    table: MutexGuard<'s, SlotTable>,
    cell: &'s SlotCell,
    store: &'s Store,
    slot: Slot,
    bytes_before: usize,
    tombstone_bytes_before: usize,
    expiring_before: u32,
}

impl std::ops::Deref for TableGuard<'_> {
    type Target = SlotTable;

    #[inline]
    fn deref(&self) -> &SlotTable {
        &self.table
    }
}

impl std::ops::DerefMut for TableGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut SlotTable {
        &mut self.table
    }
}

impl Drop for TableGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.table.note_whereabouts(&self.cell.index_at);
        if self.cell.deadline_min_ms.load(Ordering::Relaxed) != self.table.deadline_min_ms {
            self.cell.deadline_min_ms.store(self.table.deadline_min_ms, Ordering::Relaxed);
            self.store.due.note(self.slot, self.table.deadline_min_ms);
        }
        let grown = self.table.footprint_bytes() as i64 - self.bytes_before as i64;
        if grown != 0 {
            self.store.used_bytes.fetch_add(grown, Ordering::Relaxed);
        }
        let grown = self.table.tombstone_bytes() as i64 - self.tombstone_bytes_before as i64;
        if grown != 0 {
            self.store.tombstone_bytes.fetch_add(grown, Ordering::Relaxed);
        }
        let more = i64::from(self.table.census.expiring) - i64::from(self.expiring_before);
        if more != 0 {
            self.store.expiring.fetch_add(more, Ordering::Relaxed);
        }
    }
}

/// The integer that these bytes are the one decimal spelling of: what Redis keeps as a number.
pub fn canonical_int(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || bytes.len() > 20 {
        return None;
    }
    let number: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    let mut digits = itoa::Buffer::new();
    (digits.format(number).as_bytes() == bytes).then_some(number)
}
