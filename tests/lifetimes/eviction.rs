//! What goes when memory is full, by policy.

use std::thread::sleep;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::cluster::{Cluster, Node};
use crate::{alone, each, metric, must, words};

const LIMIT: &str = "6mb";
const LIMIT_BYTES: f64 = 6.0 * 1024.0 * 1024.0;
/// Of 1 kB each, twice as many as fit.
const COLD: usize = 12_000;
const HOT: usize = 100;

fn node_with(policy: &str) -> Cluster {
    Cluster::start(1, &["--maxmemory", LIMIT, "--maxmemory-policy", policy])
}

fn set(name: &str, n: usize, rest: &str) -> Vec<String> {
    words(format!("SET {name}:{n} {n:0>1000} {rest}").trim_end())
}

fn survivors(client: &mut Client, name: &str, count: usize) -> usize {
    let exists = |client: &mut Client, n| client.run(&format!("EXISTS {name}:{n}")).int() == Some(1);
    (0..count).filter(|n| exists(client, *n)).count()
}

fn within_limit(node: &Node) {
    must("memory is below the limit", || metric(node, "rondo_memory_used_bytes ") <= LIMIT_BYTES);
    assert!(metric(node, "rondo_evicted_keys_total ") > 0.0);
}

#[test]
fn noeviction_refuses_what_needs_memory_in_redis_words_and_nothing_else() {
    let _alone = alone();
    let cluster = node_with("noeviction");
    let mut client = cluster.nodes[0].client();
    let errors = each(&mut client, 0..COLD, |n| set("cold", n, ""));
    assert!(errors > COLD / 4 && errors < COLD, "{errors}");
    let text = client.run("SET more value").text();
    assert_eq!(text.as_deref(), Some("OOM command not allowed when used memory > 'maxmemory'."));
    let in_transaction = ["MULTI", "GET cold:0", "EXEC"].map(|line| client.run(line).text().unwrap_or_default());
    assert_eq!((&in_transaction[0][..], &in_transaction[1]), ("OK", &text.unwrap_or_default()), "it would be kept");
    assert!(in_transaction[2].starts_with("EXECABORT"), "{in_transaction:?}");
    assert_eq!(survivors(&mut client, "cold", COLD), COLD - errors);
    assert_eq!(client.run("DEL cold:0 cold:1 cold:2 cold:3 cold:4 cold:5 cold:6 cold:7").int(), Some(8));
    assert_eq!(client.run("SET more value").text().as_deref(), Some("OK"));
    assert_eq!(metric(&cluster.nodes[0], "rondo_evicted_keys_total "), 0.0);
}

#[test]
fn volatile_policies_refuse_when_nothing_may_go() {
    let _alone = alone();
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        let cluster = node_with(policy);
        let mut client = cluster.nodes[0].client();
        assert!(each(&mut client, 0..COLD, |n| set("stays", n, "")) > 0, "{policy}");
        let text = client.run("SET more value").text();
        assert_eq!(text.as_deref(), Some("OOM command not allowed when used memory > 'maxmemory'."), "{policy}");
    }
}

#[test]
fn lru_and_lfu_keep_what_is_used() {
    let _alone = alone();
    for policy in ["allkeys-lru", "allkeys-lfu", "volatile-lru", "volatile-lfu"] {
        let cluster = node_with(policy);
        let mut client = cluster.nodes[0].client();
        let rest = if policy.starts_with("volatile") { "EX 9999" } else { "" };
        assert_eq!(each(&mut client, 0..HOT, |n| set("hot", n, rest)), 0);
        for step in 0..6 {
            for _ in 0..10 {
                each(&mut client, 0..HOT, |n| words(&format!("GET hot:{n}")));
            }
            // The time of last use counts seconds.
            sleep(Duration::from_millis(1_100));
            let part = COLD / 6;
            assert_eq!(each(&mut client, step * part..(step + 1) * part, |n| set("cold", n, rest)), 0, "{policy}");
        }
        within_limit(&cluster.nodes[0]);
        let hot = survivors(&mut client, "hot", HOT);
        let cold = survivors(&mut client, "cold", COLD);
        println!("{policy}: {hot} of {HOT} hot keys and {cold} of {COLD} cold ones are left");
        assert!(hot >= HOT * 9 / 10, "{policy}: {hot} of {HOT} hot keys are left");
        assert!(cold < COLD * 2 / 3, "{policy}: {cold}");
    }
}

