//! What a node's log says of the others: who comes and goes, who falls silent and who is back.
//!
//! Told from the differences between one topology and the next, so that every line can name the node as its row does.
//! What was known when a row is heard of first is no news, but for a node that lives.

use std::collections::BTreeMap;

use tracing::info;

use crate::base::ids::NodeId;
use crate::cluster::topology::Topology;
use crate::membership::Liveness;
use crate::ring::RowState;

/// What was told last.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<NodeId, LastTold>);

/// What is told of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LastTold {
    state: RowState,
    is_up: bool,
    generation: u64,
}

impl Told {
    /// Tells what is new in this topology.
    pub fn tell(&mut self, topology: &Topology) {
        for row in topology.rows.iter().filter(|row| row.id != topology.me) {
            let is_up = topology.liveness(&row.id) != Liveness::Down;
            let known = LastTold { state: row.state, is_up, generation: row.generation };
            for what in news(self.0.insert(row.id, known), known).into_iter().flatten() {
                info!(name = row.shown_name(), node = %row.id, addr = %row.peer_addr, "{what}");
            }
        }
    }
}

/// What is new: of its place in the cluster, and of its life.
fn news(before: Option<LastTold>, now: LastTold) -> [Option<&'static str>; 2] {
    let was_up = before.is_some_and(|before| before.is_up);
    let moved = before.filter(|before| before.state != now.state).map(|before| match (before.state, now.state) {
        (_, RowState::Joining) => "a node joins",
        (RowState::Joining, RowState::Normal) => "a node has joined",
        (_, RowState::Normal) => "a node stays",
        (_, RowState::Leaving) => "a node leaves, or is given up",
        (_, RowState::Left) => "a node has left",
        (_, RowState::Gone) => "a node was given up for ever",
    });
    let has_come = before.is_none() && now.state == RowState::Joining;
    let life = match before {
        Some(before) if before.generation < now.generation && was_up && now.is_up => Some("member started anew"),
        _ if now.is_up && !was_up => Some("member up"),
        _ if was_up && !now.is_up && now.state.is_member() => Some("member down"),
        _ => None,
    };
    [moved.or(has_come.then_some("a node joins")), life]
}

#[cfg(test)]
mod tests {
    use super::*;
    use RowState::{Gone, Joining, Leaving, Left, Normal};

    #[test]
    fn each_change_is_told_once() {
        let life = [
            (Joining, true, 1),
            (Joining, true, 1),
            (Normal, true, 1),
            (Normal, false, 1),
            (Normal, true, 1),
            (Normal, true, 2),
            (Leaving, true, 2),
            (Left, false, 2),
        ];
        let told = told_of(&life);
        let expected = [
            "a node joins",
            "member up",
            "a node has joined",
            "member down",
            "member up",
            "member started anew",
            "a node leaves, or is given up",
            "a node has left",
        ];
        assert_eq!(told, expected);
        assert_eq!(
            told_of(&[(Normal, false, 1), (Leaving, false, 1), (Gone, false, 1)]),
            ["a node leaves, or is given up", "a node was given up for ever"]
        );
        assert_eq!(told_of(&[(Left, false, 1)]), Vec::<&str>::new());
    }

    fn told_of(life: &[(RowState, bool, u64)]) -> Vec<&'static str> {
        let (mut before, mut told) = (None, Vec::new());
        for (state, is_up, generation) in life.iter().copied() {
            let now = LastTold { state, is_up, generation };
            told.extend(news(before, now).into_iter().flatten());
            before = Some(now);
        }
        told
    }
}
