//! What other replicas send: deltas and whole states, let into a slot's table if they are news to it.
//!
//! A delta is applied by the same function as a command's mutation (`SlotTable::apply`) if the table holds what it builds
//! on; a state is merged. What a clear takes away that the table holds (`clear`) is left outside, and a clear that comes
//! in takes effect at once.
//!
//! Invariant: after each of these the table holds the version that it says it holds, and all that this version says.

use crate::base::version::{ActorTable, Relation};
use crate::store::clear::{Scope, is_clear};
use crate::store::entry::Entry;
use crate::store::merge::{Merged, merge};
use crate::store::mutation::Delta;
use crate::store::slot::{Name, Rules, SlotTable};
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
        let applied = self.apply_named(name, delta, rules);
        if applied == Applied::Yes {
            self.sweep_if_clear(name, actors);
        }
        applied
    }

    fn apply_named(&mut self, name: Name<'_>, delta: &Delta<'_>, rules: &Rules) -> Applied {
        let (dot, version) = (delta.version.dot, &delta.version);
        if delta.mutation.may_create_in_part() {
            self.bury_absent(name);
        }
        let Some(entry) = self.find(name) else {
            if delta.base.is_some() {
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
    pub fn merge(&mut self, name: Name<'_>, theirs: State, now_ms: u64, rules: &Rules, actors: &ActorTable) -> Applied {
        let Some(theirs) = self.cut(name.db, theirs, actors) else { return Applied::Already };
        let merged = self.find(name).map_or(Merged::Theirs, |entry| merge(&State::of(entry, now_ms), &theirs, actors));
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
        let access = self.find(name).map_or(0, Entry::access);
        self.put_entry(name, state.into_entry(name.db, name.key, access));
        self.note_deadline(deadline_ms);
    }
}
