//! The types a key can hold beside a plain string.

use crate::base::version::Dot;
use crate::store::counter::{Addend, Counter};
use crate::store::elements::{Elements, PackLimits};
use crate::store::size::size_class;
use crate::store::{canonical_int, hash};

/// A value with a structure of its own.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A string that INCR and its family have added to.
    Counter(Counter),
    /// Fields with values.
    Hash(Elements),
    /// Members.
    Set(Set),
}

/// A set, and whether it still is what Redis would keep as an `intset`.
#[derive(Clone, PartialEq, Debug)]
pub struct Set {
    /// The members; payloads are empty.
    pub members: Elements,
    /// All members so far were integers, and few: what OBJECT ENCODING reports. Never becomes true again.
    pub intset: bool,
}

impl Value {
    /// Makes a hash's field these bytes. Values of another type stay as they are, here and below.
    pub(super) fn put_field(&mut self, field: &[u8], dot: Dot, value: &[u8], limits: PackLimits) {
        if let Value::Hash(fields) = self {
            fields.put(field, dot, &hash::bytes_payload(value), limits);
        }
    }

    /// Adds to the number in a hash's field.
    pub(super) fn add_field(&mut self, field: &[u8], dot: Dot, by: i64, limits: PackLimits) {
        if let Value::Hash(fields) = self {
            let mut counter = hash::counter_of(fields.get(field));
            counter.add(dot, by);
            // The option means the number's digits, not who added how much.
            let limits = PackLimits { payload_bytes_max: usize::MAX, ..limits };
            fields.put(field, dot, &hash::counter_payload(&counter), limits);
        }
    }

    /// Adds a member to a set.
    pub(super) fn add_member(&mut self, member: &[u8], dot: Dot, limits: PackLimits, intset_entries_max: usize) {
        if let Value::Set(set) = self {
            set.members.put(member, dot, &[], limits);
            set.intset &= canonical_int(member).is_some() && set.members.len() <= intset_entries_max;
        }
    }

    /// Bytes of memory on the heap, this `Value` included.
    pub fn memory_bytes(&self) -> usize {
        size_class(size_of::<Value>())
            + match self {
                Value::Counter(counter) if counter.addends.spilled() => {
                    size_class(counter.addends.capacity() * size_of::<Addend>())
                }
                Value::Counter(_) => 0,
                Value::Hash(fields) => fields.memory_bytes(),
                Value::Set(set) => set.members.memory_bytes(),
            }
    }
}
