//! Commands about the node, the connection or the whole cluster, as far as they can be answered at once.
//!
//! What is about more than this node is answered here only where this node's share is what is asked for; the rest is
//! left to `job`, which may wait.

use crate::commands::CommandError;
use crate::commands::spec::{Command, NodeCommand};
use crate::commands::table::CommandIndex;
use crate::protocol::{Args, Reply};
use crate::server::batch::ask::Unconfirmed;
use crate::server::commands;
use crate::server::request::cluster_face::CROSS_SLOT;
use crate::server::request::events::sets_events;
use crate::server::request::run::{Origin, Run, Step};
use crate::server::session::settings::Consistency;
use crate::server::share::{Asker, Share};
use crate::server::state::client::ReplyMode;

impl Run<'_> {
    /// Runs a command that is about no key.
    pub(super) fn run_on_node(
        &mut self,
        index: CommandIndex,
        command: &'static Command,
        node: NodeCommand,
        args: Args<'_>,
    ) -> Step {
        if self.crosses_slots(command, args) {
            self.fail_run(index, self.batch.out.len(), &CROSS_SLOT);
            return Step::Done;
        }
        match self.transaction_command(node, args) {
            Ok(None) => {}
            Ok(Some(step)) => return step,
            Err(error) => {
                self.fail_run(index, self.batch.out.len(), &error);
                return Step::Done;
            }
        }
        if node == NodeCommand::Reset && self.wish != Consistency::default() {
            // Who runs it alone forgets that too.
            return Step::Wait;
        }
        if node == NodeCommand::Config && self.origin == Origin::Client && sets_events(args) && !self.view.is_solo {
            return Step::Wait;
        }
        if node == NodeCommand::Reset {
            // What it has heard comes before the word that it hears no more.
            self.worker.shared.node.stop_listening(self.client);
            self.client.mailbox.take(&mut self.batch.out, None);
        }
        let from = self.batch.out.len();
        let mut cx = commands::Cx {
            args,
            node: &self.worker.shared.node,
            session: self.session,
            client: self.client,
            now_us: self.now_us,
        };
        let proto = cx.session.proto;
        let mut out = Reply::new(&mut self.batch.out, proto);
        out.limit(self.limits.reply_bytes_max);
        let result = commands::run(command, node, &mut cx, &mut out);
        match if out.is_cut() { Err(CommandError::ReplyTooLarge) } else { result } {
            Ok(true) if node == NodeCommand::Reset => self.transaction.reset(),
            Ok(true) if self.session.proto != proto => self.put_mail_before(from),
            Ok(true) => {}
            Ok(false) => return self.run_share(index, node, args),
            Err(error) => self.fail_run(index, from, &error),
        }
        Step::Done
    }

    /// HELLO has changed the protocol: puts messages that wait, in the old one, before its reply, which begins at
    /// `from`. Where there will be no such reply they need no place before it.
    fn put_mail_before(&mut self, from: usize) {
        let mailbox = &self.client.mailbox;
        match (self.origin, self.client.reply_mode()) {
            (Origin::Client, ReplyMode::On) => {
                let mut mail = Vec::new();
                mailbox.take(&mut mail, None);
                self.batch.out.splice(from..from, mail);
            }
            (Origin::Client, _) => {}
            // Inside a transaction.
            _ => mailbox.set_aside(),
        }
    }

    /// Answers for this node alone where that is what is asked; else the request has to wait for others.
    fn run_share(&mut self, index: CommandIndex, node: NodeCommand, args: Args<'_>) -> Step {
        let asker = match self.origin {
            Origin::Share => Asker::Node,
            Origin::ShareRest => Asker::NodeForRest,
            Origin::Client | Origin::Part | Origin::Again | Origin::Peer => Asker::Client,
        };
        let is_alone = self.view.is_solo || asker != Asker::Client;
        let is_peers_wait = node == NodeCommand::Wait && self.origin == Origin::Share;
        if !is_peers_wait && (!is_alone || !node.is_of_all_keys()) {
            return Step::Wait;
        }
        let (from, now_ms) = (self.batch.out.len(), self.now_us / 1_000);
        let share = Share {
            worker: self.worker,
            view: self.view,
            db: self.session.db,
            quorum: self.quorum,
            asker,
            is_put_together: !self.view.is_solo && !self.session.cluster_face,
            now_ms,
        };
        let mut out = Reply::new(&mut self.batch.out, self.session.proto);
        out.limit(self.limits.reply_bytes_max);
        let result = share.answer(node, args, &mut out, &mut self.batch.waits);
        match if out.is_cut() { Err(CommandError::ReplyTooLarge) } else { result } {
            Ok(true) => {
                let reply = self.batch.place(from);
                let waits = 0..self.batch.waits.len();
                self.batch.unconfirmed.extend(waits.map(|wait| Unconfirmed { reply, wait, read: None, tells: false }));
                Step::Done
            }
            Ok(false) => Step::Wait,
            Err(error) => {
                self.fail_run(index, from, &error);
                Step::Done
            }
        }
    }
}
