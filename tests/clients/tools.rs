//! redis-cli and redis-benchmark of Redis 7.0.15, with the options that people use.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::client::encode;
use crate::support::cluster::Cluster;
use crate::{all_of, is_there};

/// Runs a tool for at most a minute; whether it succeeded, and what it printed.
fn run(tool: &str, port: u16, line: &str) -> (bool, String) {
    let mut command = Command::new("timeout");
    command.args(["60", tool, "-p", &port.to_string()]).args(line.split_whitespace());
    let output = command.output().unwrap();
    (output.status.success(), all_of(&output))
}

fn cli(port: u16, line: &str) -> String {
    let (is_well, text) = run("redis-cli", port, line);
    assert!(is_well, "redis-cli {line}:\n{text}");
    text
}

#[test]
fn redis_cli_memkeys() {
    if !is_there("redis-cli", &["--version"]) {
        return;
    }
    let cluster = Cluster::start(3, &[]);
    assert_eq!(cli(cluster.nodes[0].port, "SET cli:a 1"), "OK\n");
    let report = cli(cluster.nodes[0].port, "--memkeys");
    assert!(report.contains("Biggest") && !report.contains("ERR"), "{report}");
}

/// The options of redis-cli that look at a whole server: keys by size and use, latency, and figures second by second.
#[test]
fn redis_cli_looks_at_a_server() {
    if !is_there("redis-cli", &["--version"]) {
        return;
    }
    let cluster = Cluster::start(3, &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lfu"]);
    let (mut client, port) = (cluster.nodes[1].client(), cluster.nodes[0].port);
    (0..50).for_each(|i| assert!(!client.run(&format!("SET cli:{i} {i}")).is_error()));
    client.run(&format!("SET cli:big {}", "x".repeat(1_000)));
    (0..100).for_each(|_| assert!(!client.run("GET cli:7").is_error()));
    assert_eq!(cli(port, "--scan --pattern cli:*").lines().count(), 51);
    let report = cli(port, "--bigkeys");
    assert!(report.contains("Sampled 51 keys") && report.contains("'\"cli:big\"' has 1000 bytes"), "{report}");
    let report = cli(port, "--hotkeys");
    let hottest = report.lines().find(|line| line.starts_with("hot key found")).unwrap_or_default();
    assert!(report.contains("Sampled 51 keys") && hottest.ends_with("\"cli:7\""), "{report}");
    // Without a terminal it ends after a second: the shortest, the longest and the mean time, and how many there were.
    let report = cli(port, "--latency");
    let samples = report.split_whitespace().nth(3).and_then(|count| count.parse::<u64>().ok());
    assert!(samples.is_some_and(|samples| samples > 0), "{report}");
    // It never ends by itself.
    let stat = ["4", "stdbuf", "-oL", "redis-cli", "-p", &port.to_string(), "--stat", "-i", "1"];
    let report = all_of(&Command::new("timeout").args(stat).output().unwrap());
    let keys = report.lines().find(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    assert_eq!(keys.and_then(|line| line.split_whitespace().next()), Some("51"), "{report}");
}

#[test]
fn redis_cli_looks_at_a_cluster() {
    if !is_there("redis-cli", &["--version"]) {
        return;
    }
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.nodes[2].client();
    (0..50).for_each(|i| assert!(!client.run(&format!("SET cli:{i} {i}")).is_error()));
    let port = cluster.nodes[0].cluster_port;
    let report = cli(port, &format!("--cluster check 127.0.0.1:{port}"));
    for words in ["50 keys in 3 masters", "All nodes agree about slots configuration", "All 16384 slots covered"] {
        assert!(report.contains(words), "{words}:\n{report}");
    }
    let report = cli(port, &format!("--cluster info 127.0.0.1:{port}"));
    assert!(report.contains("50 keys in 3 masters"), "{report}");
    let report = cli(port, &format!("--cluster call 127.0.0.1:{port} PING"));
    assert_eq!(report.matches(": PONG").count(), 3, "{report}");
}

#[test]
fn redis_cli_pipe() {
    if !is_there("redis-cli", &["--version"]) {
        return;
    }
    let cluster = Cluster::start(3, &[]);
    let mut commands = Vec::new();
    (0..20_000).for_each(|i| encode(&mut commands, &["SET".to_owned(), format!("pipe:{i}"), i.to_string()]));
    let port = cluster.nodes[0].port.to_string();
    let mut pipe = Command::new("timeout")
        .args(["60", "redis-cli", "-p", &port, "--pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    pipe.stdin.take().unwrap().write_all(&commands).unwrap();
    let output = pipe.wait_with_output().unwrap();
    let text = all_of(&output);
    assert!(output.status.success() && text.contains("errors: 0, replies: 20000"), "{text}");
    assert_eq!(cli(cluster.nodes[2].port, "DBSIZE"), "20000\n");
}

/// How often redis-benchmark is started anew because a node stood still meanwhile.
const STARTS_MAX: usize = 6;

/// What redis-benchmark prints when all goes well. On a machine so busy that nodes stand still, a request may be
/// refused or its outcome be unknown, as the README says; but only then.
fn benchmark(cluster: &Cluster, port: u16, line: &str) -> String {
    let mut starts = 0;
    loop {
        starts += 1;
        let stops = cluster.count_stops();
        let (is_well, text) = run("redis-benchmark", port, line);
        let is_refused = ["CLUSTERDOWN", "TIMEOUT"].iter().any(|word| text.contains(word));
        if !is_refused || cluster.count_stops() == stops || starts == STARTS_MAX {
            assert!(is_well, "redis-benchmark {line}:\n{text}");
            return text;
        }
        println!("a node stood still under redis-benchmark {line}");
        cluster.must_settle();
    }
}

/// The tests of redis-benchmark whose commands rondo has.
const BENCHMARKS: &str = "ping,set,get,incr,sadd,hset,mset";

#[test]
fn redis_benchmark() {
    if !is_there("redis-benchmark", &["--version"]) {
        return;
    }
    let cluster = Cluster::start(3, &[]);
    let (plain, smart) = (cluster.nodes[0].port, cluster.nodes[0].cluster_port);
    for (port, line) in [
        (plain, format!("-q -n 5000 -c 50 -r 1000 -t {BENCHMARKS}")),
        (plain, format!("-q -n 20000 -c 50 -P 16 -r 1000 -t {BENCHMARKS}")),
        (plain, "-q -n 2000 -c 10 -P 4 -3 -d 2048 -t set,get".to_owned()),
        (smart, "--cluster -q -n 20000 -c 50 -P 16 -r 1000 -t set,get,incr,sadd,hset".to_owned()),
    ] {
        let text = benchmark(&cluster, port, &line);
        let wrong = ["ERR", "Error", "error", "MOVED", "Cluster topology"].iter().find(|word| text.contains(**word));
        assert!(wrong.is_none() && text.contains("requests per second"), "redis-benchmark {line}:\n{text}");
    }
}
