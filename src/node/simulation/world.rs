//! Hosts, and the time that they live in.
//!
//! Every host is a runtime. [`World::run_until`] moves the time to the next moment at which something is due, on the
//! network or by a host's timers, and lets each host that it concerns have a turn, which lasts until the host has
//! nothing more to do and takes no time. Hosts due at the same moment take turns in an order that is drawn.
//!
//! A host that is frozen gets no turn: that is SIGSTOP. Whose life ends loses all its memory and sockets at once: that
//! is kill -9. A node that was told to leave ends in the same way as soon as it has handed over, as its process does.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::LocalSet;

use super::os;
use crate::base::config::{Config, Sources, load};
use crate::base::net::TcpListener;
use crate::base::net::simulated::{self, Listener, Network};
use crate::cluster::{Portion, identity};
use crate::node::listen::Port;
use crate::node::{Node, assemble, drain, start, workers};

/// How long a node may take to leave, in seconds: no story ends it early.
const SHUTDOWN_TIMEOUT_S: &str = "86400";
/// Where every node listens.
pub const PORT: u16 = 6_379;
const CLUSTER_PORT: u16 = 7_379;
const PEER_PORT: u16 = 16_379;

/// One life of a host.
struct Life {
    // Before the runtime, which its tasks belong to.
    local: LocalSet,
    runtime: Runtime,
    node: Option<Arc<Node>>,
    /// Set when the node has left the cluster.
    has_left: Rc<Cell<bool>>,
}

/// See the head of the file.
struct Host {
    ip: IpAddr,
    life: Option<Life>,
    /// How far its wall clock is ahead, in microseconds.
    ahead_us: i64,
    is_frozen: bool,
    /// True from a node's first life until it has left.
    is_member: bool,
    /// When its next timer is due.
    due_us: u64,
}

/// See the head of the file.
pub struct World {
    /// Random numbers of whoever decides about the world.
    pub draws: SmallRng,
    now_us: u64,
    hosts: Vec<Host>,
    options: Vec<(String, String)>,
    turns: u64,
}

/// The address of a node, counted from 0.
pub fn ip_of(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, node as u8 + 1))
}

impl World {
    /// A world for so many nodes, none of which lives yet, and a host for clients; every node gets these options.
    pub fn new(draws: SmallRng, seed: u64, nodes: usize, options: &[(&str, &str)]) -> World {
        simulated::install(Network::new(seed ^ 0x6e65_7477));
        let join: Vec<String> = (0..nodes).map(|node| format!("{}:{PEER_PORT}", ip_of(node))).collect();
        let mut all = vec![("join".to_owned(), join.join(","))];
        all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let host = |node| Host {
            ip: ip_of(node),
            life: None,
            ahead_us: 0,
            is_frozen: false,
            is_member: false,
            due_us: u64::MAX,
        };
        let hosts = (0..=nodes).map(host).collect();
        World { draws, now_us: 0, hosts, options: all, turns: 0 }
    }

    /// The random numbers that a seed's world begins with.
    pub fn draws_of(seed: u64) -> SmallRng {
        SmallRng::seed_from_u64(seed)
    }

    /// Microseconds since the beginning.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Turns taken so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// How many nodes there may be.
    pub fn nodes(&self) -> usize {
        self.hosts.len() - 1
    }

    /// The nodes that are, or are about to be, members of the cluster, also when they do not live at the moment.
    pub fn members(&self) -> Vec<usize> {
        (0..self.nodes()).filter(|node| self.hosts[*node].is_member).collect()
    }

    /// Sets how far a node's wall clock is ahead.
    pub fn set_ahead(&mut self, node: usize, ahead_us: i64) {
        self.hosts[node].ahead_us = ahead_us;
    }

    /// The parts of a node that lives.
    pub fn node(&self, node: usize) -> Option<&Arc<Node>> {
        self.hosts[node].life.as_ref()?.node.as_ref()
    }

