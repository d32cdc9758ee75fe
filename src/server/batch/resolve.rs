//! What a batch waits for turns into replies.
//!
//! A reply whose read was contradicted is run again; one whose write can no longer be confirmed becomes an error, and
//! so does one that tells what a write has found, when others may have coordinated its key before they had the write.
//!
//! What may write and is run again (a SET NX that had found the key there) takes effect then. What has read its slot
//! behind it is run again too, behind it.

use std::task::{Context, Waker};
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::ids::slot_of;
use crate::commands::repeat::RetryPolicy;
use crate::replication::wait::{Wait, WaitState};
use crate::server::batch::ask::{Ask, Reading, ReplyPlace, Retry, RetryCause, Span, Unconfirmed};
use crate::server::batch::order::Order;
use crate::server::batch::question::{Hole, Question};
use crate::server::batch::scanned::{has_key, writes};
use crate::server::batch::{Batch, RETRY_FOR_MAX};
use crate::server::forward::call::Outcome;
use crate::server::forward::wire::{Answered, read_answer};

const CATCH_UP_LOOK: Duration = Duration::from_millis(5);

impl Batch {
    /// Looks at what the batch waits for: true when all is known. What has to be run again is given to `retries`; then
    /// the batch waits for that too. Otherwise `cx` will be woken when there is more to see.
    pub fn poll(&mut self, cx: &Context<'_>, retries: &mut Vec<Retry>) -> bool {
        let mut resolved = self.poll_holes(cx, retries);
        // Looked at once: a wait that is given up here may look otherwise a moment later.
        let states: SmallVec<[WaitState; 4]> = self.waits.iter().map(Wait::state).collect();
        // First, since strict writes of several electorates wait for the same frames: who still does registers behind.
        for (wait, state) in self.waits.iter().zip(&states) {
            if matches!(state, WaitState::Met | WaitState::Broken) {
                wait.unregister(cx.waker());
            }
        }
        for (wait, state) in self.waits.iter_mut().zip(&states) {
            match state {
                WaitState::Open => {
                    wait.register(cx.waker());
                    resolved = false;
                }
                WaitState::Broken if wait.may_heal() && self.started.elapsed() < RETRY_FOR_MAX => {
                    wait.was_broken = true;
                    wake_later(cx.waker().clone());
                    resolved = false;
                }
                WaitState::Broken | WaitState::Met => {}
            }
        }
        if resolved && retries.is_empty() {
            self.resolve_waits(&states, retries);
        }
        resolved && retries.is_empty()
    }

    fn poll_holes(&mut self, cx: &Context<'_>, retries: &mut Vec<Retry>) -> bool {
        let mut at = 0;
        while let Some(question) = self.questions.get(at) {
            match question.call.as_ref().map_or(Outcome::NotRun, |call| call.poll(cx)) {
                Outcome::Waiting => at += 1,
                outcome => {
                    let Question { holes, call, .. } = self.questions.remove(at);
                    self.fill(holes, outcome, call.map(|call| call.asked_at), retries);
                }
            }
        }
        self.questions.is_empty()
    }

    /// Whether a request that nobody has run is to be: for its reply, or for what it changes.
    fn is_wanted(&self, hole: &Hole) -> bool {
        hole.kind.writes || !self.is_silent(hole.reply)
    }

    /// Puts the answer to a question that was asked at this time where it belongs.
    fn fill(&mut self, holes: SmallVec<[Hole; 1]>, outcome: Outcome, asked_at: Option<Hlc>, retries: &mut Vec<Retry>) {
        let nobody_ran = outcome == Outcome::NotRun;
        let needed = if outcome == Outcome::Gone { RetryPolicy::OnceGone } else { RetryPolicy::Always };
        let filled = if let Outcome::Replied(answer) = outcome { self.fill_from(&holes, answer, retries) } else { 0 };
        let last_write = holes.iter().rposition(|hole| hole.kind.writes);
        for (at, mut hole) in holes.into_iter().enumerate().skip(filled) {
            self.forward_failures += u64::from(!nobody_ran);
            if nobody_ran || hole.kind.retry_policy >= needed {
                // What reads may see any later state, unless a request behind it may have made that.
                if !nobody_ran && last_write.is_some_and(|last| at <= last) {
                    hole.ask.fence = hole.ask.fence.or(asked_at);
                }
                retries.extend(self.is_wanted(&hole).then(|| hole.retry()));
            } else {
                self.leave_unknown(hole.reply);
            }
        }
    }

