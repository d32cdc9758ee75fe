//! Commands whose keys have several coordinators, on the standalone face of any node: replies as of one Redis, each outcome
//! whole, nothing lost under contention or when a node dies in the middle.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::client::Client;
use support::cluster::Cluster;
use support::resp::Value;

/// Keys of this name and number, of which three in a row never share a slot.
fn key(name: &str, i: usize) -> String {
    format!("{name}:{i}")
}

fn set_of(client: &mut Client, line: &str) -> BTreeSet<String> {
    client.run(line).items().unwrap_or_default().iter().filter_map(Value::text).collect()
}

fn is_retry(reply: &Value) -> bool {
    reply.text().is_some_and(|text| text.starts_with("TRYAGAIN"))
}

#[test]
fn every_command_takes_keys_of_any_node() {
    let cluster = Cluster::start(3, &[]);
    let mut clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    let expected: &[(&str, &str)] = &[
        ("MSETNX a 1 b 2 c 3 d 4 e 5", "1"),
        ("MSETNX f 1 a 9", "0"),
        ("EXISTS f", "0"),
        ("PEXPIREAT a 4102444800000", "1"),
        ("RENAME a z", "OK"),
        ("PEXPIRETIME z", "4102444800000"),
        ("GET a", "null"),
        ("RENAMENX z b", "0"),
        ("RENAMENX z a", "1"),
        ("RENAME none x", "ERR no such key"),
        ("COPY a b", "0"),
        ("COPY a y REPLACE", "1"),
        ("COPY a b DB 5", "1"),
        ("COPY a b DB 5", "0"),
        ("BITOP OR x b c d", "1"),
        ("GET x", "7"),
        ("LCS b x LEN", "0"),
        ("SADD s m n 7", "3"),
        ("SADD t n o", "2"),
        ("SMOVE s t m", "1"),
        ("SMOVE s t nothing", "0"),
        ("SINTERCARD 2 s t", "1"),
        ("SUNIONSTORE u s t", "4"),
        ("SDIFFSTORE u s t", "1"),
        ("SINTERSTORE u s none", "0"),
        ("EXISTS u", "0"),
        ("SMOVE a t m", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SUNION s a", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ];
    for (i, (line, reply)) in expected.iter().enumerate() {
        let found = clients[i % 3].run(line);
        let found = if found.is_null() { "null".to_owned() } else { found.text().unwrap_or_default() };
        assert_eq!(found, *reply, "{line}");
    }
    let client = &mut clients[1];
    assert_eq!(set_of(client, "SUNION s t"), ["7", "m", "n", "o"].map(str::to_owned).into());
    client.run("MULTI");
    client.run("RENAME t v");
    client.run("SMOVE v s o");
    let replies = client.run("EXEC");
    assert_eq!(
        replies.items().map(|items| items.iter().filter_map(Value::text).collect()),
        Some(vec!["OK".to_owned(), "1".to_owned()])
    );
    assert_eq!(
        client.run("RONDO.APPLY a x"),
        Value::Error(b"ERR unknown command 'RONDO.APPLY', with args beginning with: 'a' 'x' ".to_vec())
    );
}

/// Many clients move the same members about, take the same locks, and rename the same keys at once.
#[test]
fn nothing_is_lost_or_doubled_under_contention() {
    const MEMBERS: usize = 12;
    const SETS: usize = 5;
    let cluster = Cluster::start(3, &[]);
    let mut first = cluster.nodes[0].client();
    (0..MEMBERS).for_each(|i| drop(first.call(&["SADD", &key("set", i % SETS), &key("m", i)])));
    let (locked, broken) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (number, node) in cluster.nodes.iter().chain(&cluster.nodes).enumerate() {
            let (locked, broken) = (&locked, &broken);
            scope.spawn(move || {
                let mut client = node.client();
                for step in 0..60 {
                    let (from, to) = ((number + step) % SETS, (number * 3 + step * 2 + 1) % SETS);
                    let member = key("m", (number * 7 + step * 5) % MEMBERS);
                    let reply = client.call(&["SMOVE", &key("set", from), &key("set", to), &member]);
                    assert!(reply.int().is_some() || is_retry(&reply), "{reply:?}");
                    let reply = client.call(&["MSETNX", "lock:a", "1", "lock:b", "1", "lock:c", "1"]);
                    if reply.int() == Some(1) {
                        if locked.fetch_add(1, Ordering::SeqCst) != 0 {
                            broken.fetch_add(1, Ordering::SeqCst);
                        }
                        locked.fetch_sub(1, Ordering::SeqCst);
                        assert_eq!(client.run("DEL lock:a lock:b lock:c").int(), Some(3), "a lock is whole");
                    }
                }
            });
        }
    });
    assert_eq!(broken.load(Ordering::SeqCst), 0, "two clients held the lock at once");
    let mut found: Vec<String> =
        (0..SETS).flat_map(|i| set_of(&mut first, &format!("SMEMBERS {}", key("set", i)))).collect();
    found.sort();
    let mut all: Vec<String> = (0..MEMBERS).map(|i| key("m", i)).collect();
    all.sort();
    assert_eq!(found, all, "each member is in one set");
    assert_eq!(first.run("EXISTS lock:a lock:b lock:c").int(), Some(0));
}

