//! Where a slot's entries are: an open-addressing table whose unit is a cache line.
//!
//! A [`Line`] is 64 bytes: seven entries, a byte of each entry's hash, and a count of the entries that were meant for
//! this line and had to pass it by. Looking a key up costs one line, compares all seven tags at once, and touches an
//! entry only when its tag fits; a line that nobody has passed ends the search (Bronson and Shi, "Open-sourcing F14",
//! 2019). The number of lines is not only a power of two, so that tables of some dozens of entries stay full.
//!
//! Invariants: an entry lies in the first line, from its home line on, that had room when it came; each line between
//! counts it in `passed`, where [`PASSED_MAX`] stands for "that or more" and is never counted down. Entries move only
//! when the table grows or shrinks.
//!
//! Knows nothing of keys: whoever asks brings the hash and compares.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::store::entry::Entry;
use crate::store::prefetch::prefetch;

/// Entries in a line.
const WAYS: usize = 7;
/// Places of a line: a power of two, so that taking a place apart is cheap. The last is never taken.
const LINE_PLACES: usize = 8;
const PASSED_MAX: u8 = u8::MAX;
/// How far ahead of a walk entries are fetched.
const LINES_AHEAD: usize = 2;

/// See the head of the file.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Line {
    /// A byte of the entry's hash; 0 for none.
    tags: [u8; WAYS],
    passed: u8,
    entries: [Option<Entry>; WAYS],
}

const _: () = assert!(size_of::<Line>() == 64);

/// An entry's place: a number below [`Index::places`].
pub type Place = usize;

/// The entries of one slot.
#[derive(Debug, Default)]
pub struct Index {
    lines: Box<[Line]>,
    len: usize,
}

/// Where an index's memory is, for who does not hold its lock: stale at worst, and good for nothing but a hint.
#[derive(Debug, Default)]
pub struct Whereabouts {
    lines: AtomicPtr<Line>,
    count: AtomicU32,
}

impl Whereabouts {
    /// Has the line fetched in which an entry of this hash probably is.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let count = self.count.load(Ordering::Relaxed);
        prefetch(self.lines.load(Ordering::Relaxed).wrapping_add(home(hash, count as usize)));
    }

    /// False when there was no memory of it, and so no entry, when it was last noted.
    #[inline]
    pub fn is_somewhere(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Notes where `index` is now.
    #[inline]
    pub fn note(&self, index: &Index) {
        let (lines, count) = (index.lines.as_ptr().cast_mut(), index.lines.len() as u32);
        if self.lines.load(Ordering::Relaxed) != lines || self.count.load(Ordering::Relaxed) != count {
            self.lines.store(lines, Ordering::Relaxed);
            self.count.store(count, Ordering::Relaxed);
        }
    }
}

impl Index {
    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Places, taken or not: those that never are included.
    pub fn places(&self) -> usize {
        self.lines.len() * LINE_PLACES
    }

