//! What happens on a simulated network.
//!
//! Every direction of a connection is a [`Pipe`]: segments on their way, each with a moment of arrival drawn from the
//! network's own random numbers, in order; and bytes that have arrived. Nothing moves by itself: [`Network::advance`]
//! is told what time it is and does what is due. A cut between two hosts holds up what arrives while it lasts, as lost
//! packets that are sent again do; datagrams are lost. A reset breaks connections at both ends. Delays, chopped writes
//! and lost datagrams follow [`Weather`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::ReadBuf;

use super::weather::Weather;

/// What a direction takes before its writer has to wait, in bytes.
const PIPE_BYTES_MAX: usize = 256 << 10;
/// The first port given to who dials.
const FIRST_PORT: u16 = 40_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PipeId(u64);

/// What one end of a connection knows of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub incoming: PipeId,
    pub outgoing: PipeId,
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

enum Segment {
    Bytes(Vec<u8>),
    /// The other side has closed.
    End,
}

/// One direction of a connection.
struct Pipe {
    from: IpAddr,
    to: IpAddr,
    on_way: VecDeque<Segment>,
    on_way_bytes: usize,
    /// No segment may arrive before the one before it.
    last_us: u64,
    /// Arrivals that a cut holds up.
    held_up: usize,
    arrived: VecDeque<u8>,
    has_ended: bool,
    is_broken: bool,
    reader_is_gone: bool,
    writer_is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn break_off(&mut self) {
        self.is_broken = true;
        self.on_way.clear();
        self.on_way_bytes = 0;
        self.arrived.clear();
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

/// Somebody dials.
struct Dialling {
    outcome: Option<io::Result<Ends>>,
    waker: Option<Waker>,
}

enum Event {
    Arrival(PipeId),
    Knock { from: SocketAddr, to: SocketAddr, dialling: u64 },
    Answer { from: IpAddr, to: IpAddr, dialling: u64, outcome: io::Result<Ends> },
    Datagram { from: IpAddr, to: SocketAddr, bytes: Vec<u8> },
    Reset(PipeId),
}

struct Inbox<T> {
    items: VecDeque<T>,
    waker: Option<Waker>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Inbox<T> {
        Inbox { items: VecDeque::new(), waker: None }
    }
}

impl<T> Inbox<T> {
    fn put(&mut self, item: T) {
        self.items.push_back(item);
        wake(&mut self.waker);
    }
}

/// See the head of the file.
pub struct Network {
    /// What it does to what is sent from now on.
    pub weather: Weather,
    now_us: u64,
    draws: SmallRng,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    pipes: BTreeMap<PipeId, Pipe>,
    diallings: BTreeMap<u64, Dialling>,
    listeners: BTreeMap<SocketAddr, Inbox<Ends>>,
    sockets: BTreeMap<SocketAddr, Inbox<Vec<u8>>>,
    /// From whom nothing gets to whom.
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    /// How much further than others it is from whom to whom, in microseconds; not undone by [`Network::heal`].
    distances: BTreeMap<(IpAddr, IpAddr), u64>,
    /// More delay from whom to whom, in microseconds.
    slow: BTreeMap<(IpAddr, IpAddr), u64>,
    /// What cuts hold up beside segments.
    stuck: Vec<(IpAddr, IpAddr, Event)>,
    next_port: u16,
    /// Hosts that something has arrived at since this was last taken.
    touched: BTreeSet<IpAddr>,
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn watch(place: &mut Option<Waker>, cx: &Context<'_>) {
    *place = Some(cx.waker().clone());
}

/// The time, and what goes wrong.
impl Network {
    /// A calm network without hosts.
    pub fn new(seed: u64) -> Network {
        Network {
            weather: Weather::CALM,
            now_us: 0,
            draws: SmallRng::seed_from_u64(seed),
            events: BTreeMap::new(),
            count: 0,
            pipes: BTreeMap::new(),
            diallings: BTreeMap::new(),
            listeners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            cuts: BTreeSet::new(),
            distances: BTreeMap::new(),
            slow: BTreeMap::new(),
            stuck: Vec::new(),
            next_port: FIRST_PORT,
            touched: BTreeSet::new(),
        }
    }

    /// When something is due next.
    pub fn next_due_us(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Makes it this time, does what is due, and says at which hosts something has happened.
    pub fn advance(&mut self, now_us: u64) -> BTreeSet<IpAddr> {
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= now_us
        {
            let ((at_us, _), event) = entry.remove_entry();
            self.now_us = self.now_us.max(at_us);
            self.happen(event);
        }
        self.now_us = now_us;
        std::mem::take(&mut self.touched)
    }

    /// From now on nothing gets from the one to the other.
    pub fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.cuts.insert((from, to));
    }

    /// Makes the way from the one to the other this much slower.
    pub fn slow_down(&mut self, from: IpAddr, to: IpAddr, by_us: u64) {
        self.slow.insert((from, to), by_us);
    }

    /// Places the one so much further from the other for good.
    pub fn set_distance(&mut self, from: IpAddr, to: IpAddr, us: u64) {
        self.distances.insert((from, to), us);
    }

    /// Undoes all cuts and slow ways; what was held up goes on.
    pub fn heal(&mut self) {
        self.slow.clear();
        self.cuts.clear();
        for (from, to, event) in std::mem::take(&mut self.stuck) {
            let at_us = self.arrival_us(from, to);
            self.schedule(at_us, event);
        }
        let held_up: Vec<PipeId> = self.pipes.iter().filter(|(_, pipe)| pipe.held_up > 0).map(|(id, _)| *id).collect();
        for id in held_up {
            let count = self.pipes.get_mut(&id).map_or(0, |pipe| std::mem::take(&mut pipe.held_up));
            (0..count).for_each(|_| self.schedule_arrival(id));
        }
    }

    /// Breaks every connection between the two, at both ends; what is on its way is lost.
    pub fn reset(&mut self, one: IpAddr, other: IpAddr) {
        for pipe in self.pipes.values_mut() {
            if (pipe.from, pipe.to) == (one, other) || (pipe.from, pipe.to) == (other, one) {
                pipe.break_off();
            }
        }
        self.touched.extend([one, other]);
    }

    fn schedule(&mut self, at_us: u64, event: Event) {
        self.count += 1;
        self.events.insert((at_us, self.count), event);
    }

    /// When what is sent now arrives.
    fn arrival_us(&mut self, from: IpAddr, to: IpAddr) -> u64 {
        let Weather { delay_us: (least, most), late: (chance, longest), .. } = self.weather;
        let more: u64 = [&self.slow, &self.distances].iter().filter_map(|more| more.get(&(from, to))).sum();
        let is_late = self.draws.random_range(0..1_000) < chance;
        let late_us = if is_late { self.draws.random_range(0..=longest) } else { 0 };
        self.now_us + self.draws.random_range(least..=most) + late_us + more
    }

    fn schedule_arrival(&mut self, id: PipeId) {
        let Some((from, to)) = self.pipes.get(&id).map(|pipe| (pipe.from, pipe.to)) else { return };
        let at_us = self.arrival_us(from, to);
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.last_us = pipe.last_us.max(at_us);
        let at_us = pipe.last_us;
        self.schedule(at_us, Event::Arrival(id));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival(id) => self.arrive(id),
            Event::Knock { from, to, .. } if self.cuts.contains(&(from.ip(), to.ip())) => {
                self.stuck.push((from.ip(), to.ip(), event));
            }
            Event::Knock { from, to, dialling } => self.knock(from, to, dialling),
            Event::Answer { from, to, .. } if self.cuts.contains(&(from, to)) => self.stuck.push((from, to, event)),
            Event::Answer { to, dialling, outcome, .. } => match self.diallings.get_mut(&dialling) {
                Some(dialling) => {
                    dialling.outcome = Some(outcome);
                    wake(&mut dialling.waker);
                    self.touched.insert(to);
                }
                None => outcome.iter().for_each(|ends| self.close(ends)),
            },
            Event::Datagram { from, to, bytes } => {
                let is_lost = self.cuts.contains(&(from, to.ip()));
                let is_lost = is_lost || self.draws.random_range(0..1_000) < self.weather.loss;
                if let Some(inbox) = self.sockets.get_mut(&to).filter(|_| !is_lost) {
                    inbox.put(bytes);
                    self.touched.insert(to.ip());
                }
            }
            Event::Reset(id) => {
                if let Some(pipe) = self.pipes.get_mut(&id) {
                    pipe.break_off();
                    self.touched.extend([pipe.from, pipe.to]);
                }
            }
        }
    }

    fn arrive(&mut self, id: PipeId) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let (from, to) = (pipe.from, pipe.to);
        if self.cuts.contains(&(from, to)) {
            pipe.held_up += 1;
            return;
        }
        match pipe.on_way.pop_front() {
            Some(Segment::Bytes(bytes)) => {
                pipe.on_way_bytes -= bytes.len();
                if pipe.reader_is_gone {
                    // The system over there says that nobody reads this any more.
                    let at_us = self.arrival_us(to, from);
                    return self.schedule(at_us, Event::Reset(id));
                }
                pipe.arrived.extend(bytes);
            }
            Some(Segment::End) => pipe.has_ended = true,
            None => return,
        }
        wake(&mut pipe.reader);
        self.touched.insert(to);
    }
}

/// What sockets ask for.
impl Network {
    pub(super) fn dial(&mut self, host: IpAddr, to: SocketAddr) -> u64 {
        let from = SocketAddr::new(host, self.next_port);
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        self.count += 1;
        let dialling = self.count;
        self.diallings.insert(dialling, Dialling { outcome: None, waker: None });
        let at_us = self.arrival_us(host, to.ip());
        self.schedule(at_us, Event::Knock { from, to, dialling });
        dialling
    }

