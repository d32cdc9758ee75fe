//! The view that workers go by: made anew whenever rows, liveness or a link changes, and swapped in whole.
//!
//! A peer counts as usable while its lanes are open, and as knowing what it holds once it is warm by its own row and
//! has been given everything that it missed while we could not reach it. It is told so, and this node knows what it
//! holds only as far as the others say so of it (`peer::trust`): whom they route past must not coordinate beside who
//! stands in for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::base::config::{QuorumMode, Settings};
use crate::base::ids::{NodeId, Slot};
use crate::cluster::Topology;
use crate::node::Node;
use crate::node::work::{Handout, Work};
use crate::peer::passing::Passing;
use crate::peer::registry::Peer;
use crate::peer::trust::Opinion;
use crate::replication::routing::{Rings, Roles, Standing};
use crate::replication::view::View;
use crate::ring::Row;
use crate::server::pubsub;
use crate::server::session::settings::{Consistency, quorum_of};
use crate::server::state::snapshot::ClusterSnapshot;

/// Keeps the view up to date for ever.
pub async fn keep(node: Arc<Node>) {
    let mut changes = node.cluster.changes();
    let options = Arc::new(Notify::new());
    let told = options.clone();
    let before = Mutex::new(decisive(&node.config.settings()));
    node.config.on_change(move |settings| {
        let now = decisive(settings);
        if std::mem::replace(&mut *before.lock(), now) != now {
            told.notify_one();
        }
    });
    loop {
        refresh(&node);
        let waits_until = node.peers.waits_until();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = node.peers.changed() => {}
            () = options.notified() => {}
            () = sleep_until(waits_until.unwrap_or_else(Instant::now)), if waits_until.is_some() => {}
        }
    }
}

/// The options that decide which slots are served, and how.
fn decisive(settings: &Settings) -> (usize, usize, usize, QuorumMode) {
    (settings.replicas, settings.write_quorum, settings.read_quorum, settings.quorum_mode)
}

/// Makes the view.
pub fn refresh(node: &Node) {
    let change = *node.cluster.changes().borrow();
    // Before anybody is asked what he takes this node for.
    let (number, doubts) = (node.peers.next_view_number(), node.peers.doubts());
    let topology = node.cluster.topology();
    let nodes = Nodes::of(node, &topology);
    node.peers.retain(|id| nodes.ids.contains(id));
    let view = nodes.view(node, &topology, number, doubts);
    let left = node.shared.coordinator.change_view(&node.shared.view.load(), &view);
    node.shared.coordinator.current_view.store(number, Ordering::Release);
    let before = Arc::downgrade(&node.shared.view.swap(Arc::new(view)));
    node.cluster.acts_on(change, before);
    nodes.others().for_each(|(peer, serves)| peer.judge_fit(serves, number));
    node.routes.tell(nodes.others().map(|(peer, serves)| (peer, is_warm(&topology, peer), serves)));
    node.cluster.note_stir(nodes.is_stirred(&topology));
    nodes.show(node, &topology);
    let peers = nodes.peers.into_iter().flatten().collect();
    let handout = Arc::new(Handout { passing: Passing::new(number, node.workers.len(), peers), left });
    (0..node.workers.len()).for_each(|worker| node.workers.give(worker, Work::View(handout.clone())));
}

/// The nodes of a view, each at the same place in all lists: today's owners first, then those to come.
struct Nodes {
    ids: Vec<NodeId>,
    /// None for this node.
    peers: Vec<Option<Arc<Peer>>>,
    standing: Vec<Standing>,
    /// How many own slots today.
    owners: usize,
}

impl Nodes {
    fn of(node: &Node, topology: &Topology) -> Nodes {
        let me = topology.me;
        let mut ids: Vec<NodeId> = topology.ring.members().iter().map(|member| member.id).collect();
        let owners = ids.len();
        let coming = topology.next_ring.members().iter().map(|member| member.id);
        ids.extend(coming.filter(|id| topology.ring.index_of(id).is_none()));
        let peer_of = |id: &NodeId| topology.rows.get(id).map(|row| peer_of_row(node, row));
        let peers: Vec<Option<Arc<Peer>>> = ids.iter().map(|id| if *id == me { None } else { peer_of(id) }).collect();
        let may_coordinate = may_coordinate(node, topology, &peers);
        let standing_of = |(id, peer): (&NodeId, &Option<Arc<Peer>>)| match peer {
            Some(peer) => Standing { usable: peer.is_usable(), fit: is_warm(topology, peer) && peer.hints.is_empty() },
            None => Standing { usable: *id == me, fit: may_coordinate },
        };
        let standing = ids.iter().zip(&peers).map(standing_of).collect();
        Nodes { ids, peers, standing, owners }
    }

    /// The other nodes, and whether each serves.
    fn others(&self) -> impl Iterator<Item = (&Peer, bool)> + Clone {
        let nodes = self.peers.iter().zip(&self.standing);
        nodes.filter_map(|(peer, standing)| Some((peer.as_deref()?, standing.serves())))
    }

