//! A batch: the replies to all requests of one read, and what they wait for.
//!
//! Commands write their replies one behind the other. Some replies depend on replicas ([`Wait`]) or come from another
//! node ([`Hole`]); then the whole batch is held, in the order of the connection, until all is known. A reply whose read
//! was contradicted is run again; one whose write can no longer be confirmed becomes an error. Nothing is sent before
//! that.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::protocol::Proto;
use crate::replication::coordinator::{Outcome, Waits};
use crate::server::forward::{Call, Fate};

/// What a client reads when a write reached its coordinator and may or may not have reached enough replicas.
pub const UNKNOWN_OUTCOME: &str =
    "TIMEOUT the write's outcome is unknown: connections to too many replicas broke before they confirmed it";

/// How long a write whose connections broke waits for a lost replica to be handed what it missed.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
const CATCH_UP_LOOK: Duration = Duration::from_millis(5);

/// A stretch of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span {
    /// First byte.
    pub from: u32,
    /// Behind the last byte.
    pub to: u32,
}

/// What a request was sent with, to be able to run it again.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Where its bytes are in [`Batch::requests`].
    pub request: Span,
    /// Its database.
    pub db: u8,
    /// The protocol of its reply.
    pub proto: Proto,
}

/// A reply that replicas have to confirm.
#[derive(Debug)]
pub struct Pending {
    /// Where the reply is.
    pub reply: Place,
    /// The place in `waits` that it depends on.
    pub wait: usize,
    /// For a read: the number of its verify, and how to run it again.
    pub read: Option<(u64, Ask)>,
}

/// A reply's place in the batch: stays the same however often it is asked for again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The stretch of `out` that it takes the place of; empty when another node gives it.
    pub span: Span,
    /// Tells replies apart that belong to the same empty stretch, in the order of their requests.
    pub number: u32,
}

/// A reply that another node will give.
#[derive(Debug)]
pub struct Hole {
    /// Where it belongs.
    pub reply: Place,
    /// The question.
    pub call: Rc<Call>,
    /// How to ask again.
    pub ask: Ask,
    /// Whether asking twice does no harm.
    pub is_idempotent: bool,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Batch {
    /// Replies.
    pub out: Vec<u8>,
    /// What they wait for.
    pub waits: Waits,
    /// Replies that depend on `waits`.
    pub pending: Vec<Pending>,
    /// Replies to come from elsewhere.
    pub holes: Vec<Hole>,
    /// Bytes of requests that may have to be run again.
    pub requests: Vec<u8>,
    /// Replacements for stretches of `out`.
    patches: BTreeMap<Place, Vec<u8>>,
    places: u32,
    /// When the batch's bytes were read.
    pub started: Instant,
    /// Commands by latency class.
    pub answered: [u64; 3],
}

/// What is to be run again.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// Where the reply belongs.
    pub reply: Place,
    /// The request.
    pub ask: Ask,
}

impl Batch {
    /// An empty batch that starts now.
    pub fn new(started: Instant) -> Batch {
        Batch {
            out: Vec::new(),
            waits: Waits::new(),
            pending: Vec::new(),
            holes: Vec::new(),
            requests: Vec::new(),
            patches: BTreeMap::new(),
            places: 0,
            started,
            answered: [0; 3],
        }
    }

    /// True when the replies may go out as they are.
    pub fn is_settled(&self) -> bool {
        self.waits.is_empty() && self.holes.is_empty()
    }

    /// Keeps a request's bytes in case it has to be run again.
    pub fn keep(&mut self, request: &[u8], db: u8, proto: Proto) -> Ask {
        let from = self.requests.len() as u32;
        self.requests.extend_from_slice(request);
        Ask { request: Span { from, to: self.requests.len() as u32 }, db, proto }
    }

    /// A place for the reply that begins at `from` and ends at the end of what is written.
    pub fn place(&mut self, from: usize) -> Place {
        self.places += 1;
        Place { span: Span { from: from as u32, to: self.out.len() as u32 }, number: self.places }
    }

    /// Leaves a hole for a request that nobody has run, so that it will be asked for again.
    pub fn ask_again(&mut self, request: &[u8], db: u8, proto: Proto) {
        let reply = self.place(self.out.len());
        let ask = self.keep(request, db, proto);
        self.holes.push(Hole { reply, call: Call::not_run(), ask, is_idempotent: true });
    }

    /// Replaces a reply.
    pub fn patch(&mut self, reply: Place, bytes: Vec<u8>) {
        self.patches.insert(reply, bytes);
    }

    /// Takes back what the last request has written from `from` on, and what it waits for.
    pub fn forget_from(&mut self, from: usize) {
        self.out.truncate(from);
        self.pending
            .retain(|pending| pending.reply.span.from as usize != from || pending.reply.span.to as usize <= from);
    }

