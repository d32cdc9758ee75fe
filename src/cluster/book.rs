//! The rows as this node changes them, and the topologies it makes of them.
//!
//! Whoever changes rows does so under the book's lock, and what comes of it is published before the lock is let go:
//! topologies follow each other as the rows did. Requests that began under an earlier one may be waited for
//! (`quiesce`): only what is done after that is done by the new one alone.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::base::ids::{NodeId, Slot};
use crate::cluster::Cluster;
use crate::cluster::ending::Ending;
use crate::cluster::rules::{self, Entry, Meeting, Reunion};
use crate::cluster::topology::Topology;
use crate::membership::Liveness;
use crate::ring::{Row, RowState, Rows};

/// Requests that began under an earlier topology are done after this, also when somebody still holds it.
const QUIESCE_TIMEOUT: Duration = Duration::from_millis(100);
/// How much longer whoever asks waits for this node to go by the present topology at all.
const ACT_TIMEOUT: Duration = Duration::from_secs(2);
const QUIESCE_LOOK: Duration = Duration::from_millis(2);

/// The rows as they are being changed.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) rows: Rows,
    /// The generation of our row: that of this life, unless others knew of a later one.
    pub(super) generation: u64,
    /// We began the cluster ourselves and have not met an earlier one since.
    pub(super) founded: bool,
    /// This node is on its way out: whatever else is going on must not bring it back.
    pub(super) leaving: bool,
    /// Dead nodes that this one was told to give up, with their lives.
    pub(super) forgetting: BTreeMap<NodeId, u64>,
    /// Topologies that somebody may still be working under.
    pub(super) retired: Vec<Weak<Topology>>,
}

impl Book {
    /// Of a node whose life is of this generation, and that belongs to nothing yet.
    pub(super) fn new(generation: u64) -> Book {
        Book {
            rows: Rows::new(),
            generation,
            founded: false,
            leaving: false,
            forgetting: BTreeMap::new(),
            retired: Vec::new(),
        }
    }
}

/// How far those who use topologies have come.
#[derive(Debug, Default)]
pub(super) struct Acted {
    /// The last change that is acted on; `None` when nobody uses them.
    change: Option<u64>,
    /// What was made of earlier topologies and may still be in use.
    retired: Vec<Weak<dyn Any + Send + Sync>>,
}

impl Cluster {
    /// Writes this node's own row.
    pub(super) fn set_own_row(&self, state: RowState, warm: bool) {
        self.update(|book| {
            if book.leaving && matches!(state, RowState::Joining | RowState::Normal) {
                return false;
            }
            let row = self.next_own_row(book, book.rows.get(&self.identity.id), state, warm);
            book.rows.merge(row)
        });
    }

    /// This node's row as it will be; `known` is the one by which the cluster knows it, of an earlier life maybe.
    pub(super) fn next_own_row(&self, book: &Book, known: Option<&Row>, state: RowState, warm: bool) -> Row {
        let settings = self.config.settings();
        let (zone, weight) = rules::placing(known, &settings.zone, settings.weight);
        let own = book.rows.get(&self.identity.id).filter(|row| row.generation == book.generation);
        let host = match settings.advertise_host.is_empty() {
            true => self.identity.peer_addr.ip().to_string(),
            false => settings.advertise_host.clone(),
        };
        Row {
            id: self.identity.id,
            state,
            peer_addr: self.identity.peer_addr,
            name: settings.node_name.clone(),
            host,
            port: settings.ports.port,
            cluster_port: settings.ports.cluster,
            admin_port: settings.ports.admin,
            zone,
            weight,
            warm,
            generation: book.generation,
            version: own.map_or(1, |row| row.version.saturating_add(1)),
        }
    }

    /// Takes in another node's rows, unless this node belongs to nothing yet: then it must first decide how to enter.
    ///
    /// Whoever founded a cluster and then meets one that knew it before has forgotten what it held there: it fills up.
    /// One that did not know it (`rules::meeting`) is joined.
    pub(super) fn merge_rows(&self, theirs: &Rows) {
        self.update(|book| {
            let me = self.identity.id;
            if book.rows.get(&me).is_none() {
                return false;
            }
            let meeting = rules::meeting(&book.rows, &me, book.founded, theirs);
            if meeting == Meeting::Ignore {
                return false;
            }
            let known = theirs.get(&me).map(|row| (row.state, row.generation));
            let was_gone = is_gone(book, &me);
            let mut changed = book.rows.merge_all(theirs);
            if is_gone(book, &me) {
                if !was_gone {
                    self.end(Ending::GivenUp);
                }
                return changed;
            }
            let found = rules::reunion(meeting, known, book.generation, book.founded).filter(|_| !book.leaving);
            if let Some(found) = found {
                let (state, warm) = self.take_part_anew(book, found, theirs);
                book.founded = false;
                if !warm {
                    self.holdings.whole.clear();
                }
                let row = self.next_own_row(book, theirs.get(&me), state, warm);
                changed |= book.rows.merge(row);
            }
            changed
        });
        self.outlive();
    }

