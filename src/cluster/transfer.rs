//! Keys that travel from node to node: whole states with their versions, in pieces, merged where they arrive
//! (`intake`).
//!
//! Pulling fills a node that joins or has restarted; pushing hands over and replays hints. A slot is locked for a few
//! hundred entries at a time and never across a wait, so clients hardly notice. A key that changes while it
//! travels is also written by its coordinator to the new owner; merging makes the order irrelevant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::base::clock::Hlc;
use crate::base::ids::{NodeId, Slot};
use crate::base::wire::WireError;
use crate::cluster::Cluster;
use crate::cluster::rules::{self, PulledFrom, Pulls};
use crate::cluster::topology::Topology;
use crate::peer::control::{ControlError, ControlLink, Request, Response};
use crate::peer::entries::Entries;
use crate::peer::refusal::Refusal;
use crate::ring::{Row, RowState};
use crate::store::entry::Entry;
use crate::store::slot::SlotTable;

/// A piece is sent when it has grown to this.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// Most entries read under one lock.
const BATCH_ENTRIES_MAX: usize = 256;
/// Entries read under one lock are to take about this much.
const BATCH_BYTES: usize = 256 << 10;
/// Slots, most of them empty, looked at before others get their turn.
const SLOTS_PER_TURN: usize = 256;
/// For one piece, there or back.
pub(super) const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest rest between two pieces.
const REST_MAX: Duration = Duration::from_millis(200);
/// Nodes that are pulled from at the same time.
const SOURCES_MAX: usize = 2;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(3);
/// How long a node waits for sources of slots whose home replicas are all dead or filling up; longer while some may
/// still bring the contents back.
const STUCK_PATIENCE: Duration = Duration::from_secs(30);

/// Keys did not all arrive. What did is merged; the rest may be sent again.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// No row tells where this node is.
    #[error("node {0} is not known")]
    UnknownNode(NodeId),
    /// The control link failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// What another sent is too far ahead of this node's clock.
    #[error("a stamp lies too far ahead of this node's clock")]
    OurClock,
}

impl Cluster {
    /// Sends `peer` every key of these slots that was last written at or after `since`, deleted ones included, and says
    /// how many there were. Slots that have arrived are taken off `slots`, so that after an error the rest can be sent
    /// later.
    ///
    /// One piece is under way at a time, and after each the sender rests for as long as it took: a peer that is busy is
    /// given less.
    pub async fn push_slots(&self, peer: NodeId, slots: &mut Vec<Slot>, since: Hlc) -> Result<u64, TransferError> {
        let row = self.topology().rows.get(&peer).cloned().ok_or(TransferError::UnknownNode(peer))?;
        let (link, mut under_way) = (self.links.new_to(&row), Vec::new());
        let pushed = self.push_all(&link, slots, &mut under_way, since).await;
        slots.append(&mut under_way);
        pushed
    }

    /// Takes slots off the end of `slots`; those that have not arrived are in `under_way`.
    async fn push_all(
        &self,
        link: &ControlLink,
        slots: &mut Vec<Slot>,
        under_way: &mut Vec<Slot>,
        since: Hlc,
    ) -> Result<u64, TransferError> {
        let (mut piece, mut sent) = (Entries::default(), 0);
        while let Some(slot) = slots.pop() {
            under_way.push(slot);
            let mut cursor = 0;
            loop {
                cursor = self.read_batch(slot, cursor, &mut piece, |entry| entry.latest() >= since);
                if piece.len_bytes() >= PIECE_BYTES {
                    let began = Instant::now();
                    sent += self.put_piece(link, std::mem::take(&mut piece)).await?;
                    under_way.drain(..under_way.len() - usize::from(cursor != 0));
                    tokio::time::sleep(began.elapsed().min(REST_MAX)).await;
                }
                if cursor == 0 {
                    break;
                }
            }
            if slots.len().is_multiple_of(SLOTS_PER_TURN) {
                yield_now().await;
            }
        }
        if !piece.is_empty() {
            sent += self.put_piece(link, piece).await?;
        }
        under_way.clear();
        Ok(sent)
    }

