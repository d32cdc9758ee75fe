//! A dead node is given up for ever, at an operator's word: its slots are filled up elsewhere first, then its row says
//! `Gone`.
//!
//! The node that is told to marks the dead one's row `Leaving`. From then on everything goes as when a node leaves, but
//! for the dead one's own part: coordinators write to the nodes that gain its slots, and each of these, when all others
//! act on the row, fetches what it gains from the home replicas that are left (`take_over`). When every member has said
//! that it holds what it gains, the node that was told to writes `Gone` and the ring changes. So no read ever asks a
//! node that does not hold the slot yet.
//!
//! Should the dead node come back before that, it stays: it takes its row back (`Cluster::merge_rows`), and if it is
//! given up again all is done anew (`Topology::era`): what was fetched the first time may have been given back. Should
//! the node that was told to die, the operator says it again to another one: nothing is lost, only unfinished.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::base::ids::NodeId;
use crate::cluster::Cluster;
use crate::cluster::take_over::PROGRESS_INTERVAL;
use crate::cluster::topology::Topology;
use crate::membership::Liveness;
use crate::ring::{Row, RowState};

/// Why a node is not given up. Nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ForgetError {
    /// Nobody of this id takes part.
    #[error("ERR Unknown node {0}")]
    Unknown(NodeId),
    /// It is this node.
    #[error("ERR I tried hard but I can't forget myself...")]
    Ourselves,
    /// It lives: it leaves when it is told to stop.
    #[error("ERR Node {0} is alive: stop it to make it leave, or forget it when it is down")]
    Alive(NodeId),
}

/// Dead nodes that are to be given up, as an operator said on some worker.
#[derive(Debug, Default)]
pub(super) struct ToldToForget {
    ids: Mutex<BTreeSet<NodeId>>,
    added: Notify,
}

impl ToldToForget {
    /// Those that nobody has begun to give up.
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.ids.lock().clone()
    }

    fn add(&self, id: NodeId) {
        self.ids.lock().insert(id);
        self.added.notify_one();
    }

    /// Waits until there are some.
    async fn news(&self) {
        self.added.notified().await;
    }

    fn take(&self) -> BTreeSet<NodeId> {
        std::mem::take(&mut *self.ids.lock())
    }
}

impl Cluster {
    /// Gives a dead node up for ever. Returns at once: whoever asks may be a worker, and rings take milliseconds to
    /// build. The work goes on in the background.
    pub fn forget(&self, id: &NodeId) -> Result<(), ForgetError> {
        self.dead_row(&self.topology(), id)?;
        info!(node = self.topology().called(id), "told to give this node up for ever");
        self.told_to_forget.add(*id);
        Ok(())
    }

    /// The row of a node that may be given up.
    fn dead_row(&self, topology: &Topology, id: &NodeId) -> Result<Row, ForgetError> {
        if *id == self.identity.id {
            return Err(ForgetError::Ourselves);
        }
        let row = topology.rows.get(id).filter(|row| row.state != RowState::Gone).ok_or(ForgetError::Unknown(*id))?;
        match row.state.is_member() && topology.liveness(id) != Liveness::Down {
            true => Err(ForgetError::Alive(*id)),
            false => Ok(row.clone()),
        }
    }

    /// Begins for ever what this node is told to. Waits for nothing else: others may be waiting for this.
    pub(super) async fn begin_removals(&self) {
        loop {
            self.told_to_forget.news().await;
            self.begin_forgetting();
        }
    }

    /// Marks the rows of the dead.
    fn begin_forgetting(&self) {
        for id in self.told_to_forget.take() {
            let row = match self.dead_row(&self.topology(), &id) {
                Ok(row) => row,
                Err(error) => {
                    warn!(node = %id, %error, "this node is not given up");
                    continue;
                }
            };
            let owned = matches!(row.state, RowState::Normal | RowState::Leaving);
            self.update(|book| {
                if !owned {
                    return book.rows.mark_gone(&id);
                }
                book.forgetting.insert(id, row.generation);
                let version = row.version.saturating_add(1);
                row.state == RowState::Normal
                    && book.rows.merge(Row { state: RowState::Leaving, version, ..row.clone() })
            });
        }
    }

    /// Writes `Gone` for whom this node was told to give up, when nobody needs them any more, for ever.
    pub(super) async fn remove_dead(&self) {
        let mut changes = self.changes();
        loop {
            self.finish_forgetting().await;
            let _ = timeout(PROGRESS_INTERVAL, changes.changed()).await;
        }
    }

    /// Writes `Gone` for nodes whose slots everybody has taken over.
    async fn finish_forgetting(&self) {
        let forgetting: Vec<(NodeId, u64)> = self.book.lock().forgetting.iter().map(|it| (*it.0, *it.1)).collect();
        for (id, generation) in forgetting {
            let row = self.topology().rows.get(&id).cloned();
            let is_that = |row: &Row| row.state == RowState::Leaving && row.generation == generation;
            let is_dead = |row: &Row| self.topology().liveness(&row.id) == Liveness::Down;
            let Some(row) = row.filter(|row| is_that(row) && is_dead(row)) else {
                self.book.lock().forgetting.remove(&id);
                warn!(node = self.topology().called(&id), "this node is back, or gone already: it is not given up");
                continue;
            };
            // It may have come back while the others were asked.
            if self.have_all_taken_over(&row).await && is_dead(&row) {
                self.update(|book| {
                    book.forgetting.remove(&id);
                    book.rows.mark_gone(&id)
                });
                info!(name = row.shown_name(), node = %id, "gave this node up for ever");
            }
        }
    }

    async fn have_all_taken_over(&self, dead: &Row) -> bool {
        let others: Vec<Row> = self.topology().others().filter(|row| row.id != dead.id).cloned().collect();
        for row in others {
            // Another dead node that is to go takes nothing over. Any other that is down is waited for: it may only be
            // paused, and would come back without what it is to hold.
            if row.state == RowState::Leaving && self.topology().liveness(&row.id) == Liveness::Down {
                continue;
            }
            // Who joins fetches all that it will own anew, and may itself wait for the dead to be given up.
            if row.state == RowState::Joining {
                continue;
            }
            if self.ask_taken_over(&row, dead.id, dead.generation).await != Some(true) {
                return false;
            }
        }
        self.has_taken_over(&dead.id, dead.generation)
    }
}
