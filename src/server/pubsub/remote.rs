//! Another node as publish and subscribe knows it: what it is still to be told, and what its clients listen to.
//!
//! An [`Outbox`] holds what is not written yet. When it grows beyond [`OUTBOX_BYTES_MAX`] the connection is given up:
//! what it carried is lost, and the next one begins with a fresh account of what is listened to. That account is as
//! long as what this node keeps of names anyway, and does not count: however long it is, the connection that brings it
//! is to last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::config::EventClasses;
use crate::base::ids::NodeId;
use crate::peer::registry::Peer;
use crate::server::pubsub::interest::Interest;
use crate::server::pubsub::wire::Word;

/// Most bytes that may wait for a node, the account that a connection begins with apart.
pub(super) const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// Another node.
pub struct Remote {
    /// Who it is.
    pub id: NodeId,
    /// What it is still to be told.
    pub outbox: Outbox,
    /// What its clients listen to.
    pub interest: Mutex<Interest>,
    /// Its `notify-keyspace-events`.
    pub classes: Mutex<EventClasses>,
    peer: Mutex<Option<Arc<Peer>>>,
    has_task: AtomicBool,
}

impl Remote {
    pub(super) fn new(id: NodeId) -> Remote {
        Remote {
            id,
            outbox: Outbox::default(),
            interest: Mutex::default(),
            classes: Mutex::default(),
            peer: Mutex::default(),
            has_task: AtomicBool::new(false),
        }
    }

    /// Notes where it is; true when a task has to be started for it.
    pub(super) fn meet(&self, peer: Arc<Peer>) -> bool {
        let mut known = self.peer.lock();
        *known = Some(peer);
        !self.has_task.swap(true, Ordering::Relaxed)
    }

    /// Notes that its task ends if the node takes no part any more; false, with nothing noted, if it does.
    pub(super) fn part(&self) -> bool {
        let known = self.peer.lock();
        let is_gone = known.as_ref().is_none_or(|peer| peer.is_retired());
        if is_gone {
            self.has_task.store(false, Ordering::Relaxed);
        }
        is_gone
    }

    /// Where it is.
    pub(super) fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.lock().clone()
    }

    /// Whether it answers, as far as is known.
    pub fn is_reachable(&self) -> bool {
        self.peer.lock().as_ref().is_some_and(|peer| peer.is_usable())
    }
}

/// See the head of the file.
#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    writer: Notify,
}

#[derive(Default)]
struct State {
    buf: Vec<u8>,
    /// How many bytes of it are the account that the connection begins with.
    account: usize,
    is_open: bool,
    /// Counts connections.
    connection: u64,
    /// Words put since the connection opened, and how many of them the other node has dealt with.
    put: u64,
    heard: u64,
}

impl Outbox {
    /// Adds a word; false when it cannot be sent.
    pub fn put(&self, word: &Word<'_>) -> bool {
        let mut state = self.state.lock();
        if !state.is_open {
            return false;
        }
        if state.buf.len() - state.account > OUTBOX_BYTES_MAX {
            state.is_open = false;
        } else {
            word.put(&mut state.buf);
            state.put += 1;
        }
        self.writer.notify_one();
        state.is_open
    }

