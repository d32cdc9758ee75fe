//! Which ring is in force, and how a slot changes hands.
//!
//! One [`Cluster`] per node. It keeps the replicated rows, listens to membership, and publishes both as a [`Topology`]
//! that requests read. What each file does:
//! - `identity`: who this node is;
//! - `topology`: the published value;
//! - `rules`: the decisions, pure: founding or joining, what to fetch from whom;
//! - `lifecycle`: coming, filling up and going, in order;
//! - `gossip`: how rows spread;
//! - `ending`: why a node cannot go on under its id;
//! - `clocks`: how far the nodes' clocks are apart, for people;
//! - `service`: answers to other nodes' control connections;
//! - `transfer`: keys that travel from node to node;
//! - `whole`: which slots were fetched from enough others to take part in strict writes;
//! - `remove`: a dead node is given up for ever;
//! - `anti_entropy`: home replicas compare what they hold, now and then, at a `pace`; `reconcile` talks, and `difference`
//!   decides what differs;
//! - `graves`: when deletions may be forgotten; `absence`: who was away for too long, and `start_over`: what it then does;
//! - `shed`: copies of slots that are not ours go home.
//!
//! Invariants: a node changes only its own row, but for that of a dead one that an operator gives up; liveness never changes the ring; a node that is not warm is nobody's
//! source; whatever travels keeps its version and is merged, so every step may be repeated or cut short.
//!
//! Accepts no connection (whoever listens on the peer port hands them over), routes no request, counts no quorum.

mod absence;
mod anti_entropy;
mod clocks;
mod difference;
mod ending;
mod gossip;
mod graves;
pub mod identity;
mod lifecycle;
mod pace;
mod reconcile;
mod remove;
mod rules;
mod service;
mod shed;
mod start_over;
mod topology;
mod transfer;
mod whole;

#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::config::{Config, Settings};
use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::Registry;
use crate::base::slots::AtomicSlots;
use crate::cluster::absence::Absence;
use crate::cluster::ending::Oneness;
use crate::cluster::rules::{Entry, Meeting};
use crate::membership::{Liveness, MemberList, Membership, MembershipStats};
use crate::peer::control::ControlLink;
use crate::peer::handshake::{Hello, LinkKind};
use crate::peer::registry::Peers;
use crate::ring::{Row, RowState, Rows};
use crate::store::Store;

pub use clocks::PeerClock;
pub use ending::Ending;
pub use identity::{Identity, load_or_derive};
pub use remove::ForgetError;
pub use topology::Topology;
pub use transfer::TransferError;

/// A node that membership has not heard of counts as alive for so long after it was spoken to.
const CONTACT_GRACE: Duration = Duration::from_secs(3);
/// Requests that began under an earlier topology are done after this, also when somebody still holds it.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(100);
/// How much longer whoever asks waits for this node to go by the present topology at all.
const ACT_TIMEOUT: Duration = Duration::from_secs(2);
const SETTLE_LOOK: Duration = Duration::from_millis(2);

/// This node's part in the cluster; see the head of the file.
pub struct Cluster {
    config: Arc<Config>,
    identity: Identity,
    store: Arc<Store>,
    secret: Arc<[u8]>,
    membership: Mutex<Option<Membership>>,
    view: watch::Receiver<Arc<MemberList>>,
    book: Mutex<Book>,
    topology: ArcSwap<Topology>,
    changes: watch::Sender<u64>,
    contacts: Mutex<BTreeMap<NodeId, Instant>>,
    links: Mutex<BTreeMap<NodeId, Arc<ControlLink>>>,
    clocks: Mutex<BTreeMap<NodeId, PeerClock>>,
    started: Instant,
    filled_slots: AtomicUsize,
    transferred: Transferred,
    metrics: Arc<Registry>,
    peers: Arc<Peers>,
    /// Keys the fingerprints of digests: the same on all nodes of a cluster, and unknown to clients.
    digest_seed: u64,
    /// Who is away, and how long this node was; see `absence`.
    absence: Mutex<Absence>,
    /// This node was away for too long, and it is not decided yet what that means; see `start_over`.
    is_outdated: AtomicBool,
    /// Dead nodes that are to be given up, as an operator said on some worker.
    told_to_forget: Mutex<BTreeSet<NodeId>>,
    /// Says that there are some.
    told: Notify,
    /// The change of the ring for which this node holds what those who go leave to it; see `remove`.
    taken_over: Mutex<Option<u64>>,
    /// Which slots this node holds whole; see `whole`.
    whole: AtomicSlots,
    acted: Mutex<Acted>,
    /// An earlier life may have been joining, too.
    may_have_joined: AtomicBool,
    /// Whether this node must not go on; see `ending`.
    oneness: Oneness,
}

