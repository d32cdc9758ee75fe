//! What a node fetches before others take their next step: the slots that it gains when they have come or gone.
//!
//! Who leaves, or is given up for dead, leaves its own to others; who joins moves copies between others as well, where
//! weights or zones differ. From its `Joining` or `Leaving` row on coordinators write to the nodes that gain slots, and
//! each of these, when the others act on the row, fetches what it gains. Whoever is on its way asks for that before its
//! next step (`lifecycle`; `remove` for the dead): so the ring changes only when those that own slots by it hold them.
//!
//! Who is cold, or joins itself, does nothing here: it fetches all that it may soon hold before anybody reads it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, info};

use crate::base::ids::{NodeId, Slot};
use crate::cluster::Cluster;
use crate::cluster::barrier::{COMING_PATIENCE, LEAVING_PATIENCE};
use crate::cluster::gossip::ROWS_TIMEOUT;
use crate::cluster::rules::PulledFrom;
use crate::cluster::topology::Topology;
use crate::membership::Liveness;
use crate::peer::control::{Request, Response};
use crate::ring::{Row, RowState, steps};

/// Between two looks at how far everybody has come.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

impl Cluster {
    /// Fetches what this node gains whenever others are on their way, for ever.
    pub(super) async fn fetch_gained_slots(self: &Arc<Self>) {
        let mut changes = self.changes();
        let (mut taken, mut era) = (PulledFrom::new(), 0);
        loop {
            let now = self.topology().era;
            if now != era {
                (taken, era) = (PulledFrom::new(), now);
            }
            taken = self.take_over(taken, era).await;
            let _ = timeout(PROGRESS_INTERVAL, changes.changed()).await;
        }
    }

    /// True when this node holds all that it is to hold before that one takes its next step. One that leaves and lives
    /// is told so only when this node holds everything whole: what a dead one held is gone anyway, and who comes has
    /// taken nothing along.
    pub(super) fn has_taken_over(&self, node: &NodeId, generation: u64) -> bool {
        let topology = self.topology();
        let is_that = |row: &&Row| is_on_its_way(row) && row.generation == generation;
        let Some(row) = topology.rows.get(node).filter(is_that) else { return false };
        if !steps::is_in_turn(&topology.rows, node) {
            return false;
        }
        // The cheap question first: this is asked again and again, and there may be many rings to look at.
        let is_done = self.holdings.has_taken_over_in(topology.era) || takes(&topology).is_empty();
        is_done && (!is_awaited(&topology, row) || self.is_all_whole(&topology))
    }

    /// Fetches what this node gains by the coming and going of others, once an era; for one that leaves and lives again
    /// and again, until this node holds everything whole. Is given what it has fetched in this era so far, and gives
    /// what it has now.
    async fn take_over(self: &Arc<Self>, before: PulledFrom, era: u64) -> PulledFrom {
        let topology = self.topology();
        let moving: Vec<NodeId> = topology.others().filter(|row| is_on_its_way(row)).map(|row| row.id).collect();
        let somebody_is_awaited = topology.others().any(|row| is_awaited(&topology, row));
        let has_fetched = self.holdings.has_taken_over_in(era);
        let is_done = has_fetched && (!somebody_is_awaited || self.is_all_whole(&topology));
        if moving.is_empty() || !topology.is_warm() || topology.era != era || is_done {
            return PulledFrom::new();
        }
        if !somebody_is_awaited && takes(&topology).is_empty() {
            self.holdings.note_taken_over_in(era);
            return PulledFrom::new();
        }
        drop(topology);
        let patience = if somebody_is_awaited { LEAVING_PATIENCE } else { COMING_PATIENCE };
        let mut unconfirmed = BTreeSet::new();
        for id in &moving {
            unconfirmed.extend(self.spread(id, patience).await);
        }
        if !may_begin(&self.topology(), &unconfirmed) {
            return PulledFrom::new();
        }
        let is_adopted = steps::is_adopted(&self.topology().possible_rings, &unconfirmed);
        // Who does not act on the change is a source only where it cannot be helped, and what it gave counts for this
        // time alone.
        let not_from = if is_adopted { unconfirmed.clone() } else { BTreeSet::new() };
        let (slots, mut taken) = self.fill(takes, before, &not_from, |_| {}, |_| true).await;
        let is_same = || self.topology().era == era;
        if is_adopted && is_same() {
            self.note_whole(&taken, &unconfirmed);
            if somebody_is_awaited {
                self.fetch_missing(era, &mut taken, &unconfirmed).await;
            }
        }
        if (is_adopted || !somebody_is_awaited) && !has_fetched && is_same() {
            self.holdings.note_taken_over_in(era);
            info!(slots, "hold what this node gains by the coming or going of others");
        }
        if is_adopted { taken } else { PulledFrom::new() }
    }

