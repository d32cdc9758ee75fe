//! The links between nodes at their limits: several workers, a replica that reads nothing, large values both ways.

use std::thread::sleep;

use crate::load::Load;
use crate::support::client::{Client, encode};
use crate::support::cluster::{Cluster, Node};
use crate::support::resp::Value;
use crate::{AT_ALL, alone, pause_for, seed, support, targets, verdict, without, work_for};

/// With several workers a verify must not overtake the delta that it depends on: then a read would be confirmed by
/// nobody, and what it has shown would go with its coordinator.
#[test]
fn with_several_workers_nothing_that_was_read_is_lost() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &["--workers", "3"]);
    let everyone = targets(&cluster.nodes);
    let load = Load::start(seed(), &without(&everyone, 2));
    sleep(work_for());
    cluster.nodes[2].kill();
    sleep(work_for());
    cluster.restart(2);
    cluster.nodes[2].must_be_ready();
    load.use_only(&everyone);
    sleep(work_for());
    verdict::insist("several workers", load, &everyone);
}

/// A link to a node that reads nothing keeps at most `link-bytes-max`, and writes go on.
#[test]
fn a_node_that_reads_nothing_makes_no_link_grow_without_bound() {
    let _alone = alone();
    let cluster = Cluster::start(3, &["--link-bytes-max", "1mb"]);
    let mut client = cluster.nodes[0].client();
    cluster.nodes[2].process().pause();
    let (value, silent) = ("x".repeat(20_000), cluster.nodes[2].addr(cluster.nodes[2].peer_port));
    let of_link = format!("rondo_link_queued_bytes{{peer=\"{silent}\"}}");
    let (mut written, mut most) = (0, 0f64);
    let until = std::time::Instant::now() + pause_for();
    while std::time::Instant::now() < until || written < 500 {
        let key = format!("bulk:{}", written % 100);
        let reply = support::wait_for(AT_ALL, || Some(client.call(&["SET", &key, &value])).filter(|it| !it.is_error()));
        assert!(reply.is_some(), "writes do not go on beside a node that reads nothing");
        written += 1;
        if written % 50 == 0 {
            let queued = cluster.nodes[..2].iter().filter_map(|node| node.metric(&of_link));
            most = most.max(queued.fold(0.0, f64::max));
        }
    }
    cluster.nodes[2].process().resume();
    // Two frames may stand above the bound.
    assert!(most < f64::from(1 << 20) + 2.0 * 21_000.0, "{most} bytes were queued");
    println!("{written} writes of 20 kB, at most {most} bytes queued");
    cluster.must_settle();
    let mut client = cluster.nodes[2].client();
    for key in 0..100 {
        assert_eq!(client.run(&format!("STRLEN bulk:{key}")).int(), Some(20_000));
    }
}

/// Every node sends large values to every other at the same time: readers that waited for writers would stand still. On
/// a busy machine a request may be refused; that everything is answered is the point.
#[test]
fn large_values_go_both_ways_at_once() {
    const ROUNDS: usize = 30;
    const BYTES: usize = 200_000;
    let _alone = alone();
    let cluster = Cluster::start(3, &[]);
    let clients: Vec<(usize, u16)> = cluster.ports().iter().flat_map(|port| [*port, *port]).enumerate().collect();
    let threads = clients.into_iter().map(|(number, port)| {
        std::thread::spawn(move || {
            let (mut client, value) = (Client::connect(port, AT_ALL).expect("a connection"), "y".repeat(BYTES));
            let mut requests = Vec::new();
            for round in 0..ROUNDS {
                encode(&mut requests, &["SET", &format!("large:{number}:{round}"), &value]);
                encode(&mut requests, &["STRLEN", &format!("large:{number}:{round}")]);
            }
            let mut reading = client.try_clone().expect("a second handle");
            let sending = std::thread::spawn(move || client.send(&requests).expect("the node reads"));
            let replies: Vec<_> = (0..2 * ROUNDS).map(|_| reading.receive().expect("a reply")).collect();
            sending.join().expect("no panic");
            let set = replies.iter().step_by(2).enumerate().filter(|(_, reply)| !reply.is_error());
            set.map(|(round, _)| format!("large:{number}:{round}")).collect::<Vec<_>>()
        })
    });
    let threads: Vec<_> = threads.collect();
    let set: Vec<String> = threads.into_iter().flat_map(|it| it.join().expect("every client is answered")).collect();
    println!("{} of {} values acknowledged", set.len(), 6 * ROUNDS);
    assert!(!set.is_empty());
    for node in &cluster.nodes {
        let mut client = node.client();
        for key in &set {
            let len = support::wait_for(AT_ALL, || client.call(&["STRLEN", key]).int());
            assert_eq!(len, Some(BYTES as i64), "{key} through {}", node.name);
        }
    }
}

/// A key that this node coordinates, and of which these, and no others, are the other home replicas.
fn key_at(client: &mut Client, coordinator: &Node, replicas: [&Node; 2]) -> String {
    let addr = |node: &Node| node.addr(node.port).to_string();
    let mut wanted = [addr(coordinator), addr(replicas[0]), addr(replicas[1])];
    wanted[1..].sort();
    let is_wanted = |key: &String| {
        let meta = client.call(&["RONDO.META", key]);
        let owners = meta.field("owners").and_then(Value::items).unwrap_or_default();
        let mut homes: Vec<String> =
            owners.iter().filter_map(|owner| owner.field("address").and_then(Value::text)).collect();
        homes.get_mut(1..).unwrap_or_default().sort();
        homes == wanted
    };
    (0..2_000).map(|n| format!("line:{n}")).find(is_wanted).expect("some key of 2,000 lives there")
}

/// Two clients of one node ask another on the same link. What the first asks waits for replicas that have stopped; the
/// second is answered meanwhile. Should those count as down before the first has asked, it does not wait: then all
/// begins anew.
#[test]
fn a_question_that_waits_for_stopped_replicas_holds_up_nobody_behind_it() {
    const ROUNDS: u32 = 5;
    let _alone = alone();
    let cluster = Cluster::start(4, &[]);
    let [asker, answerer, stopped @ ..] = &cluster.nodes[..] else { panic!("four nodes") };
    let (mut first, mut second) = (asker.client(), asker.client());
    let stuck = key_at(&mut first, answerer, [&stopped[0], &stopped[1]]);
    let prompt = key_at(&mut first, answerer, [asker, &stopped[0]]);
    let mut onlooker = answerer.client();
    assert!(!onlooker.run("RONDO.CONSISTENCY R 1").is_error());
    let has_overtaken = (0..ROUNDS).any(|round| {
        stopped.iter().for_each(|node| node.process().pause());
        let (value, mut request) = (format!("round {round}"), Vec::new());
        encode(&mut request, &["SET", &stuck, &value]);
        first.send(&request).expect("the node reads");
        // It has run over there, and so stands before whatever is asked now.
        let has_run = || (onlooker.call(&["GET", &stuck]).text().as_deref() == Some(&value)).then_some(());
        assert!(support::wait_for(AT_ALL, has_run).is_some(), "the first question does not arrive");
        let reply = second.call(&["SET", &prompt, &value]);
        let is_waiting = first.receive_within(std::time::Duration::from_millis(1)).is_none();
        stopped.iter().for_each(|node| node.process().resume());
        if is_waiting {
            first.receive().expect("a reply in the end");
        }
        cluster.must_settle();
        is_waiting && reply == Value::Simple(b"OK".to_vec())
    });
    assert!(has_overtaken, "in {ROUNDS} rounds the second was not answered once while the first waited");
}
