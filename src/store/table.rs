//! A hash table of elements that is laid anew step by step: what a collection is once it is not small.
//!
//! Buckets that are nearly full, or nearly empty, get successors in another number. From then on each change moves the
//! next few elements there (Redis's dict does the same), so that one change of a set of millions takes about as long as
//! one of a thousand. The successors are filled from the front, and until an element's own old bucket has had its turn
//! it is put among the old ones: spread over all of them, a few hundred new elements would have the system clear all of
//! their memory at once, tens of megabytes. What is left to be done in one go is to set their tags, a byte a bucket. A
//! table that nobody changes any more may stay with both; changes that move are one in eight, so few do.
//!
//! Invariants:
//! - an element is in the old buckets or in the new ones, not in both, and stays in its bucket, but for that one move;
//! - the first `moved` old buckets are empty;
//! - the new buckets have room for all that is there when the old ones are empty, and for what is put in until then.
//!
//! Knows nothing of what payloads mean.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::store::draws::draws;
use crate::store::element::Element;
use crate::store::prefetch::prefetch;
use crate::store::size::size_class;

/// Tables of no more buckets than this never shrink.
const SHRINK_BUCKETS_MIN: usize = 256;

/// A table shrinks when less than one in this many of its buckets is used.
const SHRINK_SHARE: usize = 8;

/// Elements are moved as soon as less than one in this many could be added.
const ROOM_SHARE: usize = 16;

/// Most elements that one change moves. A request may make thousands of changes: while a set of a million moves, an
/// SADD of 5,000 members takes 7 ms instead of 3.
const MOVED_MAX: usize = 8;

/// Most buckets that it looks for them in.
const LOOKED_MAX: usize = 64;

/// Bits of a scan's cursor.
const CURSOR_BITS: u32 = 53;

/// See the head of the file.
#[derive(Clone, Debug)]
pub(super) struct Table {
    new: Buckets,
    old: Option<Box<Old>>,
    /// Bytes in the boxes of both.
    boxed_bytes: usize,
}

#[derive(Clone, Debug)]
struct Buckets {
    blocks: HashTable<Box<[u8]>>,
    layout: Layout,
}

/// Buckets that are moved from.
#[derive(Clone, Debug)]
struct Old {
    buckets: Buckets,
    moved: usize,
}

impl Old {
    /// Puts a new element in, unless its bucket has had its turn; then it comes back.
    fn put(&mut self, hash: u64, block: Box<[u8]>) -> Result<(), Box<[u8]>> {
        let blocks = &mut self.buckets.blocks;
        let home = hash as usize & (blocks.num_buckets() - 1);
        if home < self.moved || blocks.len() == blocks.capacity() {
            return Err(block);
        }
        // The hash table looks for a free bucket from that one on, and goes on at the first behind the last. To have
        // those before `moved` looked at once more would leave room for ever more like it: nearly no bucket stayed
        // free, and a search for what is not there went through all of them (120 ms in a set of a million).
        let entry = blocks.insert_unique(hash, block, hash_of);
        if entry.bucket_index() < self.moved { Err(entry.remove().0) } else { Ok(()) }
    }
}

/// Which arrangement of elements in buckets this is: no two of a process are alike, and of two processes only by
/// chance. A clone has that of its original, for its elements stand in the same buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout(u64);

impl Layout {
    fn next() -> Layout {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // A number that only this process's hash makes of the count. Odd, so that no cursor is 0, which is the end.
        Layout(member_hash(&COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes()) | 1)
    }
}

impl Buckets {
    fn with_room_for(elements: usize) -> Buckets {
        Buckets { blocks: HashTable::with_capacity(elements), layout: Layout::next() }
    }

    fn count(&self) -> usize {
        self.blocks.num_buckets()
    }

    fn elements(&self) -> impl Iterator<Item = Element<'_>> {
        self.blocks.iter().map(|block| Element::of(block))
    }

    fn memory_bytes(&self) -> usize {
        size_class(self.blocks.allocation_size())
    }

    /// Where a scan goes on: `[layout][bucket]` in 53 bits, because some clients take a cursor for a floating-point
    /// number. The bucket takes as few as it needs.
    fn cursor(&self, bucket: usize) -> u64 {
        let bits = self.bucket_bits();
        let tag_bits = CURSOR_BITS.saturating_sub(bits);
        (self.layout.0 & ((1 << tag_bits) - 1)) << bits | bucket as u64
    }

    /// The bucket that a cursor stands at; `None` when it was made of another layout.
    fn bucket(&self, cursor: u64) -> Option<usize> {
        let bucket = (cursor & ((1 << self.bucket_bits()) - 1)) as usize;
        (self.cursor(bucket) == cursor).then_some(bucket)
    }

    /// Bits that number the buckets.
    fn bucket_bits(&self) -> u32 {
        self.count().next_power_of_two().trailing_zeros()
    }
}

