//! The other end of a forward link: questions of a peer's clients, run here in order, answered when they are ready.
//!
//! A question is run as if its client were connected here, with the database and protocol that it names: its requests
//! as one batch, or, if they belong together, as one transaction with one reply. A request is refused unrun when this
//! node does not coordinate its key, or when it has lain about too long (`ages`): so a node that was stopped does not
//! run what its asker has given up on, whatever the clocks say. Bytes that are no question of ours end the link, and
//! with it what else is asked on it: their sender cannot be relied on.
//!
//! Nothing that has run is answered before its replies are known, and nothing waits for another's: `pending` keeps what
//! is not ready. That questions are run in the order in which they came is relied on (`server::batch::order`,
//! `server::request::own_copy`); in which order they are answered is not.
//!
//! What this end does not do: it forwards nothing further, and it cuts no answer into pieces. One of many megabytes
//! holds up the bytes of those that are ready behind it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::base::net::TcpStream;

use crate::base::clock::Hlc;
use crate::base::framing;
use crate::base::ids::NodeId;
use crate::base::version::{Actor, ActorTableFull};
use crate::base::wire::{Reader, WireError};
use crate::commands::spec::{flag, slots_of};
use crate::peer::buffer::{SendBuffer, take_off};
use crate::peer::handshake::Hello;
use crate::peer::link::invalid;
use crate::protocol::{Limits, REPLY_BYTES_MAX, Scanner};
use crate::server::batch::scanned::scanned;
use crate::server::batch::window::{Ending, REQUESTS_MAX};
use crate::server::connection::ages::Ages;
use crate::server::connection::input::poll_read;
use crate::server::connection::pending::Pending;
use crate::server::connection::turn::Turn;
use crate::server::connection::unanswered::Unanswered;
use crate::server::forward::seen::SeenList;
use crate::server::forward::wire::{Answered, Manner, QUESTION_BYTES_MAX, QuestionKind};
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
    /// How many questions have come.
    count: u64,
    pending: Pending,
    ages: Ages,
    turn: Turn,
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
        let (input, output, pending) = (Vec::new(), SendBuffer::default(), Pending::new(worker.clone()));
        let (ages, turn) = (Ages::new(worker.shared.epoch), Turn::default());
        Ok(Forwarded { worker, client, stream, peer, actor, input, output, count: 0, pending, ages, turn })
    }

    /// Serves the peer until the link ends.
    pub async fn serve(mut self) -> std::io::Error {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Error> {
        self.turn.begin();
        loop {
            if let Err(error) = self.poll_pending(cx).and_then(|()| self.write(cx)) {
                return Poll::Ready(error);
            }
            let may_read = !self.pending.is_full() && self.output.len() < PEER_OUTPUT_PAUSE_BYTES;
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

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        let (output, worker) = (&mut self.output, &self.worker);
        self.pending.poll(cx, |ready| ready.answer(output.bytes(), worker))
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
            self.take(&question)?;
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
    fn take(&mut self, question: &PeerQuestion<'_>) -> std::io::Result<()> {
        let now = Instant::now();
        let Manner { kind, proto, db, wish } = question.manner;
        let ages = &mut self.ages;
        let mut batch = self.worker.spares.batch(now);
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
                let has_run = if run.is_late(now) { None } else { run_as_one(&mut run, question).map_err(invalid)? };
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
        let question = Unanswered { number: self.count, batch, replies, quorum, ran, is_confirmed_anew: false };
        self.count += 1;
        match question.batch.is_resolved() {
            true => question.answer(self.output.bytes(), &worker)?,
            false => self.pending.add(question, now),
        }
        understood.map_err(invalid)
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
    use crate::server::forward::wire::{number_of, read_answer};
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
            assert!(link.take(&question(kind, &whole)).is_ok(), "{kind:?}");
            for cut in [whole.len() - 1, whole.len() - GET.len() + 1, 7] {
                let refused = link.take(&question(kind, &whole[..cut])).map_err(|error| error.kind());
                assert_eq!(refused, Err(std::io::ErrorKind::InvalidData), "{kind:?} cut at {cut}");
            }
        }
        let (first, _) = framing::split(link.output.bytes()).expect("an answer");
        let (number, replies) = number_of(first).expect("its number");
        let replies: Vec<Answered> = read_answer(replies).collect();
        assert_eq!((number, replies), (0, vec![Answered::Reply(4..9), Answered::Reply(13..20)]));
    }
}
