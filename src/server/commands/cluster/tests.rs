//! CLUSTER's answers for three nodes, one of them dead.

use super::*;
use crate::base::ids::ActorId;
use crate::commands::table;
use crate::protocol::client::{ReplyDecoder, Value};
use crate::protocol::{Limits, Proto, Scanner};
use crate::server::state::snapshot::tests::rows_of;
use crate::store::Effects;
use crate::store::mutation::Mutation;

struct Three {
    rows: Rows,
    map: SlotMap,
    ids: Vec<NodeId>,
    store: Store,
}

impl Three {
    /// The third node is dead.
    fn new() -> Three {
        Three::serving(|_| true)
    }

    /// As `new`, where only these slots can reach their quorums.
    fn serving(is_served: impl Fn(Slot) -> bool) -> Three {
        let rows = rows_of(3);
        let ids: Vec<NodeId> = rows.iter().map(|row| row.id).collect();
        let map = SlotMap::of(&rows.ring(3), |id| *id != ids[2], is_served);
        Three { rows, map, ids, store: Store::new(ActorId { node: 1, generation: 1 }) }
    }

    fn ask(&self, line: &str) -> Value {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let (_, row) = table::find(b"cluster").expect("a row");
        let is_alive = |id: &NodeId| *id != self.ids[2];
        let cx = Cx {
            args: scanner.args(buf.as_bytes()),
            rows: &self.rows,
            map: &self.map,
            this: self.ids[0],
            is_alive: &is_alive,
            store: &self.store,
            now_ms: 5_000,
        };
        let mut reply = Vec::new();
        if let Err(error) = run(row, cx, &mut Reply::new(&mut reply, Proto::Resp2)) {
            Reply::new(&mut reply, Proto::Resp2).error(error.bytes());
        }
        let (value, len) = ReplyDecoder::default().decode(&reply).expect("well-formed").expect("complete");
        assert_eq!(len, reply.len());
        value
    }

    fn text(&self, line: &str) -> String {
        match self.ask(line) {
            Value::Bulk(text) | Value::Error(text) => String::from_utf8(text).expect("text"),
            other => panic!("not a text: {other:?}"),
        }
    }
}

#[test]
fn nodes_share_the_slots_and_the_dead_one_has_none() {
    let three = Three::new();
    let text = three.text("CLUSTER NODES");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 3);
    let mut covered = 0;
    for (at, line) in lines.iter().enumerate() {
        let row = three.rows.get(&three.ids[at]).expect("a row");
        assert_eq!(line[0], row.id.to_string());
        assert_eq!(line[1], format!("127.0.0.1:{}@{}", row.cluster_port, row.peer_addr.port()));
        assert_eq!(line[2], ["myself,master", "master", "master,fail"][at]);
        assert_eq!((line[3], line[6].to_owned()), ("-", (at + 1).to_string()));
        assert_eq!(line[7], if at == 2 { "disconnected" } else { "connected" });
        for range in &line[8..] {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            covered += last.parse::<usize>().expect("a slot") - first.parse::<usize>().expect("a slot") + 1;
        }
        assert_eq!(line.len() > 8, at != 2);
    }
    assert_eq!(covered, SLOT_COUNT);
    let info = three.text("CLUSTER INFO");
    for line in ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3", "cluster_size:2"] {
        assert!(info.contains(&format!("{line}\r\n")), "{info}");
    }
}

#[test]
fn slots_whose_commands_are_all_refused_are_not_ok() {
    for (served, state) in [(0, "fail"), (10_000, "fail"), (SLOT_COUNT, "ok")] {
        let three = Three::serving(|slot| slot.index() < served);
        let info = three.text("CLUSTER INFO");
        let lines = [
            format!("cluster_state:{state}"),
            "cluster_slots_assigned:16384".to_owned(),
            format!("cluster_slots_ok:{served}"),
            format!("cluster_slots_fail:{}", SLOT_COUNT - served),
            "cluster_size:2".to_owned(),
        ];
        assert!(lines.iter().all(|line| info.contains(&format!("{line}\r\n"))), "{info}");
        // Clients still learn where each slot is.
        let Value::Array(ranges) = three.ask("CLUSTER SLOTS") else { panic!("an array") };
        assert!(!ranges.is_empty());
    }
}

