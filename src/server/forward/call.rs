//! A question to another node on its way, and what becomes of it.
//!
//! A question that was not run may be asked again. One whose link broke after it was sent has an unknown outcome, and
//! so has one that was given up: a peer that is stalled is not waited for if asking elsewhere does no harm
//! ([`AnswerPatience`]), and nothing is waited for beyond its deadline. Answers to questions that were given up are
//! dropped. Each is judged by itself: that another waits for long, or is answered, says nothing of it. What may have
//! run is asked again only with a fence ([`About::is_fenced`]), which keeps it from being done twice
//! (`commands::repeat`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::base::clock::{Hlc, SKEW_MS_MAX, wall_us};
use crate::peer::link::transfer_ms;
use crate::server::forward::wire::{Answered, Manner, QuestionKind, STALE_MS_MAX, read_answer};

/// How old a question to a stalled peer must be to be asked elsewhere: too old to be run there by now. Otherwise a SET
/// might be run there last of all, after others that its client has sent since.
pub(super) const GIVEN_UP_MS: u64 = STALE_MS_MAX + 40;
/// How long an ordinary question may take, in milliseconds: the other side may itself be waiting for a replica that
/// has just stopped. That it stopped itself is noticed sooner, on its lanes.
const ANSWER_MS_MAX: u64 = 700;
/// How long to wait for a stalled peer where asking again could do harm, in milliseconds: it may only be starved for a
/// moment.
const STALLED_ANSWER_MS_MAX: u64 = 450;
/// How long to wait for a stalled peer that may be busy with the question, in milliseconds. Asked earlier, the next one
/// would soon be as busy, and then a third; after two seconds nobody is asked any more.
const LONG_ANSWER_MS_MAX: u64 = 1_000;
/// How long a question may take that is about a whole node, or may take long, in milliseconds.
pub(super) const WHOLE_ANSWER_MS_MAX: u64 = 10_000;

/// What became of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No answer yet.
    Waiting,
    /// The reply; of [`Call::poll`] the whole answer, see [`read_answer`].
    Replied(Vec<u8>),
    /// It was not run: it may be asked again, here or elsewhere.
    NotRun,
    /// Given up while who was asked is silent: it may have been run, or may still be told of.
    Unknown,
    /// The link ended, as it does when who was asked dies: it may have been run.
    Gone,
}

/// How far a stamp may be ahead of our clock for the other node to follow it surely: leases of strict writes take
/// stamps ahead (`replication::campaign`), and a clock that is up to 300 ms behind ours still accepts this.
const LEAD_MS_MAX: u64 = SKEW_MS_MAX - 300;

/// A time before everything that another node writes for a question with this stamp: the stamp, or 0 where it is so far
/// ahead of our own clock that the other's may not follow it.
pub fn followed(stamp: Hlc) -> Hlc {
    if stamp.ms() <= wall_us() / 1_000 + LEAD_MS_MAX { stamp } else { Hlc::default() }
}

/// How long an answer is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AnswerPatience {
    /// As long as the peer gives signs of life: all of it may be asked again while it may still run, or be told of.
    Brief,
    /// Longer where it is silent, because asking again could do harm.
    #[default]
    Ordinary,
    /// What is asked for may itself take long.
    Long,
    /// It is about a whole node, or a transaction.
    Whole,
}

impl AnswerPatience {
    /// For a question that is asked once.
    pub fn of(kind: QuestionKind) -> AnswerPatience {
        if kind.is_share() || kind == QuestionKind::IfUnchanged {
            AnswerPatience::Whole
        } else {
            AnswerPatience::Ordinary
        }
    }

    fn limit_ms(self, is_stalled: bool) -> u64 {
        match (self, is_stalled) {
            (AnswerPatience::Brief, true) => GIVEN_UP_MS,
            (AnswerPatience::Ordinary | AnswerPatience::Whole, true) => STALLED_ANSWER_MS_MAX,
            (AnswerPatience::Long, true) => LONG_ANSWER_MS_MAX,
            (AnswerPatience::Brief | AnswerPatience::Ordinary, false) => ANSWER_MS_MAX,
            (AnswerPatience::Long | AnswerPatience::Whole, false) => WHOLE_ANSWER_MS_MAX,
        }
    }
}

/// How a question is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct About {
    /// How it is to be run.
    pub manner: Manner,
    /// It may have run before: it is to run only if its keys have not been written since its stamp.
    pub is_fenced: bool,
    /// The asker's clock; with a fence as it was when it was first asked.
    pub stamp: Hlc,
    /// How long its answer is waited for.
    pub patience: AnswerPatience,
}

