//! A request is counted once and timed once, however often it is tried, and whoever runs it in the end.

use std::time::Duration;

use crate::support::cluster::{Cluster, Node};
use crate::support::wait_for;

/// How often commands of this class have been timed.
fn timed(node: &Node, class: &str) -> f64 {
    node.metric(&format!("rondo_command_latency_seconds_count{{class=\"{class}\"}}")).expect("a metric")
}

/// How often commands of this name have been counted.
fn counted(node: &Node, command: &str) -> f64 {
    node.metric(&format!("rondo_commands_total{{command=\"{command}\"}}")).unwrap_or(0.0)
}

#[test]
fn a_request_that_waits_in_vain_for_a_dead_node_is_counted_once() {
    let mut cluster = Cluster::start(2, &["--replicas", "2"]);
    cluster.nodes[1].kill();
    let node = &cluster.nodes[0];
    let mut client = node.client();
    let refused = (0..2).filter(|n| client.run(&format!("SET k{n} v")).is_error()).count();
    assert_eq!((refused, counted(node, "set"), timed(node, "write")), (2, 2.0, 2.0));
}

#[test]
fn what_runs_alone_or_at_several_coordinators_is_timed_as_well() {
    let cluster = Cluster::start(3, &[]);
    let node = &cluster.nodes[0];
    let mut client = node.client();
    let keys = |n: usize| (0..n).map(|n| format!(" k{n}")).collect::<String>();
    let (reads, writes) = (timed(node, "read"), timed(node, "write"));
    assert!(!client.run(&format!("MSET{}", (0..9).map(|n| format!(" k{n} v")).collect::<String>())).is_error());
    assert_eq!(client.run(&format!("DEL{}", keys(9))).int(), Some(9));
    assert!(!client.run(&format!("MGET{}", keys(9))).is_error() && !client.run("SUNION a b c d").is_error());
    assert_eq!(client.run("DBSIZE").int(), Some(0));
    // The page may be older than the last reply by a moment.
    let all = || (timed(node, "read") - reads, timed(node, "write") - writes);
    let seen = wait_for(Duration::from_secs(5), || (all() == (3.0, 2.0)).then(all));
    assert!(seen.is_some(), "{:?}", all());
}
