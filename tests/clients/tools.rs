//! redis-cli and redis-benchmark of Redis 7.0.15, with the options that people use.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::client::encode;
use crate::support::cluster::Cluster;
use crate::{all_of, is_there};

/// Runs a tool for at most a minute and returns what it printed; fails when it fails.
fn run(tool: &str, port: u16, line: &str) -> String {
    let mut command = Command::new("timeout");
    command.args(["60", tool, "-p", &port.to_string()]).args(line.split_whitespace());
    let output = command.output().unwrap();
    let text = all_of(&output);
    assert!(output.status.success(), "{tool} {line}: {}:\n{text}", output.status);
    text
}

fn cli(port: u16, line: &str) -> String {
    run("redis-cli", port, line)
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
        let text = run("redis-benchmark", port, &line);
        let wrong = ["ERR", "Error", "error", "MOVED", "Cluster topology"].iter().find(|word| text.contains(**word));
        assert!(wrong.is_none() && text.contains("requests per second"), "redis-benchmark {line}:\n{text}");
    }
}
