//! A node's way through a cluster, in order: find or found it, fill up, own slots, fill up again if it has to, leave.
//!
//! Before a step that others must know of takes effect, every live node confirms that it acts on our row (`barrier`):
//! writes reach a joining node before it fetches, and the new owners before a leaving one goes, so no write falls
//! between. Nor does a node take its step before the others hold what they gain by it (`take_over`). Those who do not
//! answer are not waited for beyond some patience, but never may they be a majority of some slot's home replicas
//! (`ring::steps`): then the step waits for them, or for an operator to give them up. Every step may be cut off at any
//! point: the row says how far it got, and the next life of this node starts from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::base::ids::{NodeId, Slot};
use crate::base::throttle::Throttle;
use crate::cluster::Cluster;
use crate::cluster::barrier::{COMING_PATIENCE, LEAVING_PATIENCE, TELL_INTERVAL};
use crate::cluster::ending::Ending;
use crate::cluster::rules::{self, Entry, PulledFrom};
use crate::cluster::topology::Topology;
use crate::ring::{Row, RowState, steps};

/// Between two attempts at a step that cannot be taken yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Between two looks at whether this node was away for too long.
const ABSENCE_INTERVAL: Duration = Duration::from_millis(500);
/// Between two looks at whether others hold what they gain by this node's coming or going.
const TAKEN_INTERVAL: Duration = Duration::from_millis(20);

