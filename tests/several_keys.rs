//! Commands whose keys have several coordinators, on the standalone face of any node: replies as of one Redis, each
//! outcome whole, nothing lost under contention or when a node dies in the middle. Transactions over any nodes.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::client::{Client, encode};
use support::cluster::{Cluster, Node};
use support::redis::Redis;
use support::resp::Value;
use support::{StopOnDrop, wait_for};

/// A generous bound on things that must happen at all.
const AT_ALL: Duration = Duration::from_secs(60);

/// Keys of this name and number, of which three in a row never share a slot.
fn key(name: &str, i: usize) -> String {
    format!("{name}:{i}")
}

fn set_of(client: &mut Client, line: &str) -> BTreeSet<String> {
    let reply = client.run(line);
    reply.items().unwrap_or_else(|| panic!("{line}: {reply:?}")).iter().filter_map(Value::text).collect()
}

fn says(reply: &Value, word: &str) -> bool {
    reply.text().is_some_and(|text| text.starts_with(word))
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

/// A client that breaks off, or is killed, while its command is under way leaves all of it or nothing.
#[test]
fn what_was_begun_is_done_to_its_end_though_its_client_has_gone() {
    const KEYS: usize = 12;
    let cluster = Cluster::start(3, &[]);
    let mut other = cluster.nodes[0].client();
    for round in 0..120 {
        let keys: Vec<String> = (0..KEYS).map(|i| key(&format!("r{round}"), i)).collect();
        let mut request = Vec::new();
        encode(&mut request, &[&["MSETNX"], &keys.iter().flat_map(|key| [key, "v"]).collect::<Vec<_>>()[..]].concat());
        let mut client = cluster.nodes[round % 3].client();
        let id = client.run("CLIENT ID").int().expect("a number").to_string();
        client.send(&request).expect("sent");
        std::thread::sleep(Duration::from_micros(200 + round as u64 * 37 % 3_300));
        match round % 4 {
            0 => _ = cluster.nodes[round % 3].client().call(&["CLIENT", "KILL", "ID", &id]),
            _ => client.reset(),
        }
        let exist = [&["EXISTS"], &keys.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
        let mut found = None;
        wait_for(AT_ALL, || {
            found = other.call(&exist).int();
            (found == Some(0) || found == Some(KEYS as i64)).then_some(())
        });
        assert!(found == Some(0) || found == Some(KEYS as i64), "round {round}: {found:?} of {KEYS} keys");
    }
}

/// Whether the locks could be deleted, or were before.
fn unlocked(client: &mut Client) -> Option<()> {
    (!client.run("DEL lock:a lock:b lock:c").is_error()).then_some(())
}

/// Many clients move the same members about, take the same locks, and rename the same keys at once.
#[test]
fn nothing_is_lost_or_doubled_under_contention() {
    const MEMBERS: usize = 12;
    const SETS: usize = 5;
    let cluster = Cluster::start(3, &[]);
    let mut first = cluster.nodes[0].client();
    for i in 0..MEMBERS {
        assert_eq!(first.call(&["SADD", &key("set", i % SETS), &key("m", i)]).int(), Some(1));
    }
    let (locked, broken, unknown) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (number, node) in cluster.nodes.iter().chain(&cluster.nodes).enumerate() {
            let (locked, broken, unknown) = (&locked, &broken, &unknown);
            scope.spawn(move || {
                let mut client = node.client();
                for step in 0..60 {
                    let (from, to) = ((number + step) % SETS, (number * 3 + step * 2 + 1) % SETS);
                    let member = key("m", (number * 7 + step * 5) % MEMBERS);
                    let reply = client.call(&["SMOVE", &key("set", from), &key("set", to), &member]);
                    let is_unknown = says(&reply, "TIMEOUT");
                    unknown.fetch_add(u64::from(is_unknown), Ordering::SeqCst);
                    assert!(reply.int().is_some() || says(&reply, "TRYAGAIN") || is_unknown, "{reply:?}");
                    let reply = client.call(&["MSETNX", "lock:a", "1", "lock:b", "1", "lock:c", "1"]);
                    if reply.int() == Some(1) {
                        if locked.fetch_add(1, Ordering::SeqCst) != 0 {
                            broken.fetch_add(1, Ordering::SeqCst);
                        }
                        // For as long as this takes somebody else may come in, if the lock is none.
                        client.run("GET lock:a");
                        locked.fetch_sub(1, Ordering::SeqCst);
                        let deleted = client.run("DEL lock:a lock:b lock:c");
                        // On a machine that is starved it may be refused, and be asked for again.
                        let is_gone = deleted.is_error() && wait_for(AT_ALL, || unlocked(&mut client)).is_some();
                        assert!(is_gone || deleted.int() == Some(3), "a lock is whole: {deleted:?}");
                    }
                }
            });
        }
    });
    assert_eq!(broken.load(Ordering::SeqCst), 0, "two clients held the lock at once");
    let mut found: Vec<String> =
        (0..SETS).flat_map(|i| set_of(&mut first, &format!("SMEMBERS {}", key("set", i)))).collect();
    found.sort();
    if unknown.load(Ordering::SeqCst) > 0 {
        // A move that was cut short on a starved machine may have left a member in both sets.
        found.dedup();
    }
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
        let _stops = StopOnDrop(&stop);
        let moved = |more: u64| {
            let from = steps.load(Ordering::Relaxed);
            let came = wait_for(AT_ALL, || (steps.load(Ordering::Relaxed) >= from + more).then_some(()));
            assert!(came.is_some(), "the values stand still");
        };
        moved(100);
        cluster.nodes[2].kill();
        moved(200);
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
        assert!(!says(&reply, "TRYAGAIN"), "round {round}: {reply:?}");
    }
}