#[test]
fn slots_and_shards_name_the_same_coordinators() {
    let three = Three::new();
    let Value::Array(ranges) = three.ask("CLUSTER SLOTS") else { panic!("an array") };
    let mut next = 0;
    for range in &ranges {
        let Value::Array(parts) = range else { panic!("an array") };
        let [Value::Int(first), Value::Int(last), nodes @ ..] = parts.as_slice() else { panic!("{parts:?}") };
        assert_eq!(*first, next);
        next = last + 1;
        assert_eq!(nodes.len(), 1, "the coordinator alone");
        let Value::Array(node) = &nodes[0] else { panic!("an array") };
        assert_eq!((node.len(), &node[0]), (4, &Value::Bulk(b"127.0.0.1".into())));
    }
    assert_eq!(next, SLOT_COUNT as i64);
    let Value::Array(shards) = three.ask("CLUSTER SHARDS") else { panic!("an array") };
    assert_eq!(shards.len(), 3);
    let shown = format!("{shards:?}");
    let times = |word: &[u8]| shown.matches(&format!("{:?}", Value::Bulk(word.into()))).count();
    assert_eq!((times(b"fail"), times(b"master"), times(b"replica")), (1, 3, 0));
}

#[test]
fn slots_are_asked_about_and_not_moved() {
    let three = Three::new();
    let mut effects = Effects::default();
    let mutation = Mutation::Assign { value: b"v", deadline_ms: 0 };
    three.store.lock(slot_of(b"foo"), 0, 1, &mut effects).write(b"foo", mutation);
    assert_eq!(three.ask("CLUSTER KEYSLOT foo"), Value::Int(12_182));
    assert_eq!(three.ask("CLUSTER COUNTKEYSINSLOT 12182"), Value::Int(1));
    three.store.set_replicated(true);
    three.store.lock(slot_of(b"{foo}"), 0, 1, &mut effects).write(b"{foo}", Mutation::Delete);
    assert_eq!(three.ask("CLUSTER COUNTKEYSINSLOT 12182"), Value::Int(1), "a tombstone is no key");
    assert_eq!(three.ask("CLUSTER GETKEYSINSLOT 12182 10"), Value::Array(vec![Value::Bulk(b"foo".into())]));
    assert_eq!(three.text("CLUSTER MYID"), three.ids[0].to_string());
    assert_eq!(three.ask(&format!("CLUSTER REPLICAS {}", three.ids[1])), Value::Array(Vec::new()));
    let refusals = [
        ("CLUSTER REPLICAS x", "ERR Unknown node x"),
        ("CLUSTER COUNTKEYSINSLOT 99999", "ERR Invalid slot"),
        ("CLUSTER COUNTKEYSINSLOT x", "ERR value is not an integer or out of range"),
        ("CLUSTER GETKEYSINSLOT 1 -1", "ERR Invalid slot or number of keys"),
        ("CLUSTER GETKEYSINSLOT 1 x", "ERR value is not an integer or out of range"),
        ("CLUSTER FOO", "ERR unknown subcommand 'FOO'. Try CLUSTER HELP."),
        ("CLUSTER MYSHARDID", "ERR unknown subcommand 'MYSHARDID'. Try CLUSTER HELP."),
        ("CLUSTER MEET", "ERR wrong number of arguments for 'cluster|meet' command"),
    ];
    for (line, text) in refusals {
        assert_eq!(three.text(line), text);
    }
    assert!(three.text("cluster meet 127.0.0.1 7000").starts_with("ERR CLUSTER MEET is not available: rondo places"));
}
