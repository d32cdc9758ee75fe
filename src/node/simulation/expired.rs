//! Single stories: a key that has expired is read by nobody again, also when whoever has shortened its life dies before
//! all replicas know of that.
//!
//! Node 0 coordinates; what it sends to node 1 is held up, so node 2 alone has heard of the deadlines when node 0 dies
//! and what was on its way is lost. Node 1 still holds the values for good, and nobody compares in time.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::os;
use super::story::healthy;
use super::world::{PORT, World, ip_of};
use crate::base::ids::slot_of;
use crate::base::net::TcpStream;
use crate::base::net::simulated;
use crate::protocol::client::{ReplyDecoder, Value, encode_command};

const NODES: usize = 3;
const MS_US: u64 = 1_000;
const PATIENCE_MS: u64 = 30_000;
/// Some of them node 0 coordinates.
const KEYS: usize = 60;

/// Runs a story on a thread that simulates.
fn simulate(story: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        os::begin(7);
        story();
    })
    .join()
    .expect("a story");
}

fn begin() -> World {
    let mut world = World::new(World::draws_of(7), 7, NODES, &[("anti-entropy-interval-ms", "600000")]);
    (0..NODES).for_each(|node| world.start_node(node));
    until(&mut world, "form", |world| healthy(world).is_ok());
    world
}

fn run(world: &mut World, ms: u64) {
    world.run_until(world.now_us() + ms * MS_US);
}

fn until(world: &mut World, what: &str, is_done: impl Fn(&World) -> bool) {
    let until_us = world.now_us() + PATIENCE_MS * MS_US;
    while !is_done(world) {
        assert!(world.now_us() < until_us, "never: {what}");
        run(world, 10);
    }
}

/// What a node answers to these commands, sent in one go.
fn ask(world: &mut World, node: usize, commands: &[Vec<&str>]) -> Vec<Value> {
    let (mut out, count) = (Vec::new(), commands.len());
    commands.iter().for_each(|words| encode_command(&mut out, words));
    let answers: Rc<RefCell<Vec<Value>>> = Rc::default();
    let to = answers.clone();
    world.start_clients(async move {
        let mut stream = TcpStream::connect(SocketAddr::new(ip_of(node), PORT)).await.expect("it listens");
        stream.write_all(&out).await.expect("sent");
        let (mut decoder, mut buf) = (ReplyDecoder::default(), Vec::new());
        while to.borrow().len() < count {
            match decoder.decode(&buf).expect("a reply") {
                Some((value, len)) => {
                    buf.drain(..len);
                    to.borrow_mut().push(value);
                }
                None => assert!(stream.read_buf(&mut buf).await.expect("read") > 0, "it hung up"),
            }
        }
    });
    until(world, "the answers", |_| answers.borrow().len() == count);
    let host = world.nodes();
    world.kill(host);
    answers.take()
}

/// Keys that node 0 coordinates, written for good and held by all.
fn written(world: &mut World) -> Vec<String> {
    let names = (0..KEYS).map(|n| format!("key:{n}"));
    let keys: Vec<String> = {
        let view = world.node(0).expect("it lives").shared.view.load();
        names.filter(|key| view.is_coordinator(slot_of(key.as_bytes()))).collect()
    };
    assert!(keys.len() > 5);
    let sets: Vec<Vec<&str>> = keys.iter().map(|key| vec!["SET", key, "value"]).collect();
    assert!(ask(world, 0, &sets).iter().all(|it| !matches!(it, Value::Error(_))));
    run(world, 1_000);
    keys
}

/// Of how many of these keys a node holds a value, and of how many a trace.
fn held(world: &World, node: usize, keys: &[String]) -> (usize, usize) {
    let store = &world.node(node).expect("it lives").shared.node.store;
    let is_dead = |key: &String| {
        let table = store.table(slot_of(key.as_bytes()));
        table.iter().find(|entry| entry.key() == key.as_bytes()).map(|entry| entry.is_tombstone())
    };
    let (dead, live): (Vec<bool>, Vec<bool>) = keys.iter().filter_map(is_dead).partition(|is_dead| *is_dead);
    (live.len(), dead.len())
}

/// Has these keys expire after so many milliseconds.
fn expire(world: &mut World, keys: &[String], ms: &str) {
    let expires: Vec<Vec<&str>> = keys.iter().map(|key| vec!["PEXPIRE", key, ms]).collect();
    assert!(ask(world, 0, &expires).iter().all(|it| *it == Value::Int(1)));
}

/// The same, as two of three know.
fn shorten(world: &mut World, keys: &[String], ms: &str) {
    simulated::with(|network| network.cut(ip_of(0), ip_of(1)));
    expire(world, keys, ms);
}

/// Node 0 dies, and what it had on the way to node 1 with it.
fn die(world: &mut World) {
    simulated::with(|network| network.reset(ip_of(0), ip_of(1)));
    world.kill(0);
    simulated::with(|network| network.heal());
}

fn must_be_gone(world: &mut World, node: usize, keys: &[String]) {
    let gets: Vec<Vec<&str>> = keys.iter().map(|key| vec!["GET", key]).collect();
    for (key, value) in keys.iter().zip(ask(world, node, &gets)) {
        assert_eq!(value, Value::Null, "{key} through node {node}");
    }
}

#[test]
fn a_key_stays_expired_when_who_knew_that_a_replica_had_not_heard_of_its_deadline_dies() {
    simulate(|| {
        let mut world = begin();
        let keys = written(&mut world);
        shorten(&mut world, &keys, "100");
        until(&mut world, "they expire on node 2", |world| held(world, 2, &keys).0 == 0);
        let [teller, hearer] = [0, 2].map(|node| world.node(node).expect("it lives"));
        let said = hearer.peers.get(&teller.cluster.id()).map(|peer| peer.knows_of_older());
        assert_eq!(said, Some(true), "node 0 has told node 2 of node 1");
        assert!(held(&world, 1, &keys).0 > 0, "node 1 has not heard of all");
        die(&mut world);
        run(&mut world, 2_000);
        [1, 2].into_iter().for_each(|node| must_be_gone(&mut world, node, &keys));
    });
}

#[test]
fn a_key_expires_for_good_when_who_had_told_one_replica_of_its_deadline_has_died_before() {
    simulate(|| {
        let mut world = begin();
        let keys = written(&mut world);
        shorten(&mut world, &keys, "8000");
        die(&mut world);
        run(&mut world, 500);
        world.start_node(0);
        until(&mut world, "recover", |world| healthy(world).is_ok());
        run(&mut world, 9_000);
        (0..NODES).for_each(|node| must_be_gone(&mut world, node, &keys));
    });
}

#[test]
fn keys_that_expire_while_all_is_well_leave_nothing() {
    simulate(|| {
        let mut world = begin();
        let keys = written(&mut world);
        expire(&mut world, &keys, "100");
        run(&mut world, 2_000);
        assert_eq!([0, 1, 2].map(|node| held(&world, node, &keys)), [(0, 0); NODES]);
    });
}
