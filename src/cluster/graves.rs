//! When a deletion may be forgotten: rules without a clock or a socket.
//!
//! A tombstone keeps older copies of its key from coming back, so it may go only when there is none: every home replica of
//! its slot was found, in a comparison begun after the deletion, to hold no live copy of what is deleted here; every other
//! member has said since that it owes nobody anything (no hint, no copy kept for another); and it is older than anything
//! that may still be under way. Time alone never does it. How old it is, is told by comparing its stamp with our clock, so what
//! our clock is ahead of the others' counts as age that it must have besides; and a confirmation counts no more once a
//! later comparison found otherwise.
//!
//! A member that is down can confirm nothing, so it holds up collecting, but not for ever: see `absence`.

use std::collections::BTreeMap;

use crate::base::clock::Hlc;
use crate::base::ids::{NodeId, Slot};

/// What comparisons have confirmed so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Graves {
    /// For each life of a node and slot: when the last comparison began that found nothing alive of what is deleted here,
    /// in milliseconds since 1970.
    confirmed: BTreeMap<(NodeId, u64), BTreeMap<Slot, u64>>,
}

impl Graves {
    /// This life of a node was found, in a comparison begun at `began_ms`, to hold nothing of this slot that is deleted here.
    pub fn confirm(&mut self, node: NodeId, generation: u64, slot: Slot, began_ms: u64) {
        self.confirmed.entry((node, generation)).or_default().insert(slot, began_ms);
    }

    /// This life of a node was found, or may be, to hold something that is deleted here: of this slot, or of any.
    pub fn retract(&mut self, node: NodeId, generation: u64, slot: Option<Slot>) {
        match (self.confirmed.get_mut(&(node, generation)), slot) {
            (Some(confirmed), Some(slot)) => drop(confirmed.remove(&slot)),
            (Some(confirmed), None) => confirmed.clear(),
            (None, _) => {}
        }
    }

    /// Forgets what nodes said that are no longer there in that life.
    pub fn retain(&mut self, is_there: impl Fn(NodeId, u64) -> bool) {
        self.confirmed.retain(|(node, generation), _| is_there(*node, *generation));
    }

    /// The stamp up to which tombstones of `slot` may go; `None` for none of them.
    ///
    /// `homes` are the slot's other home replicas with their lives, those left out not among them. `calm_ms` is when the last
    /// round of questions began that everybody answered with "I owe nobody anything".
    pub fn bound(&self, slot: Slot, homes: &[(NodeId, u64)], calm_ms: Option<u64>, age_min_ms: u64) -> Option<Hlc> {
        let confirmed = |home: &(NodeId, u64)| self.confirmed.get(home)?.get(&slot).copied();
        let oldest = homes.iter().map(confirmed).try_fold(calm_ms?, |oldest, at| Some(oldest.min(at?)))?;
        Some(Hlc::at_ms(oldest.checked_sub(age_min_ms)?))
    }
}

/// How far our clock is ahead of the one that is furthest behind, of those that are this far ahead of ours, in milliseconds.
pub fn lead_ms(ahead_us: impl Iterator<Item = i64>) -> u64 {
    ahead_us
        .map(|ahead_us| ahead_us.saturating_neg())
        .max()
        .map_or(0, |us| u64::try_from(us).unwrap_or(0).div_ceil(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 20])
    }

    #[test]
    fn a_deletion_goes_only_when_all_homes_confirmed_it_all_are_calm_and_it_is_old() {
        let slot = Slot::new(7).expect("a slot");
        let homes = [(node(1), 10), (node(2), 20)];
        let mut graves = Graves::default();
        assert_eq!(graves.bound(slot, &homes, Some(5_000), 100), None);
        graves.confirm(node(1), 10, slot, 4_000);
        assert_eq!(graves.bound(slot, &homes, Some(5_000), 100), None, "one of two");
        graves.confirm(node(2), 19, slot, 6_000);
        assert_eq!(graves.bound(slot, &homes, Some(5_000), 100), None, "an earlier life");
        graves.confirm(node(2), 20, slot, 6_000);
        assert_eq!(graves.bound(slot, &homes, None, 100), None, "never calm");
        assert_eq!(graves.bound(slot, &homes, Some(5_000), 100), Some(Hlc::at_ms(3_900)));
        assert_eq!(graves.bound(slot, &homes, Some(3_000), 100), Some(Hlc::at_ms(2_900)));
        assert_eq!(graves.bound(slot, &homes, Some(5_000), 9_000), None, "younger than what may be under way");
        assert_eq!(graves.bound(Slot::new(8).expect("a slot"), &homes, Some(5_000), 100), None);
        graves.retain(|id, _| id == node(1));
        assert_eq!(graves.bound(slot, &homes, Some(5_000), 100), None);
        assert_eq!(graves.bound(slot, &homes[..1], Some(5_000), 100), Some(Hlc::at_ms(3_900)));
    }

    #[test]
    fn what_a_later_comparison_found_otherwise_is_no_confirmation_any_more() {
        let [slot, other] = [7, 8].map(|number| Slot::new(number).expect("a slot"));
        let homes = [(node(1), 10)];
        let mut graves = Graves::default();
        [slot, other].iter().for_each(|slot| graves.confirm(node(1), 10, *slot, 4_000));
        graves.retract(node(1), 10, Some(slot));
        assert_eq!(graves.bound(slot, &homes, Some(5_000), 0), None);
        assert_eq!(graves.bound(other, &homes, Some(5_000), 0), Some(Hlc::at_ms(4_000)));
        graves.retract(node(1), 10, None);
        assert_eq!(graves.bound(other, &homes, Some(5_000), 0), None);
    }

    #[test]
    fn the_clock_that_is_furthest_behind_counts() {
        assert_eq!(lead_ms([].into_iter()), 0);
        assert_eq!(lead_ms([5_000_000, 300].into_iter()), 0, "all are ahead of ours");
        assert_eq!(lead_ms([-1_500, -70_000_001, 4].into_iter()), 70_001);
    }
}
