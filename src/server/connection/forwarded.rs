//! The other end of a forward link: questions of a peer's clients, run here, answered in order.
//!
//! A question is run as if its client were connected here, with the database and protocol that it names: its requests
//! as one batch, or, if they belong together, as one transaction with one reply. A request is refused unrun when this
//! node does not coordinate its key, or when it has lain about too long (`ages`): so a node that was stopped does not
//! run what its asker has given up on, whatever the clocks say. Bytes that are no question of ours end the link, and
//! with it what else is asked on it: their sender cannot be relied on.
//!
//! What this end does not do: it forwards nothing further, and it answers no question out of turn.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::base::net::TcpStream;

use crate::base::clock::Hlc;
use crate::base::framing;
use crate::base::ids::NodeId;
use crate::base::version::{Actor, ActorTableFull};
use crate::base::wire::{Reader, WireError, put_u32};
use crate::commands::spec::{flag, slots_of};
use crate::peer::buffer::{SendBuffer, take_off};
use crate::peer::handshake::Hello;
use crate::peer::link::invalid;
use crate::protocol::{Limits, REPLY_BYTES_MAX, Scanner};
use crate::replication::routing::Quorum;
use crate::replication::view::View;
use crate::server::batch::Batch;
use crate::server::batch::ask::{Reading, Retry, of_requests};
use crate::server::batch::scanned::scanned;
use crate::server::batch::window::{Ending, REQUESTS_MAX};
use crate::server::connection::ages::Ages;
use crate::server::connection::input::poll_read;
use crate::server::connection::turn::Turn;
use crate::server::forward::seen::SeenList;
use crate::server::forward::wire::{
    AS_SEEN, Answered, Manner, NOT_RUN, QUESTION_BYTES_MAX, QuestionKind, REPLY_LENGTH_MAX,
};
use crate::server::request::run::{Origin, Run, Step};
use crate::server::session::transaction::Transaction;
use crate::server::session::watched::read_watched;
use crate::server::session::{Session, Talk};
use crate::server::share::copies;
use crate::server::share::flush::may_be_old;
use crate::server::state::client::Client;
use crate::server::transaction::queued::requests_of;
use crate::server::transaction::{NoReplies, Ran};
use crate::server::worker::Worker;

/// Most questions that may wait for replicas before the link stops reading.
const PEER_UNANSWERED_MAX: usize = 1_024;
/// Bytes of answers that wait to be written above which nothing more is read.
const PEER_OUTPUT_PAUSE_BYTES: usize = 64 << 20;
/// Bytes of replies to a question above which no more of its requests are run: its asker asks for the rest again. An
/// answer so stays well below what a frame can say, whatever one reply may come to.
const ANSWER_BYTES_MAX: usize = REPLY_BYTES_MAX / 2;

/// See the head of the file.
pub struct Forwarded {
    worker: Rc<Worker>,
    client: Arc<Client>,
    stream: TcpStream,
    /// The asker, and the name under which its writes are known here.
    peer: NodeId,
    actor: Actor,
    input: Vec<u8>,
    output: SendBuffer,
    unanswered: VecDeque<Unanswered>,
    ages: Ages,
    turn: Turn,
}

/// The replies to a question, and what they wait for.
struct Unanswered {
    batch: Box<Batch>,
    /// What came of each request; replies are stretches of the batch.
    replies: Vec<Answered>,
    quorum: Quorum,
    ran: Ran,
    /// Reads whose replicas took too long have been confirmed by others, or are about to be.
    is_confirmed_anew: bool,
}

struct PeerQuestion<'a> {
    manner: Manner,
    /// It may have run before.
    is_fenced: bool,
    sent_ms: u64,
    /// What was seen of the requests' keys; empty for nothing.
    seen: &'a [u8],
    stamp: Hlc,
    requests: &'a [u8],
    /// How long it is.
    bytes: usize,
}

impl Forwarded {
    /// A link of the peer that said `hello`; `client` stands for it in CLIENT LIST's place. Fails when no more nodes
    /// can be known.
    pub fn new(
        worker: Rc<Worker>,
        client: Arc<Client>,
        stream: TcpStream,
        hello: &Hello,
    ) -> Result<Forwarded, ActorTableFull> {
        let (peer, actor) = (hello.node, worker.shared.node.store.actors.intern(hello.actor())?);
        let (input, output, unanswered) = (Vec::new(), SendBuffer::default(), VecDeque::new());
        let (ages, turn) = (Ages::new(worker.shared.epoch), Turn::default());
        Ok(Forwarded { worker, client, stream, peer, actor, input, output, unanswered, ages, turn })
    }

