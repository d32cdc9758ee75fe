//! Every metric of the table changes when what it counts is done to real nodes, by as much where that can be said.
//!
//! A metric that is not seen to change here is named in [`ELSEWHERE`] with the test that sees it, or in
//! [`NOT_AT_WILL`]; one that is neither, as a new one is, fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use rondo::base::metrics::metrics;

use crate::read;
use crate::support::client::{Client, encode, http_get_from};
use crate::support::cluster::{Cluster, Node};
use crate::support::wait_for;

const PATIENCE: Duration = Duration::from_secs(90);
/// How often a fault is repeated until it has shown what it is to show.
const FAULTS_MAX: u64 = 8;

/// Metrics that another test sees change, and where it is.
const ELSEWHERE: [(&str, &str); 6] = [
    ("output_limit_disconnects_total", "tests/connections/monitor.rs"),
    ("evicted_keys_total", "tests/lifetimes/eviction.rs"),
    ("conflicts_total", "tests/cluster_faults/partitions.rs"),
    ("hints_dropped_total", "tests/upkeep/main.rs"),
    ("tombstones_collected_total", "tests/upkeep/main.rs"),
    ("link_queued_bytes", "tests/cluster_faults/links.rs"),
];

/// Metrics of what cannot be brought about from outside, or only by luck: a wrong clock, a stuck thread, two nodes that
/// both take themselves for a slot's coordinator, a replica that lacks what its links say it was sent.
const NOT_AT_WILL: [&str; 8] = [
    "clock_refusals_total",
    "workers_stuck",
    "slots_unserved",
    "ballot_refusals_total",
    "strict_declined_total",
    "read_repairs_total",
    "anti_entropy_differing_slots_total",
    "anti_entropy_repairs_total",
];

/// The series of a page, by name and labels.
type Page = BTreeMap<String, f64>;

