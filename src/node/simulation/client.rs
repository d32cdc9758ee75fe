//! Clients that ask for a few keys again and again, over any node, and note what they asked and were answered.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use super::choice::{Choice, Request, all_reads};
use super::history::{Event, History, What};
use super::os;
use super::world::{PORT, ip_of};
use crate::base::net::TcpStream;
use crate::protocol::client::{ReplyDecoder, Value, encode_command};

/// How long a client waits for replies before it takes the connection for dead.
const PATIENCE: Duration = Duration::from_secs(4);
const DIAL_PATIENCE: Duration = Duration::from_millis(500);
/// What is sent in one go, at most; see `Choice::pipeline`.
const PIPELINE_MAX: usize = 4;
/// What all clients share.
pub struct Load {
    /// What happened.
    pub history: RefCell<History>,
    /// Cleared when they are to end.
    pub goes_on: std::cell::Cell<bool>,
    /// What they choose from.
    pub choice: Choice,
    connections: std::cell::Cell<u64>,
    /// How many clients have ended.
    pub ended: std::cell::Cell<usize>,
}

impl Default for Load {
    fn default() -> Load {
        Load {
            history: RefCell::default(),
            goes_on: std::cell::Cell::new(true),
            choice: Choice::default(),
            connections: std::cell::Cell::new(0),
            ended: std::cell::Cell::new(0),
        }
    }
}

/// Who asks, and where.
struct Sender {
    client: u64,
    node: usize,
    connection: u64,
}

impl Load {
    /// A client on a new connection.
    fn sender(&self, client: u64, node: usize) -> Sender {
        let connection = self.connections.replace(self.connections.get() + 1);
        Sender { client, node, connection }
    }

    /// Notes what a request asks of each key; gives the place of the first.
    fn note(&self, sender: &Sender, began_us: u64, request: &Request) -> usize {
        let Sender { client, node, connection } = *sender;
        let mut history = self.history.borrow_mut();
        let (first, manner) = (history.counts().0, request.manner());
        for (sent, &asked) in (first..).zip(&request.asked) {
            let order = (connection, sent);
            history.note(Event { asked, client, node, order, manner, first, began_us, ended_us: None, answer: None });
        }
        first
    }

    /// Notes what was answered to the request whose first key is noted there.
    fn answer(&self, request: &Request, place: usize, replies: Vec<Value>) {
        for (at, (asked, value)) in request.asked.iter().zip(request.answers(replies)).enumerate() {
            if let (What::Add(member), Value::Int(_)) = (asked.what, &value) {
                self.choice.is_added(asked.of, member);
            }
            self.history.borrow_mut().answer(place + at, os::now_us(), value);
        }
    }
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
        let sender = load.sender(number, node);
        while load.goes_on.get() {
            let count = draws.random_range(1..=PIPELINE_MAX);
            let requests = load.choice.pipeline(count, &mut draws);
            if !ask(&load, &mut stream, &sender, &requests).await || draws.random_range(0..60) == 0 {
                break;
            }
            sleep(Duration::from_micros(draws.random_range(0..think_ms * 1_000))).await;
        }
    }
    load.ended.set(load.ended.get() + 1);
}

/// Reads every key through one node, until each read has an answer.
pub async fn read_all(load: Rc<Load>, node: usize) {
    for request in all_reads() {
        loop {
            let connected = timeout(DIAL_PATIENCE, TcpStream::connect(SocketAddr::new(ip_of(node), PORT))).await;
            if let Ok(Ok(mut stream)) = connected
                && ask(&load, &mut stream, &load.sender(1_000, node), std::slice::from_ref(&request)).await
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
async fn ask(load: &Load, stream: &mut TcpStream, sender: &Sender, requests: &[Request]) -> bool {
    let mut out = Vec::new();
    requests.iter().flat_map(|request| &request.commands).for_each(|words| encode_command(&mut out, words));
    let began_us = os::now_us();
    let places: Vec<usize> = requests.iter().map(|request| load.note(sender, began_us, request)).collect();
    let talk = async {
        stream.write_all(&out).await.ok()?;
        let (mut decoder, mut buf) = (ReplyDecoder::default(), Vec::new());
        for (request, place) in requests.iter().zip(places) {
            let mut replies = Vec::new();
            while replies.len() < request.commands.len() {
                if let Some((value, len)) = decoder.decode(&buf).ok()? {
                    buf.drain(..len);
                    replies.push(value);
                } else if stream.read_buf(&mut buf).await.ok()? == 0 {
                    return None;
                }
            }
            load.answer(request, place, replies);
        }
        Some(())
    };
    matches!(timeout(PATIENCE, talk).await, Ok(Some(())))
}
