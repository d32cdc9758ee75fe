//! How keys leave on their own, on real processes: by their deadline, and because memory is full.
//!
//! That expired keys are gone is asserted, and how long that took is printed, never asserted: the machine may be busy.
//! Bounds on bytes are generous, and the ratios are printed. `RONDO_LIFETIME_KEYS` (20,000) is how many keys expire
//! together: `RONDO_LIFETIME_KEYS=1000000 cargo test --release --test lifetimes -- --nocapture together` is the
//! measurement.

mod eviction;
mod memory;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::client::{Client, encode};
use support::cluster::{Cluster, Node};
use support::{alone, env_number, wait_for};

/// A generous bound on things that must happen at all.
const AT_ALL: Duration = Duration::from_secs(120);
/// Requests sent before their replies are read.
const PIPELINE: usize = 500;

fn must(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(wait_for(AT_ALL, || holds().then_some(())).is_some(), "never: {what}");
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis() as u64
}

fn metric(node: &Node, name: &str) -> f64 {
    wait_for(AT_ALL, || node.metric(name)).unwrap_or_else(|| panic!("{} does not answer", node.name))
}

/// Runs one request for each number, many at a time; gives how many replies were errors.
fn each(client: &mut Client, numbers: std::ops::Range<usize>, request: impl Fn(usize) -> Vec<String>) -> usize {
    let (mut at, mut errors) = (numbers.start, 0);
    while at < numbers.end {
        let to = (at + PIPELINE).min(numbers.end);
        let mut bytes = Vec::new();
        (at..to).for_each(|n| encode(&mut bytes, &request(n)));
        client.send(&bytes).expect("sent");
        errors += (at..to).filter(|_| client.receive().expect("a reply").is_error()).count();
        at = to;
    }
    errors
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Asks for a key that stays, again and again; gives the longest answer.
fn pinger(node: &Node, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Duration> {
    let mut client = node.client();
    std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            assert_eq!(client.run("GET stays").text().as_deref(), Some("here"));
            longest = longest.max(began.elapsed());
            std::thread::sleep(Duration::from_micros(200));
        }
        longest
    })
}

fn expire_together(nodes: usize) {
    let cluster = Cluster::start(nodes, &[]);
    let keys = env_number("RONDO_LIFETIME_KEYS", 20_000) as usize;
    let mut client = cluster.nodes[0].client();
    client.run("SET stays here");
    let before: Vec<f64> = cluster.nodes.iter().map(|node| metric(node, "rondo_memory_used_bytes ")).collect();
    // Long enough to write them all, however slow the machine is.
    let mut for_ms = 5_000 + keys as u64 / 20;
    let deadline_ms = loop {
        let deadline_ms = now_ms() + for_ms;
        assert_eq!(each(&mut client, 0..keys, |n| words(&format!("SET session:{n} {n:0>100} PXAT {deadline_ms}"))), 0);
        if now_ms() < deadline_ms {
            break deadline_ms;
        }
        for_ms *= 3;
    };
    let copies = nodes.min(3) as f64;
    let held: f64 = cluster.nodes.iter().map(|node| metric(node, "rondo_keys{")).sum();
    if now_ms() < deadline_ms {
        assert_eq!(held, copies * (keys as f64 + 1.0));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let pinging = pinger(&cluster.nodes[0], stop.clone());
    std::thread::sleep(Duration::from_millis(deadline_ms.saturating_sub(now_ms())));
    // From this moment on nobody reads one, swept or not.
    for node in &cluster.nodes {
        assert!(node.client().run(&format!("GET session:{}", keys / 2)).is_null(), "{}", node.name);
    }
    for node in &cluster.nodes {
        must("all are gone", || metric(node, "rondo_keys{") == 1.0);
    }
    let gone_ms = now_ms() - deadline_ms;
    stop.store(true, Ordering::Relaxed);
    let longest = pinging.join().expect("the pinger");
    println!("{keys} keys on {nodes} nodes: gone {gone_ms} ms after their deadline, longest GET meanwhile {longest:?}");
    for (node, before) in cluster.nodes.iter().zip(before) {
        let kept = metric(node, "rondo_memory_used_bytes ") - before;
        assert!(kept < 10.0 * keys as f64 + 1e6, "{}: {kept} bytes are left", node.name);
        assert_eq!(metric(node, "rondo_tombstones "), 0.0, "{}", node.name);
    }
    let expired: f64 = cluster.nodes.iter().map(|node| metric(node, "rondo_expired_keys_total ")).sum();
    // Each once, where it is coordinated; on several nodes that may change for some meanwhile.
    let least = if nodes == 1 { keys as f64 } else { keys as f64 / 2.0 };
    assert!(expired >= least && expired < keys as f64 * 1.5, "{expired}");
}

#[test]
fn keys_that_expire_together_go_untouched_on_one_node() {
    let _alone = alone();
    expire_together(1);
}

#[test]
fn keys_that_expire_together_go_untouched_on_every_replica() {
    let _alone = alone();
    expire_together(3);
}
