//! MULTI over several nodes beside redis-server: groups by coordinator do what the requests do in their order.
//!
//! Here everything runs; what a transaction says of which only a part could run is in `several_keys`.

mod support;

use std::time::Duration;

use support::client::{Client, encode};
use support::cluster::Cluster;
use support::random::Random;
use support::redis::Redis;
use support::resp::Value;

/// Keys of every node.
const KEYS: usize = 12;
/// A generous bound on a message.
const AT_ALL: Duration = Duration::from_secs(20);

fn request(random: &mut Random) -> String {
    let [one, other] = [(); 2].map(|()| format!("key:{}", random.below(KEYS)));
    match random.below(100) {
        0..30 => format!("APPEND {one} {}", random.below(10)),
        30..40 => format!("GET {one}"),
        40..45 => format!("DEL {one}"),
        45..65 => format!("SELECT {}", random.below(4)),
        65..70 => "SELECT 99".to_owned(),
        70..75 => "SELECT x".to_owned(),
        75..80 => format!("MGET {one} {other}"),
        80..84 => format!("COPY {one} {other} REPLACE"),
        84..88 => format!("SADD {one} x"),
        88..90 => "DBSIZE".to_owned(),
        90..92 => "FLUSHDB".to_owned(),
        92..94 => "CONFIG GET port-that-is-none".to_owned(),
        94..96 => "ECHO words".to_owned(),
        96..98 => "TTL none".to_owned(),
        _ => format!("PUBLISH {one} message"),
    }
}

/// What a client reads that runs transactions.
fn conversation(port: u16, transactions: &[Vec<String>]) -> Vec<String> {
    let (mut client, mut read) = (Client::to(port), Vec::new());
    client.run("FLUSHALL");
    for lines in transactions {
        client.run("MULTI");
        lines.iter().for_each(|line| drop(client.run(line)));
        read.push(format!("{:?}", client.run("EXEC")));
        read.push(format!("{:?}", client.run("GET key:0")));
    }
    for database in 0..4 {
        client.run(&format!("SELECT {database}"));
        (0..KEYS).for_each(|i| read.push(format!("{database} {i} {:?}", client.run(&format!("GET key:{i}")))));
    }
    read
}

#[test]
fn groups_of_several_nodes_do_what_the_requests_do_in_their_order() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(3, &[]));
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let transactions: Vec<Vec<String>> =
            (0..8).map(|_| (0..random.below(40)).map(|_| request(&mut random)).collect()).collect();
        let theirs = conversation(redis.port, &transactions);
        let ours = conversation(cluster.nodes[seed as usize % 3].port, &transactions);
        let differs = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        let around =
            |read: &[String]| differs.map(|at| read[at.saturating_sub(5)..(at + 5).min(read.len())].join("\n"));
        assert_eq!(around(&ours), around(&theirs), "seed {seed}: {transactions:#?}");
        assert_eq!(ours.len(), theirs.len(), "seed {seed}");
    }
}

/// Who hears of a message finds what was written before it, on whichever node.
#[test]
fn a_message_of_a_transaction_comes_when_its_keys_are_written() {
    let cluster = Cluster::start(3, &[]);
    let mut listener = cluster.nodes[2].client();
    listener.run("SUBSCRIBE written");
    for round in 0..60 {
        let (mut client, mut reader) = (cluster.nodes[round % 3].client(), cluster.nodes[(round + 1) % 3].client());
        let mut requests = b"MULTI\r\n".to_vec();
        (0..KEYS).for_each(|i| encode(&mut requests, &["SET", &format!("key:{i}"), &round.to_string()]));
        requests.extend_from_slice(b"PUBLISH written now\r\nEXEC\r\n");
        client.send(&requests).expect("taken");
        assert!(listener.receive_within(AT_ALL).is_some(), "round {round}: no message");
        let keys = (0..KEYS).map(|i| format!("key:{i}"));
        let mget: Vec<String> = std::iter::once("MGET".to_owned()).chain(keys).collect();
        let expected = Value::Array(vec![Value::Bulk(round.to_string().into_bytes()); KEYS]);
        assert_eq!(reader.call(&mget), expected, "round {round}");
        (0..KEYS + 3).for_each(|_| drop(client.receive().expect("a reply")));
    }
}

/// What may be asked was looked at when it was queued, before the transaction subscribed.
#[test]
fn a_transaction_that_subscribes_goes_on_as_it_began_on_all_nodes() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(3, &[]));
    let keys: Vec<String> = (0..KEYS).map(|i| format!("key:{i}")).collect();
    let pairs: Vec<String> = keys.iter().map(|key| format!("{key} {key}")).collect();
    let (mset, mget) = (format!("MSET {}", pairs.join(" ")), format!("MGET {}", keys.join(" ")));
    let lines = ["MULTI", "SUBSCRIBE a", &mset, &mget, "COPY key:1 key:2", "DBSIZE", "UNSUBSCRIBE a", &mget, "EXEC"];
    let conversation = |port: u16| {
        let mut client = Client::to(port);
        lines.iter().map(|line| format!("{:?}", client.run(line))).collect::<Vec<_>>()
    };
    let theirs = conversation(redis.port);
    cluster.nodes.iter().for_each(|node| assert_eq!(conversation(node.port), theirs));
}