    /// Asks this member whether it holds all that it is to hold before `node` takes its next step; nothing when it does
    /// not say.
    pub(super) async fn ask_taken_over(&self, member: &Row, node: NodeId, generation: u64) -> Option<bool> {
        match self.links.kept_to(member).ask(&Request::TakenOver { node, generation }, ROWS_TIMEOUT).await {
            Ok(answer) => Some(answer == Response::YesNo(true)),
            Err(error) => {
                debug!(peer = %member.id, %error, "does not say what it has taken over");
                None
            }
        }
    }
}

fn is_on_its_way(row: &Row) -> bool {
    matches!(row.state, RowState::Joining | RowState::Leaving)
}

/// Whether this node leaves and lives: somebody waits for it to end, and what it holds is there to be fetched.
fn is_awaited(topology: &Topology, row: &Row) -> bool {
    row.state == RowState::Leaving && topology.liveness(&row.id) != Liveness::Down
}

/// The slots that this node has to fetch before others may take their next step.
fn takes(topology: &Topology) -> Vec<Slot> {
    let somebody_goes = topology.rows.iter().any(|row| row.state == RowState::Leaving);
    steps::to_take(&topology.coming_rings, &topology.me, somebody_goes)
}

/// Whether enough act on the rows of those who come for what is fetched now to be all: who joins waits for that as
/// well. Those that are given up for dead act on nothing, and are no reason to wait.
fn may_begin(topology: &Topology, unconfirmed: &BTreeSet<NodeId>) -> bool {
    let is_given_up = |row: &Row| row.state == RowState::Leaving && !is_awaited(topology, row);
    let counts = |id: &&NodeId| !topology.rows.get(id).is_some_and(is_given_up);
    let somebody_comes = topology.others().any(|row| row.state == RowState::Joining);
    !somebody_comes || steps::is_adopted(&topology.coming_rings, &unconfirmed.iter().filter(counts).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::row;
    use crate::ring::Rows;

    fn id(number: u8) -> NodeId {
        row(number, RowState::Normal).id
    }

    /// What node 1 sees of these, of which some do not answer.
    fn seen(rows: &[Row], down: &[u8]) -> Topology {
        let mut map = Rows::new();
        rows.iter().for_each(|row| assert!(map.merge(row.clone())));
        let down: Vec<NodeId> = down.iter().map(|number| id(*number)).collect();
        let liveness = |id: &NodeId| if down.contains(id) { Liveness::Down } else { Liveness::Alive };
        Topology::new(map, id(1), 3, None, liveness)
    }

    fn normal(numbers: impl Iterator<Item = u8>) -> Vec<Row> {
        numbers.map(|number| row(number, RowState::Normal)).collect()
    }

    #[test]
    fn who_comes_leaves_nothing_to_others_of_its_weight_and_zone() {
        let takes_of = |weights: [f64; 4], new: &[f64]| {
            let old =
                (1..).zip(&weights).map(|(number, weight)| Row { weight: *weight, ..row(number, RowState::Normal) });
            let new = (9..).zip(new).map(|(number, weight)| Row { weight: *weight, ..row(number, RowState::Joining) });
            takes(&seen(&old.chain(new).collect::<Vec<_>>(), &[])).len()
        };
        assert_eq!((takes_of([1.0; 4], &[1.0]), takes_of([1.0; 4], &[1.0, 1.0])), (0, 0));
        assert!(takes_of([1.0, 1.0, 2.0, 2.0], &[1.0]) > 0);
    }

    #[test]
    fn what_is_fetched_for_who_comes_is_fetched_when_enough_act_on_it() {
        let with = |others: &[Row], down: &[u8]| seen(&[normal(1..=4), others.to_vec()].concat(), down);
        let away = |numbers: &[u8]| numbers.iter().map(|number| id(*number)).collect::<BTreeSet<_>>();
        let joining = [row(9, RowState::Joining)];
        let topology = with(&joining, &[]);
        assert!(may_begin(&topology, &away(&[])) && may_begin(&topology, &away(&[3])));
        assert!(!may_begin(&topology, &away(&[3, 4])), "they may write without it");
        let dead = [row(5, RowState::Leaving), row(6, RowState::Leaving), row(9, RowState::Joining)];
        assert!(may_begin(&with(&dead, &[5, 6]), &away(&[5, 6])), "they are given up");
        assert!(!may_begin(&with(&dead, &[]), &away(&[5, 6])), "they live, and leave");
        assert!(may_begin(&with(&dead[..2], &[]), &away(&[5, 6])), "nobody comes");
    }
}
