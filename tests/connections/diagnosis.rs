//! What a server tells of itself: INFO, SLOWLOG, command statistics; and SHUTDOWN.

use std::collections::BTreeSet;
use std::time::Duration;

use super::conversation;
use super::support::client::Client;
use super::support::cluster::{Cluster, Redis};
use super::support::resp::Value;
use super::support::wait_for;

/// Fields of Redis that rondo does not tell: they are about what it does not have, or about one Redis's inside.
const NOT_TOLD: &[&str] =
    &["Server:atomicvar_api", "Server:gcc_version", "CPU:used_cpu_sys_main_thread", "CPU:used_cpu_user_main_thread"];

/// Fields of ours among Redis's sections.
const OURS: &[&str] = &["server_name", "rondo_version", "workers"];

/// `section` and `section:field` in the order in which INFO tells them; figures of single commands and errors left out.
fn fields(port: u16) -> Vec<String> {
    let text = Client::to(port).run("INFO everything").text().expect("a text");
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("# ") {
            section = title.to_owned();
            found.push(section.clone());
        } else if let Some((name, _)) = line.split_once(':') {
            let is_one_of_many = ["cmdstat_", "errorstat_", "latency_percentiles_usec_", "db"];
            if !is_one_of_many.iter().any(|start| name.starts_with(start)) {
                found.push(format!("{section}:{name}"));
            }
        }
    }
    found
}

#[test]
fn info_has_the_sections_and_fields_of_redis_in_their_order() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let (theirs, mut ours) = (fields(redis.port), fields(cluster.nodes[0].port));
    ours.retain(|field| {
        let (section, name) = field.split_once(':').unwrap_or((field, ""));
        !["Ring", "Quorum"].contains(&section) && !OURS.contains(&name)
    });
    let known: BTreeSet<&String> = theirs.iter().collect();
    assert_eq!(ours.iter().filter(|field| !known.contains(field)).collect::<Vec<_>>(), Vec::<&String>::new());
    let told: BTreeSet<&String> = ours.iter().collect();
    let missing: Vec<&str> = theirs.iter().filter(|field| !told.contains(field)).map(String::as_str).collect();
    assert_eq!(missing, NOT_TOLD);
    assert_eq!(ours, theirs.into_iter().filter(|field| !NOT_TOLD.contains(&field.as_str())).collect::<Vec<_>>());
}

#[test]
fn commands_are_counted_and_timed() {
    let cluster = Cluster::start(1, &[]);
    let mut client = cluster.nodes[0].client();
    client.run("CONFIG RESETSTAT");
    for number in 0..500 {
        client.call(&["SET", &format!("k{number}"), &"x".repeat(2_000)]);
    }
    client.run("KEYS *");
    client.run("LPUSH a b");
    client.run("GET");
    client.run("HGET k1 f");
    let info = client.run("INFO commandstats").text().unwrap();
    let stat = |name: &str, field: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:")));
        let line = line.unwrap_or_else(|| panic!("{name} in {info}"));
        let value = line.split(',').find_map(|part| part.strip_prefix(&format!("{field}=")));
        value.unwrap_or_else(|| panic!("{field} in {line}")).parse().unwrap()
    };
    assert_eq!((stat("set", "calls"), stat("keys", "calls"), stat("get", "rejected_calls")), (500.0, 1.0, 1.0));
    assert_eq!((stat("hget", "calls"), stat("hget", "failed_calls")), (1.0, 1.0));
    assert!(stat("set", "usec") > 0.0 && stat("keys", "usec") > 0.0, "{info}");
    let errors = client.run("INFO errorstats").text().unwrap();
    assert!(errors.contains("errorstat_ERR:count=2") && errors.contains("errorstat_WRONGTYPE:count=1"), "{errors}");
    let latency = client.run("INFO latencystats").text().unwrap();
    assert!(latency.contains("latency_percentiles_usec_set:p50="), "{latency}");
    let histogram = format!("{:?}", client.run("LATENCY HISTOGRAM set"));
    assert!(histogram.contains("\"calls\", :500"), "{histogram}");
}

#[test]
fn slow_commands_are_kept() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    for port in [redis.port, cluster.nodes[0].port] {
        let mut client = Client::to(port);
        client.run("CLIENT SETNAME app");
        client.run("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 4");
        client.run("SLOWLOG RESET");
        for line in ["SET a 1", "AUTH default pw", "GET a", "KEYS *", "HSET h f v"] {
            client.run(line);
        }
        let entries = client.run("SLOWLOG GET 10");
        let shown: Vec<String> =
            entries.items().unwrap().iter().map(|entry| format!("{:?}", entry.items().unwrap()[3])).collect();
        let newest_first = [
            r#"["HSET", "h", "f", "v"]"#,
            r#"["KEYS", "*"]"#,
            r#"["GET", "a"]"#,
            r#"["AUTH", "(redacted)", "(redacted)"]"#,
        ];
        assert_eq!(shown, newest_first);
        assert_eq!(entries.items().unwrap()[0].items().unwrap()[5], Value::Bulk(b"app".to_vec()));
        client.run("CONFIG SET slowlog-log-slower-than -1");
        client.run("SLOWLOG RESET");
        client.run("KEYS *");
        assert_eq!(client.run("SLOWLOG LEN").int(), Some(0));
    }
}

#[test]
fn shutdown_stops_a_node_and_the_others_have_its_keys() {
    let (redis, mut cluster) =
        (Redis::start(&[]), Cluster::start(2, &["--replicas", "1", "--write-quorum", "1", "--read-quorum", "1"]));
    let refusals = ["SHUTDOWN FOO", "SHUTDOWN ABORT", "SHUTDOWN NOSAVE SAVE", "SHUTDOWN ABORT NOW"];
    let ports = cluster.ports();
    assert_eq!(conversation(ports[0], &refusals), conversation(redis.port, &refusals));
    let mut client = Client::to(ports[0]);
    for number in 0..200 {
        client.call(&["SET", &format!("k{number}"), "v"]);
    }
    let mut leaving = Client::to(ports[1]);
    assert!(leaving.try_call(&["SHUTDOWN", "NOSAVE"]).is_err(), "there is no reply");
    let node = cluster.nodes[1].process.as_mut().unwrap();
    assert!(wait_for(Duration::from_secs(60), || node.has_ended().then_some(())).is_some());
    for number in 0..200 {
        assert_eq!(client.call(&["GET", &format!("k{number}")]).text().as_deref(), Some("v"), "k{number}");
    }
    let swap = client.run("SWAPDB 0 1").text().unwrap();
    assert!(swap.starts_with("ERR SWAPDB is not supported"), "{swap}");
}
