//! Reads everything back through every node once the load is over, and asks the checkers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::checkers;
use crate::history::{History, Read};
use crate::load::{KEYS, Load, Target, register_name};
use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::resp::Value;

/// How long a node may go on answering with errors after the last fault is over.
const SETTLE: Duration = Duration::from_secs(30);

/// What one node says that the cluster holds.
struct Last {
    reads: Vec<Read>,
    counters: BTreeMap<String, i64>,
    collections: BTreeMap<String, BTreeSet<String>>,
}

/// Ends a load, and panics with all complaints when an acknowledged write is missing from what any of `nodes` reads.
pub fn insist(what: &str, load: Load, nodes: &[Target]) -> History {
    let started = load.started();
    let history = load.finish();
    println!("{what}: {}", history.summary());
    assert!(!history.writes.is_empty() && !history.reads.is_empty(), "{what}: the load did nothing");
    let complaints = complaints(&history, started, nodes);
    assert!(complaints.is_empty(), "{what}: {} complaints:\n  {}", complaints.len(), complaints.join("\n  "));
    history
}

/// What is wrong with the history itself, and with what each of `nodes` reads now.
pub fn complaints(history: &History, started: Instant, nodes: &[Target]) -> Vec<String> {
    let mut complaints = checkers::registers(&history.writes, &history.reads);
    for node in nodes {
        let last = read_back(history, started, node);
        let mut found = checkers::registers(&history.writes, &last.reads);
        found.extend(checkers::counters(&history.counters, &last.counters));
        found.extend(checkers::collections(&history.added, &last.collections));
        complaints.extend(found.into_iter().map(|complaint| format!("at last, through {}: {complaint}", node.0)));
    }
    complaints
}

fn read_back(history: &History, started: Instant, (name, addr): &Target) -> Last {
    let client = Client::connect_to(*addr, SETTLE);
    let mut client = client.unwrap_or_else(|error| panic!("no connection to {name}: {error}"));
    let now = || started.elapsed().as_nanos() as u64;
    let mut reads = Vec::new();
    for key in 0..KEYS {
        let invoked = now();
        let reply = ask(&mut client, &["GET", &register_name(key)]);
        let seq = reply.int().map(|seq| seq as u64);
        reads.push(Read { key, seq, invoked, returned: now(), node: name.clone() });
    }
    let number = |client: &mut Client, key: &String| ask(client, &["GET", key]).int().unwrap_or(0);
    let counters = history.counters.keys().map(|key| (key.clone(), number(&mut client, key))).collect();
    let touched = history.added.acked.iter().chain(&history.added.unknown).map(|(key, _)| key.clone());
    let names: BTreeSet<String> = touched.collect();
    let collections = names.into_iter().map(|key| {
        let command = if key.starts_with("sadd") { "SMEMBERS" } else { "HKEYS" };
        let reply = ask(&mut client, &[command, &key]);
        (key, reply.items().unwrap_or_default().iter().filter_map(Value::text).collect())
    });
    let collections = collections.collect();
    Last { reads, counters, collections }
}

/// Asks until there is an answer that is no error.
fn ask(client: &mut Client, args: &[&str]) -> Value {
    let end = Instant::now() + SETTLE;
    loop {
        let reply = client.call(args);
        if !reply.is_error() {
            return reply;
        }
        assert!(Instant::now() < end, "{args:?} is still refused: {reply:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The whole apparatus on a server that keeps its word, and on one that was made to forget.
#[test]
fn a_good_server_passes_and_a_forgetful_one_does_not() {
    let _alone = crate::alone();
    let redis = Redis::start(&[]);
    let node = ("redis".to_owned(), ([127, 0, 0, 1], redis.port).into());
    let load = Load::start(1, std::slice::from_ref(&node));
    std::thread::sleep(Duration::from_secs(1));
    let started = load.started();
    let history = load.finish();
    assert!(history.writes.len() > KEYS && history.reads.len() > 100, "{}", history.summary());
    assert_eq!(complaints(&history, started, std::slice::from_ref(&node)), Vec::<String>::new());
    let mut client = redis.client();
    for (forget, because) in [
        ("DEL register:3", "nil: key 3"),
        ("SET register:4 1", "stale: key 4"),
        ("INCRBY counter:1 -1", "counter counter:1"),
        ("DEL sadd:2", "lost:"),
    ] {
        client.run(forget);
        let complaints = complaints(&history, started, std::slice::from_ref(&node));
        assert!(complaints.iter().any(|complaint| complaint.contains(because)), "{forget}: {complaints:?}");
    }
}
