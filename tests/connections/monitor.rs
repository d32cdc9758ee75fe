//! MONITOR, beside a real redis-server.

use std::time::Duration;

use super::conversation;
use super::support::client::{Client, encode};
use super::support::cluster::{Cluster, Node};
use super::support::redis::Redis;
use super::support::resp::Value;
use super::support::wait_for;

/// A connection that watches this port.
fn watcher(port: u16) -> Client {
    let mut client = Client::to(port);
    assert_eq!(client.run("MONITOR").text().as_deref(), Some("OK"));
    client
}

/// What a watcher is shown, up to the command that marks the end: each line without its time and the sender's address.
fn shown(watcher: &mut Client) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let line = watcher.receive().expect("a line").text().expect("a text");
        let (time, rest) = line.split_once(" [").expect("a time");
        let (seconds, micros) = time.split_once('.').expect("microseconds");
        assert!(seconds.parse::<u64>().is_ok_and(|it| it > 1_700_000_000) && micros.len() == 6, "{line}");
        let (db, rest) = rest.split_once(' ').expect("a database");
        let (address, command) = rest.split_once("] ").expect("an address");
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        if command.contains("the-end") {
            return lines;
        }
        lines.push(format!("[{db}] {command}"));
    }
}

#[test]
fn lines_are_those_of_redis() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let conversations: &[&[&str]] = &[
        &["SET a b", "get", "nosuch x", "INCR a", "config get port", "CONFIG RESETSTAT", "MGET a b"],
        &["MULTI", "SET x 1", "INCR x", "EXEC", "MULTI", "DISCARD", "MULTI", "nosuch", "EXEC", "EXEC"],
        &["MULTI", "GET a", "SELECT 4", "GET a", "EXEC", "GET a", "MULTI", "MONITOR", "EXEC"],
        &[
            "AUTH foo",
            "AUTH default x",
            "HELLO 2 AUTH default nopass",
            "HELLO 3 SETNAME x",
            "select 3",
            "ping",
            "reset",
        ],
        &[
            "client list",
            "CLIENT setname foo",
            "CLIENT foo",
            "subscribe c",
            "unsubscribe c",
            "publish c d",
            "info server",
        ],
        &["slowlog len", "command count", "keys *", "scan 0", "WATCH a", "MULTI", "exec", "time", "role", "wait 0 1"],
        &["dbsize", "randomkey", "memory usage a", "object encoding a", "flushall", "monitor x", "latency latest"],
    ];
    let [mut theirs, mut ours] = [redis.port, cluster.nodes[0].port].map(watcher);
    for lines in conversations {
        conversation(redis.port, lines);
        conversation(cluster.nodes[0].port, lines);
        assert_eq!(shown(&mut ours), shown(&mut theirs), "{lines:?}");
    }
    for port in [redis.port, cluster.nodes[0].port] {
        Client::to(port).call(&[&b"SET"[..], b"a\"\\\n\r\t\x07\x08", b"\x00\xff \xc3\xa9"]);
        conversation(port, &[]);
    }
    assert_eq!(shown(&mut ours), shown(&mut theirs));
}

#[test]
fn a_watcher_may_ask_what_it_may_ask_of_redis() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let lines =
        ["MONITOR", "MONITOR", "GET a", "SET a b", "DBSIZE", "PUBLISH a b", "client list", "RESET", "SET a b", "GET a"];
    let asked = |port| {
        let mut replies = conversation(port, &lines);
        let list = replies.remove(5).text().expect("a list");
        (replies, list.contains(" flags=O ") && list.contains(" cmd=client|list "))
    };
    let (theirs, ours) = (asked(redis.port), asked(cluster.nodes[0].port));
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    assert!(ours.1);
}

#[test]
fn a_watcher_that_ends_it_reads_first_what_it_was_shown() {
    let cluster = Cluster::start(1, &[]);
    let replies = conversation(cluster.nodes[0].port, &["MONITOR", "PING x", "RESET"]);
    let texts: Vec<String> = replies.iter().filter_map(Value::text).collect();
    assert!(
        matches!(&texts[..], [ok, reply, line, reset]
        if ok == "OK" && reply == "x" && line.ends_with("\"PING\" \"x\"") && reset == "RESET"),
        "{texts:?}"
    );
}

#[test]
fn a_node_shows_what_its_own_clients_ask_and_no_more() {
    let cluster = Cluster::start(3, &[]);
    let mut watchers: Vec<Client> = cluster.nodes.iter().map(|node| watcher(node.port)).collect();
    let keys: Vec<String> = (0..30).map(|number| format!("key:{number}")).collect();
    let mut client = cluster.nodes[0].client();
    let mut expected = Vec::new();
    for key in &keys {
        client.call(&["SET", key, "x"]);
        expected.push(format!("[0] \"SET\" \"{key}\" \"x\""));
    }
    client.call(&[&["MGET"][..], &keys.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    expected
        .push(format!("[0] \"MGET\" {}", keys.iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(" ")));
    client.run("DBSIZE");
    expected.push("[0] \"DBSIZE\"".to_owned());
    for node in &cluster.nodes {
        conversation(node.port, &[]);
    }
    let [first, others @ ..] = &mut watchers[..] else { unreachable!("three nodes") };
    assert_eq!(shown(first), expected);
    others.iter_mut().for_each(|other| assert_eq!(shown(other), Vec::<String>::new()));
}

#[test]
fn a_watcher_that_does_not_read_is_cut_and_holds_nobody_up() {
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 0 0"];
    let cluster = Cluster::start(1, &[]);
    let node: &Node = &cluster.nodes[0];
    node.client().call(&limit);
    let _watcher = watcher(node.port);
    let (mut client, mut bytes) = (node.client(), Vec::new());
    let cut = wait_for(Duration::from_secs(60), || {
        bytes.clear();
        encode(&mut bytes, &["SET", "a", &"x".repeat(100_000)]);
        client.send(&bytes).expect("sent");
        assert_eq!(client.receive().expect("a reply"), Value::Simple(b"OK".to_vec()));
        (node.metric("rondo_output_limit_disconnects_total") == Some(1.0)).then_some(())
    });
    assert!(cut.is_some(), "the watcher was not cut");
    assert!(!client.run("CLIENT LIST").text().expect("a list").contains("flags=O"));
}
