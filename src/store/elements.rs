//! The members of a collection: byte strings, each with the dot of the write that put it there and a payload.
//!
//! A hash keeps its values as payloads, a set keeps empty ones. While it is small a collection is [`Packed`]: one
//! vector, searched from the front, in the order of insertion, as the listpack of a Redis hash is; what a merge or a
//! peer has brought is in the order in which it came. One element too many or too long turns it into a [`Table`], which
//! removals do not turn back.
//!
//! Invariant: an element is present once. Iteration by [`Elements::scan`] visits every element that stays present from
//! the first call to the last at least once, also when the table is laid anew between calls, when another collection
//! takes its place, and when another process goes on.
//!
//! Knows nothing of what payloads mean or how they merge.

use crate::base::version::Dot;
use crate::store::element::Element;
use crate::store::packed::Packed;
use crate::store::table::Table;

/// When a packed collection becomes a table.
#[derive(Clone, Copy, Debug)]
pub struct PackLimits {
    /// Most elements of a packed collection.
    pub entries_max: usize,
    /// Most bytes of a member's name in a packed collection.
    pub member_bytes_max: usize,
    /// Most bytes of a payload in a packed collection.
    pub payload_bytes_max: usize,
}

impl PackLimits {
    /// For hashes on their way between nodes, where no option is at hand: Redis's defaults, and the tag byte of values.
    pub const TRANSFER_HASH: PackLimits = PackLimits { entries_max: 512, member_bytes_max: 64, payload_bytes_max: 65 };

    /// For sets, of which Redis 7.0 packs only numbers: no option, merely small enough to be searched from the front.
    pub const SET: PackLimits = PackLimits { entries_max: 128, member_bytes_max: 64, payload_bytes_max: 0 };
}

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct Elements {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Packed(Packed),
    Table(Table),
}

impl Default for Elements {
    fn default() -> Elements {
        Elements { form: Form::Packed(Packed::default()) }
    }
}

impl Elements {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.len(),
            Form::Table(table) => table.len(),
        }
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True while the collection is small enough to be packed.
    pub fn is_packed(&self) -> bool {
        matches!(self.form, Form::Packed(_))
    }

    /// The element called `member`.
    pub fn get(&self, member: &[u8]) -> Option<Element<'_>> {
        match &self.form {
            Form::Packed(packed) => packed.get(member),
            Form::Table(table) => table.get(member),
        }
    }

    /// Puts an element in, in place of one of the same name. True when there was none.
    pub fn put(&mut self, member: &[u8], dot: Dot, payload: &[u8], limits: PackLimits) -> bool {
        let element = Element { member, dot, payload };
        let packed = match &mut self.form {
            Form::Table(table) => return table.put(element),
            Form::Packed(packed) => packed,
        };
        let fits = member.len() <= limits.member_bytes_max && payload.len() <= limits.payload_bytes_max;
        if fits && (packed.len() < limits.entries_max || packed.get(member).is_some()) {
            return packed.put(element);
        }
        let mut table = Table::with_room_for(packed.len() + 1);
        packed.iter().for_each(|element| _ = table.put(element));
        let added = table.put(element);
        self.form = Form::Table(table);
        added
    }

    /// Takes an element out. False when there was none.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Packed(packed) => packed.remove(member),
            Form::Table(table) => table.remove(member),
        }
    }

    /// Every element: in the order of insertion while packed, in no order after.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Element<'_>> + '_> {
        match &self.form {
            Form::Packed(packed) => Box::new(packed.iter()),
            Form::Table(table) => Box::new(table.iter()),
        }
    }

    /// Some element, chosen by the random number `draw`; `None` when there is none.
    pub fn pick(&self, draw: u64) -> Option<Element<'_>> {
        match &self.form {
            Form::Packed(packed) => {
                let at = draw.checked_rem(packed.len() as u64)?;
                packed.iter().nth(at as usize)
            }
            Form::Table(table) => table.pick(draw),
        }
    }

    /// Visits about `count` elements from `cursor` on and gives the next cursor, 0 at the end.
    ///
    /// A packed collection is visited whole. Elements may be visited twice when the table is laid anew between calls.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, visit: impl FnMut(Element<'a>)) -> u64 {
        match &self.form {
            Form::Packed(_) => {
                self.iter().for_each(visit);
                0
            }
            Form::Table(table) => table.scan(cursor, count, visit),
        }
    }

    /// Bytes of memory on the heap.
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.memory_bytes(),
            Form::Table(table) => table.memory_bytes(),
        }
    }
}

