//! `rondo dev`: a whole cluster on this machine, for as long as it runs.
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | what is going to be started: ports and command lines, pure |
//! | `node` | one child process: started, asked, stopped |
//! | `dir` | the temporary directory: the nodes' logs and ids |
//! | `show` | what is printed: the table, lines to paste, ends of nodes |
//!
//! Each node is a child process, a real `rondo server` with ports of its own, so that `kill -9` on one of them means
//! what it means in production. Before anything starts, the options are checked and every port is tried. The children
//! share a cluster secret, a random one unless `RONDO_CLUSTER_SECRET` is set, given in their environment, where other
//! users of the machine cannot see it. When all of them are ready, a table and lines to paste are printed; after that a
//! node that ends is reported in one line, and with `--restart` or at SIGUSR1 started again.
//!
//! Ctrl-C, SIGTERM and SIGHUP stop the children: SIGTERM, and SIGKILL for those that take too long or when asked again.
//! No child outlives this process, see [`node`].
//!
//! Data lives in the nodes' memory only. Their logs and ids are in a temporary directory, which goes with them unless a
//! node ended that nobody had told to: then it stays and is named, for the log that may say why. What a killed `rondo
//! dev` has left there the next one removes, see [`dir`].

mod dir;
mod plan;
mod node;
mod show;

use super::{Failure, flags, server};
use crate::base::config::{Settings, Sources};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use dir::Dir;
use node::{Ended, Node, last_lines};
use plan::{NODES_MAX, NodePlan};
use rustix::process::Signal;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Time for all nodes to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a node is asked whether it is ready.
const READY_PAUSE: Duration = Duration::from_millis(50);
/// Time for a child to stop after SIGTERM, above its own `shutdown-timeout`.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// What comes within so long of the signal that stops the nodes is the same wish: whoever passes Ctrl-C on to a child
/// (`timeout`, `npm`) sends it to one that has had it from the terminal.
const SAME_WISH: Duration = Duration::from_millis(500);
/// Pause before a node is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Lines of a node's log that are shown when it did not start.
const LOG_LINES: usize = 12;

/// Options that every node has a value of its own for.
const OWN: [&str; 8] = ["port", "cluster-port", "admin-port", "peer-port", "join", "data-dir", "node-name", "logfile"];

const EXAMPLES: &str = "\
Every option of a node may be given (see rondo server --help), by a flag or in the environment, and goes to all of \
them, but for ports, logfile and others that each node has its own of.

Examples:
  rondo dev --nodes 5 --port 7001
  rondo dev --maxmemory 100mb --maxmemory-policy allkeys-lru --restart";

/// The command with its flags.
pub fn command() -> Command {
    let options = flags::of_table(&["port"]);
    Command::new("dev")
        .about("Start a cluster on this machine, until Ctrl-C")
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("N")
                .default_value("3")
                .value_parser(value_parser!(u16).range(1..=i64::from(NODES_MAX)))
                .help("Nodes to start"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .default_value("6379")
                .value_parser(value_parser!(u16).range(1..))
                .help("Port of the first node; the others follow, their other ports at the usual offsets"),
        )
        .arg(Arg::new("restart").long("restart").action(ArgAction::SetTrue).help("Start a node again that ends"))
        .args(options.into_iter().map(|option| option.hide(true)))
        .after_help(EXAMPLES)
}

/// Starts the cluster, watches it, and stops it.
pub fn run(matches: &ArgMatches, mut mistakes: Vec<String>) -> Result<(), Failure> {
    let count = matches.get_one::<u16>("nodes").copied().unwrap_or(3);
    let port = matches.get_one::<u16>("port").copied().unwrap_or(6379);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let is_refused = |(name, _): &(String, Vec<String>)| name == plan::SECRET || OWN.contains(&name.as_str());
    let (refused, given): (Vec<_>, Vec<_>) = flags::given(matches).into_iter().partition(is_refused);
    mistakes.extend(refused.iter().map(|(name, _)| plan::why_refused(name)));
    let environment = server::environment();
    mistakes.extend(plan::refused_environment(&environment, &OWN));
    let options = plan::with_defaults(given, &environment, count, processors);
    let sources = Sources { env: environment, flags: options.clone(), ..Sources::default() };
    let (config, _) = server::configure(&sources, mistakes)?;
    let settings = Settings::clone(&config.settings());
    let plans = plan::nodes(count, port).map_err(|error| Failure::Usage(vec![error.to_string()]))?;
    let taken = taken_ports(&plans, &settings);
    if !taken.is_empty() {
        return Err(Failure::Failed(taken.join("\nerror: ")));
    }
    let dir = Dir::make().map_err(|error| Failure::Failed(format!("cannot make a temporary directory: {error}")))?;
    let (ended, endings) = mpsc::unbounded_channel();
    let restart = matches.get_flag("restart");
    let secret = match settings.cluster_secret.is_empty() {
        true => format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()),
        false => settings.cluster_secret.clone(),
    };
    let dev =
        Dev { plans, options, settings, dir, restart, secret, nodes: Vec::new(), has_lost_one: false, ended, endings };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(error.to_string()))?.block_on(dev.run())
}

