//! Requests of a batch that are run again: nobody ran them, nobody knows who did, or their read was contradicted.
//!
//! They are run in the order of their replies, each on its own, and one that touches a slot of another whose outcome is
//! open waits for the next round (`order`). A round begins when all that other nodes were asked for is answered.
//!
//! A read that nobody contradicts, but whose confirmer takes too long, is not run again: its reply stands, and somebody
//! else is asked to confirm it. One that is contradicted is run again, unless its own connection may have written its key
//! since: it would see that, and is refused.

use std::time::Instant;

use crate::commands::spec::{flag, slots_of};
use crate::protocol::{Scan, Scanner};
use crate::replication::coordinator::View;
use crate::server::ask::{Again, Reading, Why};
use crate::server::batch::{Batch, UNKNOWN_OUTCOME};
use crate::server::commands::connection::Session;
use crate::server::connection::{AGAIN_MAX, Connection, Talk};
use crate::server::dispatch::{Origin, Run, Step};
use crate::server::order::Order;
use crate::server::settings::{quorum_of, scan_limits};
use crate::server::transaction::Transaction;
use crate::server::wait;
use crate::server::window::Request;

impl Connection {
    /// Runs those requests of the front batch again whose time has come.
    pub(super) fn run_again(&mut self) {
        let worker = self.worker.clone();
        let began = Instant::now();
        let view = worker.view(began);
        let Some(mut batch) = self.held.pop_front() else { return };
        let mut order = Order::default();
        let mut due = std::mem::take(&mut self.again);
        due.sort_by_key(|again| again.reply);
        for again in due {
            let overtaken =
                |read: &Reading| worker.is_read_overtaken(read, &batch, self.held.iter().map(|batch| &**batch));
            let is_overtaken = matches!(&again.why, Why::Contradicted(read) if overtaken(read));
            if is_overtaken || batch.started.elapsed() > AGAIN_MAX {
                let refusal = worker.refusal(batch.kept(again.ask.request));
                batch.patch(again.reply, refusal.as_bytes());
            } else if let Why::Unconfirmed(read) = &again.why {
                let quorum = quorum_of(&worker.shared.node.config.settings(), self.talk.consistency, &view);
                if worker.confirm_elsewhere(&view, &mut batch, quorum, again.reply, read.clone()).is_err() {
                    self.again.push(again);
                }
            } else if !self.run_one(&view, &mut batch, &again, &mut order) {
                self.again.push(again);
            }
        }
        worker.send_off(&view, &mut batch);
        worker.count_turn(began.elapsed());
        self.held.push_front(batch);
    }

    /// Runs one request again; false, with nothing done, when it has to wait for one before it.
    fn run_one(&self, view: &View, batch: &mut Batch, again: &Again, order: &mut Order) -> bool {
        let bytes = batch.kept(again.ask.request).to_vec();
        let session = Session { db: again.ask.db, proto: again.ask.proto, ..self.talk.session.clone() };
        let mut talk = Talk { session, transaction: Transaction::default(), consistency: self.talk.consistency };
        let mut scanner = Scanner::new();
        let limits = scan_limits(&self.worker.shared.node.config.settings(), true);
        let Ok(Scan::Request { .. }) = scanner.scan(&bytes, &limits) else { return true };
        let request = Request::new(scanner.args(&bytes), &bytes);
        let mut one = Batch::new(Instant::now());
        one.order = Order::behind([&*order].into_iter());
        let state = (&mut talk.session, &mut talk.transaction);
        let mut run = Run::new(&self.worker, view, &self.client, state, self.talk.consistency, &mut one, Origin::Part);
        run.since = again.ask.since;
        let step = run.request(&request);
        if step == Step::Done {
            order.join(&one.order);
            batch.adopt(again.reply, one);
            return true;
        }
        if let Some((_, command)) = request.row {
            order.leave_open(&slots_of(command, request.args), command.has(flag::WRITE));
        }
        if step == Step::Behind {
            return false;
        }
        if again.ask.since.is_some() {
            // Over several coordinators nobody can say whether it would be too late.
            batch.patch(again.reply, format!("-{UNKNOWN_OUTCOME}\r\n").as_bytes());
        } else {
            let call = wait::later(self.worker.clone(), self.client.clone(), talk, bytes);
            batch.wait_for(again.reply, again.ask, call);
        }
        true
    }
}
