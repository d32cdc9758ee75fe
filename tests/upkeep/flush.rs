//! FLUSHALL and FLUSHDB over real processes: nothing that was there before comes back, whoever was away meanwhile, and
//! what is written after the reply stays.

use std::thread;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::cluster::{Cluster, Node};
use crate::{EAGER, alone, fill, key, must};

/// Comparisons one after the other, and no deletion forgotten while the test runs.
const REMEMBERING: &[&str] = &["--anti-entropy-interval-ms", "100", "--tombstone-age-min-ms", "600000"];

/// Around the time after which others go on without a node that stands still.
const STOPS: [Duration; 4] =
    [Duration::from_millis(400), Duration::from_millis(500), Duration::from_millis(600), Duration::from_millis(700)];

fn ok(client: &mut Client, line: &str) {
    assert_eq!(client.run(line).text().as_deref(), Some("OK"), "{line}");
}

fn tombstones(node: &Node) -> Option<f64> {
    node.metric("rondo_tombstones ")
}

/// On every node: these keys and no others.
fn must_hold(cluster: &Cluster, keys: std::ops::Range<usize>) {
    for node in cluster.nodes.iter().filter(|node| node.process.is_some()) {
        let mut client = node.client();
        must("what was flushed is gone", || client.run("DBSIZE").int() == Some(keys.len() as i64));
        for n in 0..keys.end + 1_000 {
            let expected = keys.contains(&n).then(|| format!("value of {n}"));
            assert_eq!(client.call(&["GET", &key(n)]).text(), expected, "{} on {}", key(n), node.name);
        }
        must("no copy is left anywhere", || node.metric("rondo_keys{") == Some(keys.len() as f64));
    }
}

#[test]
fn a_node_that_was_stopped_meanwhile_brings_nothing_back() {
    let _alone = alone();
    let cluster = Cluster::start(3, EAGER);
    let mut client = cluster.nodes[0].client();
    fill(&mut client, 0..2_000);
    must("everybody holds all", || cluster.nodes.iter().all(|node| node.metric("rondo_keys{") == Some(2_000.0)));
    cluster.nodes[2].process().pause();
    must("flushed", || client.run("FLUSHALL").text().as_deref() == Some("OK"));
    fill(&mut client, 2_000..2_200);
    cluster.nodes[2].process().resume();
    // At once, through the one that has not heard of it yet.
    fill(&mut cluster.nodes[2].client(), 2_200..2_300);
    cluster.must_settle();
    must_hold(&cluster, 2_000..2_300);
    for node in &cluster.nodes {
        must("the clears are forgotten", || tombstones(node) == Some(0.0));
    }
    must_hold(&cluster, 2_000..2_300);
}

/// Its links stay open, and the question to flush its share lies before it when it goes on.
#[test]
fn a_node_that_stood_still_for_a_moment_flushes_nothing_that_was_written_since() {
    let _alone = alone();
    let cluster = Cluster::start(3, REMEMBERING);
    let (mut client, stopped) = (cluster.nodes[0].client(), cluster.nodes[2].process());
    for stop in STOPS {
        fill(&mut client, 0..300);
        stopped.pause();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(stop);
                stopped.resume();
            });
            must("flushed", || client.run("FLUSHALL").text().as_deref() == Some("OK"));
            fill(&mut client, 0..300);
        });
        cluster.must_settle();
        must_hold(&cluster, 0..300);
    }
}

#[test]
fn a_node_that_was_killed_and_comes_back_fetches_nothing_that_was_flushed() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, REMEMBERING);
    let mut client = cluster.nodes[0].client();
    fill(&mut client, 0..2_000);
    cluster.nodes[2].kill();
    must("flushed", || client.run("FLUSHALL ASYNC").text().as_deref() == Some("OK"));
    fill(&mut client, 2_000..2_200);
    cluster.restart(2);
    cluster.nodes[2].must_be_ready();
    cluster.must_settle();
    must_hold(&cluster, 2_000..2_200);
    // Without the one that flushed.
    cluster.nodes[0].kill();
    fill(&mut cluster.nodes[1].client(), 2_200..2_300);
    must_hold(&cluster, 2_000..2_300);
}

