//! Keys that are not there and that somebody watches: whether they have been written since.
//!
//! Where a deletion leaves a tombstone, its stamp tells that a key has come and gone; where FLUSHALL, expiry or
//! eviction left none, the latest stamp of what its slot has forgotten tells that it may have. A node without replicas
//! keeps neither, so it counts the writes of the keys that WATCH did not find, as long as somebody holds an
//! [`MissingKey`]. While nobody does, a write pays one load.
//!
//! Exact, and bounded by what is watched. Watch and write under the lock of the key's slot.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::store::Store;

/// A key's database and the key.
type Name = (u8, Box<[u8]>);

/// See the head of the file.
#[derive(Debug, Default)]
pub struct MissingKeys(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many keys there are.
    count: AtomicUsize,
    keys: Mutex<HashMap<Name, Watches>>,
}

#[derive(Debug, Default)]
struct Watches {
    holders: usize,
    written: u64,
}

/// A key that was not there: knows whether it has been written since, for as long as it is held.
#[derive(Debug)]
pub struct MissingKey {
    shared: Arc<Shared>,
    name: Name,
    written_before: u64,
}

impl Store {
    /// Watches a key that is not there, where its deletion would leave nothing that tells that it has been there.
    pub fn watch_missing(&self, db: u8, key: &[u8]) -> Option<MissingKey> {
        (!self.is_replicated()).then(|| self.missing_keys.watch(db, key))
    }
}

impl MissingKeys {
    fn watch(&self, db: u8, key: &[u8]) -> MissingKey {
        self.0.hold((db, key.into()))
    }

    /// Notes that a key is being written.
    #[inline]
    pub fn note_write(&self, db: u8, key: &[u8]) {
        if self.0.count.load(Ordering::Relaxed) != 0
            && let Some(watches) = self.0.keys.lock().get_mut(&(db, Box::from(key)))
        {
            watches.written += 1;
        }
    }
}

impl Shared {
    fn hold(self: &Arc<Shared>, name: Name) -> MissingKey {
        let mut keys = self.keys.lock();
        let watches = keys.entry(name.clone()).or_default();
        watches.holders += 1;
        let written_before = watches.written;
        self.count.store(keys.len(), Ordering::Relaxed);
        MissingKey { shared: self.clone(), name, written_before }
    }
}

impl MissingKey {
    /// Whether the key has been written since it was watched.
    pub fn is_over(&self) -> bool {
        self.shared.keys.lock().get(&self.name).is_some_and(|watches| watches.written != self.written_before)
    }
}

impl Clone for MissingKey {
    fn clone(&self) -> MissingKey {
        let mut copy = self.shared.hold(self.name.clone());
        copy.written_before = self.written_before;
        copy
    }
}

impl Drop for MissingKey {
    fn drop(&mut self) {
        let mut keys = self.shared.keys.lock();
        let is_last = keys.get_mut(&self.name).is_some_and(|watches| {
            watches.holders -= 1;
            watches.holders == 0
        });
        if is_last {
            keys.remove(&self.name);
            self.shared.count.store(keys.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::ids::{ActorId, Slot, slot_of};
    use crate::store::Effects;
    use crate::store::expiry::{Sweep, SweepRules};
    use crate::store::mutation::Mutation;
    use crate::store::name::Name;
    use crate::store::scope::Scope;

    /// Each way in which a key goes without a trace.
    #[test]
    fn a_slot_knows_how_late_what_it_has_forgotten_was_written() {
        type Way = fn(&Store, Slot, &mut Effects);
        let ways: [(&str, Way); 4] = [
            ("cleared", |store, slot, effects| store.lock(slot, 0, 3_000, effects).clear(Scope::All)),
            ("evicted", |store, slot, _| {
                store.table(slot).forget(Name::of(0, b"k"));
            }),
            ("expired", |store, slot, _| {
                let rules = SweepRules { before_ms: 5_000, keep_tombstones: false };
                store.table(slot).sweep(Sweep::default(), rules, drop);
            }),
            ("collected", |store, slot, effects| {
                store.lock(slot, 0, 3_000, effects).write(b"k", Mutation::Delete);
                store.collect_tombstones(slot, Hlc(u64::MAX));
            }),
        ];
        for (way, go) in ways {
            let (store, slot) = (Store::new(ActorId { node: 1, generation: 1 }), slot_of(b"k"));
            store.set_replicated(true);
            let mut effects = Effects::default();
            let before = store.clock.tick(2_000);
            store.lock(slot, 0, 2_000, &mut effects).write(b"k", Mutation::Assign { value: b"v", deadline_ms: 4_000 });
            let after = store.clock.latest(2_500);
            assert!(!store.table(slot).has_forgotten_since(before), "{way}: still there");
            go(&store, slot, &mut effects);
            let keys = store.lock(slot, 0, 3_000, &mut effects);
            assert!(keys.entry(b"k").is_none() && keys.may_have_been_there(b"k", before), "{way}");
            // The deletion before it was forgotten is a later write.
            assert_eq!(keys.may_have_been_there(b"k", after), way == "collected", "{way}");
        }
    }

    #[test]
    fn who_watches_hears_of_later_writes_of_that_key_and_nothing_stays_behind() {
        let missing_keys = MissingKeys::default();
        missing_keys.note_write(0, b"k");
        let first = missing_keys.watch(0, b"k");
        missing_keys.note_write(1, b"k");
        missing_keys.note_write(0, b"other");
        assert!(!first.is_over());
        missing_keys.note_write(0, b"k");
        let second = missing_keys.watch(0, b"k");
        assert!(first.is_over() && !second.is_over());
        let third = first.clone();
        drop(first);
        assert!(third.is_over(), "a copy goes on from where it was made of");
        missing_keys.note_write(0, b"k");
        assert!(second.is_over());
        drop((second, third));
        assert_eq!((missing_keys.0.count.load(Ordering::Relaxed), missing_keys.0.keys.lock().len()), (0, 0));
    }
}
