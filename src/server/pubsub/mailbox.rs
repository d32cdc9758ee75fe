//! What waits for one connection that listens: messages, in the form in which they are sent.
//!
//! Any thread puts messages in; the connection takes them out between two replies. Most connections never listen:
//! theirs is empty and inactive, and looking at it costs one load.
//!
//! A reader that is too slow is cut: when what waits exceeds the hard limit of `client-output-buffer-limit pubsub`, or
//! the soft one for longer than it allows, everything is dropped and the connection is told to close. As in Redis it is
//! all that waits for the client that counts, so the connection says here how much it has taken out, or has as replies,
//! and could not send yet.
//!
//! What it listens to is bounded by [`SUBSCRIBED_BYTES_MAX`], which callers ask about before they add: names are a
//! client's own bytes, and all nodes keep them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::base::config::BufferLimit;
use crate::commands::node_command::TopicKind;
use crate::protocol::Proto;
use crate::server::pubsub::excess::Excess;
use crate::server::pubsub::remote::OUTBOX_BYTES_MAX;
use crate::server::pubsub::topic::ByKind;

/// Most bytes that what a connection listens to may take, in the whole cluster. Redis has no such limit.
const SUBSCRIBED_BYTES_MAX: usize = 256 << 20;
/// How often a name is kept, about: twice here, at each other node, and on its way there. So those that one request may
/// add are few beside what may wait for a node (`remote`).
const NAME_COPIES: usize = 8;
/// What a name takes beside its bytes, about: its places in the tables of this node and of others.
const NAME_EXTRA_BYTES: usize = 512;

const _: () = assert!(SUBSCRIBED_BYTES_MAX / NAME_COPIES <= OUTBOX_BYTES_MAX / 2);

/// What a client reads that listens to more.
pub const TOO_MANY_SUBSCRIBED: &str = "ERR the subscriptions of a connection may take no more than 256 MB";

/// See the head of the file.
#[derive(Debug)]
pub struct Mailbox {
    /// The number of its connection.
    pub id: u64,
    is_active: AtomicBool,
    is_resp3: AtomicBool,
    /// Bytes that the connection could not send yet.
    unsent: AtomicUsize,
    excess: Mutex<Excess>,
    state: Mutex<Option<Box<State>>>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// How many of them are set aside.
    aside: usize,
    is_cut: bool,
    waker: Option<Waker>,
    names: ByKind<BTreeSet<Box<[u8]>>>,
    /// What they take.
    names_bytes: usize,
}

/// What came out of a connection's mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Nothing; it will be woken.
    Nothing,
    /// Messages, now in its output.
    Mail,
    /// It was too slow, and has to close.
    Cut,
}

impl Mailbox {
    /// The empty mailbox of a connection.
    pub fn new(id: u64) -> Mailbox {
        Mailbox {
            id,
            is_active: AtomicBool::new(false),
            is_resp3: AtomicBool::new(false),
            unsent: AtomicUsize::new(0),
            excess: Mutex::default(),
            state: Mutex::new(None),
        }
    }

    /// Whether the connection has ever listened to anything.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Notes which protocol messages are to be written in from now on.
    pub fn speak(&self, proto: Proto) {
        self.is_resp3.store(proto == Proto::Resp3, Ordering::Relaxed);
    }

    /// The protocol that messages are to be written in.
    pub fn proto(&self) -> Proto {
        if self.is_resp3.load(Ordering::Relaxed) { Proto::Resp3 } else { Proto::Resp2 }
    }

    /// Puts a message in.
    pub fn put(&self, message: &[u8], limit: BufferLimit, now_ms: u64) {
        let mut state = self.state.lock();
        let state = state.get_or_insert_default();
        if state.is_cut {
            return;
        }
        let before = self.unsent_bytes() + state.bytes.len();
        state.bytes.extend_from_slice(message);
        if self.is_too_much(before, before + message.len(), limit, now_ms) {
            state.is_cut = true;
            state.bytes = Vec::new();
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Moves what waits to the end of `output`; `waker` is told of what comes later.
    pub fn take(&self, output: &mut Vec<u8>, waker: Option<&Waker>) -> Delivery {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return Delivery::Nothing };
        state.waker = waker.cloned();
        if state.is_cut {
            return Delivery::Cut;
        }
        if state.bytes.is_empty() {
            return Delivery::Nothing;
        }
        output.extend_from_slice(&state.bytes);
        state.aside = 0;
        state.bytes.clear();
        state.bytes.shrink_to(1 << 16);
        Delivery::Mail
    }

    /// Sets what waits aside: it is to come before the reply to what is being run.
    pub fn set_aside(&self) {
        if let Some(state) = self.state.lock().as_mut() {
            state.aside = state.bytes.len();
        }
    }

    /// Takes what was set aside.
    pub fn take_aside(&self) -> Vec<u8> {
        if !self.is_active() {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return Vec::new() };
        let aside = std::mem::take(&mut state.aside).min(state.bytes.len());
        state.bytes.drain(..aside).collect()
    }

    /// What a connection does between two replies: takes what waits if it may, and has `waker` told of what comes
    /// later.
    #[inline]
    pub fn collect(&self, output: &mut Vec<u8>, may_take: bool, waker: &Waker) -> Delivery {
        match (self.is_active(), may_take) {
            (false, _) => Delivery::Nothing,
            (true, true) => self.take(output, Some(waker)),
            (true, false) => self.watch(waker),
        }
    }

    /// Has `waker` told of what comes later, and takes nothing.
    fn watch(&self, waker: &Waker) -> Delivery {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return Delivery::Nothing };
        state.waker = Some(waker.clone());
        if state.is_cut { Delivery::Cut } else { Delivery::Nothing }
    }