    /// What batches work with.
    fn view(&self, node: &Node, topology: &Topology, number: u64, doubts: u64) -> View {
        let settings = node.config.settings();
        let place_of = |id: &NodeId| self.ids.iter().position(|known| known == id).map(|at| at as u16);
        let me = place_of(&topology.me).unwrap_or(u16::MAX);
        let are_all = !topology.possible_rings.is_empty();
        let rings = Rings { ring: &topology.ring, coming: &topology.coming_rings, are_all };
        let strict = settings.quorum_mode == QuorumMode::Strict;
        let rings_digest = topology.ring.digest() ^ topology.next_ring.digest().rotate_left(1);
        let generation = |id: &NodeId| topology.rows.get(id).map_or(0, |row| row.generation);
        View {
            roles: Roles::plan(rings, place_of, me, &self.standing, strict),
            peers: self.peers.clone(),
            me,
            replicas: settings.replicas.min(self.owners),
            is_solo: self.ids.len() == 1 && self.owners == 1 && me == 0,
            electorate_digest: topology.rows.configuration() ^ rings_digest,
            is_moving: topology.is_moving(),
            ids: self.ids.iter().map(|id| (*id, generation(id))).collect(),
            published_at: Some(std::time::Instant::now()),
            number,
            doubts,
        }
    }

    /// True while copies of keys may come to be outside their home replicas.
    fn is_stirred(&self, topology: &Topology) -> bool {
        let is_behind = |it: (&Option<Arc<Peer>>, &Standing)| it.0.is_some() && !it.1.serves();
        let mut owners = self.peers.iter().zip(&self.standing).take(self.owners);
        topology.has_others_than_homes() && (topology.is_moving() || owners.any(is_behind))
    }

    /// Has commands tell of the cluster as it is now.
    fn show(&self, node: &Node, topology: &Topology) {
        let ids = || self.ids.iter().zip(&self.standing);
        let serving: BTreeSet<NodeId> = ids().filter(|(_, it)| it.serves()).map(|(id, _)| *id).collect();
        let shown_before = node.shared.node.snapshot.load();
        let name = topology.own_row().map_or(shown_before.figures.node_name.clone(), Row::shown_name);
        let (view, settings) = (node.shared.view.load(), node.config.settings());
        let quorum = quorum_of(&settings, Consistency::default(), &view);
        let is_served = |slot: Slot| {
            view.is_solo || view.roles.of(slot).is_some_and(|roles| view.check_served(roles, quorum, true).is_ok())
        };
        let (rows, ring) = (topology.rows.clone(), &topology.ring);
        let mut shown = ClusterSnapshot::new(topology.me, &name, rows, ring, serving, is_served);
        let down = ids().filter(|(_, it)| !it.usable).map(|(id, _)| *id);
        shown.down_since = down_since(down, &shown_before.down_since, node.shared.node.store.clock.now_ms());
        node.shared.node.snapshot.store(Arc::new(shown));
    }
}

/// Whether a peer holds its slots. A row of an earlier life says nothing of who has come back, which is empty.
fn is_warm(topology: &Topology, peer: &Peer) -> bool {
    let is_of_this_life = |row: &&Row| row.generation >= peer.generation.load(Ordering::Relaxed);
    topology.rows.get(&peer.id).filter(is_of_this_life).is_some_and(|row| row.warm)
}

/// Whether this node may coordinate, as far as the others say so. Who was away for too long coordinates nothing
/// before it knows whether what it holds is deleted over there.
fn may_coordinate(node: &Node, topology: &Topology, peers: &[Option<Arc<Peer>>]) -> bool {
    let others = || peers.iter().flatten().filter(|peer| is_warm(topology, peer));
    let mut reached = others().filter(|peer| peer.is_usable());
    let is_in_step = reached.all(|peer| node.cluster.is_in_step_with(&peer.id));
    let generation = |id: &NodeId| topology.rows.get(id).map_or(0, |row| row.generation);
    let opinion = |peer: &Arc<Peer>| Opinion {
        of: peer.id,
        is_reached: peer.is_usable(),
        says: node.peers.word_of(&peer.id, generation(&peer.id)),
        is_owed: !peer.hints.is_empty(),
    };
    let opinions = || others().map(opinion).collect();
    let is_warm = topology.own_row().is_some_and(|row| row.warm);
    node.peers.may_coordinate(topology.me, is_warm && is_in_step, opinions)
}

/// Who is down, and since when: those who were so before are so since then.
fn down_since(
    down: impl Iterator<Item = NodeId>,
    before: &BTreeMap<NodeId, u64>,
    now_ms: u64,
) -> BTreeMap<NodeId, u64> {
    down.map(|id| (id, before.get(&id).copied().unwrap_or(now_ms))).collect()
}

/// The peer of this row; a new one gets its lanes kept open.
fn peer_of_row(node: &Node, row: &Row) -> Arc<Peer> {
    let (peer, is_new) = node.peers.get_or_add(row.id, row.peer_addr);
    peer.call(row.shown_name());
    if is_new {
        for index in 0..peer.lanes.len() {
            node.workers.give(index, Work::Lane { peer: peer.clone(), index });
        }
        let shared = &node.shared;
        if let Some(remote) = shared.node.pubsub.meet(&peer) {
            let (hub, hello, secret) = (shared.node.pubsub.clone(), shared.hello.clone(), shared.secret.clone());
            tokio::task::spawn_local(pubsub::link::keep(hub, remote, hello, secret));
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stays_down_is_down_since_the_first_time() {
        let [a, b, c] = [1, 2, 3].map(|byte| NodeId::from_bytes([byte; 20]));
        let first = down_since([a, b].into_iter(), &BTreeMap::new(), 100);
        let second = down_since([b, c].into_iter(), &first, 200);
        assert_eq!(second, BTreeMap::from([(b, 100), (c, 200)]));
        assert_eq!(down_since([a].into_iter(), &second, 300), BTreeMap::from([(a, 300)]));
    }
}
