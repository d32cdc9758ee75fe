//! What a node writes into its log, and where: a file that may be moved away, and lines that name nodes and changes.

use std::path::Path;
use std::time::Duration;

use super::support::client::http_get_from;
use super::support::cluster::{Cluster, Node};
use super::support::wait_for;

const AT_ALL: Duration = Duration::from_secs(60);

fn must(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(wait_for(AT_ALL, || holds().then_some(())).is_some(), "never: {what}");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Whether a line of a node's log has all of these words.
fn says(node: &Node, words: &[&str]) -> bool {
    node.process().log_text().lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn at_a_hangup_the_file_is_opened_anew_and_nothing_else_happens() {
    let dir = tempfile::tempdir().expect("a directory");
    let [log, moved] = ["rondo.log", "rondo.log.1"].map(|name| dir.path().join(name));
    let cluster = Cluster::start(1, &["--logfile", log.to_str().expect("a path")]);
    let node = &cluster.nodes[0];
    let mut client = node.client();
    assert_eq!(client.run("SET kept 1").text().as_deref(), Some("OK"));
    must("it is ready", || read(&log).contains("ready to accept connections"));
    std::fs::rename(&log, &moved).expect("moved");
    node.process().signal(libc::SIGHUP);
    must("there is a new file", || read(&log).contains("opened the logfile anew"));
    assert_eq!(client.run("CONFIG SET maxmemory 7mb requirepass sesame").text().as_deref(), Some("OK"));
    let change = r#"CONFIG SET option="maxmemory" before="0" after="7340032" client="#;
    must("the change is in it", || read(&log).contains(change));
    let (new, old) = (read(&log), read(&moved));
    assert!(new.contains(r#"option="requirepass" before="" after="(hidden)""#) && !new.contains("sesame"), "{new}");
    assert!(!old.contains("CONFIG SET"), "{old}");
    assert_eq!(client.run("GET kept").text().as_deref(), Some("1"));
}

#[test]
fn a_node_that_logs_to_its_output_heeds_no_hangup() {
    let cluster = Cluster::start(1, &["--loglevel", "debug"]);
    let node = &cluster.nodes[0];
    let mut client = node.client();
    for _ in 0..10 {
        node.process().signal(libc::SIGHUP);
        assert_eq!(client.run("PING").text().as_deref(), Some("PONG"));
    }
    // What the event loop says of each socket would be most of the log.
    assert!(!says(node, &["registering event source"]) && !says(node, &["mio"]), "{}", node.process().log_text());
}

#[test]
fn lines_about_nodes_name_them_and_levels_are_those_of_redis_in_json_too() {
    let mut cluster = Cluster::start_placed(2, &[], |i, node| {
        node.add_options(&["--node-name", ["anna", "bert"][i], "--log-format", ["json", "text"][i]]);
    });
    let anna = &cluster.nodes[0];
    must("it is ready", || says(anna, &[r#""level":"notice","message":"ready to accept connections""#]));
    must("anna meets bert", || says(anna, &[r#""message":"member up","name":"bert","node":""#]));
    must("bert joins", || says(anna, &[r#""message":"a node has joined","name":"bert""#]));
    must("bert meets anna", || says(&cluster.nodes[1], &[" notice cluster::news: member up name=\"anna\" node="]));
    cluster.nodes[1].kill();
    let anna = &cluster.nodes[0];
    must("others stand in for it", || says(anna, &[r#""message":"others stand in for a node","name":"bert""#]));
    must("bert is down", || says(anna, &[r#""message":"member down","name":"bert""#]));
}

#[test]
fn a_node_that_can_talk_to_nobody_says_so_and_does_not_call_itself_ready() {
    let cluster = Cluster::start(1, &[]);
    let lone = cluster.start_beside("lone", &["--cluster-secret", "another"], &cluster.join_addresses(1));
    must("it says why", || says(&lone, &["warning", "the node to join at", "cannot be asked"]));
    must("it says what it waits for", || says(&lone, &["warning", "waiting for a node of its join list"]));
    assert!(!says(&lone, &["ready to accept connections"]) && !lone.is_ready());
    let (_, status) = http_get_from(lone.addr(lone.admin_port), "/status").expect("a status");
    let nobody = [r#""members":0"#, r#""slots_unserved":16384"#, "not a member of a cluster yet"];
    assert!(nobody.iter().all(|words| status.contains(words)), "{status}");
    // By its port it can be found who knocks there.
    let node = &cluster.nodes[0];
    must("who knocks is named", || says(node, &["refused a connection to the peer-port", "from=\"127.0.0.1:"]));
}
