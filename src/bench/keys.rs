//! The keys a load asks for: how they are written, which hash slot they live in and which one comes next.
//!
//! A key is a prefix and twelve decimal digits, `key:000000000042`, as redis-benchmark writes them. The digits are
//! handled in four groups of three: one table gives a group's characters, and, because CRC16 with a zero start is
//! linear over XOR, another gives what the group contributes to the slot. A key and its slot so cost four look-ups
//! each.
//!
//! [`Picker`] draws key numbers at random, uniformly or by Zipf's law (rank 1 is key 0), and can be held to the keys
//! that one node owns. [`Filler`] deals out every key exactly once, to whichever node owns it.
//!
//! Invariant: a picker held to a node only gives keys of slots which the map it was made with assigns to that node.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use super::topology::SlotMap;
use crate::base::ids::{Slot, slot_of};

/// How many digits follow the prefix.
pub const DIGITS: usize = 12;
/// The largest number of different keys: what [`DIGITS`] can tell apart.
pub const KEYS_MAX: u64 = 1_000_000_000_000;

/// How many keys are looked at to find out which nodes own any.
const SEARCHED_MAX: u64 = 1_000_000;
const GROUP: usize = 1_000;
const GROUPS: usize = DIGITS / 3;
/// After so many draws for other nodes a picker takes the next key of its own. Never happens with a fair share of the
/// slots: (2/3)^64 is 5e-12.
const DRAWS_MAX: usize = 64;

/// All keys of a load.
#[derive(Debug)]
pub struct KeySpace {
    prefix: Vec<u8>,
    count: u64,
    characters: Box<[[u8; 3]]>,
    /// The slot of the key whose digits are all zero.
    zero_slot: u16,
    /// Per group of digits, most significant first: what each value changes in the slot. Empty when the prefix holds a
    /// hash tag, because then every key lives in the tag's slot.
    contributions: Vec<Box<[u16]>>,
}

impl KeySpace {
    /// Keys `prefix` + 0 .. `prefix` + (`count` - 1); `count` is between 1 and [`KEYS_MAX`].
    pub fn new(prefix: &str, count: u64) -> KeySpace {
        let characters = (0..GROUP).map(|value| digits_of(value).map(|digit| b'0' + digit)).collect();
        let mut zero_key = prefix.as_bytes().to_vec();
        zero_key.extend_from_slice(&[b'0'; DIGITS]);
        let after_brace = prefix.split_once('{').map(|(_, rest)| rest);
        let tagged = after_brace.and_then(|rest| rest.find('}')).is_some_and(|tag_bytes| tag_bytes > 0);
        let contributions = if tagged { Vec::new() } else { (0..GROUPS).map(contributions_of).collect() };
        KeySpace {
            prefix: prefix.as_bytes().to_vec(),
            count: count.clamp(1, KEYS_MAX),
            characters,
            zero_slot: slot_of(&zero_key).number(),
            contributions,
        }
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What every key starts with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The digits of key `number`.
    pub fn digits(&self, number: u64) -> [u8; DIGITS] {
        let mut digits = [b'0'; DIGITS];
        for (to, value) in digits.chunks_exact_mut(3).zip(groups_of(number)) {
            if let Some(characters) = self.characters.get(value) {
                to.copy_from_slice(characters);
            }
        }
        digits
    }

    /// The hash slot of key `number`.
    pub fn slot(&self, number: u64) -> Slot {
        let changes = self.contributions.iter().zip(groups_of(number));
        let slot = changes.fold(self.zero_slot, |slot, (table, value)| slot ^ table.get(value).copied().unwrap_or(0));
        Slot::new(slot).unwrap_or_else(|| slot_of(&[]))
    }
}

/// The nodes of `map` that own at least one of the first [`SEARCHED_MAX`] keys, in the map's order.
pub fn owners_of(map: &SlotMap, space: &KeySpace) -> Vec<u16> {
    let mut owns = vec![false; map.addresses().len()];
    let mut missing = owns.len();
    for number in 0..space.count.min(SEARCHED_MAX) {
        if missing == 0 {
            break;
        }
        let owner = map.owner(space.slot(number)).and_then(|owner| owns.get_mut(usize::from(owner)));
        if let Some(owns @ false) = owner {
            *owns = true;
            missing -= 1;
        }
    }
    let owners = owns.iter().enumerate().filter(|(_, owns)| **owns);
    owners.filter_map(|(node, _)| u16::try_from(node).ok()).collect()
}

fn groups_of(number: u64) -> [usize; GROUPS] {
    [number / 1_000_000_000 % 1_000, number / 1_000_000 % 1_000, number / 1_000 % 1_000, number % 1_000]
        .map(|g| g as usize)
}

fn digits_of(value: usize) -> [u8; 3] {
    [value / 100 % 10, value / 10 % 10, value % 10].map(|digit| digit as u8)
}

/// The slot of a message of zero bits but for one group: leading zeros do not matter, trailing ones do.
fn contributions_of(group: usize) -> Box<[u16]> {
    let contribution = |value| {
        let mut bits = [0; DIGITS];
        if let Some(place) = bits.chunks_exact_mut(3).nth(group) {
            place.copy_from_slice(&digits_of(value));
        }
        slot_of(&bits).number()
    };
    (0..GROUP).map(contribution).collect()
}

/// Draws keys at random for one connection.
#[derive(Debug)]
pub struct Picker {
    space: Arc<KeySpace>,
    zipf: Option<Zipf<f64>>,
    rng: SmallRng,
    home: Option<(Arc<SlotMap>, u16)>,
}

impl Picker {
    /// `skew` is Zipf's exponent, 0 for uniform; `home` holds the picker to the keys of one node of a map, which must
    /// own at least one of them.
    pub fn new(space: Arc<KeySpace>, skew: f64, seed: u64, home: Option<(Arc<SlotMap>, u16)>) -> Picker {
        let zipf = if skew > 0.0 { Zipf::new(space.count() as f64, skew).ok() } else { None };
        Picker { space, zipf, rng: SmallRng::seed_from_u64(seed), home }
    }

