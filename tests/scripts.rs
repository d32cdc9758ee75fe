//! The scripts that measure, run briefly: they end well, and what they say and draw is whole.
//!
//! Only their working is tested; what they measure on a busy machine means nothing. Without python3 or redis-server the
//! tests say SKIPPED, unless `RONDO_REQUIRED` is set.

mod support;

use std::path::Path;
use std::process::Command;

const RONDO: &str = env!("CARGO_BIN_EXE_rondo");

/// What a script prints; `None` when what it needs is not here.
fn run(script: &str, args: &[&str]) -> Option<String> {
    let is_here = |program: &&str| Command::new(program).arg("--version").output().is_ok();
    if !["python3", "redis-server", "redis-cli"].iter().all(is_here) {
        support::skipped("python3, redis-server or redis-cli is missing");
        return None;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    let output = Command::new(path).args(args).args(["--binary", RONDO]).output().expect("the script starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {text}");
    println!("{text}");
    Some(text)
}

#[test]
fn a_node_is_killed_beside_redis_cluster_and_both_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display().to_string();
    let brief = ["--seconds", "9", "--rate", "200", "--keys", "300", "--node-timeout", "1000"];
    let args = [&["--beside", "redis-cluster", "--output", &folder], &brief[..]].concat();
    let Some(text) = run("kill-demo", &args) else { return };
    for name in ["rondo: 3 nodes: ", "Redis Cluster: 3 masters, 3 replicas, node timeout 1 s: "] {
        let line = text.lines().find(|line| line.starts_with(name)).expect("a line for each");
        assert!(line.contains(" 0 unreadable"), "{line}");
        let acknowledged = line.split("; ").find_map(|part| part.split_once(" writes acknowledged"));
        assert!(acknowledged.expect("a count").0.parse::<u64>().expect("a number") > 100, "{line}");
    }
    let page = std::fs::read_to_string(dir.path().join("kill-demo.html")).expect("the page");
    assert_eq!((page.matches("<svg").count(), page.matches(">kill -9<").count()), (2, 2));
    for word in ["http", "<script", "@import", " src="] {
        assert!(!page.contains(word), "{word} in the page");
    }
    let figures = std::fs::read_to_string(dir.path().join("kill-demo.json")).expect("the figures");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&figures).expect("JSON").as_array().map(Vec::len), Some(2));
    let has_chromium = Command::new("chromium").arg("--version").output().is_ok();
    assert!(
        !has_chromium || std::fs::read(dir.path().join("kill-demo.png")).expect("a picture").starts_with(b"\x89PNG")
    );
}

#[test]
fn a_scrape_is_measured() {
    let Some(text) = run("scrape-cost", &["--connections", "50", "--scrapes", "3"]) else { return };
    assert!(text.contains(" ms of processor time a scrape, 50 connections, "), "{text}");
}
