//! The circle: how far each slot is from each member, and the orders that follow from it.
//!
//! Slots sit at even distances on a circle of 2^32 points, virtual nodes at hashed ones; a member's distance from a
//! slot is that of its nearest virtual node clockwise. Divided by the member's rate, the distances order the members
//! for the slot; with equal rates this is Karger's walk. Lists then take zones in rounds: first the nearest member of
//! each zone, then the second nearest of each, and so on, so replicas are on distinct zones while there are enough and
//! are spread evenly over them when there are not.
//!
//! Only `+ * / <` of IEEE 754 doubles are used, which are exact to the bit on every machine. Ties go to the lower id.

use super::member::Member;
use crate::base::ids::{NodeId, SLOT_COUNT};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Virtual nodes of one member, whatever its weight.
pub(super) const VNODES: u32 = 1_024;

/// Seed of the places on the circle. Never changes.
const CIRCLE_SEED: u64 = 0x726f_6e64_6f2d_7631;
/// Where the round stands above the nearness in one number.
const ROUND_SHIFT: u32 = 56;
/// Behind every round, with room for [`REPLICAS_MAX`](super::placement::REPLICAS_MAX) rounds to be added to it.
const TAKEN: u64 = 0xc0 << ROUND_SHIFT;
/// Points between two slots.
const SLOT_STRIDE: u32 = ((1u64 << 32) / SLOT_COUNT as u64) as u32;

/// Distances of all slots from all members, and the members' zones.
pub(super) struct Walk {
    members: usize,
    /// `SLOT_COUNT` rows of `members` distances, at least 1 each.
    distances: Vec<u32>,
    /// Zone number of each member.
    zones: Vec<u16>,
    zone_count: usize,
}

impl Walk {
    /// Places the members on the circle. At most 65,536 of them.
    pub(super) fn new(members: &[Member]) -> Walk {
        let mut distances = vec![0; SLOT_COUNT * members.len()];
        for (index, member) in members.iter().enumerate() {
            let circle = places(&member.id);
            let mut next = 0;
            for slot in 0..SLOT_COUNT {
                let here = slot as u32 * SLOT_STRIDE;
                while next < circle.len() && circle[next] < here {
                    next += 1;
                }
                let place = circle.get(next).unwrap_or(&circle[0]);
                distances[slot * members.len() + index] = place.wrapping_sub(here).saturating_add(1);
            }
        }
        let (zones, zone_count) = zone_numbers(members);
        Walk { members: members.len(), distances, zones, zone_count }
    }

    /// Writes each slot's `copies` home replicas (at most as many as members), in list order, into `homes` (`copies`
    /// entries for each slot).
    pub(super) fn choose_homes(&self, rates: &[f64], copies: usize, homes: &mut [u16]) {
        let mut keys = vec![0; self.members];
        for (distances, homes) in self.distances.chunks_exact(self.members).zip(homes.chunks_exact_mut(copies)) {
            for ((key, &distance), &rate) in keys.iter_mut().zip(distances).zip(rates) {
                *key = nearness(distance, rate);
            }
            for home in homes {
                let mut best = (u64::MAX, 0);
                for (index, &key) in keys.iter().enumerate() {
                    best = if key < best.0 { (key, index) } else { best };
                }
                *home = best.1 as u16;
                // The others of its zone wait for the next round.
                let zone = self.zones[best.1];
                for (key, &theirs) in keys.iter_mut().zip(&self.zones) {
                    *key += u64::from(theirs == zone) << ROUND_SHIFT;
                }
                keys[best.1] = TAKEN;
            }
        }
    }

    /// Writes into `firsts` which of its home replicas comes first in each slot's list: the nearest under `rates`.
    pub(super) fn choose_firsts(&self, rates: &[f64], homes: &[u16], copies: usize, firsts: &mut [u16]) {
        let rows = self.distances.chunks_exact(self.members).zip(homes.chunks_exact(copies));
        for ((distances, homes), first) in rows.zip(firsts) {
            let mut best = u64::MAX;
            for &home in homes {
                let key = nearness(distances[usize::from(home)], rates[usize::from(home)]);
                if key < best {
                    best = key;
                    *first = home;
                }
            }
        }
    }

    /// The whole lists: the first, then everybody else by round and distance, home replicas before stand-ins.
    ///
    /// `rates` must be those that the home replicas were chosen with, and `firsts` be among these.
    pub(super) fn lists(&self, rates: &[f64], firsts: &[u16]) -> Vec<u16> {
        let mut lists = vec![0u16; SLOT_COUNT * self.members];
        // Round, nearness, member.
        let mut order: Vec<(u16, u64, u16)> = Vec::with_capacity(self.members);
        let mut taken = vec![0u16; self.zone_count];
        let rows = self.distances.chunks_exact(self.members).zip(firsts);
        for ((distances, &first), list) in rows.zip(lists.chunks_exact_mut(self.members)) {
            order.clear();
            let keys = distances.iter().zip(rates).enumerate();
            order.extend(keys.map(|(index, (&distance, &rate))| (0, nearness(distance, rate), index as u16)));
            order.sort_unstable();
            if self.zone_count > 1 {
                taken.fill(0);
                for (round, _, index) in &mut order {
                    let zone = &mut taken[usize::from(self.zones[usize::from(*index)])];
                    *round = *zone;
                    *zone += 1;
                }
                order.sort_unstable();
            }
            let others = order.iter().map(|&(_, _, index)| index).filter(|&index| index != first);
            for (place, index) in list.iter_mut().zip(std::iter::once(first).chain(others)) {
                *place = index;
            }
        }
        lists
    }
}

/// The distance divided by the rate, as a number of 56 bits that orders alike: positive doubles order as their bits do.
fn nearness(distance: u32, rate: f64) -> u64 {
    (f64::from(distance) / rate).to_bits() >> (64 - ROUND_SHIFT)
}

/// A member's virtual nodes in ascending order.
fn places(id: &NodeId) -> Vec<u32> {
    let mut seed = [0u8; 24];
    seed[..20].copy_from_slice(id.as_bytes());
    let mut circle: Vec<u32> = (0..VNODES)
        .map(|vnode| {
            seed[20..].copy_from_slice(&vnode.to_le_bytes());
            (xxh3_64_with_seed(&seed, CIRCLE_SEED) >> 32) as u32
        })
        .collect();
    circle.sort_unstable();
    circle
}

/// Zones as numbers, and how many there are.
pub(super) fn zone_numbers(members: &[Member]) -> (Vec<u16>, usize) {
    let mut names: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let number = |member: &Member| names.binary_search(&member.zone.as_str()).unwrap_or_default() as u16;
    (members.iter().map(number).collect(), names.len())
}