/// The cluster.
struct Dev {
    plans: Vec<NodePlan>,
    options: Vec<(String, Vec<String>)>,
    /// What a node makes of the options, its own ports aside.
    settings: Settings,
    dir: Dir,
    restart: bool,
    secret: String,
    nodes: Vec<Node>,
    /// Whether a node has ended by itself, or did not when it was told to: then its log says more.
    has_lost_one: bool,
    ended: mpsc::UnboundedSender<Ended>,
    endings: mpsc::UnboundedReceiver<Ended>,
}

impl Dev {
    async fn run(mut self) -> Result<(), Failure> {
        let mut stop = stop_signals().map_err(|error| Failure::Failed(error.to_string()))?;
        let outcome = tokio::select! {
            outcome = self.serve() => outcome,
            _ = stop.recv() => {
                show::say("\nstopping ...");
                Ok(())
            }
        };
        self.stop(&mut stop).await;
        self.clear_up();
        outcome
    }

    /// Removes the logs, unless one may be wanted.
    fn clear_up(&self) {
        if self.has_lost_one {
            _ = self.dir.keep();
            show::say(&format!("the logs are in {}", self.dir.path().display()));
        } else if let Err(error) = self.dir.remove() {
            show::say(&format!("cannot remove {}: {error}", self.dir.path().display()));
        }
    }

    /// Ends only when there is nothing left to do.
    async fn serve(&mut self) -> Result<(), Failure> {
        show::say(&format!("starting {} ...", show::count(self.plans.len(), "node", "nodes")));
        for plan in self.plans.clone() {
            self.start(&plan, false)?;
        }
        self.until_ready().await?;
        show::cluster(&self.nodes, &self.settings, self.host(), self.dir.path());
        self.watch().await
    }

    fn start(&mut self, plan: &NodePlan, again: bool) -> Result<(), Failure> {
        let host = self.host().to_string();
        let arguments = plan::arguments(&self.plans, plan, again, &host, self.dir.path(), &self.options);
        let node = Node::start(plan, &arguments, &self.secret, &self.log(plan.number), self.ended.clone());
        let node = node.map_err(|error| Failure::Failed(format!("cannot start node {}: {error}", plan.number)))?;
        self.nodes.retain(|known| known.plan.number != plan.number);
        self.nodes.push(node);
        self.nodes.sort_by_key(|node| node.plan.number);
        Ok(())
    }

