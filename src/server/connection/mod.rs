//! A connection: bytes in, batches, bytes out, one future that never blocks its worker.
//!
//! | file | what it is |
//! |---|---|
//! | `input` | what a client sends: read, cut into requests, run as batches |
//! | `turn` | how much a connection does before others have their turn |
//! | `forwarded` | the other end of a forward link: questions of a peer's clients |
//! | `ages` | how old questions of another node are |
//! | `unanswered`, `pending` | those that have run, and those of them that wait |
//!
//! Everything that one read brings is run at once; replies that replicas have to confirm wait in order, those of up to
//! [`UNANSWERED_MAX`] batches, and the connection reads on meanwhile. A request that must wait in the middle is run
//! alone, when all before it is answered, and nothing behind it starts before it ends.
//!
//! A client that sends without end has others of its worker wait for no longer than one read takes to run (`turn`).
//!
//! What a client can make grow is bounded: unread replies by [`OUTPUT_PAUSE_BYTES`], at which nothing more is run until
//! they are sent, and by `client-output-buffer-limit`; the request by the scanner's limits, batches by
//! [`UNANSWERED_MAX`] and by what one read brings (`input`). Other nodes are asked for no more at a time than would be
//! [`FORWARDED_BYTES_MAX`] if all replies were as large as the largest of late; only a connection's first large ones
//! can take it beyond that.

mod ages;
mod input;
mod turn;
mod unanswered;
mod pending;
pub mod forwarded;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::base::clock::wall_us;
use crate::base::metrics::Count;
use crate::base::net::TcpStream;
use crate::protocol::Scanner;
use crate::server::batch::Batch;
use crate::server::batch::ask::Retry;
use crate::server::connection::turn::Turn;
use crate::server::job::retry::{Retrier, retry_pause};
use crate::server::job::{self, Waiting};
use crate::server::pubsub::mailbox::Delivery;
use crate::server::session::settings::{Consistency, output_bytes_max};
use crate::server::session::transaction::Transaction;
use crate::server::session::{Session, Talk};
use crate::server::state::client::{Client, state};
use crate::server::transaction::Ran;
use crate::server::worker::Worker;

/// Most batches that may wait for replicas before the connection stops reading.
const UNANSWERED_MAX: usize = 16;
/// Replies unsent above which the connection stops reading and running: many large values may be asked for in few
/// bytes.
pub(super) const OUTPUT_PAUSE_BYTES: usize = 1 << 20;
/// What the replies that other nodes owe the connection may come to.
const FORWARDED_BYTES_MAX: usize = 4 << 20;
/// Most requests that may be with other nodes, however small their replies are.
const FORWARDED_MAX: usize = 256;
/// The largest reply that is expected of another node before any has come: few requests are sent at first, twice as
/// many in each next batch.
const FIRST_ANSWER_BYTES: usize = 256 << 10;
/// How long a dismissed client may take to close its side.
const CLOSE_PATIENCE: Duration = Duration::from_millis(100);

/// See the head of the file.
pub struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Arc<Client>,
    pub(super) stream: TcpStream,
    pub(super) talk: Talk,
    pub(super) scanner: Scanner,
    /// What has arrived and was not run, from the start of a request on.
    pub(super) input: Vec<u8>,
    /// How many bytes of input there have to be before it is worth looking at again.
    pub(super) input_wanted: usize,
    pub(super) output: Vec<u8>,
    written: usize,
    pub(super) unanswered: VecDeque<Box<Batch>>,
    /// Replies of the front batch that are to be run again.
    pub(super) retries: Vec<Retry>,
    /// Until when they are not.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    pub(super) next: Next,
    ears: Ears,
    pub(super) is_eof: bool,
    pub(super) turn: Turn,
    /// The bytes of the largest reply that another node has given of late.
    answer_bytes: usize,
    /// How many requests may be with other nodes at a time, by that.
    forwards_max: usize,
}

/// Whether the next request may run, or what it has to wait for.
pub(super) enum Next {
    /// It may, as far as those before it are concerned.
    Free,
    /// It may not overtake those before it (`order`): it waits until a batch is over.
    Behind,
    /// This one is the next, and has to be alone: it waits until all before it are answered. And when it arrived.
    Alone(Vec<u8>, Instant),
    /// One runs alone: the next waits until that is over.
    Runs(Pin<Box<Waiting>>),
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    Closed,
    Dismissed,
    Io,
}

