//! What a cluster of real processes does about itself: replicas become equal, deletions are forgotten, a node that was
//! away too long starts over, a dead one is given up, what was flushed stays away, and one that leaves answers its
//! clients first.
//!
//! Whether replicas agree is asked of RONDO.META, which repairs nothing. Nothing is asserted of how long anything
//! takes. Environment: `RONDO_FAULT_SECONDS` (how long clients work around each change; 2), `RONDO_FAULT_SEED`.

#[path = "../cluster_faults/checkers.rs"]
mod checkers;
mod flush;
mod founding;
#[path = "../cluster_faults/history.rs"]
mod history;
mod leaving;
#[path = "../cluster_faults/load.rs"]
#[allow(dead_code, reason = "the other tests that use it direct it in more ways")]
mod load;
mod names;
#[path = "../support/mod.rs"]
mod support;
#[path = "../cluster_faults/verdict.rs"]
mod verdict;

use std::thread::sleep;
use std::time::Duration;

use load::{Load, Target};
use support::client::{Client, encode, http_get_from};
use support::cluster::{Cluster, Node, is_probed_well};
use support::resp::Value;
use support::{alone, env_number, wait_for};

/// A generous bound on things that must happen at all.
const AT_ALL: Duration = Duration::from_secs(120);
/// Comparisons one after the other, so that no test waits for the next.
const EAGER: &[&str] = &["--anti-entropy-interval-ms", "100", "--tombstone-age-min-ms", "500"];

fn work_for() -> Duration {
    Duration::from_secs(env_number("RONDO_FAULT_SECONDS", 2))
}

fn targets(nodes: &[Node]) -> Vec<Target> {
    nodes.iter().map(|node| (node.name.clone(), node.addr(node.port))).collect()
}

fn must(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(wait_for(AT_ALL, || holds().then_some(())).is_some(), "never: {what}");
}

/// Waits until a node has ended by itself, with the code for what did not work, and wants these words at the end of its
/// log.
fn must_end_saying(node: &mut Node, why: &str) {
    let process = node.process.as_mut().expect("a started node");
    must("it ends", || process.exit_code() == Some(1));
    assert!(process.log_tail().contains(why), "{}", process.log_tail());
}

fn key(n: usize) -> String {
    format!("key:{n}")
}

fn fill(client: &mut Client, keys: std::ops::Range<usize>) {
    for n in keys {
        let value = format!("value of {n}");
        // On a busy machine a node may look dead for a moment; the same write may be made again.
        must("a write is taken", || client.call(&["SET", &key(n), &value]).text().as_deref() == Some("OK"));
    }
}

/// How many owners a key has, and whether all of them hold the same version.
fn owners(client: &mut Client, key: &str) -> (usize, bool) {
    let meta = client.call(&["RONDO.META", key]);
    let field = |name| meta.field(name).unwrap_or_else(|| panic!("no {name} in {meta:?}"));
    let count = field("owners").items().map_or(0, <[Value]>::len);
    (count, field("agreed").text().as_deref() == Some("yes"))
}

fn all_agree(client: &mut Client, keys: std::ops::Range<usize>, copies: usize) -> bool {
    keys.into_iter().all(|n| owners(client, &key(n)) == (copies, true))
}

fn node_id(node: &Node) -> String {
    Client::to(node.cluster_port).run("CLUSTER MYID").text().expect("an id")
}

