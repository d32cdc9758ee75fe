//! The cluster as this node's commands see it: one immutable snapshot, replaced when the rows or the news change.
//!
//! Made of the rows and of who serves; everything that CLUSTER, SENTINEL and INFO tell of the cluster
//! is computed here once, not at every question.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{NodeId, SLOT_COUNT, Slot};
use crate::ring::{Ring, Row, RowState, Rows};
use crate::server::state::slot_map::SlotMap;

/// The snapshot.
#[derive(Clone, Debug)]
pub struct ClusterSnapshot {
    /// This node.
    pub this: NodeId,
    /// All rows.
    pub rows: Rows,
    /// Nodes that can be reached and are fit to coordinate; this one always counts among them.
    pub serving: BTreeSet<NodeId>,
    /// Members that cannot be reached, with the time of this node's clock, in milliseconds, at which that was noticed.
    pub down_since: BTreeMap<NodeId, u64>,
    /// Who coordinates what.
    pub map: SlotMap,
    /// Slots that this node coordinates now.
    pub coordinated: Vec<Slot>,
    /// For INFO.
    pub figures: RingFigures,
    /// For SENTINEL: this node, and the others.
    pub nodes: (Node, Vec<Node>),
}

/// This node in the ring.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RingFigures {
    /// Its id.
    pub node_id: String,
    /// Its name.
    pub node_name: String,
    /// `joining`, `normal`, `leaving` or `gone`.
    pub state: &'static str,
    /// Nodes in the ring.
    pub members: usize,
    /// Those that are believed alive.
    pub members_alive: usize,
    /// Slots that this node holds a copy of.
    pub slots_held: usize,
    /// Slots whose commands this node coordinates while all are alive.
    pub slots_first: usize,
    /// The ring's digest: equal on nodes that agree.
    pub digest: u64,
}

/// A node as clients reach it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// Its host.
    pub host: String,
    /// The port of its standalone face.
    pub port: u16,
    /// Whether it can be reached and is fit to coordinate.
    pub serving: bool,
}

impl ClusterSnapshot {
    /// True when this node is on its way out, or out.
    pub fn is_leaving(&self) -> bool {
        self.rows.get(&self.this).is_some_and(|row| matches!(row.state, RowState::Leaving | RowState::Left))
    }

    /// The snapshot of these rows, `ring` being the one in force; `is_served` says which slots can reach their quorums.
    pub fn new(
        this: NodeId,
        name: &str,
        rows: Rows,
        ring: &Ring,
        mut serving: BTreeSet<NodeId>,
        is_served: impl Fn(Slot) -> bool,
    ) -> ClusterSnapshot {
        serving.insert(this);
        let is_warm = |id: &NodeId| rows.get(id).is_some_and(|row| row.warm);
        let map = SlotMap::of(ring, |id| serving.contains(id) && is_warm(id), is_served);
        let of_run = |first: Slot, last: Slot| (first.number()..=last.number()).filter_map(Slot::new);
        let coordinated: Vec<Slot> = map.of_coordinator(&this).flat_map(|run| of_run(run.first, run.last)).collect();
        let members: Vec<&Row> = rows.iter().filter(|row| row.state.is_member()).collect();
        let figures = RingFigures {
            node_id: this.to_string(),
            node_name: name.to_owned(),
            state: rows.get(&this).map_or("joining", |row| state_name(row.state)),
            members: members.len(),
            members_alive: members.iter().filter(|row| serving.contains(&row.id)).count(),
            slots_held: slots_held(ring, &this),
            slots_first: coordinated.len(),
            digest: ring.digest(),
        };
        let node = |row: &&Row| Node {
            id: row.id,
            host: row.host.clone(),
            port: row.port,
            serving: serving.contains(&row.id),
        };
        let unknown = Node { id: this, host: String::new(), port: 0, serving: true };
        let this_node = members.iter().find(|row| row.id == this).map_or(unknown, node);
        let others = members.iter().filter(|row| row.id != this).map(node).collect();
        ClusterSnapshot {
            this,
            serving,
            down_since: BTreeMap::new(),
            map,
            coordinated,
            figures,
            nodes: (this_node, others),
            rows,
        }
    }
}

fn slots_held(ring: &Ring, this: &NodeId) -> usize {
    let Some(index) = ring.index_of(this) else { return 0 };
    Slot::all().filter(|slot| ring.homes(*slot).contains(&index)).count().min(SLOT_COUNT)
}

fn state_name(state: RowState) -> &'static str {
    match state {
        RowState::Joining => "joining",
        RowState::Normal => "normal",
        RowState::Leaving => "leaving",
        RowState::Left => "left",
        RowState::Gone => "gone",
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// The map of a cluster of so many nodes, on ports that follow each other.
    pub fn rows_of(nodes: u16) -> Rows {
        let mut rows = Rows::new();
        for at in 0..nodes {
            rows.merge(Row {
                id: NodeId::random(),
                state: RowState::Normal,
                peer_addr: SocketAddr::from(([127, 0, 0, 1], 16_379 + at)),
                name: format!("n{}", at + 1),
                host: "127.0.0.1".into(),
                port: 6_379 + at,
                cluster_port: 7_379 + at,
                admin_port: 9_379 + at,
                zone: String::new(),
                weight: 1.0,
                warm: true,
                generation: 1,
                version: 1,
            });
        }
        rows
    }

    /// The snapshot that the first of so many nodes has while the last ones of them are dead.
    pub fn snapshot_of(nodes: u16, dead: usize) -> ClusterSnapshot {
        let rows = rows_of(nodes);
        let ids: Vec<NodeId> = rows.iter().map(|row| row.id).collect();
        let alive = ids.iter().take(ids.len() - dead).copied().collect();
        let ring = rows.ring(3);
        ClusterSnapshot::new(ids[0], "n1", rows, &ring, alive, |_| true)
    }

    #[test]
    fn a_snapshot_counts_the_living_and_their_slots() {
        let all = snapshot_of(3, 0);
        assert_eq!((all.figures.members, all.figures.members_alive, all.figures.slots_held), (3, 3, SLOT_COUNT));
        assert_eq!((all.figures.state, all.nodes.1.len()), ("normal", 2));
        let less = snapshot_of(3, 1);
        assert_eq!(less.figures.members_alive, 2);
        assert_eq!(less.nodes.1.iter().filter(|node| !node.serving).count(), 1);
        assert!(less.coordinated.len() > SLOT_COUNT / 3 && less.coordinated.len() < SLOT_COUNT);
        let alone = snapshot_of(1, 0);
        assert_eq!((alone.coordinated.len(), alone.figures.slots_first), (SLOT_COUNT, SLOT_COUNT));
    }
}
