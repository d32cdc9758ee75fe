//! Asking another node: requests whose key is coordinated over there, and parts of requests about the whole cluster.
//!
//! | file | what it is |
//! |---|---|
//! | `call` | a question on its way, and what becomes of it |
//! | `wire` | questions and answers, as they travel |
//! | `seen` | what the asker has seen of its requests' keys |
//!
//! One link a worker and peer, kept open by a task of the worker. Questions are answered in their order (`wire`); what
//! becomes of each is in its `call`.

pub mod wire;
pub mod call;
pub mod seen;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::base::framing;
use crate::base::net::{TcpStream, WriteHalf};
use crate::base::wire::put_u64;
use crate::peer::buffer::{SendBuffer, read_more, take_off};
use crate::peer::handshake::{Hello, LinkKind};
use crate::peer::link::{connect, note_end};
use crate::peer::registry::Peer;
use crate::server::forward::call::{About, Call, GIVEN_UP_MS, Outcome, WHOLE_ANSWER_MS_MAX};
use crate::server::forward::wire::QUESTION_BYTES_MAX;

/// Bytes of questions that wait to be sent above which there are to be no more.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// An answer of so many bytes may take longer to make and to arrive than others may have to wait.
const LONG_ANSWER_BYTES: usize = 256 << 10;
const RETRY: Duration = Duration::from_millis(20);
/// How often it is looked for questions that are overdue.
const TICK: Duration = Duration::from_millis(10);

/// A worker's link to one peer.
#[derive(Debug)]
pub struct ForwardLink {
    peer: Arc<Peer>,
    out: RefCell<SendBuffer>,
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
        let mut waiting = self.out.borrow_mut();
        if !self.is_open.get() || waiting.len() > WAITING_BYTES_MAX {
            return Call::not_run();
        }
        let out = waiting.bytes();
        let at = framing::begin(out);
        about.manner.put(about.is_fenced, out);
        let now = Instant::now();
        put_u64(out, now.duration_since(self.epoch).as_millis() as u64);
        put_u64(out, about.stamp.0);
        write(out);
        if !framing::end(out, at, QUESTION_BYTES_MAX) {
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
                note_end(&self.peer, format_args!("forward"), lost.len() as u64, &end);
                lost.into_iter().for_each(|call| call.complete(Outcome::Gone));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn converse(&self, stream: &mut TcpStream) -> std::io::Error {
        let (mut reader, writer) = stream.split();
        let mut buf = Vec::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut more, mut arrivals) = (false, Arrivals::default());
        loop {
            let step = tokio::select! {
                biased;
                read = read_more(&mut reader, &mut buf) => read.and_then(|()| self.take_answers(&mut buf, &mut arrivals)),
                ready = writer.writable(), if more => ready,
                () = self.writer.notified(), if !more => Ok(()),
                // While long answers arrive, nobody behind them is late.
                _ = tick.tick(), if self.is_busy() || arrivals.has_ended => match arrivals.are_long(buf.len(), Instant::now()) {
                    true => Ok(()),
                    false => self.check_overdue(),
                },
            };
            if let Err(error) = step.and_then(|()| self.write(&writer).map(|left| more = left)) {
                return error;
            }
        }
    }

    /// Whether there is anything that may become overdue.
    fn is_busy(&self) -> bool {
        !self.waiting.borrow().is_empty() || !self.out.borrow().is_empty()
    }

    /// Gives up what is overdue. Fails when the peer is gone, or has not answered for as long as anything may take.
    fn check_overdue(&self) -> std::io::Result<()> {
        let waiting = self.waiting.borrow();
        let Some(first) = waiting.front() else { return Ok(()) };
        let is_gone = !self.peer.is_connected() && !self.peer.is_retired();
        if is_gone || first.is_older(WHOLE_ANSWER_MS_MAX) {
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "a question was not answered in time"));
        }
        let is_stalled = !self.peer.is_usable() && !self.peer.is_retired();
        let at_work = self.peer.at_work();
        waiting
            .iter()
            .filter(|call| call.is_overdue(is_stalled, at_work))
            .for_each(|call| call.complete(Outcome::Unknown));
        Ok(())
    }

    fn write(&self, stream: &WriteHalf<'_>) -> std::io::Result<bool> {
        let mut out = self.out.borrow_mut();
        out.write_out(|bytes| stream.try_write(bytes))?;
        Ok(!out.is_empty())
    }

    fn take_answers(&self, buf: &mut Vec<u8>, arrivals: &mut Arrivals) -> std::io::Result<()> {
        let mut at = 0;
        while let Some((answer, _)) = buf.get(at..).and_then(framing::split) {
            let Some(call) = self.waiting.borrow_mut().pop_front() else {
                return Err(std::io::Error::other("an answer to no question"));
            };
            call.complete(Outcome::Replied(answer.to_vec()));
            arrivals.has_ended |= answer.len() >= LONG_ANSWER_BYTES;
            at += framing::LENGTH_BYTES + answer.len();
        }
        take_off(buf, at);
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
    /// Whether long answers are arriving, now that `kept` bytes wait for the rest of theirs. One that has become whole
    /// is followed by whatever was made meanwhile, which may take a moment.
    fn are_long(&mut self, kept: usize, now: Instant) -> bool {
        let has_grown = std::mem::replace(&mut self.kept, kept) < kept && kept >= LONG_ANSWER_BYTES;
        if std::mem::take(&mut self.has_ended) || has_grown {
            self.busy_until = Some(now + Duration::from_millis(GIVEN_UP_MS));
        }
        self.busy_until.is_some_and(|until| now < until)
    }
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
}
