//! What is everywhere that it can be: rules without a clock or a socket.
//!
//! Two things may be forgotten once every copy there is has seen them. A tombstone keeps older copies of its key from
//! coming back: it may go only when there is none. And a key's version names each life of a node that has ever written
//! it, until those writes are *stable*: until no copy can turn up that has one of them and not what is held here
//! (`base::version`, floors).
//!
//! A write is taken for stable, and a deletion for forgettable, when every home replica of its slot was found to hold
//! the same, or no live copy of what is deleted here, in a comparison begun after it; every other member has said since
//! that it owes nobody anything (no hint, no copy kept for another); and it is older than anything that may still be
//! under way. Time alone never does it. A write's age is our clock less its stamp; where our clock is ahead of the
//! others', it has to be older by as much. A confirmation counts no more once a later comparison found otherwise.
//!
//! A member that is down can confirm nothing, so it holds both up, but not for ever: see `absence`.

use std::collections::BTreeMap;

use crate::base::clock::Hlc;
use crate::base::ids::{NodeId, Slot};

/// What a comparison has found of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Both hold the same, but for what fades (`store::digest`).
    Same,
    /// They do not, but nothing is alive over there that is deleted here.
    Buried,
    /// Something is, or may be.
    Unlike,
}

/// When the last comparisons of a slot began that have confirmed something, in milliseconds since 1970; 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Confirmed {
    same_ms: u64,
    buried_ms: u64,
}

/// What comparisons have confirmed so far, of each life of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stability {
    confirmed: BTreeMap<(NodeId, u64), BTreeMap<Slot, Confirmed>>,
}

/// Who has to have confirmed something before it is relied on, and how old that must be.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The slot's other home replicas with their lives, those left out not among them.
    pub homes: &'a [(NodeId, u64)],
    /// When the last round of questions began that everybody answered with "I owe nobody anything".
    pub calm_ms: Option<u64>,
    /// What is younger is not relied on.
    pub age_min_ms: u64,
}

impl Terms<'_> {
    /// The stamp up to which something holds that each home has confirmed at a time.
    fn bound(&self, confirmed_ms: impl Fn(&(NodeId, u64)) -> Option<u64>) -> Option<Hlc> {
        let oldest = self.homes.iter().map(confirmed_ms).try_fold(self.calm_ms?, |oldest, at| Some(oldest.min(at?)))?;
        Some(Hlc::at_ms(oldest.checked_sub(self.age_min_ms)?))
    }
}

impl Stability {
    /// Notes what a comparison of a slot with this life of a node, begun at `began_ms`, has found.
    pub fn note(&mut self, node: NodeId, generation: u64, slot: Slot, finding: Finding, began_ms: u64) {
        let confirmed = self.confirmed.entry((node, generation)).or_default().entry(slot).or_default();
        *confirmed = match finding {
            Finding::Same => Confirmed { same_ms: began_ms, buried_ms: began_ms },
            Finding::Buried => Confirmed { same_ms: 0, buried_ms: began_ms },
            Finding::Unlike => Confirmed::default(),
        };
    }

    /// This life of a node may hold anything.
    pub fn retract(&mut self, node: NodeId, generation: u64) {
        self.confirmed.remove(&(node, generation));
    }

    /// Forgets what nodes said that are no longer there in that life.
    pub fn retain(&mut self, is_there: impl Fn(NodeId, u64) -> bool) {
        self.confirmed.retain(|(node, generation), _| is_there(*node, *generation));
    }

    /// The stamp up to which tombstones of `slot` may go; `None` for none of them.
    pub fn forgettable(&self, slot: Slot, terms: Terms<'_>) -> Option<Hlc> {
        terms.bound(|home| self.of(home, slot).map(|it| it.buried_ms).filter(|ms| *ms > 0))
    }

    /// The stamp up to which writes of `slot` are stable; `None` for none of them.
    pub fn stable(&self, slot: Slot, terms: Terms<'_>) -> Option<Hlc> {
        terms.bound(|home| self.of(home, slot).map(|it| it.same_ms).filter(|ms| *ms > 0))
    }

    fn of(&self, home: &(NodeId, u64), slot: Slot) -> Option<Confirmed> {
        self.confirmed.get(home)?.get(&slot).copied()
    }
}

