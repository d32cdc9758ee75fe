//! Keyspace events: the same as redis-server's, once in the whole cluster.

use std::time::Duration;

use super::support::client::Client;
use super::support::cluster::Cluster;
use super::support::redis::Redis;
use super::texts;

/// Runs lines and gives what a listener to all events hears, in order, until a last event.
fn heard(port: u16, from: u16, lines: &[&str]) -> Vec<String> {
    let mut listener = Client::to(from);
    listener.run("PSUBSCRIBE __key*__:*");
    let mut client = Client::to(port);
    for line in lines {
        client.run(line);
    }
    client.run("SET {k}the-end x");
    let mut events = Vec::new();
    loop {
        let message = texts(&listener.receive().expect("an event"));
        let (channel, text) = (message[2].clone(), message[3].clone());
        if channel.ends_with("the-end") {
            return events;
        }
        if text != "{k}the-end" {
            events.push(format!("{channel} {text}"));
        }
    }
}

const LINES: &[&str] = &[
    "SET {k}a 1",
    "SET {k}a 2 EX 100",
    "GET {k}a",
    "GET {k}nothing",
    "INCR {k}n",
    "DECRBY {k}n 3",
    "INCRBYFLOAT {k}n 1.5",
    "APPEND {k}a x",
    "SETRANGE {k}a 0 y",
    "GETSET {k}a z",
    "GETDEL {k}a",
    "MSET {k}a 1 {k}b 2",
    "MSETNX {k}c 1 {k}d 1",
    "EXPIRE {k}a 100",
    "PERSIST {k}a",
    "EXPIRE {k}b -1",
    "GETEX {k}a EX 100",
    "GETEX {k}a PERSIST",
    "SETEX {k}e 100 v",
    "PSETEX {k}e 100000 v",
    "RENAME {k}a {k}f",
    "COPY {k}f {k}g",
    "MOVE {k}g 1",
    "DEL {k}f {k}nothing",
    "UNLINK {k}c",
    "HSET {k}h f 1 g 2",
    "HINCRBY {k}h f 1",
    "HINCRBYFLOAT {k}h f 1",
    "HSETNX {k}h x 1",
    "HDEL {k}h f g x",
    "SADD {k}s a b c",
    "SMOVE {k}s {k}t a",
    "SREM {k}s b",
    "SPOP {k}s",
    "SINTERSTORE {k}u {k}t {k}t",
    "SUNIONSTORE {k}u {k}no",
    "SETBIT {k}bit 1 1",
    "BITOP NOT {k}bit2 {k}bit",
    "BITFIELD {k}bit SET u8 0 1",
    "SETNX {k}nx 1",
    "SETNX {k}nx 2",
    "EXPIREAT {k}nx 1",
    "TTL {k}missing",
    "HGET {k}missing f",
    "EXISTS {k}missing",
    "MGET {k}missing {k}e",
    "STRLEN {k}missing",
];

#[test]
fn events_are_those_of_redis_and_come_once_whichever_node_is_asked() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(2, &[]));
    let ports = cluster.ports();
    Client::to(redis.port).run("CONFIG SET notify-keyspace-events KEAnm");
    // On one node only: the others learn of it.
    Client::to(ports[0]).run("CONFIG SET notify-keyspace-events KEAnm");
    let theirs = heard(redis.port, redis.port, LINES);
    assert!(theirs.len() > 100, "{}", theirs.len());
    for (port, from) in [(ports[0], ports[1]), (ports[1], ports[1]), (ports[1], ports[0])] {
        Client::to(port).run("FLUSHALL");
        same(&heard(port, from, LINES), &theirs);
    }
    for word in ["FLUSHALL", "CONFIG SET notify-keyspace-events Kg$"] {
        Client::to(redis.port).run(word);
        Client::to(ports[0]).run(word);
    }
    let theirs = heard(redis.port, redis.port, LINES);
    same(&heard(ports[1], ports[0], LINES), &theirs);
}

#[test]
fn keys_that_expire_or_are_evicted_are_told_of_once() {
    let cluster = Cluster::start(3, &["--notify-keyspace-events", "Exe"]);
    let ports = cluster.ports();
    let mut listeners: Vec<Client> = ports.iter().map(|port| Client::to(*port)).collect();
    listeners.iter_mut().for_each(|client| drop(client.run("PSUBSCRIBE __keyevent@0__:*")));
    let mut client = Client::to(ports[0]);
    for number in 0..200 {
        client.call(&["SET", &format!("key:{number}"), "v", "PX", "300"]);
    }
    for listener in &mut listeners {
        let mut gone: Vec<String> = (0..200)
            .map(|_| {
                let message = texts(&listener.receive().expect("an event"));
                assert_eq!(message[2], "__keyevent@0__:expired");
                message[3].clone()
            })
            .collect();
        gone.sort();
        gone.dedup();
        assert_eq!(gone.len(), 200);
        assert_eq!(listener.drain(Duration::from_millis(300)), b"", "an event came twice");
    }
}

/// The first event that differs is enough to read.
fn same(ours: &[String], theirs: &[String]) {
    for (at, event) in theirs.iter().enumerate() {
        assert_eq!(ours.get(at), Some(event), "behind {:?}", theirs.get(at.saturating_sub(3)..at));
    }
    assert_eq!(ours.len(), theirs.len(), "{:?}", ours.get(theirs.len()..));
}
