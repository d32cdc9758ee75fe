//! The two faces of a cluster of three: the standalone face holds everything, the cluster face tells who holds what.
//!
//! The standalone face must look like one Redis on every node; the cluster face like a node of a Redis Cluster whose
//! redirections, slot map and counts agree with each other on all nodes.

mod support;

use std::collections::BTreeMap;

use support::client::Client;
use support::cluster::{Cluster, Node};
use support::resp::Value;

fn smart(node: &Node) -> Client {
    Client::to(node.cluster_port)
}

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

/// Where a `MOVED slot host:port` points to.
fn moved(reply: &Value) -> Option<(i64, u16)> {
    let Value::Error(text) = reply else { return None };
    let text = String::from_utf8_lossy(text).into_owned();
    let mut words = text.strip_prefix("MOVED ")?.split(' ');
    let slot = words.next()?.parse().ok()?;
    let (_, port) = words.next()?.rsplit_once(':')?;
    Some((slot, port.parse().ok()?))
}

/// Slot -> cluster port of its first node, as `CLUSTER SLOTS` of one node says.
fn slot_map(node: &Node) -> BTreeMap<i64, u16> {
    let mut map = BTreeMap::new();
    for range in smart(node).run("CLUSTER SLOTS").items().expect("an array") {
        let range = range.items().expect("an array");
        let (from, to) = (range[0].int().unwrap(), range[1].int().unwrap());
        let port = range[2].items().unwrap()[1].int().unwrap() as u16;
        map.extend((from..=to).map(|slot| (slot, port)));
    }
    map
}

#[test]
fn redirections_agree_with_the_slot_map() {
    let cluster = Cluster::start(3, &[]);
    let maps: Vec<BTreeMap<i64, u16>> = cluster.nodes.iter().map(slot_map).collect();
    assert_eq!(maps[0].len(), 16_384);
    assert!(maps.iter().all(|map| *map == maps[0]), "the nodes' slot maps differ");
    let mut clients: Vec<(u16, Client)> = cluster.nodes.iter().map(|node| (node.cluster_port, smart(node))).collect();
    for i in 0..200 {
        let key = format!("face:{i}");
        let slot = clients[0].1.call(&["CLUSTER", "KEYSLOT", &key]).int().unwrap();
        let home = maps[0][&slot];
        for (port, client) in &mut clients {
            let reply = client.call(&["SET", &key, "v"]);
            if *port == home {
                assert_eq!(reply, ok(), "{key} at its own node");
            } else {
                assert_eq!(moved(&reply), Some((slot, home)), "{key}: {reply:?}");
            }
        }
    }
}

#[test]
fn several_keys_span_slots_on_the_standalone_face_only() {
    let cluster = Cluster::start(3, &[]);
    let mut plain = cluster.nodes[2].client();
    assert_eq!(plain.run("MSET a 1 b 2 c 3 d 4"), ok());
    let values = |client: &mut Client| -> Vec<String> {
        client.run("MGET a b c d").items().unwrap().iter().filter_map(Value::text).collect()
    };
    for node in &cluster.nodes {
        assert_eq!(values(&mut node.client()), ["1", "2", "3", "4"]);
        assert_eq!(node.client().run("EXISTS a b c d x a").int(), Some(5));
        assert_eq!(node.client().run("TOUCH a b c d x").int(), Some(4));
    }
    let cross = "CROSSSLOT Keys in request don't hash to the same slot";
    let mut clustered = smart(&cluster.nodes[0]);
    for line in ["MGET a b", "MSET a 1 b 2", "DEL a b", "EXISTS a b", "UNLINK a b", "TOUCH a b"] {
        assert_eq!(clustered.run(line), Value::Error(cross.as_bytes().to_vec()), "{line}");
    }
    assert_eq!(plain.run("UNLINK a b").int(), Some(2));
    assert_eq!(plain.run("DEL a b c d").int(), Some(2));
}