    /// Puts replies where they belong; gives how many requests have had theirs, or will be asked for again.
    fn fill_from(&mut self, holes: &[Hole], answer: Vec<u8>, retries: &mut Vec<Retry>) -> usize {
        let base = self.patched.len();
        let (mut filled, mut again) = (0, Again::default());
        for (hole, answered) in holes.iter().zip(read_answer(&answer)) {
            filled += 1;
            let request = self.kept(hole.ask.request);
            let has_overtaken = !hole.kind.writes && again.is_before(request);
            let answered = if has_overtaken { Answered::NotRun } else { answered };
            if answered == Answered::NotRun && hole.kind.writes {
                again.note(request);
            }
            match answered {
                Answered::Reply(span) => {
                    self.largest_answer = self.largest_answer.max(span.len());
                    let span = Span { from: base + span.start, to: base + span.end };
                    self.put(hole.reply, span);
                }
                Answered::AsSeen if hole.seen.is_some() => {}
                Answered::AsSeen | Answered::NotRun => retries.extend(self.is_wanted(hole).then(|| hole.retry())),
            }
        }
        match base {
            0 => self.patched = answer,
            _ => self.patched.extend_from_slice(&answer),
        }
        filled
    }

    /// All waits are over: turns what they mean into replies.
    fn resolve_waits(&mut self, states: &[WaitState], retries: &mut Vec<Retry>) {
        let unknown = |place: usize| states.get(place) != Some(&WaitState::Met);
        let any_unknown = states.iter().any(|state| *state != WaitState::Met);
        let mut again = Again::default();
        let mut all = std::mem::take(&mut self.unconfirmed);
        for unconfirmed in &all {
            let (reply, wait) = (unconfirmed.reply, self.waits.get(unconfirmed.wait));
            let is_unknown = any_unknown && unknown(unconfirmed.wait);
            match &unconfirmed.read {
                Some(read) => {
                    let request = self.kept(read.ask.request);
                    if wait.is_some_and(|wait| wait.was_contradicted(read.number)) || again.is_before(request) {
                        if writes(request) {
                            again.note(request);
                        }
                        Retry { reply, ask: read.ask, cause: RetryCause::Contradicted(read.clone()) }.note(retries);
                    } else if is_unknown || wait.is_none_or(|wait| wait.was_lost(read.number)) {
                        Retry { reply, ask: read.ask, cause: RetryCause::Unconfirmed(read.clone()) }.note(retries);
                    }
                }
                None if is_unknown || unconfirmed.tells && wait.is_some_and(Wait::is_doubtful) => {
                    self.leave_unknown(reply)
                }
                None => {}
            }
        }
        all.clear();
        self.unconfirmed = all;
        self.waits.clear();
    }

    /// Takes over what a request that was run again waits for, as the reply at `reply`.
    pub fn adopt(&mut self, reply: ReplyPlace, mut rerun: Batch) {
        let (base, kept) = (self.waits.len(), self.requests.len());
        let moved_span = |Span { from, to }| Span { from: from + kept, to: to + kept };
        let moved = |ask: Ask| Ask { request: moved_span(ask.request), ..ask };
        self.requests.append(&mut rerun.requests);
        self.written |= rerun.written;
        self.read |= rerun.read;
        self.waits.append(&mut rerun.waits);
        // What nobody is told needs no confirmation.
        let is_told = !self.is_silent(reply);
        for unconfirmed in rerun.unconfirmed.into_iter().filter(|_| is_told) {
            let read = unconfirmed.read.map(|read| Reading { ask: moved(read.ask), key: moved_span(read.key), ..read });
            self.unconfirmed.push(Unconfirmed { reply, wait: unconfirmed.wait + base, read, ..unconfirmed });
        }
        if rerun.questions.is_empty() {
            self.patch(reply, &rerun.out);
        }
        self.questions.extend(rerun.questions.into_iter().map(|mut question| {
            question.holes.iter_mut().for_each(|hole| (hole.reply, hole.ask) = (reply, moved(hole.ask)));
            question
        }));
    }
}

/// Requests that may write and are run again.
#[derive(Default)]
struct Again(Option<Order>);

