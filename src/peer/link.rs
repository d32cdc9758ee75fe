//! The talking half of a lane: dials, writes what the lane holds, reads what the replica answers, and gives up in time.
//!
//! One task a lane, on the worker that owns it. It flushes after all clients that can run have run, so one write
//! carries many clients' frames. A replica that acknowledges nothing while frames wait is judged in three steps
//! ([`Judge`]): slow, stalled, gone. A stopped process keeps its connections open, so nobody may wait for it; but a
//! process that only got no turn for a moment must not be made to fetch what it has never lost, so its frames are kept
//! until it counts as gone.
//!
//! A process whose threads are at work for long is not stopped: while it says so by another way
//! ([`Peer::hear_at_work`]), it is slow at most.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::clock::Hlc;
use crate::base::net::{ReadHalf, TcpStream, WriteHalf};
use crate::peer::buffer::{read_more, take_off};
use crate::peer::frame::{Ack, Frame, Kind, next_frame};
use crate::peer::handshake::{HandshakeError, Hello, LinkKind, dial};
use crate::peer::lane::{Lane, Pace};
use crate::peer::registry::Peer;

/// After how long without any acknowledgement reads are confirmed by somebody else, in milliseconds: well above what
/// a busy replica needs, well below what a client notices.
const SLOW_MS: u64 = 40;
/// After how long without any acknowledgement a replica counts as stopped, in milliseconds.
pub const STALL_MS_MAX: u64 = 160;
/// After how long it counts as gone: its connection is closed and what it has not acknowledged is handed over later.
const GONE_MS: u64 = 3_000;
/// How often a replica is judged: what is noticed late by so much keeps a client of a stopped node waiting for longer.
const TICK: Duration = Duration::from_millis(10);
/// A judge that has not looked for so long got no turn itself, and blames nobody for it.
const OVERSLEPT: Duration = Duration::from_millis(60);
/// After how long without any other frame a lane asks for a sign of life: what the replica says with its
/// acknowledgement is older by no more than that, and what the replica lags behind.
pub const HEARTBEAT: Duration = Duration::from_millis(40);
const DIAL_DEADLINE: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(200);
/// What a link between nodes is taken to carry at least, in bytes a millisecond: a hundred megabits a second.
const LINK_BYTES_PER_MS: usize = 12_500;

