//! One request, from its name to its reply: the request path on one page.
//!
//! Look the command up, check what may be checked before its keys are looked at, find who coordinates the keys, and run
//! it here or ask there. What cannot be answered without waiting in the middle (a command over several coordinators,
//! EXEC, SCAN of the whole cluster ...) is left to the caller as [`Step::Wait`], with nothing done.
//!
//! Nothing in this file waits.

use crate::base::ids::{Slot, slot_of};
use crate::base::metrics::Count;
use crate::commands::CommandError;
use crate::commands::spec::{Command, Cx, Handler, KeysFunction, NodeCommand, flag, slots_of};
use crate::commands::subcommands;
use crate::commands::table::{self, CommandIndex};
use crate::protocol::Reply;
use crate::replication::routing::SlotRoles;
use crate::replication::view::QuorumError;
use crate::server::batch::window::Request;
use crate::server::commands;
use crate::server::error::RequestError;
use crate::server::forward::seen::PeerSeen;
use crate::server::request::cluster_face::{CROSS_SLOT, is_spread};
use crate::server::request::readiness::keys_of;
use crate::server::request::run::{Origin, Run, Step};
use crate::server::share::flush;
use crate::store::{Effects, Keyspace};

impl<'r> Run<'r> {
    /// Deals with one request.
    #[inline]
    pub fn request(&mut self, request: &Request<'_>) -> Step {
        let is_for_all = |command: &Command| self.origin != Origin::Client || !command.has(flag::INTERNAL);
        let Some((index, command)) = request.row.filter(|(_, command)| is_for_all(command)) else {
            self.transaction.spoil();
            self.fail_with(&commands::unknown_command(request.args));
            return Step::Done;
        };
        if let Err(error) = self.admit(command, request.args) {
            if let Some(at) = table::counted_at(index, command, request.args) {
                self.worker.metrics.rejected(at);
            }
            match command.handler {
                Handler::Node(NodeCommand::Exec) => self.abort(&error),
                _ => {
                    self.transaction.spoil();
                    self.fail_with(&error);
                }
            }
            return Step::Done;
        }
        if self.origin == Origin::Client {
            let now_ms = self.now_us / 1_000;
            self.client.runs(index, now_ms);
            let clients = &self.worker.shared.node.clients;
            if clients.is_paused(now_ms)
                && clients.paused_until_ms(self.transaction.may_write(command), now_ms).is_some()
            {
                return Step::Paused;
            }
        }
        if self.transaction.queues(command) {
            if let Err(error) = self.queue(command, request) {
                self.fail_with(&error);
            }
            return Step::Done;
        }
        let step = self.execute(index, subcommands::running(command, request.args), request);
        if self.is_monitored && step == Step::Done {
            self.worker.shared.node.show(self.client, self.session.db, command, request.args);
        }
        step
    }

    /// Runs a request that has been admitted.
    #[inline]
    pub fn execute(&mut self, index: CommandIndex, command: &'static Command, request: &Request<'_>) -> Step {
        let mut counted_at = index;
        if let (None, Some((_, family))) = (request.spot, request.row) {
            self.client.runs_subcommand(index, family, request.args);
            counted_at = table::counted_at(index, family, request.args).unwrap_or(index);
        }
        let began = self.timer(counted_at, request.bytes.len());
        let step = match command.handler {
            Handler::Node(node) => self.run_on_node(counted_at, command, node, request.args),
            Handler::Keys(function) | Handler::FanOut(function, _) => {
                self.route(counted_at, command, function, request)
            }
        };
        let is_first = || flush::is_first_part(command, self.origin == Origin::ShareRest, request.args);
        if step.has_run() && is_first() {
            self.count_run(counted_at, command, request.args, began);
            if self.origin != Origin::Again
                && let Some(count) = self.batch.answered.get_mut(command.class() as usize)
            {
                *count += 1;
            }
        }
        step
    }

    /// Runs a command here if this node coordinates all its keys, else asks who does.
    #[inline]
    fn route(
        &mut self,
        index: CommandIndex,
        command: &'static Command,
        function: KeysFunction,
        request: &Request<'_>,
    ) -> Step {
        let (one, many);
        let slots: &[Slot] = match request.slot() {
            Some(slot) => {
                one = [slot];
                &one
            }
            None => {
                many = slots_of(command, request.args);
                &many
            }
        };
        match self.where_to_run(command, slots) {
            Where::Here(roles) => match roles.is_none_or(|roles| self.is_prepared(roles, command, request, slots)) {
                true => self.execute_locked(index, command, function, request, slots),
                false => self.put_off(command, request, slots),
            },
            Where::There(roles) => self.send_on(roles, slots, command, function, request),
            Where::Apart => Step::Wait,
            Where::Behind => Step::Behind,
            Where::Nowhere(error) => {
                self.fail_with(&error);
                Step::Done
            }
        }
    }