/// Which of these nodes answers for a key, as the cluster face of the first says.
fn home<'c>(nodes: &[&'c Node], key: &str) -> &'c Node {
    let reply = Client::to(nodes[0].cluster_port).call(&["EXISTS", key]);
    let moved = reply.text().filter(|text| text.starts_with("MOVED ")).unwrap_or_default();
    let port = moved.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    nodes.iter().find(|node| Some(node.cluster_port) == port).unwrap_or(&nodes[0])
}

/// What needs memory is refused when one of the coordinators has none left, whoever is asked, and changes nothing on
/// the others; when that may evict, it makes room.
#[test]
fn a_coordinator_without_memory_refuses_or_evicts() {
    let cluster = Cluster::start(3, &[]);
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    let key_of = |node: &Node, name: &str| {
        (0..)
            .map(|i| key(name, i))
            .find(|key| home(&nodes, key).port == node.port)
            .expect("each node is some key's home")
    };
    let [a, b] = [key_of(nodes[0], "a"), key_of(nodes[1], "b")];
    let [from, set, all] = [key_of(nodes[0], "from"), key_of(nodes[0], "set"), key_of(nodes[1], "all")];
    let (mut client, mut full) = (nodes[0].client(), nodes[1].client());
    (0..1_000).for_each(|i| drop(client.call(&["SET", &key("filling", i), &"x".repeat(2_000)])));
    client.call(&["SET", &from, "v"]);
    client.call(&["SADD", &set, "m"]);
    client.call(&["SADD", &all, "m"]);
    full.run("CONFIG SET maxmemory 1");
    let lines: [&[&str]; 4] = [
        &["MSETNX", &a, "1", &b, "2"],
        &["COPY", &from, &b],
        &["SINTERSTORE", &b, &set, &all],
        &["BITOP", "OR", &b, &from, &a],
    ];
    for line in lines {
        let full = Value::Error(b"OOM command not allowed when used memory > 'maxmemory'.".to_vec());
        assert_eq!(client.call(line), full, "{line:?}");
        assert_eq!(client.call(&["EXISTS", &a, &b]).int(), Some(0), "{line:?}");
    }
    assert_eq!(client.call(&["RENAME", &from, &b]).text().as_deref(), Some("OK"), "it needs no more memory");
    full.run("CONFIG SET maxmemory-policy allkeys-random");
    full.run("CONFIG SET maxmemory 1mb");
    client.call(&["DEL", &b]);
    assert_eq!(client.call(lines[0]), Value::Int(1), "it has evicted others");
}

