//! What a node's log says of whom it routes past: one line when others begin to stand in for a node, with the reason,
//! and one when it serves again. That comes before `member down`, which is what gossip finds out (`cluster::news`), and
//! it comes without it for a node that stands still. What became of each connection stands in the log at `debug`.
//!
//! Told from the differences between one view and the next: who has not served yet is no news, nor who has left.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tracing::info;

use crate::base::ids::NodeId;
use crate::peer::registry::Peer;

/// Whether each node that has served does so still, as it was told last.
#[derive(Debug, Default)]
pub struct Routes(Mutex<BTreeMap<NodeId, bool>>);

impl Routes {
    /// Tells what is new in this view: of each peer whether it is warm, and whether it is usable and fit.
    pub fn tell<'p>(&self, peers: impl Iterator<Item = (&'p Peer, bool, bool)> + Clone) {
        let mut known = self.0.lock();
        known.retain(|id, _| peers.clone().any(|(peer, ..)| peer.id == *id));
        for (peer, is_warm, serves) in peers {
            match has_news(&mut known, peer.id, serves) {
                true if serves => info!(name = peer.name(), peer = %peer.addr, "a node serves again"),
                true => {
                    info!(name = peer.name(), peer = %peer.addr, why = why(peer, is_warm), "others stand in for a node")
                }
                false => {}
            }
        }
    }
}

/// Notes whether a node serves; true when that is to be told.
fn has_news(known: &mut BTreeMap<NodeId, bool>, id: NodeId, serves: bool) -> bool {
    match known.get_mut(&id) {
        Some(last) => std::mem::replace(last, serves) != serves,
        None if serves => known.insert(id, serves).is_some(),
        None => false,
    }
}

fn why(peer: &Peer, is_warm: bool) -> &'static str {
    match () {
        () if !peer.is_connected() => "its connections have ended",
        () if !peer.is_usable() => "it is silent",
        () if !is_warm => "it fills up",
        () => "it has missed writes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_and_a_return_are_told_once_each_and_a_first_coming_is_not() {
        let (mut known, id) = (BTreeMap::new(), NodeId::from_bytes([1; 20]));
        let views = [false, false, true, true, false, false, true, true];
        let told: Vec<bool> = views.into_iter().map(|serves| has_news(&mut known, id, serves)).collect();
        assert_eq!(told, [false, false, false, false, true, false, true, false]);
    }
}
