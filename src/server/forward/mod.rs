//! Asking another node: requests whose key is coordinated over there, and parts of requests about the whole cluster.
//!
//! One link a worker and peer. A question is a frame: `[length u32][flags u8][db u8][consistency 3 bytes][sent u64][stamp u64]
//! [requests in RESP]`: all requests of a client's batch for that peer; with [`ask::SEEN`], what was seen of their keys
//! stands before them (`own_copy`). An answer is a frame too, in the order of the questions: `[length u32]`
//! and for each request `[length u32][reply in RESP]`, the length [`NOT_RUN`] for one that was not run, and [`AS_SEEN`] for
//! one whose asker has seen what there is to see. `sent` is the
//! asker's monotonic clock: the other side refuses what lay about for longer than [`STALE_MS_MAX`], so that it cannot run
//! what its asker has given up on meanwhile. `stamp` is the asker's hybrid logical clock: what the other side writes for the
//! question is later.
//!
//! A question that was not run may be asked again. One whose link broke after it was sent has an unknown fate, and so has
//! one that was given up: a peer that is stalled is not waited for if asking elsewhere does no harm, and nothing is
//! waited for beyond its deadline. Answers to questions that were given up are dropped. What may have run is asked again
//! only with [`ask::SINCE`], which keeps it from being done twice (`commands::repeat`).

pub mod seen;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::base::net::{TcpStream, WriteHalf};
use tokio::sync::Notify;

use crate::base::clock::Hlc;
use crate::base::wire::{put_u32, put_u64};
use crate::peer::handshake::{Hello, LinkKind};
use crate::peer::link::{Outbox, connect, read_more, transfer_ms};
use crate::peer::registry::Peer;
use crate::protocol::Proto;
use crate::server::session::settings::Consistency;

/// How old a question may be when it is run, in milliseconds.
pub const STALE_MS_MAX: u64 = 110;
/// How old a question to a stalled peer must be to be asked elsewhere: too old to be run there by now. Otherwise a SET
/// might be run there last of all, after others that its client has sent since.
const GIVEN_UP_MS: u64 = STALE_MS_MAX + 40;
/// How long an ordinary question may take, in milliseconds: the other side may itself be waiting for a replica that
/// has just stopped. That it stopped itself is noticed sooner, on its lanes.
const ANSWER_MS_MAX: u64 = 700;
/// How long to wait for a stalled peer where asking again could do harm, in milliseconds: it may only be starved for a moment.
const STALLED_MS_MAX: u64 = 450;
/// How long a question about a whole node may take, in milliseconds.
const PATIENCE_MS_MAX: u64 = 10_000;
/// Longest question, in bytes.
pub const QUESTION_BYTES_MAX: usize = 1 << 30;
/// Bytes of questions that wait to be sent above which there are to be no more.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// An answer of so many bytes may take longer to make and to arrive than others may have to wait.
const LONG_ANSWER_BYTES: usize = 256 << 10;
const RETRY: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(20);

/// Flags of a question.
pub mod ask {
    /// The reply is RESP3.
    pub const RESP3: u8 = 1;
    /// Run it here for what this node holds or coordinates, whatever the ring says: a part of a larger question.
    pub const LOCAL: u8 = 2;
    /// The requests are one transaction: run them together, one reply behind the other.
    pub const TOGETHER: u8 = 4;
    /// With LOCAL: the second round of flushing, about all that this node still holds.
    pub const REST: u8 = 8;
    /// What this node holds of the request's keys (see `held`).
    pub const HELD: u8 = 16;
    /// With TOGETHER: watched keys stand before the requests, and the answer begins with 1, or is 0 when one has changed.
    pub const WATCHED: u8 = 32;
    /// It may have run before: it is to run only if its keys have not been written since its stamp.
    pub const SINCE: u8 = 64;
    /// What the asker has seen of the requests' keys stands before them.
    pub const SEEN: u8 = 128;
}

/// How a question is to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// [`ask`] bits.
    pub flags: u8,
    /// The database.
    pub db: u8,
    /// What its connection asked for.
    pub wish: Consistency,
}

impl Manner {
    /// The protocol of the reply.
    pub fn proto(&self) -> Proto {
        if self.flags & ask::RESP3 != 0 { Proto::Resp3 } else { Proto::Resp2 }
    }
}

/// In the place of a reply's length: not run, because this node does not coordinate the key, or the question came too
/// late.
pub const NOT_RUN: u32 = u32::MAX;