#[test]
fn a_slot_is_cleared_by_one_trace_whatever_it_holds_and_other_databases_stay() {
    let _alone = alone();
    let cluster = Cluster::start(3, REMEMBERING);
    let mut client = cluster.nodes[0].client();
    for n in 0..3_000 {
        must("written", || client.run(&format!("SET {{{}}}:{n} v", n % 10)).text().as_deref() == Some("OK"));
    }
    ok(&mut client, "SELECT 3");
    ok(&mut client, "SET {1}:other v");
    ok(&mut client, "SELECT 0");
    must("flushed", || client.run("FLUSHDB").text().as_deref() == Some("OK"));
    assert_eq!(client.run("DBSIZE").int(), Some(0));
    for node in &cluster.nodes {
        must("the last replica has heard of it too", || node.metric("rondo_keys{") == Some(1.0));
        let count = tombstones(node).expect("a metric");
        assert!((1.0..=20.0).contains(&count), "{count} traces of ten slots");
    }
    ok(&mut client, "SELECT 3");
    assert_eq!(client.run("GET {1}:other").text().as_deref(), Some("v"));
    must("flushed", || client.run("FLUSHALL SYNC").text().as_deref() == Some("OK"));
    assert!(client.run("GET {1}:other").is_null());
}

#[test]
fn what_is_written_after_the_reply_stays_through_whichever_nodes_it_all_goes() {
    let _alone = alone();
    let cluster = Cluster::start(3, EAGER);
    let mut clients: Vec<Client> = cluster.nodes.iter().map(Node::client).collect();
    for round in 0..60 {
        let (flusher, writer, reader) = (round % 3, (round / 3) % 3, (round / 9) % 3);
        fill(&mut clients[writer], 0..20);
        must("counted", || clients[writer].run("INCR counter").int().is_some());
        must("flushed", || clients[flusher].run("FLUSHALL").text().as_deref() == Some("OK"));
        assert_eq!(clients[reader].run("DBSIZE").int(), Some(0), "round {round}");
        fill(&mut clients[writer], 10..30);
        assert_eq!(clients[reader].run("INCR counter").int(), Some(1), "round {round}");
        for n in 0..30 {
            let expected = (n >= 10).then(|| format!("value of {n}"));
            assert_eq!(clients[reader].call(&["GET", &key(n)]).text(), expected, "round {round}, {}", key(n));
        }
    }
}

#[test]
fn in_strict_mode_a_majority_has_to_agree() {
    let _alone = alone();
    let cluster = Cluster::start(3, &["--quorum-mode", "strict"]);
    let mut client = cluster.nodes[0].client();
    fill(&mut client, 0..200);
    must("flushed", || client.run("FLUSHALL").text().as_deref() == Some("OK"));
    assert_eq!(client.run("DBSIZE").int(), Some(0));
    for n in 0..50 {
        let won: usize = (cluster.nodes.iter())
            .map(|node| usize::from(node.client().call(&["SET", &key(n), "v", "NX"]).text().as_deref() == Some("OK")))
            .sum();
        assert_eq!(won, 1, "{}", key(n));
    }
    cluster.nodes[1].process().pause();
    cluster.nodes[2].process().pause();
    let refused = client.run("FLUSHALL").text().unwrap_or_default();
    assert!(refused.starts_with("CLUSTERDOWN") || refused.starts_with("TIMEOUT"), "{refused}");
    cluster.nodes[1].process().resume();
    cluster.nodes[2].process().resume();
    must("flushed after all", || client.run("FLUSHALL").text().as_deref() == Some("OK"));
    assert_eq!(client.run("DBSIZE").int(), Some(0));
}