impl Cluster {
    /// Brings this node in and keeps it there: everything that goes on in the background. Ends only by being dropped.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(
            self.run_lifecycle(),
            self.gossip(),
            self.watch_membership(),
            self.probe_join_addrs(),
            self.anti_entropy(),
            self.begin_removals(),
            self.fetch_gained_slots(),
            self.remove_dead(),
            self.watch_absence(),
            self.watch_for_twins(),
            self.watch_clock(),
            self.fetch_until_whole(),
            self.persist_members()
        );
    }

    /// Lets others take this node's slots over. May be dropped at a deadline: the node then counts as dead, and what
    /// nobody has taken over is held by the other replicas alone.
    pub async fn hand_over(self: &Arc<Self>) {
        self.book.lock().leaving = true;
        if self.topology().is_formed() && self.topology().others().next().is_some() {
            // Who has only been joining owns nothing: as a leaving node it would. Who is filling up owns its slots.
            if self.topology().own_row().is_some_and(|row| matches!(row.state, RowState::Normal | RowState::Leaving)) {
                self.set_own_row(RowState::Leaving, self.is_warm());
                self.barrier(&self.identity.id, LEAVING_PATIENCE).await;
                self.wait_until_taken_over().await;
            }
            self.set_own_row(RowState::Left, self.is_warm());
            self.spread(&self.identity.id, LEAVING_PATIENCE).await;
        }
    }

    /// Has everybody know that this node ends now, which has handed over what it held.
    pub async fn say_goodbye(&self) {
        if let Some(membership) = self.presence.take_membership() {
            membership.leave().await;
        }
    }

    async fn run_lifecycle(self: &Arc<Self>) {
        self.enter().await;
        let mut changes = self.changes();
        loop {
            if let Some(by) = self.must_start_over() {
                self.start_over(&by).await;
            }
            let cold = self.topology().own_row().filter(|row| !row.warm).map(|row| row.state);
            match cold.filter(|_| !self.book.lock().leaving) {
                Some(RowState::Joining) => self.join().await,
                Some(RowState::Normal) => self.refill().await,
                // The pause is for what only time tells: that this node was away for too long.
                _ => {
                    if let Ok(Err(_)) = timeout(ABSENCE_INTERVAL, changes.changed()).await {
                        return;
                    }
                }
            }
        }
    }

    /// Finds the cluster, or founds it, and writes this node's first row.
    async fn enter(self: &Arc<Self>) {
        match self.find().await {
            None => {
                self.holdings.found();
                self.update(|book| {
                    book.founded = true;
                    let row = self.next_own_row(book, None, RowState::Normal, true);
                    book.rows.merge(row)
                });
                info!(node = %self.identity.id, "founded the cluster");
            }
            Some(rows) => {
                let (rows, has_heard_enough) = self.ask_members(rows).await;
                self.look_where_known(&rows).await;
                self.stay_out_if_ended().await;
                let entry = rules::entry(&rows, &self.identity.id);
                let was_joining = rows.get(&self.identity.id).is_some_and(|row| row.state == RowState::Joining);
                self.holdings.note_may_have_joined(was_joining || !has_heard_enough);
                self.update(|book| {
                    let known = rows.get(&self.identity.id).map_or(0, |row| row.generation);
                    book.generation = book.generation.max(known.saturating_add(1));
                    book.rows = rows;
                    let state = if entry == Entry::Refill { RowState::Normal } else { RowState::Joining };
                    let row = self.next_own_row(book, book.rows.get(&self.identity.id), state, false);
                    book.rows.merge(row)
                });
                self.outlive();
                match entry {
                    Entry::Never => self.end(Ending::GivenUp),
                    Entry::Join => info!(node = %self.identity.id, "joining the cluster"),
                    Entry::Refill => info!(node = %self.identity.id, "back in the cluster, filling up"),
                }
            }
        }
    }

    /// From a joining row to a normal one: everybody writes to us, then we fetch, then everybody reads from us.
    async fn join(self: &Arc<Self>) {
        let began = Instant::now();
        self.holdings.whole.clear();
        loop {
            self.wait_for_turn().await;
            let unconfirmed = self.barrier(&self.identity.id, COMING_PATIENCE).await;
            let taken = self.fill_own(&unconfirmed, |_| true).await;
            self.note_whole(&taken, &unconfirmed);
            self.wait_for_those_that_gain().await;
            let slots = self.lacking_slots();
            // Nothing may come between this look and the row that says so.
            if slots == 0 && self.is_in_turn() {
                self.set_own_row(RowState::Normal, true);
                break;
            }
            warn!(slots, "too few of those who act on this node's coming could give it these slots: asking again");
            sleep(RETRY_INTERVAL).await;
        }
        self.spread(&self.identity.id, COMING_PATIENCE).await;
        info!(slots = self.warm_slots(), ms = began.elapsed().as_millis() as u64, "joined the cluster");
    }

    /// Whether this node may take its next step, if it comes or goes: not while too many are on their way before it.
    pub fn is_in_turn(&self) -> bool {
        steps::is_in_turn(&self.topology().rows, &self.identity.id)
    }

    async fn wait_for_turn(&self) {
        let mut warnings = Throttle::new(TELL_INTERVAL);
        while !self.is_in_turn() {
            if warnings.passes() {
                warn!("waiting for nodes that began to come or go earlier (RONDO.FORGET gives a dead one up)");
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Returns when the others hold what they gain by this node's coming (`take_over`): where weights or zones differ
    /// it moves copies between them, too. Who is cold or joins itself is not waited for, because it fetches that before
    /// anybody reads it; nor who is down, or has said nothing for as long as a barrier would wait.
    async fn wait_for_those_that_gain(&self) {
        let (began, mut warnings) = (Instant::now(), Throttle::new(TELL_INTERVAL));
        let (mut have_taken, mut answered) = (BTreeSet::new(), BTreeMap::new());
        let is_joining = || self.topology().own_row().is_some_and(|row| row.state == RowState::Joining);
        while is_joining() && self.is_in_turn() {
            let is_silent = |id: &NodeId| answered.get(id).unwrap_or(&began).elapsed() > COMING_PATIENCE;
            let is_awaited = |row: &&Row| {
                let owns = row.warm && row.state != RowState::Joining;
                owns && !have_taken.contains(&row.id) && self.presence.may_live(&row.id) && !is_silent(&row.id)
            };
            let waiting: Vec<Row> = self.topology().others().filter(is_awaited).cloned().collect();
            if waiting.is_empty() {
                return;
            }
            if began.elapsed() > TELL_INTERVAL && warnings.passes() {
                let nodes = self.topology().called_all(waiting.iter().map(|row| &row.id));
                warn!(nodes, "waiting for these nodes to fetch what they gain by this one's coming");
            }
            for row in waiting {
                if let Some(has_taken) = self.ask_taken_over(&row, self.identity.id, self.own_generation()).await {
                    answered.insert(row.id, Instant::now());
                    if has_taken {
                        have_taken.insert(row.id);
                    }
                }
            }
            sleep(TAKEN_INTERVAL).await;
        }
    }

    async fn fill_own(self: &Arc<Self>, not_from: &BTreeSet<NodeId>, may_lack: impl Fn(&[Slot]) -> bool) -> PulledFrom {
        let progress = |filled| self.holdings.note_filled(filled);
        let taken = self.fill(Topology::own_slots, PulledFrom::new(), not_from, progress, may_lack).await.1;
        self.inherit_absences(&taken.values().flatten().copied().collect()).await;
        taken
    }

    async fn refill(self: &Arc<Self>) {
        let began = Instant::now();
        self.holdings.whole.clear();
        self.tell_if_placed_otherwise();
        let unconfirmed = self.spread(&self.identity.id, COMING_PATIENCE).await;
        let warnings = Mutex::new(Throttle::new(TELL_INTERVAL));
        let taken = self.fill_own(&BTreeSet::new(), |stuck| self.may_begin_without(stuck, &warnings)).await;
        let topology = self.topology();
        if !topology.is_moving() || steps::is_adopted(&topology.possible_rings, &unconfirmed) {
            self.note_whole(&taken, &unconfirmed);
        }
        drop(topology);
        self.set_own_row(RowState::Normal, true);
        info!(slots = self.warm_slots(), ms = began.elapsed().as_millis() as u64, "filled up");
    }

    /// Warns of a zone or weight in the options that is not the one in force ([`rules::placing`]).
    fn tell_if_placed_otherwise(&self) {
        let (topology, settings) = (self.topology(), self.config.settings());
        let is_other = |row: &&Row| row.zone != settings.zone || row.weight != settings.weight;
        if let Some(row) = topology.own_row().filter(is_other) {
            warn!(
                zone = row.zone,
                weight = row.weight,
                zone_option = settings.zone,
                weight_option = settings.weight,
                "keeping the zone and weight that this node's slots are placed by: those of the options take effect when it \
                 leaves (SIGTERM) and joins again"
            );
        }
    }

    /// Whether this node, which has lost its memory, may serve these slots though nobody could give it what is in them.
    /// While it may not it says so, not too often.
    fn may_begin_without(&self, stuck: &[Slot], warnings: &Mutex<Throttle>) -> bool {
        let topology = self.topology();
        let awaited = rules::awaited(stuck, &topology.ring, &topology.me, &topology.rows);
        if !awaited.is_empty() && warnings.lock().passes() {
            let nodes = topology.called_all(&awaited);
            warn!(
                slots = stuck.len(),
                nodes, "waiting for the nodes that hold these slots (RONDO.FORGET gives a dead one up)"
            );
        }
        awaited.is_empty()
    }

    /// Returns when others hold what this node leaves to them (`take_over`). One that is down is not waited for where
    /// enough other home replicas stay.
    async fn wait_until_taken_over(&self) {
        let (began, me) = (Instant::now(), self.identity.id);
        let mut have_taken = BTreeSet::new();
        loop {
            self.wait_for_turn().await;
            let topology = self.topology();
            let is_awaited = |row: &&Row| !have_taken.contains(&row.id) && self.presence.may_live(&row.id);
            let waiting: Vec<Row> = topology.others().filter(is_awaited).cloned().collect();
            if waiting.is_empty() && steps::may_go(&topology.coming_rings, &me, &have_taken) {
                info!(nodes = have_taken.len(), ms = began.elapsed().as_millis() as u64, "handed over");
                return;
            }
            drop(topology);
            for row in waiting {
                if self.ask_taken_over(&row, me, self.own_generation()).await == Some(true) {
                    have_taken.insert(row.id);
                }
            }
            sleep(TAKEN_INTERVAL).await;
        }
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.identity.id
    }
}
