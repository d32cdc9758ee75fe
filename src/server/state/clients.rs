//! Who is connected: one record per client connection, and the list of them.
//!
//! A connection registers itself, keeps the [`Client`] it gets, writes down there what CLIENT LIST shows, and is off
//! the list when it drops the [`Registration`]. Others read the record and may ask the connection to close
//! ([`Client::kill`]); the connection looks at [`Client::is_killed`] after every batch and sleeps on
//! [`Client::killed`] beside its socket, so it is woken when it does nothing.
//!
//! All fields that a batch touches are relaxed atomics of the one connection; only names are behind a lock. A record
//! says nothing of passwords, and nothing here knows sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::config::BufferLimit;
use crate::commands::spec::Command;
use crate::commands::subcommands;
use crate::commands::table::COMMANDS;
use crate::protocol::{Args, Proto};
use crate::server::pubsub::excess::Excess;
use crate::server::pubsub::{Kind, Mailbox};

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
    /// CLIENT NO-EVICT ON. Nobody is ever disconnected for the memory that all clients take together, so it is kept by itself.
    pub const NO_EVICT: u32 = 1 << 4;
    /// CLIENT NO-TOUCH ON: what it asks is no use of a key, but for TOUCH.
    pub const NO_TOUCH: u32 = 1 << 5;
    /// READONLY, on the cluster face.
    pub const READONLY: u32 = 1 << 6;
    /// On the cluster face.
    pub const CLUSTER_FACE: u32 = 1 << 7;
    /// MONITOR.
    pub const MONITOR: u32 = 1 << 8;
    /// Has killed itself, and closes when that is answered.
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
    /// Bytes received and not yet run.
    pub input_bytes: AtomicUsize,
    /// Bytes of replies not yet sent.
    pub output_bytes: AtomicUsize,
    command: AtomicUsize,
    reply_mode: AtomicU8,
    excess: Mutex<Excess>,
    /// It waits for something that CLIENT UNBLOCK may end.
    may_unblock: AtomicBool,
    wait: AtomicU8,
    /// What it listens to, and the messages that wait for it.
    pub mailbox: Arc<Mailbox>,
    names: Mutex<Names>,
    killed: AtomicBool,
    wake: Notify,
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
    fn command_name(&self) -> &'static str {
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
            _ => ReplyMode::SkipNext,
        }
    }

    /// Sets what CLIENT REPLY sets. The connection itself puts `SkipNext` back to `On` when it has skipped one.
    pub fn set_reply_mode(&self, mode: ReplyMode) {
        self.reply_mode.store(mode as u8, RELAXED);
    }

    /// Whether the reply to a request is kept back, `before` being what CLIENT REPLY had set before it ran. Ends SKIP.
    pub fn keeps_back(&self, before: ReplyMode) -> bool {
        let after = self.reply_mode();
        if before == ReplyMode::SkipNext && after == ReplyMode::SkipNext {
            self.set_reply_mode(ReplyMode::On);
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

    /// Notes that it has sent something, or taken something.
    pub fn is_active(&self, now_ms: u64) {
        self.active_ms.store(now_ms, RELAXED);
    }

    /// Whether more replies than `limit` allows wait to be sent.
    pub fn has_too_much_unsent(&self, limit: BufferLimit, now_ms: u64) -> bool {
        self.excess.lock().is_too_much(self.output_bytes.load(RELAXED), limit, now_ms)
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

    /// Asks the connection to close as it is; replies that were not sent are dropped.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether the connection has been asked to close.
    #[inline]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Resolves when the connection is asked to close.
    pub async fn killed(&self) {
        while !self.is_killed() {
            self.wake.notified().await;
        }
    }

    /// Puts everything back that RESET puts back.
    pub fn reset(&self) {
        self.db.store(0, RELAXED);
        self.resp.store(2, RELAXED);
        self.mailbox.speak(Proto::Resp2);
        self.queued.store(-1, RELAXED);
        self.set_state(!state::CLUSTER_FACE, false);
        self.set_reply_mode(ReplyMode::On);
        self.names.lock().name.clear();
    }

    /// The line of CLIENT LIST and CLIENT INFO, without its end. Fields that have no meaning here are 0.
    pub fn line(&self, now_ms: u64) -> Vec<u8> {
        let seconds_since = |ms: u64| now_ms.saturating_sub(ms) / 1_000;
        let names = self.names();
        let input = self.input_bytes.load(RELAXED);
        let output = self.output_bytes.load(RELAXED) + self.mailbox.len_bytes();
        let (id, addr, laddr) = (self.id, self.addr, self.laddr);
        let mut line = format!("id={id} addr={addr} laddr={laddr} fd=0 name=").into_bytes();
        line.extend_from_slice(&names.name);
        let text = format!(
            " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} qbuf={input} qbuf-free=0 argv-mem=0 \
             multi-mem=0 rbs=0 rbp=0 obl={output} oll=0 omem={output} tot-mem={} events=r cmd={} user=default redir=-1 \
             resp={} lib-name=",
            seconds_since(self.connected_ms),
            seconds_since(self.active_ms.load(RELAXED)),
            self.flag_letters(),
            self.db.load(RELAXED),
            self.mailbox.count(Kind::Channel),
            self.mailbox.count(Kind::Pattern),
            self.mailbox.count(Kind::Shard),
            self.queued.load(RELAXED),
            input + output + size_of::<Client>(),
            self.command_name(),
            self.resp.load(RELAXED),
        );
        line.extend_from_slice(text.as_bytes());
        line.extend_from_slice(&names.lib_name);
        line.extend_from_slice(b" lib-ver=");
        line.extend_from_slice(&names.lib_version);
        line
    }

    fn flag_letters(&self) -> String {
        let letters = [
            (state::MONITOR, 'O'),
            (state::SUBSCRIBED, 'P'),
            (state::MULTI, 'x'),
            (state::BLOCKED, 'b'),
            (state::CLOSING, 'c'),
            (state::READONLY, 'r'),
            (state::NO_EVICT, 'e'),
            (state::NO_TOUCH, 'T'),
        ];
        let found: String = letters.iter().filter(|(bit, _)| self.is_in(*bit)).map(|(_, letter)| *letter).collect();
        if found.is_empty() { "N".into() } else { found }
    }
}

/// What CLIENT LIST and KILL call a kind of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientType {
    /// Sends commands.
    Normal,
    /// Another server; there are none among the clients of rondo, whose nodes have links of their own.
    Server,
    /// Subscribed.
    PubSub,
}

impl ClientType {
    /// The kind called so, in any case.
    pub fn parse(name: &[u8]) -> Option<ClientType> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"normal" => ClientType::Normal,
            b"pubsub" => ClientType::PubSub,
            b"master" | b"replica" | b"slave" => ClientType::Server,
            _ => return None,
        })
    }

    /// Whether a client is of this kind.
    pub fn includes(self, client: &Client) -> bool {
        let subscribed = client.is_in(state::SUBSCRIBED);
        match self {
            ClientType::Normal => !subscribed,
            ClientType::PubSub => subscribed,
            ClientType::Server => false,
        }
    }
}

