//! One lane of a replica link: numbered frames out, cumulative acknowledgements back.
//!
//! Any worker appends frames, under the lock of the slot they are about, so that a key's deltas leave in the order in
//! which they were made. One task, of the worker that owns the lane, writes and reads the socket. Frames are kept until
//! they are acknowledged; when the connection breaks they are given back, so that the writes they carried can be
//! handed over later.
//!
//! Numbers only grow, also over reconnections. A number is *held* once it is acknowledged, and *lost* when the
//! connection broke before; [`Lane::fate`] tells which. What is remembered of that is bounded; of what does not fit it
//! says so ([`Fate::Forgotten`]), or that more was lost. On one connection the last number of a batch says enough of
//! those before it.
//!
//! A lane has a [`Pace`]: while its replica is slow, reads are confirmed elsewhere; while it is stalled, its node
//! counts as down, but frames are still kept for it, so that a short silence costs nothing afterwards. `link` judges.
//!
//! Invariants: bytes kept are at most `bytes_max` and two of the longest frames, beyond which the lane breaks itself
//! off; nobody waits under the lock.
//!
//! Decides nothing about quorums and knows no socket: `link` does the talking.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::framing;
use crate::base::ids::Slot;
pub use crate::peer::fate::{Fate, Pace};
use crate::peer::frame::{Frame, Kind, next_frame, put_frame};
use crate::peer::lag::Lag;

/// How many broken stretches are remembered apart: as many reconnections.
const LOST_STRETCHES_MAX: usize = 64;
/// How many declined frames are remembered.
const DECLINED_MAX: usize = 1 << 16;
/// How many contradictions are remembered that nobody has asked for.
const MISMATCHED_MAX: usize = 1 << 12;

/// The lane, out of so many to a peer, that a slot's traffic takes: the same one to every peer.
#[inline]
pub fn lane_index(slot: Slot, lanes: usize) -> usize {
    slot.index() % lanes.max(1)
}

/// The slots whose traffic takes a lane, out of so many.
pub fn slots_of_lane(lane: usize, lanes: usize) -> impl Iterator<Item = Slot> {
    Slot::all().skip(lane).step_by(lanes.max(1))
}

/// See the head of the file.
#[derive(Debug)]
pub struct Lane {
    state: Mutex<State>,
    /// The last number that is acknowledged or lost.
    acked: AtomicU64,
    /// The last number that was ever lost: at or below it `fate` has to look closer.
    lost_high: AtomicU64,
    /// A connection stands behind the lane.
    open: AtomicBool,
    /// A [`Pace`].
    pace: AtomicU8,
    /// Something was appended, and the writer has not been told.
    dirty: AtomicBool,
    /// The replica has said of late that somebody may hold older copies than it ([`Ack::knows_of_older`]).
    ///
    /// [`Ack::knows_of_older`]: crate::peer::frame::Ack::knows_of_older
    knows_of_older: AtomicBool,
    /// How many reads are in `State::mismatched`, for who does not want to lock for none.
    mismatches: AtomicUsize,
    /// The last write that met, at the replica, one that this node had not seen.
    conflicted: AtomicU64,
    writer: Notify,
    bytes_max: usize,
    /// Bytes given to sockets, and connections lost, since the start.
    sent_bytes: AtomicU64,
    breaks: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Frames not acknowledged, those already written first.
    buf: Vec<u8>,
    /// Bytes at the front that are acknowledged and wait to be cut off.
    done: usize,
    /// Bytes that have been given to the socket, `done` included.
    written: usize,
    /// Number and bytes of the longest frame that is not acknowledged, or of a later one of more than half of them.
    longest: (u64, usize),
    /// Number of the last frame appended.
    last: u64,
    /// Who waits for which number, in ascending order.
    waiters: VecDeque<(u64, Waker)>,
    /// What became of frames up to this number is not known any more.
    forgotten: u64,
    /// Stretches that were lost, in ascending order.
    lost: VecDeque<(u64, u64)>,
    /// Frames that the replica did not do, though it has acknowledged what came behind them.
    declined: VecDeque<u64>,
    /// Verified reads that the replica did not confirm: to be run again.
    mismatched: Vec<u64>,
    /// `None` until somebody looks after the lane was opened.
    lag: Option<Lag>,
}

