//! Who is connected: the list of all client connections, and whether they are paused.
//!
//! A connection registers itself, keeps the [`Client`] it gets, and is off the list when it drops the [`Registration`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;

use crate::base::config::BufferLimits;
use crate::server::state::client::{Client, state};

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
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        let client = Arc::new(Client::new(id, addr, laddr, now_ms));
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

    /// Who has this id, as clients write it.
    pub fn get(&self, id: i64) -> Option<Arc<Client>> {
        self.list.lock().get(&u64::try_from(id).ok()?).cloned()
    }

    /// Everybody, in the order of arrival.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.list.lock().values().cloned().collect()
    }

    /// True when somebody is like this.
    pub fn any(&self, is_so: impl Fn(&Client) -> bool) -> bool {
        self.list.lock().values().any(|client| is_so(client))
    }

    /// Asks those that are like this to close once all that they have sent is answered.
    pub fn dismiss(&self, is_so: impl Fn(&Client) -> bool) {
        self.list.lock().values().filter(|client| is_so(client)).for_each(|client| client.dismiss());
    }

    /// Closes those that have sent no command for longer than `idle_ms`. Who listens may be silent, as in Redis.
    pub fn kill_idle(&self, idle_ms: u64, now_ms: u64) {
        for client in self.list.lock().values() {
            if client.idle_ms(now_ms) > idle_ms && !client.is_in(state::SUBSCRIBED | state::MONITOR | state::BLOCKED) {
                client.kill();
            }
        }
    }

    /// Closes those for which more waits than `limits` allow though they read nothing; gives how many.
    pub fn kill_unread(&self, limits: &BufferLimits, now_ms: u64) -> usize {
        let list = self.list.lock();
        let unread = list.values().filter(|client| client.mailbox.unsent_bytes() != 0 && !client.is_killed());
        let too_much = unread.filter(|client| client.mailbox.has_too_much(client.limit(limits), now_ms));
        too_much.inspect(|client| client.kill()).count()
    }

    /// Holds commands back until `until_ms`: those that may write, or `all`. A longer pause that is running stays, and
    /// so does one of all commands.
    pub fn pause(&self, until_ms: u64, all: bool, now_ms: u64) {
        let running = self.pause.until_ms.load(Relaxed) > now_ms;
        let all = all || (running && self.pause.all.load(Relaxed));
        self.pause.all.store(all, Relaxed);
        if running {
            self.pause.until_ms.fetch_max(until_ms, Relaxed);
        } else {
            self.pause.until_ms.store(until_ms, Relaxed);
        }
    }

    /// Ends a pause.
    pub fn unpause(&self) {
        self.pause.until_ms.store(0, Relaxed);
    }

    /// True while some commands have to wait.
    #[inline]
    pub fn is_paused(&self, now_ms: u64) -> bool {
        self.pause.until_ms.load(Relaxed) > now_ms
    }

    /// When the pause ends or has ended, in milliseconds since 1970; 0 for none.
    pub fn pause_ends_ms(&self) -> u64 {
        self.pause.until_ms.load(Relaxed)
    }

    /// How many wait.
    pub fn count_blocked(&self) -> usize {
        self.list.lock().values().filter(|client| client.is_in(state::BLOCKED)).count()
    }

    /// Until when a command has to wait, if it has to.
    #[inline]
    pub fn paused_until_ms(&self, may_write: bool, now_ms: u64) -> Option<u64> {
        let until_ms = self.pause.until_ms.load(Relaxed);
        (until_ms > now_ms && (may_write || self.pause.all.load(Relaxed))).then_some(until_ms)
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
        busy.client.active_ms.store(5_000, Relaxed);
        listening.client.set_state(state::SUBSCRIBED, true);
        clients.kill_idle(2_000, 6_000);
        assert!(idle.client.is_killed() && !busy.client.is_killed() && !listening.client.is_killed());
    }
}