    /// The number of the next key.
    pub fn next_key(&mut self) -> u64 {
        let Picker { space, zipf, rng, home } = self;
        let mut number = draw(space, zipf.as_ref(), rng);
        let Some((map, node)) = home else { return number };
        let at_home = |number: &u64| map.owner(space.slot(*number)) == Some(*node);
        for _ in 0..DRAWS_MAX {
            if at_home(&number) {
                return number;
            }
            number = draw(space, zipf.as_ref(), rng);
        }
        (number..space.count()).chain(0..number).find(at_home).unwrap_or(number)
    }

    /// The generator, for the other choices that a load makes.
    pub fn rng(&mut self) -> &mut SmallRng {
        &mut self.rng
    }
}

fn draw(space: &KeySpace, zipf: Option<&Zipf<f64>>, rng: &mut SmallRng) -> u64 {
    match zipf {
        None => rng.random_range(0..space.count),
        // Rounding may give one rank more than there are.
        Some(zipf) => (zipf.sample(rng) as u64).clamp(1, space.count) - 1,
    }
}

/// Deals out every key once, shared by all connections that load the key space.
#[derive(Debug)]
pub struct Filler {
    space: Arc<KeySpace>,
    state: Mutex<FillState>,
}

#[derive(Debug)]
struct FillState {
    next: u64,
    /// The map that `waiting` is sorted by; `None` when any connection may load any key.
    map: Option<Arc<SlotMap>>,
    /// Keys drawn while looking for another node's, by the node that owns them.
    waiting: Vec<VecDeque<u64>>,
}

impl Filler {
    /// A filler that has dealt nothing yet.
    pub fn new(space: Arc<KeySpace>) -> Filler {
        Filler { space, state: Mutex::new(FillState { next: 0, map: None, waiting: vec![VecDeque::new()] }) }
    }

    /// Appends up to `count` keys to `keys`, only `home`'s when given; appends none when they are all dealt.
    pub fn take(&self, home: Option<&(Arc<SlotMap>, u16)>, count: usize, keys: &mut Vec<u64>) {
        let mut state = self.state.lock();
        let node = match home {
            None => 0,
            Some((map, node)) => {
                state.sort_by(map, &self.space);
                usize::from(*node)
            }
        };
        for _ in 0..count {
            match state.next_for(node, &self.space) {
                Some(key) => keys.push(key),
                None => break,
            }
        }
    }

    /// How many keys were never dealt because no node that was connected owns them.
    pub fn left(&self) -> u64 {
        let state = self.state.lock();
        let waiting: usize = state.waiting.iter().map(VecDeque::len).sum();
        self.space.count() - state.next + waiting as u64
    }
}

impl FillState {
    /// Sorts what waits by `map`, if it is newer than the one used so far.
    fn sort_by(&mut self, map: &Arc<SlotMap>, space: &KeySpace) {
        if self.map.as_ref().is_some_and(|known| known.epoch() >= map.epoch()) {
            return;
        }
        let keys: Vec<u64> = self.waiting.iter_mut().flat_map(std::mem::take).collect();
        self.waiting = vec![VecDeque::new(); map.addresses().len().max(1)];
        for key in keys {
            let owner = usize::from(map.owner(space.slot(key)).unwrap_or(0));
            if let Some(queue) = self.waiting.get_mut(owner) {
                queue.push_back(key);
            }
        }
        self.map = Some(map.clone());
    }

