//! What a server tells of itself: INFO, SLOWLOG, CLIENT LIST, command statistics; and SHUTDOWN.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::support::client::Client;
use super::support::cluster::{Cluster, Node};
use super::support::redis::Redis;
use super::support::resp::Value;
use super::support::wait_for;
use super::{conversation, texts};

/// Fields of Redis that rondo does not tell: they are about what it does not have, or about one Redis's inside.
const NOT_TOLD: &[&str] =
    &["Server:atomicvar_api", "Server:gcc_version", "CPU:used_cpu_sys_main_thread", "CPU:used_cpu_user_main_thread"];

/// Fields of ours among Redis's sections.
const OURS: &[&str] = &["server_name", "rondo_version", "wire_version", "workers"];

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

/// What INFO counts of keys: changes, hits and misses, of all these together.
fn counts_of_keys(clients: &mut [Client]) -> [u64; 3] {
    let counted = ["rdb_changes_since_last_save:", "keyspace_hits:", "keyspace_misses:"];
    let mut sums = [0; 3];
    for client in clients {
        let text = client.run("INFO everything").text().expect("a text");
        for (sum, name) in sums.iter_mut().zip(counted) {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is told");
            *sum += value.parse::<u64>().expect("a number");
        }
    }
    sums
}

#[test]
fn changes_and_lookups_are_counted_as_in_redis() {
    let (redis, alone, cluster) = (Redis::start(&[]), Cluster::start(1, &[]), Cluster::start(3, &[]));
    let lines = [
        "SET a 1",
        "RENAME a b",
        "SET a 1",
        "RENAME a b",
        "RENAME b b",
        "RENAMENX b c",
        "RENAMENX c c",
        "SET a 1",
        "RENAMENX a c",
        "MOVE a 1",
        "MOVE a 1",
        "COPY c d",
        "COPY c d",
        "COPY c d REPLACE",
        "SADD s 1 2 3",
        "SMOVE s t 1",
        "SADD s 1",
        "SMOVE s t 1",
        "SMOVE s t 9",
        "SUNIONSTORE u s t",
        "SINTERSTORE u s t",
        "SINTERSTORE u s t",
        "MSETNX m 1 n 2 o 3",
        "MSETNX m 1 p 2",
        "BITOP OR q m n o",
        "BITOP AND q x y",
        "DEL m n o q",
        "SET e 1 EX 100",
        "RENAME e f",
        "SCAN 0 COUNT 100",
        "SCAN 0 COUNT 100 TYPE string",
        "SCAN 0 COUNT 100 TYPE set",
        "SCAN 0 COUNT 100 TYPE nosuch",
        "SCAN 0 COUNT 100 MATCH [cd] TYPE set",
    ];
    let counted = |mut clients: Vec<Client>| {
        let after = |(number, line): (usize, &&str)| {
            let client = number % clients.len();
            clients[client].run(line);
            format!("{line}: {:?}", counts_of_keys(&mut clients))
        };
        lines.iter().enumerate().map(after).collect::<Vec<_>>()
    };
    let theirs = counted(vec![redis.client()]);
    assert_eq!(counted(vec![alone.nodes[0].client()]), theirs);
    // Whichever node is asked, and wherever the keys are, all nodes together count each thing once.
    assert_eq!(counted(cluster.nodes.iter().map(Node::client).collect()), theirs);
}