    /// As what, and whether warm, this node goes on that has found this of itself in others' rows.
    fn take_part_anew(&self, book: &mut Book, found: Reunion, theirs: &Rows) -> (RowState, bool) {
        let me = self.identity.id;
        match found {
            Reunion::OtherLife(life) => {
                if life > book.generation {
                    self.note_writer(theirs);
                }
                book.generation = book.generation.max(life.saturating_add(1));
                warn!(node = %me, "the cluster knew an earlier life of this node: filling up");
                let joins = rules::entry(theirs, &me) == Entry::Join;
                (if joins { RowState::Joining } else { RowState::Normal }, false)
            }
            Reunion::GivenUp => {
                warn!(node = %me, "is being given up for dead, and is not: it stays");
                (RowState::Normal, book.rows.get(&me).is_some_and(|row| row.warm))
            }
            Reunion::Unknown => {
                warn!(node = %me, "met a cluster that did not know this node: joining it");
                (RowState::Joining, false)
            }
        }
    }

    /// Tells membership of the generation of our row, which is above that of our start if the clock has gone back since
    /// an earlier one.
    pub(super) fn outlive(&self) {
        let generation = self.own_generation();
        if generation > self.identity.generation {
            self.presence.with_membership(|membership| membership.outlive(generation));
        }
    }

    /// The generation of our row.
    pub(super) fn own_generation(&self) -> u64 {
        self.book.lock().generation
    }

    /// Changes the book and publishes it when `change` says that it did.
    pub(super) fn update(&self, change: impl FnOnce(&mut Book) -> bool) {
        let mut book = self.book.lock();
        if change(&mut book) {
            self.publish(&mut book);
        }
    }

    /// Publishes again if somebody's liveness is another than published.
    pub(super) fn refresh(&self) {
        let mut book = self.book.lock();
        let topology = self.topology.load();
        let is_other =
            |(id, known): (&NodeId, &Liveness)| *id != self.identity.id && self.presence.liveness(id) != *known;
        if topology.liveness.iter().any(is_other) {
            self.publish(&mut book);
        }
    }

    fn publish(&self, book: &mut Book) {
        let before = self.topology.load_full();
        let replicas = self.config.settings().replicas;
        let liveness = |id: &NodeId| self.presence.liveness(id);
        let topology = Topology::new(book.rows.clone(), self.identity.id, replicas, Some(&before), liveness);
        if topology.missed_an_owner(&before) {
            self.holdings.whole.clear();
        }
        if topology.era != before.era {
            // What it is no home replica of, today or soon, is nothing that it has to hold whole.
            Slot::all().filter(|slot| !topology.is_home(*slot)).for_each(|slot| self.holdings.whole.remove(slot));
        }
        // With a second node about, deletions must leave tombstones: its copies are older or younger than ours. Set
        // here, so that it holds before anybody goes by the new topology.
        let owners = topology.ring.members().len().max(topology.next_ring.members().len());
        self.store.set_replicated(owners > 1);
        self.topology.store(Arc::new(topology));
        book.retired.retain(|retired| retired.strong_count() > 0);
        book.retired.push(Arc::downgrade(&before));
        drop(before);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Returns when no request works under an earlier topology any more, as far as can be told in a short time; false
    /// when this node does not go by the present one yet.
    pub(super) async fn quiesce(&self) -> bool {
        let until = Instant::now() + QUIESCE_TIMEOUT;
        // Two statements: whoever publishes holds the book and waits for readers of `changes`.
        let change = *self.changes.borrow();
        let retired = self.book.lock().retired.clone();
        let acts = || self.acted.lock().change.is_none_or(|acted| acted >= change);
        let is_done = || {
            let nobody_holds =
                |views: &[Weak<dyn Any + Send + Sync>]| views.iter().all(|view| view.strong_count() == 0);
            acts()
                && retired.iter().all(|topology| topology.strong_count() == 0)
                && nobody_holds(&self.acted.lock().retired)
        };
        while !is_done() && (Instant::now() < until || !acts() && Instant::now() < until + ACT_TIMEOUT) {
            tokio::time::sleep(QUIESCE_LOOK).await;
        }
        acts()
    }

    /// Notes that everybody on this node goes by the topology of this change from now on, but who still holds `before`,
    /// which was made of an earlier one.
    pub fn acts_on(&self, change: u64, before: Weak<dyn Any + Send + Sync>) {
        let mut acted = self.acted.lock();
        acted.change = Some(change);
        acted.retired.retain(|retired| retired.strong_count() > 0);
        acted.retired.push(before);
    }
}

fn is_gone(book: &Book, id: &NodeId) -> bool {
    book.rows.get(id).is_some_and(|row| row.state == RowState::Gone)
}
