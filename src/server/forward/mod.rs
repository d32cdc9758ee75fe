//! Asking another node: requests whose key is coordinated over there, and parts of requests about the whole cluster.
//!
//! | file | what it is |
//! |---|---|
//! | `call` | a question on its way, and what becomes of it |
//! | `open` | the questions that are open, by their numbers |
//! | `wire` | questions and answers, as they travel |
//! | `seen` | what the asker has seen of its requests' keys |
//!
//! One link a worker and peer, kept open by a task of the worker. Questions are run over there in the order in which
//! they are asked, and answered each as soon as its own replies are known: an answer bears the number of its question
//! (`wire`). What becomes of each is in its `call`. Answers are not cut into pieces: a large one holds up the bytes of
//! those that are given behind it.

pub mod wire;
pub mod call;
mod open;
pub mod seen;

use std::cell::{Cell, RefCell};
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
use crate::server::forward::open::OpenCalls;
use crate::server::forward::wire::{QUESTION_BYTES_MAX, number_of};

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
    calls: RefCell<OpenCalls>,
    is_open: Cell<bool>,
    writer: Notify,
    epoch: Instant,
}

impl ForwardLink {
    /// A link that [`ForwardLink::keep`] has to keep open.
    pub fn new(peer: Arc<Peer>, epoch: Instant) -> ForwardLink {
        let (out, calls) = (RefCell::default(), RefCell::default());
        ForwardLink { peer, out, calls, is_open: Cell::new(false), writer: Notify::new(), epoch }
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
        self.calls.borrow_mut().push(call.clone());
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
                let lost = self.calls.take();
                note_end(&self.peer, format_args!("forward"), lost.len() as u64, &end);
                lost.iter().for_each(|call| call.complete(Outcome::Gone));
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
                _ = tick.tick(), if self.is_busy() || arrivals.has_ended => {
                    self.look_at_calls(&mut arrivals, buf.len(), Instant::now())
                }
            };
            if let Err(error) = step.and_then(|()| self.write(&writer).map(|left| more = left)) {
                return error;
            }
        }
    }

    /// Whether there is anything that may become overdue.
    fn is_busy(&self) -> bool {
        !self.calls.borrow().is_empty() || !self.out.borrow().is_empty()
    }

    /// Gives up what is overdue, now that `kept` bytes wait for the rest of their answer. Fails when the peer is gone,
    /// or has answered nothing for as long as anything may take.
    ///
    /// While long answers arrive, one that has been given may lie behind their bytes. What was open when a question was
    /// asked that has been answered since was not: so much of its time counts, lest answers that follow each other hide
    /// that it waits for something else.
    fn look_at_calls(&self, arrivals: &mut Arrivals, kept: usize, now: Instant) -> std::io::Result<()> {
        let (are_long, is_silent) = (arrivals.are_long(kept, now), arrivals.is_silent(now));
        let calls = self.calls.borrow();
        let Some(oldest) = calls.oldest() else { return Ok(()) };
        let is_gone = !self.peer.is_connected() && !self.peer.is_retired();
        // One that is open for so long while others are answered has been given up, and holds up nobody.
        if !are_long && (is_gone || is_silent && oldest.is_older(WHOLE_ANSWER_MS_MAX, now)) {
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "a question was not answered in time"));
        }
        let until = if are_long { calls.answered_up_to() } else { Some(now) };
        let is_stalled = !self.peer.is_usable() && !self.peer.is_retired();
        let at_work = self.peer.at_work();
        let is_overdue = |call: &&Rc<Call>| until.is_some_and(|until| call.is_overdue(is_stalled, at_work, until));
        calls.iter().filter(is_overdue).for_each(|call| call.complete(Outcome::Unknown));
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
            let numbered = number_of(answer).and_then(|(number, replies)| {
                let call = self.calls.borrow_mut().take(number)?;
                Some((call, replies))
            });
            let Some((call, replies)) = numbered else {
                return Err(std::io::Error::other("an answer to no question"));
            };
            call.complete(Outcome::Replied(replies.to_vec()));
            arrivals.note_answer(answer.len());
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
    /// Any has.
    has_come: bool,
    /// The first look after the last one came.
    heard: Option<Instant>,
    busy_until: Option<Instant>,
}

impl Arrivals {
    fn note_answer(&mut self, bytes: usize) {
        self.has_come = true;
        self.has_ended |= bytes >= LONG_ANSWER_BYTES;
    }

    /// Whether long answers are arriving, now that `kept` bytes wait for the rest of theirs. One that has become whole
    /// is followed by whatever was made meanwhile, which may take a moment.
    fn are_long(&mut self, kept: usize, now: Instant) -> bool {
        let has_grown = std::mem::replace(&mut self.kept, kept) < kept && kept >= LONG_ANSWER_BYTES;
        if std::mem::take(&mut self.has_ended) || has_grown {
            self.busy_until = Some(now + Duration::from_millis(GIVEN_UP_MS));
        }
        self.busy_until.is_some_and(|until| now < until)
    }