impl Table {
    /// An empty one with room for so many elements.
    pub fn with_room_for(elements: usize) -> Table {
        Table { new: Buckets::with_room_for(elements), old: None, boxed_bytes: 0 }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.parts().map(|part| part.blocks.len()).sum()
    }

    /// The element called `member`.
    pub fn get(&self, member: &[u8]) -> Option<Element<'_>> {
        let hash = member_hash(member);
        self.parts().find_map(|part| part.blocks.find(hash, called(member))).map(|block| Element::of(block))
    }

    /// Puts an element in, in place of one of the same name. True when there was none.
    pub fn put(&mut self, element: Element<'_>) -> bool {
        self.move_some();
        let (hash, block) = (member_hash(element.member), element.block().into_boxed_slice());
        self.boxed_bytes += size_class(block.len());
        let known = self.parts_mut().find_map(|part| part.blocks.find_mut(hash, called(element.member)));
        if let Some(known) = known {
            let before = std::mem::replace(known, block);
            self.boxed_bytes -= size_class(before.len());
            return false;
        }
        if self.is_crowded() {
            self.lay_anew();
        }
        let rest = match &mut self.old {
            Some(old) => old.put(hash, block),
            None => Err(block),
        };
        if let Err(block) = rest {
            self.new.blocks.insert_unique(hash, block, hash_of);
        }
        true
    }

    /// Takes an element out. False when there was none.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        self.move_some();
        let hash = member_hash(member);
        let found = self.parts_mut().find_map(|part| part.blocks.find_entry(hash, called(member)).ok());
        let Some((block, _)) = found.map(|entry| entry.remove()) else { return false };
        self.boxed_bytes -= size_class(block.len());
        // Walking a table and picking from it should cost what it holds, not what it once held.
        let buckets = self.new.count();
        if self.old.is_none() && buckets > SHRINK_BUCKETS_MIN && self.len() < buckets / SHRINK_SHARE {
            self.lay_anew();
        }
        true
    }

    /// Every element, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        self.parts().flat_map(Buckets::elements)
    }

    /// Some element, chosen by the random number `draw`; `None` when there is none.
    pub fn pick(&self, draw: u64) -> Option<Element<'_>> {
        let new = self.new.count();
        let old = self.old.as_ref().map(|old| &old.buckets);
        let taken =
            draws(draw, self.parts().map(Buckets::count).sum()).find_map(|place| match place.checked_sub(new) {
                None => self.new.blocks.get_bucket(place),
                Some(place) => old?.blocks.get_bucket(place),
            });
        taken.map(|block| Element::of(block))
    }

    /// Visits about `count` elements from `cursor` on and gives the next cursor, 0 at the end. An element that is there
    /// from the first call to the last is visited at least once: the old buckets come first, so that what is moved
    /// meanwhile is moved to where the walk has yet to come, or has been visited. With a cursor of another layout the
    /// walk starts over.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'a>)) -> u64 {
        let old = self.old.iter().map(|old| (&old.buckets, old.moved));
        let parts = old.chain([(&self.new, 0)]);
        let stand = parts.clone().enumerate().find_map(|(at, (part, _))| Some((at, part.bucket(cursor)?)));
        let (at, mut from) = stand.unwrap_or_default();
        let mut seen = 0;
        for (part, empty) in parts.skip(at) {
            for bucket in from.max(empty)..part.count() {
                if seen >= count {
                    return part.cursor(bucket);
                }
                if let Some(block) = part.blocks.get_bucket(bucket) {
                    visit(Element::of(block));
                    seen += 1;
                }
            }
            from = 0;
        }
        0
    }

    /// Bytes of memory on the heap, the table itself not included.
    pub fn memory_bytes(&self) -> usize {
        let old = self.old.as_ref().map_or(0, |_| size_class(size_of::<Old>()));
        self.parts().map(Buckets::memory_bytes).sum::<usize>() + old + self.boxed_bytes
    }

    fn parts(&self) -> impl Iterator<Item = &Buckets> {
        std::iter::once(&self.new).chain(self.old.as_ref().map(|old| &old.buckets))
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Buckets> {
        std::iter::once(&mut self.new).chain(self.old.as_mut().map(|old| &mut old.buckets))
    }

    /// True when elements should go elsewhere; while they do, when the next one would find no room.
    fn is_crowded(&self) -> bool {
        let blocks = &self.new.blocks;
        let room_min = if self.old.is_some() { 0 } else { blocks.len() / ROOM_SHARE };
        blocks.capacity() - blocks.len() <= room_min
    }

    /// Begins to move all elements to other buckets: twice as many, or as many when most of those that are full are
    /// marks of what was removed, or half as many when nearly all are empty. Room for a quarter more than there is
    /// lasts until all have moved, as each change moves what is in more than four buckets.
    fn lay_anew(&mut self) {
        while self.old.is_some() {
            self.move_some();
        }
        let room = self.new.count() / 4;
        let new = Buckets::with_room_for(self.len() + room.max(1));
        let buckets = std::mem::replace(&mut self.new, new);
        if !buckets.blocks.is_empty() {
            self.old = Some(Box::new(Old { buckets, moved: 0 }));
        }
    }

    /// Moves the next few elements.
    fn move_some(&mut self) {
        let Some(old) = &mut self.old else { return };
        let blocks = &mut old.buckets.blocks;
        let end = (old.moved + LOOKED_MAX).min(blocks.num_buckets());
        let mut taken: SmallVec<[usize; MOVED_MAX]> = SmallVec::new();
        for bucket in old.moved..end {
            if let Some(block) = blocks.get_bucket(bucket) {
                // Its name is hashed below: the misses should not come one after the other.
                prefetch(block.as_ptr());
                taken.push(bucket);
            }
            old.moved = bucket + 1;
            if taken.len() == MOVED_MAX {
                break;
            }
        }
        for bucket in taken {
            if let Ok(entry) = blocks.get_bucket_entry(bucket) {
                let (block, _) = entry.remove();
                self.new.blocks.insert_unique(hash_of(&block), block, hash_of);
            }
        }
        if blocks.is_empty() {
            self.old = None;
        }
    }
}

