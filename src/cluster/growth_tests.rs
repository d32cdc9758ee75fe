//! Nodes of other weights join: that moves copies between members that were there before, too. These have fetched what
//! they gain when the ring changes. Nothing is compared in the background here, so what a node holds it was given or
//! has fetched.

use std::time::Duration;

use crate::base::clock::Hlc;
use crate::base::ids::{Slot, slot_of};
use crate::cluster::shed::drop_before;
use crate::cluster::tests::{Node, dot_of, formed, put, start_with, until};
use crate::membership::Liveness;
use crate::ring::RowState;

/// Enough that any two members have some in common.
const KEYS: usize = 2_000;

async fn start(port: u16, join: &[u16], weight: &str) -> Node {
    start_with(port, join, &[("anti-entropy-interval-ms", "0"), ("weight", weight)]).await
}

/// A cluster of nodes with these weights from this port on, and keys that their home replicas hold and nobody else.
async fn cluster_of(port: u16, weights: &[&str]) -> (Vec<Node>, Vec<Vec<u8>>) {
    let mut nodes = Vec::new();
    for (at, weight) in (port..).zip(weights) {
        nodes.push(start(at, if at == port { &[] } else { std::slice::from_ref(&port) }, weight).await);
    }
    formed(&nodes.iter().collect::<Vec<_>>(), nodes.len()).await;
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|n| format!("key:{n}").into_bytes()).collect();
    keys.iter().for_each(|key| put(&nodes[0], key));
    for node in &nodes[1..] {
        let mut everything = Slot::all().collect();
        nodes[0].cluster.push_slots(node.cluster.id(), &mut everything, Hlc(0)).await.expect("pushed");
    }
    for node in &nodes {
        let topology = node.cluster.topology();
        for slot in Slot::all().filter(|slot| !topology.is_home(*slot)) {
            drop_before(&mut node.cluster.store.table(slot), Hlc(u64::MAX));
        }
    }
    (nodes, keys)
}

/// Which of these keys each of these nodes holds.
fn held(nodes: &[Node], keys: &[Vec<u8>]) -> Vec<Vec<bool>> {
    nodes.iter().map(|node| keys.iter().map(|key| dot_of(node, key).is_some()).collect()).collect()
}

/// Returns when this node owns slots.
async fn arrived(node: &Node) {
    let is_normal = || node.cluster.topology().own_row().is_some_and(|row| row.state == RowState::Normal && row.warm);
    until("it has joined", is_normal).await;
}

/// Every node holds what it owns by the ring of `by`; gives how many keys of those that it `held` before it does not
/// own less.
fn gained(nodes: &[Node], by: &Node, keys: &[Vec<u8>], before: &[Vec<bool>]) -> usize {
    let ring = by.cluster.topology().ring.clone();
    let mut gained = 0;
    for (node, before) in nodes.iter().zip(before) {
        let index = ring.index_of(&node.cluster.id()).expect("an owner");
        for (key, before) in keys.iter().zip(before).filter(|(key, _)| ring.homes(slot_of(key)).contains(&index)) {
            assert!(dot_of(node, key).is_some(), "{} owns {}", node.cluster.id(), String::from_utf8_lossy(key));
            gained += usize::from(!before);
        }
    }
    gained
}

#[tokio::test]
async fn who_gains_slots_by_the_coming_of_another_holds_them_before_it_owns_them() {
    let (nodes, keys) = cluster_of(21_841, &["1", "1", "2", "2"]).await;
    let before = held(&nodes, &keys);
    let new = start(21_845, &[21_841], "1").await;
    arrived(&new).await;
    assert!(gained(&nodes, &new, &keys, &before) > 0, "weights move copies between old members");
    assert_eq!(gained(std::slice::from_ref(&new), &new, &keys, &[vec![true; KEYS]]), 0);
}

#[tokio::test]
async fn two_that_come_at_once_wait_for_who_gains_slots_and_not_for_each_other() {
    let (nodes, keys) = cluster_of(21_851, &["1", "1", "2", "2"]).await;
    let before = held(&nodes, &keys);
    let new = [start(21_855, &[21_851], "1").await, start(21_856, &[21_851], "3").await];
    for node in &new {
        arrived(node).await;
    }
    let all: Vec<&Node> = nodes.iter().chain(&new).collect();
    formed(&all, all.len()).await;
    assert!(gained(&nodes, &new[1], &keys, &before) > 0);
}

#[tokio::test]
async fn who_comes_does_not_wait_for_one_that_is_dead_and_gains_slots() {
    let (mut nodes, keys) = cluster_of(21_861, &["1", "1", "2", "2"]).await;
    let dead = nodes.pop().expect("four");
    let id = dead.cluster.id();
    drop(dead);
    let is_down = |node: &Node| node.cluster.topology().liveness(&id) == Liveness::Down;
    until("the silence is noticed", || nodes.iter().all(is_down)).await;
    let before = held(&nodes, &keys);
    let new = start(21_865, &[21_861], "1").await;
    tokio::time::timeout(Duration::from_secs(20), arrived(&new)).await.expect("joined");
    gained(&nodes, &new, &keys, &before);
    assert!(new.cluster.topology().ring.index_of(&id).is_some(), "the dead one is a member still");
}
