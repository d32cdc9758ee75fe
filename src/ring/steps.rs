//! A change of the ring, step by step: which rings others may go by meanwhile, and when a node may take its next step.
//!
//! A node comes in two steps (`Joining`, `Normal`) and goes in two (`Leaving`, `Left`), and others hear of each step
//! when they do. Who is on its way is in some nodes' ring and not in others', so whoever needs a majority of a slot's
//! home replicas takes one of *each* ring that is possible ([`coming_rings`]), as in joint consensus (Ongaro and
//! Ousterhout, "In search of an understandable consensus algorithm", 2014, section 6). Two nodes whose rows are at most
//! one step apart have a possible ring in common, and so their majorities meet. That nobody who could get a majority is
//! further behind is what [`is_adopted`] is for: a node takes its second step when no possible ring finds a majority of
//! any slot's home replicas among those who do not act on the first.
//!
//! Knows no socket: whether somebody has confirmed is told by who calls.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Ring, Row, RowState, Rows};
use crate::base::ids::{NodeId, Slot};

/// Most nodes on their way at the same time of which all combinations are looked at. Further ones wait until it is
/// their turn, and meanwhile nothing strict is done.
pub const CHANGES_MAX: usize = 3;

/// How many of so many replicas are a majority.
pub fn majority(replicas: usize) -> usize {
    replicas / 2 + 1
}

/// The nodes on their way: those whose life began earlier come first.
fn on_their_way(rows: &Rows) -> Vec<NodeId> {
    let is_moving = |row: &&Row| matches!(row.state, RowState::Joining | RowState::Leaving);
    let mut moving: Vec<(u64, NodeId)> = rows.iter().filter(is_moving).map(|row| (row.generation, row.id)).collect();
    moving.sort_unstable();
    moving.into_iter().map(|(_, id)| id).collect()
}

/// True when so many nodes are on their way that not every ring is known that somebody may go by.
pub fn are_too_many(rows: &Rows) -> bool {
    on_their_way(rows).len() > CHANGES_MAX
}

/// Whether this node, if it is on its way, may take its next step, or too many others come before it.
pub fn is_in_turn(rows: &Rows, node: &NodeId) -> bool {
    let stays = |row: &Row| matches!(row.state, RowState::Normal | RowState::Joining);
    on_their_way(rows).iter().position(|it| it == node).is_none_or(|at| at < CHANGES_MAX) || !rows.iter().any(stays)
}

/// Every ring that there may be until one more node than now is on its way, while `ring` becomes `next`: `ring` is
/// first, and the last is the one when all whose turn it is have taken their step, mostly `next`. Unless there [are too
/// many](are_too_many), these are all that some node may go by. When all go, nobody has to wait for anybody. Those that
/// are among `known` are taken from there.
pub fn coming_rings(rows: &Rows, ring: &Arc<Ring>, next: &Arc<Ring>, known: &[Arc<Ring>]) -> Vec<Arc<Ring>> {
    let all = on_their_way(rows);
    let moving = all.get(..CHANGES_MAX).unwrap_or(&all);
    if moving.len() < all.len() && next.members().is_empty() {
        return vec![ring.clone(), next.clone()];
    }
    let last = (1usize << moving.len()) - 1;
    let is_next_last = moving.len() == all.len();
    let between = (1..last + usize::from(!is_next_last)).map(|taken| {
        let has_taken = |id: &NodeId| moving.iter().position(|it| it == id).is_some_and(|at| taken >> at & 1 == 1);
        let owns = |state, has_taken| match state {
            RowState::Normal => true,
            RowState::Joining => has_taken,
            RowState::Leaving => !has_taken,
            RowState::Left | RowState::Gone => false,
        };
        let members = rows.members(|row| owns(row.state, has_taken(&row.id)));
        Ring::known_or_built(&members, ring.replicas(), known)
    });
    let mut rings = vec![ring.clone()];
    rings.extend(between);
    rings.extend((last > 0 && is_next_last).then(|| next.clone()));
    rings
}

/// True when none of these rings has a slot of whose home replicas a majority is among `unconfirmed`.
pub fn is_adopted(rings: &[Arc<Ring>], unconfirmed: &BTreeSet<NodeId>) -> bool {
    unconfirmed.is_empty() || !rings.is_empty() && rings.iter().all(|ring| has_no_majority(ring, unconfirmed))
}

fn has_no_majority(ring: &Ring, of: &BTreeSet<NodeId>) -> bool {
    let is_among: Vec<bool> = ring.members().iter().map(|member| of.contains(&member.id)).collect();
    let count = |homes: &[u16]| homes.iter().filter(|at| is_among.get(usize::from(**at)) == Some(&true)).count();
    ring.members().is_empty()
        || Slot::all().map(|slot| ring.homes(slot)).all(|homes| count(homes) < majority(homes.len()))
}

