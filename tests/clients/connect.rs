//! What the clients that cannot be installed everywhere send when they connect, byte for byte.
//!
//! jedis, lettuce, go-redis and StackExchange.Redis are not run here; the commands below are those that their sources
//! send (jedis 8, lettuce 7, go-redis 9, StackExchange.Redis 3), and the checks are those that their sources make on
//! the replies. Each sequence is sent in one write, then once more a byte at a time: both must be answered the same.

use std::time::Duration;

use crate::support::client::{Client, encode};
use crate::support::cluster::Cluster;
use crate::support::resp::Value;

/// What a client checks in a reply.
enum Must {
    /// `+OK`.
    BeOk,
    /// Whatever it is: the client ignores errors here, but a reply there must be.
    BeThere,
    BeNull,
    BeInt,
    BeEcho(&'static str),
    /// A HELLO map with this protocol, and the fields that a client reads.
    BeHello(i64),
    /// A pair with this name.
    BeConfig(&'static str),
    /// An INFO text with these fields.
    HaveFields(&'static [&'static str]),
    /// A CLUSTER SLOTS reply that covers every slot once, in order.
    CoverSlots,
    /// A CLUSTER NODES text with one line for each of three nodes, one of them `myself`.
    ListNodes,
    /// The COMMAND table.
    ListCommands,
}

use Must::*;

type Sequence = &'static [(&'static str, Must)];

const JEDIS: Sequence = &[
    ("HELLO 3", BeHello(3)),
    ("CLIENT SETNAME jedis-app", BeOk),
    ("CLIENT SETINFO LIB-NAME jedis", BeOk),
    ("CLIENT SETINFO LIB-VER 8.0.0", BeOk),
    ("SELECT 0", BeOk),
    ("PING", BeThere),
    ("ECHO jedis-last", BeEcho("jedis-last")),
];

const JEDIS_CLUSTER: Sequence = &[
    ("HELLO 3", BeHello(3)),
    ("CLIENT SETINFO LIB-NAME jedis", BeOk),
    ("CLIENT SETINFO LIB-VER 8.0.0", BeOk),
    ("READONLY", BeOk),
    ("CLUSTER SLOTS", CoverSlots),
    ("ECHO jedis-last", BeEcho("jedis-last")),
];

const LETTUCE_CLUSTER: Sequence = &[
    ("HELLO 3", BeHello(3)),
    ("CLIENT SETINFO lib-name Lettuce", BeOk),
    ("CLIENT SETINFO lib-ver 7.8.0", BeOk),
    ("CLIENT MAINT_NOTIFICATIONS ON", BeThere),
    ("CLUSTER NODES", ListNodes),
    ("INFO", HaveFields(&["connected_clients", "master_repl_offset"])),
    ("CLUSTER MYID", BeThere),
    ("READONLY", BeOk),
    ("ECHO lettuce-last", BeEcho("lettuce-last")),
];

const LETTUCE: Sequence = &[
    ("HELLO 3", BeHello(3)),
    ("CLIENT SETNAME lettuce-app", BeOk),
    ("CLIENT SETINFO lib-name Lettuce", BeOk),
    ("CLIENT SETINFO lib-ver 7.8.0", BeOk),
    ("SELECT 5", BeOk),
    ("ECHO lettuce-last", BeEcho("lettuce-last")),
];

const GO_REDIS: Sequence = &[
    ("HELLO 3", BeHello(3)),
    ("SELECT 1", BeOk),
    ("CLIENT SETNAME go-app", BeOk),
    ("CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip", BeThere),
    ("CLIENT SETINFO LIB-NAME go-redis(,go1.22)", BeOk),
    ("CLIENT SETINFO LIB-VER 9.22.0", BeOk),
    ("PING", BeThere),
    ("ECHO go-last", BeEcho("go-last")),
];