#[test]
fn a_dead_node_is_given_up_and_every_key_has_three_copies_again() {
    let _alone = alone();
    // Comparisons would bring the copies back too: here they are off.
    let mut cluster = Cluster::start(4, &["--anti-entropy-interval-ms", "0"]);
    let id = node_id(&cluster.nodes[3]);
    let mut client = cluster.nodes[0].client();
    fill(&mut client, 0..1_000);
    let alive = client.call(&["RONDO.FORGET", &id]).text().expect("a text");
    assert_eq!(alive, format!("ERR Node {id} is alive: stop it to make it leave, or forget it when it is down"));
    let unknown = client.call(&["RONDO.FORGET", "0123"]).text();
    assert_eq!(unknown.as_deref(), Some("ERR Unknown node 0123"));
    let own = node_id(&cluster.nodes[0]);
    let own = client.call(&["RONDO.FORGET", &own]).text();
    assert_eq!(own.as_deref(), Some("ERR I tried hard but I can't forget myself..."));

    cluster.nodes[3].kill();
    let everyone = targets(&cluster.nodes[..3]);
    let load = Load::start(env_number("RONDO_FAULT_SEED", 1), &everyone);
    // Its first digits are enough. Gossip agrees on its death some seconds after its links have broken.
    let mut refusals = Vec::new();
    must("the dead node may be forgotten", || {
        refusals.push(client.call(&["RONDO.FORGET", &id[..8]]).text().expect("a text"));
        refusals.last().is_some_and(|text| text == "OK")
    });
    let not_yet = format!("ERR Node {id} is not yet known to be dead: try again in some seconds");
    assert!(refusals.iter().rev().nth(1).is_none_or(|refusal| *refusal == not_yet), "{refusals:?}");
    must("it is gone", || client.call(&["RONDO.FORGET", &id]).text() == Some(format!("ERR Unknown node {id}")));
    sleep(work_for());
    verdict::insist("a dead node was given up", load, &everyone);
    cluster.must_settle();
    for n in 0..1_000 {
        assert_eq!(owners(&mut client, &key(n)), (3, true), "{}", key(n));
        assert_eq!(client.call(&["GET", &key(n)]).text(), Some(format!("value of {n}")));
    }
    // It does not come back under its name.
    cluster.restart(3);
    must_end_saying(&mut cluster.nodes[3], "this node was given up for ever (RONDO.FORGET)");
    assert_eq!(client.call(&["GET", &key(7)]).text(), Some("value of 7".to_owned()));
}

/// Two of three are down: every command is refused, and whoever is asked says so.
#[test]
fn without_a_quorum_no_slot_is_called_served() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let told = |node: &Node| {
        let info = Client::to(node.cluster_port).run("CLUSTER INFO").text().expect("a text");
        let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        let status = http_get_from(node.addr(node.admin_port), "/status").expect("a status").1;
        let unserved = status.split("\"slots_unserved\":").nth(1).expect("a figure");
        let unserved: String = unserved.chars().take_while(char::is_ascii_digit).collect();
        [line("cluster_state:"), line("cluster_slots_ok:"), line("cluster_slots_fail:"), unserved]
    };
    let (all, none) = (["ok", "16384", "0", "0"], ["fail", "0", "16384", "16384"]);
    assert_eq!(told(&cluster.nodes[0]), all);
    cluster.nodes[1].kill();
    must("the others go on", || told(&cluster.nodes[0]) == all && !cluster.nodes[0].client().run("SET a 1").is_error());
    cluster.nodes[2].kill();
    must("it says so", || told(&cluster.nodes[0]) == none);
    assert!(cluster.nodes[0].client().run("SET a 1").is_error() && !cluster.nodes[0].is_ready());
    // W and R of one: what is left serves.
    let asked = cluster.nodes[0].client().run("CONFIG SET write-quorum 1 read-quorum 1").text();
    assert_eq!(asked.as_deref(), Some("OK"));
    must("it serves", || told(&cluster.nodes[0]) == all && !cluster.nodes[0].client().run("SET a 1").is_error());
}

/// The newcomer waits for the dead, because most copies of every key were theirs, and giving them up must not wait for
/// it.
#[test]
fn a_newcomer_that_waits_for_dead_nodes_comes_in_when_they_are_given_up() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.nodes[0].client();
    fill(&mut client, 0..200);
    must("all copies are there", || all_agree(&mut client, 0..200, 3));
    let dead = [node_id(&cluster.nodes[1]), node_id(&cluster.nodes[2])];
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let new = cluster.add();
    sleep(work_for());
    for id in &dead {
        must("a dead node may be forgotten", || client.call(&["RONDO.FORGET", id]).text().as_deref() == Some("OK"));
    }
    must("the newcomer comes in", || cluster.nodes[new].is_ready());
    cluster.must_settle();
    for n in 0..200 {
        let mut newcomer = cluster.nodes[new].client();
        assert_eq!(newcomer.call(&["GET", &key(n)]).text(), Some(format!("value of {n}")));
    }
}

