//! Clients at work: threads that write and read through a changing list of nodes and note what they saw.
//!
//! Each writer owns its registers (one writer per key); counters, sets and hashes are shared. A write that fails is
//! tried again, with a new number, until it succeeds: the time that takes is the pause that the key sees.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::history::{History, Pause, Read, Write};
use crate::support::client::{Client, Failure};
use crate::support::random::Random;
use crate::support::resp::Value;

pub const WRITERS: usize = 3;
pub const READERS: usize = 2;
pub const KEYS_PER_WRITER: usize = 40;
pub const KEYS: usize = WRITERS * KEYS_PER_WRITER;
pub const COUNTERS: usize = 12;
pub const COLLECTIONS: usize = 8;

/// After this an outcome counts as unknown.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two commands of one client: the test looks at behaviour, not at load, and shares two cores with the cluster.
const BREATH: Duration = Duration::from_micros(300);

/// Name and address of a node that clients may use.
pub type Target = (String, SocketAddr);

/// What all threads share.
struct Shared {
    stop: AtomicBool,
    started: Instant,
    writers_use: RwLock<Vec<Target>>,
    readers_use: RwLock<Vec<Target>>,
}

/// A running load; `finish` ends it.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<History>>,
}

pub fn register_name(key: usize) -> String {
    format!("register:{key}")
}

pub fn counter_name(counter: usize) -> String {
    format!("counter:{counter}")
}

impl Load {
    pub fn start(seed: u64, targets: &[Target]) -> Load {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            started: Instant::now(),
            writers_use: RwLock::new(targets.to_vec()),
            readers_use: RwLock::new(targets.to_vec()),
        });
        let mut threads = Vec::new();
        for id in 0..WRITERS + READERS {
            let worker = Worker::new(id, seed, Arc::clone(&shared));
            threads.push(std::thread::spawn(move || if id < WRITERS { worker.write() } else { worker.read() }));
        }
        Load { shared, threads }
    }

    /// From now on writers use these nodes only.
    pub fn write_through(&self, targets: &[Target]) {
        *self.shared.writers_use.write().unwrap() = targets.to_vec();
    }

    /// From now on readers use these nodes only.
    pub fn read_through(&self, targets: &[Target]) {
        *self.shared.readers_use.write().unwrap() = targets.to_vec();
    }

    pub fn use_only(&self, targets: &[Target]) {
        self.write_through(targets);
        self.read_through(targets);
    }

    pub fn started(&self) -> Instant {
        self.shared.started
    }

    /// Stops the clients and returns what they saw.
    pub fn finish(self) -> History {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for thread in self.threads {
            history.merge(thread.join().expect("a client thread does not panic"));
        }
        history
    }
}

struct Worker {
    id: usize,
    random: Random,
    shared: Arc<Shared>,
    connections: HashMap<SocketAddr, Client>,
    history: History,
}

impl Worker {
    fn new(id: usize, seed: u64, shared: Arc<Shared>) -> Worker {
        let random = Random::new(seed.wrapping_add(id as u64 * 7_919));
        Worker { id, random, shared, connections: HashMap::new(), history: History::default() }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.shared.started.elapsed().as_nanos() as u64
    }

    /// Sends one command to any node in use: `Ok` with the reply and the node, `Err(true)` when it may have happened.
    fn attempt(&mut self, writing: bool, args: &[&str]) -> Result<(Value, String), bool> {
        let list = if writing { &self.shared.writers_use } else { &self.shared.readers_use };
        let (node, addr) = {
            let targets = list.read().unwrap();
            self.random.pick(&targets).clone()
        };
        let client = match self.connections.entry(addr) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => match Client::connect_to(addr, REPLY_TIMEOUT) {
                Ok(client) => unknown.insert(client),
                Err(error) => {
                    self.history.error(&node, &format!("no connection: {error}"));
                    std::thread::sleep(Duration::from_millis(1));
                    return Err(false);
                }
            },
        };
        match client.try_call(args) {
            Ok(Value::Error(text)) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                self.history.error(&node, &text);
                Err(true)
            }
            Ok(reply) => Ok((reply, node)),
            Err(failure) => {
                self.connections.remove(&addr);
                let (text, unknown) = match failure {
                    Failure::NotSent(text) => (format!("not sent: {text}"), false),
                    Failure::Unknown(text) => (format!("no reply: {text}"), true),
                };
                self.history.error(&node, &text);
                Err(unknown)
            }
        }
    }

    fn note_pause(&mut self, class: &'static str, began: Instant, key: &str) {
        let over_at = self.shared.started.elapsed();
        self.history.pause(class, Pause { took: began.elapsed(), over_at, key: key.to_owned() });
    }

    fn write(mut self) -> History {
        let mut seqs = [0u64; KEYS_PER_WRITER];
        let mut turn = 0usize;
        while !self.stopped() {
            turn += 1;
            let own = turn % KEYS_PER_WRITER;
            self.set(self.id * KEYS_PER_WRITER + own, &mut seqs[own]);
            match turn % 4 {
                0 => self.increment(turn / 4 % COUNTERS),
                1 => self.add("SADD", turn),
                2 => self.add("HSET", turn),
                _ => {}
            }
        }
        self.history
    }

    fn set(&mut self, key: usize, seq: &mut u64) {
        let name = register_name(key);
        let began = Instant::now();
        while !self.stopped() {
            *seq += 1;
            let invoked = self.now();
            let outcome = self.attempt(true, &["SET", &name, &seq.to_string()]);
            let acked = outcome.is_ok().then(|| self.now());
            if outcome != Err(false) {
                self.history.writes.push(Write { key, seq: *seq, invoked, acked });
            }
            if acked.is_some() {
                self.note_pause("SET", began, &name);
                break;
            }
        }
        std::thread::sleep(BREATH);
    }

    fn increment(&mut self, counter: usize) {
        let name = counter_name(counter);
        let began = Instant::now();
        while !self.stopped() {
            let outcome = self.attempt(true, &["INCR", &name]);
            let count = self.history.counters.entry(name.clone()).or_default();
            match outcome {
                Ok(_) => count.acked += 1,
                Err(true) => count.unknown += 1,
                Err(false) => {}
            }
            if outcome.is_ok() {
                self.note_pause("INCR", began, &name);
                break;
            }
        }
    }

    /// Puts an element that nobody else uses into a set, or a field into a hash.
    fn add(&mut self, command: &str, turn: usize) {
        let key = format!("{}:{}", command.to_lowercase(), turn / 4 % COLLECTIONS);
        let element = format!("{}-{turn}", self.id);
        let args = [command, &key, &element, "v"];
        let args = if command == "SADD" { &args[..3] } else { &args[..] };
        while !self.stopped() {
            match self.attempt(true, args) {
                Ok(_) => {
                    self.history.added.acked.push((key, element));
                    return;
                }
                Err(true) => self.history.added.unknown.push((key.clone(), element.clone())),
                Err(false) => {}
            }
        }
    }

    fn read(mut self) -> History {
        while !self.stopped() {
            let key = self.random.below(KEYS);
            let name = register_name(key);
            let began = Instant::now();
            while !self.stopped() {
                let invoked = self.now();
                if let Ok((reply, node)) = self.attempt(false, &["GET", &name]) {
                    let seq = reply.int().map(|seq| seq as u64);
                    self.history.reads.push(Read { key, seq, invoked, returned: self.now(), node });
                    self.note_pause("GET", began, &name);
                    break;
                }
            }
            std::thread::sleep(BREATH);
        }
        self.history
    }
}
