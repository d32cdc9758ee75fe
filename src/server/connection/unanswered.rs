//! A question of another node that has run: its replies, and what they wait for.
//!
//! It is ready when all of them are known. Nothing is run twice here: what would have to be is left to the asker.

use std::rc::Rc;
use std::task::Context;

use crate::base::framing;
use crate::base::wire::{put_u32, put_u64};
use crate::replication::routing::Quorum;
use crate::replication::view::View;
use crate::server::batch::Batch;
use crate::server::batch::ask::{Reading, Retry, of_requests};
use crate::server::forward::wire::{AS_SEEN, Answered, NOT_RUN, REPLY_LENGTH_MAX};
use crate::server::transaction::Ran;
use crate::server::worker::Worker;

/// See the head of the file.
pub(super) struct Unanswered {
    /// Its number among those of its connection.
    pub(super) number: u64,
    pub(super) batch: Box<Batch>,
    /// What came of each request; replies are stretches of the batch.
    pub(super) replies: Vec<Answered>,
    pub(super) quorum: Quorum,
    pub(super) ran: Ran,
    /// Reads whose replicas took too long have been confirmed by others, or are about to be.
    pub(super) is_confirmed_anew: bool,
}

impl Unanswered {
    /// Whether it is ready; else `cx` will be woken when there is more to see.
    pub(super) fn poll(&mut self, cx: &Context<'_>, worker: &Rc<Worker>) -> bool {
        let mut retries = Vec::new();
        loop {
            if !self.batch.poll(cx, &mut retries) && retries.is_empty() {
                return false;
            }
            let view = worker.shared.view.load();
            for of_request in of_requests(&mut retries) {
                self.confirm_or_give_up(of_request, worker, &view);
            }
            retries.clear();
            self.is_confirmed_anew = true;
            if self.batch.is_resolved() {
                return true;
            }
            worker.send_off(&view, &mut self.batch);
        }
    }

    /// Has what a request has read confirmed by somebody else, once. A request that is contradicted, or that nobody
    /// confirms, the asker asks for again. It is refused where running it again would show a later write of its own
    /// client; where it belongs to a transaction that has written, which could only be asked for again as a whole, its
    /// outcome is unknown.
    fn confirm_or_give_up(&mut self, retries: &[Retry], worker: &Worker, view: &View) {
        let Some(Retry { reply, ask, .. }) = retries.first() else { return };
        let is_unconfirmed = retries.iter().all(Retry::is_unconfirmed);
        let mut confirm =
            |read: &Reading| worker.confirm_elsewhere(view, &mut self.batch, self.quorum, *reply, read.clone()).is_ok();
        if !self.is_confirmed_anew && is_unconfirmed && retries.iter().filter_map(Retry::reading).all(&mut confirm) {
            return;
        }
        let is_overtaken = |read| worker.is_read_overtaken(read, &self.batch, std::iter::empty());
        let would_show = || retries.iter().find_map(Retry::reading).is_some_and(is_overtaken);
        if self.ran == Ran::Together {
            return self.batch.leave_unknown(*reply);
        }
        if self.ran == Ran::Apart && would_show() {
            let refusal = worker.refusal(self.batch.kept(ask.request));
            return self.batch.patch(*reply, refusal.as_bytes());
        }
        let is_it = |it: &&mut Answered| matches!(it, Answered::Reply(at) if at.contains(&reply.span.from));
        if let Some(answered) = self.replies.iter_mut().find(is_it) {
            *answered = Answered::NotRun;
        }
    }

    /// Appends the answer, once it is ready, and gives the memory back. An error when it is longer than a frame can
    /// say: the asker then takes its outcome for unknown.
    pub(super) fn answer(mut self, to: &mut Vec<u8>, worker: &Worker) -> std::io::Result<()> {
        self.batch.sort_patches();
        let (at, mut fits) = (framing::begin(to), true);
        put_u64(to, self.number);
        for answered in &self.replies {
            match answered {
                Answered::NotRun => put_u32(to, NOT_RUN),
                Answered::AsSeen => put_u32(to, AS_SEEN),
                Answered::Reply(place) => {
                    let at = framing::begin(to);
                    self.batch.write(place.clone(), to);
                    fits &= framing::end(to, at, REPLY_LENGTH_MAX);
                }
            }
        }
        fits &= framing::end(to, at, REPLY_LENGTH_MAX);
        worker.spares.keep_batch(self.batch);
        if fits { Ok(()) } else { Err(std::io::Error::other("an answer is longer than a frame")) }
    }
}
