//! Every command of the server has its place, and what is asked in one is seen in another.

use super::*;
use crate::base::config::{Config, Sources, load};
use crate::base::ids::ActorId;
use crate::commands::spec::Handler;
use crate::commands::table::{self, COMMANDS};
use crate::protocol::{Limits, Scanner};
use crate::server::state::clients::Registration;
use crate::server::state::snapshot::tests::snapshot_of;
use crate::store::Store;
use std::sync::Arc;

struct Connected {
    node: NodeState,
    session: Session,
    registration: Registration,
}

impl Connected {
    fn new(cluster_face: bool) -> Connected {
        let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let config = Config::new(load(&Sources::default(), &no_file).expect("defaults")).expect("defaults");
        let store = Arc::new(Store::new(ActorId { node: 1, generation: 1 }));
        let node = NodeState::new(Arc::new(config), store, snapshot_of(3, 1), "ab".repeat(20), 1_000);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let registration = node.clients.register(address, address, 1_000);
        Connected { node, session: Session::new(cluster_face, ""), registration }
    }

    /// The reply, or nothing when the command is left to the caller.
    fn ask(&mut self, line: &str) -> Option<String> {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        let args = scanner.args(buf.as_bytes());
        let (_, row) = table::find(args.name()).expect("a row");
        let Handler::Node(command) = row.handler else { panic!("{line} works on keys") };
        let (mut reply, proto) = (Vec::new(), self.session.proto);
        let client = &self.registration.client;
        let mut cx = Cx { args, node: &self.node, session: &mut self.session, client, now_us: 5_000_000 };
        match run(row, command, &mut cx, &mut Reply::new(&mut reply, proto)) {
            Ok(true) => assert!(!reply.is_empty() || command == NodeCommand::Shutdown, "{line}"),
            Ok(false) => {
                assert!(reply.is_empty(), "{line}");
                return None;
            }
            Err(error) => {
                assert!(reply.is_empty(), "{line}");
                Reply::new(&mut reply, proto).error(error.bytes());
            }
        }
        Some(String::from_utf8(reply).expect("text"))
    }
}

#[test]
fn whatever_stands_alone_is_answered_here() {
    let mut connected = Connected::new(false);
    let mut left = Vec::new();
    for row in COMMANDS.iter().filter(|row| matches!(row.handler, Handler::Node(_))) {
        let needed = usize::from(row.arity.unsigned_abs()).max(1) - 1;
        let line = format!("{} {}", row.name, "1 ".repeat(needed));
        if connected.ask(line.trim()).is_none() {
            left.push(row.name);
        }
    }
    left.sort_unstable();
    let of_the_caller = [
        "dbsize",
        "discard",
        "exec",
        "flushall",
        "flushdb",
        "keys",
        "monitor",
        "multi",
        "psubscribe",
        "punsubscribe",
        "randomkey",
        "rondo.consistency",
        "rondo.keys",
        "rondo.meta",
        "scan",
        "ssubscribe",
        "subscribe",
        "sunsubscribe",
        "unsubscribe",
        "unwatch",
        "wait",
        "watch",
    ];
    assert_eq!(left, of_the_caller);
}

#[test]
fn what_one_command_sets_another_shows() {
    let mut connected = Connected::new(false);
    connected.ask("HELLO 3 SETNAME app");
    connected.ask("SELECT 2");
    let shown = connected.ask("CLIENT INFO").expect("an answer");
    assert!(
        shown.starts_with("=")
            && shown.contains(" name=app ")
            && shown.contains(" db=2 ")
            && shown.contains(" resp=3 ")
    );
    connected.ask("CONFIG SET maxmemory 3mb");
    let info = connected.ask("INFO memory").expect("an answer");
    assert!(info.contains("maxmemory_human:3.00M\r\n"), "{info}");
    assert!(connected.ask("INFO ring").expect("an answer").contains("ring_members_alive:2\r\n"));
    assert!(connected.ask("DEBUG SLEEP 1").expect("an answer").starts_with("-ERR DEBUG command not allowed. rondo "));
    assert!(connected.ask("SAVE").expect("an answer").starts_with("-ERR SAVE is not supported"));
}

#[test]
fn the_faces_differ_where_redis_and_redis_cluster_do() {
    let refused = "-ERR This instance has cluster support disabled\r\n";
    assert_eq!(Connected::new(false).ask("CLUSTER INFO").as_deref(), Some(refused));
    let mut cluster = Connected::new(true);
    assert!(cluster.ask("CLUSTER INFO").expect("an answer").contains("cluster_state:ok\r\n"));
    assert!(cluster.ask("INFO cluster").expect("an answer").contains("cluster_enabled:1\r\n"));
    assert!(
        cluster.ask("SENTINEL GET-MASTER-ADDR-BY-NAME x").expect("an answer").starts_with("*2\r\n$9\r\n127.0.0.1\r\n")
    );
}

#[test]
fn keys_are_counted_by_database() {
    let mut connected = Connected::new(false);
    let mut effects = crate::store::Effects::default();
    for (key, db, deadline_ms) in [(b"a", 0, 0), (b"b", 0, 9_000), (b"c", 3, 0)] {
        let mutation = crate::store::mutation::Mutation::Assign { value: b"v", deadline_ms };
        let store = &connected.node.store;
        store.lock(crate::base::ids::slot_of(key), db, 5_000, &mut effects).write(key, mutation);
    }
    let info = connected.ask("INFO keyspace").expect("an answer");
    assert!(
        info.contains("# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n"),
        "{info}"
    );
}

#[test]
fn an_unknown_command_is_told_in_the_words_of_redis_and_one_that_redis_has_with_the_reason() {
    let told = |line: &str| {
        let buf = format!("{line}\r\n");
        let mut scanner = Scanner::new();
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        unknown_command(scanner.args(buf.as_bytes())).to_string()
    };
    assert_eq!(told("nosuch a b"), "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' ");
    assert_eq!(told("LPush k v"), "ERR unknown command 'LPush': rondo has no lists yet");
    assert_eq!(told("EVALSHA abc 0"), "ERR unknown command 'EVALSHA': rondo runs no scripts yet");
}
