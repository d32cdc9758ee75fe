//! What tells apart the ways in which the same writes may have been merged (see `merge`): a fingerprint of what came of
//! it, equal on all nodes, with what keeps a deadline above what keeps none.
//!
//! It is of what a state says, not of how its version names that: below a floor two replicas may name the same writes
//! differently, and are to choose alike.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::base::ids::ActorId;
use crate::base::version::{ActorTable, Dot, long_form};
use crate::store::counter::Counter;
use crate::store::element::Element;
use crate::store::elements::Elements;
use crate::store::hash::{Field, field};
use crate::store::siblings;
use crate::store::state::{Content, State};
use crate::store::value::{Set, Value};

/// The bit of what has a deadline.
const DATED: u32 = 1 << 31;

/// The sum of a state that came of a merge: all of it but the version.
pub(super) fn sum_of(state: &State, actors: &ActorTable) -> u32 {
    let ids = actors.ids();
    let mut sum = Sum { hasher: Xxh3::new(), ids: &ids };
    sum.number(state.deadline_ms);
    sum.number(u64::from(state.created_s));
    sum.dot(state.rest());
    match &state.content {
        Content::Tombstone => sum.number(0),
        Content::String(bytes) => sum.bytes(bytes),
        Content::Value(value) => match &**value {
            Value::Counter(counter) => sum.counter(counter),
            Value::Hash(fields) => sum.elements(fields, Sum::field),
            Value::Set(Set { members, intset }) => {
                sum.number(u64::from(*intset));
                sum.elements(members, |_, _| {});
            }
        },
    }
    let sum = sum.hasher.digest() as u32;
    if state.deadline_ms == 0 { sum & !DATED } else { sum | DATED }
}

/// A sum that is being made.
struct Sum<'a> {
    hasher: Xxh3,
    /// The actors' long forms; the short ones are each node's own.
    ids: &'a [ActorId],
}

impl Sum<'_> {
    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(xxh3_64(bytes));
    }

    fn dot(&mut self, dot: Dot) {
        // The zero dot is nobody's, whoever has the number.
        let nobody = ActorId { node: 0, generation: 0 };
        let id = if dot == Dot::default() { nobody } else { long_form(dot.actor, self.ids) };
        [id.node, id.generation, dot.hlc.0].into_iter().for_each(|number| self.number(number));
    }

    fn counter(&mut self, counter: &Counter) {
        self.number(counter.base as u64);
        self.dot(counter.base_dot);
        self.unordered(counter.addends.iter(), |sum, addend| {
            sum.dot(addend.dot);
            sum.number(addend.sum as u64);
            sum.number(addend.since.0);
        });
    }

    fn field(&mut self, payload: &[u8]) {
        match field(payload) {
            Field::Bytes(bytes) => self.bytes(bytes),
            Field::Counter(counter) => self.counter(&counter),
        }
    }

    /// Elements lie in an order of each node's own.
    fn elements(&mut self, elements: &Elements, payload_of: impl Fn(&mut Self, &[u8])) {
        self.unordered(elements.iter(), |sum, element: Element<'_>| {
            sum.bytes(element.member);
            for (dot, payload) in siblings::writes(element) {
                sum.dot(dot);
                payload_of(sum, payload);
            }
        });
    }

    fn unordered<T>(&mut self, parts: impl Iterator<Item = T>, add: impl Fn(&mut Self, T)) {
        let sum_of = |part| {
            let mut sum = Sum { hasher: Xxh3::new(), ids: self.ids };
            add(&mut sum, part);
            sum.hasher.digest()
        };
        let total = parts.map(sum_of).fold(0, u64::wrapping_add);
        self.number(total);
    }
}
