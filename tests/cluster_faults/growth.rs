//! Nodes that come and go while clients work, and die on the way.

use std::thread::sleep;
use std::time::Duration;

use crate::load::Load;
use crate::support::client::{Client, encode};
use crate::support::cluster::{Cluster, Node};
use crate::support::resp::Value;
use crate::{AT_ALL, alone, seed, support, targets, verdict, without, work_for};

/// Enough to make fetching them take a while.
const BALLAST_KEYS: usize = 10_000;
const BALLAST_BYTES: usize = 400;

/// Puts keys into the cluster, so that a node that joins is still on its way when the next thing happens.
fn put_ballast(client: &mut Client) {
    let value = "x".repeat(BALLAST_BYTES);
    for chunk in 0..BALLAST_KEYS / 500 {
        let mut requests = Vec::new();
        (0..500).for_each(|i| encode(&mut requests, &["SET", &format!("ballast:{}", chunk * 500 + i), &value]));
        client.send(&requests).expect("the node reads");
        (0..500).for_each(|_| assert!(!client.receive().expect("a reply").is_error()));
    }
}

/// None of it may be gone, through any node.
fn insist_on_ballast(cluster: &Cluster) {
    insist_on_ballast_through(&cluster.nodes);
}

fn insist_on_ballast_through(nodes: &[Node]) {
    for node in nodes.iter().filter(|node| node.process.is_some()) {
        let mut client = node.client();
        for i in (0..BALLAST_KEYS).step_by(17) {
            let key = format!("ballast:{i}");
            let len = support::wait_for(AT_ALL, || client.call(&["STRLEN", &key]).int());
            assert_eq!(len, Some(BALLAST_BYTES as i64), "{key} through {}", node.name);
        }
    }
}

#[test]
fn two_nodes_join_three_at_once_without_an_error() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let old = targets(&cluster.nodes);
    put_ballast(&mut cluster.nodes[0].client());
    let load = Load::start(seed(), &old);
    sleep(work_for());
    let new = [cluster.add(), cluster.add()];
    new.into_iter().for_each(|i| cluster.nodes[i].must_be_ready());
    cluster.must_settle();
    let everyone = targets(&cluster.nodes);
    load.use_only(&everyone);
    sleep(work_for());
    let history = verdict::insist("two nodes joined at once", load, &everyone);
    assert!(history.errors.is_empty(), "errors while two nodes joined: {:#?}", history.errors);
    insist_on_ballast(&cluster);
}

/// Every owner of it holds the same, the one that has just come too.
fn insist_on_agreement(client: &mut Client) {
    for i in (0..BALLAST_KEYS).step_by(17) {
        let meta = client.call(&["RONDO.META", &format!("ballast:{i}")]);
        assert_eq!(meta.field("agreed").and_then(Value::text).as_deref(), Some("yes"), "ballast:{i}: {meta:?}");
    }
}

/// More than may be on their way at a time: the later ones wait for their turn, and all arrive.
#[test]
fn five_nodes_join_two_at_once_and_nothing_is_lost() {
    let _alone = alone();
    let mut cluster = Cluster::start(2, &[]);
    put_ballast(&mut cluster.nodes[0].client());
    let new: Vec<usize> = (0..5).map(|_| cluster.add()).collect();
    new.iter().for_each(|i| cluster.nodes[*i].must_be_ready());
    cluster.must_settle();
    insist_on_ballast(&cluster);
}

/// Neither waits for the other, nor for itself.
#[test]
fn two_of_three_nodes_leave_at_once_and_hand_everything_over() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &["--shutdown-timeout", "120"]);
    put_ballast(&mut cluster.nodes[0].client());
    let leaving = &mut cluster.nodes[1..];
    leaving.iter().for_each(|node| node.process().signal(libc::SIGTERM));
    for node in leaving {
        let process = node.process.as_mut().expect("a started node");
        assert!(process.terminate(AT_ALL), "{} does not end", node.name);
        assert_eq!(process.count_in_log("could not hand everything over in time"), 0, "{}", node.name);
        node.process = None;
    }
    insist_on_ballast(&cluster);
}

/// Whoever owns a slot answers for it alone here, and one of two that join stands still: the other owns slots meanwhile
/// that it will not own when both are there.
#[test]
fn two_nodes_join_at_once_and_whoever_is_first_owns_nothing_that_it_has_not_fetched() {
    let _alone = alone();
    let mut cluster =
        Cluster::start(3, &["--read-quorum", "1", "--write-quorum", "3", "--anti-entropy-interval-ms", "0"]);
    put_ballast(&mut cluster.nodes[0].client());
    let second = cluster.add();
    let is_joining = || cluster.nodes[0].metric("rondo_members{state=\"joining\"").filter(|count| *count >= 1.0);
    support::wait_for(AT_ALL, is_joining).expect("it is on its way");
    cluster.nodes[second].process().pause();
    let first = cluster.add();
    cluster.nodes[first].must_be_ready();
    let is_normal = || cluster.nodes[0].metric("rondo_members{state=\"normal\"").filter(|count| *count >= 4.0);
    support::wait_for(AT_ALL, is_normal).expect("the first has arrived");
    insist_on_agreement(&mut cluster.nodes[0].client());
    insist_on_ballast_through(&cluster.nodes[..second]);
    insist_on_ballast_through(&cluster.nodes[first..]);
    cluster.nodes[second].process().resume();
    cluster.nodes[second].must_be_ready();
    cluster.must_settle();
    insist_on_ballast(&cluster);
}

#[test]
fn a_node_that_dies_while_it_joins_takes_nothing_along_and_may_come_again() {
    one_dies_while_a_fourth_joins("a node died while it joined", 3);
}

#[test]
fn a_node_that_dies_while_others_fetch_from_it_takes_nothing_along() {
    one_dies_while_a_fourth_joins("a source died while a node joined", 1);
}

/// `victim` is the node's place: 3 for the one that joins.
fn one_dies_while_a_fourth_joins(story: &str, victim: usize) {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    put_ballast(&mut cluster.nodes[0].client());
    let load = Load::start(seed(), &without(&targets(&cluster.nodes), victim));
    sleep(work_for());
    cluster.add();
    // It is known to the others and has begun to fetch: how far it gets does not matter.
    sleep(Duration::from_millis(300));
    cluster.nodes[victim].kill();
    sleep(work_for());
    cluster.restart(victim);
    cluster.nodes.iter_mut().for_each(|node| node.must_be_ready());
    cluster.must_settle();
    let everyone = targets(&cluster.nodes);
    load.use_only(&everyone);
    sleep(work_for());
    verdict::insist(story, load, &everyone);
    insist_on_ballast(&cluster);
}

/// As one does to bring in a new version: each leaves, and comes again.
#[test]
fn all_nodes_are_restarted_one_after_the_other_and_lose_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start(4, &[]);
    put_ballast(&mut cluster.nodes[0].client());
    let everyone = targets(&cluster.nodes);
    let load = Load::start(seed(), &everyone);
    for i in 0..cluster.nodes.len() {
        load.use_only(&without(&everyone, i));
        // Clients of the node that goes have gone.
        sleep(Duration::from_millis(500));
        cluster.nodes[i].must_leave(AT_ALL);
        cluster.restart(i);
        cluster.nodes[i].must_be_ready();
        cluster.must_settle();
    }
    verdict::insist("all nodes restarted in turn", load, &everyone);
    insist_on_ballast(&cluster);
}