    /// Whether no answer has come for as long as anything may take.
    fn is_silent(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.has_come) {
            self.heard = Some(now);
        }
        self.heard.is_none_or(|heard| now.saturating_duration_since(heard) > Duration::from_millis(WHOLE_ANSWER_MS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::forward::call::AnswerPatience;

    /// A link that stands, and its peer.
    fn link() -> (ForwardLink, Arc<Peer>) {
        let [peer] = Peer::reached();
        let link = ForwardLink::new(peer.clone(), Instant::now());
        link.is_open.set(true);
        (link, peer)
    }

    fn ask(link: &ForwardLink, patience: AnswerPatience) -> Rc<Call> {
        link.ask(About { patience, ..About::default() }, |out| out.extend_from_slice(b"PING"))
    }

    /// Takes answers to these questions, each of which says its number, a byte for each answer that it says it is to.
    fn answer(link: &ForwardLink, arrivals: &mut Arrivals, numbers: &[u64]) -> std::io::Result<()> {
        let mut buf = Vec::new();
        for number in numbers {
            let at = framing::begin(&mut buf);
            put_u64(&mut buf, *number);
            buf.push(*number as u8);
            assert!(framing::end(&mut buf, at, usize::MAX));
        }
        link.take_answers(&mut buf, arrivals)
    }

    fn outcome(call: &Call) -> Outcome {
        call.poll(&std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn an_answer_finds_its_question_and_one_to_no_question_ends_the_link() {
        let (link, _peer) = link();
        let calls = [(); 4].map(|()| ask(&link, AnswerPatience::Ordinary));
        answer(&link, &mut Arrivals::default(), &[2, 0, 1]).expect("all of them were asked");
        let outcomes = calls.each_ref().map(|call| outcome(call));
        assert_eq!(outcomes[..3], [0, 1, 2].map(|number| Outcome::Replied(vec![number])));
        assert_eq!(outcomes[3], Outcome::Waiting);
        for number in [2, 1, 4, u64::MAX] {
            let refused = answer(&link, &mut Arrivals::default(), &[number]).map_err(|error| error.to_string());
            assert_eq!(refused, Err("an answer to no question".to_owned()), "{number}");
        }
        let mut cut = Vec::new();
        let at = framing::begin(&mut cut);
        cut.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0]);
        assert!(framing::end(&mut cut, at, 7));
        assert!(link.take_answers(&mut cut, &mut Arrivals::default()).is_err(), "without a whole number");
        assert_eq!(outcome(&calls[3]), Outcome::Waiting);
    }

    #[test]
    fn each_question_is_overdue_by_itself_and_the_link_only_when_it_is_silent() {
        let (link, _peer) = link();
        let (mut arrivals, began) = (Arrivals::default(), Instant::now());
        let look = |arrivals: &mut Arrivals, s: u64| link.look_at_calls(arrivals, 0, began + Duration::from_secs(s));
        let [patient, brief, answered] =
            [AnswerPatience::Whole, AnswerPatience::Brief, AnswerPatience::Brief].map(|patience| ask(&link, patience));
        answer(&link, &mut arrivals, &[2]).expect("it was asked");
        look(&mut arrivals, 2).expect("nothing is wrong with it");
        assert_eq!([&patient, &brief].map(|call| outcome(call)), [Outcome::Waiting, Outcome::Unknown]);
        assert_ne!(outcome(&answered), Outcome::Waiting);
        // Others are answered, while one is not for longer than anything may take.
        ask(&link, AnswerPatience::Brief);
        answer(&link, &mut arrivals, &[3]).expect("it was asked");
        look(&mut arrivals, 12).expect("it is at work");
        assert_eq!(outcome(&patient), Outcome::Unknown);
        answer(&link, &mut arrivals, &[1]).expect("given up, but asked");
        look(&mut arrivals, 13).expect("it is at work");
        assert!(look(&mut arrivals, 24).is_err(), "silent since, with one open that is as old");
    }

    #[test]
    fn long_answers_excuse_nobody_who_was_late_before_they_were_asked_for() {
        let (link, _peer) = link();
        let (mut arrivals, late) = (Arrivals::default(), Duration::from_secs(2));
        let [stuck, next] = [AnswerPatience::Brief; 2].map(|patience| ask(&link, patience));
        let look = |arrivals: &mut Arrivals| {
            arrivals.has_ended = true;
            link.look_at_calls(arrivals, 0, Instant::now() + late).expect("it is at work");
        };
        look(&mut arrivals);
        answer(&link, &mut arrivals, &[1]).expect("it was asked");
        look(&mut arrivals);
        assert_eq!(outcome(&stuck), Outcome::Waiting, "its answer may lie behind what arrives");
        assert_ne!(outcome(&next), Outcome::Waiting);
        // One is answered that was asked when the first was overdue.
        let asked_late = Call::new(About::default(), Instant::now() + late, 0);
        link.calls.borrow_mut().push(Rc::new(asked_late));
        answer(&link, &mut arrivals, &[2]).expect("it was asked");
        look(&mut arrivals);
        assert_eq!(outcome(&stuck), Outcome::Unknown);
    }

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