/// Equal when the same elements are there with the same dots and payloads, in whatever form and order.
impl PartialEq for Elements {
    fn eq(&self, other: &Elements) -> bool {
        self.len() == other.len() && self.iter().all(|element| other.get(element.member) == Some(element))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::version::Actor;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SMALL: PackLimits = PackLimits { entries_max: 4, member_bytes_max: 8, payload_bytes_max: 8 };

    fn dot(at: u64) -> Dot {
        Dot { hlc: Hlc(at), actor: Actor(1) }
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_in_either_form(steps in prop::collection::vec((any::<bool>(), 0u8..12, any::<u16>()), 0..80)) {
            let (mut elements, mut model) = (Elements::default(), BTreeMap::new());
            for (put, member, payload) in steps {
                let (member, payload) = (vec![b'm', member], payload.to_string().into_bytes());
                if put {
                    let added = elements.put(&member, dot(7), &payload, SMALL);
                    prop_assert_eq!(added, model.insert(member, payload).is_none());
                } else {
                    prop_assert_eq!(elements.remove(&member), model.remove(&member).is_some());
                }
                prop_assert_eq!(elements.len(), model.len());
            }
            let found: BTreeMap<_, _> =
                elements.iter().map(|it| (it.member.to_vec(), it.payload.to_vec())).collect();
            prop_assert_eq!(found, model);
        }

        #[test]
        fn a_scan_misses_nothing_while_the_table_grows(start in 5usize..200, added in 0usize..400, count in 1usize..20) {
            let mut elements = Elements::default();
            let name = |n: usize| format!("e{n}").into_bytes();
            (0..start).for_each(|n| { elements.put(&name(n), dot(1), b"", SMALL); });
            let (mut cursor, mut seen, mut next) = (0, BTreeSet::new(), start);
            loop {
                cursor = elements.scan(cursor, count, |it| { seen.insert(it.member.to_vec()); });
                if cursor == 0 { break; }
                if next < start + added {
                    elements.put(&name(next), dot(1), b"", SMALL);
                    next += 1;
                }
            }
            prop_assert!((0..start).all(|n| seen.contains(&name(n))));
        }
    }

    #[test]
    fn a_table_shrinks_with_what_it_holds_and_scans_miss_nothing() {
        let mut elements = Elements::default();
        let name = |n: usize| format!("e{n}").into_bytes();
        (0..10_000).for_each(|n| assert!(elements.put(&name(n), dot(1), b"", SMALL)));
        let full = elements.memory_bytes();
        let (mut cursor, mut seen, mut next) = (0, BTreeSet::new(), 100);
        loop {
            cursor = elements.scan(cursor, 50, |it| {
                seen.insert(it.member.to_vec());
            });
            if cursor == 0 {
                break;
            }
            (next..(next + 500).min(10_000)).for_each(|n| assert!(elements.remove(&name(n))));
            next += 500;
        }
        assert!((0..100).all(|n| seen.contains(&name(n))));
        assert!(elements.len() == 100 && elements.memory_bytes() * 20 < full);
    }

    #[test]
    fn a_scan_that_goes_on_in_another_table_of_the_same_elements_misses_nothing() {
        let name = |n: usize| format!("e{n}").into_bytes();
        let table = |order: &mut dyn Iterator<Item = usize>| {
            let mut elements = Elements::default();
            order.for_each(|n| assert!(elements.put(&name(n), dot(1), b"", SMALL)));
            elements
        };
        let (one, other) = (table(&mut (0..2_000)), table(&mut (0..2_000).rev()));
        let mut seen = BTreeSet::new();
        let mut cursor = one.scan(0, 700, |it| _ = seen.insert(it.member.to_vec()));
        assert!(cursor != 0);
        let mut seen_in_other = BTreeSet::new();
        while cursor != 0 {
            cursor = other.scan(cursor, 700, |it| _ = seen_in_other.insert(it.member.to_vec()));
        }
        assert_eq!(seen_in_other.len(), 2_000);
        // In its own table, or a clone of it, the scan goes on where it was.
        let (mut cursor, mut rest) = (one.scan(0, 700, |_| {}), 0);
        while cursor != 0 {
            cursor = one.clone().scan(cursor, 700, |_| rest += 1);
        }
        assert_eq!(rest, 1_300);
    }

    #[test]
    fn packed_keeps_the_order_of_insertion_also_on_overwrite() {
        let mut elements = Elements::default();
        for member in [b"b", b"a", b"c"] {
            elements.put(member, dot(1), b"1", SMALL);
        }
        elements.put(b"b", dot(2), b"longer", SMALL);
        let order: Vec<_> = elements.iter().map(|it| it.member).collect();
        assert_eq!(order, [b"b", b"a", b"c"]);
    }

    #[test]
    fn every_element_can_be_picked() {
        let mut elements = Elements::default();
        (0..40u8).for_each(|n| {
            elements.put(&[n], dot(1), b"", SMALL);
        });
        let picked: BTreeSet<_> = (0..4_000u64)
            .filter_map(|n| elements.pick(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .map(|it| it.member)
            .collect();
        assert_eq!(picked.len(), 40);
        assert_eq!(Elements::default().pick(3), None);
    }
}
