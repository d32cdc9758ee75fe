//! Merging two replicas' states of one key: the one operation behind replication, repair, handoff and healing.
//!
//! A state that has seen the other simply replaces it. Of two that have not seen each other:
//! - registers (strings, counters, tombstones): the later base wins; counters on the same base add up;
//! - hashes and sets: an element survives unless the other side saw it and no longer has it (add wins; Bieniusa et
//!   al., "An optimized conflict-free replicated set", 2012); a field written on both sides is merged as `hash` says;
//! - different types: a set beats a hash beats a register, so that every node picks alike, as long as the
//!   collection keeps an element that the other side had not seen;
//! - the deadline is that of the later write; of equal ones the longer.
//!
//! The merge of given states takes no stamp and asks no clock, and is commutative, associative and idempotent for
//! states of the same type; the property tests in `merge_tests` show it.

use crate::base::version::{ActorTable, Dot, Relation, Version};
use crate::store::counter::Counter;
use crate::store::elements::{Elements, PackLimits};
use crate::store::hash;
use crate::store::state::{Content, State};
use crate::store::value::{Set, Value};

/// What came of a merge.
#[derive(Clone, PartialEq, Debug)]
pub enum Merged {
    /// Ours is the same write, or has seen theirs: nothing to do.
    Ours,
    /// Theirs has seen ours: it takes its place.
    Theirs,
    /// A conflict, settled: this takes the place of both.
    Both(Box<State>),
}

/// Decides between our state and theirs.
pub fn merge(ours: &State, theirs: &State, actors: &ActorTable) -> Merged {
    match ours.version.relation(&theirs.version) {
        Relation::Equal | Relation::Newer => Merged::Ours,
        Relation::Older => Merged::Theirs,
        Relation::Concurrent => Merged::Both(Box::new(settle(ours, theirs, actors))),
    }
}

fn settle(a: &State, b: &State, actors: &ActorTable) -> State {
    let version = a.version.joined(&b.version, actors);
    let later_is_a = version.dot == a.version.dot;
    let later = if later_is_a { a } else { b };
    let deadline_ms = later.deadline_ms;
    let created_s = a.created_s.min(b.created_s);
    let content =
        settle_sets(a, b).or_else(|| settle_hashes(a, b, actors)).unwrap_or_else(|| settle_registers(a, b, actors));
    State { version, deadline_ms, created_s, content }
}

fn set_of(state: &State) -> Option<&Set> {
    match &state.content {
        Content::Value(value) => match &**value {
            Value::Set(set) => Some(set),
            Value::Counter(_) | Value::Hash(_) => None,
        },
        Content::String(_) | Content::Tombstone => None,
    }
}

fn hash_of(state: &State) -> Option<&Elements> {
    match &state.content {
        Content::Value(value) => match &**value {
            Value::Hash(fields) => Some(fields),
            Value::Counter(_) | Value::Set(_) => None,
        },
        Content::String(_) | Content::Tombstone => None,
    }
}

fn settle_sets(a: &State, b: &State) -> Option<Content> {
    let (ours, theirs) = (set_of(a), set_of(b));
    let mut members = Elements::default();
    keep_unseen(&mut members, ours.map(|set| &set.members), theirs.map(|set| &set.members), &b.version);
    keep_unseen(&mut members, theirs.map(|set| &set.members), ours.map(|set| &set.members), &a.version);
    if members.is_empty() {
        return None;
    }
    let intset = ours.is_none_or(|set| set.intset) && theirs.is_none_or(|set| set.intset);
    Some(Content::Value(Box::new(Value::Set(Set { members, intset }))))
}

/// Adds to `into` each element of `from` that the other side still has under the same dot, or has not seen.
fn keep_unseen(into: &mut Elements, from: Option<&Elements>, other: Option<&Elements>, seen: &Version) {
    for element in from.into_iter().flat_map(Elements::iter) {
        let there = other.and_then(|other| other.get(element.member));
        let same = there.is_some_and(|there| there.dot == element.dot);
        if !same && seen.covers(element.dot) {
            continue;
        }
        // Both sides may have added it: the later dot stays, and a merge the other way round decides alike.
        match into.get(element.member) {
            Some(present) if present.dot.hlc >= element.dot.hlc => {}
            _ => drop(into.put(element.member, element.dot, element.payload, PackLimits::SET)),
        }
    }
}

fn settle_hashes(a: &State, b: &State, actors: &ActorTable) -> Option<Content> {
    let (ours, theirs) = (hash_of(a), hash_of(b));
    let mut fields = Elements::default();
    for field in ours.into_iter().flat_map(Elements::iter) {
        match theirs.and_then(|theirs| theirs.get(field.member)) {
            Some(there) if there.dot == field.dot => {
                fields.put(field.member, field.dot, field.payload, PackLimits::TRANSFER_HASH);
            }
            Some(there) => match (b.version.covers(field.dot), a.version.covers(there.dot)) {
                // One side wrote the field knowing the other's value; bytes simply replace it, a counter has it inside.
                (true, false) => drop(fields.put(field.member, there.dot, there.payload, PackLimits::TRANSFER_HASH)),
                (false, true) => drop(fields.put(field.member, field.dot, field.payload, PackLimits::TRANSFER_HASH)),
                _ => hash::merge_field(&mut fields, field, there, PackLimits::TRANSFER_HASH, actors),
            },
            None if b.version.covers(field.dot) => {}
            None => drop(fields.put(field.member, field.dot, field.payload, PackLimits::TRANSFER_HASH)),
        }
    }
    for field in theirs.into_iter().flat_map(Elements::iter) {
        let here = ours.and_then(|ours| ours.get(field.member));
        if here.is_none() && !a.version.covers(field.dot) {
            fields.put(field.member, field.dot, field.payload, PackLimits::TRANSFER_HASH);
        }
    }
    (!fields.is_empty()).then(|| Content::Value(Box::new(Value::Hash(fields))))
}

/// What a state is as a register: the write that set it, and the counter if it has one. A collection counts as
/// nothing: it lost its elements to the other side's deletions.
fn register(state: &State) -> (Dot, Option<&Counter>) {
    match &state.content {
        Content::String(_) | Content::Tombstone => (state.version.dot, None),
        Content::Value(value) => match &**value {
            Value::Counter(counter) => (counter.base_dot, Some(counter)),
            Value::Hash(_) | Value::Set(_) => (Dot::default(), None),
        },
    }
}

fn settle_registers(a: &State, b: &State, actors: &ActorTable) -> Content {
    let ((dot_a, counter_a), (dot_b, counter_b)) = (register(a), register(b));
    if let (Some(one), Some(other)) = (counter_a, counter_b) {
        let mut sum = one.clone();
        sum.merge(other, actors);
        sum.shares.sort_unstable_by_key(|share| share.dot.actor);
        return Content::Value(Box::new(Value::Counter(sum)));
    }
    let winner = if actors.compare(dot_a, dot_b).is_lt() { b } else { a };
    match winner.content {
        Content::Value(ref value) if !matches!(**value, Value::Counter(_)) => Content::Tombstone,
        ref content => content.clone(),
    }
}
