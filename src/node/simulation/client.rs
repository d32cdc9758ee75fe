//! Clients that ask for a few keys again and again, over any node, and note what they asked and were answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::history::{Asked, Event, HASHES, History, What};
use super::os;
use super::world::{PORT, ip_of};
use crate::base::net::TcpStream;
use crate::protocol::client::{ReplyDecoder, Value, encode_command};

/// How long a client waits for replies before it takes the connection for dead.
const PATIENCE: Duration = Duration::from_secs(4);
const DIAL_PATIENCE: Duration = Duration::from_millis(500);
/// Requests sent in one go, at most.
const PIPELINE_MAX: usize = 4;
/// The first registers are written for good, the others for a while.
const LASTING: u64 = 5;
const REGISTERS: u64 = 8;
const COUNTERS: u64 = 3;
/// Sets and hashes.
const SETS: u64 = 4;
/// Of so many requests one is a FLUSHALL, where there are any.
const FLUSH_ONE_IN: u32 = 150;

/// What all clients share.
pub struct Load {
    /// What happened.
    pub history: RefCell<History>,
    /// Cleared when they are to end.
    pub goes_on: std::cell::Cell<bool>,
    /// Somebody empties all databases now and then.
    pub flushes: std::cell::Cell<bool>,
    /// Members added and not removed, by set: a client takes one that it removes.
    members: RefCell<BTreeMap<u64, Vec<u64>>>,
    next_value: std::cell::Cell<u64>,
    /// How many clients have ended.
    pub ended: std::cell::Cell<usize>,
}

impl Default for Load {
    fn default() -> Load {
        Load {
            history: RefCell::default(),
            goes_on: std::cell::Cell::new(true),
            flushes: std::cell::Cell::new(false),
            members: RefCell::default(),
            next_value: std::cell::Cell::new(1),
            ended: std::cell::Cell::new(0),
        }
    }
}

impl Load {
    fn value(&self) -> u64 {
        self.next_value.replace(self.next_value.get() + 1)
    }
}

