//! A cluster of real processes, killed, paused, cut apart, grown and shrunk while clients work on it.
//!
//! The clients note what they were told (`load.rs`, `history.rs`), pure checkers compare that with what every node
//! reads afterwards (`checkers.rs`, `verdict.rs`). Pauses are measured and printed, never asserted: the machine may be
//! busy. What is asserted about time is only that things happen at all.
//!
//! Environment: `RONDO_FAULT_PAUSE_S` (how long a paused node sleeps; 5), `RONDO_FAULT_SECONDS` (how long clients work
//! around each fault; 2), `RONDO_FAULT_SEED`, `RONDO_TEST_BINARY` (a release build, to measure pauses),
//! `RONDO_TEST_LOGS` (a directory in which the nodes' logs stay). The tests run one after another: each needs the
//! machine for itself.

mod checkers;
mod growth;
mod history;
mod links;
mod load;
mod partitions;
mod probe;
#[path = "../support/mod.rs"]
mod support;
mod verdict;

use std::thread::sleep;
use std::time::Duration;

use load::{Load, Target};
use probe::Probe;
use support::cluster::{Cluster, Node};
use support::resp::Value;
use support::{alone, env_number, wait_for};

/// A generous bound on things that must happen at all.
const AT_ALL: Duration = Duration::from_secs(90);

fn work_for() -> Duration {
    Duration::from_secs(env_number("RONDO_FAULT_SECONDS", 2))
}

fn pause_for() -> Duration {
    Duration::from_secs(env_number("RONDO_FAULT_PAUSE_S", 5))
}

fn seed() -> u64 {
    env_number("RONDO_FAULT_SEED", u64::from(std::process::id()))
}

fn target(node: &Node) -> Target {
    (node.name.clone(), node.addr(node.port))
}

fn targets(nodes: &[Node]) -> Vec<Target> {
    nodes.iter().map(target).collect()
}

/// All but one.
fn without(everyone: &[Target], one: usize) -> Vec<Target> {
    everyone.iter().enumerate().filter(|(at, _)| *at != one).map(|(_, target)| target.clone()).collect()
}

#[test]
fn a_killed_node_loses_no_acknowledged_write() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    for dead in 0..3 {
        let everyone = targets(&cluster.nodes);
        let load = Load::start(seed(), &without(&everyone, dead));
        sleep(work_for());
        cluster.nodes[dead].kill();
        sleep(work_for());
        cluster.restart(dead);
        // From its first moment on, the empty node may refuse to answer but must not say that there is nothing.
        load.read_through(&everyone);
        cluster.nodes[dead].must_be_ready();
        sleep(work_for());
        load.write_through(&everyone);
        sleep(work_for());
        verdict::insist(&format!("node{dead} killed and restarted"), load, &everyone);
        cluster.must_settle();
        cluster.nodes[0].client().run("FLUSHALL");
    }
}

#[test]
fn a_paused_node_loses_nothing_and_brings_nothing_back() {
    let _alone = alone();
    let cluster = Cluster::start(3, &[]);
    let everyone = targets(&cluster.nodes);
    for paused in 0..2 {
        let load = Load::start(seed(), &without(&everyone, paused));
        sleep(work_for());
        cluster.nodes[paused].process().pause();
        sleep(pause_for());
        cluster.nodes[paused].process().resume();
        load.read_through(&everyone);
        sleep(work_for());
        load.write_through(&everyone);
        sleep(work_for());
        verdict::insist(&format!("node{paused} paused"), load, &everyone);
        cluster.must_settle();
        cluster.nodes[0].client().run("FLUSHALL");
    }
}

/// Every key goes on being read and written through the others; how long each paused is printed.
#[test]
fn no_key_is_out_of_use_while_a_node_is_down() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let everyone = targets(&cluster.nodes);
    let probe = Probe::start(&without(&everyone, 0));
    sleep(work_for());
    let from = probe.now();
    cluster.nodes[0].process().pause();
    sleep(pause_for());
    cluster.nodes[0].process().resume();
    let to = probe.now();
    sleep(work_for());
    probe.finish("node0 paused", from, to);
    cluster.must_settle();

    let probe = Probe::start(&without(&everyone, 1));
    sleep(work_for());
    let from = probe.now();
    cluster.nodes[1].kill();
    sleep(work_for());
    let to = probe.now();
    cluster.restart(1);
    cluster.nodes[1].must_be_ready();
    sleep(work_for());
    probe.finish("node1 killed", from, to);
    cluster.must_settle();
}