/// Requests that go to one node together, because it stands in for another, and that nobody runs there, may have
/// several coordinators when they are run again. They take effect in their order all the same.
#[test]
fn what_one_node_did_not_run_is_run_in_its_order_by_several() {
    let cluster = Cluster::start(3, &[]);
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    let [_, slow, lost] = nodes[..] else { panic!("three nodes") };
    let key_of = |node: &Node| (0..).map(|i| key("ordered", i)).find(|key| home(&nodes, key).port == node.port);
    let (Some(a), Some(b)) = (key_of(slow), key_of(lost)) else { panic!("each node is some key's home") };
    let mut client = nodes[0].client();
    let mut compared = 0;
    for round in 0..12 {
        lost.process().pause();
        // Until `slow` stands in for it.
        std::thread::sleep(Duration::from_millis(400));
        slow.process().pause();
        let lines = [vec!["INCR", &a], vec!["COPY", &a, &b, "REPLACE"], vec!["GET", &b]];
        let mut requests = Vec::new();
        (0..3).flat_map(|_| &lines).for_each(|line| encode(&mut requests, line));
        client.send(&requests).expect("taken");
        lost.process().resume();
        std::thread::sleep(Duration::from_millis(250));
        slow.process().resume();
        for _ in 0..3 {
            let replies = [(); 3].map(|()| client.receive().expect("a reply"));
            let [counted, _, copied] = &replies;
            if replies.iter().all(|reply| !reply.is_error()) {
                compared += 1;
                assert_eq!(copied.text(), counted.int().map(|it| it.to_string()), "round {round}");
            }
        }
        cluster.must_settle();
    }
    assert!(compared > 0, "some were run");
    println!("{compared} of 36 were run");
}

/// Commands that have no keys, or are about the whole keyspace, run in a transaction whoever coordinates the watched
/// keys.
#[test]
fn watching_asks_nothing_of_commands_without_keys() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(3, &[]));
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    let conversation = |port: u16, key: &str| {
        let mut client = Client::to(port);
        let lines = [
            "FLUSHALL",
            "WATCH KEY",
            "MULTI",
            "SET KEY 1",
            "PUBLISH channel message",
            "PING",
            "ECHO words",
            "CLIENT GETNAME",
            "SELECT 1",
            "SET KEY 2",
            "DBSIZE",
            "SUBSCRIBE a b",
            "CONFIG GET maxmemory",
            "SELECT 99",
            "INCR KEY",
            "EXEC",
            "UNSUBSCRIBE b a",
            "GET KEY",
            "SELECT 0",
            "GET KEY",
        ];
        let replies = lines.map(|line| client.run(&line.replace("KEY", key)));
        let more = client.drain(Duration::from_millis(100));
        (replies, String::from_utf8_lossy(&more).into_owned())
    };
    let mut homes = BTreeSet::new();
    for i in 0..12 {
        let key = key("watched", i);
        homes.insert(home(&nodes, &key).port);
        assert_eq!(conversation(cluster.nodes[i % 3].port, &key), conversation(redis.port, &key), "{key}");
    }
    assert_eq!(homes.len(), 3, "every node had a watched key");
}

/// Once a part of a transaction has run, EXEC answers for every request: what gives an error alone is run again.
#[test]
fn a_transaction_that_has_run_in_part_says_so_request_by_request() {
    let mut cluster = Cluster::start(4, &["--quorum-mode", "strict"]);
    cluster.nodes[3].kill();
    cluster.nodes[2].kill();
    let nodes: Vec<&Node> = cluster.nodes.iter().take(2).collect();
    let works = |node: &Node, key: &str| !Client::to(node.cluster_port).call(&["SET", key, "0"]).is_error();
    let find = |at: usize, must_work: bool| {
        let mut keys = (0..100).map(|i| key("part", i));
        let fits = |key: &String| home(&nodes, key).port == nodes[at].port && works(nodes[at], key) == must_work;
        wait_for(Duration::from_secs(90), || keys.find(|key| fits(key))).expect("such a key")
    };
    let (runs, refused) = (find(0, true), find(1, false));
    let exec = |node: &Node, keys: &[&String]| {
        let mut client = node.client();
        client.run("MULTI");
        keys.iter().for_each(|key| drop(client.call(&["INCR", key])));
        client.run("EXEC")
    };
    let down = Value::Error(b"CLUSTERDOWN too few replicas of this hash slot answered in time".to_vec());
    let keys = [&runs, &refused, &runs];
    // The group of the node that the client talks to is the last.
    assert_eq!(exec(nodes[1], &keys), Value::Array(vec![Value::Int(1), down, Value::Int(2)]));
    let told = exec(nodes[0], &keys);
    assert!(says(&told, "TRYAGAIN ") || says(&told, "CLUSTERDOWN "), "nothing has run: {told:?}");
    assert_eq!(exec(nodes[0], &[&runs]), Value::Array(vec![Value::Int(3)]));
}