/// All connections of a node, and whether they are paused.
#[derive(Debug, Default)]
pub struct Clients {
    list: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    pause: Pause,
}

/// CLIENT PAUSE.
#[derive(Debug, Default)]
struct Pause {
    until_ms: AtomicU64,
    all: AtomicBool,
}

impl Clients {
    /// Puts a connection on the list.
    pub fn register(self: &Arc<Clients>, addr: SocketAddr, laddr: SocketAddr, now_ms: u64) -> Registration {
        let id = self.last_id.fetch_add(1, RELAXED) + 1;
        let client = Arc::new(Client {
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
            output_bytes: AtomicUsize::new(0),
            command: AtomicUsize::new(NO_COMMAND),
            reply_mode: AtomicU8::new(ReplyMode::On as u8),
            excess: Mutex::default(),
            may_unblock: AtomicBool::new(false),
            wait: AtomicU8::new(Unblocked::No as u8),
            mailbox: Arc::new(Mailbox::new(id)),
            names: Mutex::default(),
            killed: AtomicBool::new(false),
            wake: Notify::new(),
        });
        self.list.lock().insert(id, client.clone());
        Registration { clients: self.clone(), client }
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.list.lock().len()
    }

    /// True when nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everybody, in the order of arrival.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.list.lock().values().cloned().collect()
    }

    /// Closes those that have sent no command for longer than `idle_ms`. Who listens may be silent, as in Redis.
    pub fn kill_idle(&self, idle_ms: u64, now_ms: u64) {
        for client in self.list.lock().values() {
            let is_idle = now_ms.saturating_sub(client.active_ms.load(RELAXED)) > idle_ms;
            if is_idle && !client.is_in(state::SUBSCRIBED | state::MONITOR | state::BLOCKED) {
                client.kill();
            }
        }
    }

    /// Closes those for which more replies wait than `limit` allows though they read nothing; gives how many.
    pub fn kill_unread(&self, limit: BufferLimit, now_ms: u64) -> usize {
        let list = self.list.lock();
        let unread = list.values().filter(|client| client.output_bytes.load(RELAXED) != 0 && !client.is_killed());
        let too_much = unread.filter(|client| client.has_too_much_unsent(limit, now_ms));
        too_much.inspect(|client| client.kill()).count()
    }

    /// Holds commands back until `until_ms`: those that may write, or `all`. A longer pause that is running stays, and
    /// so does one of all commands.
    pub fn pause(&self, until_ms: u64, all: bool, now_ms: u64) {
        let running = self.pause.until_ms.load(RELAXED) > now_ms;
        let all = all || (running && self.pause.all.load(RELAXED));
        self.pause.all.store(all, RELAXED);
        if running {
            self.pause.until_ms.fetch_max(until_ms, RELAXED);
        } else {
            self.pause.until_ms.store(until_ms, RELAXED);
        }
    }

    /// Ends a pause.
    pub fn unpause(&self) {
        self.pause.until_ms.store(0, RELAXED);
    }

    /// True while some commands have to wait.
    #[inline]
    pub fn is_paused(&self, now_ms: u64) -> bool {
        self.pause.until_ms.load(RELAXED) > now_ms
    }

    /// When the pause ends or has ended, in milliseconds since 1970; 0 for none.
    pub fn pause_ends_ms(&self) -> u64 {
        self.pause.until_ms.load(RELAXED)
    }

    /// How many wait.
    pub fn count_blocked(&self) -> usize {
        self.list.lock().values().filter(|client| client.is_in(state::BLOCKED)).count()
    }

    /// Until when a command has to wait, if it has to.
    #[inline]
    pub fn paused_until_ms(&self, may_write: bool, now_ms: u64) -> Option<u64> {
        let until_ms = self.pause.until_ms.load(RELAXED);
        (until_ms > now_ms && (may_write || self.pause.all.load(RELAXED))).then_some(until_ms)
    }
}

