//! One or more rondo nodes, as processes of this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::client::{Client, http_get_from};
use super::ports::free_port;
use super::process::Process;
use super::wait_for;

/// How long a server may take until it answers; generous, since the machine may be busy.
const START: Duration = Duration::from_secs(60);

const SECRET: &str = "only-for-tests";

/// One rondo node: its ports stay the same over restarts, its process may be absent.
pub struct Node {
    pub name: String,
    pub ip: IpAddr,
    pub port: u16,
    pub cluster_port: u16,
    pub peer_port: u16,
    pub admin_port: u16,
    /// The network namespace that it lives in, when not this one.
    pub netns: Option<String>,
    /// Its soft and hard limit of open files, when not those of this process.
    pub files_max: Option<(u32, u32)>,
    pub process: Option<Process>,
    options: Vec<String>,
    log: PathBuf,
}

/// Whether a probe of an admin port answers with 200.
pub fn is_probed_well(addr: SocketAddr, path: &str) -> bool {
    http_get_from(addr, path).is_some_and(|(status, _)| status == 200)
}

impl Node {
    pub fn new(name: &str, dir: &std::path::Path, options: &[&str]) -> Node {
        Node {
            name: name.to_owned(),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: free_port(),
            cluster_port: free_port(),
            peer_port: free_port(),
            admin_port: free_port(),
            netns: None,
            files_max: None,
            process: None,
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            log: std::env::var_os("RONDO_TEST_LOGS").map_or(dir.to_owned(), PathBuf::from).join(format!("{name}.log")),
        }
    }

    /// Starts the process and returns at once; `join` are peer addresses of other members.
    pub fn start(&mut self, join: &[String]) {
        // A release build, when pauses are to be measured.
        let rondo = std::env::var("RONDO_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_rondo").to_owned());
        let mut command = match (&self.netns, self.files_max) {
            (Some(netns), _) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns, &rondo]);
                command
            }
            (None, Some((soft, hard))) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={soft}:{hard}")).arg(&rondo);
                command
            }
            (None, None) => Command::new(&rondo),
        };
        // Variables that are for the tests would be taken for options.
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RONDO_")).for_each(|(name, _)| {
            command.env_remove(name);
        });
        command.arg("server").env("RONDO_CLUSTER_SECRET", SECRET);
        let ports = [
            ("--port", self.port),
            ("--cluster-port", self.cluster_port),
            ("--peer-port", self.peer_port),
            ("--admin-port", self.admin_port),
        ];
        for (flag, port) in ports {
            command.arg(flag).arg(port.to_string());
        }
        if !self.options.iter().any(|option| option == "--workers") {
            command.args(["--workers", "1"]);
        }
        if !join.is_empty() {
            command.arg("--join").arg(join.join(","));
        }
        command.args(&self.options);
        self.process = Some(Process::start(&self.name, command, &self.log));
    }

    pub fn add_options(&mut self, options: &[&str]) {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
    }

    pub fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    pub fn is_ready(&self) -> bool {
        is_probed_well(self.addr(self.admin_port), "/readyz")
    }

    pub fn must_be_ready(&mut self) {
        let addr = self.addr(self.admin_port);
        let ready = || is_probed_well(addr, "/readyz");
        self.process.as_mut().expect("a started node").must("being ready", START, ready);
    }

    /// The sum of the metrics whose name and labels start with `prefix`; `None` when the node does not answer.
    pub fn metric(&self, prefix: &str) -> Option<f64> {
        let (_, page) = http_get_from(self.addr(self.admin_port), "/metrics")?;
        let values = page.lines().filter(|line| line.starts_with(prefix)).filter_map(|line| line.rsplit_once(' '));
        Some(values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum())
    }

    pub fn client(&self) -> Client {
        self.try_client(Duration::from_secs(20)).unwrap_or_else(|e| panic!("no connection to {}: {e}", self.name))
    }

    pub fn try_client(&self, timeout: Duration) -> std::io::Result<Client> {
        Client::connect_to(self.addr(self.port), timeout)
    }

    /// SIGTERM: it ends by itself in time, and may be started again.
    pub fn must_leave(&mut self, within: Duration) {
        let mut process = self.process.take().expect("a started node");
        assert!(process.terminate(within), "{} does not end", self.name);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take();
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("a started node")
    }
}

/// Some nodes that know each other.
pub struct Cluster {
    pub nodes: Vec<Node>,
    options: Vec<String>,
    dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts `n` nodes and waits until each says that it is ready.
    pub fn start(n: usize, options: &[&str]) -> Cluster {
        Cluster::start_placed(n, options, |_, _| {})
    }

    /// As `start`, after `place` has changed where each node lives.
    pub fn start_placed(n: usize, options: &[&str], place: impl Fn(usize, &mut Node)) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut nodes: Vec<Node> = (0..n).map(|i| Node::new(&format!("node{i}"), dir.path(), options)).collect();
        nodes.iter_mut().enumerate().for_each(|(i, node)| place(i, node));
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let mut cluster = Cluster { nodes, options, dir };
        // The first founds the cluster; the others join through it.
        for i in 0..n {
            let join = cluster.join_addresses(i).into_iter().take(i).collect::<Vec<_>>();
            cluster.nodes[i].start(&join);
        }
        cluster.nodes.iter_mut().for_each(Node::must_be_ready);
        cluster.must_settle();
        cluster
    }

    /// Waits until every running node counts all running nodes as full members, finds none of them down, and has
    /// nothing left to hand over: so that the next fault is a single one.
    pub fn must_settle(&self) {
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.process.is_some()).collect();
        let settled = |node: &&Node| {
            node.is_ready()
                && node.metric("rondo_members{state=\"normal\"}") == Some(running.len() as f64)
                && node.metric("rondo_members_down") == Some(0.0)
                && node.metric("rondo_hints_pending ") == Some(0.0)
        };
        let all = wait_for(START, || running.iter().all(settled).then_some(()));
        let shown = |node: &&Node| {
            let names = ["rondo_members{state=\"normal\"}", "rondo_members_down", "rondo_hints_pending "];
            format!("{} ready {} {:?}", node.name, node.is_ready(), names.map(|name| node.metric(name)))
        };
        assert!(
            all.is_some(),
            "the cluster does not come to rest: {:#?}",
            running.iter().map(shown).collect::<Vec<_>>()
        );
    }

    /// The peer addresses of all members but `i`.
    pub fn join_addresses(&self, i: usize) -> Vec<String> {
        let others = self.nodes.iter().enumerate().filter(|(j, _)| *j != i);
        others.map(|(_, node)| node.addr(node.peer_port).to_string()).collect()
    }

    /// Starts a node that was killed again, empty, and returns at once.
    pub fn restart(&mut self, i: usize) {
        let join = self.join_addresses(i);
        self.nodes[i].start(&join);
    }

    /// Starts one node more, which joins through the others, and returns its index at once.
    pub fn add(&mut self) -> usize {
        let i = self.nodes.len();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let node = Node::new(&format!("node{i}"), self.dir.path(), &options);
        self.nodes.push(node);
        self.restart(i);
        i
    }

    /// Starts a node of these options alone, which this cluster does not count, and returns at once.
    pub fn start_beside(&self, name: &str, options: &[&str], join: &[String]) -> Node {
        let mut node = Node::new(name, self.dir.path(), options);
        node.start(join);
        node
    }

    /// How often nodes have found out that the machine gave them no turn for so long that others may have taken them
    /// for stopped.
    pub fn count_stops(&self) -> usize {
        self.nodes.iter().map(|node| node.process().count_in_log("this node was stopped")).sum()
    }

    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }
}