impl Lane {
    /// A lane that is closed until [`Lane::open`].
    pub fn new(bytes_max: usize) -> Lane {
        Lane {
            state: Mutex::default(),
            acked: AtomicU64::new(0),
            lost_high: AtomicU64::new(0),
            open: AtomicBool::new(false),
            pace: AtomicU8::new(Pace::Prompt as u8),
            dirty: AtomicBool::new(false),
            knows_of_older: AtomicBool::new(true),
            mismatches: AtomicUsize::new(0),
            conflicted: AtomicU64::new(0),
            writer: Notify::new(),
            bytes_max,
            sent_bytes: AtomicU64::new(0),
            breaks: AtomicU64::new(0),
        }
    }

    /// True while a connection stands behind the lane.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// True while the replica takes long to acknowledge, or does not at all.
    #[inline]
    pub fn is_slow(&self) -> bool {
        self.pace.load(Ordering::Acquire) >= Pace::Slow as u8
    }

    /// True while the replica acknowledges nothing and may be stopped.
    #[inline]
    pub fn is_stalled(&self) -> bool {
        self.pace.load(Ordering::Acquire) >= Pace::Stalled as u8
    }

    /// Notes how the replica keeps up, and wakes everybody who waits when that changes: they may turn to another. True
    /// when it has changed.
    pub fn set_pace(&self, pace: Pace) -> bool {
        if self.pace.swap(pace as u8, Ordering::AcqRel) == pace as u8 {
            return false;
        }
        let waiters = std::mem::take(&mut self.state.lock().waiters);
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
        true
    }

