//! SCAN's guarantee, on real nodes: a key that stays from the start of a walk to its end is returned at least once,
//! while tables grow and shrink under it, while a node joins, and after one has died. A key that never was is never
//! returned.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::client::Client;
use support::cluster::Cluster;
use support::resp::Value;
use support::{StopOnDrop, wait_for};

const AT_ALL: Duration = Duration::from_secs(60);
const STAYING: usize = 3_000;
/// Keys of one slot, so that a step ends in the middle of it.
const OF_ONE_SLOT: usize = 400;

fn staying() -> BTreeSet<String> {
    let spread = (0..STAYING).map(|i| format!("stay:{i}"));
    spread.chain((0..OF_ONE_SLOT).map(|i| format!("{{stay}}:{i}"))).collect()
}

fn fill(client: &mut Client) {
    for name in staying() {
        assert_eq!(client.call(&["SET", &name, "v"]), Value::Simple(b"OK".to_vec()));
    }
}

/// A step, asked for again while it is refused because a slot that has just changed hands is not settled yet.
fn one_step(client: &mut Client, args: &[&str]) -> Value {
    let is_passing = |reply: &Value| matches!(reply, Value::Error(text) if text.starts_with(b"CLUSTERDOWN "));
    let mut step = || Some(client.call(args)).filter(|reply| !is_passing(reply));
    wait_for(AT_ALL, &mut step).expect("slots are settled at last")
}

/// Walks once, calling `between` after each step, and gives the keys that were found.
fn walk(client: &mut Client, options: &[&str], mut between: impl FnMut()) -> BTreeSet<String> {
    let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
    loop {
        let args: Vec<&str> = ["SCAN", &cursor].into_iter().chain(options.iter().copied()).collect();
        let reply = one_step(client, &args);
        let Some([next, keys]) = reply.items() else { panic!("{reply:?}") };
        found.extend(keys.items().unwrap_or_default().iter().filter_map(Value::text));
        cursor = next.text().expect("a cursor");
        // What JavaScript's numbers hold.
        assert!(cursor.parse::<u64>().is_ok_and(|cursor| cursor < 1 << 53), "{cursor}");
        if cursor == "0" {
            return found;
        }
        between();
    }
}

/// Makes and removes other keys until told to stop, so that tables are resized all the time.
fn churn(port: u16, stop: &AtomicBool) {
    let mut client = Client::to(port);
    while !stop.load(Ordering::Relaxed) {
        for part in ["SET", "DEL"] {
            for i in 0..2_000 {
                let name = if i % 4 == 0 { format!("{{stay}}:go:{i}") } else { format!("go:{i}") };
                let mut args = vec![part, &name];
                args.extend(Some("v").filter(|_| part == "SET"));
                let _ = client.call(&args);
            }
        }
    }
}

fn check(found: &BTreeSet<String>, when: &str) {
    let missing: Vec<String> = staying().difference(found).cloned().collect();
    assert!(missing.is_empty(), "{when}: {} keys were not returned, such as {:?}", missing.len(), &missing[..1]);
    let foreign = found
        .iter()
        .find(|name| !name.starts_with("stay:") && !name.starts_with("{stay}:") && !name.starts_with("go:"));
    assert_eq!(foreign, None, "{when}");
}

#[test]
fn every_key_that_stays_is_returned_while_tables_grow_and_a_node_joins() {
    let mut cluster = Cluster::start(3, &[]);
    let ports = cluster.ports();
    fill(&mut cluster.nodes[0].client());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stops = StopOnDrop(&stop);
        scope.spawn(|| churn(ports[1], &stop));
        let mut client = cluster.nodes[2].client();
        check(&walk(&mut client, &["COUNT", "37"], || {}), "while tables grow");
        // The node comes in the middle of the walk, and the walk ends when it is a full member.
        let mut steps = 0;
        let mut joined = None;
        let found = walk(&mut client, &["COUNT", "37"], || {
            steps += 1;
            if steps == 20 {
                joined = Some(cluster.add());
            }
            if steps == 60
                && let Some(at) = joined
            {
                cluster.nodes[at].must_be_ready();
            }
        });
        assert!(joined.is_some(), "the walk was too short");
        check(&found, "while a node joins");
    });
    let typed = walk(&mut cluster.nodes[3].client(), &["MATCH", "stay:*", "TYPE", "string", "COUNT", "1000"], || {});
    assert_eq!(typed.len(), STAYING);
}

#[test]
fn every_key_is_returned_when_a_node_dies_in_the_middle() {
    for mode in ["sloppy", "strict"] {
        let mut cluster = Cluster::start(3, &["--quorum-mode", mode]);
        fill(&mut cluster.nodes[0].client());
        let mut client = cluster.nodes[1].client();
        let mut steps = 0;
        let found = walk(&mut client, &["COUNT", "37"], || {
            steps += 1;
            if steps == 20 {
                cluster.nodes[2].kill();
            }
        });
        assert!(steps > 20, "the walk was too short");
        check(&found, &format!("after a death, {mode}"));
        assert_eq!(client.run("DBSIZE").int(), Some(staying().len() as i64), "{mode}");
    }
}