/// In the place of a reply's length: the reply is what follows from what the asker has seen of the key.
pub const AS_SEEN: u32 = u32::MAX - 1;

/// What came of one request of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// It ran; where its reply is.
    Reply(Range<usize>),
    /// [`AS_SEEN`].
    AsSeen,
    /// [`NOT_RUN`].
    NotRun,
}

/// The parts of an answer; replies are stretches of it. Ends early when the answer is malformed.
pub fn parts(answer: &[u8]) -> impl Iterator<Item = Part> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (head, rest) = answer.get(at..)?.split_first_chunk::<4>()?;
        at += 4;
        let len = u32::from_le_bytes(*head);
        match len {
            NOT_RUN => return Some(Part::NotRun),
            AS_SEEN => return Some(Part::AsSeen),
            _ => {}
        }
        let part = at..at + rest.get(..len as usize)?.len();
        at = part.end;
        Some(Part::Reply(part))
    })
}

/// An answer of one reply.
pub fn answer_of(reply: &[u8]) -> Vec<u8> {
    let mut answer = Vec::with_capacity(4 + reply.len());
    put_u32(&mut answer, 0);
    answer.extend_from_slice(reply);
    if !set_length(&mut answer, 0) {
        return NOT_RUN.to_le_bytes().to_vec();
    }
    answer
}

/// What became of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// No answer yet.
    Waiting,
    /// The reply; of [`Call::poll`] the whole answer, see [`parts`].
    Replied(Vec<u8>),
    /// It was not run: it may be asked again, here or elsewhere.
    NotRun,
    /// The link broke: it may have been run.
    Unknown,
}

/// How a question is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct About {
    /// How it is to be run.
    pub manner: Manner,
    /// The asker's clock; with [`ask::SINCE`] as it was when it was first asked.
    pub stamp: Hlc,
    /// Whether all of it may be asked again while it may still run.
    pub is_repeatable: bool,
}

/// A question on its way.
#[derive(Debug)]
pub struct Call {
    fate: RefCell<Fate>,
    waker: RefCell<Option<Waker>>,
    /// The stamp that it was first asked with.
    pub asked_at: Hlc,
    sent_at: Instant,
    /// What it may take longer for its bytes to arrive.
    transfer_ms: u64,
    is_repeatable: bool,
    is_patient: bool,
    is_settled: Cell<bool>,
}

impl Call {
    fn new(about: About, sent_at: Instant, bytes: usize) -> Call {
        let About { manner, stamp: asked_at, is_repeatable } = about;
        Call {
            fate: RefCell::new(Fate::Waiting),
            waker: RefCell::default(),
            asked_at,
            sent_at,
            transfer_ms: transfer_ms(bytes),
            is_repeatable,
            is_patient: manner.flags & (ask::LOCAL | ask::TOGETHER) != 0,
            is_settled: Cell::new(false),
        }
    }

    /// A question that nobody could be asked.
    pub fn not_run() -> Rc<Call> {
        let call = Call::new(About::default(), Instant::now(), 0);
        call.fate.replace(Fate::NotRun);
        Rc::new(call)
    }

    /// A question that something on this node will answer with [`Call::settle`].
    pub fn of_our_own() -> Rc<Call> {
        Rc::new(Call::new(About::default(), Instant::now(), 0))
    }

    /// Takes the answer, to be cut into [`parts`]; `cx` is woken when there is one.
    pub fn poll(&self, cx: &Context<'_>) -> Fate {
        let mut fate = self.fate.borrow_mut();
        if *fate == Fate::Waiting {
            self.waker.replace(Some(cx.waker().clone()));
            return Fate::Waiting;
        }
        std::mem::replace(&mut *fate, Fate::NotRun)
    }

    /// Waits for the reply to a question of one request.
    pub async fn answer(&self) -> Fate {
        let fate = std::future::poll_fn(|cx| match self.poll(cx) {
            Fate::Waiting => std::task::Poll::Pending,
            fate => std::task::Poll::Ready(fate),
        });
        match fate.await {
            Fate::Replied(answer) => match parts(&answer).next() {
                Some(Part::Reply(part)) => Fate::Replied(answer.get(part).unwrap_or_default().to_vec()),
                _ => Fate::NotRun,
            },
            fate => fate,
        }
    }