/// In steps, over several nodes, each key is looked up once for its type; one whose time is over is missed.
#[test]
fn a_scan_by_type_counts_each_key_once() {
    const KEYS: usize = 300;
    let (redis, alone, cluster) = (Redis::start(&[]), Cluster::start(1, &[]), Cluster::start(3, &[]));
    let mut clients: Vec<Client> = cluster.nodes.iter().map(Node::client).collect();
    (0..KEYS).for_each(|number| drop(clients[0].call(&["SET", &format!("k{number}"), "v"])));
    let (mut cursor, mut found) = ("0".to_owned(), 0);
    loop {
        let reply = clients[1].call(&["SCAN", &cursor, "COUNT", "10", "TYPE", "string"]);
        let parts = reply.items().expect("a cursor and keys");
        found += parts[1].items().expect("keys").len();
        cursor = parts[0].text().expect("a cursor");
        if cursor == "0" {
            break;
        }
    }
    assert_eq!((found, counts_of_keys(&mut clients)), (KEYS, [KEYS as u64, KEYS as u64, 0]));
    // While clients are paused, nothing that is over is deleted.
    let counted = |mut client: Client| {
        client.run("SET over v PX 100");
        client.run("CLIENT PAUSE 100000 WRITE");
        std::thread::sleep(Duration::from_millis(200));
        for line in ["SCAN 0 TYPE string", "SCAN 0 TYPE set MATCH o*", "SCAN 0 TYPE string MATCH a*", "SCAN 0"] {
            client.run(line);
        }
        let counts = counts_of_keys(&mut [client]);
        alone.nodes[0].client().run("CLIENT UNPAUSE");
        counts
    };
    assert_eq!(counted(alone.nodes[0].client()), counted(redis.client()));
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

/// How often each command ran, was refused and failed.
fn counted(client: &mut Client) -> BTreeMap<String, String> {
    let info = client.run("INFO commandstats").text().expect("a text");
    let stats = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
    let figures = |text: &str| text.split(',').filter(|part| !part.starts_with("usec")).collect::<Vec<_>>().join(",");
    stats.map(|(name, text)| (name.to_owned(), figures(text))).collect()
}

#[test]
fn subcommands_are_counted_as_in_redis() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let [theirs, ours] = [redis.port, cluster.nodes[0].port].map(|port| {
        let mut client = Client::to(port);
        client.run("SET k v");
        client.run("CONFIG RESETSTAT");
        let lines = ["CONFIG GET port", "config get", "CONFIG", "CONFIG FOO", "CONFIG SET maxmemory x", "CLIENT ID"];
        let more = ["OBJECT ENCODING k", "OBJECT FREQ k", "MEMORY USAGE k", "CLUSTER MEET a 1", "CLUSTER MEET", "PING"];
        let last = ["MULTI", "OBJECT ENCODING k", "OBJECT FREQ k", "MEMORY USAGE k", "CONFIG GET port", "EXEC"];
        lines.iter().chain(&more).chain(&last).for_each(|line| drop(client.run(line)));
        let histogram = client.run("LATENCY HISTOGRAM config object|encoding nosuch");
        let names = histogram.items().unwrap_or_default().iter().step_by(2).filter_map(Value::text);
        (counted(&mut client), names.collect::<BTreeSet<_>>())
    });
    assert_eq!(ours, theirs);
}

/// What was refused or failed is counted alike, wherever it was found out, and so is a command over several nodes.
#[test]
fn what_fails_is_counted_as_in_redis() {
    let (redis, one, three) = (Redis::start(&[]), Cluster::start(1, &[]), Cluster::start(3, &[]));
    let lines = "MSETNX a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 i 9|SUNIONSTORE z a b c d e f g h i|WAIT a b|SCAN x|SCAN 0 COUNT x\
        |FLUSHALL X|EXEC|DISCARD|MULTI|NOSUCH|EXEC|EXEC a|MULTI|MULTI|WATCH a|GET a|EXEC a|EXEC|MULTI|GET|DISCARD|MULTI|EXEC";
    let names = ["msetnx", "sunionstore", "wait", "scan", "flushall", "exec", "discard", "multi", "watch"];
    let [theirs, alone, together] = [redis.port, one.nodes[0].port, three.nodes[0].port].map(|port| {
        let mut client = Client::to(port);
        client.run("CONFIG RESETSTAT");
        let replies: Vec<String> = lines.split('|').map(|line| format!("{:?}", client.run(line))).collect();
        let info = client.run("INFO everything").text().expect("a text");
        let figures = |line: &str| {
            let (name, figures) = line.trim().strip_prefix("cmdstat_")?.split_once(':')?;
            let is_time = |figure: &&str| !figure.starts_with("usec");
            let counts = figures.split(',').filter(is_time).collect::<Vec<_>>().join(",");
            names.contains(&name).then(|| format!("{name} {counts}"))
        };
        let errors = |line: &str| line.starts_with("errorstat_") || line.starts_with("total_error_replies");
        let stats: BTreeSet<String> = info.lines().filter_map(figures).collect();
        let errors: BTreeSet<String> = info.lines().filter(|line| errors(line)).map(str::to_owned).collect();
        (replies, stats, errors)
    });
    assert_eq!(alone, theirs);
    assert_eq!(together, theirs);
}

