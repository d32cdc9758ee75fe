//! What the node says that keys and values take, beside what the process really grew by.

use std::time::Duration;

use crate::support::client::{Client, encode};
use crate::support::cluster::{Cluster, Node};
use crate::{alone, each, metric, must, words};

/// What all keys of one shape take together, so that the process's own needs do not count.
const BYTES: usize = 48 << 20;
/// How far the count may be from the growth, either way.
const TOLERANCE: f64 = 0.15;
/// The same once all keys have come and gone three times: pages are no longer full, and buffers have grown.
const TOLERANCE_WORN: f64 = 0.25;

/// What a process may have grown by, as a share of what it holds, once others have taken the place of all its keys;
/// with room for both it would be 1.
const GROWN_MAX: f64 = 0.6;

/// Shapes that are looked at on three nodes.
const REPLICATED: &[&str] = &["strings of 100 bytes with a TTL", "hashes of 5 fields"];
/// Comparisons one after the other, so that deletions are soon forgotten.
const EAGER: &[&str] = &["--anti-entropy-interval-ms", "100", "--tombstone-age-min-ms", "500"];

struct Shape {
    name: &'static str,
    keys: usize,
    request: fn(usize) -> String,
}

fn resident_bytes(node: &Node) -> f64 {
    let path = format!("/proc/{}/statm", node.process().pid());
    let text = std::fs::read_to_string(path).expect("a running process");
    let pages: f64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096.0
}

fn has_thread(node: &Node, name: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", node.process().pid())).expect("a running process");
    // One that ends meanwhile has no name any more.
    let names = threads.flatten().flat_map(|thread| std::fs::read_to_string(thread.path().join("comm")));
    names.into_iter().any(|it| it.trim_end() == name)
}

const SHAPES: &[Shape] = &[
    Shape { name: "strings of 10 bytes", keys: BYTES / 120, request: |n| format!("SET key:{n:0>12} {n:0>10}") },
    Shape {
        name: "strings of 10 bytes with a TTL",
        keys: BYTES / 120,
        request: |n| format!("SET key:{n:0>12} {n:0>10} EX 9999"),
    },
    Shape { name: "strings of 100 bytes", keys: BYTES / 210, request: |n| format!("SET key:{n:0>12} {n:0>100}") },
    Shape {
        name: "strings of 100 bytes with a TTL",
        keys: BYTES / 210,
        request: |n| format!("SET key:{n:0>12} {n:0>100} EX 9999"),
    },
    Shape { name: "strings of 2048 bytes", keys: BYTES / 2_400, request: |n| format!("SET key:{n:0>12} {n:0>2048}") },
    Shape {
        name: "hashes of 5 fields",
        keys: BYTES / 600,
        request: |n| format!("HSET key:{n:0>12} name {n:0>20} mail {n:0>20} a {n} b {n:0>9} c {n:0>30}"),
    },
    Shape {
        name: "sets of 8 members",
        keys: BYTES / 600,
        request: |n| {
            let members: Vec<String> = (n..n + 8).map(|n| format!("member:{n}")).collect();
            format!("SADD key:{n:0>12} {}", members.join(" "))
        },
    },
];

/// The count and the process's size, as they were.
struct Before<'c> {
    node: &'c Node,
    counted: f64,
    resident: f64,
}

impl Before<'_> {
    fn of(node: &Node) -> Before<'_> {
        Before { node, counted: metric(node, "rondo_memory_used_bytes "), resident: resident_bytes(node) }
    }

    /// What is wrong with the count after some growth.
    fn complaint(&self, what: &str, tolerance: f64) -> Option<String> {
        let counted = metric(self.node, "rondo_memory_used_bytes ") - self.counted;
        let grown = resident_bytes(self.node) - self.resident;
        let ratio = counted / grown;
        println!(
            "{what}, {}: {:.1} MB counted, {:.1} MB grown, ratio {ratio:.3}",
            self.node.name,
            counted / 1e6,
            grown / 1e6
        );
        ((ratio - 1.0).abs() > tolerance).then(|| format!("{what}, {}: {ratio:.3}", self.node.name))
    }
}

