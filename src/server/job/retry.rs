//! Requests of a batch that are run again: nobody ran them, nobody knows who did, or their read was contradicted.
//!
//! They are run in the order of their replies, each on its own, and one that touches a slot of another whose outcome is
//! open waits for the next round (`order`). A round begins when all that other nodes were asked for is answered.
//!
//! A read that nobody contradicts, but whose confirmer takes too long, is not run again: its reply stands, and somebody
//! else is asked to confirm it. One that is contradicted is run again, unless its own connection may have written its
//! key since: it would see that, and is refused. So is one that may write, if its connection has read its slot since.
//! If only another node may have done so, for a request behind it that was left to that one, it is refused where the
//! key has been written since it was first read.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::slot_of;
use crate::commands::spec::{flag, slots_of};
use crate::replication::view::View;
use crate::server::batch::ask::{Ask, Reading, Retry, of_requests};
use crate::server::batch::order::Order;
use crate::server::batch::scanned::{has_key, scanned, writes};
use crate::server::batch::window::Request;
use crate::server::batch::{Batch, RETRY_FOR_MAX};
use crate::server::forward::call::followed;
use crate::server::job;
use crate::server::request::run::{Origin, Run, Step};
use crate::server::session::settings::quorum_of;
use crate::server::session::transaction::Transaction;
use crate::server::session::{Session, Talk};
use crate::server::state::client::Client;
use crate::server::transaction::Ran;
use crate::server::worker::Worker;

/// How long to wait before asking again: other nodes go by another view by then, or may.
pub const RETRY_PAUSE: Duration = Duration::from_millis(3);
/// The same at first: what is missing may be no more than the answer of a replica that confirms a key.
const FIRST_AGAIN_PAUSE: Duration = Duration::from_millis(1);
/// A batch is asked for again at first until it is as old as this.
const FIRST_AGE: Duration = Duration::from_millis(6);

/// How long to wait before what `batch` lacks is asked for again.
pub fn retry_pause(batch: &Batch) -> Duration {
    if batch.started.elapsed() < FIRST_AGE { FIRST_AGAIN_PAUSE } else { RETRY_PAUSE }
}

/// Whether a write to a slot of what a request has read was left to others, or for later, in these batches, the first
/// of which holds the read.
fn has_left_write_of<'b>(read: &Reading, batch: &Batch, later: impl Iterator<Item = &'b Batch> + Clone) -> bool {
    has_key(batch.kept(read.ask.request), |key| {
        let slot = slot_of(key);
        batch.order.has_left_write(slot) || later.clone().any(|it| it.order.has_left_write(slot))
    })
}

/// Whether a request that may write would take effect behind what these later batches have read of its slots.
fn is_read_behind<'b>(request: &[u8], later: impl Iterator<Item = &'b Batch> + Clone) -> bool {
    let mut is_read = |key: &[u8]| later.clone().any(|batch| batch.may_have_read(slot_of(key)));
    writes(request) && has_key(request, &mut is_read)
}

/// In whose name requests are run again.
pub struct Retrier<'c> {
    /// The worker.
    pub worker: &'c Rc<Worker>,
    /// The connection's record.
    pub client: &'c Arc<Client>,
    /// The connection's state.
    pub talk: &'c Talk,
    /// How the requests were run at first.
    pub ran: Ran,
}

impl Retrier<'_> {
    /// Runs those of `due` again whose time has come; gives those that are left for the next round. `later` are batches
    /// of the same connection behind this one.
    pub fn round<'b>(
        &self,
        batch: &mut Batch,
        mut due: Vec<Retry>,
        later: impl Iterator<Item = &'b Batch> + Clone,
    ) -> Vec<Retry> {
        let began = Instant::now();
        let view = self.worker.view(began);
        let (mut order, mut left) = (Order::default(), Vec::new());
        for of_request in of_requests(&mut due) {
            let to_run = of_request.iter().find(|it| !it.is_unconfirmed());
            let Some(retry) = to_run.or(of_request.first()) else { continue };
            let read = retry.reading();
            let overtaken = |read| {
                self.worker.is_read_overtaken(read, batch, later.clone())
                    || is_read_behind(batch.kept(retry.ask.request), later.clone())
            };
            if to_run.is_some() && read.is_some_and(overtaken) || batch.started.elapsed() > RETRY_FOR_MAX {
                self.give_up(batch, retry);
            } else if to_run.is_some() {
                let has_left_write = read.filter(|read| has_left_write_of(read, batch, later.clone()));
                let fence = retry.ask.fence.or(has_left_write.map(|read| followed(read.read_at)));
                let retry = Retry { ask: Ask { fence, ..retry.ask }, ..retry.clone() };
                if !self.run_one(&view, batch, &retry, &mut order) {
                    left.push(retry);
                }
            } else {
                let quorum = quorum_of(&self.worker.shared.node.config.settings(), self.talk.consistency, &view);
                let reply = retry.reply;
                let unconfirmed = of_request.iter().filter(|it| {
                    let confirmed = it
                        .reading()
                        .map(|read| self.worker.confirm_elsewhere(&view, batch, quorum, reply, read.clone()));
                    confirmed.is_none_or(|asked| asked.is_err())
                });
                left.extend(unconfirmed.cloned());
            }
        }
        self.worker.send_off(&view, batch);
        self.worker.count_turn(began.elapsed());
        left
    }

    /// Answers a request that will not be run any more: of a write that may have been run once, and of what belongs to
    /// a transaction that has written, that is all that can be said.
    pub fn give_up(&self, batch: &mut Batch, retry: &Retry) {
        let request = batch.kept(retry.ask.request);
        if self.ran == Ran::Together || retry.ask.fence.is_some() && writes(request) {
            return batch.leave_unknown(retry.reply);
        }
        let refusal = self.worker.refusal(request);
        batch.patch(retry.reply, refusal.as_bytes());
    }

    /// Runs one request again; false, with nothing done, when it has to wait for one before it.
    fn run_one(&self, view: &View, batch: &mut Batch, retry: &Retry, order: &mut Order) -> bool {
        let bytes = batch.kept(retry.ask.request).to_vec();
        let session = Session { db: retry.ask.db, proto: retry.ask.proto, ..self.talk.session.clone() };
        let mut talk = Talk { session, transaction: Transaction::default(), consistency: self.talk.consistency };
        let Ok(scanner) = scanned(&bytes) else { return true };
        let request = Request::new(scanner.args(&bytes), &bytes);
        let mut one = Batch::new(Instant::now());
        one.order = Order::behind([&*order].into_iter());
        let mut run = Run::new(self.worker, view, self.client, &mut talk, &mut one, Origin::Again);
        run.fence = retry.ask.fence;
        let step = run.request(&request);
        if step == Step::Done {
            order.join(&one.order);
            batch.adopt(retry.reply, one);
            return true;
        }
        if let Some((_, command)) = request.row {
            order.leave_open(&slots_of(command, request.args), command.has(flag::WRITE));
        }
        if step == Step::Behind {
            return false;
        }
        if retry.ask.fence.is_some() {
            // Over several coordinators nobody can say whether it would be too late.
            batch.leave_unknown(retry.reply);
        } else {
            let call = job::later(self.worker.clone(), self.client.clone(), talk, bytes);
            batch.wait_for(retry.reply, retry.ask, call);
        }
        true
    }
}
