//! The members of a collection: byte strings, each with the dot of the write that put it there and a payload.
//!
//! A hash keeps its values as payloads, a set keeps empty ones. While it is small a collection is *packed*: one
//! vector, searched from the front, in the order of insertion, as the listpack of a Redis hash is; what a merge or a peer has
//! brought is in the order in which it came. One element too many or too long turns it into a *table*, as Redis's hash table
//! is, which removals do not turn back.
//!
//! Invariant: an element is present once. Iteration by [`Elements::scan`] visits every element that stays present
//! from the first call to the last at least once, also when the table is laid anew between calls, when another collection
//! takes its place, and when another process goes on: the cursor carries the table's [`Layout`], and a scan that comes
//! with another starts over.
//!
//! Knows nothing of what payloads mean or how they merge.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;

use crate::base::clock::Hlc;
use crate::base::version::{Actor, Dot};
use crate::base::wire::{Reader, put_bytes, put_u16, put_u64};
use crate::store::draws::draws;
use crate::store::entry::size_class;

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

/// Tables of no more buckets than this never shrink.
const SHRINK_BUCKETS_MIN: usize = 256;

/// A table shrinks when less than one in this many of its buckets is used.
const SHRINK_SHARE: usize = 8;

/// Bits of a scan's cursor.
const CURSOR_BITS: u32 = 53;

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

/// See the head of the file.
#[derive(Debug)]
pub struct Elements {
    form: Form,
    len: usize,
    layout: Layout,
    /// Bytes in the boxes of a table.
    boxed_bytes: usize,
}

#[derive(Debug)]
enum Form {
    Packed(Vec<u8>),
    Table(HashTable<Box<[u8]>>),
}

/// Which arrangement of elements in buckets this is: no two of a process are alike, and of two processes only by chance. A
/// clone has that of its original, for its elements stand in the same buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Layout(u64);

impl Layout {
    fn new() -> Layout {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // A number that only this process's hash makes of the count.
        Layout(member_hash(&COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes()))
    }

    /// Where a scan goes on: `[layout][bucket]` in 53 bits, because some clients take a cursor for a floating-point number. The
    /// bucket takes as few as it needs.
    fn cursor(self, bucket: usize, buckets: usize) -> u64 {
        let bits = bucket_bits(buckets);
        let tag_bits = CURSOR_BITS.saturating_sub(bits);
        (self.0 & ((1 << tag_bits) - 1)) << bits | bucket as u64
    }

    /// The bucket that a cursor stands at; the first when it was made of another layout.
    fn bucket(self, cursor: u64, buckets: usize) -> usize {
        let bucket = (cursor & ((1 << bucket_bits(buckets)) - 1)) as usize;
        if self.cursor(bucket, buckets) == cursor { bucket } else { 0 }
    }
}

/// Bits that number so many buckets.
fn bucket_bits(buckets: usize) -> u32 {
    buckets.next_power_of_two().trailing_zeros()
}

impl Default for Elements {
    fn default() -> Elements {
        Elements { form: Form::Packed(Vec::new()), len: 0, layout: Layout::default(), boxed_bytes: 0 }
    }
}

impl Elements {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True while the collection is small enough to be packed.
    pub fn is_packed(&self) -> bool {
        matches!(self.form, Form::Packed(_))
    }

