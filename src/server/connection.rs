//! A connection: bytes in, batches, bytes out, one future that never blocks its worker.
//!
//! Everything that one read brings is run at once; replies that replicas have to confirm are held in order, up to
//! [`HELD_MAX`] batches, and the connection reads on meanwhile. A request that must wait in the middle is run alone, when
//! all before it is answered, and nothing behind it starts before it ends.
//!
//! What a client can make grow is bounded: unread replies by [`OUTPUT_PAUSE_BYTES`], at which nothing more is run until
//! they are sent, and by `client-output-buffer-limit`; the request by the scanner's limits, batches by [`HELD_MAX`] and
//! by what one read brings. A request that arrives in many reads is neither copied nor looked at again at each of them. While one
//! waits alone, no more is read than shows that its client has not left. Other nodes are asked for no more at a time than would be [`FORWARDED_BYTES_MAX`] if all
//! replies were as large as the largest of late; only a connection's first large ones can take it beyond that.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::base::metrics::{Class, Count};
use crate::protocol::{ProtocolError, Reply, Scanner};
use crate::replication::coordinator::View;
use crate::server::ask::Again;
use crate::server::batch::Batch;
use crate::server::clients::{Client, ReplyMode, state};
use crate::server::commands::connection::Session;
use crate::server::dispatch::{Origin, Run, Step};
use crate::server::order::Order;
use crate::server::pubsub::mailbox::Found;
use crate::server::settings::{Consistency, scan_limits, wall_us};
use crate::server::timing::end_turn;
use crate::server::transaction::Transaction;
use crate::server::wait::{self, Waiting};
use crate::server::window::{self, Ending};
use crate::server::worker::Worker;

/// Most batches that may be held for replicas before the connection stops reading.
const HELD_MAX: usize = 16;
/// Replies unsent above which the connection stops reading and running: many large values may be asked for in few bytes.
const OUTPUT_PAUSE_BYTES: usize = 1 << 20;
/// What is read while a request waits alone, in bytes.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// Memory that the input of a connection keeps when it is empty.
const INPUT_BYTES_KEPT_MAX: usize = 64 << 10;
/// What the replies that other nodes owe the connection may come to.
const FORWARDED_BYTES_MAX: usize = 4 << 20;
/// Most requests that may be with other nodes, however small their replies are.
const FORWARDED_MAX: usize = 256;
/// The largest reply that is expected of another node before any has come: few requests are sent at first, twice as many
/// in each next batch.
const FIRST_ANSWER_BYTES: usize = 256 << 10;
/// How long a request may be asked for again before its client is told.
pub(super) const AGAIN_MAX: Duration = Duration::from_secs(2);
/// What a client reads when that time is over.
pub const NOBODY_IN_TIME: &str = "CLUSTERDOWN too few replicas of this hash slot answered in time";
/// How long to wait before asking again.
pub const AGAIN_PAUSE: Duration = Duration::from_millis(3);

/// The state of a connection that its requests see.
#[derive(Clone)]
pub struct Talk {
    /// What was agreed on.
    pub session: Session,
    /// MULTI and WATCH.
    pub transaction: Transaction,
    /// RONDO.CONSISTENCY.
    pub consistency: Consistency,
}

/// See the head of the file.
pub struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Arc<Client>,
    stream: TcpStream,
    pub(super) talk: Talk,
    scanner: Scanner,
    /// What has arrived and was not run, from the start of a request on.
    input: Vec<u8>,
    /// How many bytes of input there have to be before it is worth looking at again.
    input_wanted: usize,
    output: Vec<u8>,
    written: usize,
    pub(super) held: VecDeque<Box<Batch>>,
    /// Replies of the front batch that are to be run again, and when.
    pub(super) again: Vec<Again>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    /// A request that waits for its turn to be alone.
    alone: Option<Vec<u8>>,
    waiting: Option<Pin<Box<Waiting>>>,
    is_eof: bool,
    /// The next request has to wait until batches before it are over (`order`).
    is_behind: bool,
    /// The bytes of the largest reply that another node has given of late.
    answer_bytes: usize,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    Closed,
    Io,
}

