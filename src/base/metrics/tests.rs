//! The rows keep Prometheus's rules, the shards add up, and the page is what a scraper can read.

use super::table::{COMMANDS, COUNTS, REDIS_NAMES};
use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[test]
fn names_and_labels_follow_the_rules() {
    let mut series = BTreeSet::new();
    let mut families: BTreeMap<&str, Kind> = BTreeMap::new();
    for metric in metrics() {
        let Metric { name, kind, .. } = *metric;
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}: counters and only they end in _total");
        let other_units = ["ms", "us", "milliseconds", "microseconds", "kb", "mb", "percent"];
        assert!(!name.split('_').any(|word| other_units.contains(&word)), "{name}: base units only");
        assert!(metric.help.ends_with('.'), "{name}");
        assert!(series.insert((name, metric.fixed_labels)), "{name} twice");
        assert_eq!(*families.entry(name).or_insert(kind), kind, "{name}");
    }
    let compat: BTreeSet<_> = REDIS_NAMES.iter().map(|(name, _)| name).collect();
    assert_eq!(compat.len(), REDIS_NAMES.len());
}

/// `RONDO_TEST_WRITE_PAGES=1 cargo test --lib metrics` writes the page anew.
#[test]
fn the_page_for_people_is_that_of_the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/base/metrics/METRICS.md");
    if std::env::var_os("RONDO_TEST_WRITE_PAGES").is_some() {
        std::fs::write(&path, page::markdown()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert_eq!(written, page::markdown(), "write METRICS.md anew: RONDO_TEST_WRITE_PAGES=1 cargo test --lib metrics");
}

/// The source outside this folder and INFO, which only reads.
fn source(folder: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("base/metrics") && !path.ends_with("commands/info") {
            source(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            *text += &std::fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn every_row_is_counted_or_given_by_somebody() {
    let mut text = String::new();
    source(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let counts = Count::all().map(|row| format!("Count::{row:?}"));
    let gauges = Gauge::all().map(|row| format!("Gauge::{row:?}"));
    let rows = counts.chain(gauges).chain(Kept::all().map(|row| format!("Kept::{row:?}")));
    let is_used = |row: &String| {
        text.match_indices(row.as_str()).any(|(at, _)| !text[at + row.len()..].starts_with(char::is_alphanumeric))
    };
    let idle: Vec<String> = rows.filter(|row| !is_used(row)).collect();
    assert!(idle.is_empty(), "nobody counts or gives {idle:?}");
}

#[test]
fn shards_of_many_threads_add_up() {
    let registry = Arc::new(Registry::new(vec!["get", "set"]));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let registry = registry.clone();
            std::thread::spawn(move || {
                let worker = registry.worker();
                for _ in 0..1_000 {
                    worker.count(Count::KeyspaceHits, 2);
                    worker.ran(1, 3, 30);
                    worker.answered(Class::Write, 100, 3);
                    registry.count(Count::KeyspaceHits, 1);
                }
                worker.failed(0);
                worker.rejected(7);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let totals = registry.totals();
    assert_eq!(totals.count(Count::KeyspaceHits), 12_000);
    assert_eq!((totals.commands[1].calls, totals.commands[1].us), (12_000, 120_000));
    assert_eq!(totals.commands[1].latency.percentile_us(50.0), 16);
    assert_eq!((totals.commands[0].failed, totals.commands[0].rejected), (4, 0));
    assert_eq!(totals.latency(Class::Write).count(), 12_000);
    assert_eq!(totals.latency(Class::Read).count(), 0);
}

#[test]
fn a_reset_hides_the_past_from_info_and_not_from_prometheus() {
    let registry = Registry::new(vec!["get"]);
    let worker = registry.worker();
    worker.count(Count::ExpiredKeys, 5);
    worker.ran(0, 1, 10);
    registry.reset();
    worker.count(Count::ExpiredKeys, 2);
    assert_eq!(registry.totals_since_reset().count(Count::ExpiredKeys), 2);
    assert_eq!(registry.totals_since_reset().commands[0].calls, 0);
    assert_eq!(registry.totals_since_reset().commands[0].latency.count(), 0);
    assert_eq!(registry.totals().count(Count::ExpiredKeys), 7);
}

/// The series of a page: name with labels to value; checks that every line is one or a comment, and every family has
/// one HELP and one TYPE before its series.
fn series(page: &str) -> BTreeMap<String, f64> {
    let mut types = BTreeMap::new();
    let mut helps = BTreeSet::new();
    let mut all = BTreeMap::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(helps.insert(help.split(' ').next().unwrap()), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end));
            assert!(types.contains_key(family) || base.is_some_and(|base| types.contains_key(base)), "{line}");
            assert!(all.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
        }
    }
    all
}

#[test]
fn the_page_holds_every_count_and_gauge_under_both_names() {
    let registry = Registry::new(vec!["get", "never"]);
    let worker = registry.worker();
    worker.ran(0, 4, 1_500_000);
    worker.answered(Class::Read, 40, 3);
    worker.answered(Class::Read, 20_000_000, 1);
    worker.count(Count::KeyspaceHits, 3);
    worker.count(Count::WriteQuorumFailures, 2);
    registry.add_source(|gauges| {
        gauges.set(Gauge::MemoryUsed, 12.5);
        gauges.set_labelled(Gauge::Keys, &["0"], 7.0);
        gauges.set_labelled(Gauge::Info, &["c", "1.0", "ab", "a\"b\\c\nd", ""], 1.0);
        gauges.set_labelled(Kept::CpuSeconds, &["user"], 1.5);
        gauges.set_labelled(Kept::CpuSeconds, &["system"], 0.5);
        gauges.set_labelled(Kept::Errors, &["a\"b"], 2.0);
    });
    let page = series(&registry.render(true));
    let expected = [
        ("rondo_keyspace_hits_total", 3.0),
        ("redis_keyspace_hits_total", 3.0),
        ("rondo_quorum_failures_total{operation=\"write\"}", 2.0),
        ("rondo_quorum_failures_total{operation=\"read\"}", 0.0),
        ("rondo_commands_total{command=\"get\"}", 4.0),
        ("rondo_commands_duration_seconds_total{command=\"get\"}", 1.5),
        ("redis_commands_duration_seconds_total{cmd=\"get\"}", 1.5),
        ("redis_commands_processed_total", 4.0),
        ("redis_up", 1.0),
        ("rondo_memory_used_bytes", 12.5),
        ("redis_memory_used_bytes", 12.5),
        ("rondo_keys{db=\"0\"}", 7.0),
        ("redis_db_keys{db=\"db0\"}", 7.0),
        ("rondo_cpu_seconds_total{mode=\"user\"}", 1.5),
        ("redis_cpu_user_seconds_total", 1.5),
        ("redis_cpu_sys_seconds_total", 0.5),
        ("rondo_errors_total{code=\"a\\\"b\"}", 2.0),
        ("rondo_info{cluster=\"c\",version=\"1.0\",node=\"ab\",name=\"a\\\"b\\\\c\\nd\",zone=\"\"}", 1.0),
        ("rondo_command_latency_seconds_bucket{class=\"read\",le=\"0.000032\"}", 0.0),
        ("rondo_command_latency_seconds_bucket{class=\"read\",le=\"0.000064\"}", 3.0),
        ("rondo_command_latency_seconds_bucket{class=\"read\",le=\"8.388608\"}", 3.0),
        ("rondo_command_latency_seconds_bucket{class=\"read\",le=\"+Inf\"}", 4.0),
        ("rondo_command_latency_seconds_count{class=\"read\"}", 4.0),
        ("rondo_command_latency_seconds_sum{class=\"read\"}", 20.00012),
    ];
    for (name, value) in expected {
        assert_eq!(page.get(name), Some(&value), "{name} in {page:#?}");
    }
    assert!(!page.keys().any(|name| name.contains("never")));
    for metric in COUNTS.iter().chain([&COMMANDS[0]]) {
        assert!(page.keys().any(|name| name.starts_with(&format!("rondo_{}", metric.name))), "{}", metric.name);
    }
    assert!(!series(&registry.render(false)).keys().any(|name| name.starts_with("redis_")));
}
