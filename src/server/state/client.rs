//! The record of one client connection: what others may know of it, and ask of it.
//!
//! The connection writes down here what CLIENT LIST shows (`client_line`). Others read the record and may ask the
//! connection to close ([`Client::kill`], [`Client::dismiss`]), which wakes it; it looks at [`Client::is_killed`] after
//! every batch.
//!
//! All fields that a batch touches are relaxed atomics of the one connection; only names are behind a lock. A record
//! says nothing of passwords, and nothing here knows sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::base::config::{BufferLimit, BufferLimits};
use crate::commands::spec::{Command, Handler, NodeCommand};
use crate::commands::table::COMMANDS;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Proto};
use crate::server::pubsub::Mailbox;
use crate::server::pubsub::mailbox::TOO_MANY_SUBSCRIBED;

const RELAXED: Ordering = Ordering::Relaxed;

/// `Client::command` before the first command.
const NO_COMMAND: usize = usize::MAX;

/// Where, in `Client::command`, the place of a subcommand stands beside that of the command, one higher; 0 for none.
const SUBCOMMAND_SHIFT: u32 = 16;

/// What a connection is at the moment, as bits of [`Client::flags`].
pub mod state {
    /// Between MULTI and EXEC.
    pub const MULTI: u32 = 1 << 0;
    /// Subscribed to something.
    pub const SUBSCRIBED: u32 = 1 << 1;
    /// Waits: in WAIT, or until a pause is over.
    pub const BLOCKED: u32 = 1 << 2;
    /// CLIENT NO-EVICT ON. Nobody is ever disconnected for the memory that all clients take together, so it is kept by
    /// itself.
    pub const NO_EVICT: u32 = 1 << 4;
    /// CLIENT NO-TOUCH ON: what it asks is no use of a key, but for TOUCH.
    pub const NO_TOUCH: u32 = 1 << 5;
    /// READONLY, on the cluster face.
    pub const READONLY: u32 = 1 << 6;
    /// On the cluster face.
    pub const CLUSTER_FACE: u32 = 1 << 7;
    /// MONITOR.
    pub const MONITOR: u32 = 1 << 8;
    /// Was dismissed, and closes once all that it has sent is answered.
    pub const CLOSING: u32 = 1 << 9;
}

/// Whether, and how, somebody has ended a client's wait: CLIENT UNBLOCK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Unblocked {
    /// Nobody has.
    No,
    /// As if its time were over.
    AsByTimeout,
    /// It reads an error.
    WithError,
}

/// Which replies a connection wants: CLIENT REPLY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ReplyMode {
    /// All.
    On,
    /// None, until ON.
    Off,
    /// Not that of the command behind the one that runs, which has asked for it.
    Skip,
    /// Not that of the next command.
    SkipNext,
}

/// One connection's record.
#[derive(Debug)]
pub struct Client {
    /// Its number, never given twice by this node.
    pub id: u64,
    /// Where it comes from.
    pub addr: SocketAddr,
    /// Where it arrived.
    pub laddr: SocketAddr,
    /// When it connected, in milliseconds since 1970.
    pub connected_ms: u64,
    /// When it last sent a command, or a part of one, or took a part of a long reply, in milliseconds since 1970.
    pub active_ms: AtomicU64,
    /// The selected database.
    pub db: AtomicU8,
    /// The version of RESP it speaks.
    pub resp: AtomicU8,
    /// [`state`] bits.
    pub flags: AtomicU32,
    /// Commands queued since MULTI; -1 outside a transaction.
    pub queued: AtomicI64,
    /// Bytes received that wait, or are being run.
    pub input_bytes: AtomicUsize,
    command: AtomicUsize,
    reply_mode: AtomicU8,
    /// It waits for something that CLIENT UNBLOCK may end.
    may_unblock: AtomicBool,
    wait: AtomicU8,
    /// What it listens to, and what waits for it.
    pub mailbox: Arc<Mailbox>,
    names: Mutex<Names>,
    killed: AtomicBool,
    /// Its task.
    waker: Mutex<Option<Waker>>,
}

/// What a client calls itself.
#[derive(Clone, Default, Debug)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_version: Vec<u8>,
}

