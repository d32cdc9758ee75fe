//! The ring in force as one immutable value: rows, rings made of them, and who is alive.
//!
//! Made anew whenever one of these changes and swapped in whole, so that a request sees one state of the cluster from
//! start to end. Building a ring costs milliseconds, so rings are kept while the rows they are made of are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::ids::{NodeId, Slot};
use crate::membership::Liveness;
use crate::ring::{Ring, Row, RowState, Rows, steps};

/// What a node believes of the cluster at one moment.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Every row that is known.
    pub rows: Rows,
    /// Today's owners; empty until this node belongs to a cluster.
    pub ring: Arc<Ring>,
    /// The owners once everybody has joined or left who is about to; the same as `ring` when nobody is.
    pub next_ring: Arc<Ring>,
    /// Every ring that may be today's next (`ring::steps`): `ring` first.
    pub coming_rings: Vec<Arc<Ring>>,
    /// Every ring that somebody may go by: the same, or none while too many nodes are on their way.
    pub possible_rings: Vec<Arc<Ring>>,
    /// What is believed of each node that takes part.
    pub liveness: BTreeMap<NodeId, Liveness>,
    /// This node.
    pub me: NodeId,
    /// The rows' digest.
    pub digest: u64,
    /// Grows whenever the rows' configuration is another than before, the same as once included: what was done for an
    /// earlier one may have been undone since.
    pub era: u64,
    is_warm: bool,
}

impl Topology {
    /// The topology of these rows. Rings are taken from `before` when they would be the same.
    pub fn new(
        rows: Rows,
        me: NodeId,
        replicas: usize,
        before: Option<&Topology>,
        liveness: impl Fn(&NodeId) -> Liveness,
    ) -> Topology {
        let same = before.filter(|before| same_owners(&before.rows, &rows) && before.ring.replicas() == replicas);
        let (ring, next_ring, coming_rings) = match same {
            Some(before) => (before.ring.clone(), before.next_ring.clone(), before.coming_rings.clone()),
            None => rings(&rows, replicas, before),
        };
        let possible_rings = if steps::are_too_many(&rows) { Vec::new() } else { coming_rings.clone() };
        let believed = |id: &NodeId| if *id == me { Liveness::Alive } else { liveness(id) };
        let taking_part = rows.iter().filter(|row| row.state.is_member());
        let liveness: BTreeMap<NodeId, Liveness> = taking_part.map(|row| (row.id, believed(&row.id))).collect();
        let (digest, is_warm) = (rows.digest(), rows.get(&me).is_some_and(may_answer));
        let is_other = |before: &Topology| before.rows.configuration() != rows.configuration();
        let era = before.map_or(0, |before| before.era + u64::from(is_other(before)));
        Topology { rows, ring, next_ring, coming_rings, possible_rings, liveness, me, digest, era, is_warm }
    }

    /// What is believed of this node; one that takes no part is down.
    pub fn liveness(&self, id: &NodeId) -> Liveness {
        self.liveness.get(id).copied().unwrap_or(Liveness::Down)
    }

    /// What people call this node, before its id: its row's name, if it has a row.
    pub fn called(&self, id: &NodeId) -> String {
        self.rows.get(id).map_or_else(|| id.to_string(), |row| format!("{} ({id})", row.shown_name()))
    }

