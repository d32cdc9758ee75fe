//! What a change of ring means in work: which slots each node must fetch, and which it may drop afterwards.
//!
//! Compares home replicas only. A node that keeps a slot but moves within its list has nothing to do. Who sends, at what
//! pace and in which order is for the parts that talk.

use super::Ring;
use crate::base::ids::{NodeId, Slot};
use std::collections::BTreeMap;

/// One node's side of a change of ring; slots ascend.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// Slots that it becomes a home replica of.
    pub gains: Vec<Slot>,
    /// Slots that it stops being a home replica of.
    pub losses: Vec<Slot>,
}

/// The change for every node that has one. A node in one ring only gains, or loses, all of its slots.
pub fn plan(old: &Ring, new: &Ring) -> BTreeMap<NodeId, Change> {
    let mut changes: BTreeMap<NodeId, Change> = BTreeMap::new();
    for slot in Slot::all() {
        for id in missing(new, old, slot) {
            changes.entry(id).or_default().gains.push(slot);
        }
        for id in missing(old, new, slot) {
            changes.entry(id).or_default().losses.push(slot);
        }
    }
    changes
}

/// The home replicas of `slot` in `these` that are none in `others`.
fn missing(these: &Ring, others: &Ring, slot: Slot) -> impl Iterator<Item = NodeId> {
    let id = |ring: &Ring, index: u16| ring.members().get(usize::from(index)).map(|member| member.id);
    these
        .homes(slot)
        .iter()
        .filter_map(move |&index| id(these, index))
        .filter(move |&here| others.homes(slot).iter().all(|&index| id(others, index) != Some(here)))
}
