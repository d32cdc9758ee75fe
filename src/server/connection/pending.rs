//! Questions of another node that have run and are not ready: each is answered when its own replies are known.
//!
//! Replicas nearly always answer in the order in which they were asked, within a millisecond. So questions stand in a
//! line of which only the first is looked at and waits for its lanes; those behind it mostly are ready when it is. Has
//! it waited for [`LINE_PATIENCE`], for whatever reason, all of the line is *set aside*: each is a task of its own from
//! then on, which is woken by what it waits for itself. However many wait, what becomes known of one has nobody look at
//! another. While one that was set aside has waited for so long, what comes then is set aside at once: so patience is
//! lost once, and not with every question, and who stands in the line is cheap.
//!
//! Invariant: a question waits for no other, but for the rest of its first [`LINE_PATIENCE`].
//!
//! Bounded: those in the line by [`LINE_MAX`], those aside by [`ASIDE_MAX`], and both by what one read brings beyond.
//! At either bound the link is read no more. What replicas that have just stopped leave open is at most what clients
//! can have under way, for the moment until the view changes; each is known within two seconds (`RETRY_FOR_MAX`), or as
//! soon as its lanes are. Should there be so many that the link stops reading, then what lies about unread becomes too
//! old to be run (`ages`), and its asker asks again.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

use crate::server::connection::unanswered::Unanswered;
use crate::server::worker::Worker;

/// For how long the first in the line is waited for: well above what a busy replica needs, for a task costs more than a
/// place in the line, and little beside what may keep a question waiting.
const LINE_PATIENCE: Duration = Duration::from_millis(10);
/// Most questions in the line: so many come in no moment in which they could not be answered.
const LINE_MAX: usize = 1_024;
/// Most questions that are set aside: some megabytes, and as many looks every five milliseconds while what they wait
/// for is lost and may be handed over (`batch::resolve`).
const ASIDE_MAX: usize = 2_048;

/// See the head of the file.
pub(super) struct Pending {
    worker: Rc<Worker>,
    line: VecDeque<Unanswered>,
    /// Wakes the link when the first in the line may have waited for too long.
    look: Option<Pin<Box<Sleep>>>,
    aside: JoinSet<Unanswered>,
    /// When each of those set aside came, by number.
    came: BTreeMap<u64, Instant>,
}

impl Pending {
    /// None, of a link that this worker serves.
    pub(super) fn new(worker: Rc<Worker>) -> Pending {
        Pending { worker, line: VecDeque::new(), look: None, aside: JoinSet::new(), came: BTreeMap::new() }
    }

    /// Notes a question that has come `now` and is not ready.
    pub(super) fn add(&mut self, question: Unanswered, now: Instant) {
        let has_waited = |came: &Instant| now.saturating_duration_since(*came) >= LINE_PATIENCE;
        match self.came.first_key_value().is_some_and(|(_, came)| has_waited(came)) {
            true => self.set_aside(question),
            false => self.line.push_back(question),
        }
    }

    /// Whether there are to be no more.
    pub(super) fn is_full(&self) -> bool {
        self.line.len() >= LINE_MAX || self.aside.len() >= ASIDE_MAX
    }

