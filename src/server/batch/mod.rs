//! A batch: the replies to all requests of one read, and what they wait for.
//!
//! Commands write their replies one behind the other. Some replies depend on replicas ([`Wait`]) or come from another
//! node ([`Hole`]); then the whole batch is held, in the order of the connection, until all is known. A reply whose read
//! was contradicted is run again; one whose write can no longer be confirmed becomes an error, and so does one that tells what a
//! write has found, when others may have coordinated its key before they had the write. Nothing is sent before that.

pub mod ask;
pub mod order;
pub mod question;
pub mod scanned;
pub mod window;

use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use smallvec::{SmallVec, smallvec};

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::protocol::Proto;
use crate::replication::wait::{Wait, WaitState, Waits};
use crate::server::batch::ask::{Again, Ask, Pending, Place, Reading, Span, Why, kept};
use crate::server::batch::order::Order;
use crate::server::batch::question::{Hole, Question, Target};
use crate::server::forward::{Call, Fate, Part, parts};

/// What a client reads when a write reached its coordinator and may or may not have reached enough replicas.
pub const UNKNOWN_OUTCOME: &str =
    "TIMEOUT the write's outcome is unknown: connections to too many replicas broke before they confirmed it";

/// What a client reads when too few replicas were found for its request for so long that it is not asked for again.
pub const NOBODY_IN_TIME: &str = "CLUSTERDOWN too few replicas of this hash slot answered in time";

/// How long a write whose connections broke waits for a lost replica to be handed what it missed.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
const CATCH_UP_LOOK: Duration = Duration::from_millis(5);

/// See the head of the file.
#[derive(Debug)]
pub struct Batch {
    /// Replies.
    pub out: Vec<u8>,
    /// What they wait for.
    pub waits: Waits,
    /// Replies that depend on `waits`.
    pub pending: Vec<Pending>,
    /// What other nodes are asked.
    questions: Vec<Question>,
    /// Bytes of requests that may have to be run again.
    pub requests: Vec<u8>,
    /// Replacements for stretches of `out`, each a stretch of `patched`; of several for one place the last one counts.
    patches: Vec<(Place, Span)>,
    patched: Vec<u8>,
    places: u32,
    /// What may not be overtaken.
    pub order: Order,
    /// The slots that were written here, one bit for every 64th.
    written: u64,
    /// Requests left to other nodes.
    pub forwarded: usize,
    /// The bytes of the largest reply that another node has given.
    pub largest_answer: usize,
    /// When the batch's bytes were read.
    pub started: Instant,
    /// Commands by latency class.
    pub answered: [u64; 3],
    /// Requests sent to other nodes that were not answered.
    pub forward_failures: u64,
    /// Replies that say that a write's outcome is unknown.
    pub unknown_outcomes: u64,
}

impl Batch {
    /// An empty batch that starts now.
    pub fn new(started: Instant) -> Batch {
        Batch {
            out: Vec::new(),
            waits: Waits::new(),
            pending: Vec::new(),
            questions: Vec::new(),
            requests: Vec::new(),
            patches: Vec::new(),
            patched: Vec::new(),
            places: 0,
            order: Order::default(),
            written: 0,
            forwarded: 0,
            largest_answer: 0,
            started,
            answered: [0; 3],
            forward_failures: 0,
            unknown_outcomes: 0,
        }
    }

    /// Forgets everything but the memory that it was in.
    pub fn clear(&mut self) {
        let Batch { out, waits, pending, questions, requests, patches, patched, order, .. } = self;
        out.clear();
        waits.clear();
        pending.clear();
        questions.clear();
        requests.clear();
        patches.clear();
        patched.clear();
        order.clear();
        (self.places, self.written, self.forwarded, self.largest_answer) = (0, 0, 0, 0);
        (self.answered, self.forward_failures, self.unknown_outcomes) = ([0; 3], 0, 0);
    }

    /// Bytes of memory that it holds for the next one.
    pub fn spare_bytes(&self) -> usize {
        self.out.capacity()
            + self.requests.capacity()
            + self.patched.capacity()
            + self.pending.capacity() * size_of::<Pending>()
            + self.patches.capacity() * size_of::<(Place, Span)>()
            + self.questions.capacity() * size_of::<Question>()
    }

    /// True when the replies may go out as they are.
    pub fn is_settled(&self) -> bool {
        self.waits.is_empty() && self.questions.is_empty()
    }