fn called(member: &[u8]) -> impl FnMut(&Box<[u8]>) -> bool {
    move |block| Element::of(block).member == member
}

#[expect(clippy::borrowed_box, reason = "what the hash table asks")]
fn hash_of(block: &Box<[u8]>) -> u64 {
    member_hash(Element::of(block).member)
}

fn member_hash(member: &[u8]) -> u64 {
    static HASHER: OnceLock<ahash::RandomState> = OnceLock::new();
    HASHER.get_or_init(ahash::RandomState::new).hash_one(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::version::Dot;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn name(n: usize) -> Vec<u8> {
        format!("e{n}").into_bytes()
    }

    fn put(table: &mut Table, n: usize) -> bool {
        table.put(Element { member: &name(n), dot: Dot::default(), payload: b"" })
    }

    fn with_elements(numbers: impl Iterator<Item = usize>) -> Table {
        let mut table = Table::with_room_for(1);
        numbers.for_each(|n| assert!(put(&mut table, n)));
        table
    }

    /// One of that many elements or more, which begin to move with the next, and how many those are.
    fn crowded(len: usize) -> (Table, usize) {
        let (mut table, mut next) = (with_elements(0..len), len);
        while in_old(&table) > 0 || !table.is_crowded() {
            assert!(put(&mut table, next));
            next += 1;
        }
        (table, next)
    }

    fn in_old(table: &Table) -> usize {
        table.old.as_ref().map_or(0, |old| old.buckets.blocks.len())
    }

    fn bytes_counted_anew(table: &Table) -> usize {
        let boxed =
            table.parts().flat_map(|part| part.blocks.iter()).map(|block| size_class(block.len())).sum::<usize>();
        table.memory_bytes() - table.boxed_bytes + boxed
    }

    #[test]
    fn no_change_moves_more_than_a_few_elements() {
        let mut table = Table::with_room_for(1);
        let (mut moves, mut before, mut changes) = (0, 0, 0);
        let mut check = |table: &Table| {
            let (new, old) = (table.new.blocks.len(), in_old(table));
            changes = if old == 0 { 0 } else { changes + 1 };
            // Each looks at so many buckets, or moves as many as one in eight of those that are.
            let buckets = table.old.as_ref().map_or(0, |old| old.buckets.count());
            assert!(changes <= buckets / LOOKED_MAX + buckets / MOVED_MAX + 1, "{old} of {buckets} after {changes}");
            // One more may have been removed.
            assert!(before <= MOVED_MAX || old + MOVED_MAX + 1 >= before, "{before} became {old}");
            assert_eq!(table.len(), new + old);
            assert!(new + old <= table.new.blocks.capacity(), "no room for {old} beside {new}");
            moves += usize::from(old > before + 1);
            before = old;
        };
        for n in 0..50_000 {
            assert!(put(&mut table, n));
            check(&table);
        }
        for n in 0..49_900 {
            assert!(table.remove(&name(n)));
            check(&table);
        }
        // New names in the place of old ones leave marks that fill it.
        for n in 0..50_000 {
            assert!(put(&mut table, 50_000 + n) && table.remove(&name(49_900 + n)));
            check(&table);
        }
        assert!(moves > 15 && table.len() == 100, "{moves} {}", table.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn holds_what_a_set_holds_while_it_is_laid_anew(steps in prop::collection::vec((0u8..4, 0usize..4_000, 1usize..1_500), 1..12)) {
            let (mut table, mut model) = (Table::with_room_for(1), BTreeSet::new());
            for (what, from, count) in steps {
                for n in from..from + count {
                    if what == 0 {
                        prop_assert_eq!(table.remove(&name(n)), model.remove(&name(n)));
                    } else {
                        prop_assert_eq!(put(&mut table, n), model.insert(name(n)));
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.memory_bytes(), bytes_counted_anew(&table));
                prop_assert!((0..6_000).step_by(7).all(|n| table.get(&name(n)).is_some() == model.contains(&name(n))));
                let all: Vec<_> = table.iter().map(|it| it.member.to_vec()).collect();
                prop_assert_eq!(all.len(), model.len());
                prop_assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), model.clone());
                prop_assert!((0..50u64).all(|n| table.pick(n << 40).is_some() != model.is_empty()));
            }
        }

        #[test]
        fn a_scan_misses_nothing_whatever_changes_between_its_steps(
            start in 5usize..3_000, count in 1usize..200, steps in prop::collection::vec((any::<bool>(), 1usize..400), 1..30),
        ) {
            const STAY: usize = 5;
            let mut table = with_elements(0..start);
            let (mut cursor, mut seen, mut next, mut gone) = (0, BTreeSet::new(), start, STAY);
            let mut steps = steps.into_iter();
            loop {
                cursor = table.scan(cursor, count, |it| { seen.insert(it.member.to_vec()); });
                prop_assert!(cursor < 1 << CURSOR_BITS);
                if cursor == 0 { break; }
                let Some((grows, by)) = steps.next() else { continue };
                for _ in 0..by {
                    if grows {
                        put(&mut table, next);
                        next += 1;
                    } else if gone < next {
                        table.remove(&name(gone));
                        gone += 1;
                    }
                }
            }
            prop_assert!((0..STAY).all(|n| seen.contains(&name(n))));
        }
    }

    #[test]
    fn new_buckets_are_filled_from_the_front() {
        // So far behind its own bucket an element may be put when those are taken, in groups that lie ever farther off.
        const BEHIND: usize = 1_024;
        let (mut table, next) = crowded(10_000);
        for n in next..next + 100 {
            assert!(put(&mut table, n));
            let front = table.old.as_ref().expect("they still move").moved;
            let half = table.new.count() / 2;
            let is_taken = |at: usize| table.new.blocks.get_bucket(at).is_some();
            let last = (0..half).rev().find(|at| is_taken(*at) || is_taken(at + half)).unwrap_or(0);
            assert!(last < front + BEHIND || last + BEHIND > half, "{last} is taken, {front} have moved");
        }
    }

    #[test]
    fn a_scan_goes_on_while_the_elements_move() {
        let (mut table, mut next) = crowded(1_000);
        let mut seen = BTreeSet::new();
        let mut cursor = table.scan(0, 800, |it| _ = seen.insert(it.member.to_vec()));
        for _ in 0..8 {
            assert!(put(&mut table, next) && in_old(&table) > 0);
            next += 1;
        }
        let mut visits = 0;
        while cursor != 0 {
            cursor = table.scan(cursor, 100, |it| {
                visits += 1;
                seen.insert(it.member.to_vec());
            });
        }
        assert!((0..next - 8).all(|n| seen.contains(&name(n))));
        assert!(visits < next - 400, "started over: {visits}");
    }

    #[test]
    fn every_element_is_picked_while_they_move() {
        let (mut table, next) = crowded(100);
        assert!(put(&mut table, next) && in_old(&table) > 0);
        let seed = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let picked: BTreeSet<_> = (0..20_000).filter_map(|n| table.pick(seed(n))).map(|it| it.member).collect();
        assert_eq!(picked.len(), next + 1);
    }
}