/// As from Redis, so that who asks once and looks no further sees them all; on several nodes once all slots are
/// settled.
#[test]
fn few_keys_come_in_one_step() {
    for nodes in [1, 3] {
        let cluster = Cluster::start(nodes, &[]);
        let mut client = cluster.nodes[0].client();
        for name in ["a", "b", "c"] {
            client.run(&format!("SET {name} 1"));
        }
        let mut step = || {
            let reply = one_step(&mut client, &["SCAN", "0"]);
            let Some([next, keys]) = reply.items() else { panic!("{reply:?}") };
            let keys: BTreeSet<String> = keys.items().unwrap_or_default().iter().filter_map(Value::text).collect();
            next.text().filter(|next| next == "0").map(|_| keys)
        };
        let keys = wait_for(AT_ALL, &mut step).expect("one step");
        assert_eq!(keys, ["a", "b", "c"].map(String::from).into(), "{nodes}");
    }
}

/// More than a node looks through at once: other requests have their turn in between, on one node alone as well.
#[test]
fn keys_returns_many_keys_stretch_by_stretch() {
    for (nodes, count) in [(1, 40_000), (3, 120_000)] {
        let cluster = Cluster::start(nodes, &[]);
        let mut client = cluster.nodes[0].client();
        let names: Vec<String> = (0..count).map(|i| format!("many:{i}")).collect();
        for some in names.chunks(1_000) {
            let pairs = some.iter().flat_map(|name| [name.as_str(), "v"]);
            client.call(&["MSET"].into_iter().chain(pairs).collect::<Vec<_>>());
        }
        let mut asked = |pattern: &str| {
            let reply = client.call(&["KEYS", pattern]);
            let keys = reply.items().unwrap_or_else(|| panic!("{reply:?}"));
            let mut keys: Vec<String> = keys.iter().filter_map(Value::text).collect();
            keys.sort_unstable();
            keys
        };
        let mut expected = names.clone();
        expected.sort_unstable();
        assert_eq!(
            (asked("many:*") == expected, asked("many:12?"), asked("few*")),
            (true, (120..130).map(|i| format!("many:{i}")).collect(), vec![],)
        );
        let stats = client.run("INFO commandstats").text().expect("text");
        let calls = |name: &str| -> Option<u64> {
            let stat = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")))?;
            stat.split(',').next()?.parse().ok()
        };
        // The whole, and its halves, at least.
        assert!(calls("rondo.keys") >= Some(9) && calls("keys") == Some(3), "{nodes}: {stats}");
        assert_eq!(client.run("MULTI"), Value::Simple(b"OK".to_vec()));
        client.run("KEYS many:7");
        let reply = client.run("EXEC");
        let keys = reply.items().and_then(|replies| replies.first()?.items().map(<[Value]>::to_vec));
        assert_eq!(keys, Some(vec![Value::Bulk(b"many:7".to_vec())]));
    }
}

/// Wherever they lie: a key behind many empty hash slots comes up no more often, nor one that shares its node with few.
#[test]
fn a_random_key_is_each_with_the_same_chance() {
    const DRAWS: usize = 800;
    for nodes in [1, 3] {
        let cluster = Cluster::start(nodes, &[]);
        let mut client = cluster.nodes[0].client();
        let names = ["a", "b", "c", "{a}1", "{a}2", "{a}3", "{b}1", "d"];
        names.iter().for_each(|name| drop(client.run(&format!("SET {name} 1"))));
        let mut drawn = std::collections::BTreeMap::new();
        (0..DRAWS).for_each(|_| *drawn.entry(client.run("RANDOMKEY").text()).or_insert(0) += 1);
        let fair = (DRAWS / names.len()) as f64;
        let chi_square: f64 = drawn.values().map(|times| (f64::from(*times) - fair).powi(2) / fair).sum();
        // Seven degrees of freedom: more than this once in ten million times.
        assert!(drawn.len() == names.len() && chi_square < 46.0, "{nodes}: {chi_square} {drawn:?}");
    }
}

/// What a smart client does: it walks each node's cluster face, and adds up.
#[test]
fn the_cluster_faces_return_each_key_on_one_node() {
    let cluster = Cluster::start(3, &[]);
    fill(&mut cluster.nodes[0].client());
    let mut all = BTreeSet::new();
    for node in &cluster.nodes {
        let found = walk(&mut Client::to(node.cluster_port), &["COUNT", "100"], || {});
        assert!(all.is_disjoint(&found) && !found.is_empty());
        all.extend(found);
    }
    assert_eq!(all, staying());
}
