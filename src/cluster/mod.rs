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
//! | `presence` | who is there |
//! | `links` | control connections to others |
//! | `holdings` | what this node has fetched of its slots |
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
//! | `intake` | what other nodes hand over is merged |
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
mod presence;
mod links;
mod holdings;
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
mod intake;
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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::config::{Config, Settings};
use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::Registry;
use crate::cluster::absence::Absence;
use crate::cluster::book::{Acted, Book};
use crate::cluster::calm::Calm;
use crate::cluster::ending::Oneness;
use crate::cluster::founding::Founding;
use crate::cluster::holdings::Holdings;
use crate::cluster::links::Links;
use crate::cluster::members::Recorded;
use crate::cluster::older::LastLook;
use crate::cluster::presence::Presence;
use crate::cluster::remove::ToldToForget;
use crate::membership::{Liveness, Membership, MembershipStats};
use crate::peer::registry::Peers;
use crate::ring::Rows;
use crate::store::Store;

pub use clocks::PeerClock;
pub use ending::Ending;
pub use finding::FoundError;
pub use identity::{Identity, load_or_derive};
pub use intake::{Intake, Merge, Portion};
pub use members::{MembersError, Memory};
pub use remove::ForgetError;
pub use topology::Topology;
pub use transfer::TransferError;

/// This node's part in the cluster; see the head of the file.
pub struct Cluster {
    config: Arc<Config>,
    identity: Identity,
    store: Arc<Store>,
    presence: Presence,
    links: Links,
    book: Mutex<Book>,
    topology: ArcSwap<Topology>,
    changes: watch::Sender<u64>,
    clocks: Mutex<BTreeMap<NodeId, PeerClock>>,
    holdings: Holdings,
    intake: Arc<Intake>,
    /// Keys sent whole to other nodes.
    sent_keys: AtomicU64,
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
    /// Dead nodes that are to be given up; see `remove`.
    told_to_forget: ToldToForget,
    acted: Mutex<Acted>,
    /// Whether this node must not go on; see `ending`.
    oneness: Oneness,
    /// What it knows while it belongs to nothing; see `founding`.
    founding: Mutex<Founding>,
    /// How far it would remember its cluster; see `members`.
    recorded: Recorded,
}

impl Cluster {
    /// A node that belongs to nothing yet; [`run`](Cluster::run) brings it in.
    pub fn new(
        config: Arc<Config>,
        identity: Identity,
        memory: Memory,
        intake: Arc<Intake>,
        membership: Membership,
        peers: Arc<Peers>,
    ) -> Arc<Cluster> {
        let settings = config.settings();
        let (store, metrics) = (intake.store.clone(), intake.metrics.clone());
        let topology = Topology::new(Rows::new(), identity.id, settings.replicas, None, |_| Liveness::Down);
        let absence = Absence::new(start_over::moment_of(&store.clock));
        Arc::new(Cluster {
            presence: Presence::new(membership),
            links: Links::new(&settings, &identity),
            store,
            intake,
            book: Mutex::new(Book::new(identity.generation)),
            topology: ArcSwap::from_pointee(topology),
            changes: watch::channel(0).0,
            clocks: Mutex::default(),
            holdings: Holdings::default(),
            sent_keys: AtomicU64::new(0),
            metrics,
            peers,
            digest_seed: digest_seed(&settings),
            absence: Mutex::new(absence),
            calm: Calm::default(),
            known_older: LastLook::default(),
            is_outdated: AtomicBool::new(false),
            told_to_forget: ToldToForget::default(),
            acted: Mutex::default(),
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
        self.presence.gossip_stats()
    }

    /// How long gossip has brought nothing that was understood; nothing any more once this node has left.
    pub fn gossip_silence(&self) -> Duration {
        self.presence.gossip_silence()
    }

    /// Keys sent whole to other nodes, and received from them, since the start.
    pub fn transferred_keys(&self) -> (u64, u64) {
        (self.sent_keys.load(Ordering::Relaxed), self.intake.received())
    }

    /// The dead nodes that this one was told to give up, and has not given up yet.
    pub fn giving_up(&self) -> BTreeSet<NodeId> {
        let told = self.told_to_forget.ids();
        let begun: Vec<NodeId> = self.book.lock().forgetting.keys().copied().collect();
        told.into_iter().chain(begun).collect()
    }

    /// How many of its slots this node holds whole.
    pub fn warm_slots(&self) -> usize {
        self.holdings.filled_slots()
    }

    /// True when this node holds all that it may ever have confirmed of a slot: it may promise the slot to somebody.
    pub fn is_whole(&self, slot: Slot) -> bool {
        self.holdings.whole.contains(slot)
    }

    /// Says whether members are missing, behind or filling up, or the ring moves, from now on.
    pub fn note_stir(&self, is_stirred: bool) {
        self.calm.note_stir(is_stirred, self.store.clock.now_ms());
    }

    /// How long a member may be away before others forget deletions without it.
    fn tombstone_horizon(&self) -> Duration {
        Duration::from_millis(self.config.settings().tombstone_horizon_ms)
    }

    fn note_contact(&self, id: NodeId) {
        if self.presence.note_contact(id) {
            self.refresh();
        }
    }
}

/// The cluster's secret and name, so that no client can make two keys of one fingerprint.
fn digest_seed(settings: &Settings) -> u64 {
    let name = xxh3_64_with_seed(settings.cluster_name.as_bytes(), 0);
    xxh3_64_with_seed(settings.cluster_secret.as_bytes(), name)
}