#[test]
fn volatile_policies_spare_keys_without_a_deadline_and_ttl_takes_the_soonest() {
    let _alone = alone();
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        let cluster = node_with(policy);
        let mut client = cluster.nodes[0].client();
        assert_eq!(each(&mut client, 0..1_000, |n| set("stays", n, "")), 0);
        assert_eq!(each(&mut client, 0..COLD, |n| set("goes", n, &format!("EX {}", 1_000 + n))), 0, "{policy}");
        within_limit(&cluster.nodes[0]);
        assert_eq!(survivors(&mut client, "stays", 1_000), 1_000, "{policy}");
        if policy == "volatile-ttl" {
            let late =
                (COLD - 1_000..COLD).filter(|n| client.run(&format!("EXISTS goes:{n}")).int() == Some(1)).count();
            assert!(late > 900, "{late} of the 1,000 latest deadlines are left");
        }
    }
}

#[test]
fn random_stays_within_the_limit() {
    let _alone = alone();
    let cluster = node_with("allkeys-random");
    let mut client = cluster.nodes[0].client();
    assert_eq!(each(&mut client, 0..COLD, |n| set("cold", n, "")), 0);
    within_limit(&cluster.nodes[0]);
    let left = survivors(&mut client, "cold", COLD);
    assert!(left > COLD / 5 && left < COLD * 2 / 3, "{left}");
    // Age does not decide, as it would by the last use: some of the first stay, and some of the last go.
    let first = survivors(&mut client, "cold", COLD / 4);
    assert!(first > COLD / 100, "{first} of the first quarter");
    let last = left - survivors(&mut client, "cold", COLD * 3 / 4);
    assert!(last < COLD / 4 - COLD / 100, "{last} of the last quarter");
}

#[test]
fn the_soonest_deadlines_go_first_only_by_their_own_policy() {
    let _alone = alone();
    for (policy, spares_late) in [("volatile-ttl", true), ("volatile-random", false)] {
        let cluster = node_with(policy);
        let mut client = cluster.nodes[0].client();
        // The first written are the last to expire.
        let deadline = |n: usize| format!("EX {}", 1_000_000 - n);
        assert_eq!(each(&mut client, 0..COLD, |n| set("goes", n, &deadline(n))), 0, "{policy}");
        within_limit(&cluster.nodes[0]);
        let late = survivors(&mut client, "goes", COLD / 10);
        println!("{policy}: {late} of the {} latest deadlines are left", COLD / 10);
        assert_eq!(late > COLD / 10 * 8 / 10, spares_late, "{policy}: {late}");
    }
}

#[test]
fn what_one_replica_evicts_is_neither_deleted_elsewhere_nor_brought_back() {
    let _alone = alone();
    let cluster = Cluster::start(3, &["--anti-entropy-interval-ms", "100"]);
    let small = &cluster.nodes[2];
    for line in ["CONFIG SET maxmemory-policy allkeys-random", "CONFIG SET maxmemory 6mb"] {
        assert_eq!(small.client().run(line).text().as_deref(), Some("OK"));
    }
    let mut client = cluster.nodes[0].client();
    assert_eq!(each(&mut client, 0..COLD, |n| set("key", n, "")), 0);
    within_limit(small);
    let rounds = |node: &Node| metric(node, "rondo_anti_entropy_rounds_total ");
    let wait_rounds = |count: f64| {
        let before: Vec<f64> = cluster.nodes.iter().map(rounds).collect();
        must("comparing goes on", || cluster.nodes.iter().zip(&before).all(|(node, at)| rounds(node) > at + count));
    };
    wait_rounds(2.0);
    let (keys, evicted) = (metric(small, "rondo_keys{"), metric(small, "rondo_evicted_keys_total "));
    wait_rounds(5.0);
    let (keys_after, evicted_after) = (metric(small, "rondo_keys{"), metric(small, "rondo_evicted_keys_total "));
    println!("{keys} keys and {evicted} evictions, {keys_after} and {evicted_after} some comparisons later");
    assert!(keys < COLD as f64 * 0.7 && keys_after < keys + 0.05 * COLD as f64, "{keys} then {keys_after}");
    assert!(evicted_after - evicted < 0.01 * COLD as f64, "{evicted} then {evicted_after}");
    for node in &cluster.nodes {
        assert_eq!(metric(node, "rondo_tombstones "), 0.0, "{}", node.name);
    }
    for node in &cluster.nodes[..2] {
        assert_eq!(metric(node, "rondo_keys{"), COLD as f64, "{}", node.name);
    }
    for n in (0..COLD).step_by(7) {
        assert_eq!(client.run(&format!("GET key:{n}")).text(), Some(format!("{n:0>1000}")), "key:{n}");
    }
}