    /// Bytes that wait for the client, here and at its connection.
    pub fn len_bytes(&self) -> usize {
        self.unsent_bytes() + self.bytes_here()
    }

    fn bytes_here(&self) -> usize {
        if !self.is_active() {
            return 0;
        }
        self.state.lock().as_ref().map_or(0, |state| state.bytes.len())
    }

    /// Bytes that wait at the connection.
    #[inline]
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Notes that so many bytes wait at the connection; true when all that waits is more than `limit` allows.
    pub fn keep_unsent(&self, bytes: usize, limit: BufferLimit, now_ms: u64) -> bool {
        let (here, before) = (self.bytes_here(), self.unsent.swap(bytes, Ordering::Relaxed));
        self.is_too_much(before + here, bytes + here, limit, now_ms)
    }

    /// Notes that nothing waits at the connection.
    #[inline]
    pub fn all_sent(&self) {
        self.unsent.store(0, Ordering::Relaxed);
    }

    /// Whether what waits has become, or has stayed, more than `limit` allows.
    pub fn has_too_much(&self, limit: BufferLimit, now_ms: u64) -> bool {
        let bytes = self.len_bytes();
        self.is_too_much(bytes, bytes, limit, now_ms)
    }

    fn is_too_much(&self, before: usize, after: usize, limit: BufferLimit, now_ms: u64) -> bool {
        let mut excess = self.excess.lock();
        if before == 0 {
            excess.end();
        }
        excess.is_too_much(after, limit, now_ms)
    }

    /// Notes a name that the connection listens to; false when it did already.
    pub(super) fn add(&self, kind: TopicKind, name: &[u8]) -> bool {
        self.activate();
        let mut state = self.state.lock();
        let state = state.get_or_insert_default();
        let is_new = state.names.of_mut(kind).insert(name.into());
        state.names_bytes += if is_new { bytes_of(name) } else { 0 };
        is_new
    }

    /// Forgets a name; false when the connection did not listen to it.
    pub(super) fn remove(&self, kind: TopicKind, name: &[u8]) -> bool {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return false };
        let was_there = state.names.of_mut(kind).remove(name);
        state.names_bytes -= if was_there { bytes_of(name) } else { 0 };
        was_there
    }

    /// Whether the connection may listen to these names as well, taken for new ones.
    pub fn has_room_for<'n>(&self, mut names: impl Iterator<Item = &'n [u8]>) -> bool {
        let taken = self.state.lock().as_ref().map_or(0, |state| state.names_bytes);
        let left = SUBSCRIBED_BYTES_MAX.checked_sub(taken);
        left.and_then(|left| names.try_fold(left, |left, name| left.checked_sub(bytes_of(name)))).is_some()
    }

    /// Makes the connection look into its mailbox from now on.
    pub fn activate(&self) {
        self.is_active.store(true, Ordering::Relaxed);
        self.state.lock().get_or_insert_default();
    }

    /// What the connection listens to, in order.
    pub fn names(&self, kind: TopicKind) -> Vec<Box<[u8]>> {
        self.state.lock().as_ref().map_or_else(Vec::new, |state| state.names.of(kind).iter().cloned().collect())
    }

    /// How many names of a kind it listens to.
    pub fn count(&self, kind: TopicKind) -> usize {
        self.state.lock().as_ref().map_or(0, |state| state.names.of(kind).len())
    }
}