    /// Bytes that the lines take. Numbers of lines are such that the allocator adds nothing, see [`grown`].
    #[inline]
    pub fn allocation_bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Where the entry with this hash is for which `is_it` holds.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(&Entry) -> bool) -> Option<Place> {
        let first = home(hash, self.lines.len());
        let mut at = first;
        loop {
            let line = self.lines.get(at)?;
            for way in line.ways_of(tag(hash)) {
                if line.entries.get(way).and_then(Option::as_ref).is_some_and(&is_it) {
                    return Some(at * LINE_PLACES + way);
                }
            }
            at = self.next(at);
            if line.passed == 0 || at == first {
                return None;
            }
        }
    }

    /// Has the memory fetched of those entries in the hash's home line whose tags fit.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let Some(line) = self.lines.get(home(hash, self.lines.len())) else { return };
        for way in line.ways_of(tag(hash)) {
            if let Some(Some(entry)) = line.entries.get(way) {
                entry.prefetch();
            }
        }
    }

    /// The entry at a place, if there is one.
    #[inline]
    pub fn get(&self, place: Place) -> Option<&Entry> {
        self.lines.get(place / LINE_PLACES)?.entries.get(place % LINE_PLACES)?.as_ref()
    }

    /// As [`get`](Index::get), to change it or put another in its stead.
    #[inline]
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.lines.get_mut(place / LINE_PLACES)?.entries.get_mut(place % LINE_PLACES)?.as_mut()
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        (0..self.places()).filter_map(|place| {
            self.prefetch_ahead(place, 0);
            self.get(place)
        })
    }

    /// To be called for each place of a walk that began at `from`, before the entry there is looked at: has the memory
    /// fetched of those that come next, because the misses of a walk would come one after the other.
    #[inline]
    pub fn prefetch_ahead(&self, place: Place, from: Place) {
        let at = place / LINE_PLACES;
        let lines = match (place == from, place.is_multiple_of(LINE_PLACES)) {
            (true, _) => at..at + LINES_AHEAD + 1,
            (false, true) => at + LINES_AHEAD..at + LINES_AHEAD + 1,
            (false, false) => return,
        };
        lines.filter_map(|at| self.lines.get(at)).for_each(Line::prefetch_entries);
    }

    /// True when the next insertion lays the table out anew.
    pub fn is_full(&self) -> bool {
        self.len >= room(self.lines.len())
    }

    /// Puts in an entry that is not there yet. `rehash` gives the hashes of those that have to move.
    pub fn insert(&mut self, hash: u64, entry: Entry, rehash: impl Fn(&Entry) -> u64) {
        if self.is_full() {
            self.resize(grown(self.lines.len()), rehash);
        }
        self.place(hash, entry);
    }

    /// Takes out the entry at `place`, whose hash is `hash`.
    pub fn remove(&mut self, place: Place, hash: u64) -> Option<Entry> {
        let (last, way) = (place / LINE_PLACES, place % LINE_PLACES);
        let line = self.lines.get_mut(last)?;
        let entry = line.entries.get_mut(way)?.take()?;
        if let Some(tag) = line.tags.get_mut(way) {
            *tag = 0;
        }
        self.len -= 1;
        let mut at = home(hash, self.lines.len());
        while at != last {
            let next = self.next(at);
            let line = self.lines.get_mut(at)?;
            if line.passed != PASSED_MAX {
                line.passed -= 1;
            }
            at = next;
        }
        Some(entry)
    }

    /// Gives memory back when few of many places are taken, and all of it when none is; true when the table was laid
    /// anew.
    #[inline]
    pub fn shrink_if_sparse(&mut self, rehash: impl Fn(&Entry) -> u64) -> bool {
        let is_sparse = self.len * 8 < self.lines.len() * WAYS && (self.lines.len() > 1 || self.len == 0);
        if is_sparse {
            self.resize(lines_for(self.len * 2), rehash);
        }
        is_sparse
    }

    /// Takes every entry out, and puts back what `keep` makes of it, if anything, in a table that is no larger than
    /// needed.
    pub fn retain(&mut self, rehash: impl Fn(&Entry) -> u64, mut keep: impl FnMut(Entry) -> Option<Entry>) {
        let old = std::mem::take(&mut self.lines);
        let mut kept = Vec::new();
        drain(old, |entry| kept.extend(keep(entry)));
        self.lines = (0..lines_for(kept.len())).map(|_| Line::default()).collect();
        self.len = 0;
        for entry in kept {
            self.place(rehash(&entry), entry);
        }
    }

    fn resize(&mut self, lines: usize, rehash: impl Fn(&Entry) -> u64) {
        let fresh = (0..lines).map(|_| Line::default()).collect();
        let old = std::mem::replace(&mut self.lines, fresh);
        self.len = 0;
        drain(old, |entry| self.place(rehash(&entry), entry));
    }

    fn place(&mut self, hash: u64, entry: Entry) {
        let mut at = home(hash, self.lines.len());
        loop {
            let next = self.next(at);
            let Some(line) = self.lines.get_mut(at) else { return };
            let free = line.ways_of(0).next();
            if let Some((place, known)) =
                free.and_then(|way| Some((line.entries.get_mut(way)?, line.tags.get_mut(way)?)))
            {
                *known = tag(hash);
                *place = Some(entry);
                self.len += 1;
                return;
            }
            line.passed = line.passed.saturating_add(1);
            at = next;
        }
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.lines.len() { 0 } else { at + 1 }
    }
}

impl Line {
    #[inline]
    fn prefetch_entries(&self) {
        self.entries.iter().flatten().for_each(Entry::prefetch);
    }

    /// The ways whose tag is this one.
    #[inline]
    fn ways_of(&self, tag: u8) -> impl Iterator<Item = usize> + use<> {
        let [a, b, c, d, e, f, g] = self.tags;
        // With the byte that lies behind the tags all are read at once.
        let differing = u64::from_le_bytes([a, b, c, d, e, f, g, self.passed]) ^ u64::from(tag).wrapping_mul(LOW_BITS);
        // The high bit of each byte that is zero, exactly (Mycroft's test without its false positives).
        let mut zeros = !(((differing & !HIGH_BITS) + !HIGH_BITS) | differing | !HIGH_BITS) & TAG_BITS;
        std::iter::from_fn(move || {
            let way = (zeros != 0).then(|| zeros.trailing_zeros() as usize / 8);
            zeros &= zeros.wrapping_sub(1);
            way
        })
    }
}

