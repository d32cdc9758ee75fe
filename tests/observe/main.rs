//! The dashboards and alerts in `grafana/`: well-formed, and answered by a real Prometheus that scrapes a real cluster.
//!
//! - `counts`: every metric changes with what it counts.
//! - `dashboards`: what Grafana would stumble over, found without Grafana.
//! - `expressions`: what is asked, taken out of dashboards, rules and the list of redis_exporter's expressions.
//! - `prometheus`: Debian's Prometheus as a process.
//! - `commands`: `rondo cluster`, which tells of the same at one moment.
//! - `repeats`: what is tried again, or runs in parts, is counted and timed once.
//!
//! What needs `prometheus` and `promtool` is skipped where they are not installed, unless `RONDO_REQUIRED` is
//! set, as `scripts/test` does.

mod commands;
mod counts;
mod dashboards;
mod expressions;
mod prometheus;
mod repeats;

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use expressions::Asked;
use prometheus::Prometheus;
use support::cluster::{Cluster, Node};
use support::wait_for;

/// How long an expression may take until it has data: some scrapes, a rate over them, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(90);

/// A file of the repository.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether what the test needs is there.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        support::skipped(&format!("{program} is not installed"));
    }
    found
}

fn must_succeed(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    if is_installed("promtool") {
        must_succeed("promtool", &["check", "rules", "grafana/alerts.yml"]);
        must_succeed("promtool", &["check", "config", "grafana/prometheus.yml"]);
        must_succeed("promtool", &["test", "rules", "grafana/alerts_test.yml"]);
    }
}

#[test]
fn every_alert_has_a_line_of_what_to_do_and_a_test() {
    let (rules, tests) = (expressions::rules(&read("grafana/alerts.yml")), read("grafana/alerts_test.yml"));
    let alerts: Vec<_> = rules.iter().filter_map(|rule| rule.alert.as_ref().map(|name| (name, rule))).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for (name, rule) in alerts {
        assert!(rule.has_runbook, "{name} has no runbook");
        assert!(tests.contains(&format!("alertname: {name}")), "{name} has no test");
    }
}

#[test]
fn dashboards_are_what_their_script_writes() {
    must_succeed("python3", &["grafana/build.py", "--check"]);
}

#[test]
fn only_metrics_of_the_table_are_asked() {
    let documented = read("src/base/metrics/METRICS.md");
    for Asked { place, expression, .. } in expressions::all() {
        for selector in expressions::selectors(&expression) {
            let name = selector.split('{').next().unwrap_or_default();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let known = documented.contains(&format!("`{name}`")) || documented.contains(&format!("`{family}`"));
            assert!(
                known || name == "up" || name.starts_with("rondo:"),
                "{place} asks {name}, which is not in METRICS.md"
            );
        }
    }
}

/// Commands of every kind, some wrong, until told to stop.
fn load(nodes: &[Node], stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<()>> {
    let one = |at: usize, node: &Node| {
        let (mut client, stop) = (node.client(), stop.clone());
        std::thread::spawn(move || {
            for round in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let key = format!("key:{at}:{}", round % 500);
                client.call(&["SET", &key, "value", "PX", "2000"]);
                client.call(&["GET", &key]);
                client.call(&["GET", "nothing"]);
                client.call(&["SET", &format!("kept:{at}:{}", round % 100), "value"]);
                client.call(&["INCR", "counter"]);
                client.call(&["PING"]);
                if round % 10 == 0 {
                    client.call(&["LPOP"]);
                    client.call(&["HGET", "counter", "field"]);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    nodes.iter().enumerate().map(|(at, node)| one(at, node)).collect()
}

/// Has a node refuse a write for want of memory, once: there is no series of that error before.
fn refuse_a_write(node: &Node) {
    let mut client = node.client();
    let before = "CONFIG SET maxmemory 64mb maxmemory-policy allkeys-lru";
    client.run("CONFIG SET maxmemory 1 maxmemory-policy noeviction");
    let refused = (0..1_000).any(|n| client.call(&["SET", &format!("refused:{n}"), "value"]).is_error());
    assert!(refused && client.run(before).text().as_deref() == Some("OK"));
}

/// What has to have an answer: the expression, or, as a rule has none most of the time, what a rule reads.
fn must_answer(asked: Asked) -> Vec<Asked> {
    let expressions = match asked.place.starts_with("alerts.yml") {
        true => expressions::selectors(&asked.expression),
        false => vec![asked.expression],
    };
    let filled = expressions.iter().map(|it| expressions::filled_in(it));
    filled.map(|expression| Asked { place: asked.place.clone(), expression, labels: asked.labels.clone() }).collect()
}

#[test]
fn a_real_prometheus_has_an_answer_to_every_expression() {
    if !is_installed("prometheus") {
        return;
    }
    let options = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
    let cluster = Cluster::start(3, &options);
    refuse_a_write(&cluster.nodes[0]);
    let targets: Vec<String> = cluster.nodes.iter().map(|node| node.addr(node.admin_port).to_string()).collect();
    let prometheus = Prometheus::start(&targets);
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(&cluster.nodes, &stop);
    let mut open: Vec<Asked> = expressions::all().into_iter().flat_map(must_answer).collect();
    let asked = open.len();
    wait_for(PATIENCE, || {
        open.retain(|asked| !prometheus.has_data(&asked.expression, &asked.labels));
        std::thread::sleep(Duration::from_millis(500));
        open.is_empty().then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(open.is_empty(), "{} of {asked} expressions have no data: {open:#?}", open.len());
    assert!(asked > 100, "only {asked} expressions were found");
    let firing = prometheus.firing();
    assert!(firing.is_empty(), "nothing is wrong with this cluster, and yet: {firing:?}");
}
