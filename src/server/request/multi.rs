//! MULTI, DISCARD, WATCH and what of EXEC is answered at once. What was queued is run by `exec`.

use std::sync::atomic::Ordering;

use crate::base::ids::slot_of;
use crate::commands::spec::{Command, NodeCommand, slots_of};
use crate::commands::{CommandError, subcommands};
use crate::protocol::Args;
use crate::server::batch::window::Request;
use crate::server::error::RequestError;
use crate::server::request::run::{Run, Step};
use crate::server::session::watched::{SEVERAL_COORDINATORS, TOO_MANY_WATCHED, Watched};
use crate::store::Effects;

impl Run<'_> {
    /// Runs the commands of this file that need not wait; `None` for other commands.
    pub fn transaction_command(&mut self, node: NodeCommand, args: Args<'_>) -> Result<Option<Step>, CommandError> {
        let is_open = self.transaction.is_open();
        match node {
            NodeCommand::Multi if is_open => return Err(CommandError::text("ERR MULTI calls can not be nested")),
            NodeCommand::Multi => {
                self.transaction.open();
                self.client.begin_transaction();
                self.reply().ok();
            }
            NodeCommand::Discard if !is_open => return Err(CommandError::text("ERR DISCARD without MULTI")),
            NodeCommand::Discard => {
                self.end_transaction();
                self.reply().ok();
            }
            NodeCommand::Unwatch => {
                self.transaction.watched.clear();
                self.reply().ok();
            }
            NodeCommand::Watch if is_open => {
                return Err(CommandError::text("ERR WATCH inside MULTI is not allowed"));
            }
            NodeCommand::Watch => return self.watch(args).map(Some),
            NodeCommand::Exec if !is_open => return Err(CommandError::text("ERR EXEC without MULTI")),
            NodeCommand::Exec => {
                if let Some(error) = self.why_not_exec() {
                    self.end_transaction();
                    return Err(error);
                }
                return Ok(None);
            }
            _ => return Ok(None),
        }
        Ok(Some(Step::Done))
    }

    /// Keeps a request for EXEC. One that is refused spoils the transaction.
    pub(super) fn queue(&mut self, command: &'static Command, request: &Request<'_>) -> Result<(), CommandError> {
        if self.session.cluster_face {
            let slots = slots_of(subcommands::running(command, request.args), request.args);
            if let Some(error) = self.redirection(&slots) {
                self.transaction.spoil();
                return Err(error);
            }
            self.transaction.note_slot(slots.first().copied());
        }
        self.transaction.queue(command, request.bytes)?;
        self.client.queued.store(self.transaction.len() as i64, Ordering::Relaxed);
        self.reply().simple("QUEUED");
        Ok(())
    }

    /// Why what was queued is not to be run.
    fn why_not_exec(&mut self) -> Option<CommandError> {
        if let Some(error) = self.redirection(self.transaction.slots()) {
            return Some(error);
        }
        if self.transaction.needs_room() && self.has_no_room() {
            return Some(aborted(RequestError::OutOfMemory.text().as_bytes()));
        }
        let spoiled = CommandError::text("EXECABORT Transaction discarded because of previous errors.");
        self.transaction.is_spoiled().then_some(spoiled)
    }

    /// Ends the transaction because its EXEC was refused.
    pub(super) fn abort(&mut self, why: &CommandError) {
        self.end_transaction();
        let text = why.bytes();
        self.fail_with(&aborted(text.strip_prefix(b"ERR ").unwrap_or(&text)));
    }

    /// Leaves the transaction.
    fn end_transaction(&mut self) {
        self.transaction.reset();
        self.client.end_transaction();
    }

    fn watch(&mut self, args: Args<'_>) -> Result<Step, CommandError> {
        // All its keys have one slot on the cluster face, or it had not come so far.
        if let Some(error) = self.redirection(args.get(1).map(slot_of).as_slice()) {
            return Err(error);
        }
        if !args.iter().skip(1).all(|key| self.view.is_coordinator(slot_of(key))) {
            return Ok(Step::Wait);
        }
        if !self.transaction.watched.is_at(None) {
            return Err(CommandError::text(SEVERAL_COORDINATORS));
        }
        if !self.transaction.watched.has_room_for(args.iter().skip(1)) {
            return Err(CommandError::text(TOO_MANY_WATCHED));
        }
        let (node, now_ms) = (&self.worker.shared.node, self.now_us / 1_000);
        let (since, mut effects) = (node.store.clock.tick(now_ms), Effects::default());
        for key in args.iter().skip(1) {
            let keys = node.store.lock(slot_of(key), self.session.db, now_ms, &mut effects);
            let (seen, was_live) = keys.version_of(key);
            let missing = if was_live { None } else { node.store.watch_missing(self.session.db, key) };
            drop(keys);
            let (db, key) = (self.session.db, key.to_vec());
            self.transaction.watched.add(Watched { db, key, seen, was_live, since, missing, at: None });
        }
        self.reply().ok();
        Ok(Step::Done)
    }
}

fn aborted(why: &[u8]) -> CommandError {
    CommandError::said([b"EXECABORT Transaction discarded because of: ", why].concat())
}