    /// The element called `member`.
    pub fn get(&self, member: &[u8]) -> Option<Element<'_>> {
        match &self.form {
            Form::Packed(bytes) => PackedIter::new(bytes).find(|(_, element)| element.member == member).map(|it| it.1),
            Form::Table(table) => {
                table.find(member_hash(member), |block| element(block).member == member).map(|block| element(block))
            }
        }
    }

    /// Puts an element in, in place of one of the same name. True when there was none.
    pub fn put(&mut self, member: &[u8], dot: Dot, payload: &[u8], limits: PackLimits) -> bool {
        let fits = member.len() <= limits.member_bytes_max && payload.len() <= limits.payload_bytes_max;
        if let Form::Packed(bytes) = &mut self.form {
            let found = packed_range(bytes, member);
            if fits && (found.is_some() || self.len < limits.entries_max) {
                let block = packed_block(member, dot, payload);
                let added = found.is_none();
                let range = found.unwrap_or(bytes.len()..bytes.len());
                bytes.splice(range, block);
                self.len += usize::from(added);
                return added;
            }
            self.unpack();
        }
        self.put_in_table(member, dot, payload)
    }

    fn put_in_table(&mut self, member: &[u8], dot: Dot, payload: &[u8]) -> bool {
        let Form::Table(table) = &mut self.form else { return false };
        let hash = member_hash(member);
        let block = packed_block(member, dot, payload).into_boxed_slice();
        self.boxed_bytes += box_bytes(&block);
        if let Some(old) = table.find_mut(hash, |block| element(block).member == member) {
            self.boxed_bytes -= box_bytes(old);
            *old = block;
            return false;
        }
        if table.len() == table.capacity() {
            // The insertion would move elements: say so, and scans start over.
            self.layout = Layout::new();
            table.reserve(1, |block| member_hash(element(block).member));
        }
        table.insert_unique(hash, block, |block| member_hash(element(block).member));
        self.len += 1;
        true
    }

    /// Takes an element out. False when there was none.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let removed = match &mut self.form {
            Form::Packed(bytes) => packed_range(bytes, member).map(|range| drop(bytes.drain(range))).is_some(),
            Form::Table(table) => table
                .find_entry(member_hash(member), |block| element(block).member == member)
                .map(|found| self.boxed_bytes -= box_bytes(&found.remove().0))
                .is_ok(),
        };
        self.len -= usize::from(removed);
        if removed {
            self.shrink();
        }
        removed
    }

    /// Gives a table that has become nearly empty fewer buckets, so that walking it and picking from it cost what it
    /// holds, not what it once held.
    fn shrink(&mut self) {
        let Form::Table(table) = &mut self.form else { return };
        if table.num_buckets() > SHRINK_BUCKETS_MIN && self.len < table.num_buckets() / SHRINK_SHARE {
            self.layout = Layout::new();
            table.shrink_to(self.len * 2, |block| member_hash(element(block).member));
        }
    }

    /// Every element: in the order of insertion while packed, in no order after.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Element<'_>> + '_> {
        match &self.form {
            Form::Packed(bytes) => Box::new(PackedIter::new(bytes).map(|(_, element)| element)),
            Form::Table(table) => Box::new(table.iter().map(|block| element(block))),
        }
    }

    /// Some element, chosen by the random number `draw`; `None` when there is none.
    pub fn pick(&self, draw: u64) -> Option<Element<'_>> {
        if self.len == 0 {
            return None;
        }
        match &self.form {
            Form::Packed(bytes) => {
                PackedIter::new(bytes).nth((draw % self.len as u64) as usize).map(|(_, element)| element)
            }
            Form::Table(table) => {
                let taken = draws(draw, table.num_buckets()).find_map(|bucket| table.get_bucket(bucket));
                taken.map(|block| element(block))
            }
        }
    }

    /// Visits about `count` elements from `cursor` on and gives the next cursor, 0 at the end.
    ///
    /// A packed collection is visited whole. Elements may be visited twice when the table is laid anew between calls.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'a>)) -> u64 {
        let Form::Table(table) = &self.form else {
            self.iter().for_each(visit);
            return 0;
        };
        let buckets = table.num_buckets();
        let mut seen = 0;
        for bucket in self.layout.bucket(cursor, buckets)..buckets {
            if seen >= count {
                return self.layout.cursor(bucket, buckets);
            }
            if let Some(block) = table.get_bucket(bucket) {
                visit(element(block));
                seen += 1;
            }
        }
        0
    }

    /// Bytes of memory on the heap.
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(bytes) => size_class(bytes.capacity()),
            Form::Table(table) => size_class(table.allocation_size()) + self.boxed_bytes,
        }
    }

    fn unpack(&mut self) {
        let Form::Packed(bytes) = &self.form else { return };
        let mut table: HashTable<Box<[u8]>> = HashTable::with_capacity(self.len + 1);
        for (_, found) in PackedIter::new(bytes) {
            let block = packed_block(found.member, found.dot, found.payload).into_boxed_slice();
            self.boxed_bytes += box_bytes(&block);
            table.insert_unique(member_hash(found.member), block, |block| member_hash(element(block).member));
        }
        self.form = Form::Table(table);
        self.layout = Layout::new();
    }
}

impl Clone for Elements {
    fn clone(&self) -> Elements {
        let form = match &self.form {
            Form::Packed(bytes) => Form::Packed(bytes.clone()),
            Form::Table(table) => Form::Table(table.clone()),
        };
        Elements { form, len: self.len, layout: self.layout, boxed_bytes: self.boxed_bytes }
    }
}

/// Equal when the same elements are there with the same dots and payloads, in whatever form and order.
impl PartialEq for Elements {
    fn eq(&self, other: &Elements) -> bool {
        self.len == other.len && self.iter().all(|element| other.get(element.member) == Some(element))
    }
}

fn box_bytes(block: &[u8]) -> usize {
    size_class(block.len())
}

fn member_hash(member: &[u8]) -> u64 {
    static HASHER: OnceLock<ahash::RandomState> = OnceLock::new();
    HASHER.get_or_init(ahash::RandomState::new).hash_one(member)
}

/// `dot | member length | member | payload length | payload`: one element, packed or alone in a table's box.
fn packed_block(member: &[u8], dot: Dot, payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(20 + member.len() + payload.len());
    put_u64(&mut block, dot.hlc.0);
    put_u16(&mut block, dot.actor.0);
    put_bytes(&mut block, member);
    put_bytes(&mut block, payload);
    block
}

fn read_element<'a>(reader: &mut Reader<'a>) -> Option<Element<'a>> {
    let dot = Dot { hlc: Hlc(reader.u64().ok()?), actor: Actor(reader.u16().ok()?) };
    Some(Element { member: reader.bytes().ok()?, dot, payload: reader.bytes().ok()? })
}

fn element(block: &[u8]) -> Element<'_> {
    let nothing = Element { member: &[], dot: Dot::default(), payload: &[] };
    read_element(&mut Reader::new(block)).unwrap_or(nothing)
}

fn packed_range(bytes: &[u8], member: &[u8]) -> Option<std::ops::Range<usize>> {
    PackedIter::new(bytes).find(|(_, element)| element.member == member).map(|(range, _)| range)
}

struct PackedIter<'a> {
    reader: Reader<'a>,
    total: usize,
}

impl<'a> PackedIter<'a> {
    fn new(bytes: &'a [u8]) -> PackedIter<'a> {
        PackedIter { reader: Reader::new(bytes), total: bytes.len() }
    }
}

impl<'a> Iterator for PackedIter<'a> {
    type Item = (std::ops::Range<usize>, Element<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.total - self.reader.rest().len();
        let element = read_element(&mut self.reader)?;
        Some((from..self.total - self.reader.rest().len(), element))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(cursor != 0 && cursor < 1 << CURSOR_BITS);
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
