//! MULTI, WATCH and their family: what a connection has queued and what it watches.
//!
//! Requests between MULTI and EXEC are kept as they came, and run by `exec`. WATCH remembers the version of each key, as
//! their coordinator, here or elsewhere, sees it; EXEC runs there and compares versions under the locks. Keys of several
//! coordinators cannot be watched together, and that is refused; when the coordinator changes between WATCH and EXEC, the
//! transaction is as if a key had changed.

use crate::base::clock::Hlc;
use crate::base::ids::slot_of;
use crate::base::wire::Reader;
use crate::commands::CommandError;
use crate::commands::spec::{Command, Handler, NodeCommand, flag};
use crate::protocol::{Args, Reply};
use crate::server::dispatch::{Run, Step};
use crate::server::forward::{Fate, ask};
use crate::server::held::Held;
use crate::server::job::{Job, garbled};
use crate::server::watched::{TOO_MANY_WATCHED, WatchList, Watched};

/// Most bytes that may be queued, so that no client fills memory without running anything.
const QUEUE_BYTES_MAX: usize = 1 << 30;

const QUEUE_FULL: &str = "ERR the queued commands of a transaction may take no more than 1 GB";

/// What a client reads when memory is full and nothing may be evicted.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

const SEVERAL_COORDINATORS: &str =
    "ERR WATCH needs all watched keys to have the same coordinator: give them one hash tag";

/// A connection's transaction.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    is_open: bool,
    is_spoiled: bool,
    /// The flags of all queued commands.
    flags: u32,
    queued: Vec<u8>,
    count: usize,
    /// Watched keys.
    pub watched: WatchList,
}

impl Transaction {
    /// True when a command is to be queued and not run.
    #[inline]
    pub fn queues(&self, command: &Command) -> bool {
        use NodeCommand::{Discard, Exec, Multi, Quit, Reset, Watch};
        self.is_open && !matches!(command.handler, Handler::Node(Multi | Exec | Discard | Watch | Quit | Reset))
    }

    /// Keeps a request for EXEC. One that does not fit spoils the transaction.
    pub fn queue(&mut self, command: &Command, request: &[u8]) -> Result<(), CommandError> {
        self.flags |= command.flags;
        if self.queued.len() + request.len() > QUEUE_BYTES_MAX {
            self.is_spoiled = true;
            return Err(CommandError::text(QUEUE_FULL));
        }
        self.queued.extend_from_slice(request);
        self.count += 1;
        Ok(())
    }

    /// Whether `command` may write if it runs now: EXEC when something queued may.
    pub fn may_write(&self, command: &Command) -> bool {
        let flags = match command.handler {
            Handler::Node(NodeCommand::Exec) => self.flags,
            _ => command.flags,
        };
        flags & (flag::WRITE | flag::MAY_REPLICATE) != 0
    }

    /// Requests queued.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True between MULTI and EXEC.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Notes that a request was refused before it could be queued: EXEC will refuse everything.
    #[inline]
    pub fn spoil(&mut self) {
        self.is_spoiled |= self.is_open;
    }

    /// Forgets everything: DISCARD, RESET, the end of EXEC.
    pub fn reset(&mut self) {
        *self = Transaction::default();
    }

    /// The queued requests, one behind the other.
    pub fn requests(&self) -> &[u8] {
        &self.queued
    }
}

impl Job {
    /// WATCH of keys that another node coordinates, all of them the same one.
    pub(super) async fn watch(
        &mut self,
        args: Args<'_>,
        request: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let worker = self.worker.clone();
        let view = worker.shared.view.load_full();
        let at = |key| view.roles.of(slot_of(key)).and_then(|group| group.coordinator);
        let first = args.get(1).and_then(at);
        let down = CommandError::text("TRYAGAIN the coordinator of the watched keys does not answer");
        let peer = first.and_then(|at| view.peers.get(usize::from(at))).and_then(Option::as_ref);
        if args.iter().skip(1).any(|key| at(key) != first) {
            return Err(CommandError::text(SEVERAL_COORDINATORS));
        }
        let peer = peer.ok_or(down.clone())?;
        if self.talk.session.cluster_face {
            let slot = args.get(1).map_or(0, |key| slot_of(key).number());
            let addr = worker.cluster_addr(&peer.id).unwrap_or_default();
            return Err(CommandError::Text(format!("MOVED {slot} {addr}").into()));
        }
        if !self.talk.transaction.watched.is_at(Some(peer.id)) {
            return Err(CommandError::text(SEVERAL_COORDINATORS));
        }
        if !self.talk.transaction.watched.has_room_for(args.iter().skip(1)) {
            return Err(CommandError::text(TOO_MANY_WATCHED));
        }
        let db = self.talk.session.db;
        let call = worker.ask(peer, self.manner(ask::HELD), request);
        let Fate::Replied(answer) = call.answer().await else { return Err(down) };
        let mut reader = Reader::new(&answer);
        let since = Hlc(reader.u64().map_err(|_| garbled())?);
        for key in args.iter().skip(1) {
            let held = Held::read(&mut reader, &worker.shared.node.store.actors).map_err(|_| garbled())?;
            let (seen, was_live) = (held.dot(), held.is_live);
            self.talk.transaction.watched.add(Watched {
                db,
                key: key.to_vec(),
                seen,
                was_live,
                since,
                absence: None,
                at: Some(peer.id),
            });
        }
        Reply::new(out, self.talk.session.proto).ok();
        Ok(())
    }
}