    /// Gives those that are ready to `answer`; `cx` is woken when there are more.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut answer: impl FnMut(Unanswered) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        while let Some(first) = self.line.front_mut() {
            if first.poll(cx, &self.worker) {
                self.line.pop_front().map_or(Ok(()), &mut answer)?;
                continue;
            }
            let came = first.batch.started;
            if !self.has_lost_patience(cx, came) {
                break;
            }
            for question in std::mem::take(&mut self.line) {
                self.set_aside(question);
            }
        }
        while let Poll::Ready(Some(ready)) = self.aside.poll_join_next(cx) {
            let ready = ready.map_err(std::io::Error::other)?;
            self.came.remove(&ready.number);
            answer(ready)?;
        }
        Ok(())
    }

    /// Whether the first in the line, which came at this time, has waited for too long; else `cx` is woken when it has.
    fn has_lost_patience(&mut self, cx: &mut Context<'_>, came: Instant) -> bool {
        // A task's waker stays the same. Others may have been the first since this was begun: it is looked anew then.
        if self.look.as_ref().is_some_and(|look| !look.is_elapsed()) {
            return false;
        }
        let left = LINE_PATIENCE.saturating_sub(came.elapsed());
        if left.is_zero() {
            self.look = None;
            return true;
        }
        let mut look = Box::pin(tokio::time::sleep(left));
        // Whatever the task has done in its turn: else the clock would not know whom to wake.
        if std::pin::pin!(unconstrained(look.as_mut())).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.look = Some(look);
        false
    }

    fn set_aside(&mut self, mut question: Unanswered) {
        self.came.insert(question.number, question.batch.started);
        let worker = self.worker.clone();
        self.aside.spawn_local(async move {
            poll_fn(|cx| if question.poll(cx, &worker) { Poll::Ready(()) } else { Poll::Pending }).await;
            question
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::LocalSet;

    use super::*;
    use crate::peer::lane::Lane;
    use crate::peer::registry::Peer;
    use crate::replication::routing::Quorum;
    use crate::replication::view::View;
    use crate::replication::wait::Wait;
    use crate::server::batch::Batch;
    use crate::server::transaction::Ran;
    use crate::server::worker::tests::shared;

    /// A question that waits until this peer has acknowledged one frame more.
    fn waits_for(peer: &Arc<Peer>, number: u64) -> Unanswered {
        let mut batch = Box::new(Batch::new(Instant::now()));
        Wait::of_write_to(peer, &mut batch.waits);
        let quorum = Quorum { write: 2, read: 2, strict: false };
        Unanswered { number, batch, replies: Vec::new(), quorum, ran: Ran::Apart, is_confirmed_anew: false }
    }

    fn ack(lane: &Lane) {
        lane.write_with(|bytes| Ok(bytes.len())).expect("written");
        lane.ack(lane.last());
    }

    /// Waits until some are ready, and gives their numbers.
    async fn ready(pending: &mut Pending) -> Vec<u64> {
        poll_fn(|cx| {
            let mut numbers = Vec::new();
            let noted = pending.poll(cx, |ready| {
                numbers.push(ready.number);
                Ok(())
            });
            noted.expect("nothing fails");
            if numbers.is_empty() { Poll::Pending } else { Poll::Ready(numbers) }
        })
        .await
    }

    fn none() -> Pending {
        Pending::new(Rc::new(Worker::new(0, shared(1, View::default()))))
    }

    #[tokio::test]
    async fn a_later_question_is_answered_while_an_earlier_one_waits() {
        let ([stuck, prompt], mut pending) = (Peer::reached(), none());
        let steps = async {
            pending.add(waits_for(&stuck, 0), Instant::now());
            for number in 1..4 {
                pending.add(waits_for(&prompt, number), Instant::now());
                if number != 2 {
                    ack(&prompt.lanes[0]);
                    let expected = if number == 1 { vec![1] } else { vec![2, 3] };
                    let mut answered = Vec::new();
                    while answered.len() < expected.len() {
                        answered.extend(ready(&mut pending).await);
                    }
                    answered.sort_unstable();
                    assert_eq!(answered, expected);
                }
            }
            assert!(pending.line.is_empty(), "patience is lost once");
            ack(&stuck.lanes[0]);
            assert_eq!(ready(&mut pending).await, [0]);
            pending.add(waits_for(&prompt, 4), Instant::now());
            assert!(pending.came.is_empty() && pending.line.len() == 1, "nobody is stuck any more");
        };
        LocalSet::new().run_until(steps).await;
    }

    #[tokio::test]
    async fn what_is_acknowledged_in_order_is_answered_from_the_line() {
        let ([prompt], mut pending) = (Peer::reached(), none());
        (0..LINE_MAX as u64).for_each(|number| pending.add(waits_for(&prompt, number), Instant::now()));
        assert!(pending.is_full());
        ack(&prompt.lanes[0]);
        let answered = ready(&mut pending).await;
        assert!(answered.into_iter().eq(0..LINE_MAX as u64) && pending.aside.is_empty() && !pending.is_full());
    }

    #[tokio::test]
    async fn however_many_are_stuck_only_so_many_are_kept() {
        let ([stuck, prompt], mut pending) = (Peer::reached(), none());
        let steps = async {
            pending.add(waits_for(&stuck, 0), Instant::now());
            pending.add(waits_for(&prompt, 1), Instant::now());
            ack(&prompt.lanes[0]);
            assert_eq!(ready(&mut pending).await, [1]);
            for number in 2..=ASIDE_MAX as u64 {
                assert!(!pending.is_full(), "{number}");
                pending.add(waits_for(&stuck, number), Instant::now());
            }
            assert!(pending.is_full() && pending.line.is_empty());
            ack(&stuck.lanes[0]);
            let mut count = 0;
            while count < ASIDE_MAX {
                count += ready(&mut pending).await.len();
            }
            assert!(pending.came.is_empty() && !pending.is_full());
        };
        LocalSet::new().run_until(steps).await;
    }
}