/// So it is when a node stops in the middle: of its requests nobody knows.
#[test]
fn a_transaction_whose_second_node_stops_tells_what_the_first_has_done() {
    let cluster = Cluster::start(3, &[]);
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    let of = |at: usize| {
        (0..100).map(|i| key("stopped", i)).find(|key| home(&nodes, key).port == nodes[at].port).expect("such a key")
    };
    let (first, second) = (of(2), of(1));
    let mut client = nodes[0].client();
    let mut count = 0;
    let is_told = |reply: &Value| {
        let Value::Array(items) = reply else { panic!("what has run is told: {reply:?}") };
        items.get(1).is_some_and(|item| says(item, "TIMEOUT"))
    };
    for _ in 0..10 {
        client.run("MULTI");
        [&first, &second, &first].iter().for_each(|key| drop(client.call(&["INCR", key])));
        nodes[1].process().pause();
        client.send(b"*1\r\n$4\r\nEXEC\r\n").expect("taken");
        let reply = client.receive();
        nodes[1].process().resume();
        let reply = reply.expect("a reply");
        let is_told = is_told(&reply);
        count += 2;
        assert_eq!(client.call(&["GET", &first]).text(), Some(count.to_string()), "{reply:?}");
        if is_told {
            return;
        }
        // The other nodes had noticed before EXEC came.
        cluster.must_settle();
    }
    panic!("the node was never asked while it stood still");
}

/// A command without keys does not open a transaction to others in the middle.
#[test]
fn nobody_sees_half_of_a_transaction_that_pings_and_publishes() {
    let cluster = Cluster::start(1, &["--workers", "2"]);
    let mut transaction = b"MULTI\r\nINCR even\r\n".to_vec();
    (0..4_000).for_each(|_| transaction.extend_from_slice(b"PING\r\nECHO x\r\nPUBLISH c m\r\n"));
    transaction.extend_from_slice(b"INCR even\r\nEXEC\r\n");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _stops = StopOnDrop(&is_over);
            let mut client = cluster.nodes[0].client();
            for _ in 0..10 {
                client.send(&transaction).expect("taken");
                let queued = 2 + 3 * 4_000;
                (0..=queued).for_each(|_| drop(client.receive().expect("a reply")));
                assert!(!client.receive().expect("a reply").is_error());
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = cluster.nodes[0].client();
                while !is_over.load(Ordering::Relaxed) {
                    let seen = client.run("GET even").text().map_or(0, |text| text.parse::<u64>().expect("a number"));
                    assert_eq!(seen % 2, 0, "half of a transaction");
                }
            });
        }
    });
}

/// A watched key that was not there and is not there again has changed, if it was there in between.
#[test]
fn a_watched_key_that_came_and_went_has_changed() {
    let (redis, alone, cluster) = (Redis::start(&[]), Cluster::start(1, &[]), Cluster::start(3, &[]));
    let meanwhile: &[&[&str]] = &[
        &["SET KEY v", "DEL KEY"],
        &["SADD KEY m", "SREM KEY m"],
        &["SET KEY v", "FLUSHALL"],
        &["SET KEY v", "FLUSHDB"],
        &["FLUSHALL"],
        &["SET {KEY}other v", "FLUSHALL", "SET KEY v", "DEL KEY"],
        &["SET KEY v", "PEXPIREAT KEY 1"],
        &["SET KEY v", "RENAME KEY {KEY}other"],
        &["SET KEY v"],
        &["DEL KEY"],
        &["GET KEY"],
        &["SET {KEY}other v", "DEL {KEY}other"],
        &["SELECT 1", "SET KEY v", "DEL KEY"],
    ];
    // The second time, what was there before has left its traces.
    let conversation = |port: u16, key: &str, lines: &[&str]| {
        [(); 2].map(|()| {
            let (mut client, mut other) = (Client::to(port), Client::to(port));
            client.call(&["WATCH", key]);
            lines.iter().for_each(|line| drop(other.run(&line.replace("KEY", key))));
            client.run("MULTI");
            client.run("PING");
            let reply = client.run("EXEC");
            client.call(&["DEL", key]);
            reply
        })
    };
    for (i, lines) in meanwhile.iter().enumerate() {
        let key = key("absent", i);
        let theirs = conversation(redis.port, &key, lines);
        assert_eq!(conversation(alone.nodes[0].port, &key, lines), theirs, "one node: {lines:?}");
        for node in &cluster.nodes {
            assert_eq!(conversation(node.port, &key, lines), theirs, "{}: {lines:?}", node.name);
        }
    }
}
