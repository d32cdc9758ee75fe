//! A slot cleared at once: what FLUSHALL and FLUSHDB leave behind instead of a tombstone for each key.
//!
//! A clear is an entry of the slot's table, a tombstone under a name that no key has ([`Scope::name`]): so it is
//! replicated, handed over, compared, merged and in the end forgotten as any deleted key is, and takes as much room. A
//! slot has one for all databases and one for each database at most.
//!
//! It is a cut in time: what was written in its databases at or before its stamp is gone, on whatever replica and
//! whoever knew of it. Strings go by the write that they are of, counters by their last, fields and members each by its
//! own, so that an element which somebody put later, not knowing of the clear, survives alone ([`without`]). To merge
//! with a clear is to merge with a deletion that has seen every write up to its stamp: one rule
//! (`merge::merge_concurrent`) for both.
//!
//! Invariant: in a table that holds a clear nothing is left that it takes away. `SlotTable` keeps it at its three
//! doors: a clear that comes sweeps the table, states and deltas that come are cut before.
//!
//! A key that is not there counts, in a cleared slot, as deleted by the clear: a counter that begins anew is based on
//! that deletion ([`SlotTable::base_of`]), so that no tombstone from before the clear can win over it.

use crate::base::clock::Hlc;
use crate::base::version::{Actor, ActorTable, Context, Dot, Version};
use crate::store::census::{Census, One};
use crate::store::elements::Elements;
use crate::store::entry::{Data, Entry, Meta, Payload};
use crate::store::merge::merge_concurrent;
use crate::store::mutation::Mutation;
use crate::store::name::{Name, hash_of};
use crate::store::scope::{Scope, is_clear};
use crate::store::siblings;
use crate::store::slot::SlotTable;
use crate::store::state::{Content, State};
use crate::store::value::Value;

impl SlotTable {
    /// The latest clear that this database has been through, as far as it is remembered.
    #[inline]
    pub fn cleared(&self, db: u8) -> Option<Dot> {
        if self.cleared_at == Hlc(0) {
            return None;
        }
        self.clears_of(db).map(Entry::dot).max_by_key(|dot| dot.hlc)
    }

    /// The clears that concern this database: for whoever may not have heard of them.
    pub fn clears_of(&self, db: u8) -> impl Iterator<Item = &Entry> {
        let scopes = [Scope::All, Scope::Database(db)];
        let is_any = self.cleared_at != Hlc(0) && !is_clear(db);
        scopes.into_iter().filter(move |_| is_any).filter_map(|scope| self.find(scope.name()))
    }

    /// The version that a mutation builds on: that of its key's entry, or, where there is none and only part of a value
    /// is made, that of the clear.
    #[inline]
    pub(super) fn base_of(&self, name: Name<'_>, mutation: &Mutation<'_>) -> Option<Version> {
        match self.find(name) {
            Some(entry) => Some(entry.version()),
            None if mutation.may_create_in_part() => self.cleared(name.db).map(Version::first),
            None => None,
        }
    }

    /// Puts the deletion that a clear stands for where a key that is not there is about to be changed in part.
    pub(super) fn bury_absent(&mut self, name: Name<'_>) {
        if self.cleared_at == Hlc(0) || self.find(name).is_some() {
            return;
        }
        if let Some(dot) = self.cleared(name.db) {
            let version = Version::first(dot);
            self.put_entry(name, Entry::new(name.db, name.key, Payload::Tombstone, &version, Meta::default()));
        }
    }

    /// Whether a write with this stamp is taken away by a clear that this table holds.
    #[inline]
    pub(super) fn is_cleared(&self, db: u8, stamp: Hlc) -> bool {
        stamp <= self.cleared_at && self.clear_over(db).is_some_and(|dot| stamp <= dot.hlc)
    }

    /// What the clears of this table leave of a state that comes in.
    pub(super) fn cut(&self, db: u8, state: State, actors: &ActorTable) -> Option<State> {
        match self.clear_over(db) {
            Some(dot) if is_touched(state.written(), elements_of(&state.content), dot.hlc) => {
                without(state, dot, actors)
            }
            _ => Some(state),
        }
    }

