//! Clients that race for keys, numbers and locks, one or more through each node, and note what they were told.
//!
//! A reply that does not come, or is an error, is unknown: nothing is concluded from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::checker::{History, Span};
use crate::support::client::Client;
use crate::support::random::Random;
use crate::support::resp::Value;

const NUMBERS: usize = 6;
const LOCKS: usize = 12;
/// After this an outcome counts as unknown.
const REPLY_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a lock lives, and how much of that its holder relies on, from when it asked. Nobody gives one back: a
/// request that was held up could take it from the next holder.
const LOCK_MS: u64 = 1_500;
const RELIED_MS: u64 = 1_000;
/// Keys are raced for in order; so many to a second, that all clients are about at the same.
const WINS_PER_SECOND: u64 = 40;

/// A running load; `finish` ends it.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<History>>,
}

impl Load {
    /// `each` clients through every one of these nodes, in strict mode or not.
    pub fn start(seed: u64, nodes: &[SocketAddr], each: usize, strict: bool) -> Load {
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let clients = nodes.iter().enumerate().flat_map(|(node, addr)| (0..each).map(move |n| (node, n, *addr)));
        let threads = clients.map(|(node, n, addr)| {
            let random = Random::new(seed ^ (node * 97 + n) as u64);
            let (name, history) = (format!("client{n}-of-node{node}"), History::default());
            let racer = Racer { name, addr, strict, began, random, client: None, next_win: 0, history };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || racer.run(&stop))
        });
        Load { threads: threads.collect(), stop }
    }

    /// Stops the clients and gives all that they were told.
    pub fn finish(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        self.threads.into_iter().for_each(|thread| history.add(thread.join().expect("a client")));
        history
    }
}

struct Racer {
    name: String,
    addr: SocketAddr,
    strict: bool,
    began: Instant,
    random: Random,
    client: Option<Client>,
    next_win: u64,
    history: History,
}

impl Racer {
    fn run(mut self, stop: &AtomicBool) -> History {
        while !stop.load(Ordering::Relaxed) {
            match self.random.below(4) {
                0 | 1 => self.number(),
                2 => self.win(),
                _ => self.lock(),
            }
            sleep(Duration::from_micros(500 + self.random.below(1_500) as u64));
        }
        self.history
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// One command; `None` when nothing is known of its outcome.
    fn ask(&mut self, args: &[&str]) -> Option<(Value, Span)> {
        if self.client.is_none() {
            let mut client = Client::connect_to(self.addr, REPLY_TIMEOUT).ok()?;
            let mode = if self.strict { "STRICT" } else { "SLOPPY" };
            client.try_call(&["RONDO.CONSISTENCY", mode]).ok().filter(|reply| !reply.is_error())?;
            self.client = Some(client);
        }
        let invoked = self.now();
        let reply = self.client.as_mut()?.try_call(args);
        let span = Span { invoked, returned: self.now() };
        match reply {
            Ok(reply) if !reply.is_error() => Some((reply, span)),
            Ok(_) => {
                self.history.unknown += 1;
                None
            }
            Err(_) => {
                self.history.unknown += 1;
                // What comes late would be taken for the answer to the next question.
                self.client = None;
                None
            }
        }
    }

    fn number(&mut self) {
        let key = format!("number:{}", self.random.below(NUMBERS));
        if let Some((reply, span)) = self.ask(&["INCR", &key]) {
            let number = reply.int().expect("a number");
            self.history.numbers.entry(key).or_default().push((number, span));
        }
    }

    fn win(&mut self) {
        let due = self.now() * WINS_PER_SECOND / 1_000_000;
        self.next_win = self.next_win.max(due);
        let key = format!("win:{}", self.next_win);
        self.next_win += 1;
        let name = self.name.clone();
        if let Some((Value::Simple(_), span)) = self.ask(&["SET", &key, &name, "NX"]) {
            self.history.wins.entry(key).or_default().push((name, span));
        }
    }

    fn lock(&mut self) {
        let key = format!("lock:{}", self.random.below(LOCKS));
        let token = format!("{}:{}", self.name, self.now());
        let Some((Value::Simple(_), got)) = self.ask(&["SET", &key, &token, "NX", "PX", &LOCK_MS.to_string()]) else {
            return;
        };
        let relied_until = got.invoked + RELIED_MS * 1_000;
        if got.returned >= relied_until {
            return;
        }
        let hold = Span { invoked: got.returned, returned: relied_until };
        self.history.held.entry(key.clone()).or_default().push((token.clone(), hold));
        let seen = self.ask(&["GET", &key]);
        if let Some((seen, span)) = seen.filter(|(_, span)| span.returned < relied_until)
            && seen.text().as_ref() != Some(&token)
        {
            self.history.surprises.push(format!("{key} held {seen:?} at {span:?} while {token} had it since {got:?}"));
        }
    }
}