const GO_REDIS_CLUSTER: Sequence = &[
    ("HELLO 3", BeHello(3)),
    ("CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip", BeThere),
    ("CLIENT SETINFO LIB-NAME go-redis(,go1.22)", BeOk),
    ("CLIENT SETINFO LIB-VER 9.22.0", BeOk),
    ("CLUSTER SLOTS", CoverSlots),
    ("COMMAND", ListCommands),
    ("ECHO go-last", BeEcho("go-last")),
];

const STACK_EXCHANGE: Sequence = &[
    ("CLIENT SETNAME se-app", BeOk),
    ("CLIENT SETINFO lib-name SE.Redis", BeOk),
    ("CLIENT SETINFO lib-ver 3.1.0", BeOk),
    ("CLIENT ID", BeInt),
    ("CONFIG GET timeout", BeConfig("timeout")),
    ("CONFIG GET replica-read-only", BeConfig("replica-read-only")),
    ("CONFIG GET databases", BeConfig("databases")),
    ("SENTINEL MASTERS", BeThere),
    ("INFO replication", HaveFields(&["role", "connected_slaves", "master_repl_offset"])),
    ("INFO server", HaveFields(&["redis_version", "redis_mode", "run_id"])),
    ("CLUSTER NODES", BeThere),
    ("GET __Booksleeve_TieBreak", BeNull),
    ("ECHO tracer-6f1e", BeEcho("tracer-6f1e")),
];

/// The same client with RESP3.
const STACK_EXCHANGE_3: Sequence = &[
    ("HELLO 3", BeHello(3)),
    ("CLIENT SETINFO lib-name SE.Redis", BeOk),
    ("CLIENT ID", BeInt),
    ("CONFIG GET databases", BeConfig("databases")),
    ("INFO server", HaveFields(&["redis_version", "redis_mode", "run_id"])),
    ("GET __Booksleeve_TieBreak", BeNull),
    ("ECHO tracer-6f1e", BeEcho("tracer-6f1e")),
];

fn complaint(must: &Must, reply: &Value) -> Option<String> {
    let text = reply.text().unwrap_or_default();
    let good = match must {
        BeOk => *reply == Value::Simple(b"OK".to_vec()),
        BeThere => true,
        BeNull => reply.is_null(),
        BeInt => matches!(reply, Value::Int(_)),
        BeEcho(word) => *reply == Value::Bulk(word.as_bytes().to_vec()),
        BeHello(proto) => is_hello(reply, *proto),
        BeConfig(name) => match reply {
            Value::Map(pairs) => pairs.len() == 1 && pairs[0].0.text().as_deref() == Some(name),
            Value::Array(items) => items.len() == 2 && items[0].text().as_deref() == Some(name),
            _ => false,
        },
        HaveFields(fields) => fields.iter().all(|field| text.contains(&format!("\r\n{field}:"))),
        CoverSlots => covers_slots(reply).unwrap_or(false),
        ListNodes => {
            let lines: Vec<&str> = text.lines().collect();
            let whole = lines.iter().all(|line| line.split(' ').count() >= 8 && line.contains("connected"));
            lines.len() == 3 && whole && lines.iter().filter(|line| line.contains("myself")).count() == 1
        }
        ListCommands => reply.items().is_some_and(|rows| {
            rows.len() > 50 && rows.iter().all(|row| row.items().is_some_and(|columns| columns.len() >= 6))
        }),
    };
    (!good).then(|| format!("{reply:?}").chars().take(400).collect())
}

fn is_hello(reply: &Value, proto: i64) -> bool {
    let Value::Map(pairs) = reply else { return false };
    let field = |name: &str| pairs.iter().find(|(key, _)| key.text().as_deref() == Some(name)).map(|(_, value)| value);
    let texts = ["server", "version", "mode", "role"].iter().all(|name| matches!(field(name), Some(Value::Bulk(_))));
    let numbers = field("proto") == Some(&Value::Int(proto)) && matches!(field("id"), Some(Value::Int(_)));
    texts && numbers && matches!(field("modules"), Some(Value::Array(_)))
}