fn page(node: &Node) -> Page {
    let (status, text) = http_get_from(node.addr(node.admin_port), "/metrics").expect("a page");
    assert_eq!(status, 200);
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    series.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

/// What has been looked at, by the name of the family.
#[derive(Default)]
struct Looked(BTreeSet<String>);

impl Looked {
    fn at(&mut self, series: &str) -> String {
        let name = series.split('{').next().unwrap_or_default();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        self.0.insert(family.to_owned());
        format!("rondo_{series}")
    }

    /// The value of a series, which has to be there.
    fn value(&mut self, page: &Page, series: &str) -> f64 {
        let series = self.at(series);
        *page.get(&series).unwrap_or_else(|| panic!("no {series}"))
    }

    /// How much a series has grown; one that was not there was 0.
    fn growth(&mut self, before: &Page, after: &Page, series: &str) -> f64 {
        let now = self.value(after, series);
        now - before.get(&format!("rondo_{series}")).copied().unwrap_or(0.0)
    }

    /// Waits until the sum over these nodes of all series that begin so is as wanted.
    fn wait(&mut self, nodes: &[&Node], start: &str, wanted: impl Fn(f64) -> bool) {
        let start = self.at(start);
        let of = |node: &&Node| {
            page(node)
                .range(start.clone()..)
                .take_while(|(name, _)| name.starts_with(&start))
                .map(|(_, value)| value)
                .sum::<f64>()
        };
        let sum = || nodes.iter().map(of).sum::<f64>();
        assert!(
            wait_for(PATIENCE, || wanted(sum()).then_some(())).is_some(),
            "{start} stays at {} in {:?}",
            sum(),
            nodes.iter().map(|node| &node.name).collect::<Vec<_>>()
        );
    }
}

#[test]
fn every_metric_changes_with_what_it_counts() {
    let mut looked = Looked::default();
    clients_of_one_node(&mut looked);
    a_cluster_through_good_and_bad(&mut looked);
    for (name, path) in ELSEWHERE {
        assert!(read(path).contains(name), "{path} does not look at {name}");
    }
    let elsewhere = ELSEWHERE.iter().map(|(name, _)| *name);
    let known: BTreeSet<&str> = looked.0.iter().map(String::as_str).chain(elsewhere).chain(NOT_AT_WILL).collect();
    let missing: BTreeSet<&str> = metrics().map(|metric| metric.name).filter(|name| !known.contains(name)).collect();
    assert!(missing.is_empty(), "no test sees these change: {missing:?}");
}

fn clients_of_one_node(looked: &mut Looked) {
    let cluster = Cluster::start(1, &["--requirepass", "pw", "--maxmemory", "64mb", "--zone", "here"]);
    let node = &cluster.nodes[0];
    let log_in = || {
        let mut client = node.client();
        assert!(!client.run("AUTH pw").is_error());
        client
    };
    let mut client = log_in();
    commands(looked, node, &mut client);
    what_is_kept(looked, node, &mut client);

    let before = page(node);
    client.run("CLIENT PAUSE 60000 WRITE");
    let (mut held, mut request) = (log_in(), Vec::new());
    encode(&mut request, &["SET", "held", "x"]);
    held.send(&request).expect("sent");
    looked.wait(&[node], "blocked_clients", |clients| clients == 1.0);
    client.run("CLIENT UNPAUSE");
    looked.wait(&[node], "blocked_clients", |clients| clients == 0.0);

    let mut broken = node.client();
    broken.send(b"*x\r\n").expect("sent");
    assert!(broken.receive().expect("a reply").is_error());
    drop((held, broken));
    looked.wait(&[node], "connected_clients", |clients| clients == 1.0);
    client.run("CONFIG SET maxclients 1");
    let mut refused = node.client();
    assert!(refused.receive().expect("a reply").is_error());
    let after = page(node);
    for series in ["protocol_errors_total", "connections_rejected_total"] {
        assert_eq!(looked.growth(&before, &after, series), 1.0, "{series}");
    }
    assert_eq!(looked.growth(&before, &after, "connections_accepted_total"), 2.0);
    assert_eq!(looked.value(&after, "max_clients"), 1.0);
    of_the_process(looked, node, &after);
}

fn commands(looked: &mut Looked, node: &Node, client: &mut Client) {
    // Bytes are counted when they have been written, which the client may know first: +OK for AUTH, then +PONG.
    looked.wait(&[node], "net_output_bytes_total", |bytes| bytes == 5.0);
    let before = page(node);
    client.run("PING");
    looked.wait(&[node], "net_output_bytes_total", |bytes| bytes == 12.0);
    let after = page(node);
    assert_eq!(looked.growth(&before, &after, "net_input_bytes_total"), 14.0);
    assert_eq!(looked.growth(&before, &after, "command_latency_seconds_count{class=\"admin\"}"), 1.0);

    let before = after;
    for _ in 0..3 {
        client.run("SET a x");
    }
    for _ in 0..500 {
        client.run("GET a");
    }
    for line in ["GET nothing", "GET", "HSET a field x", "AUTH wrong"] {
        client.run(line);
    }
    let after = page(node);
    let expected = [
        ("key_changes_total", 3.0),
        ("keyspace_hits_total", 500.0),
        ("keyspace_misses_total", 1.0),
        ("error_replies_total", 3.0),
        ("auth_failures_total", 1.0),
        ("commands_total{command=\"get\"}", 501.0),
        ("commands_rejected_total{command=\"get\"}", 1.0),
        ("commands_failed_total{command=\"hset\"}", 1.0),
        ("command_latency_seconds_count{class=\"read\"}", 501.0),
        ("command_latency_seconds_count{class=\"write\"}", 4.0),
        ("errors_total{code=\"WRONGTYPE\"}", 1.0),
        ("errors_total{code=\"WRONGPASS\"}", 1.0),
    ];
    for (series, growth) in expected {
        assert_eq!(looked.growth(&before, &after, series), growth, "{series}");
    }
    assert!(looked.growth(&before, &after, "commands_duration_seconds_total{command=\"get\"}") > 0.0);
    assert!(looked.growth(&before, &after, "command_latency_seconds_sum{class=\"read\"}") > 0.0);
}

fn what_is_kept(looked: &mut Looked, node: &Node, client: &mut Client) {
    let before = page(node);
    client.call(&["SET", "big", &"x".repeat(1 << 20)]);
    for line in ["SELECT 3", "SET kept x EX 1000", "SET gone x PX 1", "SELECT 0"] {
        client.run(line);
    }
    looked.wait(&[node], "expired_keys_total", |keys| keys == 1.0);
    let after = page(node);
    assert!(looked.growth(&before, &after, "memory_used_bytes") >= f64::from(1 << 20));
    assert_eq!(looked.value(&after, "memory_max_bytes"), f64::from(64 << 20));
    assert!(looked.value(&after, "memory_resident_bytes") > f64::from(1 << 20));
    assert_eq!(looked.growth(&before, &after, "keys{db=\"0\"}"), 1.0);
    assert_eq!(looked.value(&after, "keys{db=\"3\"}"), 1.0);
    assert_eq!(looked.value(&after, "keys_expiring{db=\"3\"}"), 1.0);
}

fn of_the_process(looked: &mut Looked, node: &Node, page: &Page) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let (uptime, start) = (looked.value(page, "uptime_seconds"), looked.value(page, "start_time_seconds"));
    assert!(uptime > 0.0 && start < now && start > now - 86_400.0, "{uptime} {start}");
    let cpu = ["user", "system"].map(|mode| looked.value(page, &format!("cpu_seconds_total{{mode=\"{mode}\"}}")));
    assert!(cpu[0] > 0.0 && cpu[1] >= 0.0, "{cpu:?}");
    assert_eq!((looked.value(page, "ready"), looked.value(page, "workers")), (1.0, 1.0));
    let start = looked.at("info");
    let info = page.keys().find(|name| name.starts_with(&format!("{start}{{"))).expect("the row");
    for label in ["cluster=\"", "version=\"", "node=\"", "name=\"", "zone=\"here\""] {
        assert!(info.contains(label), "{label} in {info} of {}", node.name);
    }
}

