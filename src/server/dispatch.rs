//! One request, from its name to its reply: the request path on one page.
//!
//! Look the command up, check what may be checked before its keys are looked at, find who coordinates the keys, and run
//! it here or ask there. What cannot be answered without waiting in the middle (a command over several coordinators,
//! EXEC, SCAN of the whole cluster ...) is left to the caller as [`Step::Wait`], with nothing done.
//!
//! Nothing in this file waits.

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::base::metrics::{Class, Count};
use crate::commands::spec::{Command, CommandLimits, Cx, Handler, NodeCommand, flag, slots_of};
use crate::commands::table::CommandIndex;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Proto, REPLY_BYTES_MAX, Reply};
use crate::replication::coordinator::View;
use crate::replication::routing::{Group, Quorum};
use crate::server::ask::{Ask, Pending};
use crate::server::batch::Batch;
use crate::server::clients::{Client, state};
use crate::server::commands;
use crate::server::commands::connection::Session;
use crate::server::events::{sets_events, tells_of_misses};
use crate::server::forward::{Manner, ask};
use crate::server::own_copy::PeerSeen;
use crate::server::question::Target;
use crate::server::settings::{Consistency, command_limits, output_bytes_max, quorum_of, wall_us};
use crate::server::share::{self, Share};
use crate::server::transaction::Transaction;
use crate::server::window::Request;
use crate::server::worker::Worker;

/// What runs a command on its locked keys.
pub(super) type KeysFunction = fn(&mut Cx<'_, '_>) -> Result<(), CommandError>;

/// How a request was dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Its reply is in the batch, or will be.
    Done,
    /// It must be alone and may wait: nothing was done.
    Wait,
    /// A request before it on one of its slots may have to run first (`order`): nothing was done.
    Behind,
    /// Clients are paused until this time, in milliseconds since 1970: nothing was done.
    Paused,
}

/// Where a request comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client.
    Client,
    /// This node, in the name of a client whose request has several parts or has to be run again.
    Part,
    /// Another node, which takes this one for the coordinator.
    Peer,
    /// Another node that asks for this node's share.
    PeerForShare,
    /// Another node that flushes what the shares have left.
    PeerForRest,
}

impl Origin {
    /// True when this node answers the client itself, and so may ask others.
    pub fn is_here(self) -> bool {
        matches!(self, Origin::Client | Origin::Part)
    }
}

/// What a request is run with.
pub struct Run<'r> {
    /// The worker.
    pub worker: &'r Worker,
    /// The picture of the batch.
    pub view: &'r View,
    /// The connection's record.
    pub client: &'r Client,
    /// The connection's state.
    pub session: &'r mut Session,
    /// MULTI and WATCH.
    pub transaction: &'r mut Transaction,
    /// Where the reply goes.
    pub batch: &'r mut Batch,
    /// W and R of this connection.
    pub quorum: Quorum,
    /// What they were made of, for those who are asked.
    pub wish: Consistency,
    /// The limits that options set.
    pub limits: CommandLimits,
    /// Where the request comes from.
    pub origin: Origin,
    /// The time of the batch, in microseconds since 1970.
    pub now_us: u64,
    /// Whether somebody watches, by MONITOR, what clients ask, and this is a client's.
    pub is_monitored: bool,
    /// Set when a peer's request was not run because this node does not coordinate its key.
    pub not_run: bool,
    /// What the peer that asks has seen of the request's key.
    pub peer_seen: Option<PeerSeen>,
    /// Set when that is what there is to see, and the request was not run therefore.
    pub is_as_seen: bool,
    /// Set when a request may have run before: then it runs only if its keys have not been written since.
    pub since: Option<Hlc>,
}

