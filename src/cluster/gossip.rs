//! How rows spread: one task for each other node compares digests four times a second, and at once after a change, and
//! exchanges whole maps when they differ. Addresses to join that no row names are asked now and then, so that two
//! halves which never met find each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::base::ids::NodeId;
use crate::cluster::Cluster;
use crate::cluster::clocks::{ASK_INTERVAL, Samples};
use crate::cluster::news::Told;
use crate::peer::control::{ControlError, ControlLink, Request, Response};
use crate::ring::{Row, Rows};

const COMPARE_INTERVAL: Duration = Duration::from_millis(250);
/// Between two attempts at a node that does not answer, at most.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// After a change, so that several in a row travel together.
const GATHER_PAUSE: Duration = Duration::from_millis(2);
const KNOCK_INTERVAL: Duration = Duration::from_secs(5);
/// For one exchange of rows.
pub(super) const ROWS_TIMEOUT: Duration = Duration::from_secs(1);

impl Cluster {
    /// Keeps one task running for each other node that takes part, for ever.
    pub(super) async fn gossip(self: &Arc<Self>) {
        let mut changes = self.changes();
        let (mut tasks, mut told) = (JoinSet::new(), Told::default());
        let mut running: BTreeMap<NodeId, (SocketAddr, AbortHandle)> = BTreeMap::new();
        loop {
            told.tell(&self.topology());
            let wanted: BTreeMap<NodeId, Row> = self.topology().others().map(|row| (row.id, row.clone())).collect();
            running.retain(|id, (addr, task)| {
                let keep = wanted.get(id).is_some_and(|row| row.peer_addr == *addr);
                if !keep {
                    task.abort();
                }
                keep
            });
            self.links.retain(|id| wanted.contains_key(id));
            self.clocks.lock().retain(|id, _| wanted.contains_key(id));
            for (id, row) in wanted {
                if running.contains_key(&id) {
                    continue;
                }
                self.announce(row.peer_addr);
                let (addr, cluster) = (row.peer_addr, self.clone());
                let task = tasks.spawn(async move { cluster.converse(&row).await });
                running.insert(id, (addr, task));
            }
            while tasks.try_join_next().is_some() {}
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Publishes what membership believes, for ever.
    pub(super) async fn watch_membership(&self) {
        let mut members = self.presence.members();
        loop {
            // The pause is for nodes that count as alive because they spoke lately: that ends without news.
            if let Ok(Err(_)) = timeout(COMPARE_INTERVAL, members.changed()).await {
                // Membership has ended: this node is leaving.
                sleep(COMPARE_INTERVAL).await;
            }
            self.refresh();
        }
    }

    /// Asks the addresses to join that no row names, for ever.
    pub(super) async fn probe_join_addrs(&self) {
        loop {
            sleep(KNOCK_INTERVAL).await;
            let rows = self.topology().rows.clone();
            for addr in self.join_addrs().await.into_iter().flatten() {
                if rows.iter().any(|row| row.peer_addr == addr && row.state.is_member()) {
                    continue;
                }
                match self.exchange_rows(&self.links.to_addr(addr), &rows).await {
                    Ok(_) if self.topology().is_formed() => self.announce(addr),
                    Ok(_) => {}
                    Err(error) => {
                        debug!(%addr, %error, "an address to join does not answer");
                        self.look_for_twin(addr, &error);
                    }
                }
            }
        }
    }

    /// Tells membership of an address.
    pub(super) fn announce(&self, addr: SocketAddr) {
        self.presence.with_membership(|membership| membership.announce(addr));
    }

    /// The addresses to join, looked up anew; `None` for a name that cannot be. Of several addresses of one name, that
    /// of our own family.
    pub(super) async fn join_addrs(&self) -> Vec<Option<SocketAddr>> {
        let settings = self.config.settings();
        let mut addrs = Vec::new();
        for peer in &settings.join {
            let found: Vec<SocketAddr> = match tokio::net::lookup_host((peer.host.as_str(), peer.port)).await {
                Ok(found) => found.collect(),
                Err(error) => {
                    debug!(%peer, %error, "an address to join cannot be looked up");
                    Vec::new()
                }
            };
            let alike = found.iter().find(|addr| addr.is_ipv4() == self.identity.peer_addr.is_ipv4());
            addrs.push(alike.or(found.first()).copied());
        }
        addrs
    }

    /// Compares rows with one node, for ever.
    async fn converse(&self, row: &Row) {
        let (mut changes, link) = (self.changes(), self.links.kept_to(row));
        let mut pause = COMPARE_INTERVAL;
        let (mut clock, mut clock_due) = (Samples::default(), Instant::now());
        loop {
            changes.mark_unchanged();
            match self.compare(&link).await {
                Ok(()) => {
                    pause = COMPARE_INTERVAL;
                    self.note_contact(row.id);
                    if Instant::now() >= clock_due && self.ask_time(&link, &mut clock).await.is_ok() {
                        clock_due = Instant::now() + ASK_INTERVAL;
                        self.clocks.lock().extend(clock.best().map(|best| (row.id, best)));
                    }
                    let _ = timeout(pause, changes.changed()).await;
                    sleep(GATHER_PAUSE).await;
                }
                Err(error) => {
                    debug!(peer = %row.id, %error, "rows not compared");
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    async fn compare(&self, link: &ControlLink) -> Result<(), ControlError> {
        // Topologies are not held while waiting: others wait for them to be let go.
        let digest = self.topology().digest;
        match link.ask(&Request::Digest(digest), ROWS_TIMEOUT).await? {
            // Zero: it is only coming, and will ask for our rows when it knows how.
            Response::Digest(theirs) if theirs == digest || theirs == 0 => Ok(()),
            _ => {
                let rows = self.topology().rows.clone();
                self.exchange_rows(link, &rows).await.map(drop)
            }
        }
    }

    /// Sends these rows and takes in the answer, which is given too.
    pub(super) async fn exchange_rows(&self, link: &ControlLink, rows: &Rows) -> Result<Rows, ControlError> {
        match link.ask(&Request::Rows(rows.clone()), ROWS_TIMEOUT).await? {
            Response::Rows(theirs) => {
                self.merge_rows(&theirs);
                Ok(theirs)
            }
            _ => Err(crate::base::wire::WireError.into()),
        }
    }
}