impl Again {
    /// One more.
    fn note(&mut self, request: &[u8]) {
        let order = self.0.get_or_insert_default();
        order.divide();
        has_key(request, |key| {
            order.leave_open(&[slot_of(key)], true);
            false
        });
    }

    /// Whether one of them is on a slot of this request, which came behind them.
    fn is_before(&self, request: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|order| has_key(request, |key| order.blocks(&[slot_of(key)], false)))
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
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;
    use std::time::Instant;

    use super::*;
    use crate::base::wire::put_u32;
    use crate::peer::lane::Pace;
    use crate::peer::registry::Peer;
    use crate::protocol::Proto;
    use crate::server::batch::question::{RequestKind, Target};
    use crate::server::error::RequestError;
    use crate::server::forward::call::{AnswerPatience, Call};
    use crate::server::forward::wire::{AS_SEEN, Manner, NOT_RUN, QuestionKind, answer_of};

    /// A batch with a reply of its own between two that another node has to confirm, and the call that asks it.
    fn asked() -> (Batch, Rc<Call>) {
        let (mut batch, call) = (Batch::new(Instant::now()), Call::of_our_own());
        let target = Target { peer: 1, manner: Manner::default(), fence: None };
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
            assert_eq!(target.manner.kind, QuestionKind::EachIfNotSeen);
            assert_eq!(question, b"\x04\0\0\0\x01v\x01vGET aGET b");
            call.clone()
        });
        (batch, call)
    }

    fn polled(batch: &mut Batch) -> (bool, usize, String) {
        let mut retries = Vec::new();
        let is_over = batch.poll(&Context::from_waker(Waker::noop()), &mut retries);
        let mut replies = Vec::new();
        batch.finish(&mut replies);
        (is_over, retries.len(), String::from_utf8_lossy(&replies).into_owned())
    }

    #[test]
    fn what_was_written_by_a_request_run_again_is_known() {
        let (mut batch, mut rerun) = (Batch::new(Instant::now()), Batch::new(Instant::now()));
        let slot = crate::base::ids::slot_of(b"k");
        rerun.note_written(slot);
        let reply = batch.place(0);
        assert!(!batch.may_have_written(slot));
        batch.adopt(reply, rerun);
        assert!(batch.may_have_written(slot), "a read before it may have been overtaken");
    }

    #[test]
    fn a_wait_that_is_over_takes_no_frame_from_another_that_is_not() {
        struct Flag(AtomicBool);
        impl Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let peers: [_; 2] = Peer::reached();
        let lanes = peers.each_ref().map(|peer| peer.lanes.first().expect("a lane"));
        let mut batch = Batch::new(Instant::now());
        Wait::of_two_electorates(&peers, &mut batch.waits);
        for lane in lanes {
            lane.write_with(|bytes| Ok(bytes.len())).expect("written");
        }
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        let mut poll = || batch.poll(&Context::from_waker(&waker), &mut Vec::new());
        assert!(!poll());
        for lane in lanes {
            lane.ack(lane.last());
            assert!(flag.0.swap(false, Ordering::Relaxed), "woken by each");
            assert_eq!(poll(), std::ptr::eq(lane, lanes[1]));
        }
    }

    #[test]
    fn a_reply_that_is_confirmed_stays_and_one_that_is_not_gives_way() {
        let (mut batch, call) = asked();
        assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut Vec::new()), "not sent on hope");
        let mut answer = AS_SEEN.to_le_bytes().to_vec();
        answer.extend(answer_of(b"$1\r\nB\r\n"));
        call.complete(Outcome::Replied(answer));
        assert_eq!(polled(&mut batch), (true, 0, "$1\r\na\r\n+PONG\r\n$1\r\nB\r\n".into()));
    }

    #[test]
    fn a_read_that_nobody_confirms_is_run_again() {
        for outcome in [Outcome::NotRun, Outcome::Unknown, Outcome::Gone] {
            let (mut batch, call) = asked();
            call.complete(outcome);
            let mut retries = Vec::new();
            assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut retries));
            assert_eq!(retries.len(), 2);
            batch.patch(retries[0].reply, b"+A\r\n");
            batch.patch(retries[1].reply, b"+B\r\n");
            assert_eq!(polled(&mut batch), (true, 0, "+A\r\n+PONG\r\n+B\r\n".into()));
        }
        let (mut batch, call) = asked();
        let mut answer = Vec::new();
        [NOT_RUN, AS_SEEN].into_iter().for_each(|word| put_u32(&mut answer, word));
        call.complete(Outcome::Replied(answer));
        let mut retries = Vec::new();
        assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut retries));
        assert_eq!(retries.len(), 1);
    }

    /// Simulated: SET NX found a key, GET behind it read it, and the SET was asked for again, since nobody confirmed
    /// what it had found. By then the key was gone: OK, and behind it what the key had held before.
    #[test]
    fn what_has_read_behind_a_write_that_is_run_again_is_run_again_behind_it() {
        for (read, run_again) in [("k", 2), ("other", 1)] {
            let (mut batch, call) = (Batch::new(Instant::now()), Call::of_our_own());
            let target = Target { peer: 0, manner: Manner::default(), fence: None };
            let read = format!("GET {read}\r\n");
            for (request, writes) in [("SET k v NX\r\n", true), (&read, false)] {
                let ask = batch.keep(request.as_bytes(), 0, Proto::Resp2);
                let kind = RequestKind { retry_policy: RetryPolicy::Always, writes, is_long: false };
                batch.leave_hole(Some(target), ask, kind);
            }
            batch.ask(|_, _, _| call.clone());
            let mut answer = NOT_RUN.to_le_bytes().to_vec();
            answer.extend(answer_of(b"$1\r\nw\r\n"));
            call.complete(Outcome::Replied(answer));
            let mut retries = Vec::new();
            assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut retries));
            assert_eq!(retries.len(), run_again, "{read}");
        }
    }

    #[test]
    fn what_may_still_be_told_of_is_not_run_again_where_that_would_show() {
        use RetryPolicy::{Always, Never, OnceGone};
        for (outcome, run_again) in [(Outcome::NotRun, 3), (Outcome::Gone, 2), (Outcome::Unknown, 1)] {
            let mut batch = Batch::new(Instant::now());
            let target = Target { peer: 0, manner: Manner::default(), fence: None };
            for (request, retry_policy) in [("INCR a", Never), ("SADD b m", OnceGone), ("SET c v", Always)] {
                let ask = batch.keep(request.as_bytes(), 0, Proto::Resp2);
                batch.leave_hole(Some(target), ask, RequestKind { retry_policy, writes: true, is_long: false });
            }
            let call = Call::of_our_own();
            batch.ask(|_, patience, _| {
                assert_eq!(patience, AnswerPatience::Ordinary, "its silence is waited for");
                call.clone()
            });
            call.complete(outcome);
            let mut retries = Vec::new();
            assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut retries));
            assert_eq!((retries.len(), batch.unknown_outcomes), (run_again, 3 - run_again as u64));
        }
    }

    /// Simulated: an INCR that waited through an isolation answered what another coordinator had given meanwhile.
    #[tokio::test]
    async fn what_a_write_found_is_not_told_when_it_was_without_replicas_for_a_while() {
        let [peer] = Peer::reached();
        let mut batch = Batch::new(Instant::now());
        let wait = Wait::of_write_to(&peer, &mut batch.waits);
        for (reply, tells) in [("+OK\r\n", false), (":5\r\n", true)] {
            let from = batch.out.len();
            batch.out.extend_from_slice(reply.as_bytes());
            let reply = batch.place(from);
            batch.unconfirmed.push(Unconfirmed { reply, wait, read: None, tells });
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
        peer.lanes[0].write_with(|bytes| Ok(bytes.len())).expect("written");
        peer.lanes[0].ack(1);
        assert_eq!(polled(&mut batch), (true, 0, format!("+OK\r\n-{}\r\n", RequestError::UnknownOutcome.text())));
        assert_eq!(batch.unknown_outcomes, 1);
    }

    #[test]
    fn a_batch_that_is_used_again_holds_nothing_of_the_one_before() {
        let (mut batch, call) = asked();
        call.complete(Outcome::Replied(Vec::new()));
        polled(&mut batch);
        batch.clear();
        assert!(batch.is_resolved() && batch.forwarded == 0 && batch.unknown_outcomes == 0);
        batch.out.extend_from_slice(b"+OK\r\n");
        assert_eq!(polled(&mut batch), (true, 0, "+OK\r\n".into()));
    }
}