/// The slots that this node has to fetch before others may take their next step: of those that it holds under some ring
/// that is possible, those that it does not hold under today's, the first, and if somebody goes those of which too few
/// home replicas stay ([`enough_stay`]). Where all only come nobody takes anything along, and those that gain a slot
/// have asked enough of those that hold it.
pub fn to_take(rings: &[Arc<Ring>], me: &NodeId, somebody_goes: bool) -> Vec<Slot> {
    let Some((ring, others)) = rings.split_first() else { return Vec::new() };
    if ring.members().is_empty() || nobody_stays(rings) {
        return Vec::new();
    }
    let holds = |ring: &Ring, slot| ring.index_of(me).is_some_and(|index| ring.homes(slot).contains(&index));
    let must_take = |slot: &Slot| {
        let mut held_later = others.iter().filter(|other| holds(other, *slot));
        held_later.any(|other| !holds(ring, *slot) || somebody_goes && !enough_stay(ring, other, *slot))
    };
    Slot::all().filter(must_take).collect()
}

/// Whether this node, which is leaving, may go: for each slot and each ring that is possible enough of today's home
/// replicas stay, or all others of that ring `have_taken` what they have to. It waits for nothing of its own: a ring
/// that it is still in is one in which others have gone before it, and those waited for it.
pub fn may_go(rings: &[Arc<Ring>], me: &NodeId, have_taken: &BTreeSet<NodeId>) -> bool {
    let Some((ring, others)) = rings.split_first() else { return true };
    let have_all = |other: &Ring, slot| ids(other, slot).all(|id| id == *me || have_taken.contains(&id));
    let is_safe = |other: &Ring, slot| enough_stay(ring, other, slot) || have_all(other, slot);
    let mut later = others.iter().filter(|other| !other.members().is_empty());
    nobody_stays(rings) || later.all(|other| Slot::all().all(|slot| is_safe(other, slot)))
}

/// Whether all that there are, are on their way out.
fn nobody_stays(rings: &[Arc<Ring>]) -> bool {
    rings.last().is_none_or(|next| next.members().is_empty())
}

/// Whether what a majority of a slot's home replicas holds is with a majority again once those who gain the slot hold
/// it, and with one that stays even before.
pub fn enough_stay(ring: &Ring, next: &Ring, slot: Slot) -> bool {
    let (before, after) = (ring.homes(slot).len(), next.homes(slot).len());
    let stay = ids(ring, slot).filter(|id| ids(next, slot).any(|it| it == *id)).count();
    is_enough(before, stay, after)
}

/// As [`enough_stay`], by how many home replicas there are before, stay, and are there after.
pub fn is_enough(before: usize, stay: usize, after: usize) -> bool {
    let (gone, gained) = (before - stay.min(before), after - stay.min(after));
    majority(before) > gone && majority(before) - gone + gained >= majority(after)
}