    /// The clear that entries under this number are subject to: those of one database's clear to that of all of them.
    fn clear_over(&self, db: u8) -> Option<Dot> {
        match Scope::All.name() {
            _ if !is_clear(db) => self.cleared(db),
            of_all => self.find(of_all).filter(|_| db != of_all.db).map(Entry::dot),
        }
    }

    /// Takes away what a clear of this scope stamped `dot` does, and gives back its memory; gives how many keys are
    /// gone.
    pub fn sweep_cleared(&mut self, scope: Scope, dot: Dot, actors: &ActorTable) -> usize {
        let len = self.len();
        let (mut bytes, mut census, mut cleared_at, mut forgotten_at) = (0, Census::default(), Hlc(0), Hlc(0));
        self.index.retain(hash_of, |entry| {
            let stamp = entry.dot().hlc;
            let left = if scope.includes(entry.db()) { left_of(entry, dot, actors) } else { Some(entry) };
            let Some(kept) = left else {
                forgotten_at = forgotten_at.max(stamp);
                return None;
            };
            let counted = One::of(&kept);
            bytes += counted.bytes();
            census += counted;
            if is_clear(kept.db()) {
                cleared_at = cleared_at.max(kept.dot().hlc);
            }
            Some(kept)
        });
        (self.bytes, self.census, self.cleared_at) = (bytes, census, cleared_at);
        self.note_forgotten(forgotten_at);
        self.layout = self.layout.wrapping_add(1);
        self.note_change();
        len - self.len()
    }
}

/// What a clear leaves of an entry.
fn left_of(entry: Entry, clear: Dot, actors: &ActorTable) -> Option<Entry> {
    let elements = match entry.data() {
        Data::Value(value) => elements_in(value),
        Data::String(_) | Data::Tombstone => None,
    };
    if entry.dot().hlc <= clear.hlc && entry.context_is_empty() {
        return None;
    }
    if !is_touched(entry.written(), elements, clear.hlc) {
        return Some(entry);
    }
    let state = without(State::of(&entry), clear, actors)?;
    Some(state.into_entry(entry.db(), entry.key(), entry.access()))
}

/// Whether something in a value, which as a register was written so, was written at or before a clear's stamp.
fn is_touched(written: Dot, elements: Option<&Elements>, clear: Hlc) -> bool {
    match elements {
        None => written.hlc <= clear,
        Some(elements) => elements.iter().any(|element| {
            element.dot.hlc <= clear || siblings::writes(element).iter().any(|(dot, _)| dot.hlc <= clear)
        }),
    }
}

/// What a clear leaves of a state: the state merged with a deletion that has seen all that is not later. `None` when
/// nothing is left to be remembered.
fn without(mut state: State, clear: Dot, actors: &ActorTable) -> Option<State> {
    // Where both have the same stamp, whoever gave it.
    if matches!(state.content, Content::String(_)) && state.written().hlc <= clear.hlc {
        state.rest = Some(Dot::default());
    }
    let seen = || [state.version.dot].into_iter().chain(state.version.context.iter().copied());
    if seen().all(|dot| dot.hlc <= clear.hlc) {
        return None;
    }
    // It has seen no mark: that would be the same one on whatever was marked differently. A floor is no author, but
    // stands for some.
    let others = seen().filter(|dot| dot.actor != clear.actor && dot.actor != Actor::MARK);
    let seen_of = |dot: Dot| match dot.actor {
        Actor::FLOOR => Dot { hlc: dot.hlc.min(clear.hlc), ..dot },
        actor => Dot { hlc: clear.hlc, actor },
    };
    let mut context: Context = others.map(seen_of).collect();
    context.sort_unstable_by_key(|dot| dot.actor);
    let version = Version { dot: clear, context };
    let content = Content::Tombstone;
    let deletion = State { version, deadline_ms: 0, created_s: 0, content, rest: None, has_expired: false };
    // Whatever the versions say: a state may have seen the clear from one that was cut, and elements from one that was
    // not.
    Some(merge_concurrent(&state, &deletion, actors))
}

fn elements_of(content: &Content) -> Option<&Elements> {
    match content {
        Content::Value(value) => elements_in(value),
        Content::String(_) | Content::Tombstone => None,
    }
}

fn elements_in(value: &Value) -> Option<&Elements> {
    match value {
        Value::Hash(fields) => Some(fields),
        Value::Set(set) => Some(&set.members),
        Value::Counter(_) => None,
    }
}