impl Connection {
    /// A connection of a client on one of the faces.
    pub fn new(worker: Rc<Worker>, client: Arc<Client>, stream: TcpStream, session: Session) -> Connection {
        let ears = Ears { worker: worker.clone(), client: client.clone() };
        Connection {
            worker,
            client,
            stream,
            talk: Talk { session, transaction: Transaction::default(), consistency: Consistency::default() },
            scanner: Scanner::new(),
            input: Vec::new(),
            input_wanted: 0,
            output: Vec::new(),
            written: 0,
            unanswered: VecDeque::new(),
            retries: Vec::new(),
            pause: None,
            next: Next::Free,
            ears,
            is_eof: false,
            turn: Turn::default(),
            answer_bytes: FIRST_ANSWER_BYTES,
            forwards_max: forwards_max(FIRST_ANSWER_BYTES),
        }
    }

    /// Serves the client until it leaves, is closed, or breaks a rule, and then does what it has begun to its end.
    pub async fn serve(mut self) {
        match self.serve_all().await {
            Some(End::Io) => tracing::debug!(client = self.client.id, "connection broke"),
            Some(End::Dismissed) => self.close_gently().await,
            Some(End::Closed) | None => {}
        }
        let Connection { stream, next, ears, .. } = self;
        drop(stream);
        if let Next::Runs(waiting) = next {
            finish(waiting, &ears.client).await;
        }
    }