    /// Serves the peer until the link ends.
    pub async fn serve(mut self) -> std::io::Error {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Error> {
        self.turn.begin();
        loop {
            if let Err(error) = self.poll_unanswered(cx).and_then(|()| self.write(cx)) {
                return Poll::Ready(error);
            }
            let may_read = self.unanswered.len() < PEER_UNANSWERED_MAX && self.output.len() < PEER_OUTPUT_PAUSE_BYTES;
            match may_read.then(|| self.read(cx)).transpose() {
                Ok(Some(true)) if self.turn.is_over() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(Some(true)) => {}
                Ok(_) => return Poll::Pending,
                Err(error) => return Poll::Ready(error),
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        loop {
            self.output.write_out(|bytes| self.stream.try_write(bytes))?;
            if self.output.is_empty() || self.stream.poll_write_ready(cx)?.is_pending() {
                return Ok(());
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        let worker = self.worker.clone();
        let mut shared = worker.input.borrow_mut();
        let Poll::Ready(count) = poll_read(&mut self.stream, cx, &mut shared)? else { return Ok(false) };
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.turn.note(count);
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(shared.get(..count).unwrap_or_default());
        drop(shared);
        let mut at = 0;
        let began = Instant::now();
        while let Some((question, len)) = next_question(input.get(at..).unwrap_or_default()).map_err(invalid)? {
            self.take(&question).map_err(invalid)?;
            at += len;
        }
        self.input = input;
        take_off(&mut self.input, at);
        self.worker.count_turn(began.elapsed());
        if self.ages.is_hopeless() {
            return Err(std::io::Error::other("every question has been late for long: the clocks must have drifted"));
        }
        Ok(true)
    }

    /// Runs a question. Where it turns out to be malformed, what has run of it before has run.
    fn take(&mut self, question: &PeerQuestion<'_>) -> Result<(), WireError> {
        let now = Instant::now();
        let Manner { kind, proto, db, wish } = question.manner;
        let ages = &mut self.ages;
        let mut batch = self.worker.batch(now);
        let mut replies = Vec::new();
        let worker = self.worker.clone();
        let view = worker.view(now);
        let session = Session { db, proto, ..Session::new(false, "") };
        let origin = match kind {
            QuestionKind::ShareRest => Origin::ShareRest,
            QuestionKind::Share | QuestionKind::OwnCopies => Origin::Share,
            QuestionKind::Each | QuestionKind::EachIfNotSeen | QuestionKind::IfUnchanged | QuestionKind::Copies => {
                Origin::Peer
            }
        };
        // Refused only if the asker's clock is far ahead, and then so is all that it writes.
        let _ = worker.shared.node.store.clock.observe(question.stamp, worker.shared.node.store.clock.now_ms());
        let mut talk = Talk { session, transaction: Transaction::default(), consistency: wish };
        let mut run = Run::new(&worker, &view, &self.client, &mut talk, &mut batch, origin);
        run.fence = question.is_fenced.then_some(question.stamp);
        if !may_be_old(kind, question.requests, run.quorum) {
            run.late_at = Some(ages.late_at(question.sent_ms, question.bytes, now));
        }
        let mut understood = Ok(());
        let ran = match kind {
            QuestionKind::Each | QuestionKind::EachIfNotSeen | QuestionKind::Share | QuestionKind::ShareRest => {
                let seen = SeenList::new(question.seen, view.place_of(self.peer), self.actor);
                understood = run_each(&mut run, question.requests, now, seen, &mut replies);
                Ran::Apart
            }
            QuestionKind::IfUnchanged | QuestionKind::Copies | QuestionKind::OwnCopies => {
                let has_run = if run.is_late(now) { None } else { run_as_one(&mut run, question)? };
                replies.push(if has_run.is_some() {
                    Answered::Reply(0..run.batch.out.len())
                } else {
                    Answered::NotRun
                });
                has_run.unwrap_or(Ran::Together)
            }
        };
        let quorum = run.quorum;
        worker.send_off(&view, &mut batch);
        self.unanswered.push_back(Unanswered { batch, replies, quorum, ran, is_confirmed_anew: false });
        understood
    }

    fn poll_unanswered(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        let mut retries = Vec::new();
        while let Some(first) = self.unanswered.front_mut() {
            if !first.batch.poll(cx, &mut retries) && retries.is_empty() {
                break;
            }
            let view = self.worker.shared.view.load();
            for of_request in of_requests(&mut retries) {
                first.confirm_or_give_up(of_request, &self.worker, &view);
            }
            retries.clear();
            first.is_confirmed_anew = true;
            if !first.batch.is_resolved() {
                self.worker.send_off(&view, &mut first.batch);
                continue;
            }
            let Some(mut first) = self.unanswered.pop_front() else { break };
            first.answer(self.output.bytes())?;
            self.worker.retire(first.batch);
        }
        Ok(())
    }
}

impl Unanswered {
    /// Has what a request has read confirmed by somebody else, once. A request that is contradicted, or that nobody
    /// confirms, the asker asks for again. It is refused where running it again would show a later write of its own
    /// client; where it belongs to a transaction that has written, which could only be asked for again as a whole, its
    /// outcome is unknown.
    fn confirm_or_give_up(&mut self, retries: &[Retry], worker: &Worker, view: &View) {
        let Some(Retry { reply, ask, .. }) = retries.first() else { return };
        let is_unconfirmed = retries.iter().all(Retry::is_unconfirmed);
        let mut confirm =
            |read: &Reading| worker.confirm_elsewhere(view, &mut self.batch, self.quorum, *reply, read.clone()).is_ok();
        if !self.is_confirmed_anew && is_unconfirmed && retries.iter().filter_map(Retry::reading).all(&mut confirm) {
            return;
        }
        let is_overtaken = |read| worker.is_read_overtaken(read, &self.batch, std::iter::empty());
        let would_show = || retries.iter().find_map(Retry::reading).is_some_and(is_overtaken);
        if self.ran == Ran::Together {
            return self.batch.leave_unknown(*reply);
        }
        if self.ran == Ran::Apart && would_show() {
            let refusal = worker.refusal(self.batch.kept(ask.request));
            return self.batch.patch(*reply, refusal.as_bytes());
        }
        let is_it = |it: &&mut Answered| matches!(it, Answered::Reply(at) if at.contains(&reply.span.from));
        if let Some(answered) = self.replies.iter_mut().find(is_it) {
            *answered = Answered::NotRun;
        }
    }

    /// Appends the answer. An error when it is longer than a frame can say: the asker then takes its outcome for
    /// unknown.
    fn answer(&mut self, to: &mut Vec<u8>) -> std::io::Result<()> {
        self.batch.sort_patches();
        let (at, mut fits) = (framing::begin(to), true);
        for answered in &self.replies {
            match answered {
                Answered::NotRun => put_u32(to, NOT_RUN),
                Answered::AsSeen => put_u32(to, AS_SEEN),
                Answered::Reply(place) => {
                    let at = framing::begin(to);
                    self.batch.write(place.clone(), to);
                    fits &= framing::end(to, at, REPLY_LENGTH_MAX);
                }
            }
        }
        match framing::end(to, at, REPLY_LENGTH_MAX) && fits {
            true => Ok(()),
            false => Err(std::io::Error::other("an answer is longer than a frame")),
        }
    }
}

/// Runs requests one after the other, and notes where their replies are. One that is not run keeps those behind it from
/// overtaking it. An error, with those before it run, where something is no whole request.
fn run_each(
    run: &mut Run<'_>,
    requests: &[u8],
    mut now: Instant,
    mut seen: SeenList<'_>,
    replies: &mut Vec<Answered>,
) -> Result<(), WireError> {
    let worker = run.worker;
    let mut window = worker.window.borrow_mut();
    let (mut scanner, mut rest) = (Scanner::new(), requests);
    let limits = Limits::judged();
    while !rest.is_empty() {
        let places = (&*worker.shared.node.store, &run.view.roles);
        let ending = window.fill(&mut scanner, rest, &limits, REQUESTS_MAX, places);
        // Asked anew for each window: the process may have been stopped in the middle.
        let is_late = run.is_late(now);
        let may_run = |run: &Run<'_>| !is_late && run.batch.out.len() < ANSWER_BYTES_MAX;
        worker.look_at_pulse(run.view, now);
        for (request, _) in window.requests(&scanner, rest) {
            let from = run.batch.out.len();
            let may_run = may_run(run);
            run.current.peer_seen = seen.next(&worker.shared.node.store.actors);
            let step = if may_run { run.request(&request) } else { Step::NotRun };
            if !step.has_run()
                && let Some((_, command)) = request.row
            {
                run.batch.order.divide();
                run.batch.order.leave_open(&slots_of(command, request.args), command.has(flag::WRITE));
            }
            replies.push(match step {
                Step::Done => Answered::Reply(from..run.batch.out.len()),
                Step::AsSeen => Answered::AsSeen,
                Step::NotRun | Step::Wait | Step::Behind | Step::Paused => Answered::NotRun,
            });
        }
        rest = rest.get(window.end()..).unwrap_or_default();
        now = Instant::now();
        if ending != Ending::Full && !rest.is_empty() {
            return Err(WireError);
        }
    }
    Ok(())
}

/// Runs what has one reply; `None` when it is not for this node. Nothing has run where it is malformed.
fn run_as_one(run: &mut Run<'_>, question: &PeerQuestion<'_>) -> Result<Option<Ran>, WireError> {
    if question.manner.kind != QuestionKind::IfUnchanged {
        return Ok(answer_copies(run, question)?.then_some(Ran::Apart));
    }
    let mut reader = Reader::new(question.requests);
    let watched = read_watched(&mut reader, &run.worker.shared.node.store.actors)?;
    let requests = requests_of(reader.rest());
    let bytes: usize = requests.iter().map(|request| request.bytes.len()).sum();
    if bytes != reader.rest().len() {
        return Err(WireError);
    }
    let tried = run.together_if_unchanged(&requests, &watched);
    Ok((tried != Err(NoReplies::NotRun)).then(|| Ran::as_one(&requests)))
}

/// Answers what this node holds of a request's keys; false when they are not for this node.
fn answer_copies(run: &mut Run<'_>, question: &PeerQuestion<'_>) -> Result<bool, WireError> {
    let scanner = scanned(question.requests).map_err(|_| WireError)?;
    let (store, args) = (&run.worker.shared.node.store, scanner.args(question.requests));
    let is_own = question.manner.kind == QuestionKind::OwnCopies;
    Ok(copies::answer(store, run.view, run.session.db, args, is_own, run.now_us / 1_000, &mut run.batch.out))
}

fn next_question(input: &[u8]) -> Result<Option<(PeerQuestion<'_>, usize)>, WireError> {
    let Some((body, len)) = framing::next(input, QUESTION_BYTES_MAX)? else { return Ok(None) };
    Ok(Some((read_question(&mut Reader::new(body))?, len)))
}

fn read_question<'a>(reader: &mut Reader<'a>) -> Result<PeerQuestion<'a>, WireError> {
    let (manner, is_fenced) = Manner::read(reader)?;
    let (sent_ms, stamp) = (reader.u64()?, Hlc(reader.u64()?));
    let seen_bytes = if manner.kind == QuestionKind::EachIfNotSeen { reader.u32()? as usize } else { 0 };
    let seen = reader.take(seen_bytes)?;
    let requests = reader.rest();
    Ok(PeerQuestion { manner, is_fenced, sent_ms, stamp, seen, requests, bytes: seen_bytes + requests.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::peer::handshake::LinkKind;
    use crate::replication::view::View;
    use crate::server::session::watched::put_watched;
    use crate::server::worker::tests::shared;

    /// A link from another node to one that is alone in its view, and so coordinates everything.
    async fn link() -> Forwarded {
        let worker = Rc::new(Worker::new(0, shared(1, View { is_solo: true, ..View::default() })));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("its address");
        let stream = TcpStream::connect(addr).await.expect("a connection");
        let node = NodeId::from_bytes([9; 20]);
        let hello = Hello { cluster: "c".into(), node, generation: 1, kind: LinkKind::Forward };
        let client = Arc::new(Client::new(1, addr, addr, 0));
        Forwarded::new(worker, client, stream, &hello).expect("room for another node")
    }

    fn question(kind: QuestionKind, requests: &[u8]) -> PeerQuestion<'_> {
        let manner = Manner { kind, ..Manner::default() };
        let (sent_ms, stamp, bytes) = (0, Hlc(0), requests.len());
        PeerQuestion { manner, is_fenced: false, sent_ms, seen: &[], stamp, requests, bytes }
    }

    #[tokio::test]
    async fn what_is_no_whole_question_is_refused() {
        const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
        const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let mut link = link().await;
        let mut nothing_watched = Vec::new();
        put_watched(&mut nothing_watched, &[], &link.worker.shared.node.store.actors);
        let transaction = [&nothing_watched[..], SET, GET].concat();
        for (kind, whole) in [
            (QuestionKind::Each, [SET, GET].concat()),
            (QuestionKind::IfUnchanged, transaction),
            (QuestionKind::OwnCopies, GET.to_vec()),
        ] {
            assert_eq!(link.take(&question(kind, &whole)), Ok(()), "{kind:?}");
            for cut in [whole.len() - 1, whole.len() - GET.len() + 1, 7] {
                assert_eq!(link.take(&question(kind, &whole[..cut])), Err(WireError), "{kind:?} cut at {cut}");
            }
        }
        assert_eq!(link.unanswered.front().map(|first| &first.batch.out[..]), Some(&b"+OK\r\n$1\r\nv\r\n"[..]));
    }
}
