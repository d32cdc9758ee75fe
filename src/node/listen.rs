//! Accepting connections: clients on the two faces, peers on the peer port.
//!
//! Connections are accepted on the main thread and dealt to the least loaded worker, until the node stops (`drain`).
//! Running out of descriptors, which `files` sees to, pauses the accepting, is told once in a while, and ends nothing.
//! Clients beyond `maxclients` and, without a password, clients from elsewhere on a node that listens beyond loopback
//! are told so in Redis's words and closed.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::TcpKeepalive;

use crate::base::crowd::Crowd;
use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::Count;
use crate::base::net::{TcpListener, TcpStream, keep_alive};
use crate::base::throttle::Throttle;
use crate::cluster::Cluster;
use crate::node::Node;
use crate::node::work::Work;
use crate::peer::handshake::{Hello, LinkKind, accept};
use crate::peer::registry::Peers;
use crate::peer::trust::{Speaker, Word};
use crate::replication::replica::Host;
use crate::ring::Row;
use crate::server::pubsub;
use crate::server::worker::Shared;

/// After a connection that could not be accepted: the next cannot either, if files have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines of the log about such connections.
const TELL_INTERVAL: Duration = Duration::from_secs(10);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(2);
/// Connections to the peer port that have not said yet who they are. Anybody may open them; beyond it the oldest goes,
/// so that a node, which says so at once, gets through a crowd that does not.
pub const HANDSHAKES_MAX: usize = 128;
/// Of silence, before the system asks whether a peer is still there; four times this, and its connection ends.
const PEER_KEEPALIVE: Duration = Duration::from_secs(15);

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password \
is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to \
connect from external computers to rondo you may set requirepass, or turn protected-mode off, or bind loopback only.\r\n";

/// What is accepted where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// Clients that see one Redis.
    Standalone,
    /// Clients that see a Redis Cluster.
    Cluster,
    /// Other nodes.
    Peer,
}

/// Starts accepting.
pub fn start(node: &Arc<Node>, listeners: Vec<(TcpListener, Port)>) {
    for (listener, port) in listeners {
        tokio::task::spawn_local(accept_on(node.clone(), listener, port));
    }
}

