//! The decisions of entering a cluster and filling up, without a clock, a socket or a store.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{NodeId, Slot};
use crate::ring::{Ring, Row, RowState, Rows};

/// How a node enters a cluster that may have known it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// It owns nothing yet: fetch first, then own.
    Join,
    /// It owns its slots and has forgotten what was in them.
    Refill,
    /// Its id was given up for ever.
    Never,
}

/// How the node of this id enters.
pub fn entry(rows: &Rows, me: &NodeId) -> Entry {
    match rows.get(me).map(|row| row.state) {
        None | Some(RowState::Left | RowState::Joining) => Entry::Join,
        Some(RowState::Normal | RowState::Leaving) => Entry::Refill,
        Some(RowState::Gone) => Entry::Never,
    }
}

/// The zone and weight under which a node takes part that the cluster knows by this row: while it owns slots, those
/// that it has. Others, which its options may name by now, would change the ring with no step before, and members that
/// gain slots by it would own them without having fetched them.
pub fn placing(known: Option<&Row>, zone: &str, weight: f64) -> (String, f64) {
    match known.filter(|row| matches!(row.state, RowState::Normal | RowState::Leaving)) {
        Some(row) => (row.zone.clone(), row.weight),
        None => (zone.to_owned(), weight),
    }
}

/// What to do with rows that another node sends, when this one belongs to a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meeting {
    /// Take them in.
    Merge,
    /// Leave them: whoever sends them founded a cluster of its own and is about to join this one.
    Ignore,
    /// Take them in, and join that cluster: this node founded one of its own, and nobody there knows it.
    Yield,
}

/// What a node with the rows `ours` does with `theirs`; `founded` says that it began its cluster itself.
///
/// A founder that is alone owns all slots and has fetched nothing, so it must not become an owner among others by its
/// word alone: they do not take in its row, and it joins them. Of two of them the one stays whose life began earlier.
/// Whoever is named in their rows takes them in: they know better what became of it.
pub fn meeting(ours: &Rows, me: &NodeId, founded: bool, theirs: &Rows) -> Meeting {
    let Some(own) = ours.get(me) else { return Meeting::Merge };
    let members: Vec<&Row> = theirs.iter().filter(|row| row.state.is_member()).collect();
    let am_alone = founded && ours.iter().filter(|row| row.state.is_member()).all(|row| row.id == *me);
    let owner = members.iter().find(|row| row.state == RowState::Normal && row.id != *me);
    // Alone, as far as it knows, in a life that this node has not heard of as a member's.
    let stranger = owner.filter(|row| {
        let is_that = |known: &&Row| known.state.is_member() && known.generation >= row.generation;
        members.len() == 1 && ours.get(&row.id).filter(is_that).is_none()
    });
    match (am_alone && theirs.get(me).is_none(), owner, stranger) {
        (true, Some(_), Some(row)) if (own.generation, own.id) < (row.generation, row.id) => Meeting::Ignore,
        (true, Some(_), _) => Meeting::Yield,
        (false, Some(_), Some(row)) if theirs.get(me).is_none() && knows_other_owner(ours, &row.id) => Meeting::Ignore,
        _ => Meeting::Merge,
    }
}

/// What a node finds of itself in rows that it takes in, where it has to do something about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reunion {
    /// They know another life of it: it has forgotten what it held in that one, and fills up.
    OtherLife(u64),
    /// They are giving up this very life for dead, which it is not: it stays.
    GivenUp,
    /// They do not know it, and it yields to them: it joins.
    Unknown,
}

/// What a node in this `life` finds of itself, of which the rows know this state and life; `founded` says that it began
/// its cluster itself: then an earlier life that others know counts too, in which it was a member of theirs.
pub fn reunion(meeting: Meeting, known: Option<(RowState, u64)>, life: u64, founded: bool) -> Option<Reunion> {
    match known {
        Some((_, other)) if other > life || other < life && founded => Some(Reunion::OtherLife(other)),
        Some((RowState::Leaving, other)) if other == life => Some(Reunion::GivenUp),
        None if meeting == Meeting::Yield => Some(Reunion::Unknown),
        _ => None,
    }
}

fn knows_other_owner(rows: &Rows, than: &NodeId) -> bool {
    rows.iter().any(|row| matches!(row.state, RowState::Normal | RowState::Leaving) && row.id != *than)
}