fn fill(cluster: &Cluster, shape: &Shape) {
    let mut client = cluster.nodes[0].client();
    assert_eq!(each(&mut client, 0..shape.keys, |n| words(&(shape.request)(n))), 0, "{}", shape.name);
    for node in &cluster.nodes {
        must("every node holds its copies", || metric(node, "rondo_keys{") == shape.keys as f64);
    }
}

#[test]
fn the_count_of_bytes_follows_what_the_process_takes() {
    let _alone = alone();
    let mut complaints = Vec::new();
    for shape in SHAPES {
        let cluster = Cluster::start(1, &[]);
        let before = Before::of(&cluster.nodes[0]);
        fill(&cluster, shape);
        complaints.extend(before.complaint(shape.name, TOLERANCE));
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn it_does_so_on_every_replica_too() {
    let _alone = alone();
    let mut complaints = Vec::new();
    for shape in SHAPES.iter().filter(|shape| REPLICATED.contains(&shape.name)) {
        // Nodes with links need some megabytes more for themselves: enough keys that these do not count.
        let shape = &Shape { keys: shape.keys * 3, ..*shape };
        let cluster = Cluster::start(3, &[]);
        let before: Vec<Before<'_>> = cluster.nodes.iter().map(Before::of).collect();
        fill(&cluster, shape);
        complaints.extend(before.iter().filter_map(|before| before.complaint(shape.name, TOLERANCE)));
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// What keys took that were deleted, have expired, or were flushed is counted no longer, goes back to the system, and
/// is taken anew for those that come.
#[test]
fn what_has_left_is_not_counted_and_its_memory_goes_back() {
    let _alone = alone();
    let shape = &SHAPES[3];
    for nodes in [1, 3] {
        let cluster = Cluster::start(nodes, EAGER);
        let before: Vec<Before<'_>> = cluster.nodes.iter().map(Before::of).collect();
        let mut client = cluster.nodes[0].client();
        for way in ["deleted", "expired", "flushed"] {
            fill(&cluster, shape);
            match way {
                "deleted" => assert_eq!(each(&mut client, 0..shape.keys, |n| words(&format!("DEL key:{n:0>12}"))), 0),
                "expired" => {
                    assert_eq!(each(&mut client, 0..shape.keys, |n| words(&format!("PEXPIRE key:{n:0>12} 1"))), 0);
                }
                _ => assert_eq!(client.run("FLUSHALL").text().as_deref(), Some("OK")),
            }
            for before in &before {
                let kept = || metric(before.node, "rondo_memory_used_bytes ") - before.counted;
                must("all are gone", || metric(before.node, "rondo_keys{") == 0.0);
                must("deletions are forgotten", || metric(before.node, "rondo_tombstones ") == 0.0);
                assert!(kept() < 1e6, "{way}, {}: {} bytes are left", before.node.name, kept());
                let grown = || resident_bytes(before.node) - before.resident;
                must("its memory has gone back to the system", || grown() < BYTES as f64 / 4.0);
                println!("{way}, {}: {:.1} MB more than at first", before.node.name, grown() / 1e6);
            }
        }
        fill(&cluster, shape);
        let complain = |before: &Before<'_>| before.complaint("filled again", TOLERANCE_WORN);
        let complaints: Vec<String> = before.iter().filter_map(complain).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// Replaces all keys of a shape, part by part, each by these clients in turn; gives what the process then took more at
/// most than before, as a share of what the node holds.
fn grown_by_replacing(node: &Node, shape: &Shape, clients: &mut [Client]) -> f64 {
    let parts = 12;
    let (filled, counted) = (resident_bytes(node), metric(node, "rondo_memory_used_bytes "));
    let mut grown_max = 0.0_f64;
    for part in 0..parts {
        // In another order than they were written in: of all that lie side by side some stay.
        let number = |n: usize| n * 7_919 % shape.keys;
        let (turns, count) = (clients.len() * parts, clients.len());
        for (turn, client) in (part * count..).zip(clients.iter_mut()) {
            let old = turn * shape.keys / turns..(turn + 1) * shape.keys / turns;
            assert_eq!(each(client, old.clone(), |n| words(&format!("DEL key:{:0>12}", number(n)))), 0);
            assert_eq!(each(client, old, |n| words(&(shape.request)(number(n) + shape.keys))), 0);
        }
        must("it holds no more keys", || metric(node, "rondo_keys{") == shape.keys as f64);
        // The node looks at its memory twice a second.
        std::thread::sleep(Duration::from_millis(600));
        let grown = (resident_bytes(node) - filled) / counted;
        println!("{} of {parts} replaced: {grown:.2} of what it holds more than before", part + 1);
        grown_max = grown_max.max(grown);
    }
    grown_max
}

/// Strings so large that many megabytes are soon written, and so many that what the allocator hands on at a time, 32
/// MB, does not count.
fn large_strings(bytes: usize) -> Shape {
    Shape { name: "strings of 8 KB", keys: bytes / 8_400, request: |n| format!("SET key:{n:0>12} {n:0>8192}") }
}

/// A node that others have filled gives new keys the memory of old ones, key by key: it does not need room for both.
#[test]
fn a_node_that_came_back_empty_needs_no_more_while_its_keys_are_replaced() {
    let _alone = alone();
    let shape = large_strings(6 * BYTES);
    let mut cluster = Cluster::start(3, EAGER);
    fill(&cluster, &shape);
    cluster.nodes[2].kill();
    cluster.restart(2);
    let node = &cluster.nodes[2];
    must("it is there again", || node.is_ready());
    must("it holds its copies again", || metric(node, "rondo_keys{") == shape.keys as f64);
    must("nothing more is handed over", || !has_thread(node, "merging"));
    let grown = grown_by_replacing(node, &shape, &mut [cluster.nodes[0].client()]);
    assert!(grown < GROWN_MAX, "{grown:.2}");
}

/// The same where one connection, and so one worker, has written all keys, and others replace them.
#[test]
fn keys_of_one_worker_make_room_for_those_of_others() {
    let _alone = alone();
    let shape = large_strings(12 * BYTES);
    let cluster = Cluster::start(1, &["--workers", "8"]);
    fill(&cluster, &shape);
    let mut clients: Vec<Client> = (0..16).map(|_| cluster.nodes[0].client()).collect();
    let grown = grown_by_replacing(&cluster.nodes[0], &shape, &mut clients);
    assert!(grown < GROWN_MAX, "{grown:.2}");
}

/// Most connections do nothing at any moment, and each has once asked for something large, or sent it in parts.
#[test]
fn connections_that_wait_hold_no_memory_for_what_they_once_asked_for() {
    let _alone = alone();
    const CLIENTS: usize = 400;
    const VALUE_BYTES: usize = 500_000;
    let cluster = Cluster::start(1, &[]);
    let node = &cluster.nodes[0];
    let mut request = Vec::new();
    encode(&mut request, &[b"SET".as_slice(), b"k", &[b'x'; VALUE_BYTES]]);
    let (first, rest) = request.split_at(VALUE_BYTES / 2);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| node.client()).collect();
    let before = resident_bytes(node);
    for client in &mut clients {
        client.send(first).expect("half a request");
        client.send(rest).expect("the other half");
        assert_eq!(client.receive().expect("a reply").text().as_deref(), Some("OK"));
        assert_eq!(client.run("GET k").text().map(|value| value.len()), Some(VALUE_BYTES));
    }
    let grown = resident_bytes(node) - before;
    let once = (CLIENTS * VALUE_BYTES) as f64;
    assert!(grown < once / 4.0, "{grown} bytes after {CLIENTS} connections have sent and read {VALUE_BYTES} each");
}