fn covers_slots(reply: &Value) -> Option<bool> {
    let mut ranges = Vec::new();
    for entry in reply.items()? {
        let [Value::Int(from), Value::Int(to), nodes @ ..] = entry.items()? else { return None };
        for node in nodes {
            let [Value::Bulk(_), Value::Int(_), Value::Bulk(id), ..] = node.items()? else { return None };
            if id.len() != 40 {
                return None;
            }
        }
        if nodes.is_empty() {
            return None;
        }
        ranges.push((*from, *to));
    }
    ranges.sort_unstable();
    let mut next = 0;
    for (from, to) in ranges {
        if from != next || to < from {
            return Some(false);
        }
        next = to + 1;
    }
    Some(next == 16_384)
}

fn play(name: &str, port: u16, sequence: Sequence, one_byte_at_a_time: bool) -> Vec<String> {
    let mut client = Client::connect(port, Duration::from_secs(10)).expect("a connection");
    let mut request = Vec::new();
    sequence.iter().for_each(|(line, _)| encode(&mut request, &line.split(' ').collect::<Vec<_>>()));
    let step = if one_byte_at_a_time { 1 } else { request.len() };
    request.chunks(step).for_each(|chunk| client.send(chunk).expect("a request is taken"));
    let mut complaints = Vec::new();
    for (line, must) in sequence {
        let reply = client.receive().unwrap_or_else(|failure| panic!("{name}: {line}: {failure:?}"));
        complaints.extend(complaint(must, &reply).map(|reply| format!("{name}: {line}: {reply}")));
    }
    complaints
}

#[test]
fn clients_that_are_not_run_here_connect() {
    let cluster = Cluster::start(3, &[]);
    let (plain, smart) = (cluster.nodes[0].port, cluster.nodes[0].cluster_port);
    let sequences: &[(&str, u16, Sequence)] = &[
        ("jedis", plain, JEDIS),
        ("jedis in a cluster", smart, JEDIS_CLUSTER),
        ("lettuce", plain, LETTUCE),
        ("lettuce in a cluster", smart, LETTUCE_CLUSTER),
        ("go-redis", plain, GO_REDIS),
        ("go-redis in a cluster", smart, GO_REDIS_CLUSTER),
        ("StackExchange.Redis", plain, STACK_EXCHANGE),
        ("StackExchange.Redis with RESP3", plain, STACK_EXCHANGE_3),
    ];
    let mut complaints = Vec::new();
    for (name, port, sequence) in sequences {
        for one_byte_at_a_time in [false, true] {
            complaints.extend(play(name, *port, sequence, one_byte_at_a_time));
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// The checks can say no.
#[test]
fn a_bad_reply_is_noticed() {
    let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    assert!(complaint(&BeOk, &Value::Error(b"ERR no".to_vec())).is_some());
    assert!(complaint(&BeHello(3), &Value::Map(vec![(bulk("proto"), Value::Int(3))])).is_some());
    assert!(complaint(&HaveFields(&["role"]), &bulk("# Replication\r\nrole:master\r\n")).is_none());
    assert!(complaint(&HaveFields(&["role"]), &bulk("# Replication\r\nrule:master\r\n")).is_some());
    let node = Value::Array(vec![bulk("127.0.0.1"), Value::Int(1), bulk(&"a".repeat(40)), Value::Array(vec![])]);
    let range = |from, to| Value::Array(vec![Value::Int(from), Value::Int(to), node.clone()]);
    assert!(complaint(&CoverSlots, &Value::Array(vec![range(0, 99), range(100, 16_383)])).is_none());
    assert!(complaint(&CoverSlots, &Value::Array(vec![range(0, 99), range(101, 16_383)])).is_some());
    assert!(complaint(&CoverSlots, &Value::Array(vec![range(0, 100), range(100, 16_383)])).is_some());
}