/// About what listening to a name takes.
fn bytes_of(name: &[u8]) -> usize {
    NAME_EXTRA_BYTES + NAME_COPIES * name.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: BufferLimit = BufferLimit { hard_bytes: 100, soft_bytes: 10, soft_seconds: 2 };

    #[test]
    fn there_is_room_for_so_many_names_until_they_are_left() {
        let (name, mailbox) = (vec![b'n'; 1 << 20], Mailbox::new(1));
        let has_room_for = |count| mailbox.has_room_for(std::iter::repeat_n(&name[..], count));
        assert!(has_room_for(31) && !has_room_for(32));
        assert!(!mailbox.has_room_for(std::iter::repeat_n(&b"n"[..], 600_000)), "many short ones");
        for kind in [TopicKind::Channel, TopicKind::Pattern] {
            assert!(mailbox.add(kind, &name) && !mailbox.add(kind, &name));
        }
        assert!(has_room_for(29) && !has_room_for(30));
        for kind in [TopicKind::Channel, TopicKind::Pattern] {
            assert!(mailbox.remove(kind, &name) && !mailbox.remove(kind, &name));
        }
        assert!(has_room_for(31));
    }

    #[test]
    fn messages_wait_in_order_until_they_are_taken() {
        let (mailbox, mut output) = (Mailbox::new(1), b"reply".to_vec());
        assert_eq!((mailbox.is_active(), mailbox.take(&mut output, None)), (false, Delivery::Nothing));
        mailbox.activate();
        mailbox.put(b"a", LIMIT, 0);
        mailbox.put(b"b", LIMIT, 0);
        assert_eq!(mailbox.len_bytes(), 2);
        assert_eq!(
            (mailbox.take(&mut output, None), mailbox.take(&mut output, None)),
            (Delivery::Mail, Delivery::Nothing)
        );
        assert_eq!(output, b"replyab");
    }

    #[test]
    fn what_is_set_aside_is_taken_apart_from_what_comes_later() {
        let mailbox = Mailbox::new(1);
        mailbox.activate();
        mailbox.set_aside();
        assert!(mailbox.take_aside().is_empty());
        mailbox.put(b"a", LIMIT, 0);
        mailbox.set_aside();
        mailbox.put(b"b", LIMIT, 0);
        assert_eq!((mailbox.take_aside(), mailbox.take_aside()), (b"a".to_vec(), Vec::new()));
        mailbox.set_aside();
        let mut output = Vec::new();
        assert_eq!((mailbox.take(&mut output, None), output), (Delivery::Mail, b"b".to_vec()));
        mailbox.put(b"c", LIMIT, 0);
        assert!(mailbox.take_aside().is_empty(), "all that was aside has been taken");
    }

    #[test]
    fn a_slow_reader_is_cut_at_the_hard_limit_or_after_long_above_the_soft_one() {
        let (hard, mut output) = (Mailbox::new(1), Vec::new());
        hard.put(&[b'x'; 101], LIMIT, 0);
        assert_eq!((hard.take(&mut output, None), hard.len_bytes()), (Delivery::Cut, 0));
        hard.put(b"y", LIMIT, 0);
        assert_eq!((hard.take(&mut output, None), output.len()), (Delivery::Cut, 0));
        let soft = Mailbox::new(2);
        soft.put(&[b'x'; 11], LIMIT, 1_000);
        soft.put(b"x", LIMIT, 3_000);
        assert_eq!(soft.take(&mut output, None), Delivery::Mail);
        // Since the client had read all, it is not too slow yet.
        soft.put(&[b'x'; 11], LIMIT, 4_000);
        soft.put(b"x", LIMIT, 6_001);
        assert_eq!(soft.take(&mut output, None), Delivery::Cut);
        let unlimited = Mailbox::new(3);
        unlimited.put(&[b'x'; 1_000], BufferLimit::default(), 0);
        assert_eq!(unlimited.take(&mut output, None), Delivery::Mail);
    }

    #[test]
    fn what_waits_at_the_connection_counts_as_well() {
        let (mailbox, mut output) = (Mailbox::new(1), Vec::new());
        mailbox.activate();
        mailbox.put(&[b'x'; 60], LIMIT, 0);
        assert_eq!(mailbox.take(&mut output, None), Delivery::Mail);
        assert!(!mailbox.keep_unsent(50, LIMIT, 0) && !mailbox.has_too_much(LIMIT, 2_000));
        assert!(mailbox.has_too_much(LIMIT, 2_001), "nothing more has come, and nothing was read");
        mailbox.put(&[b'x'; 50], BufferLimit { soft_bytes: 0, ..LIMIT }, 2_001);
        assert_eq!((mailbox.len_bytes(), mailbox.take(&mut output, None)), (100, Delivery::Mail));
        mailbox.put(&[b'x'; 51], BufferLimit { soft_bytes: 0, ..LIMIT }, 2_001);
        assert_eq!(mailbox.take(&mut output, None), Delivery::Cut);
    }

    #[test]
    fn a_client_that_has_read_all_may_be_slow_again() {
        let replies = Mailbox::new(1);
        assert!(!replies.keep_unsent(11, LIMIT, 1_000));
        replies.all_sent();
        assert!(!replies.keep_unsent(11, LIMIT, 9_000) && replies.keep_unsent(11, LIMIT, 11_001));
        assert!(replies.keep_unsent(101, LIMIT, 11_001) && !replies.keep_unsent(10, LIMIT, 19_000));
    }
}