#[test]
fn a_transaction_on_the_cluster_face_has_one_slot_and_is_for_its_node() {
    let cluster = Cluster::start(3, &[]);
    let map = slot_map(&cluster.nodes[0]);
    let error = |text: &str| Value::Error(text.as_bytes().to_vec());
    let cross = error("CROSSSLOT Keys in request don't hash to the same slot");
    let aborted = error("EXECABORT Transaction discarded because of previous errors.");
    // A key of each of two nodes, and two of the first in different slots.
    let mut any = smart(&cluster.nodes[0]);
    let mut slot_of = |key: &str| any.call(&["CLUSTER", "KEYSLOT", key]).int().expect("a slot");
    let keys: Vec<(String, i64)> =
        (0..200).map(|i| format!("tx:{i}")).map(|key| (key.clone(), slot_of(&key))).collect();
    let (a, slot) = &keys[0];
    let (beside, _) = keys.iter().find(|(_, it)| it != slot && map[it] == map[slot]).expect("a key");
    let (far, far_slot) = keys.iter().find(|(_, it)| map[it] != map[slot]).expect("a key");
    let mut home = Client::to(map[slot]);
    let mut run = |words: &[&str]| home.call(words);
    assert_eq!(run(&["MULTI"]), ok());
    assert_eq!(run(&["SET", a, "1"]).text().as_deref(), Some("QUEUED"));
    assert_eq!(run(&["MSET", a, "2", beside, "2"]), cross);
    let elsewhere = run(&["SET", far, "2"]);
    assert_eq!(moved(&elsewhere), Some((*far_slot, map[far_slot])));
    assert_eq!(run(&["EXEC"]), aborted);
    assert!(run(&["GET", a]).is_null(), "nothing of it has run");
    run(&["MULTI"]);
    for key in [a, beside] {
        assert_eq!(run(&["SET", key, "3"]).text().as_deref(), Some("QUEUED"));
    }
    assert_eq!(run(&["EXEC"]), cross);
    assert_eq!(run(&["EXEC"]), error("ERR EXEC without MULTI"), "that was its end");
    assert!(run(&["GET", a]).is_null());
    assert_eq!((run(&["WATCH", a, beside]), run(&["SSUBSCRIBE", a, beside])), (cross.clone(), cross));
    assert_eq!(moved(&run(&["WATCH", far])), Some((*far_slot, map[far_slot])));
    run(&["MULTI"]);
    run(&["SET", a, "4"]);
    run(&["PING"]);
    run(&["INCR", a]);
    let replies = run(&["EXEC"]);
    assert_eq!(replies.items(), Some(&[ok(), Value::Simple(b"PONG".to_vec()), Value::Int(5)][..]));
}

#[test]
fn a_transaction_goes_on_behind_a_command_of_the_node() {
    for nodes in [1, 3] {
        let cluster = Cluster::start(nodes, &[]);
        let mut client = cluster.nodes[0].client();
        for round in 0..40 {
            let quorum = ["1", "2"][round % 2];
            client.run("MULTI");
            for line in ["SET {t}a 1", &format!("CONFIG SET read-quorum {quorum}"), "SET {t}b 2", "PING", "DBSIZE"] {
                assert_eq!(client.run(line).text().as_deref(), Some("QUEUED"));
            }
            let replies = client.run("EXEC");
            let expected = [ok(), ok(), ok(), Value::Simple(b"PONG".to_vec()), Value::Int(2)];
            assert_eq!(replies.items(), Some(&expected[..]), "{nodes} nodes, round {round}");
        }
    }
}

#[test]
fn databases_are_for_the_standalone_face() {
    let cluster = Cluster::start(3, &[]);
    let mut plain = cluster.nodes[0].client();
    assert_eq!(plain.run("SELECT 9"), ok());
    assert_eq!(plain.run("SET only-in-nine v"), ok());
    let mut other = cluster.nodes[1].client();
    assert!(other.run("GET only-in-nine").is_null());
    assert_eq!(other.run("SELECT 9"), ok());
    assert_eq!(other.run("GET only-in-nine").text().as_deref(), Some("v"));
    assert_eq!(other.run("DBSIZE").int(), Some(1));
    let refused = Value::Error(b"ERR SELECT is not allowed in cluster mode".to_vec());
    assert_eq!(smart(&cluster.nodes[0]).run("SELECT 1"), refused);
}