    /// Notes the answer, unless the question was given up.
    pub fn settle(&self, fate: Fate) {
        if self.is_settled.replace(true) {
            return;
        }
        self.fate.replace(fate);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether to wait no longer.
    fn is_overdue(&self, is_stalled: bool) -> bool {
        let limit_ms = match is_stalled {
            true if self.is_repeatable => GIVEN_UP_MS,
            true => STALLED_MS_MAX,
            false if self.is_patient => PATIENCE_MS_MAX,
            false => ANSWER_MS_MAX,
        };
        self.is_older(limit_ms)
    }

    fn is_older(&self, limit_ms: u64) -> bool {
        self.sent_at.elapsed() > Duration::from_millis(limit_ms + self.transfer_ms)
    }
}

/// A worker's link to one peer.
#[derive(Debug)]
pub struct ForwardLink {
    peer: Arc<Peer>,
    out: RefCell<Outbox>,
    waiting: RefCell<VecDeque<Rc<Call>>>,
    is_open: Cell<bool>,
    writer: Notify,
    epoch: Instant,
}

impl ForwardLink {
    /// A link that [`ForwardLink::keep`] has to keep open.
    pub fn new(peer: Arc<Peer>, epoch: Instant) -> ForwardLink {
        let (out, waiting) = (RefCell::default(), RefCell::default());
        ForwardLink { peer, out, waiting, is_open: Cell::new(false), writer: Notify::new(), epoch }
    }

    /// True when the link goes to this very peer, not to an earlier address of it.
    pub fn is_to(&self, peer: &Arc<Peer>) -> bool {
        Arc::ptr_eq(&self.peer, peer)
    }

    /// Asks what `write` appends, in RESP; the question leaves when the worker has run everybody who can run.
    pub fn ask(&self, about: About, mut write: impl FnMut(&mut Vec<u8>)) -> Rc<Call> {
        let mut outbox = self.out.borrow_mut();
        if !self.is_open.get() || outbox.len() > WAITING_BYTES_MAX {
            return Call::not_run();
        }
        let out = outbox.bytes();
        let at = out.len();
        put_u32(out, 0);
        out.extend_from_slice(&[about.manner.flags, about.manner.db]);
        about.manner.wish.put(out);
        let now = Instant::now();
        put_u64(out, now.duration_since(self.epoch).as_millis() as u64);
        put_u64(out, about.stamp.0);
        write(out);
        if out.len() - at > QUESTION_BYTES_MAX || !set_length(out, at) {
            // The other end would take it for nonsense and close the link on everybody.
            out.truncate(at);
            return Call::not_run();
        }
        let call = Rc::new(Call::new(about, now, out.len() - at));
        self.waiting.borrow_mut().push_back(call.clone());
        self.writer.notify_one();
        call
    }