/// Whose contents of each slot have been fetched.
pub type PulledFrom = BTreeMap<Slot, Vec<NodeId>>;

/// What is left to fetch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pulls {
    /// Which slots to fetch from whom, now.
    pub from: BTreeMap<NodeId, Vec<Slot>>,
    /// Slots that have enough.
    pub filled: usize,
    /// Slots whose home replicas are all dead or filling up themselves.
    pub stuck: Vec<Slot>,
}

/// How many other home replicas a node that has lost its memory has to fetch a slot from before it may promise the slot
/// to anybody: all. Fewer would meet every majority that it has been part of, but a write that it accepted may be on
/// its way to the rest of its majority still; its author, whoever that is, has it.
pub fn sources_needed(replicas: usize) -> usize {
    replicas.saturating_sub(1)
}

/// What the node `me` still has to fetch of `slots`.
///
/// A write that was acknowledged is held by W of N home replicas, so any N-W+1 of them hold it between them. Of the
/// sources that there are, those that `goes` says are leaving are taken, because what only they hold goes with them,
/// and then those first in the preference list: the coordinator, which holds every write that it has begun, is the
/// first.
pub fn pulls(
    slots: &[Slot],
    ring: &Ring,
    me: &NodeId,
    write_quorum: usize,
    is_source: impl Fn(&NodeId) -> bool,
    goes: impl Fn(&NodeId) -> bool,
    taken: &PulledFrom,
) -> Pulls {
    let sources: Vec<bool> = ring.members().iter().map(|member| member.id != *me && is_source(&member.id)).collect();
    let mut pulls = Pulls::default();
    for slot in slots {
        let homes = if sources.is_empty() { &[][..] } else { ring.homes(*slot) };
        let id_of = |index: &u16| ring.members().get(usize::from(*index)).map(|member| member.id);
        let others = homes.iter().filter_map(id_of).filter(|id| id != me).count();
        let wanted = (homes.len() + 1).saturating_sub(write_quorum.clamp(1, homes.len().max(1)));
        let wanted = wanted.max(sources_needed(homes.len())).min(others);
        let have = taken.get(slot).map_or(&[][..], Vec::as_slice);
        let is_open = |index: &&u16| sources.get(usize::from(**index)) == Some(&true);
        let open = homes.iter().filter(is_open).filter_map(id_of).filter(|id| !have.contains(id));
        let (mut next, others): (Vec<NodeId>, Vec<NodeId>) = open.partition(&goes);
        next.extend(others);
        next.truncate(wanted.saturating_sub(have.len()));
        match (next.is_empty(), have.is_empty() && wanted > 0) {
            (false, _) => next.into_iter().for_each(|id| pulls.from.entry(id).or_default().push(*slot)),
            (true, true) => pulls.stuck.push(*slot),
            (true, false) => pulls.filled += 1,
        }
    }
    pulls
}

