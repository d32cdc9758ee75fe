//! When a deletion may be forgotten, and when a node has been away for too long: rules without a clock or a socket.
//!
//! A tombstone keeps older copies of its key from coming back, so it may go only when there is none: every home replica of
//! its slot was found, in a comparison begun after the deletion, to hold no live copy of what is deleted here; every other
//! member has said since that it owes nobody anything (no hint, no copy kept for another); and it is older than anything
//! that may still be under way. Time alone never does it.
//!
//! A member that is down can confirm nothing, so it holds up collecting, but not for ever: after the *horizon* it is left
//! out, and in return a node that was cut off from a majority for longer than that gives up what it held before and fetches
//! it anew. Only the side with a majority leaves others out, so never do two sides give up each other's data.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// Whether so many of so many members, this node among both, are a majority.
pub fn is_majority(present: usize, members: usize) -> bool {
    present * 2 > members
}

/// Whether a member that has been down for so long is left out by a node that sees a majority.
pub fn is_left_out(down_for: Duration, horizon: Duration, sees_majority: bool) -> bool {
    sees_majority && down_for > horizon
}

/// Whether this node, which last saw a majority so long ago, must give up what it held before. Begins before the others
/// leave it out, so that it is never taken for complete when it comes back in between.
pub fn is_outdated(without_majority_for: Duration, horizon: Duration) -> bool {
    without_majority_for > horizon - horizon / 8
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
    fn only_a_majority_leaves_out_and_who_is_left_out_knows_it_before() {
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        assert!(is_majority(2, 3) && !is_majority(1, 2) && is_majority(1, 1));
        assert!(!is_left_out(hour, day, true) && is_left_out(day + hour, day, true));
        assert!(!is_left_out(day + hour, day, false));
        assert!(!is_outdated(hour, day) && is_outdated(day, day) && is_outdated(day - hour, day));
    }
}
