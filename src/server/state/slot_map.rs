//! Who coordinates which slots at the moment, as smart clients are told.
//!
//! A slot's coordinator is the first of its home replicas that is usable (alive and warm), or when none is, the first
//! usable node of its preference list; the other home replicas follow. Slots beside each other with the same
//! coordinator and the same others are one run, which keeps what clients must read short.
//!
//! Pure: computed from a ring and what is believed of its members, anew when either changes.

use crate::base::ids::{NodeId, Slot};
use crate::ring::Ring;

/// Slots beside each other that the same nodes hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotRun {
    /// The first slot.
    pub first: Slot,
    /// The last slot, which belongs to the run.
    pub last: Slot,
    /// The coordinator, then the other holders by id.
    pub nodes: Vec<NodeId>,
    /// Whether the coordinator is usable (if not, nobody in the slots' lists is) and can reach W and R.
    pub served: bool,
}

/// All slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotMap {
    /// In the order of the slots, without gaps while the ring has a member.
    pub runs: Vec<SlotRun>,
}

impl SlotMap {
    /// The map of this ring while `usable` tells which nodes are alive and warm, and `is_served` which slots can reach
    /// their quorums.
    pub fn of(ring: &Ring, usable: impl Fn(&NodeId) -> bool, is_served: impl Fn(Slot) -> bool) -> SlotMap {
        let is_usable: Vec<bool> = ring.members().iter().map(|member| usable(&member.id)).collect();
        let usable = |index: &u16| is_usable.get(usize::from(*index)).copied().unwrap_or(false);
        let mut runs: Vec<SlotRun> = Vec::new();
        let mut last_order: Vec<u16> = Vec::new();
        for slot in Slot::all() {
            let (homes, list) = (ring.homes(slot), ring.preference(slot));
            let Some(chosen) = homes.iter().chain(list).find(|index| usable(index)).or(homes.first()) else { break };
            let mut order: Vec<u16> = homes.iter().copied().filter(|index| index != chosen).collect();
            // Members are in the order of their ids.
            order.sort_unstable();
            order.insert(0, *chosen);
            let served = usable(chosen) && is_served(slot);
            match runs.last_mut() {
                Some(run) if order == last_order && run.served == served => run.last = slot,
                _ => {
                    let id = |index: &u16| ring.members().get(usize::from(*index)).map(|member| member.id);
                    let nodes = order.iter().filter_map(id).collect();
                    runs.push(SlotRun { first: slot, last: slot, nodes, served });
                    last_order = order;
                }
            }
        }
        SlotMap { runs }
    }

    /// The runs that a node coordinates.
    pub fn of_coordinator<'a>(&'a self, id: &'a NodeId) -> impl Iterator<Item = &'a SlotRun> {
        self.runs.iter().filter(move |run| run.nodes.first() == Some(id))
    }

    /// How many slots are served.
    pub fn slots_served(&self) -> usize {
        self.runs.iter().filter(|run| run.served).map(SlotRun::len).sum()
    }
}

impl SlotRun {
    /// How many slots it has.
    #[expect(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.last.number() - self.first.number()) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::SLOT_COUNT;
    use crate::ring::Member;

    fn ring_of(nodes: usize) -> Ring {
        let member = |_| Member { id: NodeId::random(), zone: String::new(), weight: 1.0 };
        Ring::build(&(0..nodes).map(member).collect::<Vec<_>>(), 3)
    }

    #[test]
    fn runs_cover_all_slots_with_their_coordinators() {
        let ring = ring_of(5);
        let map = SlotMap::of(&ring, |_| true, |_| true);
        assert_eq!(map.runs.iter().map(SlotRun::len).sum::<usize>(), SLOT_COUNT);
        assert_eq!(map.slots_served(), SLOT_COUNT);
        for run in &map.runs {
            for number in run.first.number()..=run.last.number() {
                let homes = ring.homes(Slot::new(number).expect("a slot"));
                assert_eq!(run.nodes[0], ring.members()[usize::from(homes[0])].id);
                assert!(homes.iter().all(|home| run.nodes.contains(&ring.members()[usize::from(*home)].id)));
            }
        }
    }

    #[test]
    fn a_dead_node_coordinates_nothing_and_a_dead_cluster_is_said_to_be() {
        let ring = ring_of(3);
        let dead = ring.members()[1].id;
        let map = SlotMap::of(&ring, |id| *id != dead, |_| true);
        assert_eq!((map.of_coordinator(&dead).count(), map.slots_served()), (0, SLOT_COUNT));
        assert!(map.runs.iter().all(|run| run.nodes.len() == 3));
        let map = SlotMap::of(&ring, |_| false, |_| true);
        assert_eq!((map.runs.iter().map(SlotRun::len).sum::<usize>(), map.slots_served()), (SLOT_COUNT, 0));
        let alone = SlotMap::of(&ring_of(1), |_| true, |_| true);
        assert_eq!((alone.runs.len(), alone.runs[0].nodes.len()), (1, 1));
        // A coordinator that would refuse every command serves nothing.
        let half = SlotMap::of(&ring, |_| true, |slot| slot.index() < SLOT_COUNT / 2);
        assert_eq!(
            (half.runs.iter().map(SlotRun::len).sum::<usize>(), half.slots_served()),
            (SLOT_COUNT, SLOT_COUNT / 2)
        );
    }
}