    async fn until_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut waiting = 0;
        while let Some(node) = self.nodes.get(waiting) {
            let number = node.plan.number;
            let answer = tokio::select! {
                answer = node.ready(self.host()) => answer,
                Some((number, status)) = self.endings.recv() => {
                    self.has_ended(number);
                    return Err(self.did_not_start(number, &show::ending(&status)));
                }
            };
            match answer {
                Ok(()) => waiting += 1,
                Err(reason) if Instant::now() >= deadline => {
                    let waited = READY_TIMEOUT.as_secs();
                    return Err(self.did_not_start(number, &format!("is not ready after {waited} s: {reason}")));
                }
                Err(_) => tokio::time::sleep(READY_PAUSE).await,
            }
        }
        Ok(())
    }

    /// Notes that a node has ended; whether it was to is for the caller to know.
    fn has_ended(&mut self, number: u16) {
        self.nodes.iter_mut().filter(|node| node.plan.number == number).for_each(|node| node.running = false);
    }

    fn did_not_start(&mut self, number: u16, what: &str) -> Failure {
        self.has_lost_one = true;
        let log = self.log(number);
        let lines = last_lines(&log, LOG_LINES);
        Failure::Failed(format!("node {number} {what}; the end of {}:\n{lines}", log.display()))
    }

    /// Reports nodes that end, and starts them again if that is wanted, or when SIGUSR1 asks for it.
    async fn watch(&mut self) -> Result<(), Failure> {
        let mut wishes = signal(SignalKind::user_defined1()).map_err(|error| Failure::Failed(error.to_string()))?;
        loop {
            let (number, status) = tokio::select! {
                Some(ended) = self.endings.recv() => ended,
                _ = wishes.recv() => {
                    self.start_ended()?;
                    continue;
                }
            };
            self.has_ended(number);
            self.has_lost_one |= !show::was_told_to_end(&status);
            let Some(node) = self.nodes.iter().find(|node| node.plan.number == number) else { continue };
            let (plan, pid) = (node.plan.clone(), node.pid);
            let left = self.nodes.iter().filter(|node| node.running).count();
            let what = show::ending(&status);
            let port = plan.ports.port;
            let all = self.nodes.len();
            let hint = match self.restart || left == 0 {
                true => String::new(),
                false => format!("; to start it again: kill -USR1 {}", std::process::id()),
            };
            show::say(&format!("node {number} (port {port}, pid {pid}) {what}; {left} of {all} left{hint}"));
            if self.restart {
                tokio::time::sleep(RESTART_PAUSE).await;
                self.start_again(&plan)?;
            } else if left == 0 {
                return Err(Failure::Failed("no node is left".into()));
            }
        }
    }

    /// Starts a node that has ended, and says so.
    fn start_again(&mut self, plan: &NodePlan) -> Result<(), Failure> {
        self.start(plan, true)?;
        let (number, port) = (plan.number, plan.ports.port);
        let pid = self.nodes.iter().find(|node| node.plan.number == number).map_or(0, |node| node.pid);
        show::say(&format!("node {number} (port {port}) started again, pid {pid}"));
        Ok(())
    }

    /// Starts all nodes again that have ended.
    fn start_ended(&mut self) -> Result<(), Failure> {
        let ended = self.nodes.iter().filter(|node| !node.running).map(|node| node.plan.clone());
        let ended: Vec<NodePlan> = ended.collect();
        ended.iter().try_for_each(|plan| self.start_again(plan))
    }

    /// Ends every child and waits for it; a second signal ends the patience.
    async fn stop(&mut self, stop: &mut mpsc::Receiver<()>) {
        self.nodes.iter().for_each(|node| node.signal(Signal::TERM));
        let patience = Duration::from_secs(self.settings.shutdown_timeout_s) + STOP_GRACE;
        let told = Instant::now();
        let deadline = told + patience;
        let mut killed = false;
        while self.nodes.iter().any(|node| node.running) {
            tokio::select! {
                Some((number, _)) = self.endings.recv() => {
                    self.has_ended(number);
                    continue;
                }
                _ = stop.recv(), if !killed => {
                    if told.elapsed() < SAME_WISH {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(deadline), if !killed => {}
            }
            (killed, self.has_lost_one) = (true, true);
            self.nodes.iter().for_each(|node| node.signal(Signal::KILL));
        }
    }

    fn log(&self, number: u16) -> PathBuf {
        self.dir.path().join(format!("node-{number}.log"))
    }

    /// The address of this machine at which the nodes are reached.
    fn host(&self) -> IpAddr {
        let addresses: Vec<IpAddr> = self.settings.bind.iter().map(|bind| bind.ip).collect();
        let loopback = addresses.iter().find(|ip| ip.is_loopback());
        let any = addresses.iter().any(IpAddr::is_unspecified);
        match (loopback, addresses.first()) {
            (Some(ip), _) => *ip,
            (None, Some(ip)) if !any => *ip,
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// SIGINT, SIGTERM and SIGHUP as one stream.
fn stop_signals() -> io::Result<mpsc::Receiver<()>> {
    let (told, stop) = mpsc::channel(8);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signals, told) = (signal(kind)?, told.clone());
        tokio::spawn(async move { while signals.recv().await.is_some() && told.send(()).await.is_ok() {} });
    }
    Ok(stop)
}

/// A line for every port that cannot be listened on.
fn taken_ports(plans: &[NodePlan], settings: &Settings) -> Vec<String> {
    let mut taken = Vec::new();
    for plan in plans {
        for (option, port) in plan.ports.named() {
            for bind in &settings.bind {
                let address = SocketAddr::new(bind.ip, port);
                let tcp = TcpListener::bind(address).map(drop);
                let tried =
                    tcp.and_then(|()| if option == "peer-port" { UdpSocket::bind(address).map(drop) } else { Ok(()) });
                match tried {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        taken.push(format!("port {port} ({option} of node {}) is taken", plan.number));
                        break;
                    }
                    Err(error) if !bind.optional => {
                        taken.push(format!("cannot listen on {address} ({option} of node {}): {error}", plan.number));
                        break;
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
    }
    taken
}
