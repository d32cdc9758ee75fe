//! Which ring is in force, and how a slot changes hands.
//!
//! One [`Cluster`] per node. It keeps the replicated rows, listens to membership, and publishes both as a [`Topology`]
//! that requests read. What each file does; beside [`Cluster`], which stands here and which most of them have methods
//! of, each imports only those above it (`tests/tidy` proves it):
//!
//! | file | what it is |
//! |---|---|
//! | `rules` | the decisions, pure: how to enter, whom to join, what to fetch from whom |
//! | `founding` | whether to begin a cluster, pure |
//! | `identity` | who this node is |
//! | `topology` | the published value |
//! | `absence` | who was away for too long |
//! | `calm` | whether copies may lie where no home replica looks |
//! | `older` | whether anybody may hold an older one than this node |
//! | `difference`, `pacer` | what differs between two home replicas; how fast they compare |
//! | `stability` | when deletions, and the names of old writes, may be forgotten |
//! | `ending` | why a node cannot go on under its id |
//! | `members` | who the members are, kept over restarts |
//! | `book` | the rows as they are changed, and published |
//! | `clocks` | how far the nodes' clocks are apart |
//! | `news` | what the log says of other nodes |
//! | `gossip` | how rows spread |
//! | `twins` | asks whether another process runs under this node's id |
//! | `barrier` | a step waits until everybody acts on a row |
//! | `transfer` | keys that travel from node to node |
//! | `whole` | which slots were fetched from enough others to take part in strict writes |
//! | `reconcile`, `shed` | two nodes compare what they hold; copies of slots that are not ours go home |
//! | `start_over` | what a node does that was away for too long |
//! | `set_back` | what a node does whose clock was ahead and was set back |
//! | `anti_entropy` | home replicas compare what they hold, now and then |
//! | `take_over` | what is fetched before others come or go |
//! | `remove` | a dead node is given up for ever |
//! | `finding` | asks who is there, until this node enters a cluster or begins one |
//! | `lifecycle` | coming, filling up and going, in order |
//! | `service` | answers to other nodes' control connections |
//! | `testing` | for tests: options made of names and values |
//!
//! Invariants: a node changes only its own row, but for that of a dead one that an operator gives up; liveness never
//! changes the ring; a node that is not warm is nobody's source; whatever travels keeps its version and is merged, so
//! every step may be repeated or cut short.
//!
//! Accepts no connection (whoever listens on the peer port hands them over), routes no request, counts no quorum.

mod rules;
mod founding;
pub mod identity;
mod topology;
mod absence;
mod calm;
mod older;
mod difference;
mod stability;
mod pacer;
mod ending;
mod members;
mod book;
mod clocks;
mod news;
mod gossip;
mod twins;
mod barrier;
mod transfer;
mod whole;
mod reconcile;
mod shed;
mod start_over;
pub mod set_back;
mod anti_entropy;
mod take_over;
mod remove;
mod finding;
mod lifecycle;
mod service;

#[cfg(test)]
mod growth_tests;
#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::config::{Config, Settings};
use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::Registry;
use crate::base::slots::AtomicSlots;
use crate::cluster::absence::Absence;
use crate::cluster::book::{Acted, Book};
use crate::cluster::calm::Calm;
use crate::cluster::ending::Oneness;
use crate::cluster::founding::Founding;
use crate::cluster::members::Recorded;
use crate::cluster::older::LastLook;
use crate::membership::{Liveness, MemberList, Membership, MembershipStats};
use crate::peer::control::ControlLink;
use crate::peer::handshake::{Hello, LinkKind};
use crate::peer::registry::Peers;
use crate::ring::{Row, Rows};
use crate::store::Store;

pub use clocks::PeerClock;
pub use ending::Ending;
pub use finding::FoundError;
pub use identity::{Identity, load_or_derive};
pub use members::{MembersError, Memory};
pub use remove::ForgetError;
pub use topology::Topology;
pub use transfer::TransferError;

/// A node that membership has not heard of counts as alive for so long after it was spoken to.
const CONTACT_GRACE: Duration = Duration::from_secs(3);

/// This node's part in the cluster; see the head of the file.
pub struct Cluster {
    config: Arc<Config>,
    identity: Identity,
    store: Arc<Store>,
    secret: Arc<[u8]>,
    membership: Mutex<Option<Membership>>,
    member_list: watch::Receiver<Arc<MemberList>>,
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
    /// Whether somebody may hold copies that are not its own; see `calm`.
    calm: Calm,
    /// Whether somebody may hold older copies than this node, as it has said last; see `older`.
    known_older: LastLook,
    /// This node was away for too long, and it is not decided yet what that means; see `start_over`.
    is_outdated: AtomicBool,
    /// Dead nodes that are to be given up, as an operator said on some worker.
    told_to_forget: Mutex<BTreeSet<NodeId>>,
    /// Says that there are some.
    told: Notify,
    /// The era in which this node holds what it gains by the coming or going of others; see `take_over`.
    taken_over: Mutex<Option<u64>>,
    /// Which slots this node holds whole; see `whole`.
    whole: AtomicSlots,
    acted: Mutex<Acted>,
    /// An earlier life may have been joining, too.
    may_have_joined: AtomicBool,
    /// Whether this node must not go on; see `ending`.
    oneness: Oneness,
    /// What it knows while it belongs to nothing; see `founding`.
    founding: Mutex<Founding>,
    /// How far it would remember its cluster; see `members`.
    recorded: Recorded,
}

