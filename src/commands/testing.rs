//! A node without a network for tests of commands: inline requests in, reply bytes out, time by hand.

use crate::base::ids::{ActorId, Slot};
use crate::commands::spec::{CommandLimits, Cx, Handler, slots_of};
use crate::commands::{subcommands, table};
use crate::protocol::client::{ReplyDecoder, Value, encode_command};
use crate::protocol::{Limits, Proto, Reply, Scan, Scanner};
use crate::store::{Effects, Event, Store};

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
    /// The limits that options set.
    pub limits: CommandLimits,
    /// Whether the last command has looked for a key.
    pub has_looked: bool,
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
        let store = Store::new(ActorId { node: 1, generation: 1 });
        Node {
            store,
            effects: Effects::default(),
            proto: Proto::Resp2,
            db: 0,
            limits: CommandLimits::default(),
            has_looked: false,
            now_ms: 1_700_000_000_000,
        }
    }

    /// Lets time pass.
    pub fn advance_ms(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// The time, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What happened to keys since it was last asked; that some were not there is left out.
    pub fn take_events(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.effects.events);
        events.retain(|event| event.class != b'm');
        events
    }

    /// Runs one request, written as an inline command, and gives its reply.
    pub fn run(&mut self, line: &str) -> String {
        let reply = self.run_request(format!("{line}\r\n").as_bytes());
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// Runs one request, given as its arguments, and gives its reply.
    pub fn run_args<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        let mut request = Vec::new();
        encode_command(&mut request, args);
        let reply = self.run_request(&request);
        let (value, len) = ReplyDecoder::default().decode(&reply).expect("well-formed").expect("complete");
        assert_eq!(len, reply.len(), "one reply");
        value
    }

    /// Runs one request as it comes from a client and gives its reply.
    fn run_request(&mut self, buf: &[u8]) -> Vec<u8> {
        let mut scanner = Scanner::new();
        let shown = buf.escape_ascii();
        let scan = scanner.scan(buf, &Limits::default()).expect("a valid request");
        assert!(matches!(scan, Scan::Request { .. }), "{shown}");
        let args = scanner.args(buf);
        let mut out = Vec::new();
        let (_, command) = table::find(args.name()).expect("a known command");
        let command = subcommands::running(command, args);
        let result = if command.accepts(args.len()) {
            let slots = slots_of(command, args);
            let slots = if slots.is_empty() { Slot::all().take(1).collect() } else { slots };
            let mut keys = self.store.lock_many(&slots, self.db, self.now_ms, &mut self.effects);
            let out = Reply::new(&mut out, self.proto);
            let mut cx = Cx { args, keys: &mut keys, out, limits: self.limits };
            cx.keys.only_write(command.only_writes());
            let result = match command.handler {
                Handler::Keys(run) | Handler::FanOut(run, _) => cx.run(run),
                Handler::Node(_) => panic!("{shown} needs a server"),
            };
            self.has_looked = keys.has_looked();
            result
        } else {
            Err(crate::commands::CommandError::Arity(command.name.into()))
        };
        if let Err(error) = result {
            out.clear();
            Reply::new(&mut out, self.proto).error(error.bytes());
        }
        out
    }
}