/// How far those who use topologies have come.
#[derive(Debug, Default)]
struct Acted {
    /// The last change that is acted on; `None` when nobody uses them.
    change: Option<u64>,
    /// What was made of earlier topologies and may still be in use.
    retired: Vec<Weak<dyn Any + Send + Sync>>,
}

/// Keys that travelled whole.
#[derive(Debug, Default)]
struct Transferred {
    sent: AtomicU64,
    received: AtomicU64,
}

/// The rows as they are being changed.
#[derive(Debug)]
struct Book {
    rows: Rows,
    /// The generation of our row: that of this life, unless others knew of a later one.
    generation: u64,
    /// We began the cluster ourselves and have not met an earlier one since.
    founded: bool,
    /// This node is on its way out: whatever else is going on must not bring it back.
    leaving: bool,
    /// Dead nodes that this one was told to give up, with their lives.
    forgetting: BTreeMap<NodeId, u64>,
    /// Topologies that somebody may still be working under.
    retired: Vec<Weak<Topology>>,
}

impl Cluster {
    /// A node that belongs to nothing yet; [`run`](Cluster::run) brings it in.
    pub fn new(
        config: Arc<Config>,
        identity: Identity,
        store: Arc<Store>,
        membership: Membership,
        metrics: Arc<Registry>,
        peers: Arc<Peers>,
    ) -> Arc<Cluster> {
        let settings = config.settings();
        let view = membership.view();
        let topology = Topology::new(Rows::new(), identity.id, settings.replicas, None, |_| Liveness::Down);
        let book = Book {
            rows: Rows::new(),
            generation: identity.generation,
            founded: false,
            leaving: false,
            forgetting: BTreeMap::new(),
            retired: Vec::new(),
        };
        let absence = Absence::new(start_over::moment_of(&store.clock));
        Arc::new(Cluster {
            secret: settings.cluster_secret.as_bytes().into(),
            identity,
            store,
            membership: Mutex::new(Some(membership)),
            view,
            book: Mutex::new(book),
            topology: ArcSwap::from_pointee(topology),
            changes: watch::channel(0).0,
            contacts: Mutex::default(),
            links: Mutex::default(),
            clocks: Mutex::default(),
            started: Instant::now(),
            filled_slots: AtomicUsize::new(0),
            transferred: Transferred::default(),
            metrics,
            peers,
            digest_seed: digest_seed(&settings),
            absence: Mutex::new(absence),
            is_outdated: AtomicBool::new(false),
            told_to_forget: Mutex::default(),
            told: Notify::new(),
            taken_over: Mutex::default(),
            whole: AtomicSlots::default(),
            acted: Mutex::default(),
            may_have_joined: AtomicBool::new(false),
            oneness: Oneness::default(),
            config,
        })
    }

    /// What this node believes of the cluster now. Hold it for one batch, not longer: others wait for it to be let go.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// A number that moves whenever the topology is another.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notes that everybody on this node goes by the topology of this change from now on, but who still holds `before`, which
    /// was made of an earlier one.
    pub fn acts_on(&self, change: u64, before: Weak<dyn Any + Send + Sync>) {
        let mut acted = self.acted.lock();
        acted.change = Some(change);
        acted.retired.retain(|retired| retired.strong_count() > 0);
        acted.retired.push(before);
    }

    /// True when this node may answer reads and be a source for others.
    pub fn is_warm(&self) -> bool {
        self.topology.load().is_warm()
    }

