//! What the node says that keys and values take, beside what the process really grew by.

use crate::support::cluster::{Cluster, Node};
use crate::{alone, each, metric, words};

/// What all keys of one shape take together, so that the process's own needs do not count.
const BYTES: usize = 48 << 20;
/// How far the count may be from the growth, either way.
const TOLERANCE: f64 = 0.15;

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

#[test]
fn the_count_of_bytes_follows_what_the_process_takes() {
    let _alone = alone();
    let mut complaints = Vec::new();
    for shape in SHAPES {
        let cluster = Cluster::start(1, &[]);
        let node = &cluster.nodes[0];
        let mut client = node.client();
        let before = (metric(node, "rondo_memory_used_bytes "), resident_bytes(node));
        assert_eq!(each(&mut client, 0..shape.keys, |n| words(&(shape.request)(n))), 0);
        let counted = metric(node, "rondo_memory_used_bytes ") - before.0;
        let grown = resident_bytes(node) - before.1;
        let ratio = counted / grown;
        println!(
            "{}: {} keys, {:.1} MB counted, {:.1} MB grown, ratio {ratio:.3}",
            shape.name,
            shape.keys,
            counted / 1e6,
            grown / 1e6
        );
        if (ratio - 1.0).abs() > TOLERANCE {
            complaints.push(format!("{}: {ratio:.3}", shape.name));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}