    /// Appends a frame and gives its number; `None` when the lane is closed or full, or the frame longer than any may
    /// be.
    ///
    /// The frame leaves after [`Lane::flush`].
    #[inline]
    pub fn append(&self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> Option<u64> {
        let mut state = self.state.lock();
        if !self.is_open() {
            return None;
        }
        // One value may be larger than all that may wait otherwise.
        if state.queued_bytes() > self.bytes_max + state.longest.1 {
            drop(state);
            self.fail();
            return None;
        }
        let before = state.buf.len();
        if !put_frame(&mut state.buf, kind, write) {
            return None;
        }
        state.last += 1;
        let (number, bytes) = (state.last, state.buf.len() - before);
        if bytes >= state.longest.1 / 2 {
            state.longest = (number, bytes.max(state.longest.1));
        }
        drop(state);
        self.dirty.store(true, Ordering::Relaxed);
        Some(number)
    }

    /// Lets the writer know that there is something to send. Cheap when there is not.
    #[inline]
    pub fn flush(&self) {
        if self.dirty.load(Ordering::Relaxed) && self.dirty.swap(false, Ordering::AcqRel) {
            self.writer.notify_one();
        }
    }

    /// What became of frame `number`.
    #[inline]
    pub fn fate(&self, number: u64) -> Fate {
        // Before what was lost is looked at: that is noted first.
        let acked = self.acked.load(Ordering::Acquire);
        if number <= self.lost_high.load(Ordering::Acquire) {
            let state = self.state.lock();
            if number <= state.forgotten {
                return Fate::Forgotten;
            }
            if state.lost.iter().any(|(from, to)| (*from..=*to).contains(&number))
                || state.declined.binary_search(&number).is_ok()
            {
                return Fate::Lost;
            }
        }
        if number <= acked { Fate::Held } else { Fate::Open }
    }

    /// True, once, when the read verified by frame `number` has to be run again.
    pub fn take_mismatch(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        match state.mismatched.iter().position(|it| *it == number) {
            Some(at) => {
                state.mismatched.swap_remove(at);
                self.mismatches.store(state.mismatched.len(), Ordering::Release);
                true
            }
            None => false,
        }
    }

    /// Notes that the write of frame `number` met another at the replica, which this node had not seen. Before the
    /// frame is acknowledged: for that the replica waits for what the two come to.
    pub fn note_conflict(&self, number: u64) {
        self.conflicted.fetch_max(number, Ordering::AcqRel);
    }

    /// Whether a write of frame `number` or of a later one has.
    pub fn has_conflicted_since(&self, number: u64) -> bool {
        self.conflicted.load(Ordering::Acquire) >= number
    }

    /// True when some verified read has to be run again: a cheap look before [`Lane::take_mismatch`].
    pub fn has_mismatches(&self) -> bool {
        self.mismatches.load(Ordering::Acquire) != 0
    }

    /// Has `waker` woken once `number` is no longer open; false when it is not, and nobody will be woken for it.
    pub fn wait_for(&self, number: u64, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if number <= self.acked.load(Ordering::Acquire) {
            return false;
        }
        let waiters = &mut state.waiters;
        if waiters.back().is_none_or(|(last, _)| *last < number) {
            // Batches come in order, so this is nearly always so.
            waiters.push_back((number, waker.clone()));
        } else if let Err(at) = place_of_waiter(waiters, number, waker) {
            waiters.insert(at, (number, waker.clone()));
        }
        true
    }

    /// Has `waker` not woken for `number` any more.
    pub fn stop_waiting(&self, number: u64, waker: &Waker) {
        if number <= self.acked.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        if let Ok(at) = place_of_waiter(&state.waiters, number, waker) {
            state.waiters.remove(at);
        }
    }

    /// Notes that the replica did not confirm the read verified by frame `number`.
    pub fn note_mismatch(&self, number: u64) {
        let mut state = self.state.lock();
        if state.mismatched.len() >= MISMATCHED_MAX {
            // Most were left by connections that have ended; whoever still asks for this one has its read confirmed
            // anew.
            let oldest = state.mismatched.remove(0);
            self.forget_up_to(&mut state, oldest);
        }
        state.mismatched.push(number);
        self.mismatches.store(state.mismatched.len(), Ordering::Release);
    }

    /// Notes that the replica did not do what frame `number` asked for.
    pub fn decline(&self, number: u64) {
        let mut state = self.state.lock();
        let Err(at) = state.declined.binary_search(&number) else { return };
        if number > state.last {
            return;
        }
        state.declined.insert(at, number);
        self.lost_high.fetch_max(number, Ordering::AcqRel);
        if state.declined.len() > DECLINED_MAX
            && let Some(oldest) = state.declined.pop_front()
        {
            self.forget_up_to(&mut state, oldest);
        }
    }

    /// Notes that everything up to `number` is done, and wakes who waited for it. Believes nothing of it, and breaks
    /// the lane off, when some of that was never written.
    pub fn ack(&self, number: u64) {
        let mut state = self.state.lock();
        let before = self.acked.load(Ordering::Relaxed);
        let number = number.min(state.last);
        if number <= before {
            return;
        }
        if !state.forget_frames(number - before) {
            drop(state);
            return self.fail();
        }
        if state.longest.0 <= number {
            state.longest = (0, 0);
        }
        self.acked.store(number, Ordering::Release);
        let due = state.waiters.partition_point(|(waiting, _)| *waiting <= number);
        let due: smallvec::SmallVec<[Waker; 16]> = state.waiters.drain(..due).map(|(_, waker)| waker).collect();
        drop(state);
        due.into_iter().for_each(Waker::wake);
    }

    /// Opens the lane for a fresh connection; numbers go on after this one.
    pub fn open(&self) -> u64 {
        let mut state = self.state.lock();
        self.pace.store(Pace::Prompt as u8, Ordering::Release);
        self.open.store(true, Ordering::Release);
        // Until it says otherwise.
        self.knows_of_older.store(true, Ordering::Release);
        state.lag = None;
        state.last
    }

    /// Makes the lane's connection end; its task then calls [`Lane::close`].
    pub fn fail(&self) {
        self.open.store(false, Ordering::Release);
        self.writer.notify_one();
    }

    /// Closes the lane after its connection broke: what was not acknowledged is lost, everybody who waited is woken,
    /// and the lost frames are handed to `each`, oldest first.
    pub fn close(&self, mut each: impl FnMut(Frame<'_>)) {
        let mut state = self.state.lock();
        self.open.store(false, Ordering::Release);
        self.breaks.fetch_add(1, Ordering::Relaxed);
        let acked = self.acked.load(Ordering::Relaxed);
        if state.last > acked {
            let last = state.last;
            state.lost.push_back((acked + 1, last));
            self.lost_high.fetch_max(last, Ordering::AcqRel);
            if state.lost.len() > LOST_STRETCHES_MAX
                && let (Some((from, _)), Some(next)) = (state.lost.pop_front(), state.lost.front_mut())
            {
                // What was held in between counts as lost with them: it has been handed over when all of it has.
                next.0 = from;
            }
            self.acked.store(last, Ordering::Release);
        }
        let buf = std::mem::take(&mut state.buf);
        let done = std::mem::take(&mut state.done);
        (state.written, state.longest) = (0, (0, 0));
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
        let mut rest = buf.get(done..).unwrap_or_default();
        while let Ok(Some((frame, len))) = next_frame(rest) {
            each(frame);
            rest = rest.get(len..).unwrap_or_default();
        }
    }

    /// Gives `write` the bytes not yet written and notes how many it took; true when something is left.
    pub fn write_with(&self, write: impl FnOnce(&[u8]) -> std::io::Result<usize>) -> std::io::Result<bool> {
        let mut state = self.state.lock();
        let bytes = state.buf.get(state.written..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(false);
        }
        let taken = write(bytes)?;
        state.written += taken;
        self.sent_bytes.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(state.written < state.buf.len())
    }

    /// Waits until [`Lane::flush`] or [`Lane::fail`] is called.
    pub async fn flushed(&self) {
        self.writer.notified().await;
    }

    /// Bytes given to sockets since the start.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// How often its connection was lost.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Relaxed)
    }

    /// Bytes kept: not sent, or sent and not acknowledged.
    pub fn queued_bytes(&self) -> usize {
        self.state.lock().queued_bytes()
    }

    /// Bytes of about the longest frame that waits for its acknowledgement.
    pub fn longest_frame_bytes(&self) -> usize {
        self.state.lock().longest.1
    }

    /// Looks how far the replica is behind; to be called every few milliseconds.
    pub fn look_at_lag(&self, now: Instant) {
        let mut state = self.state.lock();
        let (last, acked) = (state.last, self.acked.load(Ordering::Acquire));
        state.lag.get_or_insert_with(|| Lag::new(now)).look(last, acked, now);
    }

    /// For how long the oldest frame that waits has waited, at most; as long as can be before the first look.
    pub fn lag(&self, now: Instant) -> Duration {
        let state = self.state.lock();
        state.lag.as_ref().map_or(Duration::MAX, |lag| lag.of(self.acked.load(Ordering::Acquire), now))
    }

    /// Notes what the replica has said with an acknowledgement: whether it knows of somebody who may hold older copies
    /// than it.
    pub fn hear(&self, knows_of_older: bool) {
        self.knows_of_older.store(knows_of_older, Ordering::Release);
    }

    /// Whether the replica knows of somebody who may hold older copies than it, as it has said last; yes until it says
    /// something.
    pub fn knows_of_older(&self) -> bool {
        self.knows_of_older.load(Ordering::Acquire)
    }

    /// From now on nobody knows what became of the frames up to this one.
    fn forget_up_to(&self, state: &mut State, number: u64) {
        state.forgotten = state.forgotten.max(number);
        self.lost_high.fetch_max(number, Ordering::AcqRel);
    }

    /// True when frames wait for an acknowledgement.
    pub fn is_waiting(&self) -> bool {
        self.state.lock().last > self.acked.load(Ordering::Acquire)
    }

    /// The number of the last frame appended.
    pub fn last(&self) -> u64 {
        self.state.lock().last
    }

    /// The last number acknowledged or lost.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }
}

/// Where `waker` waits for `number`, or else would.
fn place_of_waiter(waiters: &VecDeque<(u64, Waker)>, number: u64, waker: &Waker) -> Result<usize, usize> {
    let mut at = waiters.partition_point(|(other, _)| *other < number);
    while let Some((_, known)) = waiters.get(at).filter(|(other, _)| *other == number) {
        if known.will_wake(waker) {
            return Ok(at);
        }
        at += 1;
    }
    Err(at)
}

impl State {
    fn queued_bytes(&self) -> usize {
        self.buf.len() - self.done
    }

