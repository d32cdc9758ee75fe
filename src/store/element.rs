//! One element of a collection, and its bytes alone in a box, as in a table; `packed` has others.
//!
//! `dot | member length | member | payload length | payload`. The bytes never leave the node: a dot's actor is the
//! short one, which means something here only. Reading them checks lengths but trusts what they say.

use crate::base::clock::Hlc;
use crate::base::version::{Actor, Dot};
use crate::base::wire::{Reader, WireError, put_bytes, put_u16, put_u64, varint_len};

/// Bytes of a dot with its short actor.
const DOT_BYTES: usize = 10;

/// One element, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element<'a> {
    /// Its name: a hash's field, a set's member.
    pub member: &'a [u8],
    /// The write that put it there.
    pub dot: Dot,
    /// What comes with it.
    pub payload: &'a [u8],
}

impl<'a> Element<'a> {
    /// Its bytes, in no more room than they need.
    pub(super) fn block(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.len());
        put_short_dot(&mut block, self.dot);
        put_bytes(&mut block, self.member);
        put_bytes(&mut block, self.payload);
        block
    }

    /// The element whose bytes these are.
    pub(super) fn of(block: &'a [u8]) -> Element<'a> {
        let nothing = Element { member: &[], dot: Dot::default(), payload: &[] };
        Element::read(&mut Reader::new(block)).unwrap_or(nothing)
    }

    fn read(reader: &mut Reader<'a>) -> Result<Element<'a>, WireError> {
        let dot = read_short_dot(reader)?;
        Ok(Element { member: reader.bytes()?, dot, payload: reader.bytes()? })
    }

    fn len(&self) -> usize {
        let with_length = |bytes: &[u8]| varint_len(bytes.len() as u64) + bytes.len();
        DOT_BYTES + with_length(self.member) + with_length(self.payload)
    }
}

/// Appends a dot as it lies in memory.
pub(super) fn put_short_dot(out: &mut Vec<u8>, dot: Dot) {
    put_u64(out, dot.hlc.0);
    put_u16(out, dot.actor.0);
}

/// Reads what [`put_short_dot`] has written.
pub(super) fn read_short_dot(reader: &mut Reader<'_>) -> Result<Dot, WireError> {
    Ok(Dot { hlc: Hlc(reader.u64()?), actor: Actor(reader.u16()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_element_reads_back_from_bytes_that_fill_their_room(member: Vec<u8>, long in 0usize..20_000, at: u64, actor: u16) {
            let payload = vec![7; long];
            let element = Element { member: &member, dot: Dot { hlc: Hlc(at), actor: Actor(actor) }, payload: &payload };
            let block = element.block();
            prop_assert_eq!(block.len(), block.capacity());
            prop_assert_eq!(Element::of(&block), element);
        }
    }
}
