//! Real clients, unchanged, against a cluster of three processes.
//!
//! Each client library has a script in its own language (`ioredis.js`, `redis_rb.rb`, ...) that prints one line per
//! case and exits with the number of failures; this file starts a cluster, runs the scripts, and runs redis-cli and
//! redis-benchmark. `scripts/test` installs the libraries under `target/clients`; where one is missing its test says
//! SKIPPED, unless `RONDO_REQUIRED` is set. Clients that cannot be installed are in `connect.rs`.

mod connect;
#[path = "../support/mod.rs"]
mod support;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::cluster::Cluster;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `scripts/test` puts what the clients need.
fn installed(path: &str) -> PathBuf {
    root().join("target/clients").join(path)
}

fn script(name: &str) -> PathBuf {
    root().join("tests/clients").join(name)
}

/// True when `program` exists and can be started; otherwise says that the test does nothing.
fn is_there(program: impl AsRef<std::ffi::OsStr>, probe: &[&str]) -> bool {
    let program = program.as_ref();
    let found = Command::new(program).args(probe).env("NODE_PATH", installed("node_modules")).output();
    if found.is_ok_and(|output| output.status.success()) {
        return true;
    }
    support::skipped(&format!("{} {probe:?} does not run; scripts/test installs it", program.display()));
    false
}

fn ports(of: impl Iterator<Item = u16>) -> String {
    of.map(|port| port.to_string()).collect::<Vec<_>>().join(",")
}

/// Runs a client script against three nodes; fails with its output unless every case is ok.
fn run(mut command: Command) {
    let cluster = Cluster::start(3, &[]);
    command.env("RONDO_HOST", "127.0.0.1");
    command.env("RONDO_PORTS", ports(cluster.nodes.iter().map(|node| node.port)));
    command.env("RONDO_CLUSTER_PORTS", ports(cluster.nodes.iter().map(|node| node.cluster_port)));
    command.env("NODE_PATH", installed("node_modules"));
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = all_of(&output);
    println!("{text}");
    let cases = text.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(output.status.success() && cases > 0, "{command:?} failed ({}):\n{text}", output.status);
}

/// What a command printed, errors last.
fn all_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn with_argument(program: impl AsRef<std::ffi::OsStr>, argument: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(program).arg(argument);
    command
}

#[test]
fn ioredis() {
    if is_there("node", &["-e", "require('ioredis')"]) {
        run(with_argument("node", &script("ioredis.js")));
    }
}

#[test]
fn node_redis() {
    if is_there("node", &["-e", "require('redis')"]) {
        run(with_argument("node", &script("node_redis.js")));
    }
}

/// The project `rust`, which `scripts/test` builds.
fn of_rust(client: &str) {
    let program = installed("rust/debug/rust-clients");
    if is_there("test", &["-x", program.to_str().unwrap()]) {
        run(with_argument(&program, Path::new(client)));
    }
}

#[test]
fn redis_rs() {
    of_rust("redis-rs");
}

#[test]
fn fred() {
    of_rust("fred");
}

#[test]
fn redis_py() {
    let python = installed("venv/bin/python");
    if is_there(&python, &["-c", "import redis"]) {
        run(with_argument(&python, &script("redis_py.py")));
    }
}

#[test]
fn phpredis() {
    if is_there("php", &["-r", "exit(class_exists('Redis') ? 0 : 1);"]) {
        run(with_argument("php", &script("phpredis.php")));
    }
}

#[test]
fn redis_rb() {
    if is_there("ruby", &["-e", "require 'redis'"]) {
        run(with_argument("ruby", &script("redis_rb.rb")));
    }
}

#[test]
fn hiredis() {
    let program = installed("hiredis");
    std::fs::create_dir_all(installed("")).unwrap();
    let (from, to) = (script("hiredis.c"), program.clone());
    let probe = ["-o", to.to_str().unwrap(), from.to_str().unwrap(), "-lhiredis"];
    if is_there("gcc", &probe) {
        run(with_argument(&program, Path::new("")));
    }
}
