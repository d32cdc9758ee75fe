//! INFO's text, and its names and order beside a real redis-server's.

use super::*;
use crate::base::config::{Config, Sources, load};
use crate::base::metrics::Registry;
use crate::protocol::client::Value;

fn with_text(wanted: &[&[u8]], face: Face, check: impl FnOnce(String)) {
    let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let config = Config::new(load(&Sources::default(), &no_file).expect("defaults")).expect("defaults");
    let registry = Registry::new(vec!["get", "set"]);
    let worker = registry.worker();
    worker.ran(0, 10, 25);
    let process = Process::read("ab".repeat(20), 1_000);
    let facts = Facts {
        settings: &config.settings(),
        config_file: "",
        process: &process,
        totals: &registry.totals(),
        gauges: &registry.gauges(),
        changes: 7,
        rates: Rates { commands: 12.4, ..Rates::default() },
        errors: &[("ERR".to_owned(), 3)],
        memory: MemoryFigures {
            used_bytes: 1 << 20,
            peak_bytes: 2 << 20,
            resident_bytes: 3 << 20,
            ..Default::default()
        },
        databases: &[Database { db: 0, keys: 5, expires: 2 }],
        clients: ClientFigures { connected: 4, ..Default::default() },
        face,
        ring: &RingFigures { members: 3, members_alive: 2, state: "normal", digest: 255, ..Default::default() },
        now_ms: 91_000,
    };
    check(text(wanted, &facts));
}

const STANDALONE: Face = Face { port: 6379, cluster: false };

#[test]
fn figures_stand_in_their_sections() {
    with_text(&[], STANDALONE, |text| {
        assert!(text.starts_with("# Server\r\nredis_version:7.0.15\r\n"));
        for line in [
            "redis_mode:standalone",
            "uptime_in_seconds:90",
            "tcp_port:6379",
            "connected_clients:4",
            "used_memory_human:1.00M",
            "used_memory_peak_perc:50.00%",
            "mem_fragmentation_ratio:3.00",
            "maxmemory_policy:noeviction",
            "total_commands_processed:10",
            "instantaneous_ops_per_sec:12",
            "errorstat_ERR:count=3",
            "cluster_enabled:0",
            "db0:keys=5,expires=2,avg_ttl=0",
            "ring_members_alive:2",
            "ring_digest:00000000000000ff",
            "quorum_mode:sloppy",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} in\n{text}");
        }
        assert!(!text.contains("cmdstat_") && text.ends_with("\r\n") && !text.ends_with("\r\n\r\n"));
    });
    with_text(&[b"ALL"], Face { port: 7379, cluster: true }, |text| {
        let line = "cmdstat_get:calls=10,usec=25,usec_per_call=2.50,rejected_calls=0,failed_calls=0";
        assert!(text.contains(line) && text.contains("latency_percentiles_usec_get:p50=2.000,p99=2.000,p99.9=2.000"));
        assert!(text.contains("cluster_enabled:1") && text.contains("redis_mode:cluster"));
    });
}

#[test]
fn only_what_is_asked_for_is_told() {
    let titles = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("# ")).map(|title| title.trim_end().to_owned()).collect()
    };
    with_text(&[b"clients", b"Server"], STANDALONE, |text| assert_eq!(titles(&text), ["Server", "Clients"]));
    with_text(&[b"nonsense"], STANDALONE, |text| assert!(text.is_empty()));
    with_text(&[b"commandstats", b"default"], STANDALONE, |text| assert_eq!(titles(&text).len(), 14));
}

#[test]
fn sizes_are_spelled_as_redis_does() {
    let cases = [
        (0, "0B"),
        (200, "200B"),
        (1_023, "1023B"),
        (1_810_816, "1.73M"),
        (25_274_793_984, "23.54G"),
        (1 << 10, "1.00K"),
    ];
    for (bytes, text) in cases {
        assert_eq!(sections::human(bytes), text);
    }
}

#[test]
fn fields_stand_in_the_order_of_redis() {
    let Some(mut oracle) = crate::commands::oracle::Oracle::start() else { return };
    let Value::Bulk(theirs) = oracle.run(&["INFO"]) else { panic!("a text") };
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
    };
    let theirs = names(&String::from_utf8_lossy(&theirs));
    with_text(&[], STANDALONE, |text| {
        let ours = names(&text);
        let common = |from: &[String], other: &[String]| -> Vec<String> {
            from.iter().filter(|name| other.contains(name)).cloned().collect()
        };
        assert_eq!(common(&ours, &theirs), common(&theirs, &ours));
        let missing: Vec<_> = theirs.iter().filter(|name| !ours.contains(name)).collect();
        println!("not told: {missing:?}");
        assert!(missing.len() < 16);
    });
}