    /// Drops the oldest `count` frames. False, with nothing dropped, when some were not written yet: whoever
    /// acknowledges them is not to be talked to.
    fn forget_frames(&mut self, count: u64) -> bool {
        let mut done = self.done;
        for _ in 0..count {
            let Some((frame, _)) = self.buf.get(done..).and_then(framing::split) else { break };
            done += framing::LENGTH_BYTES + frame.len();
        }
        if done > self.written {
            return false;
        }
        self.done = done;
        // Cutting costs a copy of what is left: do it when that is the smaller part.
        if self.done == self.buf.len() {
            self.buf.clear();
            (self.written, self.done) = (0, 0);
            if self.buf.capacity() > 1 << 20 {
                self.buf.shrink_to(1 << 16);
            }
        } else if self.done > 1 << 16 && self.done * 2 > self.buf.len() {
            self.buf.drain(..self.done);
            self.written -= self.done;
            self.done = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often it is woken.
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Appends a frame that is sent at once.
    fn put(lane: &Lane, text: &str) -> Option<u64> {
        let number = put_unsent(lane, text);
        lane.write_with(|bytes| Ok(bytes.len())).expect("written");
        number
    }

    fn put_unsent(lane: &Lane, text: &str) -> Option<u64> {
        lane.append(Kind::Delta, |out| out.extend_from_slice(text.as_bytes()))
    }

    #[test]
    fn numbers_are_held_up_to_the_acknowledgement_and_lost_behind_it() {
        let lane = Lane::new(1 << 20);
        assert_eq!(put(&lane, "closed"), None);
        assert_eq!(lane.open(), 0);
        assert_eq!((put(&lane, "a"), put(&lane, "b"), put(&lane, "c")), (Some(1), Some(2), Some(3)));
        lane.ack(2);
        assert_eq!((lane.fate(1), lane.fate(2), lane.fate(3)), (Fate::Held, Fate::Held, Fate::Open));
        let mut given_back = Vec::new();
        lane.close(|frame| given_back.push(frame.body.to_vec()));
        assert_eq!(given_back, [b"c"]);
        assert_eq!((lane.fate(2), lane.fate(3)), (Fate::Held, Fate::Lost));
        assert_eq!(lane.open(), 3);
        assert_eq!(put(&lane, "d"), Some(4));
        lane.ack(4);
        assert_eq!((lane.fate(3), lane.fate(4)), (Fate::Lost, Fate::Held));
    }

    #[test]
    fn a_declined_frame_is_lost_though_those_behind_it_are_held() {
        let lane = Lane::new(1 << 20);
        lane.open();
        assert!((0..4).all(|_| put(&lane, "a").is_some()));
        lane.decline(2);
        lane.decline(9);
        assert_eq!((lane.fate(2), lane.fate(3)), (Fate::Lost, Fate::Open));
        lane.ack(4);
        assert_eq!((lane.fate(1), lane.fate(2), lane.fate(3)), (Fate::Held, Fate::Lost, Fate::Held));
        assert!((0..6).all(|_| put(&lane, "a").is_some()));
        lane.ack(9);
        assert_eq!(lane.fate(9), Fate::Held, "what was not sent cannot be declined");
    }

    #[test]
    fn an_acknowledgement_from_nowhere_is_not_believed_beyond_what_was_sent() {
        let lane = Lane::new(1 << 20);
        lane.open();
        put(&lane, "a");
        lane.ack(99);
        assert_eq!(put(&lane, "b"), Some(2));
        assert_eq!(lane.fate(2), Fate::Open);
    }

    #[test]
    fn who_acknowledges_what_was_never_written_is_not_talked_to_any_more() {
        let lane = Lane::new(1 << 20);
        lane.open();
        let long = "a".repeat(1 << 16);
        assert!((0..4).all(|_| put_unsent(&lane, &long).is_some()));
        assert!(lane.write_with(|bytes| Ok(bytes.len().min(5))).expect("written"));
        lane.ack(3);
        assert!(!lane.is_open());
        let mut given_back = 0;
        lane.close(|_| given_back += 1);
        assert_eq!((given_back, lane.open(), put(&lane, "b")), (4, 4, Some(5)), "none of them is believed to be held");
        lane.ack(5);
        assert!(lane.is_open());
    }

    #[test]
    fn who_waits_is_woken_when_the_replica_falls_silent() {
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let lane = Lane::new(1 << 20);
        lane.open();
        put(&lane, "a");
        let flag = std::sync::Arc::new(Flag(AtomicBool::new(false)));
        assert!(lane.wait_for(1, &flag.clone().into()));
        assert!(!lane.set_pace(Pace::Prompt) && !flag.0.load(Ordering::Relaxed));
        assert!(lane.set_pace(Pace::Slow) && flag.0.load(Ordering::Relaxed));
        assert!(lane.is_slow() && !lane.is_stalled() && lane.is_open());
        assert_eq!(put(&lane, "kept"), Some(2));
    }

    #[test]
    fn who_looks_often_waits_once() {
        let lane = Lane::new(1 << 20);
        lane.open();
        assert!(put(&lane, "a").is_some() && put(&lane, "b").is_some());
        let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
        let waker = count.clone().into();
        assert!([1, 2, 2, 2].into_iter().all(|number| lane.wait_for(number, &waker)));
        lane.ack(1);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        lane.ack(2);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(!lane.wait_for(2, &waker), "what is known is not waited for");
    }

    #[test]
    fn who_begins_to_wait_when_the_lane_is_about_to_close_is_woken_by_that() {
        let lane = Lane::new(1 << 20);
        lane.open();
        put(&lane, "a");
        lane.fail();
        let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
        let waker = count.clone().into();
        assert!(lane.wait_for(1, &waker));
        lane.close(|_| {});
        assert!(count.0.load(Ordering::Relaxed) == 1 && !lane.wait_for(1, &waker));
    }

    #[test]
    fn who_waits_no_more_is_not_woken_and_others_are() {
        let lane = Lane::new(1 << 20);
        lane.open();
        assert!((0..3).all(|_| put(&lane, "a").is_some()));
        let counts = [0, 1].map(|_| std::sync::Arc::new(Count(AtomicUsize::new(0))));
        let wakers = counts.clone().map(Waker::from);
        // In an order in which batches come now and then.
        for number in [3, 1, 2] {
            assert!(wakers.iter().all(|waker| lane.wait_for(number, waker)));
        }
        [2, 3].into_iter().for_each(|number| lane.stop_waiting(number, &wakers[0]));
        lane.ack(1);
        lane.stop_waiting(1, &wakers[1]);
        lane.ack(3);
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 3]);
    }

