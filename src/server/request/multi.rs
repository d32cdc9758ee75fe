//! MULTI, DISCARD, WATCH and what of EXEC is answered at once. What was queued is run by `exec`.

use crate::base::ids::slot_of;
use crate::commands::spec::NodeCommand;
use crate::protocol::Args;
use crate::server::request::room::OUT_OF_MEMORY;
use crate::server::request::run::{Run, Step};
use crate::server::session::watched::{SEVERAL_COORDINATORS, TOO_MANY_WATCHED, Watched};
use crate::server::state::client::state;
use crate::store::Effects;

impl Run<'_> {
    /// Runs the commands of this file that need not wait; `None` for other commands.
    pub fn transaction_command(&mut self, node: NodeCommand, args: Args<'_>) -> Option<Step> {
        match node {
            NodeCommand::Multi if self.transaction.is_open() => self.fail("ERR MULTI calls can not be nested"),
            NodeCommand::Multi => {
                self.transaction.open();
                self.client.queued.store(0, std::sync::atomic::Ordering::Relaxed);
                self.client.set_state(state::MULTI, true);
                self.reply().ok();
            }
            NodeCommand::Discard if !self.transaction.is_open() => self.fail("ERR DISCARD without MULTI"),
            NodeCommand::Discard => {
                self.end_transaction();
                self.reply().ok();
            }
            NodeCommand::Unwatch => {
                self.transaction.watched.clear();
                self.reply().ok();
            }
            NodeCommand::Watch if self.transaction.is_open() => self.fail("ERR WATCH inside MULTI is not allowed"),
            NodeCommand::Watch => return Some(self.watch(args)),
            NodeCommand::Exec if !self.transaction.is_open() => self.fail("ERR EXEC without MULTI"),
            NodeCommand::Exec if self.transaction.needs_room() && self.has_no_room() => {
                self.end_transaction();
                self.fail(format!("EXECABORT Transaction discarded because of: {OUT_OF_MEMORY}"));
            }
            NodeCommand::Exec if self.transaction.is_spoiled() => {
                self.end_transaction();
                self.fail("EXECABORT Transaction discarded because of previous errors.");
            }
            _ => return None,
        }
        Some(Step::Done)
    }

    /// Leaves the transaction.
    pub fn end_transaction(&mut self) {
        self.transaction.reset();
        self.client.queued.store(-1, std::sync::atomic::Ordering::Relaxed);
        self.client.set_state(state::MULTI, false);
    }

    fn watch(&mut self, args: Args<'_>) -> Step {
        if !args.iter().skip(1).all(|key| self.view.is_coordinator(slot_of(key))) {
            return Step::Wait;
        }
        if !self.transaction.watched.is_at(None) {
            self.fail(SEVERAL_COORDINATORS);
            return Step::Done;
        }
        if !self.transaction.watched.has_room_for(args.iter().skip(1)) {
            self.fail(TOO_MANY_WATCHED);
            return Step::Done;
        }
        let (node, now_ms) = (&self.worker.shared.node, self.now_us / 1_000);
        let (since, mut effects) = (node.store.clock.tick(now_ms), Effects::default());
        for key in args.iter().skip(1) {
            let keys = node.store.lock(slot_of(key), self.session.db, now_ms, &mut effects);
            let (seen, was_live) = keys.seen(key);
            let absence = if was_live { None } else { node.store.watch_absence(self.session.db, key) };
            drop(keys);
            let (db, key) = (self.session.db, key.to_vec());
            self.transaction.watched.add(Watched { db, key, seen, was_live, since, absence, at: None });
        }
        self.reply().ok();
        Step::Done
    }
}