impl Client {
    /// The record of a connection that is made at `now_ms`.
    pub fn new(id: u64, addr: SocketAddr, laddr: SocketAddr, now_ms: u64) -> Client {
        Client {
            id,
            addr,
            laddr,
            connected_ms: now_ms,
            active_ms: AtomicU64::new(now_ms),
            db: AtomicU8::new(0),
            resp: AtomicU8::new(2),
            flags: AtomicU32::new(0),
            queued: AtomicI64::new(-1),
            input_bytes: AtomicUsize::new(0),
            command: AtomicUsize::new(NO_COMMAND),
            reply_mode: AtomicU8::new(ReplyMode::On as u8),
            may_unblock: AtomicBool::new(false),
            wait: AtomicU8::new(Unblocked::No as u8),
            mailbox: Arc::new(Mailbox::new(id)),
            names: Mutex::default(),
            killed: AtomicBool::new(false),
            waker: Mutex::default(),
        }
    }

    /// Notes that the command at this place of the table is about to run.
    #[inline]
    pub fn runs(&self, command: usize, now_ms: u64) {
        self.command.store(command, RELAXED);
        self.active_ms.store(now_ms, RELAXED);
    }

    /// Notes which subcommand of that one it is, if it is a name for a family.
    pub fn runs_subcommand(&self, command: usize, row: &Command, args: Args<'_>) {
        if let Some(at) = args.get(1).and_then(|name| subcommands::position(row.name, name)) {
            self.command.store((at + 1) << SUBCOMMAND_SHIFT | command, RELAXED);
        }
    }