/// The requests' words.
fn words(asked: &Asked) -> Vec<String> {
    let key = asked.key();
    let is_hash = asked.of >= HASHES;
    let words: &[&str] = match asked.what {
        What::Set(value) => &["SET", &key, &value.to_string()],
        What::SetFor(value, ms) => &["SET", &key, &value.to_string(), "PX", &ms.to_string()],
        What::Expire(ms) => &["PEXPIRE", &key, &ms.to_string()],
        What::GetFor(ms) => &["GETEX", &key, "PX", &ms.to_string()],
        What::Persist => &["PERSIST", &key],
        What::Flush => &["FLUSHALL"],
        What::Delete => &["DEL", &key],
        What::Get | What::Count => &["GET", &key],
        What::Increment => &["INCR", &key],
        What::Add(field) if is_hash => &["HSET", &key, &field.to_string(), &field.to_string()],
        What::Remove(field) if is_hash => &["HDEL", &key, &field.to_string()],
        What::Members if is_hash => &["HKEYS", &key],
        What::Add(member) => &["SADD", &key, &member.to_string()],
        What::Remove(member) => &["SREM", &key, &member.to_string()],
        What::Members => &["SMEMBERS", &key],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A client's random choice.
fn choose(load: &Load, draws: &mut SmallRng) -> Asked {
    if load.flushes.get() && draws.random_range(0..FLUSH_ONE_IN) == 0 {
        return Asked { what: What::Flush, of: 0 };
    }
    let (what, of) = match draws.random_range(0..100) {
        0..18 => (What::Set(load.value()), draws.random_range(0..LASTING)),
        18..22 => (What::Delete, draws.random_range(0..LASTING)),
        22..42 => (What::Get, draws.random_range(0..LASTING)),
        42..66 => (choose_passing(load, draws), draws.random_range(LASTING..REGISTERS)),
        66..74 => (What::Increment, draws.random_range(0..COUNTERS)),
        74..80 => (What::Count, draws.random_range(0..COUNTERS)),
        80..88 => {
            let (set, member) = (draws.random_range(0..SETS), load.value());
            (What::Add(member), set)
        }
        88..91 => {
            let set = draws.random_range(0..SETS);
            let member = load.members.borrow_mut().get_mut(&set).and_then(Vec::pop);
            (member.map_or(What::Members, What::Remove), set)
        }
        _ => (What::Members, draws.random_range(0..SETS)),
    };
    Asked { what, of }
}

/// What is asked of a register that is written for a while.
fn choose_passing(load: &Load, draws: &mut SmallRng) -> What {
    let ms = draws.random_range(200..2_500);
    match draws.random_range(0..24) {
        0..7 => What::SetFor(load.value(), ms),
        7 => What::Set(load.value()),
        8 => What::Delete,
        9..12 => What::Expire(ms),
        12..14 => What::Persist,
        14..16 => What::GetFor(ms),
        _ => What::Get,
    }
}

/// Every key read once.
pub fn all_reads() -> Vec<Asked> {
    let registers = (0..REGISTERS).map(|of| Asked { what: What::Get, of });
    let counters = (0..COUNTERS).map(|of| Asked { what: What::Count, of });
    registers.chain(counters).chain((0..SETS).map(|of| Asked { what: What::Members, of })).collect()
}

/// Asks for this and that until the load ends.
pub async fn run(load: Rc<Load>, number: u64, seed: u64, nodes: usize) {
    let mut draws = SmallRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number));
    let think_ms = draws.random_range(2..25);
    while load.goes_on.get() {
        let node = draws.random_range(0..nodes);
        let Ok(Ok(mut stream)) = timeout(DIAL_PATIENCE, TcpStream::connect(SocketAddr::new(ip_of(node), PORT))).await
        else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        while load.goes_on.get() {
            let count = draws.random_range(1..=PIPELINE_MAX);
            let asked: Vec<Asked> = (0..count).map(|_| choose(&load, &mut draws)).collect();
            if !ask(&load, &mut stream, (number, node), &asked).await || draws.random_range(0..60) == 0 {
                break;
            }
            sleep(Duration::from_micros(draws.random_range(0..think_ms * 1_000))).await;
        }
    }
    load.ended.set(load.ended.get() + 1);
}

/// Reads every key through one node, until each read has an answer.
pub async fn read_all(load: Rc<Load>, node: usize) {
    for asked in all_reads() {
        loop {
            let connected = timeout(DIAL_PATIENCE, TcpStream::connect(SocketAddr::new(ip_of(node), PORT))).await;
            if let Ok(Ok(mut stream)) = connected
                && ask(&load, &mut stream, (1_000, node), &[asked]).await
                && load.history.borrow().last_is_answered()
            {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    load.ended.set(load.ended.get() + 1);
}

/// Asks all of these at once and notes what comes; false when the connection is of no further use.
async fn ask(load: &Load, stream: &mut TcpStream, (client, node): (u64, usize), asked: &[Asked]) -> bool {
    let mut out = Vec::new();
    asked.iter().for_each(|asked| encode_command(&mut out, &words(asked)));
    let began_us = os::now_us();
    let places: Vec<usize> = asked
        .iter()
        .map(|asked| {
            let event = Event { asked: *asked, client, node, began_us, ended_us: None, answer: None };
            load.history.borrow_mut().note(event)
        })
        .collect();
    let talk = async {
        stream.write_all(&out).await.ok()?;
        let (mut decoder, mut buf) = (ReplyDecoder::default(), Vec::new());
        for (asked, place) in asked.iter().zip(&places) {
            let value = loop {
                if let Some((value, len)) = decoder.decode(&buf).ok()? {
                    buf.drain(..len);
                    break value;
                }
                if stream.read_buf(&mut buf).await.ok()? == 0 {
                    return None;
                }
            };
            if let (What::Add(member), Value::Int(_)) = (asked.what, &value) {
                load.members.borrow_mut().entry(asked.of).or_default().push(member);
            }
            load.history.borrow_mut().answer(*place, os::now_us(), value);
        }
        Some(())
    };
    matches!(timeout(PATIENCE, talk).await, Ok(Some(())))
}
