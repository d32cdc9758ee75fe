//! Nodes that cannot hear each other: hosts of one network, cut apart by routes that swallow everything.
//!
//! Root only; without it each test says that it was skipped, or fails where `RONDO_REQUIRED` is set.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use crate::load::Load;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, Node};
use crate::support::network::Network;
use crate::support::resp::Value;
use crate::{AT_ALL, alone, pause_for, seed, support, targets, verdict, work_for};

/// Keys of each type that both sides of a cut write.
const KEYS: usize = 24;

/// Three nodes, each on a host of its own.
fn cluster_on_hosts() -> Option<(Network, Cluster)> {
    let network = match Network::new(3) {
        Ok(network) => network,
        Err(why) => {
            support::skipped(&format!("there are no network namespaces to cut nodes apart in: {why}"));
            return None;
        }
    };
    let cluster = Cluster::start_placed(3, &[], |i, node| {
        node.ip = network.addr(i);
        node.netns = Some(network.netns(i));
        node.add_options(&["--bind", &network.addr(i).to_string(), "--protected-mode", "no"]);
    });
    Some((network, cluster))
}

/// Asks until the reply is no error.
fn insist(client: &mut Client, line: &str) -> Value {
    let words: Vec<&str> = line.split(' ').collect();
    let reply = support::wait_for(AT_ALL, || Some(client.call(&words)).filter(|reply| !reply.is_error()));
    reply.unwrap_or_else(|| panic!("{line} is refused for ever"))
}

fn sum(nodes: &[Node], metric: &str) -> f64 {
    nodes.iter().filter_map(|node| node.metric(metric)).sum()
}

/// One against two: with W=1 and R=1 either side goes on alone, and afterwards nothing that can be merged is lost.
#[test]
fn both_sides_of_a_cut_survive_its_healing() {
    let _alone = alone();
    let Some((network, cluster)) = cluster_on_hosts() else { return };
    let sides = [0, 1];
    let mut clients = sides.map(|side| cluster.nodes[side].client());
    clients.iter_mut().for_each(|client| drop(insist(client, "RONDO.CONSISTENCY R 1 W 1 SLOPPY")));
    for key in 0..KEYS {
        insist(&mut clients[0], &format!("SADD set:{key} before gone"));
        insist(&mut clients[0], &format!("SET string:{key} before"));
    }
    let conflicts_before = sum(&cluster.nodes, "rondo_conflicts_total");
    network.isolate(0);
    sleep(work_for());
    for (side, client) in sides.iter().zip(&mut clients) {
        for key in 0..KEYS {
            insist(client, &format!("SADD set:{key} side{side}"));
            insist(client, &format!("HSET hash:{key} side{side} {key}"));
            insist(client, &format!("INCRBY counter:{key} {}", 10 + side));
            insist(client, &format!("SET string:{key} side{side}"));
        }
    }
    for key in 0..KEYS {
        insist(&mut clients[1], &format!("SREM set:{key} gone"));
    }
    network.rejoin(0);
    cluster.must_settle();
    for node in &cluster.nodes {
        let mut client = node.client();
        for key in 0..KEYS {
            let members = |reply: Value| -> BTreeSet<String> {
                reply.items().unwrap_or_default().iter().filter_map(Value::text).collect()
            };
            let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
            let place = format!("key {key} through {}", node.name);
            let set = members(insist(&mut client, &format!("SMEMBERS set:{key}")));
            assert_eq!(set, of(&["before", "side0", "side1"]), "{place}");
            assert_eq!(members(insist(&mut client, &format!("HKEYS hash:{key}"))), of(&["side0", "side1"]), "{place}");
            assert_eq!(insist(&mut client, &format!("GET counter:{key}")).int(), Some(21), "{place}");
            // The later of the two: side 1 wrote last.
            assert_eq!(insist(&mut client, &format!("GET string:{key}")).text().as_deref(), Some("side1"), "{place}");
        }
    }
    let mut client = cluster.nodes[2].client();
    for key in (0..KEYS).flat_map(|key| ["set", "hash", "counter", "string"].map(|kind| format!("{kind}:{key}"))) {
        let agreed = || {
            let meta = client.call(&["RONDO.META", &key]);
            (meta.field("agreed").and_then(Value::text).as_deref() == Some("yes")).then_some(())
        };
        assert!(support::wait_for(AT_ALL, agreed).is_some(), "the replicas of {key} do not agree");
    }
    let conflicts = sum(&cluster.nodes, "rondo_conflicts_total") - conflicts_before;
    assert!(conflicts >= KEYS as f64, "{conflicts} conflicts counted, {KEYS} keys had one at least");
}