    /// Takes back the replies from `from` on: their client does not want them. What was done stays done.
    pub fn silence(&mut self, from: usize) {
        self.out.truncate(from);
        let is_before = |place: &Place| (place.span.to as usize) <= from && place.span.from as usize != from;
        self.pending.retain(|pending| is_before(&pending.reply));
        self.holes.retain(|hole| is_before(&hole.reply));
    }

    /// Looks at what the batch waits for: true when all is known. What has to be run again is given to `again`; then the
    /// batch waits for that too. Otherwise `cx` will be woken when there is more to see.
    pub fn poll(&mut self, cx: &Context<'_>, again: &mut Vec<Again>) -> bool {
        let mut settled = self.poll_holes(cx, again);
        for wait in &self.waits {
            match wait.outcome() {
                Outcome::Pending => {
                    wait.register(cx.waker());
                    settled = false;
                }
                Outcome::Broken if wait.is_write() && self.started.elapsed() < CATCH_UP_MAX => {
                    wake_later(cx.waker().clone());
                    settled = false;
                }
                Outcome::Broken | Outcome::Met => {}
            }
        }
        if settled && again.is_empty() {
            self.settle_pending(again);
        }
        settled && again.is_empty()
    }

    fn poll_holes(&mut self, cx: &Context<'_>, again: &mut Vec<Again>) -> bool {
        let mut settled = true;
        let mut filled = Vec::new();
        self.holes.retain(|hole| {
            let reply = hole.reply;
            match hole.call.poll(cx) {
                Fate::Waiting => {
                    settled = false;
                    return true;
                }
                Fate::Replied(bytes) => filled.push((reply, bytes)),
                Fate::NotRun => again.push(Again { reply, ask: hole.ask }),
                Fate::Unknown if hole.is_idempotent => again.push(Again { reply, ask: hole.ask }),
                Fate::Unknown => filled.push((reply, format!("-{UNKNOWN_OUTCOME}\r\n").into_bytes())),
            }
            false
        });
        self.patches.extend(filled);
        settled
    }

    /// All waits are over: turns what they mean into replies.
    fn settle_pending(&mut self, again: &mut Vec<Again>) {
        let waits = std::mem::take(&mut self.waits);
        let unknown = |place: usize| waits.get(place).is_some_and(|wait| wait.outcome() == Outcome::Broken);
        let any_unknown = waits.iter().any(|wait| wait.outcome() == Outcome::Broken);
        for pending in std::mem::take(&mut self.pending) {
            match pending.read {
                Some((number, ask)) => {
                    let wait = waits.get(pending.wait);
                    if wait.is_some_and(|wait| wait.was_contradicted(number)) || any_unknown && unknown(pending.wait) {
                        again.push(Again { reply: pending.reply, ask });
                    }
                }
                None if any_unknown && unknown(pending.wait) => {
                    self.patches.insert(pending.reply, format!("-{UNKNOWN_OUTCOME}\r\n").into_bytes());
                }
                None => {}
            }
        }
    }

    /// Appends the replies with everything put in its place.
    pub fn finish(self, to: &mut Vec<u8>) {
        let mut at = 0;
        for (place, bytes) in &self.patches {
            to.extend_from_slice(self.out.get(at..place.span.from as usize).unwrap_or_default());
            to.extend_from_slice(bytes);
            at = place.span.to as usize;
        }
        to.extend_from_slice(self.out.get(at..).unwrap_or_default());
    }

    /// Takes over what a request that was run again waits for, as the reply at `reply`.
    pub fn adopt(&mut self, reply: Place, mut again: Batch) {
        let (base, kept) = (self.waits.len(), self.requests.len() as u32);
        let moved = |ask: Ask| {
            let Span { from, to } = ask.request;
            Ask { request: Span { from: from + kept, to: to + kept }, ..ask }
        };
        self.requests.append(&mut again.requests);
        self.waits.append(&mut again.waits);
        for pending in again.pending {
            let read = pending.read.map(|(number, ask)| (number, moved(ask)));
            self.pending.push(Pending { reply, wait: pending.wait + base, read });
        }
        if again.holes.is_empty() {
            self.patches.insert(reply, again.out);
        }
        self.holes.extend(again.holes.into_iter().map(|hole| Hole { reply, ask: moved(hole.ask), ..hole }));
    }
}

/// Nobody tells when a peer has caught up: looks again in a moment.
fn wake_later(waker: Waker) {
    tokio::task::spawn_local(async move {
        tokio::time::sleep(CATCH_UP_LOOK).await;
        waker.wake();
    });
}
