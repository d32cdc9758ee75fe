//! What other replicas send: deltas and whole states, let into a slot's table if they are news to it.
//!
//! A delta is applied by the same function as a command's mutation (`SlotTable::apply`) if the table holds what it
//! builds on; a state is merged. What a clear takes away that the table holds (`clear`) is left outside, and a clear
//! that comes in takes effect at once.
//!
//! Invariant: after each of these the table holds the version that it says it holds, and all that this version says.

use crate::base::version::{ActorTable, Relation, Version};
use crate::store::entry::Entry;
use crate::store::merge::{Merged, merge};
use crate::store::mutation::Delta;
use crate::store::name::Name;
use crate::store::rules::Rules;
use crate::store::scope::{Scope, is_clear};
use crate::store::slot::SlotTable;
use crate::store::state::{Content, State};

/// What came of a peer's delta.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// This replica now holds the delta's version.
    Yes,
    /// It already held that version or one that has seen it.
    Already,
    /// A conflict was found and settled; the result may differ from the sender's.
    Conflict,
    /// The delta builds on a version that this replica does not hold: it needs the key's whole state.
    NeedsState,
}

impl SlotTable {
    /// Applies a peer's delta if this replica holds what it builds on.
    pub fn apply_delta(&mut self, name: Name<'_>, delta: &Delta<'_>, rules: &Rules, actors: &ActorTable) -> Applied {
        if self.is_cleared(name.db, delta.version.dot.hlc) {
            // Its sender has not heard of the clear, and shall; that of one database says no more than that of all.
            return if is_clear(name.db) { Applied::Already } else { Applied::NeedsState };
        }
        if self.overwrite(name, &delta.version, &delta.mutation, rules) {
            return Applied::Yes;
        }
        let applied = self.apply_named(name, delta, rules);
        if applied == Applied::Yes {
            self.sweep_if_clear(name, actors);
        }
        applied
    }

    fn apply_named(&mut self, name: Name<'_>, delta: &Delta<'_>, rules: &Rules) -> Applied {
        let (dot, version) = (delta.version.dot, &delta.version);
        // A key that its sender began on another clear than our latest, or on none, is asked for whole. Changed here in
        // part, it would begin on our clear, and that be merged with theirs as a deletion that it has not seen, though
        // it is later than both.
        let clear = if delta.mutation.may_create_in_part() { self.cleared(name.db).map(Version::first) } else { None };
        if clear.is_some() && clear == delta.base {
            self.bury_absent(name);
        }
        let Some(entry) = self.find(name) else {
            if clear.is_some() || delta.base.is_some() {
                return Applied::NeedsState;
            }
            self.apply(name, dot, &delta.mutation, rules);
            self.set_version(name, version);
            return Applied::Yes;
        };
        if delta.mutation.stands_alone() {
            return match entry.version().relation(version) {
                Relation::Equal | Relation::Newer => Applied::Already,
                Relation::Older => {
                    self.apply(name, dot, &delta.mutation, rules);
                    self.set_version(name, version);
                    Applied::Yes
                }
                Relation::Concurrent => Applied::NeedsState,
            };
        }
        if delta.base.as_ref().is_some_and(|base| base.dot == entry.dot() && *base == entry.version()) {
            if entry.is_expired_tombstone() {
                // Whoever built on this version has seen the key live.
                return Applied::NeedsState;
            }
            self.apply(name, dot, &delta.mutation, rules);
            self.set_version(name, version);
            return Applied::Yes;
        }
        match entry.version().relation(version) {
            Relation::Equal | Relation::Newer => Applied::Already,
            Relation::Older | Relation::Concurrent => Applied::NeedsState,
        }
    }

    /// Merges a peer's whole state of a key into ours.
    pub fn merge(&mut self, name: Name<'_>, theirs: State, rules: &Rules, actors: &ActorTable) -> Applied {
        let Some(theirs) = self.cut(name.db, theirs, actors) else { return Applied::Already };
        let merged = self.find(name).map_or(Merged::Theirs, |entry| merge(&State::of(entry), &theirs, actors));
        let (state, applied) = match merged {
            Merged::Ours => return Applied::Already,
            Merged::Theirs => (theirs, Applied::Yes),
            // Two clears do not contradict each other.
            Merged::Both(state) => (*state, if is_clear(name.db) { Applied::Yes } else { Applied::Conflict }),
        };
        self.put_state(name, state, rules);
        self.sweep_if_clear(name, actors);
        applied
    }

    /// Has a clear that has just come in take effect.
    fn sweep_if_clear(&mut self, name: Name<'_>, actors: &ActorTable) {
        if let Some(scope) = Scope::of(name)
            && let Some(dot) = self.find(name).map(Entry::dot)
        {
            self.sweep_cleared(scope, dot, actors);
        }
    }

