//! What `rondo dev` is going to start: ports and command lines. Pure.

use crate::base::config::{PeerAddr, Ports, QuorumMode, Settings, env_name, workers_for};
use std::path::Path;

/// Most nodes on one machine: beyond that, ports of one node meet those of another.
pub const NODES_MAX: u16 = 64;

/// Nodes that cannot be laid out. The caller's fault; nothing was started.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// The derived ports of the last node do not exist.
    #[error("--port {port} is too high: the peer port of node {node} would be above 65535")]
    PortTooHigh {
        /// The first node's port.
        port: u16,
        /// The node, counted from one.
        node: u16,
    },
}

/// One node to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePlan {
    /// Counted from one.
    pub number: u16,
    /// Its ports, all derived from the first.
    pub ports: Ports,
}

/// The nodes: `port`, `port + 1`, and so on, each with its other ports at their offsets.
pub fn nodes(count: u16, port: u16) -> Result<Vec<NodePlan>, PlanError> {
    let plan = |i: u16| {
        let ports = port.checked_add(i).and_then(Ports::derived_from);
        let number = i + 1;
        ports.map(|ports| NodePlan { number, ports }).ok_or(PlanError::PortTooHigh { port, node: number })
    };
    (0..count).map(plan).collect()
}

/// The arguments that start a node. On the first start the first node founds the cluster and the others join it; a node
/// that is started again joins whoever is left.
pub fn arguments(
    all: &[NodePlan],
    node: &NodePlan,
    again: bool,
    host: &str,
    data_dir: &Path,
    options: &[(String, Vec<String>)],
) -> Vec<String> {
    let others = all.iter().filter(|other| other.number != node.number && (again || other.number == 1));
    let founds = !again && node.number == 1;
    let peer = |other: &NodePlan| PeerAddr { host: host.to_owned(), port: other.ports.peer }.to_string();
    let join = if founds { String::new() } else { others.map(peer).collect::<Vec<_>>().join(",") };
    let mut arguments = vec!["server".to_owned(), format!("--{}", crate::cli::server::STOP_WITH_PARENT)];
    for (name, words) in options {
        arguments.push(format!("--{name}"));
        arguments.extend(words.iter().cloned());
    }
    for (name, port) in node.ports.named() {
        arguments.extend([format!("--{name}"), port.to_string()]);
    }
    let data_dir = data_dir.join(format!("node-{}", node.number)).display().to_string();
    let name = format!("node-{}", node.number);
    arguments.extend(["--join".into(), join, "--data-dir".into(), data_dir, "--node-name".into(), name]);
    arguments
}

/// What the environment asks of every node that each has a value of its own for, a line each. It would be passed over,
/// and one file would hold the logs of all.
pub fn refused_environment(environment: &[(String, String)], own: &[&str]) -> Vec<String> {
    let is_own = |variable: &str| own.iter().any(|option| env_name(option) == variable);
    let refused = environment.iter().filter(|(variable, value)| !value.is_empty() && is_own(variable));
    refused
        .map(|(variable, _)| format!("environment variable {variable}: each node of rondo dev has its own, unset it"))
        .collect()
}

/// The option that is taken from the environment alone: everybody can read the flags of a process.
pub const SECRET: &str = "cluster-secret";

/// Why a flag of a node is none of `rondo dev`.
pub fn why_refused(flag: &str) -> String {
    match flag {
        SECRET => format!("command line: --{flag}: give {} instead, which nobody else can read", env_name(flag)),
        _ => format!("command line: --{flag}: each node of rondo dev has its own, leave it out"),
    }
}

/// The options that every node gets unless the caller gave others, by flags or in the environment: threads shared out,
/// and little time to stop, because all nodes stop together and there is nobody to hand anything over to.
pub fn with_defaults(
    mut options: Vec<(String, Vec<String>)>,
    environment: &[(String, String)],
    nodes: u16,
    processors: usize,
) -> Vec<(String, Vec<String>)> {
    let workers = (workers_for(processors) / usize::from(nodes.max(1))).max(1);
    for (name, value) in [("workers", workers.to_string()), ("shutdown-timeout", "2".to_owned())] {
        let is_given = options.iter().any(|(given, _)| given == name);
        if !is_given && !environment.iter().any(|(variable, _)| *variable == env_name(name)) {
            options.push((name.to_owned(), vec![value]));
        }
    }
    options
}