/// The nodes that a node which lost its memory waits for, however long: those that do not answer and hold a stuck slot
/// still, as far as anybody knows. Should they come back they bring what was acknowledged, and until then who began
/// with nothing would deny it. Who has come back empty is not waited for, nor whom an operator gives up.
pub fn awaited(stuck: &[Slot], ring: &Ring, me: &NodeId, rows: &Rows) -> BTreeSet<NodeId> {
    let holds = |id: &NodeId| rows.get(id).is_some_and(|row| row.warm && row.state == RowState::Normal);
    let holders: Vec<Option<NodeId>> =
        ring.members().iter().map(|member| (member.id != *me && holds(&member.id)).then_some(member.id)).collect();
    if holders.is_empty() {
        return BTreeSet::new();
    }
    let homes = stuck.iter().flat_map(|slot| ring.homes(*slot).iter());
    homes.filter_map(|index| holders.get(usize::from(*index)).copied().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::row;

    fn rows(states: &[RowState]) -> Rows {
        let mut rows = Rows::new();
        for (at, state) in states.iter().enumerate() {
            rows.merge(row(at as u8 + 1, *state));
        }
        rows
    }

    #[test]
    fn who_was_known_refills_and_who_left_joins() {
        let id = row(1, RowState::Normal).id;
        let entry_of = |state| entry(&rows(&[state]), &id);
        assert_eq!(entry(&Rows::new(), &id), Entry::Join);
        assert_eq!((entry_of(RowState::Left), entry_of(RowState::Joining)), (Entry::Join, Entry::Join));
        assert_eq!((entry_of(RowState::Normal), entry_of(RowState::Leaving)), (Entry::Refill, Entry::Refill));
        assert_eq!(entry_of(RowState::Gone), Entry::Never);
    }

    #[test]
    fn who_owns_slots_keeps_its_zone_and_weight_and_who_joins_brings_new_ones() {
        let known = |state| Row { zone: "a".to_owned(), weight: 2.0, ..row(1, state) };
        let placing_of = |known: Option<&Row>| placing(known, "b", 3.0);
        let (old, new) = (("a".to_owned(), 2.0), ("b".to_owned(), 3.0));
        assert_eq!(placing_of(None), new);
        for (state, expected) in [(RowState::Normal, &old), (RowState::Leaving, &old)] {
            assert_eq!(placing_of(Some(&known(state))), *expected);
        }
        for state in [RowState::Joining, RowState::Left] {
            assert_eq!(placing_of(Some(&known(state))), new, "{state:?}");
        }
    }

    #[test]
    fn a_founder_that_nobody_knows_joins_whom_it_meets_and_owns_nothing_before() {
        let of = |rows: &[Row]| {
            let mut map = Rows::new();
            rows.iter().for_each(|row| assert!(map.merge(row.clone())));
            map
        };
        let normal = |number, generation| Row { generation, ..row(number, RowState::Normal) };
        let id = |number| row(number, RowState::Normal).id;
        let (cluster, lone) = (of(&[normal(1, 1), normal(2, 1)]), of(&[normal(9, 5)]));
        assert_eq!(meeting(&lone, &id(9), true, &cluster), Meeting::Yield);
        assert_eq!(meeting(&cluster, &id(1), false, &lone), Meeting::Ignore);
        assert_eq!(meeting(&cluster, &id(1), true, &lone), Meeting::Ignore);
        let joining = of(&[normal(1, 1), normal(2, 1), Row { version: 2, ..row(9, RowState::Joining) }]);
        assert_eq!(meeting(&cluster, &id(1), false, &joining), Meeting::Merge);
        // Two founders: one stays, whoever asks first.
        let other = of(&[normal(3, 6)]);
        assert_eq!(meeting(&lone, &id(9), true, &other), Meeting::Ignore);
        assert_eq!(meeting(&other, &id(3), true, &lone), Meeting::Yield);
        // It was here before, in another life or until it left.
        let knew = of(&[normal(1, 1), normal(9, 4)]);
        assert_eq!(meeting(&knew, &id(1), false, &lone), Meeting::Ignore);
        assert_eq!(meeting(&lone, &id(9), true, &knew), Meeting::Merge, "and fills up, as it was known");
        for state in [RowState::Left, RowState::Gone] {
            let named = of(&[normal(1, 1), row(9, state)]);
            assert_eq!(meeting(&named, &id(1), false, &lone), Meeting::Ignore);
            assert_eq!(meeting(&lone, &id(9), true, &named), Meeting::Merge, "or both would go on apart");
        }
        // All others have left, and the last one goes on.
        let left = of(&[normal(9, 5), row(1, RowState::Left)]);
        assert_eq!(meeting(&of(&[normal(9, 5), row(1, RowState::Leaving)]), &id(1), false, &left), Meeting::Merge);
        // Who is only coming takes in all that it hears.
        assert_eq!(meeting(&of(&[row(4, RowState::Joining)]), &id(4), false, &lone), Meeting::Merge);
    }

    #[test]
    fn a_node_whose_other_life_is_known_fills_up_and_one_that_is_given_up_alive_stays() {
        let found = |known, founded| reunion(Meeting::Merge, known, 5, founded);
        let other = |life| Some(Reunion::OtherLife(life));
        assert_eq!([found(Some((RowState::Normal, 6)), false), found(Some((RowState::Left, 6)), true)], [other(6); 2]);
        assert_eq!(
            [found(Some((RowState::Normal, 4)), false), found(Some((RowState::Normal, 4)), true)],
            [None, other(4)]
        );
        assert_eq!(
            [found(Some((RowState::Leaving, 5)), false), found(Some((RowState::Normal, 5)), false)],
            [Some(Reunion::GivenUp), None]
        );
        assert_eq!([found(None, true), reunion(Meeting::Yield, None, 5, true)], [None, Some(Reunion::Unknown)]);
    }

    #[test]
    fn enough_home_replicas_are_asked_to_meet_every_write_quorum() {
        let all: Vec<Slot> = Slot::all().collect();
        let map = rows(&[RowState::Normal; 4]);
        let ring = map.ring(3);
        let newcomer = row(9, RowState::Joining).id;
        let mut taken = PulledFrom::new();
        let plan = pulls(&all, &ring, &newcomer, 2, |_| true, |_| false, &taken);
        assert_eq!(plan.from.values().map(Vec::len).sum::<usize>(), 2 * all.len());
        for (source, slots) in &plan.from {
            let index = ring.index_of(source).expect("a member");
            assert!(slots.iter().all(|slot| ring.homes(*slot)[..2].contains(&index)));
            slots.iter().for_each(|slot| taken.entry(*slot).or_default().push(*source));
        }
        let done = pulls(&all, &ring, &newcomer, 2, |_| true, |_| false, &taken);
        assert_eq!((done.filled, done.from.len(), done.stuck.len()), (all.len(), 0, 0));
        let goes = row(2, RowState::Leaving).id;
        let plan = pulls(&all, &ring, &newcomer, 2, |_| true, |id| *id == goes, &PulledFrom::new());
        let of_goes = all.iter().filter(|slot| ring.homes(**slot).contains(&1)).count();
        assert_eq!(plan.from.get(&goes).map(Vec::len), Some(of_goes), "whatever only it holds");
    }

    #[test]
    fn a_node_that_restarted_asks_the_others_and_waits_for_one_of_them() {
        let all: Vec<Slot> = Slot::all().collect();
        let map = rows(&[RowState::Normal; 3]);
        let (ring, ids) = (map.ring(3), map.iter().map(|row: &Row| row.id).collect::<Vec<_>>());
        let plan = |sources: &[NodeId], taken: &PulledFrom| {
            pulls(&all, &ring, &ids[0], 2, |id| sources.contains(id), |_| false, taken)
        };
        let both = plan(&ids, &PulledFrom::new());
        assert_eq!(both.from.keys().copied().collect::<Vec<_>>(), ids[1..]);
        assert_eq!(plan(&[], &PulledFrom::new()).stuck, all);
        let one = plan(&ids[1..2], &PulledFrom::new());
        assert_eq!(one.from.keys().copied().collect::<Vec<_>>(), ids[1..2]);
        let taken = all.iter().map(|slot| (*slot, vec![ids[1]])).collect();
        assert_eq!(plan(&ids[1..2], &taken).filled, all.len());
        assert_eq!(plan(&ids, &taken).from.keys().copied().collect::<Vec<_>>(), ids[2..]);
        let alone = rows(&[RowState::Normal]);
        assert_eq!(pulls(&all, &alone.ring(3), &ids[0], 2, |_| true, |_| false, &PulledFrom::new()).filled, all.len());
    }
    #[test]
    fn who_lost_its_memory_waits_for_those_who_may_bring_it_back_and_for_nobody_else() {
        let all: Vec<Slot> = Slot::all().collect();
        let awaited_of = |others: [Row; 2]| {
            let mut map = rows(&[RowState::Normal]);
            others.into_iter().for_each(|row| assert!(map.merge(row)));
            awaited(&all, &map.ring(3), &row(1, RowState::Normal).id, &map)
        };
        let (held, empty) =
            (|node| row(node, RowState::Normal), |node| Row { warm: false, ..row(node, RowState::Normal) });
        assert_eq!(awaited_of([held(2), held(3)]), [held(2).id, held(3).id].into());
        assert_eq!(awaited_of([held(2), empty(3)]), [held(2).id].into());
        assert_eq!(awaited_of([empty(2), empty(3)]), BTreeSet::new(), "all restarted at once");
        assert_eq!(awaited_of([row(2, RowState::Leaving), row(3, RowState::Gone)]), BTreeSet::new(), "given up");
        assert_eq!(awaited(&[], &rows(&[RowState::Normal; 3]).ring(3), &held(1).id, &Rows::new()), BTreeSet::new());
    }
}
