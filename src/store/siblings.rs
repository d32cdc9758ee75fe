//! Writes of one element that did not know of each other.
//!
//! When both sides of a partition put the same field or member, a merge keeps every such write with its own dot, until
//! the next write of the element replaces them all. Readers see one value, settled when they are merged; but a removal
//! that had seen only one of the writes removes only that one, whichever way round three replicas meet. (Keeping the
//! latest dot alone would make the merge depend on the order; Preguiça et al., "Conflict-free Replicated Data Types",
//! 2018, section on add-wins sets.)
//!
//! The usual element has one write, and its payload is just that. Otherwise the payload is a tag, what readers see,
//! and each write with its own payload; the element's dot is the latest one's.

use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use crate::base::version::{ActorTable, Dot, Version};
use crate::base::wire::{Reader, WireError, put_bytes};
use crate::store::element::{Element, put_short_dot, read_short_dot};
use crate::store::elements::{Elements, PackLimits};

/// The first byte of a payload that holds several writes. Payloads of one write begin with another, or are empty.
pub const SIBLINGS: u8 = 2;

/// The writes of one element, each with its payload.
pub type Writes<'a> = SmallVec<[(Dot, &'a [u8]); 1]>;

/// What readers see of a payload.
pub fn visible(payload: &[u8]) -> &[u8] {
    match payload.split_first() {
        Some((&SIBLINGS, rest)) => Reader::new(rest).bytes().unwrap_or_default(),
        _ => payload,
    }
}

/// The writes of an element, in the order of their dots' stamps.
pub fn writes(element: Element<'_>) -> Writes<'_> {
    match element.payload.split_first() {
        Some((&SIBLINGS, rest)) => read(rest).unwrap_or_default(),
        _ => smallvec![(element.dot, element.payload)],
    }
}

/// Puts an element of these writes, whose readers see `visible`. The last write is the latest.
pub fn put(into: &mut Elements, member: &[u8], writes: &Writes<'_>, visible: &[u8], limits: PackLimits) {
    match writes.as_slice() {
        [] => {}
        [(dot, payload)] => drop(into.put(member, *dot, payload, limits)),
        [.., (latest, _)] => {
            let mut payload = vec![SIBLINGS];
            put_bytes(&mut payload, visible);
            for (dot, bytes) in writes {
                put_short_dot(&mut payload, *dot);
                put_bytes(&mut payload, bytes);
            }
            into.put(member, *latest, &payload, limits);
        }
    }
}

/// One side of a merge: its elements, none for another type, and all it has seen.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The elements.
    pub elements: Option<&'a Elements>,
    /// What this side has seen; what it has seen and does not hold, it has removed.
    pub seen: &'a Version,
}

impl<'a> Side<'a> {
    fn writes(&self, member: &[u8]) -> Writes<'a> {
        self.elements.and_then(|elements| elements.get(member)).map(writes).unwrap_or_default()
    }
}

/// Merges two sides: a write survives when both hold it, or when the other side has not seen it. `winner` says what
/// readers see of several.
pub fn merge<'a>(
    a: Side<'a>,
    b: Side<'a>,
    limits: PackLimits,
    actors: &ActorTable,
    winner: impl Fn(&Writes<'a>) -> Cow<'a, [u8]>,
) -> Elements {
    let mut merged = Elements::default();
    let of_a = a.elements.into_iter().flat_map(Elements::iter);
    let only_of_b = b.elements.into_iter().flat_map(Elements::iter);
    let only_of_b = only_of_b.filter(|element| a.elements.is_none_or(|of_a| of_a.get(element.member).is_none()));
    for element in of_a.chain(only_of_b) {
        let (ours, theirs) = (a.writes(element.member), b.writes(element.member));
        let mut kept: Writes<'a> = SmallVec::new();
        for (writes, others, other_seen) in [(&ours, &theirs, b.seen), (&theirs, &ours, a.seen)] {
            for write in writes {
                let is_shared = others.iter().any(|other| other.0 == write.0);
                let is_kept = kept.iter().any(|other| other.0 == write.0);
                if !is_kept && (is_shared || !other_seen.covers(write.0)) {
                    kept.push(*write);
                }
            }
        }
        kept.sort_unstable_by(|one, other| actors.compare(one.0, other.0));
        match kept.as_slice() {
            [] => {}
            [_] => put(&mut merged, element.member, &kept, &[], limits),
            _ => put(&mut merged, element.member, &kept, &winner(&kept), limits),
        }
    }
    merged
}

fn read(rest: &[u8]) -> Result<Writes<'_>, WireError> {
    let mut reader = Reader::new(rest);
    reader.bytes()?;
    let mut writes = Writes::new();
    while !reader.is_empty() {
        let dot = read_short_dot(&mut reader)?;
        writes.push((dot, reader.bytes()?));
    }
    Ok(writes)
}
