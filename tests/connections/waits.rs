//! Clients that wait, leave, send slowly or read nothing: what redis-server 7.0.15 does, done here.

use std::time::Duration;

use super::support::client::{Client, encode};
use super::support::cluster::Cluster;
use super::support::wait_for;

const PATIENCE: Duration = Duration::from_secs(20);

/// A figure of INFO.
fn figure(client: &mut Client, name: &str) -> Option<u64> {
    let info = client.run("INFO").text()?;
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

fn waits_until(client: &mut Client, name: &str, number: u64) {
    let reached = wait_for(PATIENCE, || (figure(client, name) == Some(number)).then_some(()));
    assert!(reached.is_some(), "{name} did not become {number}: {:?}", figure(client, name));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_wait_is_let_go() {
    // The second waits behind a write that its replicas have to confirm first.
    for (nodes, lines) in [(1, &b"WAIT 1 0\r\n"[..]), (3, b"SET a 1\r\nWAIT 5 0\r\n")] {
        let cluster = Cluster::start(nodes, &[]);
        let port = cluster.nodes[0].port;
        let mut admin = Client::to(port);
        let mut waiting = Client::to(port);
        waiting.send(lines).expect("sent");
        waits_until(&mut admin, "blocked_clients", 1);
        drop(waiting);
        waits_until(&mut admin, "connected_clients", 1);
        assert_eq!(figure(&mut admin, "blocked_clients"), Some(0));
    }
}

#[test]
fn wait_is_ended_by_client_unblock() {
    let cluster = Cluster::start(1, &[]);
    let port = cluster.nodes[0].port;
    let (mut admin, mut waiting) = (Client::to(port), Client::to(port));
    let id = waiting.run("CLIENT ID").int().expect("a number").to_string();
    assert_eq!(admin.call(&["CLIENT", "UNBLOCK", &id]).int(), Some(0), "it does not wait");
    for (how, reply) in [("TIMEOUT", ":0"), ("ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK")] {
        waiting.send(b"WAIT 1 0\r\nPING\r\n").expect("sent");
        waits_until(&mut admin, "blocked_clients", 1);
        let list = admin.run("CLIENT LIST").text().unwrap_or_default();
        assert!(list.lines().any(|line| line.contains(&format!("id={id} ")) && line.contains("flags=b ")), "{list}");
        assert_eq!(admin.call(&["CLIENT", "UNBLOCK", &id, how]).int(), Some(1));
        assert_eq!(admin.call(&["CLIENT", "UNBLOCK", &id, how]).int(), Some(0), "twice");
        let told = wait_for(PATIENCE, || {
            let bytes = waiting.drain(Duration::from_millis(200));
            (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
        });
        assert_eq!(told.as_deref(), Some(format!("{reply}\r\n+PONG\r\n").as_str()));
    }
}

/// What comes in one write with a request that runs alone is answered, though its sender has closed its side by then.
#[test]
fn whoever_sends_all_and_closes_its_side_is_answered() {
    let cluster = Cluster::start(3, &[]);
    for node in &cluster.nodes {
        let mut client = Client::to(node.port);
        client.send(b"SET a 1\r\nKEYS *\r\nPING\r\nDBSIZE\r\nGET a\r\n").expect("sent");
        client.close_own_side();
        let told = client.drain(PATIENCE);
        assert_eq!(String::from_utf8_lossy(&told), "+OK\r\n*1\r\n$1\r\na\r\n+PONG\r\n:1\r\n$1\r\n1\r\n");
    }
}

#[test]
fn a_request_that_comes_in_many_pieces_is_whole_in_the_end_and_so_is_what_follows() {
    let cluster = Cluster::start(1, &[]);
    let mut client = Client::to(cluster.nodes[0].port);
    let value = "0123456789".repeat(300_000);
    let mut bytes = Vec::new();
    encode(&mut bytes, &["SET", "k", &value]);
    encode(&mut bytes, &["STRLEN", "k"]);
    encode(&mut bytes, &["GETRANGE", "k", "2999990", "-1"]);
    for piece in bytes.chunks(70_001) {
        client.send(piece).expect("sent");
        std::thread::sleep(Duration::from_millis(1));
    }
    let replies: Vec<_> = (0..3).map(|_| client.receive().expect("a reply")).collect();
    assert_eq!(replies[0].text().as_deref(), Some("OK"));
    assert_eq!(replies[1].int(), Some(3_000_000));
    assert_eq!(replies[2].text().as_deref(), Some("0123456789"));
}

#[test]
fn a_client_in_the_middle_of_a_request_is_not_idle() {
    let cluster = Cluster::start(1, &["--timeout", "2"]);
    let mut client = Client::to(cluster.nodes[0].port);
    let mut bytes = Vec::new();
    encode(&mut bytes, &["SET", "k", &"v".repeat(90)]);
    for piece in bytes.chunks(10) {
        client.send(piece).expect("sent");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(client.receive().ok().and_then(|reply| reply.text()).as_deref(), Some("OK"));
}

#[test]
fn a_client_that_reads_nothing_is_cut_by_the_soft_limit() {
    let cluster = Cluster::start(1, &[]);
    let port = cluster.nodes[0].port;
    let mut admin = Client::to(port);
    admin.call(&["CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 1"]);
    admin.call(&["SETRANGE", "big", "30000000", "x"]);
    let mut deaf = Client::to(port);
    deaf.send(b"GET big\r\n").expect("sent");
    waits_until(&mut admin, "connected_clients", 2);
    waits_until(&mut admin, "connected_clients", 1);
    drop(deaf);
}

#[test]
fn a_client_that_kills_itself_reads_so_and_nothing_behind_that_is_run() {
    for nodes in [1, 3] {
        let cluster = Cluster::start(nodes, &[]);
        let port = cluster.nodes[0].port;
        let mut client = Client::to(port);
        let id = client.run("CLIENT ID").int().expect("a number");
        let pipeline = format!("SET a 1\r\nCLIENT KILL ID {id} SKIPME no\r\nSET a 2\r\n");
        client.send(pipeline.as_bytes()).expect("sent");
        assert_eq!(String::from_utf8_lossy(&client.drain(PATIENCE)), "+OK\r\n:1\r\n");
        assert_eq!(Client::to(port).run("GET a").text().as_deref(), Some("1"));
    }
}