/// What comes of the death of one of so many nodes.
pub fn after_a_death(nodes: usize, settings: &Settings) -> &'static str {
    let copies = settings.replicas.min(nodes);
    let quorum = settings.write_quorum.max(settings.read_quorum).min(nodes);
    let is_enough_left = match settings.quorum_mode {
        QuorumMode::Sloppy => quorum < nodes,
        // Only a key's own nodes count, and a majority of them at least.
        QuorumMode::Strict => quorum.max(copies / 2 + 1) < copies,
    };
    match is_enough_left {
        _ if copies == 1 => "a node dies, and what it held is gone",
        true => "a node dies; reads and writes go on",
        false => "a node dies; what needs it for a quorum is refused until it is back",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Config, Sources, load};

    #[test]
    fn what_a_death_is_said_to_do_is_what_quorums_allow() {
        let said = |nodes, options: &[(&str, &str)]| {
            let flags = options.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
            let loaded = load(&Sources { flags, ..Sources::default() }, &|_| Ok(String::new())).unwrap();
            after_a_death(nodes, &Config::new(loaded).unwrap().settings())
        };
        let goes_on = |nodes, options: &[(&str, &str)]| said(nodes, options).ends_with("go on");
        let strict = ("quorum-mode", "strict");
        assert!(goes_on(3, &[]) && goes_on(3, &[strict]) && goes_on(5, &[("write-quorum", "3")]));
        assert!(goes_on(2, &[("write-quorum", "1"), ("read-quorum", "1")]) && goes_on(3, &[("replicas", "2")]));
        assert!(!goes_on(2, &[]) && !goes_on(3, &[("write-quorum", "3")]) && !goes_on(3, &[("read-quorum", "3")]));
        assert!(!goes_on(5, &[strict, ("write-quorum", "3")]) && !goes_on(3, &[strict, ("replicas", "2")]));
        let single = [("replicas", "1"), ("write-quorum", "1"), ("read-quorum", "1")];
        assert!(said(3, &single).ends_with("is gone"));
    }

    #[test]
    fn nodes_differ_by_one_in_every_port_and_never_meet() {
        let nodes = nodes(NODES_MAX, 6379).unwrap();
        let all: std::collections::BTreeSet<u16> =
            nodes.iter().flat_map(|node| node.ports.named()).map(|(_, port)| port).collect();
        assert_eq!(all.len(), 4 * usize::from(NODES_MAX));
        assert_eq!(nodes[2].ports, Ports { port: 6381, cluster: 7381, admin: 9381, peer: 16381 });
    }

    #[test]
    fn ports_that_do_not_exist_are_named() {
        assert_eq!(nodes(3, 55_534), Err(PlanError::PortTooHigh { port: 55_534, node: 3 }));
        assert!(nodes(2, 55_534).is_ok());
    }

    #[test]
    fn the_first_node_founds_and_the_others_join() {
        let all = nodes(3, 6379).unwrap();
        let join = |node: usize, again: bool| {
            let arguments = arguments(&all, &all[node], again, "::1", Path::new("d"), &[]);
            let at = arguments.iter().position(|word| word == "--join").unwrap();
            arguments[at + 1].clone()
        };
        assert_eq!(join(0, false), "");
        assert_eq!(join(2, false), "[::1]:16379");
        assert_eq!(join(0, true), "[::1]:16380,[::1]:16381");
    }

    #[test]
    fn threads_are_shared_out_unless_given() {
        let words = |options: Vec<(String, Vec<String>)>| {
            options.into_iter().map(|(name, words)| format!("{name} {}", words[0])).collect::<Vec<_>>()
        };
        assert_eq!(words(with_defaults(vec![], &[], 3, 16)), ["workers 5", "shutdown-timeout 2"]);
        assert_eq!(words(with_defaults(vec![], &[], 3, 2)), ["workers 1", "shutdown-timeout 2"]);
        let given = vec![("workers".to_owned(), vec!["7".to_owned()])];
        assert_eq!(words(with_defaults(given, &[], 3, 2)), ["workers 7", "shutdown-timeout 2"]);
        let environment = [("RONDO_WORKERS", "3"), ("RONDO_SHUTDOWN_TIMEOUT", "9"), ("RONDO_ZONE", "z")];
        let environment = environment.map(|(variable, value)| (variable.to_owned(), value.to_owned()));
        assert_eq!(words(with_defaults(vec![], &environment[..1], 3, 2)), ["shutdown-timeout 2"]);
        assert!(with_defaults(vec![], &environment, 3, 2).is_empty());
    }
}
