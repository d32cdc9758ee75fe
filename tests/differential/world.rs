//! Both servers, as the sequence sees them: pairs of connections that must give the same replies.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::compare::agree;
use crate::generate::{Action, Step};
use crate::support::client::{Client, Failure, encode};
use crate::support::resp::Value;

/// How long a key with a lifetime of a few milliseconds is given to be gone.
const PAUSE: Duration = Duration::from_millis(15);
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Where one step went wrong.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Index into the batch.
    pub step: usize,
    pub ours: String,
    pub theirs: String,
    /// Allowed, but from here on the two servers no longer hold the same: start again.
    pub forgiven: bool,
}

impl Mismatch {
    fn new(step: usize, ours: String, theirs: String) -> Mismatch {
        Mismatch { step, ours, theirs, forgiven: false }
    }
}

/// A transaction that redis-server gave up and rondo ran: a watched key did not exist, was made and deleted again, and
/// so is as it was. redis-server counts touches, rondo compares versions; either keeps the promise of WATCH.
fn is_as_it_was(name: &[u8], ours: &Value, theirs: &Value) -> bool {
    name == b"EXEC" && theirs.is_null() && matches!(ours, Value::Array(_))
}

struct Pair {
    ours: Client,
    theirs: Client,
    /// The commands queued since MULTI.
    queued: Vec<Vec<Vec<u8>>>,
}

pub struct World {
    pairs: Vec<Pair>,
    /// Replies compared so far.
    pub compared: u64,
}

impl World {
    /// New connections, one pair for each of our ports, to two empty servers.
    pub fn new(our_ports: &[u16], their_port: u16) -> World {
        let connect = |port| Client::connect(port, REPLY_TIMEOUT).unwrap_or_else(|e| panic!("port {port}: {e}"));
        let pair = |port: &u16| Pair { ours: connect(*port), theirs: connect(their_port), queued: Vec::new() };
        let mut world = World { pairs: our_ports.iter().map(pair).collect(), compared: 0 };
        let first = &mut world.pairs[0];
        for client in [&mut first.ours, &mut first.theirs] {
            let reply = client.run("FLUSHALL");
            assert_eq!(reply, Value::Simple(b"OK".to_vec()), "FLUSHALL");
        }
        world
    }

    /// Runs a batch on both sides and compares every reply.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), Mismatch> {
        let mut from = 0;
        while from < steps.len() {
            let plain = steps[from..].iter().take_while(|step| matches!(step.action, Action::Command(_)));
            let connection = steps[from].connection;
            let count = plain.take_while(|step| step.connection == connection).count();
            if count > 0 {
                self.pipeline(&steps[from..from + count])
                    .map_err(|mismatch| Mismatch { step: mismatch.step + from, ..mismatch })?;
                from += count;
                continue;
            }
            match &steps[from].action {
                Action::Pause => std::thread::sleep(PAUSE),
                Action::ScanAll(args) => {
                    self.scan_all(connection, args).map_err(|(ours, theirs)| Mismatch::new(from, ours, theirs))?;
                }
                Action::Command(_) => {}
            }
            from += 1;
        }
        Ok(())
    }

    fn pipeline(&mut self, steps: &[Step]) -> Result<(), Mismatch> {
        let pair = &mut self.pairs[steps[0].connection];
        let mut request = Vec::new();
        steps.iter().for_each(|step| encode(&mut request, step.args()));
        let broken = |step, failure: Failure| Mismatch::new(step, format!("{failure:?}"), String::new());
        pair.theirs.send(&request).expect("redis-server takes a request");
        pair.ours.send(&request).map_err(|failure| broken(0, failure))?;
        for (at, step) in steps.iter().enumerate() {
            let theirs = pair.theirs.receive().expect("redis-server replies");
            let ours = pair.ours.receive().map_err(|failure| broken(at, failure))?;
            self.compared += 1;
            let name = step.args()[0].to_ascii_uppercase();
            if !agree(step.args(), &pair.queued, &ours, &theirs) {
                let forgiven = is_as_it_was(&name, &ours, &theirs);
                return Err(Mismatch { forgiven, ..Mismatch::new(at, format!("{ours:?}"), format!("{theirs:?}")) });
            }
            if theirs == Value::Simple(b"QUEUED".to_vec()) {
                pair.queued.push(step.args().to_vec());
            } else if matches!(name.as_slice(), b"EXEC" | b"DISCARD" | b"RESET" | b"MULTI") && !theirs.is_error()
                || theirs.text().is_some_and(|text| text.starts_with("EXECABORT"))
            {
                pair.queued.clear();
            }
        }
        Ok(())
    }

    fn scan_all(&mut self, connection: usize, args: &[Vec<u8>]) -> Result<(), (String, String)> {
        let pair = &mut self.pairs[connection];
        self.compared += 1;
        let (ours, theirs) = (whole_scan(&mut pair.ours, args), whole_scan(&mut pair.theirs, args));
        if ours == theirs { Ok(()) } else { Err((format!("{ours:?}"), format!("{theirs:?}"))) }
    }
}

/// What a scan finds until its cursor is 0 again, each once, or the error that ended it.
fn whole_scan(client: &mut Client, args: &[Vec<u8>]) -> Result<BTreeSet<Vec<Value>>, Value> {
    let name = args[0].to_ascii_uppercase();
    let cursor_at = if name == b"SCAN" { 1 } else { 2 };
    let width = if name == b"HSCAN" { 2 } else { 1 };
    let mut args = args.to_vec();
    let mut found = BTreeSet::new();
    for _ in 0..10_000 {
        let reply = match client.try_call(&args) {
            Ok(reply) => reply,
            Err(failure) => return Err(Value::Error(format!("{failure:?}").into_bytes())),
        };
        let Value::Array(parts) = &reply else { return Err(reply) };
        let [Value::Bulk(cursor), Value::Array(items)] = parts.as_slice() else { return Err(reply) };
        found.extend(items.chunks(width).map(<[Value]>::to_vec));
        if cursor == b"0" {
            return Ok(found);
        }
        args[cursor_at] = cursor.clone();
    }
    Err(Value::Error(b"the scan does not end".to_vec()))
}