/// Takes every entry out of these lines. Each is read for its key: those of the next line are fetched meanwhile.
fn drain(lines: Box<[Line]>, mut take: impl FnMut(Entry)) {
    lines.first().into_iter().for_each(Line::prefetch_entries);
    let mut rest = lines.into_iter().peekable();
    while let Some(line) = rest.next() {
        rest.peek().into_iter().for_each(Line::prefetch_entries);
        line.entries.into_iter().flatten().for_each(&mut take);
    }
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
/// The bytes that are tags.
const TAG_BITS: u64 = u64::MAX >> 8;

/// The line in which the search for a hash begins: the low half of the hash, scaled.
#[inline]
fn home(hash: u64, lines: usize) -> usize {
    ((u64::from(hash as u32) * lines as u64) >> 32) as usize
}

/// The byte of a hash that a line keeps; never 0.
#[inline]
fn tag(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

/// Entries that this many lines take before they grow.
fn room(lines: usize) -> usize {
    match lines {
        0 | 1 => lines * WAYS,
        _ => lines * WAYS * 9 / 10,
    }
}

/// The smallest size that takes so many entries.
fn lines_for(len: usize) -> usize {
    let mut lines = 0;
    while room(lines) < len {
        lines = grown(lines);
    }
    lines
}

/// The next size: 1, 2, 3, 4, 6, 8, 12, 16, 24 ... lines. These are size classes of the allocator, so nothing is lost
/// to rounding, and they are few, because the slots that lag behind keep the last class's memory from being given back.
fn grown(lines: usize) -> usize {
    match lines {
        0 | 1 => lines + 1,
        _ if lines.is_power_of_two() => lines + lines / 2,
        _ => lines + lines / 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::version::Version;
    use crate::store::entry::{Meta, Payload};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn entry(name: u16) -> Entry {
        Entry::new(0, &name.to_le_bytes(), Payload::String(b"v"), &Version::default(), Meta::default())
    }

    fn hash(key: &[u8]) -> u64 {
        // Few different homes and tags, so that lines overflow and tags collide.
        let number = key.iter().fold(0u64, |sum, byte| sum * 256 + u64::from(*byte));
        (number % 5) << 30 | (number % 3) << 56
    }

    fn place_of(index: &Index, name: u16) -> Option<Place> {
        let key = name.to_le_bytes();
        index.find(hash(&key), |entry| entry.key() == key)
    }

    proptest! {
        #[test]
        fn an_index_holds_what_a_set_holds(steps in prop::collection::vec((0u16..200, 0u8..4), 0..600)) {
            let (mut index, mut model) = (Index::default(), BTreeSet::new());
            for (name, what) in steps {
                let found = place_of(&index, name);
                prop_assert_eq!(found.is_some(), model.contains(&name));
                match (what, found) {
                    (0, Some(place)) => {
                        let gone = index.remove(place, hash(&name.to_le_bytes()));
                        prop_assert_eq!(gone.map(|entry| entry.key().to_vec()), Some(name.to_le_bytes().to_vec()));
                        model.remove(&name);
                    }
                    (1, _) => drop(index.shrink_if_sparse(|entry| hash(entry.key()))),
                    (2, _) if name < 10 => {
                        let is_kept = |entry: &Entry| entry.key().first().is_some_and(|byte| byte % 3 != 0);
                        index.retain(|entry| hash(entry.key()), |entry| Some(entry).filter(is_kept));
                        model.retain(|name| (name % 256) % 3 != 0);
                    }
                    (_, None) => {
                        index.insert(hash(&name.to_le_bytes()), entry(name), |entry| hash(entry.key()));
                        model.insert(name);
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len(), model.len());
            }
            let mut names: Vec<_> = index.iter().map(|entry| entry.key().to_vec()).collect();
            names.sort_unstable();
            let mut wanted: Vec<_> = model.iter().map(|name| name.to_le_bytes().to_vec()).collect();
            wanted.sort_unstable();
            prop_assert_eq!(names, wanted);
            prop_assert_eq!((0..index.places()).filter(|place| index.get(*place).is_some()).count(), model.len());
        }

        #[test]
        fn all_ways_of_a_tag_are_found_and_no_other(tags: [u8; WAYS], tag: u8) {
            let line = Line { tags, ..Line::default() };
            let wanted: Vec<_> = (0..WAYS).filter(|way| tags[*way] == tag).collect();
            prop_assert_eq!(line.ways_of(tag).collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn a_table_of_many_entries_is_mostly_full() {
        let mut index = Index::default();
        let spread = |key: &[u8]| crate::store::hash_name(0, key);
        for name in 0..10_000u16 {
            index.insert(spread(&name.to_le_bytes()), entry(name), |entry| spread(entry.key()));
            let lines = index.lines.len();
            assert!(index.len() * 2 > lines * WAYS || lines == 1, "{} in {lines} lines", index.len());
        }
    }
}