/// So whoever ends the next node then has lost nothing; a node is ready, and serves clients, long before.
#[test]
fn a_node_that_was_killed_says_that_it_is_warm_when_it_holds_all_again() {
    const KEYS: usize = 60_000;
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.nodes[0].client();
    let parts = KEYS / 1_000;
    for part in 0..parts {
        let mut request = Vec::new();
        for n in 0..1_000 {
            encode(&mut request, &["SET", &key(part * 1_000 + n), &"v".repeat(500)]);
        }
        client.send(&request).expect("requests");
        (0..1_000).for_each(|_| assert_eq!(client.receive().expect("a reply").text().as_deref(), Some("OK")));
    }
    for killed in [2, 0, 1] {
        cluster.nodes[killed].kill();
        cluster.restart(killed);
        let node = &cluster.nodes[killed];
        must("it is warm", || is_probed_well(node.addr(node.admin_port), "/warmz"));
        assert_eq!(node.metric("rondo_keys{"), Some(KEYS as f64), "as soon as it says so");
    }
    let mut client = cluster.nodes[0].client();
    must("all others take it for warm", || !client.run("GET key:1").is_error());
    assert_eq!(client.run("DBSIZE"), Value::Int(KEYS as i64));
}

#[test]
fn a_node_that_slept_through_a_join_loses_nothing_that_it_then_acknowledges() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, EAGER);
    fill(&mut cluster.nodes[0].client(), 0..300);
    cluster.nodes[1].process().pause();
    let new = cluster.add();
    must("the newcomer is ready without it", || cluster.nodes[new].is_ready());
    cluster.nodes[1].process().resume();
    // At once, through the one that knows only the old ring.
    let everyone = targets(&cluster.nodes);
    let load = Load::start(env_number("RONDO_FAULT_SEED", 2), &everyone[1..2]);
    fill(&mut cluster.nodes[1].client(), 300..600);
    sleep(work_for());
    verdict::insist("a node slept through a join", load, &everyone);
    let mut client = cluster.nodes[new].client();
    must("all replicas agree", || all_agree(&mut client, 0..600, 3));
    for n in 0..600 {
        assert_eq!(client.call(&["GET", &key(n)]).text(), Some(format!("value of {n}")), "{}", key(n));
    }
}

#[test]
fn many_deletions_leave_nothing_behind() {
    let _alone = alone();
    let cluster = Cluster::start(3, EAGER);
    let keys = env_number("RONDO_UPKEEP_KEYS", 20_000) as usize;
    let mut client = cluster.nodes[0].client();
    let used = |node: &Node| node.metric("rondo_memory_used_bytes ").expect("a metric");
    let before: Vec<f64> = cluster.nodes.iter().map(used).collect();
    fill(&mut client, 0..keys);
    must("every node holds its copies", || {
        cluster.nodes.iter().zip(&before).all(|(node, before)| used(node) > before + 30.0 * keys as f64)
    });
    for n in 0..keys {
        must("deleted", || client.call(&["DEL", &key(n)]).int().is_some());
    }
    for node in &cluster.nodes {
        must("no tombstone is left", || node.metric("rondo_tombstones ") == Some(0.0));
    }
    let collected: f64 = cluster.nodes.iter().filter_map(|node| node.metric("rondo_tombstones_collected_total ")).sum();
    assert!(collected >= 3.0 * keys as f64, "{collected}");
    assert_eq!(client.run("DBSIZE").int(), Some(0));
}