    /// The name of the command that ran last, or is about to run.
    pub(super) fn command_name(&self) -> &'static str {
        let noted = self.command.load(RELAXED);
        let Some(row) = COMMANDS.get(noted & ((1 << SUBCOMMAND_SHIFT) - 1)) else { return "NULL" };
        let at = (noted >> SUBCOMMAND_SHIFT).checked_sub(1);
        at.and_then(|at| subcommands::of(row.name).get(at)).map_or(row.name, |row| row.name)
    }

    /// Sets or clears [`state`] bits.
    pub fn set_state(&self, bits: u32, on: bool) {
        if on {
            self.flags.fetch_or(bits, RELAXED)
        } else {
            self.flags.fetch_and(!bits, RELAXED)
        };
    }

    /// True when any of these [`state`] bits is set.
    #[inline]
    pub fn is_in(&self, bits: u32) -> bool {
        self.flags.load(RELAXED) & bits != 0
    }

    /// What CLIENT REPLY has set.
    #[inline]
    pub fn reply_mode(&self) -> ReplyMode {
        match self.reply_mode.load(RELAXED) {
            0 => ReplyMode::On,
            1 => ReplyMode::Off,
            2 => ReplyMode::Skip,
            _ => ReplyMode::SkipNext,
        }
    }

    /// Sets what CLIENT REPLY sets. The connection itself makes `Skip` to `SkipNext` when that command is over, and
    /// puts it back to `On` when it has skipped one.
    pub fn set_reply_mode(&self, mode: ReplyMode) {
        self.reply_mode.store(mode as u8, RELAXED);
    }

    /// Whether the reply to a request is kept back, `before` being what CLIENT REPLY had set before it ran. Ends SKIP.
    pub fn keeps_back(&self, before: ReplyMode) -> bool {
        let after = self.reply_mode();
        match (before, after) {
            (_, ReplyMode::Skip) => self.set_reply_mode(ReplyMode::SkipNext),
            (ReplyMode::SkipNext, ReplyMode::SkipNext) => self.set_reply_mode(ReplyMode::On),
            _ => {}
        }
        before != ReplyMode::On && after != ReplyMode::On || after == ReplyMode::Off
    }

    /// A copy of the names.
    pub fn names(&self) -> Names {
        self.names.lock().clone()
    }

    /// Changes the names.
    pub fn change_names(&self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names.lock());
    }

    /// Whether it may listen to all that a request names, if that begins subscriptions; else it is to listen to none of
    /// it.
    pub fn admits_names(&self, command: &Command, args: Args<'_>) -> Result<(), CommandError> {
        let is_beginning = matches!(command.handler, Handler::Node(NodeCommand::Subscribe(_)));
        match !is_beginning || self.mailbox.has_room_for(args.iter().skip(1)) {
            true => Ok(()),
            false => Err(CommandError::text(TOO_MANY_SUBSCRIBED)),
        }
    }

    /// Notes that what it asks is queued from now on.
    pub fn begin_transaction(&self) {
        self.queued.store(0, RELAXED);
        self.set_state(state::MULTI, true);
    }

    /// Notes that what it asks is run again.
    pub fn end_transaction(&self) {
        self.queued.store(-1, RELAXED);
        self.set_state(state::MULTI, false);
    }

    /// Notes that it has sent something, or taken something.
    pub fn note_active(&self, now_ms: u64) {
        self.active_ms.store(now_ms, RELAXED);
    }

    /// How much may wait for it: who listens or watches is judged as a subscriber.
    pub fn limit(&self, limits: &BufferLimits) -> BufferLimit {
        if self.is_in(state::SUBSCRIBED | state::MONITOR) { limits.pubsub } else { limits.normal }
    }

    /// Says that it waits, for others to show, until [`Client::end_wait`].
    pub fn begin_wait(&self) {
        self.wait.store(Unblocked::No as u8, RELAXED);
        self.set_state(state::BLOCKED, true);
        self.may_unblock.store(true, Ordering::Release);
    }

    /// Says that it waits no longer.
    pub fn end_wait(&self) {
        self.may_unblock.store(false, Ordering::Release);
        self.set_state(state::BLOCKED, false);
    }

    /// CLIENT UNBLOCK: ends its wait; false when it does not wait for anything that could be ended.
    pub fn unblock(&self, how: Unblocked) -> bool {
        let may = self.may_unblock.swap(false, Ordering::AcqRel);
        if may {
            self.wait.store(how as u8, RELAXED);
        }
        may
    }

    /// Whether somebody has ended its wait.
    pub fn unblocked(&self) -> Unblocked {
        match self.wait.load(RELAXED) {
            0 => Unblocked::No,
            1 => Unblocked::AsByTimeout,
            _ => Unblocked::WithError,
        }
    }

    /// How long it has sent nothing, in milliseconds.
    pub fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.active_ms.load(RELAXED))
    }

    /// Asks the connection to close as it is; replies that were not sent are dropped.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.wake();
    }

    /// Asks the connection to close once all that it has received is answered.
    pub fn dismiss(&self) {
        self.set_state(state::CLOSING, true);
        self.wake();
    }

    /// Has the connection's task woken whenever it is asked to close.
    pub fn wakes(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Whether the connection has been asked to close as it is.
    #[inline]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Puts everything back that RESET puts back. As in Redis, NO-EVICT stays.
    pub fn reset(&self) {
        self.db.store(0, RELAXED);
        self.resp.store(2, RELAXED);
        self.mailbox.speak(Proto::Resp2);
        self.queued.store(-1, RELAXED);
        self.set_state(!(state::CLUSTER_FACE | state::NO_EVICT | state::CLOSING), false);
        self.set_reply_mode(ReplyMode::On);
        self.names.lock().name.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.fetch_add(1, RELAXED);
        }
    }

    fn client() -> Client {
        Client::new(1, ([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into(), 0)
    }

    #[test]
    fn a_sleeping_connection_learns_each_time_that_it_is_to_close() {
        let (client, woken) = (client(), Arc::new(Woken::default()));
        client.dismiss();
        client.wakes(&woken.clone().into());
        assert!(client.is_in(state::CLOSING) && !client.is_killed());
        for times in 1..3 {
            client.dismiss();
            assert_eq!(woken.0.load(RELAXED), times);
        }
        client.kill();
        assert!(client.is_killed() && woken.0.load(RELAXED) == 3, "it was dismissed before");
    }

    #[test]
    fn reset_leaves_what_redis_leaves_and_who_is_dismissed_stays_so() {
        let client = client();
        client.set_state(u32::MAX, true);
        client.reset();
        assert_eq!(client.flags.load(RELAXED), state::CLUSTER_FACE | state::NO_EVICT | state::CLOSING);
    }
}
