//! The composition root: builds every part, owns the order of start and stop. Nothing imports it but the command line.
//!
//! | file | what it is |
//! |---|---|
//! | `workers`, `work` | the workers' threads, and how work reaches them; what it is |
//! | `listen` | accepts connections of clients and peers |
//! | `view` | the view that workers go by |
//! | `at_work` | the thread of gossip, which says of workers that are at work for long that they are |
//! | `chores` | background work: eviction, rates, idle clients |
//! | `sweeper` | expired keys leave |
//! | `handoff` | delivers hints: what a peer has missed |
//! | `settle` | asks for promises and compares slots, in the background |
//! | `files` | open files: room for `maxclients` beside the node's own |
//! | `memory` | freed memory is given back to the system, or by one thread to another |
//! | `gauges` | what `/metrics`, INFO and `/status` read when asked |
//! | `refused` | peers that were refused, told in the log seldom |
//! | `routes` | what the log says of whom this node routes past |
//! | `drain` | the end of a node's service, in order |
//! | `simulation` | for tests: whole clusters in one thread |
//!
//! Start: make room for open files (`files`); bind every port, so that a taken one is an error before anything runs;
//! make the store; start the workers; then gossip, on a thread of its own (`at_work`), and on the main thread the
//! cluster, the view for the workers (`view`), background work (`chores`, `sweeper`, `handoff`) and the accepting of
//! connections (`listen`).
//!
//! Stop: SIGTERM or SIGINT; the node leaves the cluster if others can take over, within `shutdown-timeout`, sends its
//! clients elsewhere (`drain`), and the process ends. A node that must not go on under its id (`cluster::Ending`) ends
//! at once. At SIGHUP the log is opened anew, no more.

mod drain;
mod gauges;
mod refused;
mod routes;
mod settle;
mod work;
mod listen;
mod files;
mod memory;
mod view;
mod handoff;
mod workers;
mod sweeper;
mod at_work;
mod chores;

#[cfg(test)]
mod simulation;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::base::clock::Hlc;
use crate::base::config::{Bind, Config, Settings};
use crate::cluster::{Cluster, Ending, Identity, Intake, MembersError, Memory, Merge, Portion, identity};
use crate::membership::{Membership, MembershipConfig};
use crate::node::at_work::Signs;
use crate::node::listen::Port;
use crate::peer::handshake::{Hello, LinkKind};
use crate::peer::registry::Peers;
use crate::replication::ballots::Ballots;
use crate::replication::coordinator::Coordinator;
use crate::replication::view::View;
use crate::ring::{Ring, RowState, Rows};
use crate::server::admin::{self, Admin, Health};
use crate::server::figures::pulse::Pulse;
use crate::server::state::NodeState;
use crate::server::state::clients::Clients;
use crate::server::state::snapshot::ClusterSnapshot;
use crate::server::worker::Shared;
use crate::store::Store;

pub use crate::peer::handshake::WIRE_VERSION;

/// Between two looks at whether the node can serve clients.
const READY_LOOK: Duration = Duration::from_millis(50);
/// How long the thread that merges what others hand over waits for more.
const MERGING_KEPT: Duration = Duration::from_millis(100);