    /// Serves the client to its end; `None` when somebody has killed it.
    async fn serve_all(&mut self) -> Option<End> {
        let mut is_known = false;
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut is_known, true) {
                // A task's waker stays the same.
                self.client.wakes(cx.waker());
            }
            match self.poll(cx) {
                Poll::Ready(end) => Poll::Ready(Some(end)),
                Poll::Pending if self.client.is_killed() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Closes this side first, and the whole a moment later: if the client has sent something meanwhile, the system
    /// would answer that with a reset, which may overtake the last replies.
    async fn close_gently(&mut self) {
        let rest = async {
            self.stream.shutdown().await?;
            while self.stream.read(&mut [0; 4_096]).await? > 0 {}
            Ok::<(), std::io::Error>(())
        };
        // Either way the connection is over.
        _ = tokio::time::timeout(CLOSE_PATIENCE, rest).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // Whether what is below the reading has to be looked at even if nothing is read.
        let mut has_more = true;
        self.turn.begin();
        loop {
            let could_run = self.may_run();
            let has_read = match if could_run { self.read(cx) } else { self.read_ahead(cx) } {
                Ok(has_read) => has_read || could_run && self.hear_dismissal(),
                Err(_) => return Poll::Ready(End::Io),
            };
            if !has_read && !has_more {
                return Poll::Pending;
            }
            if self.is_eof && matches!(self.next, Next::Runs(_)) && self.client.is_in(state::BLOCKED) {
                // As in Redis: nobody waits for who has left. What does something is done to its end.
                return Poll::Ready(End::Closed);
            }
            has_more = match self.go_on(cx) {
                Ok(has_more) => has_more,
                Err(_) => return Poll::Ready(End::Io),
            };
            if let Some(end) = self.end() {
                return Poll::Ready(end);
            }
            if !has_read && !has_more && (could_run || !self.may_run()) {
                return Poll::Pending;
            }
            if self.turn.is_over() {
                // Woken once the runtime has looked who else has something to do, unlike by a wake.
                _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
                return Poll::Pending;
            }
        }
    }

    /// Does all but read: answers what is unanswered, runs what is alone, takes mail and sends. Each step looks at what
    /// those before it have changed; true when what they have changed is to be looked at again, read or not.
    fn go_on(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        self.poll_unanswered(cx);
        let made_a_step = self.poll_alone(cx);
        let was_full = self.output.len() >= OUTPUT_PAUSE_BYTES;
        let took_mail = self.take_mail(cx)?;
        let has_written = self.write(cx)?;
        // The reading looks at the output after it was written; only mail has to be looked for again.
        Ok(made_a_step || took_mail || has_written && was_full)
    }

    /// How the connection ends, if it has nothing more to do.
    fn end(&self) -> Option<End> {
        let is_idle = self.unanswered.is_empty() && !matches!(self.next, Next::Alone(..) | Next::Runs(_));
        let is_done = self.talk.session.closing || self.is_eof && !self.has_kept();
        let ends = is_idle && self.output.is_empty() && is_done;
        ends.then(|| if self.is_eof && self.is_dismissed() { End::Dismissed } else { End::Closed })
    }

    /// Reads nothing more once somebody has dismissed the client, as if it had said that it is done; true when that
    /// begins.
    fn hear_dismissal(&mut self) -> bool {
        let begins = !self.is_eof && self.is_dismissed();
        self.is_eof |= begins;
        begins
    }

    /// Whether somebody has asked the client to go, and it goes for that alone.
    fn is_dismissed(&self) -> bool {
        self.client.is_in(state::CLOSING) && !self.talk.session.closing
    }

    fn may_run(&self) -> bool {
        if !matches!(self.next, Next::Free) || self.talk.session.closing || self.output.len() >= OUTPUT_PAUSE_BYTES {
            return false;
        }
        self.unanswered.is_empty() || self.unanswered.len() < UNANSWERED_MAX && self.has_room()
    }

    /// Whether what is unanswered leaves room for more replies, and for more requests to other nodes.
    fn has_room(&self) -> bool {
        let unsent_bytes = self.output.len() + self.unanswered.iter().map(|batch| batch.out.len()).sum::<usize>();
        unsent_bytes < OUTPUT_PAUSE_BYTES && self.forwards_left() > 0
    }

    /// How many more requests may be sent to other nodes.
    pub(super) fn forwards_left(&self) -> usize {
        self.forwards_max.saturating_sub(self.unanswered.iter().map(|batch| batch.forwarded).sum())
    }

    /// Notes the largest of the replies that other nodes have given to a batch.
    fn note_answers(&mut self, largest_bytes: usize) {
        self.answer_bytes = largest_bytes.max(self.answer_bytes / 2);
        self.forwards_max = forwards_max(self.answer_bytes);
    }

    /// Takes messages of subscriptions over into the output; true when there were some. None come between a request
    /// that runs alone and its reply, which may be the confirmation of a subscription.
    fn take_mail(&mut self, cx: &Context<'_>) -> std::io::Result<bool> {
        let may_take = !matches!(self.next, Next::Runs(_)) && self.output.len() < OUTPUT_PAUSE_BYTES;
        let delivery = self.client.mailbox.collect(&mut self.output, may_take, cx.waker());
        if delivery == Delivery::Cut {
            self.worker.metrics.count(Count::OutputLimitDisconnects, 1);
            return Err(std::io::Error::other("the subscriber does not read its messages"));
        }
        Ok(delivery == Delivery::Mail)
    }

    /// Sends what may be sent; true when something was.
    fn write(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        if self.output.is_empty() {
            return Ok(false);
        }
        self.check_hard_limit()?;
        let before = self.written;
        while let Some(bytes) = self.output.get(self.written..).filter(|bytes| !bytes.is_empty()) {
            match self.stream.try_write(bytes) {
                Ok(count) => {
                    self.written += count;
                    self.worker.metrics.count(Count::NetOutputBytes, count as u64);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.stream.poll_write_ready(cx)?.is_pending() {
                        self.check_output_limit(self.written != before)?;
                        return Ok(self.written != before);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        self.worker.spares.keep_buffer(std::mem::take(&mut self.output));
        self.client.mailbox.all_sent();
        Ok(true)
    }

    /// Replies are not to be more than the hard limit at any time, however fast they are read.
    fn check_hard_limit(&self) -> std::io::Result<()> {
        let most = self.worker.settings.read(output_bytes_max);
        let is_too_much = most.is_some_and(|most| self.output.len() - self.written > most);
        if is_too_much && !self.client.is_in(state::SUBSCRIBED | state::MONITOR) {
            self.worker.cut_off(&self.client);
            return Err(std::io::Error::other("the client asked for more than may be kept for it"));
        }
        Ok(())
    }

    fn check_output_limit(&mut self, has_sent: bool) -> std::io::Result<()> {
        let (unsent, now_ms) = (self.output.len() - self.written, wall_us() / 1_000);
        if has_sent {
            self.client.note_active(now_ms);
        }
        let limit = self.worker.settings.read(|settings| self.client.limit(&settings.client_output_buffer_limit));
        if self.client.mailbox.keep_unsent(unsent, limit, now_ms) {
            self.worker.metrics.count(Count::OutputLimitDisconnects, 1);
            return Err(std::io::Error::other("the client does not read what is sent to it"));
        }
        Ok(())
    }

    /// Takes over the replies of batches that are over.
    fn poll_unanswered(&mut self, cx: &mut Context<'_>) {
        while let Some(batch) = self.unanswered.front_mut() {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    break;
                }
                self.pause = None;
                let Some(mut batch) = self.unanswered.pop_front() else { break };
                let (worker, client, talk) = (&self.worker, &self.client, &self.talk);
                let (due, later) = (std::mem::take(&mut self.retries), self.unanswered.iter().map(|batch| &**batch));
                self.retries = Retrier { worker, client, talk, ran: Ran::Apart }.round(&mut batch, due, later);
                self.unanswered.push_front(batch);
                continue;
            }
            if !batch.poll(cx, &mut self.retries) {
                // In order: those that are still with other nodes may have to come before them.
                if !self.retries.is_empty() && !batch.asks_others() {
                    self.pause = Some(Box::pin(tokio::time::sleep(retry_pause(batch))));
                    continue;
                }
                break;
            }
            if let Some(batch) = self.unanswered.pop_front() {
                self.worker.count_answered(&batch, batch.started.elapsed());
                if batch.forwarded > 0 {
                    let largest_bytes = batch.largest_answer;
                    self.note_answers(largest_bytes);
                }
                self.take_replies(batch);
                if matches!(self.next, Next::Behind) {
                    self.next = Next::Free;
                }
            }
        }
    }

    /// Takes the replies of a batch that is over.
    pub(super) fn take_replies(&mut self, mut batch: Box<Batch>) {
        if batch.is_patched() && self.output.is_empty() {
            self.output = self.worker.spares.buffer();
        }
        batch.finish(&mut self.output);
        self.worker.spares.keep_batch(batch);
    }

    /// Runs the request that must be alone, once all before it are answered; true when it made a step. To begin is one:
    /// what is read meanwhile is read otherwise.
    fn poll_alone(&mut self, cx: &mut Context<'_>) -> bool {
        let begins = matches!(self.next, Next::Alone(..)) && self.unanswered.is_empty();
        if begins && let Next::Alone(request, arrived) = std::mem::replace(&mut self.next, Next::Free) {
            // Nothing looks at the transaction until the job gives it back, and it may be large.
            let transaction = std::mem::take(&mut self.talk.transaction);
            let (session, consistency) = (self.talk.session.clone(), self.talk.consistency);
            let talk = Talk { session, transaction, consistency };
            let job = job::start(self.worker.clone(), self.client.clone(), talk, request, arrived);
            self.next = Next::Runs(Box::pin(job));
        }
        let Next::Runs(waiting) = &mut self.next else { return false };
        let Poll::Ready(done) = waiting.as_mut().poll(cx) else { return begins };
        self.next = Next::Free;
        if self.output.is_empty() {
            self.output = done.reply
        } else {
            self.output.extend_from_slice(&done.reply)
        }
        self.talk = done.talk;
        true
    }
}

/// What a connection listens to, until this is dropped. A request may begin to listen after its client has left.
struct Ears {
    worker: Rc<Worker>,
    client: Arc<Client>,
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.worker.shared.node.stop_listening(&self.client);
    }
}

/// Runs a request to its end whose client has left: half of what it does, of the keys of MSETNX for one, would stay for
/// ever. As in Redis, one that only waits ends with its client.
async fn finish(mut waiting: Pin<Box<Waiting>>, client: &Client) {
    let only_waits = || client.is_in(state::BLOCKED);
    let mut is_over = |cx: &mut Context<'_>| only_waits() || waiting.as_mut().poll(cx).is_ready() || only_waits();
    std::future::poll_fn(|cx| if is_over(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// How many requests may be with other nodes if each reply has `answer_bytes`.
fn forwards_max(answer_bytes: usize) -> usize {
    (FORWARDED_BYTES_MAX / answer_bytes.max(1)).clamp(1, FORWARDED_MAX)
}