    /// What the clocks of the other nodes were found to show.
    pub fn peer_clocks(&self) -> BTreeMap<NodeId, PeerClock> {
        self.clocks.lock().clone()
    }

    /// What gossip has counted since the start; nothing any more once this node has left.
    pub fn gossip_stats(&self) -> MembershipStats {
        self.membership.lock().as_ref().map(Membership::stats).unwrap_or_default()
    }

    /// Keys sent whole to other nodes, and received from them, since the start.
    pub fn transferred_keys(&self) -> (u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&self.transferred.sent), count(&self.transferred.received))
    }

    /// How many of its slots this node holds whole.
    pub fn warm_slots(&self) -> usize {
        self.filled_slots.load(Ordering::Relaxed)
    }

    /// True when this node holds all that it may ever have confirmed of a slot: it may promise the slot to somebody.
    pub fn is_whole(&self, slot: Slot) -> bool {
        self.whole.contains(slot)
    }

    /// How this node introduces itself on control connections.
    fn hello(&self) -> Hello {
        let cluster = self.config.settings().cluster_name.clone();
        Hello { cluster, node: self.identity.id, boot: self.identity.generation, kind: LinkKind::Control }
    }

    /// A new connection to this node, for what would hold up the shared one.
    fn new_link(&self, row: &Row) -> ControlLink {
        ControlLink::new(row.peer_addr, Some(row.id), self.hello(), self.secret.clone())
    }

    /// The connection on which rows and barriers are talked over with this node.
    fn link(&self, row: &Row) -> Arc<ControlLink> {
        let mut links = self.links.lock();
        match links.get(&row.id).filter(|link| link.addr() == row.peer_addr) {
            Some(link) => link.clone(),
            None => {
                let link = Arc::new(self.new_link(row));
                links.insert(row.id, link.clone());
                link
            }
        }
    }

    /// Writes this node's own row.
    fn set_own_row(&self, state: RowState, warm: bool) {
        self.update(|book| {
            if book.leaving && matches!(state, RowState::Joining | RowState::Normal) {
                return false;
            }
            let row = self.next_own_row(book, state, warm);
            book.rows.merge(row)
        });
    }

    fn next_own_row(&self, book: &Book, state: RowState, warm: bool) -> Row {
        let settings = self.config.settings();
        let known = book.rows.get(&self.identity.id).filter(|row| row.generation == book.generation);
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
            zone: settings.zone.clone(),
            weight: settings.weight,
            warm,
            generation: book.generation,
            version: known.map_or(1, |row| row.version.saturating_add(1)),
        }
    }

    /// Takes in another node's rows, unless this node belongs to nothing yet: then it must first decide how to enter.
    ///
    /// Whoever founded a cluster and then meets one that knew it before has forgotten what it held there: it fills up. One that
    /// did not know it (`rules::meeting`) is joined.
    fn merge_rows(&self, theirs: &Rows) {
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
            let is_other_life = |life| life > book.generation || life < book.generation && book.founded;
            let entered = match known.filter(|_| !book.leaving) {
                Some((_, life)) if is_other_life(life) => {
                    if life > book.generation {
                        self.note_writer(theirs);
                    }
                    book.generation = book.generation.max(life.saturating_add(1));
                    warn!(node = %me, "the cluster knew an earlier life of this node: filling up");
                    let joins = rules::entry(theirs, &me) == Entry::Join;
                    Some((if joins { RowState::Joining } else { RowState::Normal }, false))
                }
                Some((RowState::Leaving, life)) if life == book.generation => {
                    warn!(node = %me, "is being given up for dead, and is not: it stays");
                    Some((RowState::Normal, book.rows.get(&me).is_some_and(|row| row.warm)))
                }
                None if meeting == Meeting::Yield && !book.leaving => {
                    warn!(node = %me, "met a cluster that did not know this node: joining it");
                    Some((RowState::Joining, false))
                }
                _ => None,
            };
            if let Some((state, warm)) = entered {
                book.founded = false;
                if !warm {
                    self.whole.clear();
                }
                let row = self.next_own_row(book, state, warm);
                changed |= book.rows.merge(row);
            }
            changed
        });
        self.outlive();
    }

    /// Tells membership of the generation of our row, which is above that of our start if the clock has gone back since an
    /// earlier one.
    fn outlive(&self) {
        let generation = self.own_generation();
        if let Some(membership) = self.membership.lock().as_ref().filter(|_| generation > self.identity.generation) {
            membership.outlive(generation);
        }
    }

    /// The generation of our row.
    fn own_generation(&self) -> u64 {
        self.book.lock().generation
    }

    /// Changes the book and publishes it when `change` says that it did.
    fn update(&self, change: impl FnOnce(&mut Book) -> bool) {
        let mut book = self.book.lock();
        if change(&mut book) {
            self.publish(&mut book);
        }
    }

    /// Publishes again if somebody's liveness is another than published.
    fn refresh(&self) {
        let mut book = self.book.lock();
        let topology = self.topology.load();
        let is_other = |(id, known): (&NodeId, &Liveness)| *id != self.identity.id && self.liveness(id) != *known;
        if topology.alive.iter().any(is_other) {
            self.publish(&mut book);
        }
    }

    fn publish(&self, book: &mut Book) {
        let before = self.topology.load_full();
        let replicas = self.config.settings().replicas;
        let liveness = |id: &NodeId| self.liveness(id);
        let topology = Topology::new(book.rows.clone(), self.identity.id, replicas, Some(&before), liveness);
        // With a second node about, deletions must leave tombstones: its copies are older or younger than ours.
        if topology.missed_an_owner(&before) {
            self.whole.clear();
        }
        if topology.rows.configuration() != before.rows.configuration() {
            self.forget_strangers(&topology);
        }
        // Nobody else says so: here it holds before anybody goes by the new topology.
        let owners = topology.ring.members().len().max(topology.next_ring.members().len());
        self.store.set_replicated(owners > 1);
        self.topology.store(Arc::new(topology));
        book.retired.retain(|retired| retired.strong_count() > 0);
        book.retired.push(Arc::downgrade(&before));
        drop(before);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Returns when no request works under an earlier topology any more, as far as can be told in a short time; false when
    /// this node does not go by the present one yet.
    async fn quiesce(&self) -> bool {
        let until = Instant::now() + SETTLE_TIMEOUT;
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
            tokio::time::sleep(SETTLE_LOOK).await;
        }
        acts()
    }

    /// What is believed of another node: membership's word, or for one it has not heard of, whether it spoke lately.
    fn liveness(&self, id: &NodeId) -> Liveness {
        let known = self.view.borrow().get(id).map(|peer| peer.liveness);
        known.unwrap_or_else(|| if self.spoke_lately(id) { Liveness::Alive } else { Liveness::Down })
    }

    /// As [`liveness`](Cluster::liveness), but in doubt soon after our start, when nobody has been heard of, yes.
    fn may_live(&self, id: &NodeId) -> bool {
        let unheard = self.view.borrow().get(id).is_none();
        self.liveness(id) != Liveness::Down || (unheard && self.started.elapsed() < CONTACT_GRACE)
    }

    fn spoke_lately(&self, id: &NodeId) -> bool {
        self.contacts.lock().get(id).is_some_and(|at| at.elapsed() < CONTACT_GRACE)
    }

    fn note_contact(&self, id: NodeId) {
        let is_news = {
            let mut contacts = self.contacts.lock();
            contacts.retain(|_, at| at.elapsed() < CONTACT_GRACE);
            contacts.insert(id, Instant::now()).is_none()
        };
        if is_news {
            self.refresh();
        }
    }
}

fn is_gone(book: &Book, id: &NodeId) -> bool {
    book.rows.get(id).is_some_and(|row| row.state == RowState::Gone)
}

/// The cluster's secret and name, so that no client can make two keys of one fingerprint.
fn digest_seed(settings: &Settings) -> u64 {
    let name = xxh3_64_with_seed(settings.cluster_name.as_bytes(), 0);
    xxh3_64_with_seed(settings.cluster_secret.as_bytes(), name)
}