/// Why a node could not start, or not go on. Nothing runs any more when it is returned.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A port could not be bound: it is named.
    #[error("cannot listen on {addr} ({name}): {source}")]
    Bind {
        /// The option that names the port.
        name: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The node's own file could not be read or written.
    #[error("{0}")]
    Identity(#[from] identity::IdentityError),
    /// The file in which it remembers its cluster could not be read.
    #[error("{0}")]
    Members(#[from] MembersError),
    /// Gossip could not start.
    #[error("{0}")]
    Membership(#[from] crate::membership::MembershipError),
    /// It ran, and must not go on.
    #[error("{0}")]
    Ended(Ending),
    /// A thread or an event loop could not be made.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The listening sockets of a node.
struct Listeners {
    standalone: Vec<TcpListener>,
    cluster: Vec<TcpListener>,
    peer: Vec<TcpListener>,
    admin: Vec<TcpListener>,
}

/// All parts, as the tasks of the main thread share them.
struct Node {
    config: Arc<Config>,
    shared: Arc<Shared>,
    peers: Arc<Peers>,
    cluster: Arc<Cluster>,
    workers: workers::Workers,
    /// Peers' forward links, which CLIENT LIST does not show.
    peer_clients: Arc<Clients>,
    /// Peers that were refused.
    refused: refused::Refused,
    /// Whom this node routes past.
    routes: routes::Routes,
    /// New clients are let in.
    accepts: watch::Sender<bool>,
}

/// Runs a node until it is told to stop. `on_hangup` is called at each SIGHUP.
pub fn run(config: Arc<Config>, on_hangup: impl Fn() + 'static) -> Result<(), NodeError> {
    files::make_room(&config);
    let settings = config.settings();
    let identity = identity::load_or_derive(&settings)?;
    let listeners = bind_all(&settings)?;
    let shared = assemble(&config, &identity);
    let workers = workers::start(settings.workers, &shared)?;
    let health: Arc<dyn Health> = Arc::new(Ready(shared.clone()));
    let _admin = admin::spawn(listeners.admin, Admin { shared: shared.clone(), health })?;
    let gossip_thread = at_work::start_thread()?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().thread_name("merging").thread_keep_alive(MERGING_KEPT).build()?;
    let local = tokio::task::LocalSet::new();
    let ports =
        [(listeners.standalone, Port::Standalone), (listeners.cluster, Port::Cluster), (listeners.peer, Port::Peer)];
    drop(settings);
    // What is stored is never given back: the process ends with it, and a full store would take seconds, key by key.
    std::mem::forget(shared.clone());
    local.block_on(&runtime, async move {
        tokio::task::spawn_local(heed_hangups(signal(SignalKind::hangup())?, on_hangup));
        let mut listeners = Vec::new();
        for (listener, port) in ports.into_iter().flat_map(|(of, port)| of.into_iter().map(move |it| (it, port))) {
            listeners.push((crate::base::net::TcpListener::from_std(listener)?, port));
        }
        let node = start(config, identity, shared, workers, listeners, &gossip_thread, merge_aside)?;
        tokio::select! {
            told = wait_for_end(&node.shared.node.stop) => told?,
            why = node.cluster.ended() => return Err(NodeError::Ended(why)),
        }
        tracing::info!("told to stop");
        drain::leave(&node).await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// What a node's threads share, before any of them runs.
fn assemble(config: &Arc<Config>, identity: &Identity) -> Arc<Shared> {
    let settings = config.settings();
    let store = Arc::new(Store::new(identity.actor()));
    apply(&store, &settings);
    let to_tune = store.clone();
    config.on_change(move |settings| apply(&to_tune, settings));
    let now_ms = store.clock.now_ms();
    let snapshot = ClusterSnapshot::new(
        identity.id,
        &settings.node_name,
        Rows::new(),
        &Ring::build(&[], 1),
        BTreeSet::new(),
        |_| false,
    );
    let state = Arc::new(NodeState::new(config.clone(), store.clone(), snapshot, identity.id.to_string(), now_ms));
    let ballots = Arc::new(Ballots::new(Hlc::at_ms(now_ms)));
    let coordinator =
        Arc::new(Coordinator { store, metrics: state.metrics.clone(), ballots, current_view: Default::default() });
    let hello = Hello {
        cluster: settings.cluster_name.clone(),
        node: identity.id,
        generation: identity.generation,
        kind: LinkKind::Control,
    };
    Arc::new(Shared {
        node: state,
        coordinator,
        view: ArcSwap::from_pointee(View::default()),
        hello,
        secret: settings.cluster_secret.as_bytes().into(),
        epoch: Instant::now(),
        pulse: Pulse::new(settings.workers),
    })
}

/// Merges what another node has handed over on a thread of its own, which ends when there is nothing more.
fn merge_aside(portion: Portion) {
    drop(tokio::task::spawn_blocking(move || portion.merge()));
}

/// Starts gossip on its thread, and everything that runs on the main thread, where local tasks can be spawned.
fn start(
    config: Arc<Config>,
    identity: Identity,
    shared: Arc<Shared>,
    workers: workers::Workers,
    listeners: Vec<(crate::base::net::TcpListener, Port)>,
    gossip_thread: &Handle,
    merge: Merge,
) -> Result<Arc<Node>, NodeError> {
    let settings = config.settings();
    let memory = Memory::load(&settings)?;
    let peers = Arc::new(Peers::new(settings.workers, settings.link_bytes_max as usize));
    let gossip = MembershipConfig {
        id: identity.id,
        generation: identity.generation,
        bind: SocketAddr::new(gossip_ip(&settings, identity.peer_addr.ip()), settings.ports.peer),
        advertised: identity.peer_addr,
        cluster: settings.cluster_name.clone(),
        secret: (!settings.cluster_secret.is_empty()).then(|| settings.cluster_secret.clone()),
        probe_period_ms: MembershipConfig::PROBE_PERIOD_MS,
    };
    let membership = {
        let _on = gossip_thread.enter();
        Membership::spawn(gossip, Signs { shared: shared.clone(), peers: peers.clone() })?
    };
    drop(settings);
    let intake = Intake::new(shared.node.store.clone(), shared.node.metrics.clone(), merge);
    let cluster = Cluster::new(config.clone(), identity, memory, intake, membership, peers.clone());
    _ = shared.node.cluster.set(cluster.clone());
    let (peer_clients, refused, routes) = (Arc::default(), refused::Refused::default(), routes::Routes::default());
    let accepts = watch::Sender::new(true);
    let node = Arc::new(Node { config, shared, peers, cluster, workers, peer_clients, refused, routes, accepts });
    gauges::add(&node);
    tell_of_open_pages(&node.config.settings());
    tokio::task::spawn_local(node.cluster.clone().run());
    tokio::task::spawn_local(view::keep(node.clone()));
    chores::start(&node);
    settle::start(&node);
    listen::start(&node, listeners);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = %node.shared.hello.node, "listening");
    tokio::task::spawn_local(tell_when_ready(Ready(node.shared.clone())));
    Ok(node)
}

/// Says so when the node can serve clients: `/readyz` says the same.
async fn tell_when_ready(health: Ready) {
    while health.ready().is_err() {
        tokio::time::sleep(READY_LOOK).await;
    }
    tracing::info!("ready to accept connections");
}

/// Says so when other machines reach the admin port.
fn tell_of_open_pages(settings: &Settings) {
    if settings.ports.admin != 0 && settings.bind.iter().any(|bind| !bind.ip.is_loopback()) {
        let port = settings.ports.admin;
        tracing::warn!(port, "the admin-port asks for no password: whoever reaches this machine can read its pages");
    }
}

/// Readiness: some coordinator stands for every slot, and this node is here to stay.
struct Ready(Arc<Shared>);

impl Health for Ready {
    fn ready(&self) -> Result<(), String> {
        let view = self.0.view.load();
        if view.is_solo {
            return Ok(());
        }
        if self.0.node.snapshot.load().is_leaving() {
            return Err("this node is leaving".into());
        }
        if view.roles.distinct.is_empty() {
            let waits = self.0.node.cluster.get().and_then(|cluster| cluster.awaited());
            let waits = waits.map(|waits| format!(": {waits}")).unwrap_or_default();
            return Err(format!("this node is not a member of a cluster yet{waits}"));
        }
        let settings = self.0.node.config.settings();
        let quorum = crate::server::session::settings::quorum_of(&settings, Default::default(), &view);
        for roles in &view.roles.distinct {
            view.check_served(roles, quorum, true).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn warm(&self) -> Result<(), String> {
        self.ready()?;
        let topology = self.0.node.cluster.get().map(|cluster| cluster.topology());
        match topology.as_ref().and_then(|topology| topology.own_row()).map(|row| (row.state, row.warm)) {
            Some((RowState::Joining, _)) => Err("this node is joining: it does not hold its slots yet".into()),
            Some((_, false)) => {
                Err("this node is filling up: it does not hold all that it held before it ended".into())
            }
            Some((_, true)) | None => Ok(()),
        }
    }
}

/// Resolves when a signal or SHUTDOWN tells the node to stop.
async fn wait_for_end(stop: &tokio::sync::Notify) -> std::io::Result<()> {
    tokio::select! {
        signal = wait_for_signal() => signal,
        () = stop.notified() => Ok(()),
    }
}

async fn wait_for_signal() -> std::io::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Calls `on_hangup` at each SIGHUP, for ever: a node goes on when the terminal is gone that it was started from.
async fn heed_hangups(mut hangups: Signal, on_hangup: impl Fn()) {
    while hangups.recv().await.is_some() {
        on_hangup();
    }
}

/// Waits while something is so, at most for `patience`, and looks again each `period`.
async fn wait_while(patience: Duration, period: Duration, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while is_so() && Instant::now() < until {
        tokio::time::sleep(period).await;
    }
}

/// Puts options into effect that the store looks at.
fn apply(store: &Store, settings: &Settings) {
    let eviction = &store.eviction;
    eviction.bytes_max.store(settings.maxmemory, Ordering::Relaxed);
    eviction.set_policy(settings.maxmemory_policy);
    eviction.samples.store(settings.maxmemory_samples as u32, Ordering::Relaxed);
    eviction.log_factor.store(settings.lfu_log_factor, Ordering::Relaxed);
    eviction.decay_minutes.store(settings.lfu_decay_time_min, Ordering::Relaxed);
    store.tuning.hash_entries_max.store(settings.hash_max_listpack_entries, Ordering::Relaxed);
    store.tuning.hash_value_bytes_max.store(settings.hash_max_listpack_value, Ordering::Relaxed);
    store.tuning.intset_entries_max.store(settings.set_max_intset_entries, Ordering::Relaxed);
}

/// Where gossip listens: one socket, at the address that others are told if that is bound by itself.
fn gossip_ip(settings: &Settings, told: IpAddr) -> IpAddr {
    let binds = settings.peer_bind();
    let is_told = binds.iter().find(|bind| bind.ip == told);
    let for_all = binds.iter().find(|bind| bind.ip.is_unspecified());
    is_told.or(for_all).or(binds.first()).map_or(IpAddr::from([127, 0, 0, 1]), |bind| bind.ip)
}

fn bind_all(settings: &Settings) -> Result<Listeners, NodeError> {
    let bind_port = |binds: &[Bind], name, port| bind(binds, name, port, settings.tcp_backlog);
    Ok(Listeners {
        standalone: bind_port(&settings.bind, "port", settings.ports.port)?,
        cluster: bind_port(&settings.bind, "cluster-port", settings.ports.cluster)?,
        peer: bind_port(&settings.peer_bind(), "peer-port", settings.ports.peer)?,
        admin: bind_port(&settings.bind, "admin-port", settings.ports.admin)?,
    })
}

/// Binds a port on every address; port 0 means that nobody listens.
fn bind(binds: &[Bind], name: &'static str, port: u16, backlog: u32) -> Result<Vec<TcpListener>, NodeError> {
    let mut listeners = Vec::new();
    for bind in binds.iter().filter(|_| port != 0) {
        let addr = SocketAddr::new(bind.ip, port);
        match listen_on(addr, backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if bind.optional && error.kind() == std::io::ErrorKind::AddrNotAvailable => {}
            Err(source) => return Err(NodeError::Bind { name, addr, source }),
        }
    }
    Ok(listeners)
}

fn listen_on(addr: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(511))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
