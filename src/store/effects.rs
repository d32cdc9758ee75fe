//! What commands do beside answering: deltas for other replicas, counts, events, and what the last lookup saw.
//!
//! A worker keeps one of these and hands it to each `Keyspace`; nothing here locks or decides.

use crate::base::version::Dot;
use crate::store::deltas::Deltas;
use crate::store::entry::Entry;

/// Something that happened to a key, for keyspace notifications.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The class letter of `notify-keyspace-events`.
    pub class: u8,
    /// The event's name, as Redis calls it.
    pub name: &'static str,
    /// The key's database.
    pub db: u8,
    /// The key.
    pub key: Box<[u8]>,
}

/// What commands did beside answering. Reused from command to command; its owner empties it.
#[derive(Debug, Default)]
pub struct Effects {
    /// Deltas to replicate.
    pub deltas: Deltas,
    /// Mutations made.
    pub writes: u64,
    /// Lookups that found a live key.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Keys found expired and deleted on the way.
    pub expired: u64,
    /// The write that the last lookup saw, or that came later; the zero dot when there was no entry.
    pub seen: Dot,
    /// Whether that is known to be all of its version: it names no other actor.
    pub seen_is_plain: bool,
    /// What happened to keys; filled only when `notify` is set.
    pub events: Vec<Event>,
    /// Whether anybody wants events.
    pub notify: bool,
    /// A slot's lock was not free: time has gone by until it was.
    pub has_waited: bool,
    /// Whether the command that runs leaves it unseen that it has used a key.
    pub no_touch: bool,
    /// Whether the command that runs looks keys up only to write them: that is neither a hit nor a miss.
    pub only_writes: bool,
}

impl Effects {
    #[inline]
    pub(super) fn note_lookup(&mut self, found: Option<&Entry>) {
        self.seen = found.map_or(Dot::default(), Entry::dot);
        self.seen_is_plain = found.is_none_or(Entry::context_is_empty);
    }

    /// A write of the key that was looked up last, on whatever version.
    #[inline]
    pub(super) fn note_write(&mut self, dot: Dot) {
        self.seen = dot;
        self.seen_is_plain = false;
    }

    /// Lookups so far: those that found a live key, and those that did not.
    pub fn lookups(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    #[inline]
    pub(super) fn note_hit(&mut self) {
        self.hits += u64::from(!self.only_writes);
    }

    #[inline]
    pub(super) fn note_miss(&mut self, db: u8, key: &[u8]) {
        if self.only_writes {
            return;
        }
        self.misses += 1;
        if self.notify {
            self.events.push(Event { class: b'm', name: "keymiss", db, key: key.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::store::Store;
    use crate::store::mutation::Mutation;

    #[test]
    fn what_a_write_was_made_on_is_not_taken_for_known() {
        let (store, mut effects) = (Store::new(ActorId { node: 1, generation: 1 }), Effects::default());
        let mut keys = store.lock(slot_of(b"k"), 0, 1, &mut effects);
        keys.read(b"k");
        assert!(keys.effects().seen_is_plain && keys.effects().seen == Dot::default());
        keys.write(b"k", Mutation::Add { by: 1 });
        assert!(!keys.effects().seen_is_plain && keys.effects().seen == keys.seen(b"k").0);
    }
}