/// A question on its way.
#[derive(Debug)]
pub struct Call {
    outcome: RefCell<Outcome>,
    waker: RefCell<Option<Waker>>,
    /// A time before everything that the other node writes for it ([`followed`]), by the stamp that it was first asked
    /// with.
    pub asked_at: Hlc,
    pub(super) sent_at: Instant,
    /// What it may take longer for its bytes to arrive.
    transfer_ms: u64,
    patience: AnswerPatience,
    is_complete: Cell<bool>,
}

impl Call {
    pub(super) fn new(about: About, sent_at: Instant, bytes: usize) -> Call {
        let About { stamp, patience, .. } = about;
        Call {
            outcome: RefCell::new(Outcome::Waiting),
            waker: RefCell::default(),
            asked_at: followed(stamp),
            sent_at,
            transfer_ms: transfer_ms(bytes),
            patience,
            is_complete: Cell::new(false),
        }
    }

    /// A question that nobody could be asked.
    pub fn not_run() -> Rc<Call> {
        let call = Call::new(About::default(), Instant::now(), 0);
        call.outcome.replace(Outcome::NotRun);
        Rc::new(call)
    }

    /// A question that something on this node will answer with [`Call::complete`].
    pub fn of_our_own() -> Rc<Call> {
        Rc::new(Call::new(About::default(), Instant::now(), 0))
    }

    /// Takes the answer, for [`read_answer`]; `cx` is woken when there is one.
    pub fn poll(&self, cx: &Context<'_>) -> Outcome {
        let mut outcome = self.outcome.borrow_mut();
        if *outcome == Outcome::Waiting {
            self.waker.replace(Some(cx.waker().clone()));
            return Outcome::Waiting;
        }
        std::mem::replace(&mut *outcome, Outcome::NotRun)
    }

    /// Waits for the reply to a question of one request.
    pub async fn answer(&self) -> Outcome {
        let outcome = std::future::poll_fn(|cx| match self.poll(cx) {
            Outcome::Waiting => std::task::Poll::Pending,
            outcome => std::task::Poll::Ready(outcome),
        });
        match outcome.await {
            Outcome::Replied(answer) => match read_answer(&answer).next() {
                Some(Answered::Reply(reply)) => Outcome::Replied(answer.get(reply).unwrap_or_default().to_vec()),
                _ => Outcome::NotRun,
            },
            outcome => outcome,
        }
    }

    /// Notes the answer, unless the question was given up.
    pub fn complete(&self, outcome: Outcome) {
        if self.is_complete.replace(true) {
            return;
        }
        self.outcome.replace(outcome);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether it was to be answered by `now`. While the other node says that it is at work, `at_work` last, nothing is
    /// overdue.
    pub(super) fn is_overdue(&self, is_stalled: bool, at_work: Option<Instant>, now: Instant) -> bool {
        let since = at_work.map_or(self.sent_at, |at_work| at_work.max(self.sent_at));
        self.is_older_since(since, self.patience.limit_ms(is_stalled), now)
    }

    /// Whether it was asked longer before `now` than this, and what its bytes take.
    pub(super) fn is_older(&self, limit_ms: u64, now: Instant) -> bool {
        self.is_older_since(self.sent_at, limit_ms, now)
    }

    fn is_older_since(&self, since: Instant, limit_ms: u64, now: Instant) -> bool {
        now.saturating_duration_since(since) > Duration::from_millis(limit_ms + self.transfer_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overdue_while_the_other_node_says_that_it_is_at_work() {
        let ago = |s| Instant::now().checked_sub(Duration::from_secs(s)).expect("this machine runs for longer");
        let call = Call::new(About::default(), ago(5), 0);
        for is_stalled in [false, true] {
            let is_overdue = |at_work| call.is_overdue(is_stalled, at_work, Instant::now());
            assert_eq!([None, Some(ago(9)), Some(ago(3)), Some(ago(0))].map(is_overdue), [true, true, true, false]);
        }
    }

    /// Simulated: stamps of strict writes were ahead, the other node's clock behind and its DEL stamped earlier than it
    /// was asked for, so that a GET before that DEL, run again, gave nothing.
    #[test]
    fn a_stamp_that_the_other_clock_may_not_follow_comes_before_all_that_it_writes() {
        let now_ms = wall_us() / 1_000;
        let asked_at = |stamp| Call::new(About { stamp, ..About::default() }, Instant::now(), 0).asked_at;
        assert_eq!(asked_at(Hlc::at_ms(now_ms)), Hlc::at_ms(now_ms));
        assert_eq!(asked_at(Hlc::at_ms(now_ms + 60_000)), Hlc::default());
    }
}