#[test]
fn who_was_away_for_too_long_starts_over_and_brings_nothing_back() {
    let _alone = alone();
    let options = [EAGER, &["--tombstone-horizon-ms", "4000"]].concat();
    let cluster = Cluster::start(3, &options);
    let mut client = cluster.nodes[0].client();
    fill(&mut client, 0..400);
    must("all agree", || all_agree(&mut client, 0..400, 3));
    cluster.nodes[2].process().pause();
    // Nobody doubts any more that it is away.
    must("it is down", || cluster.nodes[0].metric("rondo_members_down") == Some(1.0));
    for n in 0..200 {
        must("deleted", || client.call(&["DEL", &key(n)]).int().is_some());
    }
    for node in &cluster.nodes[..2] {
        must("the deletions are forgotten", || node.metric("rondo_tombstones ") == Some(0.0));
    }
    cluster.nodes[2].process().resume();
    must("it has started over", || cluster.nodes[2].process().log_tail().contains("filled up"));
    cluster.must_settle();
    for node in &cluster.nodes {
        let mut client = node.client();
        for n in 0..400 {
            let expected = (n >= 200).then(|| format!("value of {n}"));
            assert_eq!(client.call(&["GET", &key(n)]).text(), expected, "{} on {}", key(n), node.name);
        }
    }
    must("all agree", || all_agree(&mut client, 200..400, 3));
    assert_eq!(client.run("DBSIZE").int(), Some(200));
}

#[test]
fn what_a_stand_in_still_has_does_not_come_back_when_a_newer_value_has_expired() {
    let _alone = alone();
    // Copies kept for others stay there for a while: until the next round.
    let cluster = Cluster::start(4, &["--anti-entropy-interval-ms", "8000"]);
    let mut client = cluster.nodes[0].client();
    cluster.nodes[3].process().pause();
    must("it is missed", || {
        fill(&mut client, 0..400);
        cluster.nodes[..3].iter().any(|node| node.metric("rondo_hints_pending ").is_some_and(|count| count > 0.0))
    });
    cluster.nodes[3].process().resume();
    cluster.must_settle();
    for n in 0..400 {
        must("written", || !client.call(&["SET", &key(n), "newer", "PX", "1000"]).is_error());
    }
    let rounds = |node: &Node| node.metric("rondo_anti_entropy_rounds_total ").expect("a metric");
    must("they have expired", || {
        cluster.nodes.iter().all(|node| node.metric("rondo_keys_expiring{db=\"0\"} ").is_none_or(|keys| keys == 0.0))
    });
    let before: Vec<f64> = cluster.nodes.iter().map(rounds).collect();
    must("everybody has looked for copies that are not its own", || {
        cluster.nodes.iter().zip(&before).all(|(node, before)| rounds(node) >= before + 2.0)
    });
    let there: Vec<usize> = (0..400).filter(|n| client.call(&["GET", &key(*n)]).text().is_some()).collect();
    assert!(there.is_empty(), "came back: {there:?}");
    assert_eq!(client.run("DBSIZE").int(), Some(0));
}

#[test]
fn a_loss_older_than_hints_may_be_is_mended_by_comparing() {
    let _alone = alone();
    let cluster = Cluster::start(3, &["--hint-age-max-ms", "1000", "--anti-entropy-interval-ms", "0"]);
    let mut client = cluster.nodes[0].client();
    fill(&mut client, 0..300);
    cluster.nodes[2].process().pause();
    must("it is missed", || {
        fill(&mut client, 200..500);
        cluster.nodes[..2].iter().any(|node| node.metric("rondo_hints_pending ").is_some_and(|count| count > 0.0))
    });
    client.run("DEL key:1 key:2 key:3");
    sleep(Duration::from_millis(1_100));
    cluster.nodes[2].process().resume();
    cluster.must_settle();
    must("all agree", || all_agree(&mut client, 4..500, 3));
    let dropped: f64 = cluster.nodes.iter().filter_map(|node| node.metric("rondo_hints_dropped_total ")).sum();
    assert!(dropped > 0.0, "nothing was compared");
    let mut there = cluster.nodes[2].client();
    assert_eq!(there.run("EXISTS key:1 key:2 key:3").int(), Some(0));
}
