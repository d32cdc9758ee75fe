//! One connection of a load: writes requests when its [`Flow`] says so, reads replies, and measures.
//!
//! Everything happens in one poll function without a task, channel or allocation per operation: a pipeline's requests
//! are encoded into one buffer and written at once, replies are counted in a read buffer that all connections of the
//! thread share. Reading goes on while a write is stuck, so a server that will not read before it is read from cannot
//! deadlock the load.
//!
//! When a connection breaks, what was unanswered is counted as errors (never sent again: the server may have done it),
//! and the client reconnects with a growing pause. A connection that gets no reply for the timeout counts as broken.
//! What comes due meanwhile waits, and its waiting counts; with `fail_fast` it fails at once. When the slot map
//! changes, the client moves to its node of the new map between two batches. What was answered with MOVED was not run:
//! as cluster clients do, it asks for a newer map and sends the operation again, and the time that takes counts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior};

use super::BenchError;
use super::alarm::Alarm;
use super::keys::{Picker, owners_of};
use super::ledger::Ledger;
use super::link::{LinkError, connect, label_of};
use super::phase::Phase;
use super::replies::{Answer, Replies};
use super::requests::{Encoder, Notes, Source};
use super::schedule::{Flow, Schedule};
use super::tally::Tally;
use super::timeline::Timeline;
use super::topology::SlotMap;

const READ_BUFFER_BYTES: usize = 256 * 1024;
/// How often a waiting client looks at the clock, in milliseconds.
const TICK_MS: u64 = 100;
const BACKOFF_MS_MIN: u64 = 10;
const BACKOFF_MS_MAX: u64 = 500;
/// A client that got no reply for this long, over however many connections, gives up.
const GIVE_UP_NS: u64 = 30_000_000_000;
/// How long a client that was answered with MOVED waits for a newer map before it tries the old one again.
const MOVED_PAUSE_NS: u64 = 2_000_000;
/// A client to which nothing but MOVED was said for this long takes it for an error.
const MOVED_PATIENCE_NS: u64 = 1_000_000_000;
/// How long after the end an open loop still sends what was due before it.
const GRACE_NS: u64 = 1_000_000_000;

/// What the connections of one thread share.
#[derive(Debug)]
pub struct Lane {
    phase: Arc<Phase>,
    encoder: Encoder,
    tally: RefCell<Tally>,
    /// What is written, when it is to be read back.
    ledger: Option<RefCell<Ledger>>,
    read_buffer: RefCell<Vec<u8>>,
}

impl Lane {
    /// The shared part of thread `number`.
    pub fn new(phase: Arc<Phase>, number: usize) -> Result<Lane, BenchError> {
        let seed = phase.options.seed.wrapping_add(number as u64);
        let is_load = phase.filler.is_none();
        let mut tally = Tally::new()?;
        if let Some(interval) = phase.options.interval.filter(|_| is_load) {
            tally.timeline = Some(Timeline::new(interval.as_nanos() as u64)?);
        }
        Ok(Lane {
            encoder: Encoder::new(phase.space.clone(), phase.options.mix, seed),
            tally: RefCell::new(tally),
            ledger: (phase.options.read_back && is_load).then(|| RefCell::new(Ledger::new(number, rand::random()))),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES]),
            phase,
        })
    }

    /// What its connections have measured.
    pub fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// What its connections have written, if that was noted.
    pub fn ledger(&self) -> Option<Ledger> {
        self.ledger.as_ref().map(|ledger| ledger.borrow().clone())
    }
}

/// Why a client stops using a connection.
#[derive(Debug)]
enum Ending {
    /// There is nothing more to send.
    Finished,
    /// The connection is broken: what to count it under, and the reason in full.
    Lost { label: String, reason: String },
    /// There is a newer slot map.
    Remapped,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    lane: Rc<Lane>,
    number: usize,
    flow: Flow,
    source: Option<Source>,
    /// The map and the node in it that this client sends to.
    home: Option<(Arc<SlotMap>, u16)>,
    stream: Option<TcpStream>,
    out: Vec<u8>,
    written: usize,
    replies: Replies,
    /// For each unanswered operation the number of its SET, or 0; only when there is a ledger.
    noted: VecDeque<u64>,
    heard_ns: u64,
    /// Since when it has been answered with nothing but MOVED, if it has.
    moved_since_ns: Option<u64>,
    /// Nothing is sent before.
    paused_until_ns: u64,
    exhausted: bool,
    failures: usize,
    epoch: u64,
    alarm: Option<Alarm>,
    tick: Interval,
}