    #[test]
    fn a_full_lane_breaks_itself_off() {
        let lane = Lane::new(10);
        lane.open();
        assert!(put(&lane, "0123456789").is_some() && put(&lane, "x").is_some(), "one may be larger than all others");
        assert!(put(&lane, "01234").is_some());
        assert_eq!(put(&lane, "x"), None);
        assert!(!lane.is_open());
    }

    #[test]
    fn what_is_no_longer_remembered_apart_is_lost_and_never_held() {
        let lane = Lane::new(1 << 20);
        let mut numbers = Vec::new();
        for _ in 0..LOST_STRETCHES_MAX + 20 {
            lane.open();
            let (held, lost) = (put(&lane, "a"), put(&lane, "b").expect("open"));
            lane.ack(held.expect("open"));
            lane.close(|_| {});
            numbers.push(lost);
        }
        assert!(numbers.iter().all(|number| lane.fate(*number) == Fate::Lost));
        assert!(lane.state.lock().lost.len() <= LOST_STRETCHES_MAX);
        lane.open();
        let last = put(&lane, "c").expect("open");
        lane.ack(last);
        assert_eq!(lane.fate(last), Fate::Held);
    }

    #[test]
    fn a_contradiction_that_is_no_longer_remembered_leaves_its_read_unconfirmed() {
        let lane = Lane::new(1 << 24);
        lane.open();
        let numbers: Vec<u64> = (0..=MISMATCHED_MAX).filter_map(|_| put(&lane, "a")).collect();
        numbers.iter().for_each(|number| lane.note_mismatch(*number));
        lane.ack(numbers.len() as u64);
        assert!(!lane.take_mismatch(1) && lane.take_mismatch(2));
        assert_eq!((lane.fate(1), lane.fate(2)), (Fate::Forgotten, Fate::Held));
    }