    /// What people call these, one behind the other.
    pub fn called_all<'n>(&self, ids: impl IntoIterator<Item = &'n NodeId>) -> String {
        ids.into_iter().map(|id| self.called(id)).collect::<Vec<_>>().join(",")
    }

    /// This node's own row, once it has one.
    pub fn own_row(&self) -> Option<&Row> {
        self.rows.get(&self.me)
    }

    /// True when this node belongs to a cluster.
    pub fn is_formed(&self) -> bool {
        self.own_row().is_some()
    }

    /// True when this node may answer reads: it owns slots and holds all that is in them.
    ///
    /// A node that has left still may: those who have not heard of it yet ask it until they have.
    pub fn is_warm(&self) -> bool {
        self.is_warm
    }

    /// True when every owner of today's holds all of its slots' data.
    pub fn all_are_warm(&self) -> bool {
        let mut rows = self.ring.members().iter().filter_map(|member| self.rows.get(&member.id));
        rows.all(|row| row.warm)
    }

    /// True while somebody is joining or leaving.
    pub fn is_moving(&self) -> bool {
        !Arc::ptr_eq(&self.ring, &self.next_ring)
    }

    /// True when some owner, today's or one to come, is no home replica of some slot: it may stand in there, or lose
    /// it.
    pub fn has_others_than_homes(&self) -> bool {
        self.coming_rings.iter().any(|ring| ring.members().len() > ring.replicas())
    }

    /// The slots that this node has to hold: it is a home replica of them today, or may soon be, whoever else comes or
    /// goes first.
    pub fn own_slots(&self) -> Vec<Slot> {
        Slot::all().filter(|slot| self.is_home(*slot)).collect()
    }

    /// True when this node is a home replica of `slot`, today or maybe soon.
    pub fn is_home(&self, slot: Slot) -> bool {
        let is_home = |ring: &Ring| ring.index_of(&self.me).is_some_and(|index| ring.homes(slot).contains(&index));
        !self.ring.members().is_empty() && self.coming_rings.iter().any(|ring| is_home(ring))
    }

    /// How many of these slots this node does not hold already: of those of today's ring it holds all, once it is warm.
    pub fn count_lacked(&self, slots: &[Slot]) -> usize {
        let index = self.ring.index_of(&self.me).filter(|_| self.is_warm);
        slots.iter().filter(|slot| !index.is_some_and(|index| self.ring.homes(**slot).contains(&index))).count()
    }

    /// The home replicas of `slot`, those that it may soon have among them; some more than once.
    pub fn homes(&self, slot: Slot) -> impl Iterator<Item = NodeId> {
        let rings = self.coming_rings.iter().filter(|ring| !ring.members().is_empty());
        rings.flat_map(move |ring| {
            ring.homes(slot).iter().filter_map(|at| ring.members().get(usize::from(*at))).map(|member| member.id)
        })
    }

    /// True when somebody owned slots and gave them up again while this node, whose topology was `before`, heard
    /// nothing of it: then it does not know of which slots it was no home replica for a while.
    pub fn missed_an_owner(&self, before: &Topology) -> bool {
        let has_gone = |row: &&Row| matches!(row.state, RowState::Left | RowState::Gone);
        let is_owner = |state| matches!(state, RowState::Normal | RowState::Leaving);
        let was_seen = |row: &Row| {
            let has_turned_back = |known: &Row| !row.warm && row.version <= known.version.saturating_add(1);
            let is_same = |known: &Row| {
                known.generation == row.generation && (known.state != RowState::Joining || has_turned_back(known))
            };
            before.rows.get(&row.id).is_some_and(|known| is_owner(known.state) || is_same(known))
        };
        before.is_formed() && self.rows.iter().filter(has_gone).any(|row| !was_seen(row))
    }

    /// The other nodes that take part.
    pub fn others(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.id != self.me && row.state.is_member())
    }
}

fn may_answer(row: &Row) -> bool {
    row.warm && matches!(row.state, RowState::Normal | RowState::Leaving | RowState::Left)
}

fn rings(rows: &Rows, replicas: usize, before: Option<&Topology>) -> (Arc<Ring>, Arc<Ring>, Vec<Arc<Ring>>) {
    let mut known: Vec<Arc<Ring>> = before.map_or(Vec::new(), |before| before.coming_rings.clone());
    known.extend(before.map(|before| before.next_ring.clone()));
    let ring = Ring::known_or_built(&rows.owners(), replicas, &known);
    known.push(ring.clone());
    let next_ring = Ring::known_or_built(&rows.next_owners(), replicas, &known);
    let coming = steps::coming_rings(rows, &ring, &next_ring, &known);
    (ring, next_ring, coming)
}