impl<'r> Run<'r> {
    /// What a batch's requests are run with: options and time are looked at once.
    pub fn new(
        worker: &'r Worker,
        view: &'r View,
        client: &'r Client,
        (session, transaction): (&'r mut Session, &'r mut Transaction),
        wish: Consistency,
        batch: &'r mut Batch,
        origin: Origin,
    ) -> Run<'r> {
        let (quorum, limits) = worker.settings.read(|settings| {
            let mut limits = command_limits(settings, session.cluster_face);
            if origin.is_here() {
                limits.reply_bytes_max = output_bytes_max(settings).unwrap_or(REPLY_BYTES_MAX).min(REPLY_BYTES_MAX);
            }
            (quorum_of(settings, wish, view), limits)
        });
        let now_us = wall_us();
        let is_monitored = origin == Origin::Client && worker.shared.node.monitors.is_watched();
        let (not_run, peer_seen, is_as_seen, since) = (false, None, false, None);
        Run {
            worker,
            view,
            client,
            session,
            transaction,
            batch,
            quorum,
            wish,
            limits,
            origin,
            now_us,
            is_monitored,
            not_run,
            peer_seen,
            is_as_seen,
            since,
        }
    }

    /// Deals with one request.
    #[inline]
    pub fn request(&mut self, request: &Request<'_>) -> Step {
        let is_for_all = |command: &Command| self.origin != Origin::Client || !command.has(flag::INTERNAL);
        let Some((index, command)) = request.row.filter(|(_, command)| is_for_all(command)) else {
            self.transaction.spoil();
            self.fail(&commands::unknown_command(request.args));
            return Step::Done;
        };
        if let Err(error) = self.admit(command, request.args) {
            if let Some(at) = subcommands::counted_at(index, command, request.args) {
                self.worker.metrics.rejected(at);
            }
            self.transaction.spoil();
            self.fail(&error.to_string());
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
            self.transaction.queue(command, request.bytes);
            self.client.queued.store(self.transaction.len() as i64, std::sync::atomic::Ordering::Relaxed);
            self.reply().simple("QUEUED");
            return Step::Done;
        }
        let step = self.run(index, subcommands::running(command, request.args), request);
        if self.is_monitored && step == Step::Done {
            self.worker.shared.node.show(self.client, self.session.db, command, request.args);
        }
        step
    }

    /// Runs a request that has been admitted.
    #[inline]
    pub(super) fn run(&mut self, index: CommandIndex, command: &'static Command, request: &Request<'_>) -> Step {
        let class = class_of(command);
        let mut counted_at = index;
        if let (None, Some((_, family))) = (request.spot, request.row) {
            self.client.runs_subcommand(index, family, request.args);
            counted_at = subcommands::counted_at(index, family, request.args).unwrap_or(index);
        }
        let began = self.timer(counted_at, request.bytes.len());
        let step = match command.handler {
            Handler::Node(node) => self.run_on_node(counted_at, command, node, request.args),
            Handler::Keys(run) | Handler::FanOut(run, _) => self.run_on_keys(counted_at, command, run, request),
        };
        let is_counted = || share::is_first_part(command, self.origin, request.args);
        if step == Step::Done && is_counted() {
            self.count_run(counted_at, command, request.args, began);
            if let Some(count) = self.batch.answered.get_mut(class as usize) {
                *count += 1;
            }
        }
        step
    }

    fn run_on_node(
        &mut self,
        index: CommandIndex,
        command: &'static Command,
        node: NodeCommand,
        args: Args<'_>,
    ) -> Step {
        if let Some(step) = self.transaction_command(node, args) {
            return step;
        }
        if node == NodeCommand::Reset && self.wish != Consistency::default() {
            // Who runs it alone forgets that too.
            return Step::Wait;
        }
        if node == NodeCommand::Config && self.origin == Origin::Client && sets_events(args) && !self.view.is_solo {
            return Step::Wait;
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
        let mut reply = Vec::new();
        let mut out = Reply::new(&mut reply, proto);
        out.limit(self.limits.reply_bytes_max.saturating_sub(from));
        let result = commands::run(command, node, &mut cx, &mut out);
        match if out.is_cut() { Err(CommandError::ReplyTooLarge) } else { result } {
            Ok(true) => {
                self.batch.out.extend_from_slice(&reply);
                if node == NodeCommand::Reset {
                    self.transaction.reset();
                }
            }
            Ok(false) => return self.run_share(node, args),
            Err(error) => {
                self.batch.out.truncate(from);
                self.worker.metrics.failed(index);
                self.fail(&error.to_string());
            }
        }
        Step::Done
    }

    /// Answers for this node alone where that is what is asked; else the request has to wait for others.
    fn run_share(&mut self, node: NodeCommand, args: Args<'_>) -> Step {
        let is_rest = self.origin == Origin::PeerForRest;
        let is_alone = self.view.is_solo || is_rest || self.origin == Origin::PeerForShare;
        let is_peers_wait = node == NodeCommand::Wait && self.origin == Origin::PeerForShare;
        if !is_peers_wait && (!is_alone || !share::is_whole(node)) {
            return Step::Wait;
        }
        let (from, now_ms) = (self.batch.out.len(), self.now_us / 1_000);
        let share = Share {
            worker: self.worker,
            view: self.view,
            db: self.session.db,
            quorum: self.quorum,
            is_rest,
            may_be_part: is_rest || self.origin == Origin::PeerForShare,
            tells_slots: !self.view.is_solo && !self.session.cluster_face,
            now_ms,
        };
        let mut out = Reply::new(&mut self.batch.out, self.session.proto);
        out.limit(self.limits.reply_bytes_max);
        let result = share.answer(node, args, &mut out, &mut self.batch.waits);
        match if out.is_cut() { Err(CommandError::ReplyTooLarge) } else { result } {
            Ok(true) => {
                let reply = self.batch.place(from);
                let waits = 0..self.batch.waits.len();
                self.batch.pending.extend(waits.map(|wait| Pending { reply, wait, read: None }));
                Step::Done
            }
            Ok(false) => Step::Wait,
            Err(error) => {
                self.batch.out.truncate(from);
                self.fail(&error.to_string());
                Step::Done
            }
        }
    }

    /// Runs a command here if this node coordinates all its keys, else asks who does.
    #[inline]
    fn run_on_keys(
        &mut self,
        index: CommandIndex,
        command: &'static Command,
        run: KeysFunction,
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
        // A command without a key can say no more than that.
        let Some(slot) = slots.first().copied().or(Slot::all().next()) else { return Step::Done };
        let is_spread = slots.iter().any(|other| *other != slot);
        if is_spread && self.session.cluster_face {
            self.fail("CROSSSLOT Keys in request don't hash to the same slot");
            return Step::Done;
        }
        if !self.view.is_solo && self.origin != Origin::PeerForShare {
            let Some(group) = self.view.roles.of(slot) else { return Step::Done };
            let coordinator = |slot: Slot| self.view.roles.of(slot).and_then(|group| group.coordinator);
            if is_spread && slots.iter().any(|other| coordinator(*other) != group.coordinator) {
                return Step::Wait;
            }
            if self.batch.order.blocks(slots, command.has(flag::WRITE)) {
                return Step::Behind;
            }
            if group.coordinator != Some(self.view.me) {
                self.send_on((group, slots), (command, run), request);
                return Step::Done;
            }
            if let Err(error) = self.view.check(group, self.quorum, command.has(flag::WRITE)) {
                tracing::debug!(%error, %slot, "put off");
                self.put_off(command, request, slots);
                return Step::Done;
            }
            self.peer_seen = self.peer_seen.take().filter(|seen| self.believes(seen, group, command));
            if self.may_lack()
                && !self.is_ready(command.key_positions(request.args).filter_map(|at| request.args.get(at)))
            {
                self.put_off(command, request, slots);
                return Step::Done;
            }
        }
        self.run_here(index, command, run, request, slots);
        Step::Done
    }

    #[inline]
    fn run_here(
        &mut self,
        index: CommandIndex,
        command: &'static Command,
        run: KeysFunction,
        request: &Request<'_>,
        slots: &[Slot],
    ) {
        let worker = self.worker;
        let store = &worker.shared.node.store;
        let (db, now_ms) = (self.session.db, self.now_us / 1_000);
        let mut effects = worker.effects.borrow_mut();
        effects.notify = worker.shared.node.pubsub.wants_events();
        effects.notify_misses = effects.notify && tells_of_misses(command);
        effects.no_touch = self.leaves_untouched(command);
        let from = self.batch.out.len();
        let before = effects.lookups();
        let mut verified = Ok(());
        {
            let mut keys = match request.spot {
                Some(spot) => store.lock_key(request.key(), spot, db, now_ms, &mut effects),
                None => store.lock_many(slots, db, now_ms, &mut effects),
            };
            let names = || command.key_positions(request.args).filter_map(|at| request.args.get(at));
            if self.quorum.strict && self.origin != Origin::PeerForShare && !self.may_run_strictly(&mut keys, names()) {
                drop(keys);
                drop(effects);
                self.put_off(command, request, slots);
                return;
            }
            if let Some(text) = self.is_overtaken(command, request, &keys) {
                drop(keys);
                drop(effects);
                return self.fail(text);
            }
            self.is_as_seen = self.agrees_with_peer(&mut keys, request.key());
            let out = Reply::new(&mut self.batch.out, self.session.proto);
            if !self.is_as_seen
                && let Err(error) = (Cx { args: request.args, keys: &mut keys, out, limits: self.limits }).run(run)
            {
                self.batch.out.truncate(from);
                worker.metrics.failed(index);
                self.fail(&error.to_string());
            }
            if !self.view.is_solo {
                let must_verify = self.must_verify(&keys);
                self.replicate(&mut keys, from, now_ms);
                if must_verify && !self.is_as_seen {
                    verified = self.verify(command, request, &keys, before, from);
                }
            }
        }
        self.count_effects(&mut effects);
        drop(effects);
        if verified.is_err() {
            self.batch.forget_from(from);
            self.put_off(command, request, slots);
        }
    }

    /// Whether a command's use of its keys is not to be seen: TOUCH is there for nothing else.
    pub(super) fn leaves_untouched(&self, command: &Command) -> bool {
        (self.wish.no_touch || self.client.is_in(state::NO_TOUCH)) && command.name != "touch"
    }

    /// Leaves a request that was not run, or only read, for a moment later, when the replicas may be there again.
    fn put_off(&mut self, command: &Command, request: &Request<'_>, slots: &[Slot]) {
        if self.origin.is_here() {
            self.leave_hole(None, command, request, slots);
        } else {
            self.not_run = true;
        }
    }

    /// Leaves a place for a reply that `target` will give, or, if there is none, that is to be asked for again.
    fn leave_hole(&mut self, target: Option<Target>, command: &Command, request: &Request<'_>, slots: &[Slot]) {
        let ask = Ask { since: self.since, ..self.batch.keep(request.bytes, self.session.db, self.session.proto) };
        let (is_repeatable, writes) = (self.may_repeat(command, request.args), command.has(flag::WRITE));
        self.batch.leave_hole(target, ask, is_repeatable, writes);
        self.batch.order.leave_open(slots, writes);
    }

    /// Whether a request whose fate is unknown may be asked again. A strict write may not.
    fn may_repeat(&self, command: &Command, args: Args<'_>) -> bool {
        command.has(flag::READONLY) || !self.quorum.strict && command.is_repeatable(args)
    }

    /// Asks the coordinator of a slot, or tells a smart client where it is.
    fn send_on(
        &mut self,
        (group, slots): (&Group, &[Slot]),
        (command, run): (&'static Command, KeysFunction),
        request: &Request<'_>,
    ) {
        if !self.origin.is_here() {
            // One hop at most: whoever asked looks again.
            self.not_run = true;
            return;
        }
        let at = group.coordinator;
        let peer = at.and_then(|at| self.view.peers.get(usize::from(at))).and_then(Option::as_ref);
        if self.session.cluster_face {
            let addr = peer.and_then(|peer| self.worker.cluster_addr(&peer.id));
            match (addr, slots) {
                (Some(addr), [slot, ..]) => self.fail(&format!("MOVED {slot} {addr}")),
                _ => self.fail("CLUSTERDOWN Hash slot not served"),
            }
            return;
        }
        let proto = if self.session.proto == Proto::Resp3 { ask::RESP3 } else { 0 };
        let wish = Consistency { no_touch: self.client.is_in(state::NO_TOUCH), ..self.wish };
        let (manner, since) = (Manner { flags: proto, db: self.session.db, wish }, self.since);
        let target = at.filter(|_| peer.is_some()).map(|peer| Target { peer, manner, since });
        self.worker.metrics.count(Count::Forwarded, 1);
        match target.is_some_and(|target| self.read_own_copy((target, group), (command, run), request)) {
            true => self.batch.order.leave_open(slots, false),
            false => self.leave_hole(target, command, request, slots),
        }
    }

    /// Where the next reply goes.
    pub fn reply(&mut self) -> Reply<'_> {
        Reply::new(&mut self.batch.out, self.session.proto)
    }

    pub(super) fn count_effects(&self, effects: &mut crate::store::Effects) {
        // Hits and misses are taken over once a batch; what is rare is looked at here.
        if effects.expired != 0 {
            self.worker.metrics.count(Count::ExpiredKeys, std::mem::take(&mut effects.expired));
        }
        effects.deltas.clear();
        self.publish_events(effects);
    }
}

fn class_of(command: &Command) -> Class {
    if command.has(flag::WRITE) {
        Class::Write
    } else if command.has(flag::READONLY) {
        Class::Read
    } else {
        Class::Admin
    }
}
