//! A node without a network for tests of commands: inline requests in, reply bytes out, time by hand.

use crate::base::ids::{ActorId, Slot};
use crate::commands::spec::{CommandLimits, Cx, Handler, slots_of};
use crate::commands::table;
use crate::protocol::{Limits, Proto, Reply, Scan, Scanner};
use crate::store::{Effects, Store};

/// One store and a clock that stands still.
pub struct Node {
    /// The data.
    pub store: Store,
    /// What commands did.
    pub effects: Effects,
    /// The reply's protocol.
    pub proto: Proto,
    /// The selected database.
    pub db: u8,
    now_ms: u64,
}

impl Default for Node {
    fn default() -> Node {
        Node::new()
    }
}

impl Node {
    /// An empty node at a fixed time.
    pub fn new() -> Node {
        let store = Store::new(ActorId { node: 1, boot: 1 });
        Node { store, effects: Effects::default(), proto: Proto::Resp2, db: 0, now_ms: 1_700_000_000_000 }
    }

    /// Lets time pass.
    pub fn advance_ms(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Runs one request, written as an inline command, and gives its reply.
    pub fn run(&mut self, line: &str) -> String {
        let mut scanner = Scanner::new();
        let buf = format!("{line}\r\n").into_bytes();
        let scan = scanner.scan(&buf, &Limits::default()).expect("a valid line");
        assert!(matches!(scan, Scan::Request { .. }), "{line}");
        let args = scanner.args(&buf);
        let mut out = Vec::new();
        let (_, command) = table::find(args.name()).expect("a known command");
        let result = if command.accepts(args.len()) {
            let slots = slots_of(command, args);
            let slots = if slots.is_empty() { Slot::all().take(1).collect() } else { slots };
            let mut keys = self.store.lock_many(&slots, self.db, self.now_ms, &mut self.effects);
            let out = Reply::new(&mut out, self.proto);
            let mut cx = Cx { args, keys: &mut keys, out, limits: CommandLimits::default() };
            match command.handler {
                Handler::Keys(run) | Handler::FanOut(run, _) => run(&mut cx),
                Handler::Node(_) => panic!("{line} needs a server"),
            }
        } else {
            Err(crate::commands::CommandError::Arity(command.name.into()))
        };
        if let Err(error) = result {
            out.clear();
            Reply::new(&mut out, self.proto).error(error.to_string());
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}