async fn accept_on(node: Arc<Node>, listener: TcpListener, port: Port) {
    let mut accepts = node.accepts.subscribe();
    let mut handshakes = Crowd::new(HANDSHAKES_MAX);
    let mut told = Throttle::new(TELL_INTERVAL);
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            // The listener is closed: who comes later is refused, and tries another node.
            _ = accepts.wait_for(|accepts| !accepts), if port != Port::Peer => return,
        };
        match accepted {
            Ok((stream, _)) if port == Port::Peer => {
                handshakes.add(tokio::task::spawn_local(meet(node.clone(), stream)).abort_handle());
            }
            Ok((stream, _)) => {
                if let Err(error) = admit(&node, stream, port == Port::Cluster) {
                    tracing::debug!(%error, "a client left before it was served");
                }
            }
            Err(error) => {
                if let Some(untold) = told.pass(Instant::now()) {
                    tracing::warn!(%error, ?port, untold, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(node: &Node, stream: TcpStream, cluster_face: bool) -> std::io::Result<()> {
    let (addr, laddr) = (stream.peer_addr()?, stream.local_addr()?);
    let settings = node.config.settings();
    let state = &node.shared.node;
    stream.set_nodelay(true)?;
    if settings.tcp_keepalive_s != 0 {
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(settings.tcp_keepalive_s));
        keep_alive(&stream, &keepalive)?;
    }
    let mut stream = stream.into_std()?;
    let beyond_loopback = settings.bind.iter().any(|bind| !bind.ip.is_loopback());
    let is_protected = settings.protected_mode && settings.requirepass.is_empty() && beyond_loopback;
    let refusal = match () {
        () if state.clients.len() >= settings.maxclients => Some(TOO_MANY),
        () if is_protected && !addr.ip().is_loopback() => Some(PROTECTED),
        () => None,
    };
    if let Some(refusal) = refusal {
        state.metrics.count(Count::ConnectionsRejected, 1);
        return stream.write_all(refusal);
    }
    state.metrics.count(Count::ConnectionsAccepted, 1);
    let registration = state.clients.register(addr, laddr, state.store.clock.now_ms());
    let (worker, load) = node.workers.deal();
    node.workers.give(worker, Work::Client { stream, registration, cluster_face, load });
    Ok(())
}

/// This node, as the replica's side of a lane sees it.
struct ReplicaHost {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    peers: Arc<Peers>,
    /// Whose lane it is.
    speaker: Speaker,
}

impl Host for ReplicaHost {
    fn is_warm(&self) -> bool {
        self.cluster.is_warm_for(&self.speaker.node)
    }

    fn may_promise(&self, node: &NodeId, slot: Slot, electorate_digest: u64) -> bool {
        let view = self.shared.view.load();
        let Some(roles) = view.roles.of(slot) else { return false };
        let peer = roles.coordinator.and_then(|at| view.peer(at));
        let is_voter = roles.electorates.iter().any(|electorate| electorate.has_me);
        view.electorate_digest == electorate_digest
            && is_voter
            && peer.is_some_and(|peer| peer.id == *node)
            && (!roles.is_home && !self.cluster.may_have_joined() || self.is_warm() && self.cluster.is_whole(slot))
    }

    fn knows_of_older_copies(&self) -> bool {
        self.cluster.knows_of_older_copies()
    }

    fn hear_trust(&self, word: Option<Word>) {
        // A row of an earlier life says nothing of who has come back, which is empty until its own row says otherwise.
        let is_warm = |row: &Row| row.warm && row.generation >= self.speaker.generation;
        let is_warm = self.cluster.topology().rows.get(&self.speaker.node).is_some_and(is_warm);
        self.peers.hear_trust(self.speaker, word, is_warm);
    }
}

/// Shakes hands with a peer.
async fn meet(node: Arc<Node>, mut stream: TcpStream) {
    // A peer whose machine is gone says nothing any more, and its connections must not stay for ever.
    let keepalive = TcpKeepalive::new().with_time(PEER_KEEPALIVE).with_interval(PEER_KEEPALIVE).with_retries(3);
    if stream.set_nodelay(true).is_err() || keep_alive(&stream, &keepalive).is_err() {
        return;
    }
    let handshake = accept(&mut stream, &node.shared.hello, &node.shared.secret);
    let hello = match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            node.refused.note(stream.peer_addr().ok(), &error, &node.shared.node.metrics);
            return;
        }
        Err(_) => return,
    };
    tokio::task::spawn_local(serve(node, stream, hello));
}

/// Gives a peer's connection to whoever serves its kind.
async fn serve(node: Arc<Node>, stream: TcpStream, hello: Hello) {
    let cluster = node.cluster.clone();
    // Who was away for long has no connection left: it learns it before it answers on a new one.
    cluster.look_at_absence();
    match hello.kind {
        LinkKind::Control => cluster.serve_control(stream, hello).await,
        LinkKind::PubSub => {
            let reason = pubsub::link::receive(node.shared.node.pubsub.clone(), hello.node, stream).await;
            tracing::debug!(node = %hello.node, %reason, "a peer's publish link ended");
        }
        LinkKind::Replica { lane } => {
            let Ok(stream) = stream.into_std() else { return };
            let (shared, peers, speaker) =
                (node.shared.clone(), node.peers.clone(), node.peers.meet(hello.node, hello.generation, lane));
            let host = Arc::new(ReplicaHost { shared, cluster, peers, speaker });
            node.workers.give(usize::from(lane), Work::Replica { stream, hello, host });
        }
        LinkKind::Forward => {
            let (Ok(addr), Ok(laddr)) = (stream.peer_addr(), stream.local_addr()) else { return };
            let Ok(stream) = stream.into_std() else { return };
            let now_ms = node.shared.node.store.clock.now_ms();
            let registration = node.peer_clients.register(addr, laddr, now_ms);
            let (worker, load) = node.workers.deal();
            node.workers.give(worker, Work::Forward { stream, hello, registration, load });
        }
    }
}
