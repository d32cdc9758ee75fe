//! A hash's fields: what the payload of an element means.
//!
//! A field is bytes, or a counter once HINCRBY has added to it, so that both sides of a partition can add to a field
//! as they can to a key. The payload is a tag byte and either the bytes or the counter with interned actors, or several
//! of both (see `siblings`); it never
//! leaves the node in this form.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::base::clock::Hlc;
use crate::base::version::{ActorTable, Dot};
use crate::base::wire::{Reader, WireError, put_u64};
use crate::store::counter::{Addend, Counter};
use crate::store::element::{Element, put_short_dot, read_short_dot};
use crate::store::siblings::{self, Writes};

const BYTES: u8 = 0;
const COUNTER: u8 = 1;

/// One field's value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Field<'a> {
    /// As HSET put it.
    Bytes(&'a [u8]),
    /// As HINCRBY made it.
    Counter(Counter),
}

impl<'a> Field<'a> {
    /// The value as a client reads it.
    pub fn text(&self) -> Cow<'a, [u8]> {
        match self {
            Field::Bytes(bytes) => Cow::Borrowed(bytes),
            Field::Counter(counter) => Cow::Owned(counter.total().to_string().into_bytes()),
        }
    }
}

/// The value in an element's payload.
pub fn field(payload: &[u8]) -> Field<'_> {
    match siblings::visible(payload).split_first() {
        Some((&COUNTER, rest)) => read_counter(rest).map_or(Field::Bytes(&[]), Field::Counter),
        Some((_, bytes)) => Field::Bytes(bytes),
        None => Field::Bytes(&[]),
    }
}

/// The payload of a field that holds bytes.
pub fn bytes_payload(bytes: &[u8]) -> Vec<u8> {
    [&[BYTES], bytes].concat()
}

/// The payload of a field that holds a counter.
pub fn counter_payload(counter: &Counter) -> Vec<u8> {
    let mut out = vec![COUNTER];
    put_u64(&mut out, counter.base as u64);
    put_short_dot(&mut out, counter.base_dot);
    for addend in &counter.addends {
        put_short_dot(&mut out, addend.dot);
        put_u64(&mut out, addend.sum as u64);
    }
    out
}

/// The counter that adding to `element` starts from: its own, or one based on its number; 0 when there is none.
pub fn counter_of(element: Option<Element<'_>>) -> Counter {
    let Some(element) = element else { return Counter::on_base(0, Dot::default()) };
    match field(element.payload) {
        Field::Counter(counter) => counter,
        Field::Bytes(bytes) => Counter::on_text(bytes, element.dot),
    }
}

/// What readers see of several concurrent writes, in the order of their dots: bytes are a base as a counter's is, the
/// latest base stays, and counters on the same base add up.
pub fn winner<'a>(writes: &Writes<'a>, actors: &ActorTable) -> Cow<'a, [u8]> {
    let mut best: Option<(Dot, Field<'a>)> = None;
    for (dot, payload) in writes {
        let field = field(payload);
        let base = if let Field::Counter(counter) = &field { counter.base_dot } else { *dot };
        best = Some(match best {
            Some((best_base, best_field)) => match (actors.compare(best_base, base), best_field, field) {
                (Ordering::Greater, best_field, _) => (best_base, best_field),
                (Ordering::Equal, Field::Counter(mut sum), Field::Counter(counter)) => {
                    sum.merge(&counter, actors);
                    (base, Field::Counter(sum))
                }
                (Ordering::Equal, counter @ Field::Counter(_), Field::Bytes(_)) => (base, counter),
                (Ordering::Equal | Ordering::Less, _, field) => (base, field),
            },
            None => (base, field),
        });
    }
    match best {
        Some((_, Field::Bytes(bytes))) => Cow::Owned(bytes_payload(bytes)),
        Some((_, Field::Counter(mut counter))) => {
            counter.addends.sort_unstable_by_key(|addend| addend.dot.actor);
            Cow::Owned(counter_payload(&counter))
        }
        None => Cow::Borrowed(&[]),
    }
}

fn read_counter(bytes: &[u8]) -> Result<Counter, WireError> {
    let mut reader = Reader::new(bytes);
    let base = reader.u64()? as i64;
    let mut counter = Counter::on_base(base, read_short_dot(&mut reader)?);
    while !reader.is_empty() {
        let dot = read_short_dot(&mut reader)?;
        counter.addends.push(Addend { dot, sum: reader.u64()? as i64, since: Hlc(0) });
    }
    Ok(counter)
}