/// What the owner of a lane does with what arrives.
pub trait LaneEvents {
    /// The replica answered; acknowledgements are the link's own business and do not come here. Numbers in the frame
    /// count from `base`.
    fn answer(&self, peer: &Peer, lane: usize, base: u64, frame: Frame<'_>);
    /// The replica knows of this stamp, when it acknowledges something.
    fn heard_of(&self, latest: Hlc);
    /// A connection stands: this is who answers.
    fn opened(&self, peer: &Peer, theirs: &Hello);
    /// The connection broke before this frame was acknowledged.
    fn lost(&self, peer: &Peer, frame: Frame<'_>);
}

/// Keeps lane `index` of `peer` connected until the peer is retired.
pub async fn keep(peer: Arc<Peer>, index: usize, ours: Hello, secret: Arc<[u8]>, events: impl LaneEvents) {
    let Some(lane) = peer.lanes.get(index) else { return };
    let mut retry = RETRY_MIN;
    // Why it was refused lasts, and is told once.
    let mut told = String::new();
    while !peer.is_retired() {
        let hello = Hello { kind: LinkKind::Replica { lane: index as u8 }, ..ours.clone() };
        match tokio::time::timeout(DIAL_DEADLINE, connect(&peer, &hello, &secret)).await {
            Ok(Ok((mut stream, theirs))) => {
                retry = RETRY_MIN;
                told.clear();
                events.opened(&peer, &theirs);
                peer.generation.fetch_max(theirs.generation, Ordering::Relaxed);
                peer.granted.reset(index);
                peer.forget_told();
                lane.open();
                if peer.is_retired() {
                    // It was while the lane opened, and nobody will say so again.
                    lane.fail();
                }
                peer.note_change();
                let end = converse(&peer, index, lane, &mut stream, &events).await;
                peer.losses.note();
                lane.close(|frame| events.lost(&peer, frame));
                peer.note_change();
                note_end(&peer, format_args!("replica {index}"), 0, &end);
            }
            Ok(Err(HandshakeError::Io(_) | HandshakeError::HungUp)) | Err(_) => {}
            Ok(Err(error)) if told == error.to_string() => {}
            Ok(Err(error)) => {
                told = error.to_string();
                tracing::warn!(name = peer.name(), peer = %peer.addr, lane = index, %error, "peer refused");
            }
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Notes the end of a connection on which so many words or questions were lost. That a node hung up or fell silent is
/// told by whom it concerns (`node::routes`); why else one should end is told nowhere but here.
pub fn note_end(peer: &Peer, link: fmt::Arguments<'_>, lost: u64, end: &std::io::Error) {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    let is_of_node = matches!(end.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof);
    let (name, addr) = (peer.name(), peer.addr);
    if is_of_node || peer.is_retired() {
        tracing::debug!(name, peer = %addr, %link, lost, reason = %end, "link closed");
    } else {
        tracing::info!(name, peer = %addr, %link, lost, reason = %end, "link closed");
    }
}

/// Dials a peer and shakes hands with it, and with nobody else who may have its address now.
pub async fn connect(peer: &Peer, ours: &Hello, secret: &[u8]) -> Result<(TcpStream, Hello), HandshakeError> {
    let mut stream = TcpStream::connect(peer.addr).await?;
    stream.set_nodelay(true)?;
    let theirs = dial(&mut stream, ours, Some(peer.id), secret).await?;
    Ok((stream, theirs))
}

/// Writes and reads until the connection ends; says why it did.
async fn converse(
    peer: &Peer,
    index: usize,
    lane: &Lane,
    stream: &mut TcpStream,
    events: &impl LaneEvents,
) -> std::io::Error {
    // The replica counts from 1 on every connection; the lane's numbers go on.
    let base = lane.acked();
    let (mut reader, writer) = stream.split();
    let take = |frame: Frame<'_>| match frame.kind {
        Kind::Ack => {
            let ack = Ack::read(frame.body).map_err(invalid)?;
            // Before anybody goes on who waits for it.
            events.heard_of(ack.latest);
            heed(lane, base, ack);
            Ok(())
        }
        _ => {
            events.answer(peer, index, base, frame);
            Ok(())
        }
    };
    // However much the replica says, what it is to be told is not held up by that.
    let end = tokio::select! {
        biased;
        end = send(lane, &writer) => end,
        end = listen(lane, &mut reader, take) => end,
        end = watch(peer, lane, base) => end,
    };
    let Err(error) = end;
    error
}

/// Takes in what the replica says.
async fn listen(
    lane: &Lane,
    reader: &mut ReadHalf<'_>,
    mut take: impl FnMut(Frame<'_>) -> std::io::Result<()>,
) -> std::io::Result<Infallible> {
    let mut buf = Vec::new();
    loop {
        read_more(reader, &mut buf).await?;
        each_frame(&mut buf, &mut take)?;
        check_open(lane)?;
    }
}

/// Looks at the clock at every tick.
async fn watch(peer: &Peer, lane: &Lane, base: u64) -> std::io::Result<Infallible> {
    let mut judge = Judge::new(base, Instant::now());
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        look(peer, lane, &mut judge)?;
        check_open(lane)?;
    }
}

/// Sends what the lane holds whenever it is flushed.
async fn send(lane: &Lane, stream: &WriteHalf<'_>) -> std::io::Result<Infallible> {
    loop {
        while write_frames(lane, stream)? {
            stream.writable().await?;
        }
        lane.flushed().await;
        check_open(lane)?;
    }
}

fn check_open(lane: &Lane) -> std::io::Result<()> {
    match lane.is_open() {
        true => Ok(()),
        false => Err(std::io::Error::other("the lane was closed or full")),
    }
}

/// Takes in an acknowledgement. What it says is noted first: nobody is to take what was said before for as late as
/// this.
fn heed(lane: &Lane, base: u64, ack: Ack) {
    lane.hear(ack.knows_of_older);
    lane.ack(base.saturating_add(ack.number));
}

/// Writes until there is no more, or it would block; true then.
fn write_frames(lane: &Lane, stream: &WriteHalf<'_>) -> std::io::Result<bool> {
    loop {
        match lane.write_with(|bytes| stream.try_write(bytes)) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// Judges a replica by how its acknowledgements come along. A clock that was itself late blames nobody.
struct Judge {
    acked: u64,
    /// When the last acknowledgement came, or when we had to start looking anew.
    since: Instant,
    looked: Instant,
    /// What a stalled replica has to acknowledge before it counts again: all that it had not heard of when it came
    /// back.
    catch_up: Option<u64>,
    /// The last frame that was there, and when it was appended at the earliest.
    last: u64,
    appended: Instant,
}

impl Judge {
    fn new(acked: u64, now: Instant) -> Judge {
        Judge { acked, since: now, looked: now, catch_up: None, last: acked, appended: now }
    }

    /// What to make of the replica now, which has said last at `at_work` that it is; `None` when it is gone.
    fn judge(&mut self, lane: &Lane, at_work: Option<Instant>, now: Instant) -> Option<Pace> {
        let acked = lane.acked();
        let has_overslept = now - self.looked > OVERSLEPT;
        let last = lane.last();
        if last != self.last {
            (self.last, self.appended) = (last, self.looked);
        }
        self.looked = now;
        if acked != self.acked {
            if lane.is_stalled() && self.catch_up.is_none() {
                self.catch_up = Some(lane.last());
            }
            self.acked = acked;
            self.since = now;
        }
        if has_overslept {
            self.since = now;
        }
        if self.catch_up.is_some_and(|number| acked >= number) {
            self.catch_up = None;
            return Some(Pace::Prompt);
        }
        // A large value takes its time to get there, and nothing is acknowledged meanwhile.
        let transfer_ms = transfer_ms(lane.longest_frame_bytes());
        let ms_since = |since: Instant| now.saturating_duration_since(since).as_millis() as u64;
        let silent_ms = |since| if lane.is_waiting() { ms_since(since).saturating_sub(transfer_ms) } else { 0 };
        match silent_ms(at_work.map_or(self.since, |at_work| at_work.max(self.since))) {
            GONE_MS.. => None,
            STALL_MS_MAX.. => Some(Pace::Stalled),
            _ if lane.is_stalled() => Some(Pace::Stalled),
            _ if silent_ms(self.since) >= SLOW_MS => Some(Pace::Slow),
            _ => Some(Pace::Prompt),
        }
    }

    /// True when it is time to ask for a sign of life: nothing else was for a while.
    fn wants_heartbeat(&self, now: Instant) -> bool {
        now - self.appended > HEARTBEAT
    }
}

/// One look at the clock: fails when the replica has been silent for too long.
fn look(peer: &Peer, lane: &Lane, judge: &mut Judge) -> std::io::Result<()> {
    let now = Instant::now();
    let Some(pace) = judge.judge(lane, peer.at_work(), now) else {
        return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "nothing was acknowledged in time"));
    };
    let was_stalled = lane.is_stalled();
    if lane.set_pace(pace) && was_stalled != lane.is_stalled() {
        peer.note_change();
        let what = if was_stalled { "a lane is acknowledged again" } else { "a lane is silent" };
        tracing::debug!(name = peer.name(), peer = %peer.addr, "{what}");
    }
    if judge.wants_heartbeat(now) {
        lane.append(Kind::Heartbeat, |_| {});
    }
    // And what anybody else has left behind.
    lane.flush();
    // Behind that: whoever is not behind has acknowledged something of late.
    lane.look_at_lag(now);
    Ok(())
}

/// How long this many bytes may be under way on a link that does its duty, in milliseconds, beside all other delay.
pub fn transfer_ms(bytes: usize) -> u64 {
    (bytes / LINK_BYTES_PER_MS) as u64
}

/// Gives out every whole frame in `buf` and takes it off.
fn each_frame(buf: &mut Vec<u8>, mut each: impl FnMut(Frame<'_>) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut at = 0;
    while let Some((frame, len)) = next_frame(buf.get(at..).unwrap_or_default()).map_err(invalid)? {
        each(frame)?;
        at += len;
    }
    take_off(buf, at);
    Ok(())
}

/// A peer's bytes that make no sense, as an error of its connection.
pub fn invalid(error: crate::base::wire::WireError) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane with one frame that waits, and a judge that has just begun.
    fn waiting() -> (Lane, Judge, Instant) {
        let (lane, now) = (Lane::new(1 << 20), Instant::now());
        lane.open();
        send(&lane);
        (lane, Judge::new(0, now), now)
    }

    fn send(lane: &Lane) {
        lane.append(Kind::Heartbeat, |_| {});
        lane.write_with(|bytes| Ok(bytes.len())).expect("written");
    }

    /// Looks every 20 ms, from one time to another; what was made of the replica at last.
    fn look_on(lane: &Lane, judge: &mut Judge, start: Instant, ms: std::ops::Range<u64>) -> Option<Pace> {
        let mut last = Some(Pace::Prompt);
        for at in ms.step_by(20) {
            last = judge.judge(lane, None, start + Duration::from_millis(at));
            if let Some(pace) = last {
                lane.set_pace(pace);
            }
        }
        last
    }

    #[test]
    fn silence_is_slow_then_stalled_then_gone() {
        let (lane, mut judge, start) = waiting();
        assert_eq!(look_on(&lane, &mut judge, start, 0..40), Some(Pace::Prompt));
        assert_eq!(look_on(&lane, &mut judge, start, 40..160), Some(Pace::Slow));
        assert_eq!(look_on(&lane, &mut judge, start, 160..3_000), Some(Pace::Stalled));
        assert_eq!(look_on(&lane, &mut judge, start, 3_000..3_020), None);
    }

    #[test]
    fn a_large_value_may_take_as_long_as_its_bytes_need() {
        let (lane, mut judge, start) = waiting();
        lane.append(Kind::State, |out| out.resize(12_500_000, 0));
        assert_eq!(look_on(&lane, &mut judge, start, 0..1_000), Some(Pace::Prompt));
        assert_eq!(look_on(&lane, &mut judge, start, 1_000..1_180), Some(Pace::Stalled));
        // Once it is there, what comes behind it has no more time than usual, though the lane was never empty.
        lane.append(Kind::Heartbeat, |_| {});
        assert_eq!(lane.write_with(|bytes| Ok(bytes.len())).ok(), Some(false));
        lane.ack(2);
        lane.append(Kind::Heartbeat, |_| {});
        lane.set_pace(Pace::Prompt);
        let (mut judge, later) = (Judge::new(2, start), start);
        assert_eq!(look_on(&lane, &mut judge, later, 0..180), Some(Pace::Stalled));
    }

    #[test]
    fn whoever_comes_back_counts_when_it_has_acknowledged_all_that_was_sent_meanwhile() {
        let (lane, mut judge, start) = waiting();
        assert_eq!(look_on(&lane, &mut judge, start, 0..200), Some(Pace::Stalled));
        send(&lane);
        lane.ack(1);
        assert_eq!(look_on(&lane, &mut judge, start, 200..220), Some(Pace::Stalled));
        lane.ack(2);
        assert_eq!(look_on(&lane, &mut judge, start, 220..240), Some(Pace::Prompt));
    }

    #[test]
    fn whoever_says_that_it_is_at_work_is_slow_until_it_falls_silent() {
        let (lane, mut judge, start) = waiting();
        let mut judged = |ms: u64, said: u64| {
            let at = |ms| start + Duration::from_millis(ms);
            let pace = judge.judge(&lane, Some(at(said)), at(ms));
            pace.inspect(|pace| _ = lane.set_pace(*pace))
        };
        (0..5_000).step_by(20).for_each(|ms| _ = judged(ms, ms));
        assert_eq!((judged(5_000, 4_980), judged(5_040, 4_980)), (Some(Pace::Slow), Some(Pace::Slow)));
        (5_060..5_140).step_by(20).for_each(|ms| assert_eq!(judged(ms, 4_980), Some(Pace::Slow)));
        assert_eq!(judged(5_140, 4_980), Some(Pace::Stalled), "as soon as if it had acknowledged something then");
        assert_eq!(judged(5_160, 5_150), Some(Pace::Stalled), "it has to catch up");
    }

    #[test]
    fn a_judge_that_slept_blames_nobody() {
        let (lane, mut judge, start) = waiting();
        assert_eq!(judge.judge(&lane, None, start + Duration::from_millis(20)), Some(Pace::Prompt));
        assert_eq!(judge.judge(&lane, None, start + Duration::from_millis(5_000)), Some(Pace::Prompt));
        assert_eq!(look_on(&lane, &mut judge, start, 5_020..5_200), Some(Pace::Stalled));
    }

    #[test]
    fn an_idle_replica_is_asked_for_a_sign_of_life_and_not_blamed() {
        let (lane, mut judge, start) = waiting();
        lane.ack(1);
        assert_eq!(look_on(&lane, &mut judge, start, 0..1_000), Some(Pace::Prompt));
    }

    /// Looks every 10 ms for a second, with a frame each so many ms besides; gives how many signs of life were asked
    /// for.
    fn heartbeats(acks: bool, every_ms: u64) -> u64 {
        let (lane, mut judge, start) = waiting();
        let mut count = 0;
        for ms in (0..1_000).step_by(10) {
            if acks {
                lane.ack(lane.last());
            }
            if ms % every_ms == 0 {
                send(&lane);
            }
            let now = start + Duration::from_millis(ms);
            judge.judge(&lane, None, now);
            if judge.wants_heartbeat(now) {
                send(&lane);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_sign_of_life_is_asked_for_when_nothing_else_is_whether_the_replica_answers_or_not() {
        assert_eq!([true, false].map(|acks| heartbeats(acks, 30)), [0, 0]);
        for acks in [true, false] {
            let count = heartbeats(acks, 10_000);
            assert!((1_000 / 60..=1_000 / 40).contains(&count), "{count}");
        }
    }
}
