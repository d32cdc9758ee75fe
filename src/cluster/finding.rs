//! How a node that belongs to nothing finds its cluster: it asks the addresses to join and those of the members that it
//! remembers, in rounds, until `founding` says that it enters a cluster or begins one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::base::throttle::Throttle;
use crate::base::wire::WireError;
use crate::cluster::Cluster;
use crate::cluster::barrier::{COMING_PATIENCE, TELL_INTERVAL};
use crate::cluster::founding::{self, Answer, Silence, Start};
use crate::cluster::topology::Topology;
use crate::membership::Liveness;
use crate::peer::control::{ControlError, Request, Response};
use crate::peer::handshake::HandshakeError;
use crate::ring::{RowState, Rows, steps};

/// Between two rounds of asking who is there.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// The same once it has taken long.
const ASK_INTERVAL_LATE: Duration = Duration::from_millis(500);
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// What was answered in a round that took longer may not be so any more: this node stood still.
const ROUND_TIME_MAX: Duration = Duration::from_secs(2);

/// Why an operator cannot have a node begin a cluster. Nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FoundError {
    /// It belongs to one.
    #[error("ERR This node belongs to a cluster already")]
    Formed,
}

impl Cluster {
    /// Has this node begin a cluster whatever it remembers, unless it reaches one. Returns at once.
    pub fn found(&self) -> Result<(), FoundError> {
        if self.topology().is_formed() {
            return Err(FoundError::Formed);
        }
        info!("told to begin a new cluster, whatever this node remembers");
        self.founding.lock().tell();
        Ok(())
    }

    /// What this node waits for that belongs to no cluster yet, in words.
    pub fn awaited(&self) -> Option<String> {
        let founding = self.founding.lock();
        founding.waits().filter(|_| !self.topology().is_formed()).map(ToString::to_string)
    }

    /// What this node answers when it is asked whether it belongs to a cluster.
    pub(super) fn standing(&self) -> Response {
        let topology = self.topology();
        match topology.is_formed() {
            true => Response::Rows(topology.rows.clone()),
            false => Response::Unformed(self.founding.lock().standing()),
        }
    }

    /// Asks until somebody belongs to a cluster; `None` when this node is to begin one.
    pub(super) async fn find(self: &Arc<Self>) -> Option<Rows> {
        let mut began = None;
        let mut warnings = Throttle::new(TELL_INTERVAL);
        loop {
            // Names may take long to be looked up: nobody is asked meanwhile.
            let addrs = self.addrs_to_ask().await;
            let round = Instant::now();
            let began = *began.get_or_insert(round);
            let answers = self.ask_round(addrs).await;
            self.stay_out_if_ended().await;
            if round.elapsed() > ROUND_TIME_MAX {
                continue;
            }
            let start = self.founding.lock().judge(&answers, began.elapsed());
            match start {
                Start::Found => return None,
                Start::Enter(rows) if rows.is_full() && rows.get(&self.identity.id).is_none() => {
                    warn!(
                        rows = rows.len(),
                        "the cluster remembers as many node ids as it can: no new one can join (a node-name keeps a node's id)"
                    );
                    sleep(COMING_PATIENCE).await;
                }
                Start::Enter(rows) => return Some(rows),
                Start::Wait(wait) => {
                    let late = began.elapsed() > 2 * founding::FOUNDING_PATIENCE;
                    if began.elapsed() > founding::FOUNDING_PATIENCE && warnings.passes() {
                        answers.iter().filter_map(Answer::silence).for_each(|why| warn!("{why}"));
                        warn!("{wait} (RONDO.FOUND, sent to this node, begins a new, empty cluster without them)");
                    }
                    sleep(if late { ASK_INTERVAL_LATE } else { ASK_INTERVAL }).await;
                }
            }
        }
    }

    /// What all members know, before they hear of this life; and whether so many have answered that somebody would have
    /// told of an earlier one that took part.
    pub(super) async fn ask_members(self: &Arc<Self>, mut rows: Rows) -> (Rows, bool) {
        let mut asked = JoinSet::new();
        for row in rows.iter().filter(|row| row.id != self.identity.id && row.state.is_member()) {
            let (cluster, id, addr) = (self.clone(), row.id, row.peer_addr);
            asked.spawn(async move { (id, cluster.ask_to_enter(Some(addr)).await) });
        }
        let mut unheard = BTreeSet::new();
        for (id, answer) in asked.join_all().await {
            match answer {
                Answer::Formed(theirs) => drop(rows.merge_all(&theirs)),
                _ => drop(unheard.insert(id)),
            }
        }
        let replicas = self.config.settings().replicas;
        let topology = Topology::new(rows, self.identity.id, replicas, None, |_| Liveness::Down);
        (topology.rows, steps::is_adopted(&topology.possible_rings, &unheard))
    }

    /// The addresses to join, and behind them those of remembered members that are not among them.
    async fn addrs_to_ask(&self) -> Vec<Option<SocketAddr>> {
        let mut addrs = self.join_addrs().await;
        let remembered: Vec<_> = self.founding.lock().addrs().map(Some).filter(|addr| !addrs.contains(addr)).collect();
        addrs.extend(remembered);
        addrs
    }

    /// Asks everybody, all at once; the answers stand as the addresses do.
    async fn ask_round(self: &Arc<Self>, addrs: Vec<Option<SocketAddr>>) -> Vec<Answer> {
        let mut asked = JoinSet::new();
        for (place, addr) in addrs.into_iter().enumerate() {
            let cluster = self.clone();
            asked.spawn(async move { (place, cluster.ask_to_enter(addr).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn ask_to_enter(&self, addr: Option<SocketAddr>) -> Answer {
        let Some(addr) = addr else { return Answer::Silent(Silence::Unresolved) };
        if addr == self.identity.peer_addr {
            return Answer::Ourselves;
        }
        // Membership hears of this node only by its row (`gossip`): another process may run under its id, and would be
        // taken for an earlier life of it and not be heard any more, though it is this one that has to end.
        match timeout(ASK_TIMEOUT, self.links.to_addr(addr).ask(&Request::Standing, ASK_TIMEOUT)).await {
            Ok(Ok(Response::Rows(rows))) if rows.iter().any(|row| row.state == RowState::Normal) => {
                Answer::Formed(rows)
            }
            Ok(Ok(Response::Rows(_))) => Answer::Ownerless,
            Ok(Ok(Response::Unformed(said))) => Answer::Unformed(said),
            Ok(Ok(_)) => Answer::Silent(Silence::Failed { addr, error: WireError.into() }),
            Ok(Err(ControlError::Handshake(HandshakeError::Ourselves))) => Answer::Ourselves,
            Ok(Err(error)) => {
                self.look_for_twin(addr, &error);
                Answer::Silent(Silence::Failed { addr, error })
            }
            Err(_) => Answer::Silent(Silence::TimedOut(addr)),
        }
    }
}
