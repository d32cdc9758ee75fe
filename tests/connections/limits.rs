//! What a client may not exceed, and how it is told: compared with redis-server.

use std::time::Duration;

use super::support::client::{Client, encode};
use super::support::cluster::Cluster;
use super::support::redis::Redis;
use super::support::wait_for;

/// What a server says to raw bytes, and then closes the connection (or not, within a while).
fn told(port: u16, bytes: &[u8]) -> String {
    let mut client = Client::to(port);
    client.send(bytes).expect("sent");
    client.drain(Duration::from_millis(400)).escape_ascii().to_string()
}

#[test]
fn requests_beyond_the_limits_are_refused_in_redis_words() {
    let options = ["--proto-max-bulk-len", "1mb", "--requirepass", "pw"];
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &options));
    // Redis takes this limit only while it runs.
    let mut admin = redis.client();
    admin.run("CONFIG SET requirepass pw");
    assert_eq!(admin.call(&["CONFIG", "SET", "proto-max-bulk-len", "1mb"]).text().as_deref(), Some("OK"));
    let ours = cluster.nodes[0].port;
    let cases: &[&[u8]] = &[
        b"*11\r\n$4\r\nPING\r\n",
        b"*1\r\n$20000\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n*1\r\n$1048577\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n*1\r\n$-5\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n*-5\r\nPING\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n*x\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n*1\r\nx\r\n",
        b"AUTH pw\r\nSETRANGE a 1048576 x\r\nSETRANGE a 1048575 x\r\nAPPEND a y\r\n",
        b"AUTH pw\r\nSET a \"b\r\n",
        b"CONFIG GET x\r\nHELLO 3\r\nAUTH\r\nQUIT\r\n",
    ];
    for case in cases {
        assert_eq!(told(ours, case), told(redis.port, case), "{}", case.escape_ascii());
    }
    let long = vec![b'x'; 70_000];
    assert_eq!(told(ours, &long), told(redis.port, &long));
}

#[test]
fn one_client_too_many_is_told_so() {
    let (redis, cluster) = (Redis::start(&["--maxclients", "2"]), Cluster::start(1, &["--maxclients", "2"]));
    for port in [redis.port, cluster.nodes[0].port] {
        let mut kept: Vec<Client> = Vec::new();
        let full = wait_for(Duration::from_secs(20), || {
            while kept.len() < 2 {
                kept.push(Client::to(port));
            }
            // One of the earlier connections may just be leaving.
            kept.retain_mut(|client| client.try_call(&["PING"]).is_ok_and(|reply| !reply.is_error()));
            (kept.len() == 2).then_some(())
        });
        assert!(full.is_some());
        assert_eq!(told(port, b""), "-ERR max number of clients reached\\r\\n");
    }
}

#[test]
fn silent_clients_are_closed_after_the_timeout_and_listeners_are_not() {
    let cluster = Cluster::start(1, &["--timeout", "1"]);
    let port = cluster.nodes[0].port;
    let mut listener = Client::to(port);
    listener.run("SUBSCRIBE a");
    let mut silent = Client::to(port);
    silent.run("PING");
    assert!(silent.receive().is_err(), "closed");
    assert_eq!(Client::to(port).run("PUBLISH a x").int(), Some(1));
    assert!(listener.receive().is_ok());
}

#[test]
fn a_client_that_does_not_read_its_replies_is_cut() {
    let cluster = Cluster::start(1, &[]);
    let port = cluster.nodes[0].port;
    let mut admin = Client::to(port);
    admin.call(&["CONFIG", "SET", "client-output-buffer-limit", "normal 200kb 0 0"]);
    admin.call(&["SET", "big", &"x".repeat(1 << 17)]);
    let mut reader = Client::to(port);
    let mut request = Vec::new();
    encode(&mut request, &["GET", "big"]);
    // One by one, so that it is not the replies to one read that are too much.
    let sent = (0..160).take_while(|_| reader.send(&request).is_ok()).count();
    assert!(sent > 2);
    let cut = wait_for(Duration::from_secs(30), || {
        let list = admin.run("CLIENT LIST").text().unwrap();
        (list.lines().count() == 1).then_some(())
    });
    assert!(cut.is_some(), "20 MB are kept for a reader that does not read");
    assert!(reader.drain(Duration::from_secs(5)).len() < 160 << 17);
}

/// One request can ask for any number of values: what it is answered may not come to more than the limit either, and it
/// need not be complete for that to be seen.
#[test]
fn a_client_that_asks_for_too_much_at_once_is_cut() {
    let (redis, one, three) = (Redis::start(&[]), Cluster::start(1, &[]), Cluster::start(3, &[]));
    for port in [redis.port, one.nodes[0].port, three.nodes[0].port] {
        let mut admin = Client::to(port);
        admin.call(&["CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0"]);
        let big = "x".repeat(200 << 10);
        ["a", "b", "c", "{a}2"].iter().for_each(|key| {
            admin.call(&["SET", key, &big]);
        });
        for i in 0..8 {
            admin.call(&["HSET", "hash", &format!("field{i}"), &big]);
        }
        let asked: &[&[&str]] = &[
            &["MGET a b c a b c"],
            &["MGET a {a}2 a {a}2 a {a}2"],
            &["HGETALL hash"],
            &["MULTI", "GET a", "GET a", "GET a", "GET a", "GET a", "GET a", "EXEC"],
        ];
        for lines in asked {
            let mut client = Client::to(port);
            lines.iter().for_each(|line| client.send(format!("{line}\r\n").as_bytes()).expect("sent"));
            let got = client.drain(Duration::from_secs(10));
            assert!(got.len() < 1_000 && !got.contains(&b'x'), "{lines:?}: {} bytes", got.len());
            assert!(client.send(b"PING\r\n").is_err() || client.receive().is_err(), "{lines:?}: not closed");
        }
        assert_eq!(admin.run("MGET a b c a b").items().map(<[_]>::len), Some(5));
        assert_eq!(admin.run("STRLEN a").int(), Some(200 << 10));
    }
}