    fn put_state(&mut self, name: Name<'_>, state: State, rules: &Rules) {
        if state.content == Content::Tombstone && !rules.tombstones {
            self.forget(name);
            return;
        }
        self.note_change();
        let deadline_ms = state.deadline_ms;
        // What was not here has been used somewhere; when is not known, and to be the first to go for that would be
        // wrong.
        let access = self.find(name).map_or_else(|| rules.access.after(0), Entry::access);
        self.put_entry(name, state.into_entry(name.db, name.key, access));
        self.note_deadline(deadline_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::base::version::Actor;
    use crate::base::wire::Reader;
    use crate::store::deltas::{Chain, chains};
    use crate::store::expiry::{Sweep, SweepRules};
    use crate::store::keyspace::value_ref;
    use crate::store::merge_tests::show;
    use crate::store::mutation::Mutation;
    use crate::store::{Effects, Store};

    const KEY: &[u8] = b"k";

    fn name() -> Name<'static> {
        Name::of(0, KEY)
    }

    /// Writes at one store, and has the other apply the deltas.
    fn write(here: &Store, there: &Store, now_ms: u64, mutation: Mutation<'_>) {
        assert!(sent(here, there, now_ms, mutation).iter().all(|applied| *applied == Applied::Yes));
    }

    /// Has one store take in the key's state as the other sees it.
    fn give(here: &Store, there: &Store, now_ms: u64) -> Applied {
        let mut bytes = Vec::new();
        State::of(here.table(slot_of(KEY)).find(name()).expect("an entry")).encode(&mut bytes, &here.actors);
        let state = State::decode(&mut Reader::new(&bytes), &there.actors).expect("own bytes");
        there.table(slot_of(KEY)).merge(name(), state, &there.rules(now_ms), &there.actors)
    }

    fn sweep(store: &Store) {
        let rules = SweepRules { before_ms: 1_500, keep_tombstones: true };
        store.table(slot_of(KEY)).sweep(Sweep::default(), rules, |_| {});
    }

    /// Writes at one store, and gives what came of the deltas at the other.
    fn sent(here: &Store, there: &Store, now_ms: u64, mutation: Mutation<'_>) -> Vec<Applied> {
        let mut effects = Effects::default();
        let mut keys = here.lock(slot_of(KEY), 0, now_ms, &mut effects);
        keys.write(KEY, mutation);
        let deltas = keys.take_deltas();
        let sender = there.actors.intern(here.actors.id(Actor::SELF)).expect("room");
        let read = chains(&deltas).flat_map(|chain| Chain::new(chain, sender, &there.actors));
        let apply =
            |delta: Delta<'_>| there.table(delta.slot).apply_delta(name(), &delta, &there.rules(now_ms), &there.actors);
        read.map(|delta| apply(delta.expect("own bytes"))).collect()
    }

    fn shown(store: &Store) -> (Version, u64, Option<String>) {
        let table = store.table(slot_of(KEY));
        let entry = table.find(name()).expect("an entry");
        let text = value_ref(entry).and_then(|view| Some(String::from_utf8_lossy(&view.text()?).into_owned()));
        (named(entry, store), entry.deadline_ms(), text)
    }

    /// The version with all actors but this one's named as the only other there is.
    fn named(entry: &Entry, store: &Store) -> Version {
        let mut version = entry.version();
        let node = |actor| Actor(store.actors.id(actor).node as u16);
        version.dot.actor = node(version.dot.actor);
        version.context.iter_mut().for_each(|dot| dot.actor = node(dot.actor));
        version
    }

    /// RENAME of a number takes away what it has read: an increment that came meanwhile would go with it.
    #[test]
    fn what_is_merged_below_the_last_write_is_a_change() {
        let [here, there] = [1, 2].map(|node| Store::new(ActorId { node, generation: 1 }));
        [&here, &there].into_iter().for_each(|store| store.set_replicated(true));
        sent(&here, &there, 500, Mutation::Add { by: 1 });
        let alone = Store::new(ActorId { node: 3, generation: 1 });
        alone.set_replicated(true);
        sent(&alone, &here, 900, Mutation::Add { by: 2 });
        let mut effects = Effects::default();
        let seen = alone.lock(slot_of(KEY), 0, 1_000, &mut effects).version_of(KEY).0;
        assert_eq!(give(&there, &alone, 1_000), Applied::Conflict);
        let keys = alone.lock(slot_of(KEY), 0, 1_000, &mut effects);
        assert_eq!(keys.seen(KEY).0, seen.dot);
        assert!(!keys.is_as_seen(KEY, &seen));
    }

    #[test]
    fn nothing_is_built_on_what_expiry_alone_has_left() {
        let parts = [
            Mutation::Add { by: 1 },
            Mutation::Expire { deadline_ms: 9_000 },
            Mutation::Patch { offset: 0, bytes: b"6" },
        ];
        for (mutation, is_swept) in parts.into_iter().flat_map(|part| [(part, true), (part, false)]) {
            let [here, there] = [1, 2].map(|node| Store::new(ActorId { node, generation: 1 }));
            [&here, &there].into_iter().for_each(|store| store.set_replicated(true));
            write(&here, &there, 500, Mutation::Assign { value: b"57", deadline_ms: 1_000 });
            if is_swept {
                sweep(&there);
            } else {
                let third = Store::new(ActorId { node: 3, generation: 1 });
                third.set_replicated(true);
                assert_eq!(give(&here, &third, 1_500), Applied::Yes);
                sweep(&third);
                there.table(slot_of(KEY)).forget(name());
                assert_eq!(give(&third, &there, 1_500), Applied::Yes);
            }
            // The clock here is behind: it still counts the key live.
            assert_eq!(sent(&here, &there, 900, mutation), [Applied::NeedsState], "{mutation:?}");
            assert_eq!(give(&here, &there, 900), Applied::Yes);
            assert_eq!(shown(&here), shown(&there), "{mutation:?}");
        }
    }

    /// Replicas of which one counts a key live that the other does not: what they make of a conflict must be the same.
    #[test]
    fn what_comes_of_a_conflict_does_not_depend_on_whose_clock_has_passed_a_deadline() {
        let held =
            |store: &Store| show(&State::of(store.table(slot_of(KEY)).find(name()).expect("an entry")), &store.actors);
        let stores = [1, 2, 3, 4].map(|node| Store::new(ActorId { node, generation: 1 }));
        stores.iter().for_each(|store| store.set_replicated(true));
        let [here, there, ahead, behind] = &stores;
        write(here, ahead, 500, Mutation::AddMember { member: b"a" });
        write(here, ahead, 500, Mutation::Expire { deadline_ms: 1_000 });
        assert_eq!(give(here, behind, 500), Applied::Yes);
        sent(there, behind, 600, Mutation::AddMember { member: b"b" });
        assert_eq!([give(there, ahead, 1_400), give(there, behind, 600)], [Applied::Conflict; 2]);
        assert_eq!(held(ahead), held(behind), "merged with what had expired, and with what had not");
        // Where the sweeper has been, nothing is left to be merged; that is a version of its own.
        sweep(here);
        assert_eq!(give(there, here, 1_600), Applied::Conflict);
        assert_ne!(held(here), held(behind));
        assert_eq!([give(here, behind, 1_600), give(behind, ahead, 1_600)], [Applied::Yes; 2]);
        assert_eq!([give(behind, here, 1_600), give(ahead, here, 1_600)], [Applied::Already; 2]);
        [behind, ahead].into_iter().for_each(|store| assert_eq!(held(store), held(here)));
    }

    #[test]
    fn a_deletion_is_built_on() {
        let [here, there] = [1, 2].map(|node| Store::new(ActorId { node, generation: 1 }));
        [&here, &there].into_iter().for_each(|store| store.set_replicated(true));
        write(&here, &there, 500, Mutation::Assign { value: b"57", deadline_ms: 1_000 });
        write(&here, &there, 600, Mutation::Delete);
        there.table(slot_of(KEY)).forget(name());
        assert_eq!(give(&here, &there, 600), Applied::Yes);
        write(&here, &there, 700, Mutation::Add { by: 1 });
        assert_eq!(shown(&here), shown(&there));
    }

    #[test]
    fn who_has_not_swept_an_expired_key_yet_does_not_build_on_it() {
        let [here, there] = [1, 2].map(|node| Store::new(ActorId { node, generation: 1 }));
        [&here, &there].into_iter().for_each(|store| store.set_replicated(true));
        for mutation in [Mutation::Add { by: 1 }, Mutation::PutField { field: b"f", value: b"v" }] {
            write(&here, &there, 500, Mutation::Assign { value: b"57", deadline_ms: 1_000 });
            sweep(&here);
            write(&here, &there, 2_000, mutation);
            write(&here, &there, 2_000, Mutation::Expire { deadline_ms: 9_000 });
            assert_eq!(shown(&here), shown(&there), "{mutation:?}");
        }
    }

    /// Nodes that hold a slot for others clear it a moment later than its coordinator does: so theirs is another clear.
    #[test]
    fn what_began_anew_on_an_earlier_clear_or_on_none_survives_a_later_one_that_was_before_it() {
        let clear = |store: &Store, now_ms| {
            store.lock(slot_of(KEY), 0, now_ms, &mut Effects::default()).clear(Scope::All);
        };
        for is_cleared_here in [true, false] {
            let [here, there] = [1, 2].map(|node| Store::new(ActorId { node, generation: 1 }));
            [&here, &there].into_iter().for_each(|store| store.set_replicated(true));
            if is_cleared_here {
                clear(&here, 500);
            }
            clear(&there, 600);
            assert_eq!(sent(&here, &there, 700, Mutation::Add { by: 1 }), [Applied::NeedsState]);
            assert!(there.table(slot_of(KEY)).find(name()).is_none(), "a trace would be merged as a deletion");
            assert_eq!(give(&here, &there, 700), Applied::Yes);
            write(&here, &there, 800, Mutation::Add { by: 1 });
            assert_eq!((shown(&here), shown(&there).2.as_deref()), (shown(&there), Some("2")));
        }
    }
}
