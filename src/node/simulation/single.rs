//! What single stories have in common: three nodes, and one thing after the other by hand instead of by chance.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::os;
use super::story::healthy;
use super::world::{PORT, World, ip_of};
use crate::base::ids::slot_of;
use crate::base::net::TcpStream;
use crate::protocol::client::{ReplyDecoder, Value, encode_command};

/// In each story.
pub const NODES: usize = 3;
const MS_US: u64 = 1_000;
const PATIENCE_MS: u64 = 30_000;
/// Some of them node 0 coordinates.
const KEYS: usize = 60;

/// Runs a story on a thread that simulates.
pub fn simulate(story: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        os::begin(7);
        story();
    })
    .join()
    .expect("a story");
}

/// Nodes with these options that have formed a cluster.
pub fn begin(options: &[(&str, &str)]) -> World {
    let mut world = World::new(World::draws_of(7), 7, NODES, options);
    (0..NODES).for_each(|node| world.start_node(node));
    until(&mut world, "form", |world| healthy(world).is_ok());
    world
}

/// So much time goes by.
pub fn run(world: &mut World, ms: u64) {
    world.run_until(world.now_us() + ms * MS_US);
}

/// Goes on until this is so.
pub fn until(world: &mut World, what: &str, is_done: impl Fn(&World) -> bool) {
    let until_us = world.now_us() + PATIENCE_MS * MS_US;
    while !is_done(world) {
        assert!(world.now_us() < until_us, "never: {what}");
        run(world, 10);
    }
}

/// What a node answers to these commands, sent in one go.
pub fn ask(world: &mut World, node: usize, commands: &[Vec<&str>]) -> Vec<Value> {
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
pub fn written(world: &mut World) -> Vec<String> {
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
pub fn held(world: &World, node: usize, keys: &[String]) -> (usize, usize) {
    let store = &world.node(node).expect("it lives").shared.node.store;
    let is_dead = |key: &String| {
        let table = store.table(slot_of(key.as_bytes()));
        table.iter().find(|entry| entry.key() == key.as_bytes()).map(|entry| entry.is_tombstone())
    };
    let (dead, live): (Vec<bool>, Vec<bool>) = keys.iter().filter_map(is_dead).partition(|is_dead| *is_dead);
    (live.len(), dead.len())
}

/// Nobody who asks this node finds one of these keys.
pub fn must_be_gone(world: &mut World, node: usize, keys: &[String]) {
    let gets: Vec<Vec<&str>> = keys.iter().map(|key| vec!["GET", key]).collect();
    for (key, value) in keys.iter().zip(ask(world, node, &gets)) {
        assert_eq!(value, Value::Null, "{key} through node {node}");
    }
}