/// How far our clock is ahead of the one that is furthest behind, of those that are this far ahead of ours, in
/// milliseconds.
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

    fn homes() -> [(NodeId, u64); 2] {
        [(node(1), 10), (node(2), 20)]
    }

    fn terms(homes: &[(NodeId, u64)], calm_ms: Option<u64>, age_min_ms: u64) -> Terms<'_> {
        Terms { homes, calm_ms, age_min_ms }
    }

    #[test]
    fn a_deletion_goes_only_when_all_homes_confirmed_it_all_are_calm_and_it_is_old() {
        let slot = Slot::new(7).expect("a slot");
        let mut stability = Stability::default();
        let bound =
            |stability: &Stability, calm_ms, age_ms| stability.forgettable(slot, terms(&homes(), calm_ms, age_ms));
        assert_eq!(bound(&stability, Some(5_000), 100), None);
        stability.note(node(1), 10, slot, Finding::Buried, 4_000);
        assert_eq!(bound(&stability, Some(5_000), 100), None, "one of two");
        stability.note(node(2), 19, slot, Finding::Same, 6_000);
        assert_eq!(bound(&stability, Some(5_000), 100), None, "an earlier life");
        stability.note(node(2), 20, slot, Finding::Same, 6_000);
        assert_eq!(bound(&stability, None, 100), None, "never calm");
        assert_eq!(bound(&stability, Some(5_000), 100), Some(Hlc::at_ms(3_900)));
        assert_eq!(bound(&stability, Some(3_000), 100), Some(Hlc::at_ms(2_900)));
        assert_eq!(bound(&stability, Some(5_000), 9_000), None, "younger than what may be under way");
        let other = Slot::new(8).expect("a slot");
        assert_eq!(stability.forgettable(other, terms(&homes(), Some(5_000), 100)), None);
        stability.retain(|id, _| id == node(1));
        assert_eq!(bound(&stability, Some(5_000), 100), None);
        assert_eq!(stability.forgettable(slot, terms(&homes()[..1], Some(5_000), 100)), Some(Hlc::at_ms(3_900)));
    }

    #[test]
    fn writes_are_stable_only_where_all_homes_hold_the_same() {
        let slot = Slot::new(7).expect("a slot");
        let mut stability = Stability::default();
        homes().iter().for_each(|(id, life)| stability.note(*id, *life, slot, Finding::Same, 4_000));
        let stable = |stability: &Stability| stability.stable(slot, terms(&homes(), Some(5_000), 100));
        assert_eq!(stable(&stability), Some(Hlc::at_ms(3_900)));
        stability.note(node(2), 20, slot, Finding::Buried, 6_000);
        assert_eq!(stable(&stability), None, "what is alive over there may be news");
        assert_eq!(stability.forgettable(slot, terms(&homes(), Some(5_000), 100)), Some(Hlc::at_ms(3_900)));
    }

    #[test]
    fn what_a_later_comparison_found_otherwise_is_no_confirmation_any_more() {
        let [slot, other] = [7, 8].map(|number| Slot::new(number).expect("a slot"));
        let mut stability = Stability::default();
        for (slot, (id, life)) in [slot, other].into_iter().flat_map(|slot| homes().map(|home| (slot, home))) {
            stability.note(id, life, slot, Finding::Same, 4_000);
        }
        stability.note(node(1), 10, slot, Finding::Unlike, 5_000);
        let both = |slot| {
            [
                stability.forgettable(slot, terms(&homes(), Some(5_000), 0)),
                stability.stable(slot, terms(&homes(), Some(5_000), 0)),
            ]
        };
        assert_eq!(both(slot), [None; 2]);
        assert_eq!(both(other), [Some(Hlc::at_ms(4_000)); 2]);
        stability.retract(node(1), 10);
        assert_eq!(stability.forgettable(other, terms(&homes(), Some(5_000), 0)), None);
    }

    #[test]
    fn the_clock_that_is_furthest_behind_counts() {
        assert_eq!(lead_ms([].into_iter()), 0);
        assert_eq!(lead_ms([5_000_000, 300].into_iter()), 0, "all are ahead of ours");
        assert_eq!(lead_ms([-1_500, -70_000_001, 4].into_iter()), 70_001);
    }
}