/// Keys that travelled whole.
#[derive(Debug, Default)]
struct Transferred {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Cluster {
    /// A node that belongs to nothing yet; [`run`](Cluster::run) brings it in.
    pub fn new(
        config: Arc<Config>,
        identity: Identity,
        memory: Memory,
        store: Arc<Store>,
        membership: Membership,
        metrics: Arc<Registry>,
        peers: Arc<Peers>,
    ) -> Arc<Cluster> {
        let settings = config.settings();
        let member_list = membership.view();
        let topology = Topology::new(Rows::new(), identity.id, settings.replicas, None, |_| Liveness::Down);
        let absence = Absence::new(start_over::moment_of(&store.clock));
        Arc::new(Cluster {
            secret: settings.cluster_secret.as_bytes().into(),
            store,
            membership: Mutex::new(Some(membership)),
            member_list,
            book: Mutex::new(Book::new(identity.generation)),
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
            calm: Calm::default(),
            known_older: LastLook::default(),
            is_outdated: AtomicBool::new(false),
            told_to_forget: Mutex::default(),
            told: Notify::new(),
            taken_over: Mutex::default(),
            whole: AtomicSlots::default(),
            acted: Mutex::default(),
            may_have_joined: AtomicBool::new(false),
            oneness: Oneness::default(),
            recorded: Recorded::new(&memory),
            founding: Mutex::new(Founding::new(identity.id, memory.rows)),
            identity,
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

    /// How long gossip has brought nothing that was understood; nothing any more once this node has left.
    pub fn gossip_silence(&self) -> Duration {
        self.membership.lock().as_ref().map(Membership::silence).unwrap_or_default()
    }

    /// Keys sent whole to other nodes, and received from them, since the start.
    pub fn transferred_keys(&self) -> (u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&self.transferred.sent), count(&self.transferred.received))
    }

    /// The dead nodes that this one was told to give up, and has not given up yet.
    pub fn giving_up(&self) -> BTreeSet<NodeId> {
        let told = self.told_to_forget.lock().clone();
        let begun: Vec<NodeId> = self.book.lock().forgetting.keys().copied().collect();
        told.into_iter().chain(begun).collect()
    }

    /// How many of its slots this node holds whole.
    pub fn warm_slots(&self) -> usize {
        self.filled_slots.load(Ordering::Relaxed)
    }

    /// True when this node holds all that it may ever have confirmed of a slot: it may promise the slot to somebody.
    pub fn is_whole(&self, slot: Slot) -> bool {
        self.whole.contains(slot)
    }

    /// Says whether members are missing, behind or filling up, or the ring moves, from now on.
    pub fn note_stir(&self, is_stirred: bool) {
        self.calm.note_stir(is_stirred, self.store.clock.now_ms());
    }

    /// How long a member may be away before others forget deletions without it.
    fn tombstone_horizon(&self) -> Duration {
        Duration::from_millis(self.config.settings().tombstone_horizon_ms)
    }

    /// How this node introduces itself on control connections.
    fn hello(&self) -> Hello {
        let cluster = self.config.settings().cluster_name.clone();
        Hello { cluster, node: self.identity.id, generation: self.identity.generation, kind: LinkKind::Control }
    }

    /// A connection to whoever listens there.
    fn link_to(&self, addr: SocketAddr) -> ControlLink {
        ControlLink::new(addr, None, self.hello(), self.secret.clone())
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

    /// What is believed of another node: membership's word, or for one it has not heard of, whether it spoke lately.
    fn liveness(&self, id: &NodeId) -> Liveness {
        let known = self.member_list.borrow().get(id).map(|peer| peer.liveness);
        known.unwrap_or_else(|| if self.spoke_lately(id) { Liveness::Alive } else { Liveness::Down })
    }

    /// As [`liveness`](Cluster::liveness), but in doubt soon after our start, when nobody has been heard of, yes.
    fn may_live(&self, id: &NodeId) -> bool {
        let unheard = self.member_list.borrow().get(id).is_none();
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

/// The cluster's secret and name, so that no client can make two keys of one fingerprint.
fn digest_seed(settings: &Settings) -> u64 {
    let name = xxh3_64_with_seed(settings.cluster_name.as_bytes(), 0);
    xxh3_64_with_seed(settings.cluster_secret.as_bytes(), name)
}
