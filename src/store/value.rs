//! The types a key can hold beside a plain string.

use crate::store::counter::Counter;
use crate::store::elements::Elements;

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
    /// Bytes of memory on the heap, this `Value` included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Value>()
            + match self {
                Value::Counter(counter) if counter.shares.spilled() => counter.shares.capacity() * 24,
                Value::Counter(_) => 0,
                Value::Hash(fields) => fields.memory_bytes(),
                Value::Set(set) => set.members.memory_bytes(),
            }
    }
}
