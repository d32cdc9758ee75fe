//! A small collection: its elements one behind the other in one vector, in the order in which they came.
//!
//! `dot | member length | member | payload length | payload`. A dot stands there as its distance from the first
//! element's: what one HSET or SADD has put takes two bytes each for it, and what came days later six or seven, where
//! the dot itself would take ten of an element's twenty. The bytes never leave the node: a dot's actor is the short
//! one, which means something here only. Reading them checks lengths but trusts what they say.
//!
//! Every search begins at the front, so whoever keeps one says how large it may become (`elements`).

use crate::base::clock::Hlc;
use crate::base::version::{Actor, Dot};
use crate::base::wire::{Reader, WireError, put_bytes, put_varint, varint_len};
use crate::store::element::Element;
use crate::store::size::size_class;

/// See the head of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    len: usize,
    /// What dots are told from: that of the first element that came.
    base: Hlc,
}

impl Packed {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The element called `member`.
    pub fn get(&self, member: &[u8]) -> Option<Element<'_>> {
        self.ranges().find(|(_, element)| element.member == member).map(|it| it.1)
    }

    /// Puts an element in, in the place of one of the same name or behind all others. True when there was none.
    pub fn put(&mut self, element: Element<'_>) -> bool {
        if self.len == 0 {
            self.base = element.dot.hlc;
        }
        let len = self.len_of(element);
        let found = self.range_of(element.member);
        self.make_room(len.saturating_sub(found.as_ref().map_or(0, ExactSizeIterator::len)));
        match found {
            Some(range) => {
                let mut block = Vec::with_capacity(len);
                self.append(element, &mut block);
                self.bytes.splice(range, block);
                false
            }
            None => {
                let mut bytes = std::mem::take(&mut self.bytes);
                self.append(element, &mut bytes);
                self.bytes = bytes;
                self.len += 1;
                true
            }
        }
    }

    /// Takes an element out. False when there was none.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let Some(range) = self.range_of(member) else { return false };
        self.bytes.drain(range);
        self.len -= 1;
        true
    }

    /// Every element, in the order of insertion.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        self.ranges().map(|(_, element)| element)
    }

    /// Bytes of memory on the heap.
    pub fn memory_bytes(&self) -> usize {
        size_class(self.bytes.capacity())
    }

    fn range_of(&self, member: &[u8]) -> Option<std::ops::Range<usize>> {
        self.ranges().find(|(_, element)| element.member == member).map(|(range, _)| range)
    }

    /// Every element with the stretch of bytes that it takes.
    fn ranges(&self) -> impl Iterator<Item = (std::ops::Range<usize>, Element<'_>)> {
        let mut reader = Reader::new(&self.bytes);
        std::iter::from_fn(move || {
            let from = self.bytes.len() - reader.rest().len();
            let element = self.read(&mut reader).ok()?;
            Some((from..self.bytes.len() - reader.rest().len(), element))
        })
    }

    fn read<'a>(&self, reader: &mut Reader<'a>) -> Result<Element<'a>, WireError> {
        let distance = reader.varint()?;
        // Even numbers lead forwards, odd ones back.
        let distance = (distance >> 1) ^ 0_u64.wrapping_sub(distance & 1);
        let actor = Actor(reader.varint()? as u16);
        let dot = Dot { hlc: Hlc(self.base.0.wrapping_add(distance)), actor };
        Ok(Element { member: reader.bytes()?, dot, payload: reader.bytes()? })
    }

    fn append(&self, element: Element<'_>, out: &mut Vec<u8>) {
        put_varint(out, self.distance_to(element.dot));
        put_varint(out, u64::from(element.dot.actor.0));
        put_bytes(out, element.member);
        put_bytes(out, element.payload);
    }

    fn len_of(&self, element: Element<'_>) -> usize {
        let with_length = |bytes: &[u8]| varint_len(bytes.len() as u64) + bytes.len();
        let dot = varint_len(self.distance_to(element.dot)) + varint_len(u64::from(element.dot.actor.0));
        dot + with_length(element.member) + with_length(element.payload)
    }

    fn distance_to(&self, dot: Dot) -> u64 {
        let distance = dot.hlc.0.wrapping_sub(self.base.0) as i64;
        ((distance << 1) ^ (distance >> 63)) as u64
    }

    /// Makes room for so many bytes more, and for an eighth of what there is: a vector left to itself takes twice as
    /// much, of which most collections would use little, as they are filled once.
    fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
            self.bytes.reserve_exact(more.max(self.bytes.len() / 8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn elements_read_back_whatever_their_dots(
            elements in prop::collection::vec((any::<[u8; 2]>(), any::<u64>(), any::<u16>(), 0usize..300), 1..20),
        ) {
            let (mut packed, mut model) = (Packed::default(), Vec::<([u8; 2], Dot, Vec<u8>)>::new());
            for (member, hlc, actor, long) in elements {
                let (dot, payload) = (Dot { hlc: Hlc(hlc), actor: Actor(actor) }, vec![7; long]);
                let element = Element { member: &member, dot, payload: &payload };
                let known = model.iter_mut().find(|it| it.0 == member);
                prop_assert_eq!(packed.put(element), known.is_none());
                prop_assert_eq!(packed.get(&member), Some(element));
                match known {
                    Some(it) => *it = (member, dot, payload),
                    None => model.push((member, dot, payload)),
                }
            }
            let all: Vec<_> = packed.iter().map(|it| (it.member.to_vec(), it.dot, it.payload.to_vec())).collect();
            let wanted: Vec<_> = model.iter().map(|it| (it.0.to_vec(), it.1, it.2.clone())).collect();
            prop_assert_eq!((packed.len(), all), (model.len(), wanted));
        }
    }

    #[test]
    fn what_is_put_together_takes_two_bytes_each_for_its_dot_and_little_beside() {
        let dot = Dot { hlc: Hlc::at_ms(1_800_000_000_000), actor: Actor(3) };
        let mut packed = Packed::default();
        (0..100u8).for_each(|n| assert!(packed.put(Element { member: &[n], dot, payload: b"12345" })));
        assert_eq!(packed.bytes.len(), 100 * (2 + 2 + 6));
        assert!(packed.memory_bytes() <= packed.bytes.len() * 5 / 4, "{}", packed.memory_bytes());
    }
}
