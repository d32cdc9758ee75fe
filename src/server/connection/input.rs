//! What a client sends: read, cut into requests, run as batches.
//!
//! Everything that one read brings is run at once, in the worker's buffer; only what is not whole is kept, and so is
//! what has to wait for something before it. A request that comes in many reads is neither copied nor looked at again
//! at each of them: the scanner has said how much is missing. While a request waits alone, no more is read than shows
//! that its client has not left.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};

use crate::base::clock::wall_us;
use crate::base::metrics::Count;
use crate::base::net::TcpStream;
use crate::protocol::{ProtocolError, Reply};
use crate::replication::view::View;
use crate::server::batch::order::Order;
use crate::server::batch::window::{self, Ending, Request};
use crate::server::batch::{Batch, ReplyMark};
use crate::server::connection::{Connection, Next, OUTPUT_PAUSE_BYTES};
use crate::server::request::run::{Origin, Run, Step};
use crate::server::request::timing::end_turn;
use crate::server::session::settings::scan_limits;
use crate::server::state::client::{Client, ReplyMode};

/// What is read while a request waits alone, in bytes.
const READ_AHEAD_BYTES: usize = 64 << 10;

impl Connection {
    /// Reads once and runs everything that is whole; true when something was read or run.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        // Left over from before a request that had to be alone, or from behind large replies.
        if self.has_kept() {
            // After a look that found nothing whole it is known how much is missing, so that this is done once.
            self.run_kept();
            return Ok(true);
        }
        if self.is_eof {
            return Ok(false);
        }
        let worker = self.worker.clone();
        let mut shared = worker.input.borrow_mut();
        let Poll::Ready(count) = self.receive(cx, &mut shared)? else { return Ok(false) };
        let read = shared.get(..count).unwrap_or_default();
        if self.input.is_empty() {
            let used = self.run_input(read);
            self.keep_input(read.get(used..).unwrap_or_default());
            self.note_input();
            return Ok(true);
        }
        self.keep_input(read);
        drop(shared);
        if self.input.len() >= self.input_wanted {
            self.run_kept();
        } else {
            self.client.note_active(wall_us() / 1_000);
            self.note_input();
        }
        Ok(true)
    }

    /// Reads once, and notes how much, and whether that was the end.
    fn receive(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        let read = poll_read(&mut self.stream, cx, buf);
        if let Poll::Ready(Ok(count)) = &read {
            self.is_eof = *count == 0;
            self.turn.note(*count);
            self.worker.metrics.count(Count::NetInputBytes, *count as u64);
        }
        read
    }

    /// Reads, while a request waits alone, what comes behind it; true when something was read.
    pub(super) fn read_ahead(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        if !matches!(self.next, Next::Runs(_)) || self.is_eof || self.input.len() >= READ_AHEAD_BYTES {
            return Ok(false);
        }
        let worker = self.worker.clone();
        let mut shared = worker.input.borrow_mut();
        let Poll::Ready(count) = self.receive(cx, &mut shared)? else { return Ok(false) };
        self.keep_input(shared.get(..count).unwrap_or_default());
        self.note_input();
        Ok(true)
    }

    /// Runs what is whole of the input that was kept.
    fn run_kept(&mut self) {
        let mut input = std::mem::take(&mut self.input);
        let used = self.run_input(&input);
        self.turn.note(used);
        input.drain(..used);
        if input.is_empty() {
            self.worker.spares.keep_buffer(input)
        } else {
            self.input = input
        }
        self.note_input();
    }

    /// Keeps bytes that cannot be run yet, behind those that are kept already.
    fn keep_input(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            if self.input.capacity() == 0 {
                self.input = self.worker.spares.buffer();
            }
            self.input.extend_from_slice(bytes);
        }
    }

    fn note_input(&self) {
        self.client.input_bytes.store(self.input.len(), std::sync::atomic::Ordering::Relaxed);
    }

    /// Runs the whole requests of `input` as one batch and gives the bytes that they took. The rest is to be kept: what
    /// is not whole, what has to be alone, and what comes behind [`OUTPUT_PAUSE_BYTES`] of replies or as many requests
    /// as other nodes may be asked.
    fn run_input(&mut self, input: &[u8]) -> usize {
        // What is being run counts as well, as in Redis.
        self.client.input_bytes.store(input.len(), std::sync::atomic::Ordering::Relaxed);
        let worker = self.worker.clone();
        let now = Instant::now();
        let (view, mut batch) = (worker.view(now), worker.spares.batch(now));
        if !self.unanswered.is_empty() {
            batch.order = Order::behind(self.unanswered.iter().map(|batch| &batch.order));
        }
        let used = self.run_requests(input, &view, &mut batch);
        self.input_wanted = input.len() - used + self.scanner.missing_bytes();
        worker.send_off(&view, &mut batch);
        let took = batch.started.elapsed();
        end_turn(&worker, input, took, &self.client);
        if batch.is_resolved() && self.unanswered.is_empty() {
            worker.count_answered(&batch, took);
            self.take_replies(batch);
        } else {
            self.unanswered.push_back(batch);
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
            let limits = worker.settings.read(|settings| scan_limits(settings, is_known));
            if used > 0 {
                // Those before it may have taken long.
                worker.look_at_pulse(view, Instant::now());
            }
            let rest = input.get(used..).unwrap_or_default();
            let places = (&*worker.shared.node.store, &view.roles);
            let ending = window.fill(&mut self.scanner, rest, &limits, most, places);
            let mut run = Run::new(&worker, view, &self.client, &mut self.talk, batch, Origin::Client);
            let stopped_at = match run_window(&mut run, window.requests(&self.scanner, rest), is_known, is_full) {
                WindowEnd::All => None,
                WindowEnd::Closing => return input.len(),
                WindowEnd::UpTo(end) => Some(end),
                WindowEnd::Behind(end) => {
                    self.next = Next::Behind;
                    Some(end)
                }
                WindowEnd::Alone(end, request) => {
                    self.next = Next::Alone(request, batch.started);
                    Some(end)
                }
            };
            if let Some(end) = stopped_at {
                self.scanner.restart();
                used += end;
                if !matches!(self.next, Next::Free) || is_full(batch) {
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

    /// Whether something was kept that has not been looked at, and may be whole.
    pub(super) fn has_kept(&self) -> bool {
        !self.input.is_empty() && self.scanner.missing_bytes() == 0
    }
}

/// How far the requests of a window were run, and why no further.
enum WindowEnd {
    /// All were.
    All,
    /// To the end of the connection: it closes.
    Closing,
    /// Up to this byte: what is behind has to be scanned again, or not yet.
    UpTo(usize),
    /// Up to this byte: the request that begins there may not overtake those before it.
    Behind(usize),
    /// Up to this byte, but for the last of them, which has to be alone.
    Alone(usize, Vec<u8>),
}

/// Runs requests, each with the offset behind it, until something stops them.
#[inline]
fn run_window<'w>(
    run: &mut Run<'_>,
    requests: impl Iterator<Item = (Request<'w>, usize)>,
    is_known: bool,
    is_full: impl Fn(&Batch) -> bool,
) -> WindowEnd {
    for (request, end) in requests {
        if request.row.is_none() && request.args.is_http() {
            run.session.closing = true;
            run.batch.silence(ReplyMark::default());
            return WindowEnd::Closing;
        }
        let (mode, mark) = (run.client.reply_mode(), run.batch.mark());
        match run.request(&request) {
            Step::Done | Step::NotRun | Step::AsSeen => {}
            Step::Behind => return WindowEnd::Behind(end - request.bytes.len()),
            Step::Wait | Step::Paused => return WindowEnd::Alone(end, request.bytes.to_vec()),
        }
        mute(run.client, mode, mark, run.batch);
        if run.session.closing {
            return WindowEnd::Closing;
        }
        if run.session.authenticated != is_known || is_full(run.batch) {
            return WindowEnd::UpTo(end);
        }
    }
    WindowEnd::All
}

/// CLIENT REPLY OFF and SKIP: takes back what was answered behind `mark`.
#[inline]
fn mute(client: &Client, before: ReplyMode, mark: ReplyMark, batch: &mut Batch) {
    if client.keeps_back(before) {
        batch.silence(mark);
    }
}

/// Reads once into `buf`, which is used from its start, and gives how much; 0 at the stream's end. After a short read
/// the runtime knows that there is no more, and does not ask the system again before it says so.
pub fn poll_read(stream: &mut TcpStream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
    let mut buf = ReadBuf::new(buf);
    Pin::new(stream).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
}