#[test]
fn no_key_leaves_database_0_by_the_cluster_face() {
    let cluster = Cluster::start(2, &[]);
    let slot = smart(&cluster.nodes[0]).run("CLUSTER KEYSLOT {k}").int().expect("a slot");
    let mut home = Client::to(slot_map(&cluster.nodes[0])[&slot]);
    assert_eq!(home.run("SET {k} v"), ok());
    let refused = |text: &str| Value::Error(text.as_bytes().to_vec());
    let no_move = refused("ERR MOVE is not allowed in cluster mode");
    let no_copy = refused("ERR Copying to another database is not allowed in cluster mode");
    let out_of_range = refused("ERR DB index is out of range");
    for (line, reply) in [
        ("MOVE {k} 1", &no_move),
        ("MOVE {k} x", &no_move),
        ("COPY {k} {k}copy DB 1", &no_copy),
        ("COPY {k} {k} DB 1", &no_copy),
        ("COPY {k} {k}copy DB 99", &out_of_range),
        ("COPY {k} {k}copy DB 0", &Value::Int(1)),
    ] {
        assert_eq!(home.run(line), *reply, "{line}");
    }
    assert_eq!(home.run("MULTI"), ok());
    home.run("MOVE {k} 1");
    home.run("COPY {k} {k}more DB 1");
    assert_eq!(home.run("EXEC").items(), Some(&[no_move, no_copy][..]));
    let mut plain = cluster.nodes[0].client();
    assert_eq!((plain.run("MOVE {k} 1").int(), plain.run("COPY {k}copy {k} DB 2").int()), (Some(1), Some(1)));
}

#[test]
fn flushing_one_node_flushes_all() {
    let cluster = Cluster::start(3, &[]);
    for i in 0..100 {
        cluster.nodes[i % 3].client().call(&["SET", &format!("flush:{i}"), "v"]);
    }
    assert_eq!(cluster.nodes[1].client().run("FLUSHALL"), ok());
    for node in &cluster.nodes {
        assert_eq!(node.client().run("DBSIZE").int(), Some(0), "{}", node.name);
        assert!(node.client().run("GET flush:1").is_null());
    }
}

/// What WAIT says is true: all replicas while they answer, fewer when one is silent, the same from whichever node is
/// asked.
#[test]
fn wait_tells_how_many_replicas_hold_what_was_written() {
    let mut cluster = Cluster::start(3, &[]);
    let wait = |node: &Node, timeout_ms: &str| {
        let mut client = Client::to(node.port);
        for i in 0..50 {
            assert_eq!(client.call(&["SET", &format!("wait:{i}"), "v"]), ok());
        }
        client.call(&["WAIT", "2", timeout_ms]).int()
    };
    for node in &cluster.nodes {
        assert_eq!(wait(node, "10000"), Some(2), "at {}", node.name);
    }
    assert_eq!(smart(&cluster.nodes[0]).run("WAIT 2 10000").int(), Some(2), "on the cluster face");
    let mut client = Client::to(cluster.nodes[0].port);
    assert_eq!(client.run("WAIT x 0"), Value::Error(b"ERR value is not an integer or out of range".to_vec()));
    assert_eq!(client.run("WAIT 1 -1"), Value::Error(b"ERR timeout is negative".to_vec()));
    cluster.nodes[2].kill();
    assert_eq!(wait(&cluster.nodes[0], "300"), Some(1), "with one of three nodes dead");
    // Inside MULTI nothing is waited for, so a node that is not there does not hold up the rest.
    let mut client = Client::to(cluster.nodes[0].port);
    client.run("MULTI");
    client.run("WAIT 2 0");
    assert_eq!(client.run("EXEC"), Value::Array(vec![Value::Int(1)]));
    cluster.restart(2);
    cluster.nodes[2].must_be_ready();
    cluster.must_settle();
    assert_eq!(wait(&cluster.nodes[1], "10000"), Some(2), "with the third node back");
}