/// Clients of the paused node itself: what they sent may happen when it wakes up, what others wrote must stay.
#[test]
fn clients_of_a_paused_node_lose_nothing_that_was_acknowledged() {
    let _alone = alone();
    let cluster = Cluster::start(3, &[]);
    let everyone = targets(&cluster.nodes);
    let load = Load::start(seed(), &everyone);
    sleep(work_for());
    cluster.nodes[1].process().pause();
    sleep(pause_for());
    cluster.nodes[1].process().resume();
    sleep(work_for());
    verdict::insist("node1 paused under its own clients", load, &everyone);
}

/// Where nobody can be asked for long, clients are not kept waiting for the same answer; and when there is somebody
/// again, or one copy is to be enough, all goes on.
#[test]
fn what_has_been_out_of_reach_for_long_is_refused_with_the_reason() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.nodes[0].client();
    let ok = || Value::Simple(b"OK".to_vec());
    assert_eq!(client.run("SET k 1"), ok());
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    for (request, what) in [("SET k 2", "write"), ("GET k", "read")] {
        let reason = format!("CLUSTERDOWN too few replicas of this hash slot are reachable for a {what}");
        let refused = Value::Error(reason.into_bytes());
        assert!(wait_for(AT_ALL, || (client.run(request) == refused).then_some(())).is_some(), "{request}");
    }
    let one = ["write-quorum", "read-quorum"].map(|option| client.call(&["CONFIG", "SET", option, "1"]));
    assert_eq!((one, client.run("SET k 2")), ([ok(), ok()], ok()));
    let two = ["write-quorum", "read-quorum"].map(|option| client.call(&["CONFIG", "SET", option, "2"]));
    assert_eq!(two, [ok(), ok()]);
    cluster.restart(1);
    assert!(wait_for(AT_ALL, || (client.run("GET k") == Value::Bulk(b"2".to_vec())).then_some(())).is_some());
    assert_eq!(client.run("SET k 3"), ok());
}

/// Whoever asks another node is not kept waiting for longer than that one keeps its own clients.
#[test]
fn what_its_coordinator_cannot_reach_a_quorum_for_is_refused_with_the_reason_by_any_node() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &["--write-quorum", "3", "--read-quorum", "3"]);
    cluster.nodes[2].kill();
    let mut clients = [0, 1].map(|at| cluster.nodes[at].client());
    let reason = |what| format!("CLUSTERDOWN too few replicas of this hash slot are reachable for a {what}");
    let refused = |what| Value::Error(reason(what).into_bytes());
    for (request, what) in [("SET", "write"), ("GET", "read")] {
        for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let line = if request == "SET" { format!("SET {key} 1") } else { format!("GET {key}") };
            for client in &mut clients {
                let told = wait_for(AT_ALL, || (client.run(&line) == refused(what)).then_some(()));
                assert!(told.is_some(), "{line}");
            }
        }
    }
    for client in &mut clients {
        let mut exec = || {
            client.run("MULTI");
            ["a", "b", "c", "d"].iter().for_each(|key| drop(client.run(&format!("SET {key} 1"))));
            client.run("EXEC")
        };
        assert!(wait_for(AT_ALL, || (exec() == refused("write")).then_some(())).is_some(), "{:?}", exec());
    }
}

#[test]
fn a_node_joins_and_leaves_without_an_error() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let old = targets(&cluster.nodes);
    let load = Load::start(seed(), &old);
    sleep(work_for());
    let new = cluster.add();
    cluster.nodes[new].must_be_ready();
    let everyone = targets(&cluster.nodes);
    load.use_only(&everyone);
    sleep(work_for());
    let history = verdict::insist("a fourth node joined", load, &everyone);
    assert!(history.errors.is_empty(), "errors while a node joined: {:#?}", history.errors);

    cluster.nodes[0].client().run("FLUSHALL");
    let load = Load::start(seed() + 1, &everyone);
    sleep(work_for());
    load.use_only(&old);
    // Clients of the leaving node have gone; those of the others must not notice.
    sleep(Duration::from_millis(500));
    cluster.nodes[new].must_leave(AT_ALL);
    sleep(work_for());
    let history = verdict::insist("the fourth node left", load, &old);
    assert!(history.errors.is_empty(), "errors while a node left: {:#?}", history.errors);
}