/// A connection's place on the list, given up when dropped.
#[derive(Debug)]
pub struct Registration {
    clients: Arc<Clients>,
    /// The record.
    pub client: Arc<Client>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.list.lock().remove(&self.client.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_record_is_listed_while_its_connection_lives() {
        let clients = Arc::new(Clients::default());
        let one = clients.register(address(1), address(6379), 5_000);
        let two = clients.register(address(2), address(6379), 6_000);
        assert_eq!((one.client.id, two.client.id, clients.len()), (1, 2, 2));
        let (get, _) = crate::commands::table::find(b"get").expect("a command");
        two.client.runs(get, 7_500);
        two.client.change_names(|names| names.name = b"app".to_vec());
        two.client.set_state(state::MULTI, true);
        let line = String::from_utf8(two.client.line(9_000)).expect("text");
        assert!(
            line.starts_with("id=2 addr=127.0.0.1:2 laddr=127.0.0.1:6379 fd=0 name=app age=3 idle=1 flags=x db=0 ")
        );
        assert!(line.ends_with(" cmd=get user=default redir=-1 resp=2 lib-name= lib-ver="));
        drop(one);
        assert_eq!(clients.all().iter().map(|client| client.id).collect::<Vec<_>>(), [2]);
        two.client.reset();
        assert!(!two.client.is_in(state::MULTI) && two.client.names().name.is_empty());
    }

    #[test]
    fn a_pause_ends_by_itself_and_is_never_shortened() {
        let clients = Clients::default();
        assert_eq!(clients.paused_until_ms(true, 100), None);
        clients.pause(200, false, 100);
        assert_eq!((clients.paused_until_ms(true, 199), clients.paused_until_ms(false, 199)), (Some(200), None));
        clients.pause(150, true, 100);
        assert_eq!(clients.paused_until_ms(false, 100), Some(200));
        assert_eq!(clients.paused_until_ms(true, 200), None);
        clients.pause(400, false, 300);
        assert_eq!(clients.paused_until_ms(false, 300), None);
        clients.unpause();
        assert_eq!(clients.paused_until_ms(true, 300), None);
    }

    #[test]
    fn idle_clients_are_closed_unless_they_listen() {
        let clients = Arc::new(Clients::default());
        let [idle, busy, listening] = [1, 2, 3].map(|port| clients.register(address(port), address(9), 1_000));
        busy.client.active_ms.store(5_000, RELAXED);
        listening.client.set_state(state::SUBSCRIBED, true);
        clients.kill_idle(2_000, 6_000);
        assert!(idle.client.is_killed() && !busy.client.is_killed() && !listening.client.is_killed());
    }

    #[tokio::test]
    async fn a_sleeping_connection_learns_that_it_is_to_close() {
        let clients = Arc::new(Clients::default());
        let one = clients.register(address(1), address(2), 0);
        let sleeper = tokio::spawn({
            let client = one.client.clone();
            async move { client.killed().await }
        });
        tokio::task::yield_now().await;
        assert!(!one.client.is_killed());
        one.client.kill();
        sleeper.await.expect("woken");
    }
}