    /// Sends one piece; gives the number of its keys.
    async fn put_piece(&self, link: &ControlLink, piece: Entries) -> Result<u64, TransferError> {
        let count = piece.count();
        link.ask(&Request::PutStates(piece), PIECE_TIMEOUT).await?;
        self.sent_keys.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    /// Fetches what these slots hold elsewhere until it has enough of every one, and says how many they were and from
    /// whom they came, those included that were `taken` before; see [`rules::pulls`]. Nobody of `not_from` is asked.
    /// `progress` is told how many are filled. Slots that nobody can give for long are left out once `may_lack` them.
    pub(super) async fn fill(
        self: &Arc<Self>,
        slots_of: impl Fn(&Topology) -> Vec<Slot>,
        mut taken: PulledFrom,
        not_from: &BTreeSet<NodeId>,
        progress: impl Fn(usize),
        may_lack: impl Fn(&[Slot]) -> bool,
    ) -> (usize, PulledFrom) {
        let mut stuck_since: Option<Instant> = None;
        let mut pause = RETRY_PAUSE;
        loop {
            let quorum = self.config.settings().write_quorum;
            let plan = self.plan_pulls(&slots_of, not_from, &taken, quorum);
            progress(plan.filled);
            if plan.from.is_empty() && plan.stuck.is_empty() {
                return (plan.filled, taken);
            }
            if plan.from.is_empty() {
                let since = *stuck_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= STUCK_PATIENCE && may_lack(&plan.stuck) {
                    let slots = self.topology().count_lacked(&plan.stuck);
                    if slots > 0 {
                        warn!(slots, "nobody is left who holds these slots: they start empty");
                    }
                    return (plan.filled, taken);
                }
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
            stuck_since = None;
            if self.pull_round(plan, &mut taken).await {
                pause = RETRY_PAUSE;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
        }
    }

    pub(super) fn plan_pulls(
        &self,
        slots_of: impl Fn(&Topology) -> Vec<Slot>,
        not_from: &BTreeSet<NodeId>,
        taken: &PulledFrom,
        write_quorum: usize,
    ) -> Pulls {
        let topology = self.topology();
        let is_warm = |id: &NodeId| topology.rows.get(id).is_some_and(|row| row.warm);
        let is_source = |id: &NodeId| is_warm(id) && self.presence.may_live(id) && !not_from.contains(id);
        let slots = slots_of(&topology);
        let goes = |id: &NodeId| topology.rows.get(id).is_some_and(|row| row.state == RowState::Leaving);
        rules::pulls(&slots, &topology.ring, &topology.me, write_quorum, is_source, goes, taken)
    }

    /// Pulls from each source of the plan, a few at a time. False when one of them failed.
    pub(super) async fn pull_round(self: &Arc<Self>, plan: Pulls, taken: &mut PulledFrom) -> bool {
        let rows = self.topology().rows.clone();
        let mut waiting: BTreeMap<NodeId, Vec<Slot>> = plan.from;
        let mut running = JoinSet::new();
        let mut all_well = true;
        loop {
            while running.len() < SOURCES_MAX {
                let Some((source, slots)) = waiting.pop_first() else { break };
                let Some(row) = rows.get(&source).cloned() else { continue };
                let cluster = self.clone();
                running.spawn(async move {
                    let (done, result) = cluster.pull(&row, slots).await;
                    (source, done, result)
                });
            }
            let Some(joined) = running.join_next().await else { return all_well };
            let Ok((source, done, result)) = joined else { return false };
            debug!(%source, slots = done.len(), "slots fetched");
            done.into_iter().for_each(|slot| taken.entry(slot).or_default().push(source));
            if let Err(error) = result {
                warn!(%source, %error, "cannot fetch slots");
                all_well = false;
            }
        }
    }

    /// Fetches and merges what a node holds of these slots; gives those that arrived whole.
    pub async fn fetch(&self, source: NodeId, slots: Vec<Slot>) -> Vec<Slot> {
        let Some(row) = self.topology().rows.get(&source).cloned() else { return Vec::new() };
        let (done, result) = self.pull(&row, slots).await;
        if let Err(error) = result {
            debug!(%source, %error, "cannot fetch slots to compare");
        }
        done
    }

    /// Fetches and merges these slots of one node; gives those that arrived whole.
    async fn pull(&self, source: &Row, mut slots: Vec<Slot>) -> (Vec<Slot>, Result<(), TransferError>) {
        let link = self.links.new_to(source);
        let (mut done, mut cursor) = (Vec::new(), 0);
        while !slots.is_empty() {
            let request = Request::GetSlots { slots: slots.clone(), cursor };
            let (entries, slots_done, next) = match link.ask(&request, PIECE_TIMEOUT).await {
                Ok(Response::Piece { entries, slots_done, cursor }) => (entries, slots_done, cursor),
                Ok(_) => return (done, Err(ControlError::from(WireError).into())),
                Err(error) => return (done, Err(error.into())),
            };
            if slots_done > slots.len() || (slots_done == 0 && next == cursor) {
                return (done, Err(ControlError::from(WireError).into()));
            }
            match self.intake.take(entries).await {
                Ok(()) => {}
                Err(Refusal::Skew) => return (done, Err(TransferError::OurClock)),
                Err(_) => return (done, Err(ControlError::from(WireError).into())),
            }
            done.extend(slots.drain(..slots_done));
            cursor = next;
        }
        (done, Ok(()))
    }

    /// What this node holds of `slots`, from `cursor` in the first of them on, as far as one piece goes.
    pub(super) async fn read_piece(&self, slots: &[Slot], cursor: u64) -> Response {
        let mut entries = Entries::default();
        let (slots_done, cursor) = self.read_into(&mut entries, slots, cursor).await;
        self.sent_keys.fetch_add(entries.count(), Ordering::Relaxed);
        Response::Piece { entries, slots_done, cursor }
    }

    /// Fills one piece; gives how many of the slots are in it whole, and the cursor to go on from in the next.
    async fn read_into(&self, entries: &mut Entries, slots: &[Slot], mut cursor: u64) -> (usize, u64) {
        for (at, slot) in slots.iter().enumerate() {
            loop {
                cursor = self.read_batch(*slot, cursor, entries, |_| true);
                if entries.len_bytes() >= PIECE_BYTES {
                    return (at + usize::from(cursor == 0), cursor);
                }
                if cursor == 0 {
                    break;
                }
                yield_now().await;
            }
            if at % SLOTS_PER_TURN == 0 {
                yield_now().await;
            }
        }
        (slots.len(), 0)
    }

    /// Adds some entries of a slot, those that are wanted, under one lock; gives the next cursor, 0 at the end.
    pub(super) fn read_batch(
        &self,
        slot: Slot,
        cursor: u64,
        entries: &mut Entries,
        is_wanted: impl Fn(&Entry) -> bool,
    ) -> u64 {
        let table = self.store.table(slot);
        table.scan(cursor, batch_of(&table), |entry: &Entry| {
            if is_wanted(entry) {
                entries.push(slot, entry, &self.store.actors);
            }
        })
    }
}

/// How many entries to read under one lock: fewer when they are large.
fn batch_of(table: &SlotTable) -> usize {
    let average = table.footprint_bytes() / table.len().max(1);
    (BATCH_BYTES / average.max(1)).clamp(1, BATCH_ENTRIES_MAX)
}