    pub(super) fn poll_dialled(&mut self, dialling: u64, cx: &Context<'_>) -> Poll<io::Result<Ends>> {
        let Some(known) = self.diallings.get_mut(&dialling) else { return Poll::Pending };
        match known.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                watch(&mut known.waker, cx);
                Poll::Pending
            }
        }
    }

    /// Whoever has dialled has its connection, or does not want it any more.
    pub(super) fn give_up(&mut self, dialling: u64) {
        if let Some(Ok(ends)) = self.diallings.remove(&dialling).and_then(|dialling| dialling.outcome) {
            self.close(&ends);
        }
    }

    fn knock(&mut self, from: SocketAddr, to: SocketAddr, dialling: u64) {
        let at_us = self.arrival_us(to.ip(), from.ip());
        let mut outcome = Err(io::ErrorKind::ConnectionRefused.into());
        if self.listeners.contains_key(&to) {
            let (there, back) = (self.new_pipe(from.ip(), to.ip()), self.new_pipe(to.ip(), from.ip()));
            outcome = Ok(Ends { incoming: back, outgoing: there, local: from, peer: to });
            if let Some(inbox) = self.listeners.get_mut(&to) {
                inbox.put(Ends { incoming: there, outgoing: back, local: to, peer: from });
                self.touched.insert(to.ip());
            }
        }
        self.schedule(at_us, Event::Answer { from: to.ip(), to: from.ip(), dialling, outcome });
    }

    fn new_pipe(&mut self, from: IpAddr, to: IpAddr) -> PipeId {
        self.count += 1;
        let id = PipeId(self.count);
        let pipe = Pipe {
            from,
            to,
            on_way: VecDeque::new(),
            on_way_bytes: 0,
            last_us: 0,
            held_up: 0,
            arrived: VecDeque::new(),
            has_ended: false,
            is_broken: false,
            reader_is_gone: false,
            writer_is_gone: false,
            reader: None,
            writer: None,
        };
        self.pipes.insert(id, pipe);
        id
    }

    pub(super) fn poll_read(&mut self, id: PipeId, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(pipe) = self.pipes.get_mut(&id) else { return Poll::Ready(Ok(())) };
        if pipe.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.arrived.is_empty() {
            if pipe.has_ended {
                return Poll::Ready(Ok(()));
            }
            watch(&mut pipe.reader, cx);
            return Poll::Pending;
        }
        let count = buf.remaining().min(pipe.arrived.len());
        buf.put_slice(&pipe.arrived.drain(..count).collect::<Vec<u8>>());
        wake(&mut pipe.writer);
        self.touched.insert(pipe.from);
        Poll::Ready(Ok(()))
    }

    pub(super) fn send(&mut self, id: PipeId, bytes: &[u8]) -> io::Result<usize> {
        let chop = self.draws.random_range(0..1_000) < self.weather.chop;
        let Some(pipe) = self.pipes.get_mut(&id) else { return Err(io::ErrorKind::BrokenPipe.into()) };
        if pipe.is_broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let room = PIPE_BYTES_MAX.saturating_sub(pipe.on_way_bytes + pipe.arrived.len());
        let mut len = bytes.len().min(room);
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if chop && len > 1 {
            len = self.draws.random_range(1..len);
        }
        pipe.on_way.push_back(Segment::Bytes(bytes[..len].to_vec()));
        pipe.on_way_bytes += len;
        self.schedule_arrival(id);
        Ok(len)
    }

    pub(super) fn poll_write_ready(&mut self, id: PipeId, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let Some(pipe) = self.pipes.get_mut(&id) else { return Poll::Ready(Ok(())) };
        if pipe.is_broken || pipe.on_way_bytes + pipe.arrived.len() < PIPE_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        watch(&mut pipe.writer, cx);
        Poll::Pending
    }

    pub(super) fn end(&mut self, id: PipeId) {
        if let Some(pipe) = self.pipes.get_mut(&id).filter(|pipe| !pipe.is_broken) {
            pipe.on_way.push_back(Segment::End);
            self.schedule_arrival(id);
        }
    }

    /// One end is gone.
    pub(super) fn close(&mut self, ends: &Ends) {
        self.end(ends.outgoing);
        if let Some(pipe) = self.pipes.get_mut(&ends.incoming) {
            pipe.reader_is_gone = true;
        }
        if let Some(pipe) = self.pipes.get_mut(&ends.outgoing) {
            pipe.writer_is_gone = true;
        }
        for id in [ends.incoming, ends.outgoing] {
            if self.pipes.get(&id).is_some_and(|pipe| pipe.reader_is_gone && pipe.writer_is_gone) {
                self.pipes.remove(&id);
            }
        }
    }

    pub(super) fn listen(&mut self, addr: SocketAddr) -> io::Result<()> {
        if self.listeners.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.listeners.insert(addr, Inbox::default());
        Ok(())
    }

    pub(super) fn poll_accept(&mut self, addr: SocketAddr, cx: &Context<'_>) -> Poll<Ends> {
        let Some(inbox) = self.listeners.get_mut(&addr) else { return Poll::Pending };
        match inbox.items.pop_front() {
            Some(ends) => Poll::Ready(ends),
            None => {
                watch(&mut inbox.waker, cx);
                Poll::Pending
            }
        }
    }

    pub(super) fn stop_listening(&mut self, addr: SocketAddr) {
        let inbox = self.listeners.remove(&addr).unwrap_or_default();
        inbox.items.iter().for_each(|ends| self.close(ends));
    }

    pub(super) fn bind(&mut self, addr: SocketAddr) -> io::Result<()> {
        if self.sockets.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.sockets.insert(addr, Inbox::default());
        Ok(())
    }

    pub(super) fn unbind(&mut self, addr: SocketAddr) {
        self.sockets.remove(&addr);
    }

    pub(super) fn poll_readable(&mut self, addr: SocketAddr, cx: &Context<'_>) -> Poll<()> {
        let Some(inbox) = self.sockets.get_mut(&addr) else { return Poll::Pending };
        if !inbox.items.is_empty() {
            return Poll::Ready(());
        }
        watch(&mut inbox.waker, cx);
        Poll::Pending
    }

    pub(super) fn receive(&mut self, addr: SocketAddr) -> Option<Vec<u8>> {
        self.sockets.get_mut(&addr)?.items.pop_front()
    }

    pub(super) fn send_datagram(&mut self, from: IpAddr, to: SocketAddr, bytes: &[u8]) {
        let at_us = self.arrival_us(from, to.ip());
        self.schedule(at_us, Event::Datagram { from, to, bytes: bytes.to_vec() });
    }
}