    /// Begins a life of a node, with nothing in its memory.
    pub fn start_node(&mut self, node: usize) {
        self.hosts[node].is_member = true;
        let ip = self.hosts[node].ip;
        let mut options = self.options.clone();
        let fixed = [("port", PORT), ("cluster-port", CLUSTER_PORT), ("peer-port", PEER_PORT), ("admin-port", 0)];
        options.extend(fixed.map(|(name, port)| (name.to_owned(), port.to_string())));
        let others =
            [("bind", ip.to_string()), ("workers", "1".into()), ("shutdown-timeout", SHUTDOWN_TIMEOUT_S.into())];
        options.extend(others.map(|(name, it)| (name.to_owned(), it)));
        let flags = options.into_iter().map(|(name, value)| (name, vec![value])).collect();
        let loaded = load(&Sources { flags, ..Sources::default() }, &|_| Ok(String::new())).expect("good options");
        let config = Arc::new(Config::new(loaded).expect("options that fit together"));
        let node_of_life = self.begin(node, async move {
            let identity = identity::load_or_derive(&config.settings()).expect("an identity");
            let shared = assemble(&config, &identity);
            let mut all = workers::Workers::default();
            let receiver = all.add();
            tokio::task::spawn_local(workers::run(0, shared.clone(), receiver));
            let ports = [(PORT, Port::Standalone), (CLUSTER_PORT, Port::Cluster), (PEER_PORT, Port::Peer)];
            let listen = |(number, port)| {
                let listener = Listener::bind(SocketAddr::new(ip, number)).expect("a free port");
                (TcpListener::Simulated(listener), port)
            };
            start(config, identity, shared, all, ports.map(listen).into(), &Handle::current(), Portion::merge)
                .expect("a node")
        });
        if let Some(life) = &mut self.hosts[node].life {
            life.node = Some(node_of_life);
        }
    }

    /// Tells a node to leave the cluster and to end, as SIGTERM does; nothing when it does not live.
    pub fn leave(&mut self, node: usize) {
        let Some(Life { local, node: Some(parts), has_left, .. }) = &self.hosts[node].life else { return };
        let (parts, has_left) = (parts.clone(), has_left.clone());
        drop(local.spawn_local(async move {
            drain::leave(&parts).await;
            has_left.set(true);
        }));
        self.hosts[node].due_us = self.now_us;
    }

    /// Has the clients' host begin to do this.
    pub fn start_clients(&mut self, clients: impl Future<Output = ()> + 'static) {
        let host = self.nodes();
        self.begin(host, async move { drop(tokio::task::spawn_local(clients)) });
    }

    /// Begins a life that starts with `first`.
    fn begin<T>(&mut self, host: usize, first: impl Future<Output = T>) -> T {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().expect("a runtime");
        let local = LocalSet::new();
        self.enter(host);
        let value = runtime.block_on(local.run_until(first));
        simulated::enter(None);
        self.hosts[host].life = Some(Life { local, runtime, node: None, has_left: Rc::default() });
        self.hosts[host].due_us = self.now_us;
        value
    }

    /// Ends a life without a word.
    pub fn kill(&mut self, host: usize) {
        self.enter(host);
        if let Some(Life { local, runtime, node, .. }) = self.hosts[host].life.take() {
            let guard = runtime.enter();
            drop(node);
            drop(local);
            drop(guard);
            drop(runtime);
        }
        simulated::enter(None);
        self.hosts[host].due_us = u64::MAX;
        self.hosts[host].is_frozen = false;
    }

    /// Freezes a node, or lets it go on.
    pub fn freeze(&mut self, node: usize, is_frozen: bool) {
        self.hosts[node].is_frozen = is_frozen;
        if !is_frozen {
            self.hosts[node].due_us = self.now_us;
        }
    }

    fn enter(&self, host: usize) {
        simulated::enter(Some(self.hosts[host].ip));
        os::set_now(self.now_us, self.hosts[host].ahead_us);
    }

    /// Lets everything happen that happens until then.
    pub fn run_until(&mut self, until_us: u64) {
        loop {
            let awake = self.hosts.iter().filter(|host| host.life.is_some() && !host.is_frozen);
            let due_us = awake.map(|host| host.due_us).chain(simulated::with(|network| network.next_due_us())).min();
            let Some(next_us) = due_us.filter(|due_us| *due_us <= until_us) else { break };
            self.now_us = self.now_us.max(next_us);
            os::set_now(self.now_us, 0);
            let touched = simulated::with(|network| network.advance(self.now_us));
            let first = self.draws.random_range(0..self.hosts.len());
            for at in 0..self.hosts.len() {
                let at = (first + at) % self.hosts.len();
                let host = &mut self.hosts[at];
                if touched.contains(&host.ip) {
                    host.due_us = host.due_us.min(self.now_us);
                }
                if host.due_us <= self.now_us && host.life.is_some() && !host.is_frozen {
                    self.turn(at);
                }
            }
        }
        self.now_us = self.now_us.max(until_us);
        os::set_now(self.now_us, 0);
    }

    fn turn(&mut self, host: usize) {
        self.enter(host);
        self.turns += 1;
        if let Some(life) = &self.hosts[host].life {
            let due_us = life.runtime.block_on(life.local.run_until(os::turn()));
            let has_left = life.has_left.get();
            self.hosts[host].due_us = due_us.max(self.now_us + 1);
            if has_left {
                self.hosts[host].is_member = false;
                self.kill(host);
            }
        }
        simulated::enter(None);
    }
}