    /// Opens it for a new connection, with what `fill` tells first.
    pub(super) fn open(&self, fill: impl FnOnce(&mut dyn FnMut(&Word<'_>))) {
        let mut state = self.state.lock();
        let connection = state.connection + 1;
        *state = State { is_open: true, connection, ..State::default() };
        let State { buf, put, account, .. } = &mut *state;
        fill(&mut |word| {
            word.put(buf);
            *put += 1;
        });
        *account = buf.len();
    }

    /// Whether the other node has heard all that was put when this was first asked on this connection. `goal` belongs
    /// to the asker and starts as `None`.
    pub(super) fn has_reached(&self, goal: &mut Option<(u64, u64)>) -> bool {
        let state = self.state.lock();
        if !state.is_open {
            return false;
        }
        match goal {
            Some((connection, put)) if *connection == state.connection => state.heard >= *put,
            _ => {
                *goal = Some((state.connection, state.put));
                state.heard >= state.put
            }
        }
    }

    /// Resolves when there may be something to write.
    pub(super) async fn filled(&self) {
        self.writer.notified().await;
    }

    /// Everything that waits to be written.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        state.account = 0;
        std::mem::take(&mut state.buf)
    }

    /// Drops what waits; says how many words were put and not heard.
    pub(super) fn close(&self) -> u64 {
        let mut state = self.state.lock();
        state.is_open = false;
        (state.buf, state.account) = (Vec::new(), 0);
        state.put - state.heard
    }

    /// Whether words can be put.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().is_open
    }

    /// Notes how many words the other node has dealt with; false, with nothing noted, if it says that these are more
    /// than it was told, or fewer than it has said before.
    pub(super) fn note_heard(&self, count: u64) -> bool {
        let mut state = self.state.lock();
        let makes_sense = (state.heard..=state.put).contains(&count);
        if makes_sense {
            state.heard = count;
        }
        makes_sense
    }

    /// How many words the other node has dealt with, and whether that is all.
    pub(super) fn progress(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.heard, state.heard >= state.put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_known_when_all_that_was_put_before_is_heard() {
        let (outbox, mut goal) = (Outbox::default(), None);
        assert!(!outbox.has_reached(&mut goal) && !outbox.put(&Word::Alive));
        outbox.open(|tell| tell(&Word::Begin));
        assert!(outbox.put(&Word::Complete) && !outbox.has_reached(&mut goal));
        outbox.put(&Word::Alive);
        assert!(outbox.note_heard(2) && outbox.has_reached(&mut goal) && !outbox.has_reached(&mut None));
        assert_eq!(outbox.close(), 1);
        outbox.open(|tell| tell(&Word::Begin));
        assert!(!outbox.has_reached(&mut goal), "the new connection has an account of its own");
        assert!(outbox.note_heard(1) && outbox.has_reached(&mut goal));
    }

    #[test]
    fn a_node_that_has_heard_more_than_it_was_told_or_less_than_before_is_not_believed() {
        let outbox = Outbox::default();
        assert!(!outbox.note_heard(1));
        outbox.open(|tell| (0..3).for_each(|_| tell(&Word::Alive)));
        assert!(!outbox.note_heard(4) && !outbox.note_heard(u64::MAX));
        assert!(outbox.note_heard(2) && outbox.note_heard(2) && !outbox.note_heard(1));
        assert_eq!((outbox.progress(), outbox.close()), ((2, false), 1));
    }

    #[test]
    fn an_account_of_any_length_is_sent_and_leaves_room_for_what_comes_behind_it() {
        let (outbox, name) = (Outbox::default(), vec![0; OUTBOX_BYTES_MAX / 8]);
        let word = Word::Listen { kind: crate::commands::node_command::TopicKind::Channel, name: &name, count: 1 };
        outbox.open(|tell| (0..9).for_each(|_| tell(&word)));
        assert!((0..8).all(|_| outbox.put(&word)) && outbox.is_open());
        assert!(outbox.take().len() > 2 * OUTBOX_BYTES_MAX);
        assert!((0..8).all(|_| outbox.put(&word)) && !outbox.put(&word), "the account is on its way");
    }

    #[test]
    fn an_outbox_that_is_too_full_gives_the_connection_up() {
        let outbox = Outbox::default();
        outbox.open(|_| {});
        let payload = vec![0; OUTBOX_BYTES_MAX];
        let word =
            Word::Message { kind: crate::commands::node_command::TopicKind::Channel, channel: b"a", payload: &payload };
        assert!(outbox.put(&word) && !outbox.put(&Word::Alive) && !outbox.is_open());
    }
}