    /// Keeps the link connected until the peer is retired. One that leaves answers what it was asked before it goes.
    pub async fn keep(self: Rc<Self>, ours: Hello, secret: Arc<[u8]>) {
        let hello = Hello { kind: LinkKind::Forward, ..ours };
        while !self.peer.is_retired() {
            if let Ok(Ok((mut stream, _))) =
                tokio::time::timeout(Duration::from_secs(1), connect(&self.peer, &hello, &secret)).await
            {
                self.is_open.set(true);
                let end = self.converse(&mut stream).await;
                self.is_open.set(false);
                self.out.borrow_mut().clear();
                let lost = std::mem::take(&mut *self.waiting.borrow_mut());
                tracing::info!(peer = %self.peer.addr, lost = lost.len(), reason = %end, "forward link closed");
                lost.into_iter().for_each(|call| call.settle(Fate::Unknown));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn converse(&self, stream: &mut TcpStream) -> std::io::Error {
        let (mut reader, writer) = stream.split();
        let mut buf = Vec::new();
        let mut tick = tokio::time::interval(TICK);
        let (mut more, mut arrivals) = (false, Arrivals::default());
        loop {
            let step = tokio::select! {
                biased;
                read = read_more(&mut reader, &mut buf) => read.and_then(|()| self.take_answers(&mut buf, &mut arrivals)),
                ready = writer.writable(), if more => ready,
                () = self.writer.notified(), if !more => Ok(()),
                // While long answers arrive, nobody behind them is late.
                _ = tick.tick() => match arrivals.are_long(buf.len(), Instant::now()) {
                    true => Ok(()),
                    false => self.check_overdue(),
                },
            };
            if let Err(error) = step.and_then(|()| self.write(&writer).map(|left| more = left)) {
                return error;
            }
        }
    }

    /// Gives up what is overdue. Fails when the peer is gone, or has not answered for as long as anything may take.
    fn check_overdue(&self) -> std::io::Result<()> {
        let waiting = self.waiting.borrow();
        let Some(first) = waiting.front() else { return Ok(()) };
        let is_gone = !self.peer.is_connected() && !self.peer.is_retired();
        if is_gone || first.is_older(PATIENCE_MS_MAX) {
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "a question was not answered in time"));
        }
        let is_stalled = !self.peer.is_usable() && !self.peer.is_retired();
        waiting.iter().filter(|call| call.is_overdue(is_stalled)).for_each(|call| call.settle(Fate::Unknown));
        Ok(())
    }

    fn write(&self, stream: &WriteHalf<'_>) -> std::io::Result<bool> {
        let mut out = self.out.borrow_mut();
        out.write_out(|bytes| stream.try_write(bytes))?;
        Ok(!out.is_empty())
    }

    fn take_answers(&self, buf: &mut Vec<u8>, arrivals: &mut Arrivals) -> std::io::Result<()> {
        let mut at = 0;
        while let Some((head, rest)) = buf.get(at..).and_then(|rest| rest.split_first_chunk::<4>()) {
            let len = u32::from_le_bytes(*head) as usize;
            let Some(answer) = rest.get(..len) else { break };
            let Some(call) = self.waiting.borrow_mut().pop_front() else {
                return Err(std::io::Error::other("an answer to no question"));
            };
            call.settle(Fate::Replied(answer.to_vec()));
            arrivals.has_ended |= len >= LONG_ANSWER_BYTES;
            at += 4 + len;
        }
        buf.drain(..at);
        Ok(())
    }
}

/// Tells a link on which long answers arrive from one that is silent.
#[derive(Debug, Default)]
struct Arrivals {
    /// How much of an answer there was at the last look.
    kept: usize,
    /// A long answer has become whole since.
    has_ended: bool,
    busy_until: Option<Instant>,
}

impl Arrivals {
    /// Whether long answers are arriving, now that `kept` bytes wait for the rest of theirs. One that has become whole is followed
    /// by whatever was made meanwhile, which may take a moment.
    fn are_long(&mut self, kept: usize, now: Instant) -> bool {
        let has_grown = std::mem::replace(&mut self.kept, kept) < kept && kept >= LONG_ANSWER_BYTES;
        if std::mem::take(&mut self.has_ended) || has_grown {
            self.busy_until = Some(now + Duration::from_millis(GIVEN_UP_MS));
        }
        self.busy_until.is_some_and(|until| now < until)
    }
}

/// Writes the length of what follows the four bytes at `at` into them; false when it is more than they can say.
#[must_use]
pub fn set_length(out: &mut [u8], at: usize) -> bool {
    let len = out.len().checked_sub(at + 4).and_then(length_of);
    let (Some(len), Some(head)) = (len, out.get_mut(at..at + 4)) else { return false };
    head.copy_from_slice(&len.to_le_bytes());
    true
}

/// What four bytes say of so many; `None` for more than they can say, which never stands for fewer.
fn length_of(len: usize) -> Option<u32> {
    u32::try_from(len).ok().filter(|len| *len < AS_SEEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_late_while_long_answers_arrive_and_a_moment_after_each() {
        let (began, mut arrivals, long) = (Instant::now(), Arrivals::default(), LONG_ANSWER_BYTES);
        let at = |ms| began + Duration::from_millis(ms);
        assert!(!arrivals.are_long(0, at(0)) && !arrivals.are_long(1_000, at(20)), "short ones are answered at once");
        assert!(arrivals.are_long(long, at(40)) && arrivals.are_long(2 * long, at(60)));
        // It is whole, and of the next one less is there than there was of it.
        arrivals.has_ended = true;
        assert!(arrivals.are_long(7, at(80)) && arrivals.are_long(7, at(80 + GIVEN_UP_MS - 1)));
        assert!(!arrivals.are_long(7, at(80 + GIVEN_UP_MS)), "it has fallen silent");
    }

    #[test]
    fn a_length_is_what_it_says_or_refused() {
        let most = AS_SEEN as usize - 1;
        assert_eq!((length_of(0), length_of(most)), (Some(0), Some(AS_SEEN - 1)));
        for len in [AS_SEEN as usize, NOT_RUN as usize, 1 << 32, (1 << 32) + 7, usize::MAX] {
            assert_eq!(length_of(len), None, "{len}");
        }
        let mut out = b"xx\0\0\0\0abc".to_vec();
        assert!(set_length(&mut out, 2) && out == b"xx\x03\0\0\0abc" && !set_length(&mut out[..6], 3));
    }
}
