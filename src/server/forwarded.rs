//! The other end of a forward link: questions of a peer's clients, run here, answered in order.
//!
//! A question is run as if its client were connected here, with the database and protocol that it names. It is refused
//! unrun when this node does not coordinate its key, or when it has lain about too long: the smallest delay between the
//! asker's clock and ours that was ever seen on the link is taken for the clocks' offset, and whatever exceeds it for
//! waiting time. So a node that was stopped does not run what its asker has given up on, whatever the clocks say.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::net::TcpStream;

use crate::base::wire::{Reader, put_u32};
use crate::server::batch::Batch;
use crate::server::clients::Client;
use crate::server::commands::connection::Session;
use crate::server::connection::{Consistency, command_limits, proto_of, quorum_of, wall_us};
use crate::server::dispatch::{Origin, Run, Step};
use crate::server::exec::cut;
use crate::server::forward::{STALE_MS_MAX, ask, status};
use crate::server::held::read_watched;
use crate::server::transaction::Transaction;
use crate::server::wait::scanned;
use crate::server::worker::Worker;

/// Most questions that may wait for replicas before the link stops reading.
const HELD_MAX: usize = 4_096;
/// Longest question, in bytes.
const QUESTION_BYTES_MAX: usize = 1 << 30;
const READ_BYTES: usize = 64 << 10;

/// See the head of the file.
pub struct Forwarded {
    worker: Rc<Worker>,
    client: Arc<Client>,
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    held: VecDeque<(Batch, u8)>,
    /// The smallest difference seen between our clock and the asker's, in milliseconds.
    offset_ms: i64,
}

struct Question<'a> {
    flags: u8,
    db: u8,
    sent_ms: u64,
    requests: &'a [u8],
}

impl Forwarded {
    /// A link whose handshake is done; `client` stands for the peer in CLIENT LIST's place.
    pub fn new(worker: Rc<Worker>, client: Arc<Client>, stream: TcpStream) -> Forwarded {
        let (input, output, held) = (Vec::new(), Vec::new(), VecDeque::new());
        Forwarded { worker, client, stream, input, output, held, offset_ms: i64::MAX }
    }

    /// Serves the peer until the link ends.
    pub async fn serve(mut self) -> std::io::Error {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Error> {
        loop {
            let mut progress = self.poll_held(cx);
            match self.write(cx) {
                Ok(wrote) => progress |= wrote,
                Err(error) => return Poll::Ready(error),
            }
            if self.held.len() < HELD_MAX && self.output.len() < QUESTION_BYTES_MAX / 16 {
                match self.read(cx) {
                    Ok(read) => progress |= read,
                    Err(error) => return Poll::Ready(error),
                }
            }
            if !progress {
                return Poll::Pending;
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        let mut wrote = false;
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(count) => {
                    self.output.drain(..count);
                    wrote = true;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.stream.poll_write_ready(cx)?.is_pending() {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(wrote)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        if self.stream.poll_read_ready(cx)?.is_pending() {
            return Ok(false);
        }
        self.input.reserve(READ_BYTES);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        let began = Instant::now();
        while let Some((question, len)) = next_question(input.get(at..).unwrap_or_default())? {
            self.take(&question, began);
            at += len;
        }
        self.input = input;
        self.input.drain(..at);
        self.worker.flush_lanes(&self.worker.shared.view.load());
        self.worker.count_lookups();
        Ok(true)
    }

    fn take(&mut self, question: &Question<'_>, began: Instant) {
        let not_run = self.is_late(question.sent_ms as i64) && question.flags & ask::LOCAL == 0;
        let mut batch = Batch::new(began);
        let not_run = not_run || !self.run(question, &mut batch);
        let status = if not_run { status::NOT_RUN } else { status::REPLY };
        self.held.push_back((batch, status));
    }

    /// Whether a question that was sent at this time by the asker's clock has waited for too long.
    fn is_late(&mut self, sent_ms: i64) -> bool {
        let difference_ms = self.worker.shared.epoch.elapsed().as_millis() as i64 - sent_ms;
        self.offset_ms = self.offset_ms.min(difference_ms);
        difference_ms - self.offset_ms > STALE_MS_MAX as i64
    }

    /// Runs a question; false when it is not for this node.
    fn run(&mut self, question: &Question<'_>, batch: &mut Batch) -> bool {
        let worker = self.worker.clone();
        let view = worker.shared.view.load();
        let settings = worker.shared.node.config.settings();
        let wish =
            Consistency { strict: (question.flags & ask::STRICT != 0).then_some(true), ..Consistency::default() };
        let mut session = Session::new(false, "");
        session.db = question.db;
        session.proto = proto_of(question.flags);
        let origin = match (question.flags & ask::LOCAL != 0, question.flags & ask::REST != 0) {
            (true, true) => Origin::PeerForRest,
            (true, false) => Origin::PeerForShare,
            (false, _) => Origin::Peer,
        };
        let mut run = Run {
            worker: &worker,
            view: &view,
            client: &self.client,
            session: &mut session,
            transaction: &mut Transaction::default(),
            batch,
            quorum: quorum_of(&settings, wish, &view),
            limits: command_limits(&settings),
            origin,
            now_us: wall_us(),
            not_run: false,
        };
        if question.flags & ask::WATCHED != 0 {
            let mut reader = Reader::new(question.requests);
            let Ok(watched) = read_watched(&mut reader, &worker.shared.node.store.actors) else { return false };
            return run.together_if_unchanged(&cut(reader.rest()), &watched);
        }
        if question.flags & ask::TOGETHER != 0 {
            return run.together_if_here(&cut(question.requests), &[]).is_some();
        }
        let Ok(scanner) = scanned(question.requests) else { return false };
        if question.flags & ask::HELD != 0 {
            return run.held(scanner.args(question.requests), question.flags & ask::LOCAL != 0);
        }
        let step = run.request(scanner.args(question.requests), question.requests);
        step == Step::Done && !run.not_run
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        let mut again = Vec::new();
        while let Some((batch, _)) = self.held.front_mut() {
            if !batch.poll(cx, &mut again) {
                // A contradicted read: the asker asks again, the repair is under way.
                if again.is_empty() {
                    break;
                }
            }
            let Some((batch, mut status)) = self.held.pop_front() else { break };
            if !again.is_empty() {
                status = status::NOT_RUN;
                again.clear();
            }
            let at = self.output.len();
            put_u32(&mut self.output, 0);
            self.output.push(status);
            if status == status::REPLY {
                batch.finish(&mut self.output);
            }
            let len = (self.output.len() - at - 4) as u32;
            if let Some(head) = self.output.get_mut(at..at + 4) {
                head.copy_from_slice(&len.to_le_bytes());
            }
            progress = true;
        }
        progress
    }
}

fn next_question(input: &[u8]) -> std::io::Result<Option<(Question<'_>, usize)>> {
    let malformed = || std::io::Error::new(std::io::ErrorKind::InvalidData, "a malformed question");
    let Some((head, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*head) as usize;
    if len > QUESTION_BYTES_MAX {
        return Err(malformed());
    }
    let Some(body) = rest.get(..len) else { return Ok(None) };
    let mut reader = Reader::new(body);
    let (flags, db, sent_ms) = (reader.u8(), reader.u8(), reader.u64());
    match (flags, db, sent_ms) {
        (Ok(flags), Ok(db), Ok(sent_ms)) => {
            Ok(Some((Question { flags, db, sent_ms, requests: reader.rest() }, 4 + len)))
        }
        _ => Err(malformed()),
    }
}