    /// Notes that a request of the batch has written to a slot here.
    pub fn note_written(&mut self, slot: Slot) {
        self.written |= 1 << (slot.index() % 64);
    }

    /// Whether a request of the batch may have written to a slot here.
    pub fn may_have_written(&self, slot: Slot) -> bool {
        self.written & 1 << (slot.index() % 64) != 0
    }

    /// The bytes of a request that was kept.
    pub fn kept(&self, span: Span) -> &[u8] {
        kept(&self.requests, span)
    }

    /// True while other nodes have been asked and have not answered.
    pub fn asks_others(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Keeps a request's bytes in case it has to be run again.
    pub fn keep(&mut self, request: &[u8], db: u8, proto: Proto) -> Ask {
        let from = self.requests.len();
        self.requests.extend_from_slice(request);
        Ask { request: Span { from, to: self.requests.len() }, db, proto, since: None }
    }

    /// Keeps what was seen of a request's key, which `write` appends.
    pub fn keep_seen(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let from = self.requests.len();
        write(&mut self.requests);
        Span { from, to: self.requests.len() }
    }

    /// A place for the reply that begins at `from` and ends at the end of what is written.
    pub fn place(&mut self, from: usize) -> Place {
        self.places += 1;
        Place { span: Span { from, to: self.out.len() }, number: self.places }
    }

    /// Leaves a hole for a request that nobody has run, so that it will be asked for again.
    pub fn ask_again(&mut self, request: &[u8], db: u8, proto: Proto) {
        let ask = self.keep(request, db, proto);
        self.leave_hole(None, ask, true, true);
    }

    /// Waits for a reply that something on this node will give.
    pub fn wait_for(&mut self, reply: Place, ask: Ask, call: Rc<Call>) {
        let hole = Hole { reply, ask, seen: None, is_repeatable: false, writes: true, is_silent: false };
        self.questions.push(Question { target: None, call: Some(call), holes: smallvec![hole] });
    }

    /// Replaces a reply.
    pub fn patch(&mut self, reply: Place, bytes: &[u8]) {
        let from = self.patched.len();
        self.patched.extend_from_slice(bytes);
        self.patches.push((reply, Span { from, to: self.patched.len() }));
    }

    /// Answers that a write's outcome is unknown.
    pub fn leave_unknown(&mut self, reply: Place) {
        self.unknown_outcomes += 1;
        self.patch(reply, format!("-{UNKNOWN_OUTCOME}\r\n").as_bytes());
    }

    /// Leaves a place for a reply that `target` will give. Requests for one target go together; those for one node stay
    /// in their order. Without a target the request was put off, and will be asked for again.
    pub fn leave_hole(&mut self, target: Option<Target>, ask: Ask, is_repeatable: bool, writes: bool) {
        let reply = self.place(self.out.len());
        self.leave(target, Hole { reply, ask, seen: None, is_repeatable, writes, is_silent: false });
    }

    /// Leaves a reply that begins at `from`, to a read, to be confirmed or replaced by `target`; `seen` is what
    /// [`Batch::keep_seen`] gave.
    pub fn leave_reply(&mut self, target: Target, ask: Ask, from: usize, seen: Span) {
        let (reply, seen) = (self.place(from), Some(seen));
        self.leave(Some(target), Hole { reply, ask, seen, is_repeatable: true, writes: false, is_silent: false });
    }

    fn leave(&mut self, target: Option<Target>, hole: Hole) {
        self.forwarded += 1;
        let peer = |target: Option<Target>| target.map(|target| target.peer);
        let last = self.questions.iter_mut().rev().find(|question| peer(question.target) == peer(target));
        if target.is_none() || last.as_ref().is_some_and(|question| question.target != target) {
            self.order.part();
        }
        match last.filter(|question| question.target == target && question.call.is_none()) {
            Some(question) => question.holes.push(hole),
            None => self.questions.push(Question { target, call: None, holes: smallvec![hole] }),
        }
    }

    /// Has every question asked that was not asked yet. `ask` is given who to ask, whether all of it may be asked again
    /// elsewhere, and what appends the requests.
    pub fn ask(&mut self, ask: impl Fn(Target, bool, &mut dyn FnMut(&mut Vec<u8>)) -> Rc<Call>) {
        for question in self.questions.iter_mut().filter(|question| question.call.is_none()) {
            let Some(target) = question.asked_as() else { continue };
            let mut write = |out: &mut Vec<u8>| question.write(&self.requests, out);
            let call = ask(target, question.is_repeatable(), &mut write);
            question.call = Some(call);
        }
    }

    /// Takes back what the last request has written from `from` on, and what it waits for.
    pub fn forget_from(&mut self, from: usize) {
        self.out.truncate(from);
        self.pending.retain(|pending| pending.reply.span.from != from || pending.reply.span.to <= from);
    }

    /// Takes back the replies from `from` on: their client does not want them. What was done stays done.
    pub fn silence(&mut self, from: usize) {
        self.out.truncate(from);
        let is_before = |place: &Place| place.span.to <= from && place.span.from != from;
        self.pending.retain(|pending| is_before(&pending.reply));
        for hole in self.questions.iter_mut().flat_map(|question| &mut question.holes) {
            hole.is_silent |= !is_before(&hole.reply);
        }
    }

    /// Looks at what the batch waits for: true when all is known. What has to be run again is given to `again`; then the
    /// batch waits for that too. Otherwise `cx` will be woken when there is more to see.
    pub fn poll(&mut self, cx: &Context<'_>, again: &mut Vec<Again>) -> bool {
        let mut settled = self.poll_holes(cx, again);
        // Looked at once: a wait that is given up here may look otherwise a moment later.
        let mut states = SmallVec::<[WaitState; 4]>::new();
        for wait in &mut self.waits {
            let state = wait.state();
            states.push(state);
            match state {
                WaitState::Pending => {
                    wait.register(cx.waker());
                    settled = false;
                }
                WaitState::Broken if wait.may_heal() && self.started.elapsed() < CATCH_UP_MAX => {
                    wait.was_broken = true;
                    wake_later(cx.waker().clone());
                    settled = false;
                }
                WaitState::Broken | WaitState::Met => {}
            }
        }
        if settled && again.is_empty() {
            self.settle_pending(&states, again);
        }
        settled && again.is_empty()
    }

    fn poll_holes(&mut self, cx: &Context<'_>, again: &mut Vec<Again>) -> bool {
        let mut at = 0;
        while let Some(question) = self.questions.get(at) {
            match question.call.as_ref().map_or(Fate::NotRun, |call| call.poll(cx)) {
                Fate::Waiting => at += 1,
                fate => {
                    let Question { holes, call, .. } = self.questions.remove(at);
                    self.fill(holes, fate, call.map(|call| call.asked_at), again);
                }
            }
        }
        self.questions.is_empty()
    }

    /// Puts the answer to a question that was asked at this time where it belongs.
    fn fill(&mut self, holes: SmallVec<[Hole; 1]>, fate: Fate, asked_at: Option<Hlc>, again: &mut Vec<Again>) {
        let nobody_ran = fate == Fate::NotRun;
        let filled = if let Fate::Replied(answer) = fate { self.fill_from(&holes, answer, again) } else { 0 };
        let last_write = holes.iter().rposition(|hole| hole.writes);
        for (at, mut hole) in holes.into_iter().enumerate().skip(filled) {
            self.forward_failures += u64::from(!nobody_ran);
            if nobody_ran || hole.is_repeatable {
                // What reads may see any later state, unless a request behind it may have made that.
                if !nobody_ran && last_write.is_some_and(|last| at <= last) {
                    hole.ask.since = hole.ask.since.or(asked_at);
                }
                again.extend(hole.again());
            } else if !hole.is_silent {
                self.leave_unknown(hole.reply);
            }
        }
    }

    /// Puts replies where they belong; gives how many requests have had theirs, or will be asked for again.
    fn fill_from(&mut self, holes: &[Hole], answer: Vec<u8>, again: &mut Vec<Again>) -> usize {
        let base = self.patched.len();
        let mut filled = 0;
        for (hole, part) in holes.iter().zip(parts(&answer)) {
            filled += 1;
            match part {
                Part::Reply(span) => {
                    self.largest_answer = self.largest_answer.max(span.len());
                    let span = Span { from: base + span.start, to: base + span.end };
                    self.patches.extend((!hole.is_silent).then_some((hole.reply, span)));
                }
                Part::AsSeen if hole.seen.is_some() => {}
                Part::AsSeen | Part::NotRun => again.extend(hole.again()),
            }
        }
        match base {
            0 => self.patched = answer,
            _ => self.patched.extend_from_slice(&answer),
        }
        filled
    }

    /// All waits are over: turns what they mean into replies.
    fn settle_pending(&mut self, states: &[WaitState], again: &mut Vec<Again>) {
        let waits = std::mem::take(&mut self.waits);
        let unknown = |place: usize| states.get(place) != Some(&WaitState::Met);
        let any_unknown = states.iter().any(|state| *state != WaitState::Met);
        let is_doubtful = |place: usize| waits.get(place).is_some_and(Wait::is_doubtful);
        let mut all = std::mem::take(&mut self.pending);
        for pending in all.drain(..) {
            match pending.read {
                Some(read) => {
                    let wait = waits.get(pending.wait);
                    if wait.is_some_and(|wait| wait.was_contradicted(read.number)) {
                        Again { reply: pending.reply, ask: read.ask, why: Why::Contradicted(read) }.note(again);
                    } else if any_unknown && unknown(pending.wait) || wait.is_none_or(|it| it.was_lost(read.number)) {
                        Again { reply: pending.reply, ask: read.ask, why: Why::Unconfirmed(read) }.note(again);
                    }
                }
                None if any_unknown && unknown(pending.wait) || pending.tells && is_doubtful(pending.wait) => {
                    self.leave_unknown(pending.reply);
                }
                None => {}
            }
        }
        self.pending = all;
    }

    /// Appends the replies with everything put in its place. The batch is over then.
    pub fn finish(&mut self, to: &mut Vec<u8>) {
        if to.is_empty() && self.patches.is_empty() {
            // The usual case: the batch's own buffer is the output.
            return std::mem::swap(to, &mut self.out);
        }
        self.sort_patches();
        self.write(0..self.out.len(), to);
    }

    /// Readies the batch for [`Batch::write`].
    pub fn sort_patches(&mut self) {
        self.patches.sort_by_key(|(place, _)| *place);
    }

    /// Appends the replies in this stretch of `out`, which cuts none in two, with everything put in its place.
    pub fn write(&self, range: Range<usize>, to: &mut Vec<u8>) {
        let first = self.patches.partition_point(|(place, _)| place.span.from < range.start);
        let mut patches = self.patches.iter().skip(first).peekable();
        let mut at = range.start;
        while let Some((place, span)) = patches.next_if(|(place, _)| place.span.to <= range.end) {
            if patches.peek().is_some_and(|(next, _)| next == place) {
                continue;
            }
            to.extend_from_slice(self.out.get(at..place.span.from).unwrap_or_default());
            to.extend_from_slice(self.patched.get(span.from..span.to).unwrap_or_default());
            at = place.span.to;
        }
        to.extend_from_slice(self.out.get(at..range.end).unwrap_or_default());
    }

    /// Takes over what a request that was run again waits for, as the reply at `reply`.
    pub fn adopt(&mut self, reply: Place, mut again: Batch) {
        let (base, kept) = (self.waits.len(), self.requests.len());
        let moved_span = |Span { from, to }| Span { from: from + kept, to: to + kept };
        let moved = |ask: Ask| Ask { request: moved_span(ask.request), ..ask };
        self.requests.append(&mut again.requests);
        self.waits.append(&mut again.waits);
        for pending in again.pending {
            let read = pending.read.map(|read| Reading { ask: moved(read.ask), key: moved_span(read.key), ..read });
            self.pending.push(Pending { reply, wait: pending.wait + base, read, ..pending });
        }
        if again.questions.is_empty() {
            self.patch(reply, &again.out);
        }
        self.questions.extend(again.questions.into_iter().map(|mut question| {
            question.holes.iter_mut().for_each(|hole| (hole.reply, hole.ask) = (reply, moved(hole.ask)));
            question
        }));
    }
}

/// Nobody tells when a peer has caught up: looks again in a moment.
fn wake_later(waker: Waker) {
    tokio::task::spawn_local(async move {
        tokio::time::sleep(CATCH_UP_LOOK).await;
        waker.wake();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::base::wire::put_u32;
    use crate::peer::lane::Pace;
    use crate::peer::registry::Peers;
    use crate::server::forward::{AS_SEEN, Manner, NOT_RUN, answer_of, ask as flags};

    /// A batch with a reply of its own between two that another node has to confirm, and the call that asks it.
    fn asked() -> (Batch, Rc<Call>) {
        let (mut batch, call) = (Batch::new(Instant::now()), Call::of_our_own());
        let target = Target { peer: 1, manner: Manner::default(), since: None };
        for (request, reply) in [("GET a", "$1\r\na\r\n"), ("PING", "+PONG\r\n"), ("GET b", "$-1\r\n")] {
            let from = batch.out.len();
            batch.out.extend_from_slice(reply.as_bytes());
            if request != "PING" {
                let ask = batch.keep(request.as_bytes(), 0, Proto::Resp2);
                let seen = batch.keep_seen(|out| out.push(b'v'));
                batch.leave_reply(target, ask, from, seen);
            }
        }
        batch.ask(|target, _, write| {
            let mut question = Vec::new();
            write(&mut question);
            assert_eq!(target.manner.flags, flags::SEEN);
            assert_eq!(question, b"\x04\0\0\0\x01v\x01vGET aGET b");
            call.clone()
        });
        (batch, call)
    }

    fn outcome(batch: &mut Batch) -> (bool, usize, String) {
        let mut again = Vec::new();
        let is_over = batch.poll(&Context::from_waker(Waker::noop()), &mut again);
        let mut replies = Vec::new();
        batch.finish(&mut replies);
        (is_over, again.len(), String::from_utf8_lossy(&replies).into_owned())
    }

    #[test]
    fn a_reply_that_is_confirmed_stays_and_one_that_is_not_gives_way() {
        let (mut batch, call) = asked();
        assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut Vec::new()), "not sent on hope");
        let mut answer = AS_SEEN.to_le_bytes().to_vec();
        answer.extend(answer_of(b"$1\r\nB\r\n"));
        call.settle(Fate::Replied(answer));
        assert_eq!(outcome(&mut batch), (true, 0, "$1\r\na\r\n+PONG\r\n$1\r\nB\r\n".into()));
    }

    #[test]
    fn a_read_that_nobody_confirms_is_run_again() {
        for fate in [Fate::NotRun, Fate::Unknown] {
            let (mut batch, call) = asked();
            call.settle(fate);
            let mut again = Vec::new();
            assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut again));
            assert_eq!(again.len(), 2);
            batch.patch(again[0].reply, b"+A\r\n");
            batch.patch(again[1].reply, b"+B\r\n");
            assert_eq!(outcome(&mut batch), (true, 0, "+A\r\n+PONG\r\n+B\r\n".into()));
        }
        let (mut batch, call) = asked();
        let mut answer = Vec::new();
        [NOT_RUN, AS_SEEN].into_iter().for_each(|word| put_u32(&mut answer, word));
        call.settle(Fate::Replied(answer));
        let mut again = Vec::new();
        assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut again));
        assert_eq!(again.len(), 1);
    }

    /// Simulated: an INCR that waited through an isolation answered what another coordinator had given meanwhile.
    #[tokio::test]
    async fn what_a_write_found_is_not_told_when_it_was_without_replicas_for_a_while() {
        let peers = Peers::new(1, 1 << 20);
        let (peer, _) = peers.get_or_add(NodeId::random(), ([127, 0, 0, 1], 1).into());
        peer.lanes[0].open();
        let mut batch = Batch::new(Instant::now());
        let wait = Wait::of_write_to(&peer, &mut batch.waits);
        for (reply, tells) in [("+OK\r\n", false), (":5\r\n", true)] {
            let from = batch.out.len();
            batch.out.extend_from_slice(reply.as_bytes());
            let reply = batch.place(from);
            batch.pending.push(Pending { reply, wait, read: None, tells });
        }
        // Where it may spawn what looks again later.
        let look = async |batch: &mut Batch| {
            let poll = async { batch.poll(&Context::from_waker(Waker::noop()), &mut Vec::new()) };
            tokio::task::LocalSet::new().run_until(poll).await
        };
        assert!(!look(&mut batch).await);
        peer.lanes[0].set_pace(Pace::Stalled);
        assert!(!look(&mut batch).await, "it may yet be held");
        peer.lanes[0].set_pace(Pace::Prompt);
        peer.lanes[0].ack(1);
        assert_eq!(outcome(&mut batch), (true, 0, format!("+OK\r\n-{UNKNOWN_OUTCOME}\r\n")));
        assert_eq!(batch.unknown_outcomes, 1);
    }

    #[test]
    fn a_batch_that_is_used_again_holds_nothing_of_the_one_before() {
        let (mut batch, call) = asked();
        call.settle(Fate::Replied(Vec::new()));
        outcome(&mut batch);
        batch.clear();
        assert!(batch.is_settled() && batch.forwarded == 0 && batch.unknown_outcomes == 0);
        batch.out.extend_from_slice(b"+OK\r\n");
        assert_eq!(outcome(&mut batch), (true, 0, "+OK\r\n".into()));
    }
}
