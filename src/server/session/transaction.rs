//! MULTI, WATCH and their family: what a connection has queued and what it watches.
//!
//! Requests between MULTI and EXEC are kept as they came, and run by `exec`. WATCH remembers the version of each key,
//! as their coordinator, here or elsewhere, sees it; EXEC runs there and compares versions under the locks. Keys of
//! several coordinators cannot be watched together, and that is refused; when the coordinator changes between WATCH and
//! EXEC, the transaction is as if a key had changed.

use smallvec::SmallVec;

use crate::base::ids::Slot;
use crate::commands::CommandError;
use crate::commands::spec::{Command, Handler, NodeCommand, flag};
use crate::server::session::watched::WatchList;

/// Most bytes that may be queued, so that no client fills memory without running anything.
const QUEUE_BYTES_MAX: usize = 1 << 30;

const QUEUE_FULL: &str = "ERR the queued commands of a transaction may take no more than 1 GB";

/// A connection's transaction.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    is_open: bool,
    is_spoiled: bool,
    /// The flags of all queued commands.
    flags: u32,
    queued: Vec<u8>,
    count: usize,
    /// On the cluster face: the slot of the first of them that has one, and another that a later one has.
    slots: SmallVec<[Slot; 2]>,
    /// Watched keys.
    pub watched: WatchList,
}

impl Transaction {
    /// True when a command is to be queued and not run.
    #[inline]
    pub fn queues(&self, command: &Command) -> bool {
        self.is_open && !matches!(command.handler, Handler::Node(node) if node.is_never_queued())
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

    /// Notes the slot of a request that is queued; of several different ones two are remembered.
    pub fn note_slot(&mut self, slot: Option<Slot>) {
        if self.slots.len() < 2 {
            self.slots.extend(slot.filter(|slot| !self.slots.contains(slot)));
        }
    }

    /// The slots that were noted, each once, two at most.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
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

    /// MULTI: requests are queued from now on.
    pub fn open(&mut self) {
        self.is_open = true;
    }

    /// True when a request was refused before it could be queued, so that EXEC refuses everything.
    pub fn is_spoiled(&self) -> bool {
        self.is_spoiled
    }

    /// Whether something queued is refused when memory is full.
    pub fn needs_room(&self) -> bool {
        self.flags & flag::DENYOOM != 0
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
