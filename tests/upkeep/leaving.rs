//! SIGTERM while clients work on the very node that leaves: what it has run it answers, and clients of the cluster face
//! are told where to go, so that a smart one reads no error.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::client::{Client, encode, http_get_from};
use crate::support::cluster::Cluster;
use crate::support::resp::Value;
use crate::{AT_ALL, alone, must, work_for};

/// Clients of the node that leaves, and how many commands each sends at once.
const DEPTHS: [usize; 9] = [1, 1, 1, 16, 1, 1, 16, 1, 200];

/// What one client has seen.
#[derive(Default, Debug)]
struct Seen {
    answered: i64,
    /// Errors: what they are about may have happened or not.
    refused: i64,
}

fn counter(n: usize) -> String {
    format!("counter:{n}")
}

/// Counts up until the connection ends.
fn count_up(mut client: Client, n: usize, depth: usize) -> Seen {
    let (mut requests, mut seen) = (Vec::new(), Seen::default());
    (0..depth).for_each(|_| encode(&mut requests, &["INCR", &counter(n)]));
    while client.send(&requests).is_ok() {
        for _ in 0..depth {
            match client.receive() {
                Ok(Value::Int(_)) => seen.answered += 1,
                Ok(_) => seen.refused += 1,
                Err(_) => return seen,
            }
        }
    }
    seen
}

#[test]
fn what_a_node_that_leaves_has_run_it_answers() {
    let _alone = alone();
    let mut cluster = Cluster::start(4, &[]);
    let clients: Vec<_> = DEPTHS
        .into_iter()
        .enumerate()
        .map(|(n, depth)| {
            let client = cluster.nodes[3].client();
            thread::spawn(move || count_up(client, n, depth))
        })
        .collect();
    // Somebody who says nothing does not hold it up.
    let mut silent = cluster.nodes[3].client();
    assert_eq!(silent.run("PING").text().as_deref(), Some("PONG"));
    thread::sleep(work_for());
    cluster.nodes[3].must_leave(AT_ALL);
    assert!(silent.receive().is_err(), "its connection was closed");
    let mut other = cluster.nodes[0].client();
    for (n, client) in clients.into_iter().enumerate() {
        let seen = client.join().expect("a client");
        let counted = other.call(&["GET", &counter(n)]).text().and_then(|text| text.parse::<i64>().ok());
        let possible = seen.answered..=seen.answered + seen.refused;
        assert!(counted.is_some_and(|it| possible.contains(&it)), "{n}: {counted:?} {seen:?}");
        assert!(seen.answered > 0, "{n} never worked");
    }
}

/// Asks for a key until the connection ends: how often it was answered, and how often told to ask elsewhere.
fn ask_on(mut client: Client, request: &[u8]) -> (u64, u64) {
    let (mut answered, mut moved) = (0, 0);
    while client.send(request).is_ok() {
        match client.receive() {
            Ok(Value::Error(text)) if text.starts_with(b"MOVED ") => moved += 1,
            Ok(_) => answered += 1,
            Err(_) => break,
        }
    }
    (answered, moved)
}

#[test]
fn a_node_that_leaves_is_not_ready_takes_nobody_in_and_tells_smart_clients_where_to_go() {
    let _alone = alone();
    let cluster = Cluster::start(4, &[]);
    let leaving = &cluster.nodes[3];
    let addr = leaving.addr(leaving.cluster_port);
    let mut client = Client::connect_to(addr, Duration::from_secs(20)).expect("a connection");
    let is_its_own = |key: &String| client.call(&["GET", key]).is_null();
    let key = (0..1_000).map(counter).find(is_its_own).expect("a key that it coordinates");
    let asking = thread::spawn(move || {
        let mut request = Vec::new();
        encode(&mut request, &["GET", &key]);
        ask_on(client, &request)
    });
    must("it serves", || leaving.is_ready());
    leaving.process().signal(libc::SIGTERM);
    let admin = leaving.addr(leaving.admin_port);
    let is_not_ready = || http_get_from(admin, "/readyz").is_some_and(|(status, _)| status == 503);
    must("it says that it is not ready", is_not_ready);
    must("it takes nobody in", || leaving.try_client(Duration::from_secs(1)).is_err());
    let (answered, moved) = asking.join().expect("a client");
    assert!(answered > 0 && moved > 0, "{answered} answers, {moved} times told where to go");
}

/// A cluster client that follows MOVED reads no error, and loses no connection that it uses, when a node comes and
/// goes.
#[test]
fn smart_clients_see_a_node_come_and_go_without_an_error() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let mut bench = Command::new(env!("CARGO_BIN_EXE_rondo"));
    bench.args(["bench", "--cluster", "-c", "12", "--rate", "1000", "--seconds", "15", "--fill", "--read-back"]);
    let addr = cluster.nodes[0].addr(cluster.nodes[0].cluster_port).to_string();
    bench.args(["--keys", "5000", "-d", "100", "-o", "json", "-h", &addr]);
    let bench = bench.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("rondo bench starts");
    thread::sleep(work_for());
    let new = cluster.add();
    cluster.nodes[new].must_be_ready();
    cluster.must_settle();
    thread::sleep(work_for());
    cluster.nodes[new].must_leave(AT_ALL);
    let output = bench.wait_with_output().expect("rondo bench ends");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let load = report["results"].as_array().and_then(|results| results.last()).expect("a result");
    assert_eq!(load["errors"], serde_json::json!({}), "{load:#}");
    assert!(load["moved"].as_u64() > Some(0), "it came and went while they worked");
    assert_eq!(load["read_back"]["lost"], 0, "{load:#}");
    assert_eq!(output.status.code(), Some(0));
}

/// Nobody is left who could take its slots over, so it ends when its time is over.
#[test]
fn a_node_that_cannot_hand_over_waits_for_as_long_as_it_was_told_last() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &["--shutdown-timeout", "3600"]);
    for others in &cluster.nodes[1..] {
        others.process().pause();
    }
    let mut client = cluster.nodes[0].client();
    assert_eq!(client.run("CONFIG SET shutdown-timeout 1").text().as_deref(), Some("OK"));
    cluster.nodes[0].must_leave(AT_ALL);
}