fn a_cluster_through_good_and_bad(looked: &mut Looked) {
    let mut cluster = Cluster::start(3, &["--anti-entropy-interval-ms", "500ms"]);
    at_rest(looked, &cluster);
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    let mut client = all[0].client();
    client.run("RONDO.CONSISTENCY STRICT");
    client.run("INCR strict");
    looked.wait(&all, "ballot_promises_total", |slots| slots > 0.0);
    looked.wait(&all, "slots_promised", |slots| slots > 0.0);
    client.run("RONDO.CONSISTENCY SLOPPY");

    gossip(looked, &all);
    a_node_stands_still(looked, &cluster, &mut client);
    a_node_is_declared_down(looked, &cluster);
    a_node_dies(looked, &mut cluster, &mut client);
    cluster.restart(2);
    cluster.nodes[2].must_be_ready();
    cluster.must_settle();
    for direction in ["out", "in"] {
        let all: Vec<&Node> = cluster.nodes.iter().collect();
        looked.wait(&all, &format!("transferred_keys_total{{direction=\"{direction}\"}}"), |keys| keys >= 30.0);
    }
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    client.run("GET key:1:1");
    client.run("SET key:1:1 x");
    for operation in ["read", "write"] {
        let left = [&cluster.nodes[0]];
        looked.wait(&left, &format!("quorum_failures_total{{operation=\"{operation}\"}}"), |commands| commands > 0.0);
    }
}

/// Until the others count it as down, and then it is handed what it has missed. When it comes back so soon that it has
/// missed nothing after all, it stands still again, for longer.
fn a_node_stands_still(looked: &mut Looked, cluster: &Cluster, client: &mut Client) {
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    let replayed = (1..=FAULTS_MAX).any(|round| {
        all[2].process().pause();
        let missed = wait_for(PATIENCE, || {
            (0..30).for_each(|at| _ = client.call(&["SET", &format!("missed:{at}"), "x"]));
            (page(all[0])["rondo_hints_pending"] > 0.0).then_some(())
        });
        assert!(missed.is_some(), "nothing is kept for a node that stands still");
        std::thread::sleep(Duration::from_secs(round));
        all[2].process().resume();
        cluster.must_settle();
        all[..2].iter().any(|node| page(node)["rondo_hints_replayed_total"] > 0.0)
    });
    assert!(replayed, "what a node missed was never handed to it");
    looked.wait(&all[..2], "hints_stored_total", |writes| writes > 0.0);
    looked.wait(&all[..2], "hints_replayed_total", |writes| writes > 0.0);
    looked.wait(&all, "hints_pending", |writes| writes == 0.0);
}

/// What nodes say to each other, and what a stranger says to their peer port.
fn gossip(looked: &mut Looked, all: &[&Node]) {
    for outcome in ["sent", "received"] {
        looked.wait(all, &format!("gossip_packets_total{{outcome=\"{outcome}\"}}"), |packets| packets > 0.0);
    }
    looked.wait(all, "gossip_silence_seconds", |seconds| seconds > 0.0 && seconds < 30.0);
    let (node, before) = (all[0], page(all[0]));
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.send_to(&[7; 100], node.addr(node.peer_port)).expect("sent");
    let mut stranger = Client::to(node.peer_port);
    stranger.send(&[b'x'; 64]).expect("sent");
    looked.wait(&[node], "peers_refused_total", |refused| refused == 1.0);
    looked.wait(&[node], "gossip_packets_total{outcome=\"refused\"}", |packets| packets == 1.0);
    for outcome in ["unsent", "replayed", "senseless"] {
        let series = format!("gossip_packets_total{{outcome=\"{outcome}\"}}");
        assert!(looked.growth(&before, &page(node), &series) >= 0.0);
    }
}