/// True when both maps give the same rings.
fn same_owners(one: &Rows, other: &Rows) -> bool {
    // The life of a node on its way says whose turn it is.
    let life = |row: &Row| if row.state == RowState::Normal { 0 } else { row.generation };
    let owners = |rows: &Rows| -> Vec<_> {
        let members = rows.iter().filter(|row| row.state.is_member());
        members.map(|row| (row.id, row.state, life(row), row.zone.clone(), row.weight.to_bits())).collect()
    };
    owners(one) == owners(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::row;
    use std::collections::BTreeSet;

    #[test]
    fn rings_are_built_again_only_when_owners_change() {
        let mut rows = Rows::new();
        rows.merge(row(1, RowState::Normal));
        rows.merge(row(2, RowState::Normal));
        let me = row(1, RowState::Normal).id;
        let down = |_: &NodeId| Liveness::Down;
        let first = Topology::new(rows.clone(), me, 3, None, down);
        assert!(Arc::ptr_eq(&first.ring, &first.next_ring));
        assert!(first.is_warm() && first.own_slots().len() == crate::base::ids::SLOT_COUNT);
        let all: Vec<Slot> = Slot::all().collect();
        assert_eq!(first.count_lacked(&all), 0);
        assert_eq!(first.called(&row(2, RowState::Normal).id), format!("n2 ({})", row(2, RowState::Normal).id));
        let believed = first.ring.members().iter().map(|member| first.liveness(&member.id)).collect::<Vec<_>>();
        assert_eq!((believed, first.all_are_warm()), (vec![Liveness::Alive, Liveness::Down], true));

        rows.merge(Row { warm: false, version: 2, ..row(1, RowState::Normal) });
        let cold = Topology::new(rows.clone(), me, 3, Some(&first), down);
        assert!(Arc::ptr_eq(&first.ring, &cold.ring) && !cold.is_warm() && cold.digest != first.digest);
        assert!(!cold.all_are_warm());
        assert_eq!(cold.count_lacked(&all), all.len());

        rows.merge(row(3, RowState::Joining));
        let next = Topology::new(rows, me, 3, Some(&cold), down);
        assert_eq!((next.ring.members().len(), next.next_ring.members().len()), (2, 3));
        assert_eq!(next.possible_rings.len(), 2);
        assert!(Arc::ptr_eq(&next.ring, &cold.ring), "who comes changes nothing of today's");
        let mut rows = next.rows.clone();
        rows.merge(Row { version: 2, ..row(3, RowState::Normal) });
        let after = Topology::new(rows, me, 3, Some(&next), down);
        assert!(Arc::ptr_eq(&after.ring, &next.next_ring) && Arc::ptr_eq(&after.ring, &after.next_ring));
    }

    #[test]
    fn an_era_never_comes_again_though_rows_are_as_they_were() {
        let (me, alive) = (row(1, RowState::Normal).id, |_: &NodeId| Liveness::Alive);
        let mut rows = Rows::new();
        rows.merge(row(1, RowState::Normal));
        let mut topology = Topology::new(rows.clone(), me, 3, None, alive);
        let mut eras = Vec::new();
        for (version, state) in (1..).zip([RowState::Normal, RowState::Leaving, RowState::Normal, RowState::Leaving]) {
            rows.merge(Row { version, ..row(2, state) });
            topology = Topology::new(rows.clone(), me, 3, Some(&topology), alive);
            eras.push((topology.era, topology.rows.configuration()));
        }
        assert_eq!((eras[1].1, eras[0].1), (eras[3].1, eras[2].1), "it took its row back and is given up again");
        assert!(eras.is_sorted_by(|one, next| one.0 < next.0));
        rows.merge(Row { warm: false, version: 2, ..row(1, RowState::Normal) });
        assert_eq!(Topology::new(rows, me, 3, Some(&topology), alive).era, topology.era);
    }

    #[test]
    fn who_comes_together_with_others_holds_what_it_has_whoever_is_first() {
        let mut rows = Rows::new();
        (1..=3).for_each(|number| assert!(rows.merge(row(number, RowState::Normal))));
        (4..=5).for_each(|number| assert!(rows.merge(row(number, RowState::Joining))));
        let of = |rows: &Rows, me: u8| {
            Topology::new(rows.clone(), row(me, RowState::Normal).id, 3, None, |_| Liveness::Alive)
        };
        for first in [4, 5] {
            let fetched: BTreeSet<Slot> = of(&rows, first).own_slots().into_iter().collect();
            let mut rows = rows.clone();
            rows.merge(Row { version: 2, ..row(first, RowState::Normal) });
            let after = of(&rows, first);
            let index = after.ring.index_of(&after.me).expect("an owner");
            let owned: BTreeSet<Slot> = Slot::all().filter(|slot| after.ring.homes(*slot).contains(&index)).collect();
            assert!(owned.is_subset(&fetched), "{first} is the first");
        }
        // An owner that restarts meanwhile fetches what it owns today, too.
        assert_eq!(of(&rows, 1).own_slots().len(), crate::base::ids::SLOT_COUNT);
    }

    #[test]
    fn who_slept_through_an_owners_coming_and_going_knows_it() {
        let me = row(1, RowState::Normal).id;
        let of = |second: &[Row]| {
            let mut rows = Rows::new();
            rows.merge(row(1, RowState::Normal));
            second.iter().for_each(|row| assert!(rows.merge(row.clone())));
            Topology::new(rows, me, 3, None, |_| Liveness::Alive)
        };
        let at = |state, generation| Row { generation, ..row(2, state) };
        let left = at(RowState::Left, 2);
        let missed = |before: &[Row], after: &Row| of(std::slice::from_ref(after)).missed_an_owner(&of(before));
        assert!(
            missed(&[], &left) && missed(&[at(RowState::Left, 1)], &left) && missed(&[at(RowState::Joining, 2)], &left)
        );
        assert!(!missed(&[at(RowState::Normal, 1)], &left) && !missed(&[at(RowState::Leaving, 2)], &left));
        assert!(!missed(std::slice::from_ref(&left), &at(RowState::Gone, 2)));
        let cold = |version| Row { warm: false, version, ..left.clone() };
        assert!(!missed(&[at(RowState::Joining, 2)], &cold(2)), "it turned back and never owned anything");
        assert!(missed(&[at(RowState::Joining, 2)], &cold(3)) && missed(&[at(RowState::Left, 1)], &cold(3)));
    }
}