/// Values wander from name to name while a node is killed: each is still somewhere.
#[test]
fn a_rename_loses_nothing_when_a_node_dies() {
    const VALUES: usize = 8;
    let mut cluster = Cluster::start(3, &[]);
    let names = |value: usize, at: usize| format!("wander:{value}:{at}");
    let mut first = cluster.nodes[0].client();
    (0..VALUES).for_each(|i| drop(first.call(&["SET", &names(i, 0), &key("value", i)])));
    let stop = AtomicBool::new(false);
    let ports = cluster.ports();
    let steps = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for value in 0..VALUES {
            let (stop, steps, port) = (&stop, &steps, ports[value % 2]);
            scope.spawn(move || {
                let mut client = Client::to(port);
                let mut at = 0;
                while !stop.load(Ordering::Relaxed) {
                    match client.call(&["RENAME", &names(value, at), &names(value, at + 1)]) {
                        Value::Simple(_) => at += 1,
                        // Not known, or not done: go on from the name that is there.
                        _ if client.call(&["EXISTS", &names(value, at + 1)]).int() == Some(1) => at += 1,
                        _ => {}
                    }
                    steps.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let moved = |more: u64| {
            let from = steps.load(Ordering::Relaxed);
            let came = support::wait_for(Duration::from_secs(60), || {
                (steps.load(Ordering::Relaxed) >= from + more).then_some(())
            });
            assert!(came.is_some(), "the values stand still");
        };
        moved(100);
        cluster.nodes[2].kill();
        moved(200);
        stop.store(true, Ordering::Relaxed);
    });
    for value in 0..VALUES {
        let keys = set_of(&mut first, &format!("KEYS wander:{value}:*"));
        let held: BTreeSet<String> = keys.iter().filter_map(|name| first.call(&["GET", name]).text()).collect();
        assert_eq!(held, BTreeSet::from([key("value", value)]), "value {value} under {keys:?}");
    }
}

/// A node that got no turn for a moment refuses what has lain too long, and runs nothing of it: EXEC asks again.
#[test]
fn a_transaction_that_was_not_run_is_asked_again() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.nodes[0].client();
    for round in 0..30 {
        for line in ["MULTI", "INCR a", "INCR b", "INCR c", "INCR d", "INCR e"] {
            client.run(line);
        }
        let slow = cluster.nodes[1 + round % 2].process();
        slow.pause();
        client.send(b"*1\r\n$4\r\nEXEC\r\n").expect("taken");
        std::thread::sleep(Duration::from_millis(150));
        slow.resume();
        let reply = client.receive().expect("a reply");
        assert!(!is_retry(&reply), "round {round}: {reply:?}");
    }
}