/// By gossip, which is slower than the links, and it comes back.
fn a_node_is_declared_down(looked: &mut Looked, cluster: &Cluster) {
    let node = &cluster.nodes[2];
    let came_back = (1..=FAULTS_MAX).any(|round| {
        node.process().pause();
        std::thread::sleep(Duration::from_secs(4 * round));
        node.process().resume();
        cluster.must_settle();
        page(node)["rondo_rejoins_total"] > 0.0
    });
    assert!(came_back, "gossip never declared a node down that stood still");
    looked.wait(&[node], "rejoins_total", |times| times > 0.0);
    looked.wait(&[node], "stalls_total", |times| times > 0.0);
}

fn at_rest(looked: &mut Looked, cluster: &Cluster) {
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    let mut client = all[0].client();
    (0..60).for_each(|at| _ = client.call(&["SET", &format!("first:{at}"), "x"]));
    (0..20).for_each(|at| _ = client.call(&["DEL", &format!("first:{at}")]));
    looked.wait(&all, "forwarded_commands_total", |commands| commands > 0.0);
    looked.wait(&all, "tombstones", |keys| keys >= 20.0);
    looked.wait(&all, "tombstone_bytes", |bytes| bytes >= 20.0 * 32.0);
    looked.wait(&all, "anti_entropy_rounds_total", |rounds| rounds > 0.0);
    looked.wait(&all, "slots_settled_total", |slots| slots > 0.0);
    looked.wait(&all, "slots_unsettled", |slots| slots == 0.0);
    looked.wait(&all, "members{state=\"normal\"}", |members| members == 9.0);
    looked.wait(&all, "members_down", |members| members == 0.0);
    looked.wait(&all, "slots{role=\"coordinated\"}", |slots| slots == 16_384.0);
    looked.wait(&all, "slots{role=\"held\"}", |slots| slots == 3.0 * 16_384.0);
    looked.wait(&all, "peer_up{peer=\"", |links| links == 6.0);
    looked.wait(&all, "link_sent_bytes_total{peer=\"", |bytes| bytes > 0.0);
    looked.wait(&all, "peer_round_trip_seconds{peer=\"", |seconds| seconds > 0.0);
    looked.wait(&all, "peer_clock_ahead_seconds{peer=\"", |seconds| seconds != 0.0);
    let name = looked.at("ring_info");
    let digests: BTreeSet<String> = all
        .iter()
        .map(|node| page(node).into_keys().find(|series| series.starts_with(&name)).expect("the row"))
        .collect();
    assert!(digests.len() == 1 && digests.iter().all(|row| row.contains("digest=\"")), "{digests:?}");
}

/// With increments under way to it, which nobody may send again. On a machine that is starved the others may take it
/// for dead before they send it any, so it dies until they have.
fn a_node_dies(looked: &mut Looked, cluster: &mut Cluster, client: &mut Client) {
    let (mut requests, before) = (Vec::new(), page(&cluster.nodes[0]));
    (0..60).for_each(|at| encode(&mut requests, &["INCR", &format!("number:{at}")]));
    let mut unknown = 0;
    for _ in 0..FAULTS_MAX {
        cluster.nodes[2].process().pause();
        client.send(&requests).expect("sent");
        std::thread::sleep(Duration::from_millis(30));
        cluster.nodes[2].kill();
        let replies = (0..60).map(|_| client.receive().expect("a reply"));
        unknown += replies.filter(|reply| reply.text().is_some_and(|text| text.starts_with("TIMEOUT"))).count();
        if unknown > 0 {
            break;
        }
        cluster.restart(2);
        cluster.nodes[2].must_be_ready();
        cluster.must_settle();
    }
    let after = page(&cluster.nodes[0]);
    assert!(unknown > 0, "whatever was under way was answered");
    assert_eq!(looked.growth(&before, &after, "unknown_outcomes_total"), unknown as f64);
    assert!(looked.growth(&before, &after, "forward_failures_total") > 0.0);
    let left: Vec<&Node> = cluster.nodes[..2].iter().collect();
    looked.wait(&left, "link_breaks_total{peer=\"", |breaks| breaks >= 2.0);
    looked.wait(&left, "members_down", |members| members == 2.0);
    looked.wait(&left, "peer_up{peer=\"", |links| links == 2.0);
}
