//! What each member is due: how many slot copies and how many first places, as its weight says.
//!
//! First places are simply shared by weight. Copies are shared by weight too, within two limits that come first: no
//! member holds two copies of a slot, and a slot's copies take the zones in rounds (one from each zone, then a second
//! from each, ...). So a zone is due at least the rounds that every slot gives it and at most one more, and a member at
//! most one copy of each slot; what a limit takes from one, the others share by weight (water-filling).
//!
//! With one zone, or as many equal zones as you like, and no weight above total/N, this is plainly
//! `N * weight / total weight` copies of each slot.

use super::member::Member;
use super::walk::zone_numbers;
use crate::base::ids::SLOT_COUNT;

/// Loads that the members should have, in slots, by index.
#[derive(Debug)]
pub(super) struct Due {
    /// Copies of slots, of `SLOT_COUNT * copies` in all.
    pub(super) copies: Vec<f64>,
    /// Slots whose list it leads, of `SLOT_COUNT` in all.
    pub(super) firsts: Vec<f64>,
}

/// The loads due when each slot has `copies` home replicas (capped by the number of members).
pub(super) fn due(members: &[Member], copies: usize) -> Due {
    let copies = copies.min(members.len());
    let slots = SLOT_COUNT as f64;
    let total: f64 = members.iter().map(|member| member.weight).sum();
    let firsts = members.iter().map(|member| slots * member.weight / total).collect();

    let (zones, zone_count) = zone_numbers(members);
    let mut sizes = vec![0usize; zone_count];
    let mut weights = vec![0.0; zone_count];
    for (member, &zone) in members.iter().zip(&zones) {
        sizes[usize::from(zone)] += 1;
        weights[usize::from(zone)] += member.weight;
    }
    let full_rounds = full_rounds(&sizes, copies);
    let limits = sizes.iter().map(|&size| (size.min(full_rounds) as f64, size.min(full_rounds + 1) as f64));
    let zone_due = fill(copies as f64, &weights.iter().copied().zip(limits).collect::<Vec<_>>());

    let mut copies = vec![0.0; members.len()];
    for (zone, due) in zone_due.into_iter().enumerate() {
        let here: Vec<usize> = (0..members.len()).filter(|&index| usize::from(zones[index]) == zone).collect();
        let limits: Vec<_> = here.iter().map(|&index| (members[index].weight, (0.0, 1.0))).collect();
        for (index, due) in here.into_iter().zip(fill(due, &limits)) {
            copies[index] = slots * due;
        }
    }
    Due { copies, firsts }
}

/// How many members every zone gives to every slot, as far as it has them.
fn full_rounds(sizes: &[usize], copies: usize) -> usize {
    let taken_by = |rounds: usize| -> usize { sizes.iter().map(|&size| size.min(rounds)).sum() };
    (1..=copies).take_while(|&rounds| taken_by(rounds) <= copies).last().unwrap_or(0)
}

/// Shares `total` by weight between (weight, (least, most)): each gets `clamp(level * weight, least, most)`.
///
/// The level is found by halving; `total` must lie between the sums of the limits.
fn fill(total: f64, parts: &[(f64, (f64, f64))]) -> Vec<f64> {
    let at = |level: f64| parts.iter().map(move |&(weight, (least, most))| (level * weight).clamp(least, most));
    let lightest = parts.iter().map(|part| part.0).fold(f64::INFINITY, f64::min);
    let (mut low, mut high) = (0.0, (total + 1.0) / lightest);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if at(middle).sum::<f64>() < total {
            low = middle;
        } else {
            high = middle;
        }
    }
    at(high).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;

    fn copies(spec: &[(&str, f64)], copies: usize) -> Vec<f64> {
        let member = |(index, &(zone, weight)): (usize, &(&str, f64))| Member {
            id: NodeId::from_bytes([index as u8; 20]),
            zone: zone.to_string(),
            weight,
        };
        let members: Vec<Member> = spec.iter().enumerate().map(member).collect();
        due(&members, copies).copies.into_iter().map(|due| (due / SLOT_COUNT as f64 * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn plain_weights_are_shared_plainly() {
        assert_eq!(copies(&[("", 1.0), ("", 1.0), ("", 2.0), ("", 4.0)], 2), [0.25, 0.25, 0.5, 1.0]);
    }

    #[test]
    fn nobody_is_due_two_copies_of_a_slot() {
        assert_eq!(copies(&[("", 100.0), ("", 1.0), ("", 1.0)], 2), [1.0, 0.5, 0.5]);
        assert_eq!(copies(&[("", 1.0), ("", 9.0)], 3), [1.0, 1.0]);
    }

    #[test]
    fn zones_come_before_weights() {
        // Three zones and three copies: one copy each, however many members share it.
        assert_eq!(copies(&[("a", 1.0), ("b", 1.0), ("c", 1.0), ("c", 3.0)], 3), [1.0, 1.0, 0.25, 0.75]);
        // Two zones and three copies: each slot has one in the small zone, and two in the large.
        assert_eq!(copies(&[("a", 1.0), ("b", 1.0), ("b", 1.0), ("b", 2.0)], 3), [1.0, 0.5, 0.5, 1.0]);
    }
}