impl Run<'_> {
    /// Runs the commands of this file that need not wait; `None` for other commands.
    pub fn transaction_command(&mut self, node: NodeCommand, args: Args<'_>) -> Option<Step> {
        match node {
            NodeCommand::Multi if self.transaction.is_open => self.fail("ERR MULTI calls can not be nested"),
            NodeCommand::Multi => {
                self.transaction.is_open = true;
                self.client.queued.store(0, std::sync::atomic::Ordering::Relaxed);
                self.client.set_state(crate::server::clients::state::MULTI, true);
                self.reply().ok();
            }
            NodeCommand::Discard if !self.transaction.is_open => self.fail("ERR DISCARD without MULTI"),
            NodeCommand::Discard => {
                self.end_transaction();
                self.reply().ok();
            }
            NodeCommand::Unwatch => {
                self.transaction.watched.clear();
                self.reply().ok();
            }
            NodeCommand::Watch if self.transaction.is_open => self.fail("ERR WATCH inside MULTI is not allowed"),
            NodeCommand::Watch => return Some(self.watch(args)),
            NodeCommand::Exec if !self.transaction.is_open => self.fail("ERR EXEC without MULTI"),
            NodeCommand::Exec if self.transaction.flags & flag::DENYOOM != 0 && self.has_no_room() => {
                self.end_transaction();
                self.fail(&format!("EXECABORT Transaction discarded because of: {OUT_OF_MEMORY}"));
            }
            NodeCommand::Exec if self.transaction.is_spoiled => {
                self.end_transaction();
                self.fail("EXECABORT Transaction discarded because of previous errors.");
            }
            _ => return None,
        }
        Some(Step::Done)
    }

    /// Leaves the transaction.
    pub fn end_transaction(&mut self) {
        self.transaction.reset();
        self.client.queued.store(-1, std::sync::atomic::Ordering::Relaxed);
        self.client.set_state(crate::server::clients::state::MULTI, false);
    }

    fn watch(&mut self, args: Args<'_>) -> Step {
        if !args.iter().skip(1).all(|key| self.view.is_coordinator(slot_of(key))) {
            return Step::Wait;
        }
        if !self.transaction.watched.is_at(None) {
            self.fail(SEVERAL_COORDINATORS);
            return Step::Done;
        }
        if !self.transaction.watched.has_room_for(args.iter().skip(1)) {
            self.fail(TOO_MANY_WATCHED);
            return Step::Done;
        }
        let (node, now_ms) = (&self.worker.shared.node, self.now_us / 1_000);
        let (since, mut effects) = (node.store.clock.tick(now_ms), crate::store::Effects::default());
        for key in args.iter().skip(1) {
            let keys = node.store.lock(slot_of(key), self.session.db, now_ms, &mut effects);
            let (seen, was_live) = keys.seen(key);
            let absence = if was_live { None } else { node.store.watch_absence(self.session.db, key) };
            drop(keys);
            let (db, key) = (self.session.db, key.to_vec());
            self.transaction.watched.add(Watched { db, key, seen, was_live, since, absence, at: None });
        }
        self.reply().ok();
        Step::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table;

    #[test]
    fn what_does_not_fit_is_refused_and_spoils_the_transaction() {
        let (_, command) = table::find(b"get").expect("a command");
        let mut transaction = Transaction { is_open: true, ..Transaction::default() };
        assert!(transaction.queue(command, b"GET a\r\n").is_ok());
        assert_eq!((transaction.len(), transaction.is_spoiled), (1, false));
        // Its zeros are neither written nor read, so that they take no memory.
        assert!(transaction.queue(command, &vec![0; QUEUE_BYTES_MAX]).is_err());
        assert_eq!((transaction.len(), transaction.is_spoiled), (1, true));
    }
}