impl Connection {
    /// A connection of a client on one of the faces.
    pub fn new(worker: Rc<Worker>, client: Arc<Client>, stream: TcpStream, session: Session) -> Connection {
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
            held: VecDeque::new(),
            again: Vec::new(),
            pause: None,
            alone: None,
            waiting: None,
            is_eof: false,
            is_behind: false,
            answer_bytes: FIRST_ANSWER_BYTES,
        }
    }

    /// Serves the client until it leaves, is closed, or breaks a rule.
    pub async fn serve(mut self) {
        let client = self.client.clone();
        let mut killed = std::pin::pin!(client.killed());
        let mut is_watching = false;
        let serve = std::future::poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll(cx) {
                return Poll::Ready(Some(end));
            }
            // A task's waker stays the same, so that it has to be left there only once.
            let is_killed = match std::mem::replace(&mut is_watching, true) {
                false => killed.as_mut().poll(cx).is_ready(),
                true => client.is_killed(),
            };
            if is_killed { Poll::Ready(None) } else { Poll::Pending }
        });
        if let Some(End::Io) = serve.await {
            tracing::debug!(client = client.id, "connection broke");
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            // What is below looks at what this has changed, so that only what they change has to be looked at again.
            self.poll_held(cx);
            let mut progress = self.poll_alone(cx);
            let was_full = self.output.len() >= OUTPUT_PAUSE_BYTES;
            match self.take_mail(cx).and_then(|took| Ok((took, self.write(cx)?))) {
                // What is below looks at the output after it was written; only mail has to be looked for again.
                Ok((took, wrote)) => progress |= took | (wrote && was_full),
                Err(_) => return Poll::Ready(End::Io),
            }
            let is_idle = self.held.is_empty() && self.alone.is_none() && self.waiting.is_none();
            let is_done = self.talk.session.closing || self.is_eof && !self.has_kept();
            if is_idle && self.output.is_empty() && is_done {
                return Poll::Ready(End::Closed);
            }
            let read = if self.may_run() { self.read(cx) } else { self.read_ahead(cx) };
            match read {
                Ok(read) => progress |= read,
                Err(_) => return Poll::Ready(End::Io),
            }
            if self.is_eof && self.waiting.is_some() && self.client.is_in(state::BLOCKED) {
                // As in Redis: nobody waits for who has left. What does something is done to its end.
                return Poll::Ready(End::Closed);
            }
            if !progress {
                return Poll::Pending;
            }
        }
    }

    /// Whether something was kept that has not been looked at, and may be whole.
    fn has_kept(&self) -> bool {
        !self.input.is_empty() && self.scanner.missing_bytes() == 0
    }

    fn may_run(&self) -> bool {
        let waits = self.alone.is_some() || self.waiting.is_some() || self.is_behind;
        let blocked = waits || self.talk.session.closing;
        let unsent_bytes = || self.output.len() + self.held.iter().map(|batch| batch.out.len()).sum::<usize>();
        !blocked && self.held.len() < HELD_MAX && unsent_bytes() < OUTPUT_PAUSE_BYTES && self.forwards_left() > 0
    }

    /// How many more requests may be sent to other nodes.
    fn forwards_left(&self) -> usize {
        let most = (FORWARDED_BYTES_MAX / self.answer_bytes.max(1)).clamp(1, FORWARDED_MAX);
        most.saturating_sub(self.held.iter().map(|batch| batch.forwarded).sum())
    }

    /// Takes messages of subscriptions over into the output; true when there were some. None come between a request that
    /// runs alone and its reply, which may be the confirmation of a subscription.
    fn take_mail(&mut self, cx: &Context<'_>) -> std::io::Result<bool> {
        let may_take = self.waiting.is_none() && self.output.len() < OUTPUT_PAUSE_BYTES;
        let found = self.client.mailbox.collect(&mut self.output, may_take, cx.waker());
        if found == Found::Cut {
            self.worker.metrics.count(Count::OutputLimitDisconnects, 1);
            return Err(std::io::Error::other("the subscriber does not read its messages"));
        }
        Ok(found == Found::Mail)
    }

    /// Sends what may be sent; true when something was.
    fn write(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        if self.output.is_empty() {
            return Ok(false);
        }
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
        self.output.clear();
        self.written = 0;
        if self.output.capacity() > OUTPUT_PAUSE_BYTES {
            self.output.shrink_to(16 << 10);
        }
        self.client.output_bytes.store(0, std::sync::atomic::Ordering::Relaxed);
        Ok(true)
    }

    fn check_output_limit(&mut self, has_sent: bool) -> std::io::Result<()> {
        let (unsent, now_ms) = (self.output.len() - self.written, wall_us() / 1_000);
        self.client.output_bytes.store(unsent, std::sync::atomic::Ordering::Relaxed);
        if has_sent {
            self.client.is_active(now_ms);
        }
        let limit = self.worker.shared.node.config.settings().client_output_buffer_limit.normal;
        if self.client.has_too_much_unsent(limit, now_ms) {
            self.worker.metrics.count(Count::OutputLimitDisconnects, 1);
            return Err(std::io::Error::other("the client does not read its replies"));
        }
        Ok(())
    }

    /// Reads once and runs everything that is whole; true when something was read or run.
    fn read(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        // Left over from before a request that had to be alone, or from behind large replies.
        if self.has_kept() && self.run_kept() {
            return Ok(true);
        }
        if self.is_eof {
            return Ok(false);
        }
        let worker = self.worker.clone();
        let mut shared = worker.input.borrow_mut();
        let Poll::Ready(count) = poll_read(&mut self.stream, cx, &mut shared)? else { return Ok(false) };
        self.is_eof = count == 0;
        self.worker.metrics.count(Count::NetInputBytes, count as u64);
        let read = shared.get(..count).unwrap_or_default();
        if self.input.is_empty() {
            let used = self.run_input(read);
            self.input.extend_from_slice(read.get(used..).unwrap_or_default());
            self.note_input();
            return Ok(true);
        }
        self.input.extend_from_slice(read);
        drop(shared);
        if self.input.len() >= self.input_wanted {
            self.run_kept();
        } else {
            self.client.is_active(wall_us() / 1_000);
            self.note_input();
        }
        Ok(true)
    }

    /// Reads, while a request waits alone, what comes behind it; true when something was read.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        if self.waiting.is_none() || self.is_eof || self.input.len() >= READ_AHEAD_BYTES {
            return Ok(false);
        }
        let worker = self.worker.clone();
        let mut shared = worker.input.borrow_mut();
        let Poll::Ready(count) = poll_read(&mut self.stream, cx, &mut shared)? else { return Ok(false) };
        self.is_eof = count == 0;
        self.worker.metrics.count(Count::NetInputBytes, count as u64);
        self.input.extend_from_slice(shared.get(..count).unwrap_or_default());
        self.note_input();
        Ok(true)
    }

    /// Runs what is whole of the input that was kept; true when that was something.
    fn run_kept(&mut self) -> bool {
        let mut input = std::mem::take(&mut self.input);
        let used = self.run_input(&input);
        input.drain(..used);
        if !input.is_empty() || input.capacity() <= INPUT_BYTES_KEPT_MAX {
            self.input = input;
        }
        self.note_input();
        used > 0 || self.alone.is_some() || self.is_behind
    }

    fn note_input(&self) {
        self.client.input_bytes.store(self.input.len(), std::sync::atomic::Ordering::Relaxed);
    }

    /// Runs the whole requests of `input` as one batch and gives the bytes that they took. The rest is to be kept: what is not
    /// whole, what has to be alone, and what comes behind [`OUTPUT_PAUSE_BYTES`] of replies or as many requests as other nodes
    /// may be asked.
    fn run_input(&mut self, input: &[u8]) -> usize {
        let worker = self.worker.clone();
        let now = Instant::now();
        let (view, mut batch) = (worker.view(now), worker.batch(now));
        if !self.held.is_empty() {
            batch.order = Order::behind(self.held.iter().map(|batch| &batch.order));
        }
        let used = self.run_requests(input, &view, &mut batch);
        self.input_wanted = input.len() - used + self.scanner.missing_bytes();
        worker.send_off(&view, &mut batch);
        let took = batch.started.elapsed();
        end_turn(&worker, input, took, &self.client);
        if batch.is_settled() && self.held.is_empty() {
            note_answered(&worker, &batch, took);
            batch.finish(&mut self.output);
            worker.retire(batch);
        } else {
            self.held.push_back(batch);
        }
        used
    }

    /// Runs the whole requests at the start of `input`, a window of them at a time, and gives the bytes that they took.
    fn run_requests(&mut self, input: &[u8], view: &View, batch: &mut Batch) -> usize {
        let worker = self.worker.clone();
        let mut window = worker.window.borrow_mut();
        let forwards_left = self.forwards_left();
        let is_full = |batch: &Batch| batch.out.len() >= OUTPUT_PAUSE_BYTES || batch.forwarded >= forwards_left;
        let mut used = 0;
        loop {
            let is_known = self.talk.session.authenticated;
            // What a request may be depends on whether the one before it was the right AUTH.
            let most = if is_known { window::REQUESTS_MAX } else { 1 };
            let limits = scan_limits(&worker.shared.node.config.settings(), is_known);
            if used > 0 {
                // Those before it may have taken long.
                worker.look_at_pulse(view, Instant::now());
            }
            let rest = input.get(used..).unwrap_or_default();
            let places = (&*worker.shared.node.store, &view.roles);
            let ending = window.fill(&mut self.scanner, rest, &limits, most, places);
            let Talk { session, transaction, consistency } = &mut self.talk;
            let mut run =
                Run::new(&worker, view, &self.client, (session, transaction), *consistency, batch, Origin::Client);
            let mut stopped_at = None;
            for (request, end) in window.requests(&self.scanner, rest) {
                if request.row.is_none() && request.args.is_http() {
                    run.session.closing = true;
                    run.batch.out.clear();
                    return input.len();
                }
                let (mode, from) = (self.client.reply_mode(), run.batch.out.len());
                let step = run.request(&request);
                if step == Step::Behind {
                    self.is_behind = true;
                    stopped_at = Some(end - request.bytes.len());
                    break;
                }
                if step != Step::Done {
                    self.alone = Some(request.bytes.to_vec());
                    stopped_at = Some(end);
                    break;
                }
                mute(&self.client, mode, from, run.batch);
                if run.session.closing {
                    return input.len();
                }
                if run.session.authenticated != is_known || is_full(run.batch) {
                    stopped_at = Some(end);
                    break;
                }
            }
            if let Some(end) = stopped_at {
                self.scanner.restart();
                used += end;
                if self.alone.is_some() || self.is_behind || is_full(batch) {
                    return used;
                }
                continue;
            }
            used += window.end();
            match ending {
                Ending::Full => {}
                Ending::Dry => return used,
                Ending::Malformed(error) => {
                    self.refuse(&error, batch);
                    return input.len();
                }
            }
        }
    }

    fn refuse(&mut self, error: &ProtocolError, batch: &mut Batch) {
        self.worker.metrics.count(Count::ProtocolErrors, 1);
        error.write(&mut Reply::new(&mut batch.out, self.talk.session.proto));
        self.talk.session.closing = true;
    }

    /// Takes over the replies of batches that are over.
    fn poll_held(&mut self, cx: &mut Context<'_>) {
        while let Some(batch) = self.held.front_mut() {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    break;
                }
                self.pause = None;
                self.run_again();
                continue;
            }
            if !batch.poll(cx, &mut self.again) {
                // In order: those that are still with other nodes may have to come before them.
                if !self.again.is_empty() && !batch.asks_others() {
                    self.pause = Some(Box::pin(tokio::time::sleep(AGAIN_PAUSE)));
                    continue;
                }
                break;
            }
            if let Some(mut batch) = self.held.pop_front() {
                note_answered(&self.worker, &batch, batch.started.elapsed());
                if batch.forwarded > 0 {
                    self.answer_bytes = batch.largest_answer.max(self.answer_bytes / 2);
                }
                batch.finish(&mut self.output);
                self.worker.retire(batch);
                self.is_behind = false;
            }
        }
    }

    /// Runs the request that must be alone, once all before it are answered; true when it made a step.
    fn poll_alone(&mut self, cx: &mut Context<'_>) -> bool {
        if self.waiting.is_none()
            && self.held.is_empty()
            && let Some(request) = self.alone.take()
        {
            let job = wait::start(self.worker.clone(), self.client.clone(), self.talk.clone(), request);
            self.waiting = Some(Box::pin(job));
        }
        let Some(waiting) = &mut self.waiting else { return false };
        let Poll::Ready(done) = waiting.as_mut().poll(cx) else { return false };
        self.waiting = None;
        self.output.extend_from_slice(&done.reply);
        self.talk = done.talk;
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let node = &self.worker.shared.node;
        node.pubsub.leave(&self.client.mailbox);
        if self.client.is_in(state::MONITOR) {
            node.monitors.leave(self.client.id);
        }
    }
}

/// CLIENT REPLY OFF and SKIP: takes back what was written from `from` on.
#[inline]
fn mute(client: &Client, before: ReplyMode, from: usize, batch: &mut Batch) {
    if client.keeps_back(before) {
        batch.silence(from);
    }
}

/// Reads once into `buf`, which is used from its start, and gives how much; 0 at the stream's end. After a short read
/// the runtime knows that there is no more, and does not ask the system again before it says so.
pub fn poll_read(stream: &mut TcpStream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
    let mut buf = ReadBuf::new(buf);
    Pin::new(stream).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
}

/// Notes how long a batch's commands took from their arrival to their replies.
fn note_answered(worker: &Worker, batch: &Batch, took: Duration) {
    let us = took.as_micros() as u64;
    for (class, count) in Class::ALL.into_iter().zip(batch.answered) {
        if count != 0 {
            worker.metrics.answered(class, us, count);
        }
    }
    worker.count_failures(batch.forward_failures, batch.unknown_outcomes);
}