    fn next_for(&mut self, node: usize, space: &KeySpace) -> Option<u64> {
        if let Some(key) = self.waiting.get_mut(node)?.pop_front() {
            return Some(key);
        }
        while self.next < space.count() {
            let key = self.next;
            self.next += 1;
            let Some(map) = &self.map else { return Some(key) };
            let owner = usize::from(map.owner(space.slot(key)).unwrap_or(0));
            if owner == node {
                return Some(key);
            }
            self.waiting.get_mut(owner)?.push_back(key);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thirds() -> Arc<SlotMap> {
        let ranges = [(0, 5_460, "a:1"), (5_461, 10_922, "b:1"), (10_923, 16_383, "c:1")];
        Arc::new(SlotMap::from_ranges(1, ranges.map(|(first, last, address)| (first, last, address.to_string()))))
    }

    #[test]
    fn keys_are_written_and_hashed_as_redis_does() {
        for prefix in ["", "key:", "{user}:", "{}x", "{}x}", "{open", "a}b{c}"] {
            let space = KeySpace::new(prefix, KEYS_MAX);
            for number in [0, 7, 42, 999, 1_000, 123_456_789_012, KEYS_MAX - 1] {
                let text = format!("{prefix}{number:012}");
                assert_eq!(space.digits(number), text.as_bytes()[prefix.len()..]);
                assert_eq!(space.slot(number), slot_of(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn only_nodes_that_own_a_key_are_asked() {
        assert_eq!(owners_of(&thirds(), &KeySpace::new("key:", 1_000)), [0, 1, 2]);
        // Slot 12182.
        assert_eq!(owners_of(&thirds(), &KeySpace::new("{foo}", 1_000)), [2]);
    }

    #[test]
    fn uniform_draws_reach_all_keys_alike() {
        let mut picker = Picker::new(Arc::new(KeySpace::new("key:", 10)), 0.0, 1, None);
        let mut seen = [0_u32; 10];
        for _ in 0..100_000 {
            seen[picker.next_key() as usize] += 1;
        }
        assert!(seen.iter().all(|count| (9_500..10_500).contains(count)), "{seen:?}");
    }

    #[test]
    fn zipf_draws_follow_the_law() {
        for skew in [0.5, 0.99, 1.0, 1.5] {
            let mut picker = Picker::new(Arc::new(KeySpace::new("key:", 1_000)), skew, 2, None);
            let mut seen = vec![0_f64; 1_000];
            for _ in 0..400_000 {
                seen[picker.next_key() as usize] += 1.0;
            }
            let total: f64 = (1..=1_000).map(|rank| f64::from(rank).powf(-skew)).sum();
            for rank in [1, 2, 10, 100] {
                let expected = 400_000.0 * f64::from(rank).powf(-skew) / total;
                let got = seen[rank as usize - 1];
                let deviation = 5.0 * expected.sqrt();
                assert!((got - expected).abs() < deviation, "skew {skew} rank {rank}: {got} for {expected}");
            }
        }
    }

    #[test]
    fn a_picker_at_home_draws_only_its_own_keys() {
        let (space, map) = (Arc::new(KeySpace::new("key:", 1_000)), thirds());
        for node in 0..3 {
            let mut picker = Picker::new(space.clone(), 0.0, 3, Some((map.clone(), node)));
            let mut seen = std::collections::HashSet::new();
            for _ in 0..20_000 {
                let key = picker.next_key();
                assert_eq!(map.owner(slot_of(format!("key:{key:012}").as_bytes())), Some(node));
                seen.insert(key);
            }
            let owned = (0..1_000).filter(|key| map.owner(space.slot(*key)) == Some(node)).count();
            assert_eq!(seen.len(), owned);
        }
    }

    #[test]
    fn a_steep_skew_towards_another_nodes_keys_still_ends() {
        let (space, map) = (Arc::new(KeySpace::new("key:", 1_000)), thirds());
        let stranger = (0..3).find(|node| map.owner(space.slot(0)) != Some(*node)).unwrap();
        let mut picker = Picker::new(space.clone(), 50.0, 4, Some((map.clone(), stranger)));
        assert_eq!(map.owner(space.slot(picker.next_key())), Some(stranger));
    }

    #[test]
    fn a_filler_deals_every_key_once_also_when_the_map_changes() {
        let (space, map) = (Arc::new(KeySpace::new("key:", 5_000)), thirds());
        let filler = Filler::new(space.clone());
        let mut keys = Vec::new();
        filler.take(Some(&(map, 0)), 500, &mut keys);
        let swapped = [(0, 8_000, "c:1"), (8_001, 16_383, "a:1")];
        let newer = Arc::new(SlotMap::from_ranges(2, swapped.map(|(a, b, node)| (a, b, node.to_string()))));
        assert!(filler.left() > 0);
        for node in [0, 1, 0, 1] {
            let mut batch = Vec::new();
            filler.take(Some(&(newer.clone(), node)), 5_000, &mut batch);
            assert!(batch.iter().all(|key| newer.owner(space.slot(*key)) == Some(node)));
            keys.append(&mut batch);
        }
        keys.sort_unstable();
        assert!(keys.iter().copied().eq(0..5_000));
        assert_eq!(filler.left(), 0);
    }
}