    #[test]
    fn partial_writes_and_acknowledgements_keep_the_bytes_in_order() {
        let lane = Lane::new(1 << 24);
        lane.open();
        let mut sent = Vec::new();
        for round in 0..200 {
            put_unsent(&lane, &"x".repeat(1_000 + round));
            let more = lane.write_with(|bytes| {
                let take = bytes.len().min(700);
                sent.extend_from_slice(&bytes[..take]);
                Ok(take)
            });
            assert!(more.is_ok());
            let mut frames = 0;
            let mut rest = &sent[..];
            while let Ok(Some((_, len))) = next_frame(rest) {
                frames += 1;
                rest = &rest[len..];
            }
            lane.ack(frames);
        }
        while lane
            .write_with(|bytes| {
                sent.extend_from_slice(bytes);
                Ok(bytes.len())
            })
            .expect("a write")
        {}
        let mut rest = &sent[..];
        for round in 0..200 {
            let (frame, len) = next_frame(rest).expect("own frames").expect("whole");
            assert_eq!(frame.body.len(), 1_000 + round);
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn nothing_is_known_of_a_connection_before_somebody_looks_and_the_replica_speaks() {
        let (lane, now) = (Lane::new(1 << 20), Instant::now());
        for _ in 0..2 {
            lane.open();
            assert!(lane.knows_of_older() && lane.lag(now) == Duration::MAX);
            lane.look_at_lag(now);
            lane.hear(false);
            assert!(!lane.knows_of_older() && lane.lag(now) == Duration::ZERO);
            let number = put(&lane, "a").expect("it is open");
            lane.look_at_lag(now + Duration::from_millis(10));
            assert_eq!(lane.lag(now + Duration::from_millis(70)), Duration::from_millis(70));
            lane.ack(number);
            assert_eq!(lane.lag(now + Duration::from_millis(70)), Duration::from_millis(60));
            lane.close(|_| {});
        }
    }
}