#[test]
fn what_cluster_refuses_on_the_standalone_face_is_refused_as_by_redis() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    for name in ["MEET", "ADDSLOTS", "SETSLOT", "RESET", "FAILOVER", "FORGET", "SAVECONFIG", "MYSHARDID", "FOO", "INFO"]
    {
        let lines = [format!("CLUSTER {name}"), format!("CLUSTER {name} a"), format!("CLUSTER {name} a 1")];
        let lines = lines.each_ref().map(String::as_str);
        assert_eq!(conversation(cluster.nodes[0].port, &lines), conversation(redis.port, &lines), "{name}");
    }
}

#[test]
fn what_a_client_asks_that_leaves_no_trace_is_no_use_of_a_key() {
    let cluster = Cluster::start(3, &["--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0"]);
    for node in &cluster.nodes {
        let mut client = node.client();
        client.run("SET k v");
        let frequency = |client: &mut Client| client.run("OBJECT FREQ k").int().expect("a number");
        let before = frequency(&mut client);
        let uses = ["GET k", "MGET k k", "STRLEN k", "GETRANGE k 0 1"];
        uses.iter().for_each(|line| drop(client.run(line)));
        assert_eq!(frequency(&mut client), before + 5, "at {}", node.name);
        assert_eq!(client.run("CLIENT NO-TOUCH ON").text().as_deref(), Some("OK"));
        uses.iter().for_each(|line| drop(client.run(line)));
        ["MULTI", "GET k", "EXEC"].iter().for_each(|line| drop(client.run(line)));
        assert_eq!(frequency(&mut client), before + 5, "at {}", node.name);
        client.run("TOUCH k");
        client.run("CLIENT NO-TOUCH OFF");
        client.run("GET k");
        assert_eq!(frequency(&mut client), before + 7, "at {}", node.name);
    }
}

#[test]
fn our_own_commands_explain_themselves() {
    let cluster = Cluster::start(2, &[]);
    let mut client = cluster.nodes[0].client();
    for command in ["RONDO.CONSISTENCY", "RONDO.FORGET", "RONDO.META"] {
        let help = texts(&client.run(&format!("{command} help")));
        assert_eq!(help.first(), Some(&format!("{command} <argument> ... Arguments are:")), "{help:?}");
        assert_eq!(help.get(3..), Some(&["HELP".to_owned(), "    Print this help.".to_owned()][..]), "{help:?}");
    }
    // A key of that name is shown, like any other.
    client.run("SET help me");
    let meta = client.run("RONDO.META help");
    assert_eq!(texts(&meta).get(1).map(String::as_str), Some("help"), "{meta:?}");
}

#[test]
fn reset_forgets_what_was_asked_for_by_consistency() {
    let cluster = Cluster::start(1, &[]);
    let port = cluster.nodes[0].port;
    let replies =
        conversation(port, &["RONDO.CONSISTENCY", "RONDO.CONSISTENCY STRICT W 3", "RESET", "RONDO.CONSISTENCY"]);
    assert_eq!((replies[0].items(), replies[2].text().as_deref()), (replies[3].items(), Some("RESET")));
    let strict = conversation(port, &["RONDO.CONSISTENCY STRICT W 3", "RONDO.CONSISTENCY"]);
    assert_ne!(strict[1], replies[0]);
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

#[test]
fn what_a_client_sends_counts_as_its_input_until_it_is_run() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    for port in [redis.port, cluster.nodes[0].port] {
        let mut client = Client::to(port);
        for (pipeline, replies, bytes) in [("CLIENT LIST\r\n", 1, 13), ("PING\r\nCLIENT INFO\r\nPING\r\n", 3, 25)] {
            client.send(pipeline.as_bytes()).expect("sent");
            let texts: Vec<String> =
                (0..replies).map(|_| client.receive().expect("a reply").text().unwrap_or_default()).collect();
            assert!(texts.concat().contains(&format!(" qbuf={bytes} ")), "{texts:?}");
        }
        let list = Client::to(port).run("CLIENT LIST").text().expect("a list");
        assert!(list.contains(" qbuf=0 "), "{list}");
    }
}