/// With W=2 of 3 the lonely side refuses, the other goes on, and no acknowledged write is lost.
#[test]
fn a_node_that_is_cut_off_loses_nothing() {
    let _alone = alone();
    let Some((network, cluster)) = cluster_on_hosts() else { return };
    let everyone = targets(&cluster.nodes);
    let load = Load::start(seed(), &everyone[1..]);
    sleep(work_for());
    network.isolate(0);
    sleep(pause_for());
    network.rejoin(0);
    load.read_through(&everyone);
    sleep(work_for());
    load.write_through(&everyone);
    sleep(work_for());
    verdict::insist("node0 cut off", load, &everyone);
    cluster.must_settle();
}

/// Node 0 hears the others and is not heard.
#[test]
fn a_node_that_is_not_heard_loses_nothing() {
    let _alone = alone();
    let Some((network, cluster)) = cluster_on_hosts() else { return };
    let everyone = targets(&cluster.nodes);
    let load = Load::start(seed(), &everyone[1..]);
    sleep(work_for());
    (1..3).for_each(|other| network.cut_one_way(0, other));
    sleep(pause_for());
    (1..3).for_each(|other| network.heal_one_way(0, other));
    load.read_through(&everyone);
    sleep(work_for());
    verdict::insist("node0 not heard", load, &everyone);
    cluster.must_settle();
}

/// Off and on again: the ring stays as it is, and so does everything that was acknowledged.
#[test]
fn a_flapping_node_changes_no_ring_and_loses_nothing() {
    let _alone = alone();
    let Some((network, cluster)) = cluster_on_hosts() else { return };
    let ring = || {
        let page = support::client::http_get_from(cluster.nodes[1].addr(cluster.nodes[1].admin_port), "/metrics");
        let page = page.expect("a page of metrics").1;
        page.lines().find(|line| line.starts_with("rondo_ring_info")).map(str::to_owned).expect("the ring's digest")
    };
    let (everyone, before) = (targets(&cluster.nodes), ring());
    let load = Load::start(seed(), &everyone[1..]);
    for _ in 0..5 {
        network.isolate(0);
        sleep(Duration::from_millis(700));
        network.rejoin(0);
        sleep(Duration::from_millis(700));
    }
    assert_eq!(ring(), before);
    verdict::insist("node0 flapping", load, &everyone);
    cluster.must_settle();
}

/// A key that this node coordinates.
fn key_of(node: &Node, prefix: &str) -> String {
    let mut face = Client::connect_to(node.addr(node.cluster_port), AT_ALL).expect("a connection");
    let mut keys = (0..).map(|n| format!("{prefix}:{n}"));
    keys.find(|key| !face.call(&["GET", key]).is_error()).expect("each node coordinates some")
}

/// Questions and their answers do not wait behind the deltas that go the same way: they have a link of their own.
#[test]
fn a_forwarded_read_is_answered_while_megabytes_wait_on_the_lane_to_the_same_node() {
    const WAITING: f64 = 2e6;
    let _alone = alone();
    let Some((network, cluster)) = cluster_on_hosts() else { return };
    let (asker, answerer) = (&cluster.nodes[0], &cluster.nodes[1]);
    let (written, read) = (key_of(asker, "written"), key_of(answerer, "read"));
    let mut client = asker.client();
    insist(&mut client, &format!("SET {read} value"));
    insist(&mut client, "RONDO.CONSISTENCY R 1");
    if let Err(why) = network.slow_down(1, 2_000_000) {
        support::skipped(&format!("no link can be slowed down: {why}"));
        return;
    }
    let queued = || asker.metric("rondo_link_queued_bytes").expect("a node that answers");
    let (value, mut overtaken) = ("x".repeat(50_000), 0);
    for round in 0..400 {
        // The third node holds it at once, and two of three are enough.
        insist(&mut client, &format!("SET {{{written}}}:{} {value}", round % 20));
        if round % 20 == 19 {
            let before = queued();
            let reply = client.call(&["GET", &read]);
            overtaken +=
                usize::from(before > WAITING && queued() > WAITING && reply.text().as_deref() == Some("value"));
        }
    }
    println!("{overtaken} of 20 reads were answered while more than {WAITING} bytes waited");
    assert!(overtaken > 0, "no read was answered before what was written before it had arrived");
}