    /// Where a command on these slots is to run.
    #[inline]
    fn where_to_run(&self, command: &Command, slots: &[Slot]) -> Where<'r> {
        // A command without a key can say no more than that.
        let slot = slots.first().copied().unwrap_or_else(|| slot_of(b""));
        let is_spread = is_spread(slots);
        if is_spread && self.session.cluster_face {
            return Where::Nowhere(CROSS_SLOT);
        }
        if self.view.is_solo || self.origin == Origin::Share {
            return Where::Here(None);
        }
        let Some(roles) = self.view.roles.of(slot) else {
            return Where::Nowhere(RequestError::NotJoined.refusal());
        };
        // Looked at first: who is to be alone begins at once when it is run again (`retry`).
        if self.batch.order.blocks(slots, command.has(flag::WRITE)) {
            return Where::Behind;
        }
        if is_spread && slots.iter().any(|other| self.view.coordinator_of(*other) != roles.coordinator) {
            return Where::Apart;
        }
        match roles.coordinator == Some(self.view.me) {
            true => Where::Here(Some(roles)),
            false => Where::There(roles),
        }
    }

    /// Whether this node, which coordinates these slots, may run a command on them now: W and R can be reached, and
    /// what it holds may be built on.
    #[inline]
    fn is_prepared(&mut self, roles: &SlotRoles, command: &Command, request: &Request<'_>, slots: &[Slot]) -> bool {
        let writes = command.has(flag::WRITE);
        if let Err(error) = self.view.check(roles, self.quorum, writes) {
            tracing::debug!(%error, ?slots, "put off");
            return false;
        }
        let is_believed =
            |seen: &PeerSeen| slots.first().is_some_and(|slot| self.believes(seen, roles, *slot, command));
        if self.current.peer_seen.as_ref().is_some_and(|seen| !is_believed(seen)) {
            self.current.peer_seen = None;
        }
        self.current.unsettlings = self.worker.shared.coordinator.ballots.unsettlings();
        !self.may_lack(writes) || self.is_ready(keys_of(command, request.args, self.session.db))
    }

    /// Runs a command here, with its slots locked.
    #[inline]
    fn execute_locked(
        &mut self,
        index: CommandIndex,
        command: &'static Command,
        function: KeysFunction,
        request: &Request<'_>,
        slots: &[Slot],
    ) -> Step {
        let worker = self.worker;
        let store = &worker.shared.node.store;
        let (db, now_ms) = (self.session.db, self.now_us / 1_000);
        let mut effects = worker.effects.borrow_mut();
        effects.notify = worker.shared.node.pubsub.wants_events();
        effects.only_writes = command.only_writes();
        effects.has_waited = false;
        effects.no_touch = self.leaves_untouched(command);
        let from = self.batch.out.len();
        let ran = {
            let mut keys = match request.spot {
                Some(spot) => store.lock_key(request.key(), spot, db, now_ms, &mut effects),
                None => store.lock_many(slots, db, now_ms, &mut effects),
            };
            match self.hindrance(command, request, &mut keys) {
                None => Ok(self.apply_and_replicate(index, command, function, request, &mut keys)),
                Some(hindrance) => Err(hindrance),
            }
        };
        if ran.is_ok() {
            self.count_effects(&mut effects);
        }
        drop(effects);
        match ran {
            Ok(Ok(step)) => step,
            Ok(Err(_)) => {
                self.batch.forget_from(from);
                self.put_off(command, request, slots)
            }
            Err(Hindrance::Unready) => self.put_off(command, request, slots),
            Err(Hindrance::Overtaken(error)) => {
                self.fail(error.text());
                Step::Done
            }
        }
    }

    /// What keeps a command from running on its keys, which are locked now.
    #[inline]
    fn hindrance(&self, command: &Command, request: &Request<'_>, keys: &mut Keyspace<'_>) -> Option<Hindrance> {
        let names = || keys_of(command, request.args, self.session.db);
        if self.origin != Origin::Share
            && (self.is_out_of_date(command.has(flag::WRITE), keys.effects().has_waited)
                || self.quorum.strict && !self.may_run_strictly(keys, names()))
        {
            return Some(Hindrance::Unready);
        }
        self.is_overtaken(command, request, keys).map(Hindrance::Overtaken)
    }

    /// Runs a command on its locked keys, and leaves to replicas what it has written and read. Fails when there are too
    /// few to confirm what it has read: then its reply is not to be given.
    #[inline]
    fn apply_and_replicate(
        &mut self,
        index: CommandIndex,
        command: &'static Command,
        function: KeysFunction,
        request: &Request<'_>,
        keys: &mut Keyspace<'_>,
    ) -> Result<Step, QuorumError> {
        let (from, before) = (self.batch.out.len(), keys.effects().lookups());
        let step = if self.agrees_with_peer(keys, request.key()) { Step::AsSeen } else { Step::Done };
        let out = Reply::new(&mut self.batch.out, self.session.proto);
        if step == Step::Done
            && let Err(error) = (Cx { args: request.args, keys, out, limits: self.limits }).run(function)
        {
            self.fail_run(index, from, &error);
        }
        if self.view.is_solo {
            return Ok(step);
        }
        let must_verify = step == Step::Done && self.must_verify(keys);
        self.replicate(command, request.args, keys, from, self.now_us / 1_000);
        if must_verify {
            self.verify(command, request, keys, before, from)?;
        }
        Ok(step)
    }

    /// Counts what a command did beside answering, and publishes its events; no slot is locked.
    pub fn count_effects(&self, effects: &mut Effects) {
        // Hits and misses are taken over once a batch; what is rare is looked at here.
        if effects.expired != 0 {
            self.worker.metrics.count(Count::ExpiredKeys, std::mem::take(&mut effects.expired));
        }
        effects.deltas.clear();
        self.publish_events(effects);
    }
}

/// Where a command runs.
enum Where<'v> {
    /// On this node, which coordinates these slots, or holds what there is of them in any case.
    Here(Option<&'v SlotRoles>),
    /// On the node that coordinates them.
    There(&'v SlotRoles),
    /// In parts, on several.
    Apart,
    /// Behind requests of its connection that are still open.
    Behind,
    /// On none, which this error says.
    Nowhere(CommandError),
}

/// Why a command may not run on its keys though they are locked.
enum Hindrance {
    /// What it was let in by holds no longer, or it is strict, and no majority has promised its slots: it is put off.
    Unready,
    /// It may have run before, and its keys were written since: what to answer.
    Overtaken(RequestError),
}
