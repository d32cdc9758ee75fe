//! A step of a node waits until the others act on its row: each is given our rows and asks itself whether it goes by
//! them and has finished what it began under earlier ones, and remembers it over a restart.
//!
//! Who does not answer is waited for with patience, not for ever; where too many are missing for the step to be safe
//! (`ring::steps`), [`Cluster::barrier`] goes on waiting.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::base::ids::NodeId;
use crate::base::throttle::Throttle;
use crate::cluster::Cluster;
use crate::peer::control::{Request, Response};
use crate::ring::{Row, steps};

/// Between two warnings of what is waited for.
pub(super) const TELL_INTERVAL: Duration = Duration::from_secs(10);
/// How long a node may take to go by other rows, and to say so.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two attempts to get a confirmation.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(20);
/// How long a node that comes waits for confirmations of nodes that seem alive and do not answer.
pub(super) const COMING_PATIENCE: Duration = Duration::from_secs(15);
/// The same for a node that goes: somebody is waiting for it to end.
pub(super) const LEAVING_PATIENCE: Duration = Duration::from_secs(1);

impl Cluster {
    /// As [`Cluster::spread`], and returns only when those who have not confirmed are too few to matter.
    pub(super) async fn barrier(self: &Arc<Self>, about: &NodeId, patience: Duration) -> BTreeSet<NodeId> {
        let mut warnings = Throttle::new(TELL_INTERVAL);
        loop {
            let unconfirmed = self.spread(about, patience).await;
            // By the rings of those whose turn it is: nothing strict is done while there are more, and they wait.
            if steps::is_adopted(&self.topology().coming_rings, &unconfirmed) {
                return unconfirmed;
            }
            if warnings.passes() {
                let nodes = self.topology().called_all(&unconfirmed);
                warn!(
                    nodes,
                    "waiting for these nodes: too many are away to come or go safely (RONDO.FORGET gives one up)"
                );
            }
            sleep(CONFIRM_INTERVAL).await;
        }
    }

    /// Returns when every node that lives acts on the row of `about` as it now is, and has finished what it began
    /// before; gives the members that have not said so, dead ones too.
    ///
    /// A node that neither answers nor is believed dead is waited for until `patience` is over.
    pub(super) async fn spread(self: &Arc<Self>, about: &NodeId, patience: Duration) -> BTreeSet<NodeId> {
        let until = Instant::now() + patience;
        let mut confirmed = BTreeSet::new();
        loop {
            let open: Vec<Row> = self
                .topology()
                .others()
                .filter(|row| row.id != *about && !confirmed.contains(&row.id))
                .cloned()
                .collect();
            let waiting: Vec<Row> = open.iter().filter(|row| self.presence.may_live(&row.id)).cloned().collect();
            let is_over = Instant::now() >= until;
            if is_over && !waiting.is_empty() {
                let nodes = self.topology().called_all(waiting.iter().map(|row| &row.id));
                warn!(nodes, "not confirmed by these nodes");
            }
            if waiting.is_empty() && self.quiesce().await && self.has_remembered().await || is_over {
                return open.into_iter().map(|row| row.id).collect();
            }
            let mut asked = JoinSet::new();
            for row in waiting {
                let (cluster, about) = (self.clone(), *about);
                asked.spawn(async move { cluster.confirm(&row, &about).await.then_some(row.id) });
            }
            let before = confirmed.len();
            confirmed.extend(asked.join_all().await.into_iter().flatten());
            if confirmed.len() == before {
                sleep(CONFIRM_INTERVAL).await;
            }
        }
    }

    /// Gives one node our rows and asks whether it acts on that of `about`.
    async fn confirm(&self, peer: &Row, about: &NodeId) -> bool {
        let link = self.links.kept_to(peer);
        let rows = self.topology().rows.clone();
        let Some(row) = rows.get(about) else { return false };
        let adopt = Request::Adopt { node: row.id, generation: row.generation, version: row.version };
        if self.exchange_rows(&link, &rows).await.is_err() {
            return false;
        }
        let adopted = matches!(link.ask(&adopt, ADOPT_TIMEOUT).await, Ok(Response::YesNo(true)));
        if adopted {
            self.note_contact(peer.id);
        }
        adopted
    }
}
