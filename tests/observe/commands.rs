//! `rondo cluster` against real nodes: any of them tells of all, and the exit code judges.

use std::process::Command;

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::wait_for;

/// Exit code and standard output.
fn rondo(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rondo")).arg("cluster").args(args).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn any_node_tells_of_the_cluster_and_the_exit_code_judges() {
    let mut cluster = Cluster::start(3, &[]);
    let admin: Vec<String> = cluster.nodes.iter().map(|node| node.addr(node.admin_port).to_string()).collect();
    cluster.nodes[0].client().call(&["SET", "key", "value"]);

    let healthy = wait_for(crate::PATIENCE, || Some(rondo(&["status", &admin[2]])).filter(|(code, _)| *code == 0));
    let (_, table) = healthy.expect("a cluster that is well");
    assert!(table.contains("healthy, 3 of 3 nodes up"), "{table}");
    let (_, nodes) = rondo(&["nodes", &admin[1]]);
    let clients = cluster.nodes.iter().all(|node| nodes.contains(&format!("127.0.0.1:{}", node.port)));
    assert!(clients, "{nodes}");
    let (code, json) = rondo(&["status", &admin[1], "-o", "json"]);
    let status: Value = serde_json::from_str(&json).unwrap();
    let keys: u64 = status["nodes"].as_array().unwrap().iter().filter_map(|it| it["figures"]["keys"].as_u64()).sum();
    assert_eq!((code, keys, status["ring"]["agreed"].as_bool()), (0, 3, Some(true)), "{json}");

    cluster.nodes[0].kill();
    let ill = wait_for(crate::PATIENCE, || Some(rondo(&["status", &admin[2]])).filter(|(code, _)| *code == 3));
    let (_, table) = ill.expect("a cluster that is not well");
    assert!(table.contains("not healthy, 2 of 3 nodes up") && table.contains("-> Start it again"), "{table}");
    assert_eq!(rondo(&["status", &admin[0]]).0, 1, "nobody answers there");
    assert_eq!(rondo(&["status", &cluster.nodes[1].addr(cluster.nodes[1].port).to_string()]).0, 1, "not an admin-port");
}
