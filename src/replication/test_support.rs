//! For tests of this part: a coordinator that holds nothing, and views of three nodes.

use std::sync::Arc;

use crate::base::clock::Hlc;
use crate::base::ids::{ActorId, NodeId};
use crate::base::metrics::Registry;
use crate::peer::registry::Peers;
use crate::replication::ballots::Ballots;
use crate::replication::coordinator::Coordinator;
use crate::replication::routing::{Rings, Roles, Standing};
use crate::replication::view::View;
use crate::ring::{Member, Ring};
use crate::store::Store;

/// One that holds nothing.
pub fn coordinator() -> Coordinator {
    let store = Arc::new(Store::new(ActorId { node: 1, generation: 1 }));
    let (metrics, ballots) = (Arc::new(Registry::new(Vec::new())), Arc::new(Ballots::new(Hlc(0))));
    Coordinator { store, metrics, ballots, current_view: Default::default() }
}

/// What the first of three nodes goes by, which coordinates its slots or, not being fit, none. All lanes are open.
pub fn view_of(coordinates: bool) -> View {
    let ids: Vec<NodeId> = (0..3).map(|number| NodeId::from_bytes([number; 20])).collect();
    let members: Vec<Member> = ids.iter().map(|id| Member { id: *id, zone: String::new(), weight: 1.0 }).collect();
    let ring = Arc::new(Ring::build(&members, 3));
    let rings = [ring.clone()];
    let standing = |at: u16| Standing { usable: true, fit: at != 0 || coordinates };
    let place_of = |id: &NodeId| Some(u16::from(id.as_bytes()[0]));
    let rings = Rings { ring: &ring, coming: &rings, are_all: true };
    let peers = Peers::new(1, 1 << 20);
    let peers = ids.iter().enumerate().map(|(at, id)| {
        let (peer, _) = peers.get_or_add(*id, ([127, 0, 0, 1], 1).into());
        for lane in &peer.lanes {
            lane.open();
        }
        (at > 0).then_some(peer)
    });
    View {
        roles: Roles::plan(rings, place_of, 0, &[standing(0), standing(1), standing(2)], false),
        peers: peers.collect(),
        replicas: 3,
        ids: ids.into_iter().map(|id| (id, 1)).collect(),
        ..View::default()
    }
}