fn ids(ring: &Ring, slot: Slot) -> impl Iterator<Item = NodeId> {
    ring.homes(slot).iter().filter_map(|at| ring.members().get(usize::from(*at))).map(|member| member.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::rows::tests::row;

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 20])
    }

    fn rows(states: &[RowState]) -> Rows {
        let mut rows = Rows::new();
        for (at, state) in states.iter().enumerate() {
            rows.merge(Row { state: *state, ..row(at as u8) });
        }
        rows
    }

    fn rings(states: &[RowState]) -> Vec<Arc<Ring>> {
        let rows = rows(states);
        coming_rings(&rows, &Arc::new(rows.ring(3)), &Arc::new(rows.next_ring(3)), &[])
    }

    fn members(ring: &Ring) -> Vec<u8> {
        ring.members().iter().map(|member| member.id.as_bytes()[0]).collect()
    }

    use RowState::{Gone, Joining, Leaving, Left, Normal};

    #[test]
    fn every_combination_of_those_on_their_way_is_possible() {
        let shown = |states: &[RowState]| rings(states).iter().map(|ring| members(ring)).collect::<Vec<_>>();
        assert_eq!(shown(&[Normal, Normal, Left, Gone]), [[0, 1]]);
        assert_eq!(shown(&[Normal, Normal, Joining]), [vec![0, 1], vec![0, 1, 2]]);
        assert_eq!(shown(&[Normal, Leaving, Joining]), [vec![0, 1], vec![0], vec![0, 1, 2], vec![0, 2]]);
        assert_eq!(shown(&[Normal, Joining, Joining, Joining]).len(), 8);
        assert!(!are_too_many(&rows(&[Normal, Joining, Joining, Joining])));
    }

    #[test]
    fn of_many_on_their_way_those_that_began_earlier_come_first() {
        let mut rows = rows(&[Normal, Joining, Joining, Leaving]);
        rows.merge(Row { state: Joining, generation: 0, ..row(4) });
        assert!(are_too_many(&rows));
        let in_turn: Vec<u8> = (0..5).filter(|it| is_in_turn(&rows, &id(*it))).collect();
        assert_eq!(in_turn, [0, 1, 2, 4]);
        let rings = coming_rings(&rows, &Arc::new(rows.ring(3)), &Arc::new(rows.next_ring(3)), &[]);
        assert_eq!((rings.len(), members(&rings[0]), members(&rings[7])), (8, vec![0, 3], vec![0, 1, 2, 3, 4]));
        assert!(rings.iter().all(|ring| members(ring).contains(&3)), "who waits has not gone");
        // Whoever waits has nothing to do with it until it is its turn.
        rows.merge(Row { state: Normal, generation: 0, version: 2, ..row(4) });
        assert!(!are_too_many(&rows) && is_in_turn(&rows, &id(3)));
    }

    #[test]
    fn when_all_go_nobody_waits_for_anybody() {
        let states = [Leaving; 5];
        let (rows, rings, none) = (rows(&states), rings(&states), BTreeSet::new());
        assert!(
            are_too_many(&rows)
                && (0..5).all(|it| is_in_turn(&rows, &id(it)) && to_take(&rings, &id(it), true).is_empty())
        );
        assert!(may_go(&rings, &id(0), &none));
        assert!(!may_go(&self::rings(&[Normal, Leaving, Leaving, Leaving, Leaving]), &id(1), &none));
    }

    #[test]
    fn rows_one_step_apart_have_a_ring_in_common() {
        let steps = [Left, Joining, Normal, Leaving];
        let digests = |one, other| rings(&[Normal, one, other]).iter().map(|ring| ring.digest()).collect::<Vec<_>>();
        let all: Vec<Vec<Vec<u64>>> =
            steps.iter().map(|one| steps.iter().map(|other| digests(*one, *other)).collect()).collect();
        let near = (0..4).flat_map(|at| [(at, at), (at, (at + 1) % 4), ((at + 1) % 4, at)]);
        let near: Vec<(usize, usize)> = near.collect();
        for (one, other) in &near {
            for (one_too, other_too) in &near {
                let (a, b) = (&all[*one][*one_too], &all[*other][*other_too]);
                assert!(a.iter().any(|ring| b.contains(ring)), "{one} {one_too} and {other} {other_too}");
            }
        }
    }

    #[test]
    fn a_step_waits_for_all_but_a_minority_of_every_slot() {
        let rings = rings(&[Normal, Normal, Normal, Normal, Joining]);
        let adopted = |unconfirmed: &[u8]| is_adopted(&rings, &unconfirmed.iter().map(|it| id(*it)).collect());
        assert!(adopted(&[]) && adopted(&[2]));
        assert!(!adopted(&[1, 2]), "some slot has both among its three");
        assert!(!is_adopted(&[], &BTreeSet::from([id(1)])) && is_adopted(&[], &BTreeSet::new()));
    }

    #[test]
    fn who_goes_waits_for_those_that_gain_where_too_few_stay() {
        let all: Vec<Slot> = Slot::all().collect();
        let none = BTreeSet::new();
        let of = |ids: &[u8]| ids.iter().map(|it| id(*it)).collect::<BTreeSet<_>>();
        let two = rings(&[Normal, Leaving]);
        assert!(to_take(&two, &id(0), true).is_empty() && may_go(&two, &id(1), &none));
        let three = rings(&[Normal, Normal, Leaving]);
        assert_eq!(to_take(&three, &id(0), true), all, "or one alone would hold what it wrote together with who goes");
        assert!(!may_go(&three, &id(2), &of(&[0])) && may_go(&three, &id(2), &of(&[0, 1])));
        let both = rings(&[Normal, Leaving, Leaving]);
        assert_eq!(to_take(&both, &id(0), true), all, "the others may hold what this one does not");
        assert!(!may_go(&both, &id(1), &none) && !may_go(&both, &id(1), &of(&[0])));
        assert!(may_go(&both, &id(1), &of(&[0, 2])) && may_go(&both, &id(2), &of(&[0, 1])), "nobody waits for itself");
        let four = rings(&[Normal, Normal, Normal, Leaving]);
        let gained: usize = (0..3).map(|at| to_take(&four, &id(at), true).len()).sum();
        let lost = Slot::all().filter(|slot| four[0].homes(*slot).contains(&3)).count();
        assert_eq!((gained, may_go(&four, &id(3), &none)), (lost, true));
        let joined = rings(&[Normal, Normal, Leaving, Joining]);
        assert!(!may_go(&joined, &id(2), &none), "who comes may come too late");
        let grown = rings(&[Normal, Normal, Normal, Joining, Joining]);
        assert!(!to_take(&grown, &id(0), true).is_empty(), "two of a slot's three may be new");
        assert!(to_take(&grown, &id(0), false).is_empty(), "and have what the three held");
        let end = rings(&[Leaving, Leaving]);
        assert!(may_go(&end, &id(0), &none) && to_take(&end, &id(0), true).is_empty(), "nobody is left");
    }
}