impl Client {
    /// Connection `number` of the load, not yet open. Fails when the process has no file descriptor left.
    pub fn new(lane: Rc<Lane>, number: usize) -> io::Result<Client> {
        let options = &lane.phase.options;
        let schedule = options.rate.map(|rate| Schedule::new(rate, number, options.connections));
        let flow = Flow::new(schedule, options.pipeline);
        let alarm = if schedule.is_some() || options.cluster { Some(Alarm::new()?) } else { None };
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Client {
            lane,
            number,
            flow,
            source: None,
            home: None,
            stream: None,
            out: Vec::new(),
            written: 0,
            replies: Replies::new(),
            noted: VecDeque::new(),
            heard_ns: 0,
            moved_since_ns: None,
            paused_until_ns: 0,
            exhausted: false,
            failures: 0,
            epoch: 0,
            alarm,
            tick,
        })
    }

    /// Connects to the node that this client belongs to.
    pub async fn open(&mut self) -> Result<(), LinkError> {
        self.choose_home();
        let options = &self.lane.phase.options;
        let address = match &self.home {
            Some((map, node)) => map.addresses().get(usize::from(*node)),
            None => options.addresses.get((self.number + self.failures) % options.addresses.len().max(1)),
        };
        self.stream = Some(connect(address.map_or("", String::as_str), &options.login).await?);
        self.out.clear();
        (self.written, self.replies) = (0, Replies::new());
        Ok(())
    }

    /// Carries this client's part of the load to the end of the phase.
    pub async fn run(mut self) {
        while let Some(mut stream) = self.connected().await {
            match std::future::poll_fn(|cx| self.poll_load(&mut stream, cx)).await {
                Ending::Finished => break,
                Ending::Remapped => {}
                Ending::Lost { label, reason } => {
                    self.failures += 1;
                    self.lane.tally.borrow_mut().reconnects += 1;
                    self.give_up_unanswered(&label, &reason);
                    self.want_refresh();
                }
            }
        }
        self.give_up_owed("not sent", "due, but the connection was busy or broken to the end");
    }

    /// The open connection, or a new one; `None` when there is no time or no hope left.
    async fn connected(&mut self) -> Option<TcpStream> {
        loop {
            if let Some(stream) = self.stream.take() {
                if self.failures > 0 {
                    self.fail_fast("no connection", "due while the connection was broken");
                }
                return Some(stream);
            }
            if self.failures > 0 {
                let doubled = BACKOFF_MS_MIN << (self.failures - 1).min(16);
                tokio::time::sleep(Duration::from_millis(doubled.min(BACKOFF_MS_MAX))).await;
            }
            let now_ns = self.lane.phase.now_ns();
            let hopeless = self.failures > 0 && now_ns - self.heard_ns > GIVE_UP_NS;
            if hopeless || self.lane.phase.was_stopped() || self.lane.phase.end_ns().is_some_and(|end| now_ns >= end) {
                return None;
            }
            if let Err(error) = self.open().await {
                self.failures += 1;
                if self.lane.phase.options.fail_fast {
                    self.fail_fast(error.label(), &error.to_string());
                } else if now_ns >= self.lane.phase.measure_from_ns() {
                    self.lane.tally.borrow_mut().error(error.label(), 1, &error.to_string());
                }
                self.want_refresh();
            }
        }
    }

    /// Chooses the node to send to, and with it the keys, when there is no choice yet or the map is newer.
    fn choose_home(&mut self) {
        let phase = &self.lane.phase;
        let map = phase.directory.as_ref().map(|directory| directory.map());
        let epoch = map.as_ref().map_or(0, |map| map.epoch());
        if self.source.is_some() && self.epoch == epoch {
            return;
        }
        self.epoch = epoch;
        self.home = map.and_then(|map| {
            let nodes = owners_of(&map, &phase.space);
            let node = *nodes.get(self.number % nodes.len().max(1))?;
            Some((map, node))
        });
        let (space, home) = (phase.space.clone(), self.home.clone());
        let seed = phase.options.seed.wrapping_add((self.number as u64) << 32).wrapping_add(epoch << 48);
        self.source = Some(match &phase.filler {
            None => Source::Mix(Picker::new(space, phase.options.skew, seed, home)),
            Some(filler) => {
                Source::Fill { filler: filler.clone(), home, rng: SmallRng::seed_from_u64(seed), keys: Vec::new() }
            }
        });
    }

    fn poll_load(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            let now_ns = self.lane.phase.now_ns();
            if let Some(ending) = self.fill_batch(now_ns) {
                return Poll::Ready(ending);
            }
            if let Err(error) = self.write_batch(stream, cx) {
                return Poll::Ready(Ending::of(&error));
            }
            match self.poll_replies(stream, cx) {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(ending)) => return Poll::Ready(ending),
                Poll::Pending => {}
            }
            match self.poll_clocks(now_ns, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(ending)) => return Poll::Ready(ending),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Encodes what may be sent at `now_ns`, or says that this connection has done its part.
    fn fill_batch(&mut self, now_ns: u64) -> Option<Ending> {
        let lane = self.lane.clone();
        let phase = &lane.phase;
        let last_start_ns = phase.end_ns().map_or(u64::MAX, |end_ns| end_ns.saturating_sub(1));
        if now_ns > last_start_ns {
            // What was due before the end may still be sent for a moment.
            self.exhausted |= self.flow.owed(last_start_ns) == 0 || now_ns - last_start_ns > GRACE_NS;
        }
        self.exhausted |= phase.was_stopped();
        let remapped = phase.directory.as_ref().is_some_and(|directory| directory.epoch() != self.epoch);
        if self.flow.unanswered() == 0 && (self.exhausted || remapped) {
            return Some(if self.exhausted { Ending::Finished } else { Ending::Remapped });
        }
        if self.exhausted || remapped || self.written < self.out.len() || now_ns < self.paused_until_ns {
            return None;
        }
        let wanted = self.flow.sendable(now_ns.min(last_start_ns));
        if wanted == 0 {
            return None;
        }
        let begun_before = self.flow.to_send_again().min(wanted);
        let allowed = begun_before + phase.take(wanted - begun_before, now_ns);
        self.out.clear();
        self.written = 0;
        let source = self.source.as_mut()?;
        let mut ledger = lane.ledger.as_ref().map(RefCell::borrow_mut);
        if ledger.as_ref().is_some_and(|ledger| ledger.is_full()) {
            phase.stop();
        }
        let notes = ledger.as_deref_mut().map(|ledger| Notes { ledger, sent: &mut self.noted, now_ns });
        let count = source.push(&lane.encoder, allowed, notes, &mut self.out);
        self.flow.sent(count, now_ns);
        self.exhausted = count < wanted;
        (self.exhausted && self.flow.unanswered() == 0).then_some(Ending::Finished)
    }

    fn write_batch(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.written += written?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Reads once into the shared buffer and counts the replies.
    fn poll_replies(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let lane = self.lane.clone();
        let mut buffer = lane.read_buffer.borrow_mut();
        let begun = self.replies.restore(&mut buffer);
        let mut read = ReadBuf::new(&mut buffer);
        read.set_filled(begun);
        match Pin::new(stream).poll_read(cx, &mut read) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(Ending::of(&error))),
            Poll::Ready(Ok(())) if read.filled().len() == begun => {
                Poll::Ready(Err(Ending::of(&io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(())) => Poll::Ready(self.count_replies(read.filled(), &lane)),
        }
    }

    fn count_replies(&mut self, bytes: &[u8], lane: &Lane) -> Result<(), Ending> {
        let (now_ns, measure_from_ns) = (lane.phase.now_ns(), lane.phase.measure_from_ns());
        let mut tally = lane.tally.borrow_mut();
        let (mut settled, mut unasked) = (0, false);
        // What fills a cluster has to go there under its very key, so that it is not drawn anew.
        let is_followed = lane.phase.directory.is_some() && lane.phase.filler.is_none();
        let (mut moved, mut moved_since_ns) = (0, self.moved_since_ns);
        // Replies of one batch share a start: they are recorded together.
        let (mut batch_start_ns, mut batch) = (0, 0);
        let (flow, noted) = (&mut self.flow, &mut self.noted);
        let mut ledger = lane.ledger.as_ref().map(RefCell::borrow_mut);
        let outcome = self.replies.take(bytes, |reply| {
            let Some(start_ns) = flow.settle() else {
                unasked = true;
                return;
            };
            let refused = matches!(reply, Answer::Error(_));
            if let (Some(ledger), Some(number), false) = (&mut ledger, noted.pop_front(), refused) {
                ledger.acknowledged(number, now_ns);
            }
            if matches!(reply, Answer::Error(text) if text.starts_with(b"MOVED ")) {
                moved += 1;
                let since_ns = *moved_since_ns.get_or_insert(now_ns);
                if is_followed && now_ns - since_ns < MOVED_PATIENCE_NS {
                    flow.send_again(start_ns);
                    return;
                }
            } else {
                moved_since_ns = None;
            }
            settled += 1;
            if start_ns < measure_from_ns {
                return;
            }
            tally.settled(reply, start_ns - measure_from_ns, now_ns.saturating_sub(start_ns));
            if refused {
                return;
            }
            if start_ns != batch_start_ns && batch > 0 {
                tally.latency(now_ns.saturating_sub(batch_start_ns), batch);
                batch = 0;
            }
            batch_start_ns = start_ns;
            batch += 1;
        });
        if batch > 0 {
            tally.latency(now_ns.saturating_sub(batch_start_ns), batch);
        }
        tally.last_ns = now_ns;
        tally.moved += moved;
        drop(tally);
        lane.phase.settled(settled);
        if settled + moved > 0 {
            (self.heard_ns, self.failures, self.moved_since_ns) = (now_ns, 0, moved_since_ns);
        }
        if moved > 0 {
            // Those that are to be sent again have been taken from what may be sent already.
            self.exhausted = false;
            self.paused_until_ns = now_ns + MOVED_PAUSE_NS;
            self.want_refresh();
        }
        match outcome {
            Ok(()) if unasked => Err(Ending::lost("not RESP", "a reply came that nobody had asked for")),
            Ok(()) => Ok(()),
            Err(error) => Err(Ending::lost("not RESP", &error.to_string())),
        }
    }

    /// Waits for the next operation to be due, and for the server to have been silent for too long.
    fn poll_clocks(&mut self, now_ns: u64, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let idle = !self.exhausted && self.written == self.out.len();
        let pause_end = Some(self.paused_until_ns).filter(|until_ns| *until_ns > now_ns);
        let next_ns = self.flow.next_start_ns().map(|start_ns| start_ns.max(self.paused_until_ns)).or(pause_end);
        if let (Some(alarm), Some(next_ns), true) = (&mut self.alarm, next_ns, idle) {
            match alarm.poll(Duration::from_nanos(next_ns.saturating_sub(now_ns)), cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Ending::of(&error))),
                Poll::Pending => {}
            }
        }
        if self.tick.poll_tick(cx).is_pending() {
            return Poll::Pending;
        }
        let silent_ns = now_ns.saturating_sub(self.heard_ns.max(self.flow.waiting_since_ns()));
        let timeout = self.lane.phase.options.login.timeout;
        if self.flow.unanswered() > 0 && Duration::from_nanos(silent_ns) > timeout {
            return Poll::Ready(Err(Ending::of(&io::ErrorKind::TimedOut.into())));
        }
        Poll::Ready(Ok(()))
    }

    /// Counts every unanswered operation as an error that took until now.
    fn give_up_unanswered(&mut self, label: &str, reason: &str) {
        let (now_ns, measure_from_ns) = (self.lane.phase.now_ns(), self.lane.phase.measure_from_ns());
        let mut tally = self.lane.tally.borrow_mut();
        let mut count = 0;
        while let Some(start_ns) = self.flow.settle() {
            count += 1;
            if start_ns >= measure_from_ns {
                tally.given_up(start_ns - measure_from_ns, now_ns - start_ns, label, reason);
            }
        }
        self.noted.clear();
        self.lane.phase.settled(count);
    }

    /// Counts as errors the operations that should have started before the end, or by now, and could not.
    fn give_up_owed(&mut self, label: &str, reason: &str) {
        let phase = &self.lane.phase;
        let (now_ns, Some(end_ns)) = (phase.now_ns(), phase.end_ns()) else { return };
        let mut tally = self.lane.tally.borrow_mut();
        while let Some(start_ns) = self.flow.settle_owed(now_ns.min(end_ns.saturating_sub(1))) {
            if start_ns >= phase.measure_from_ns() {
                tally.given_up(start_ns - phase.measure_from_ns(), now_ns - start_ns, label, reason);
            }
        }
    }

    /// What came due while the connection was broken fails with it, where that is wanted.
    fn fail_fast(&mut self, label: &str, reason: &str) {
        if self.lane.phase.options.fail_fast {
            self.give_up_owed(label, reason);
        }
    }

    fn want_refresh(&self) {
        if let Some(directory) = &self.lane.phase.directory {
            directory.want_refresh();
        }
    }
}

impl Ending {
    fn lost(label: &str, reason: &str) -> Ending {
        Ending::Lost { label: label.to_string(), reason: reason.to_string() }
    }

    fn of(error: &io::Error) -> Ending {
        Ending::lost(label_of(error), &error.to_string())
    }
}
