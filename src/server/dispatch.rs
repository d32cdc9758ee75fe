//! One request, from its name to its reply: the request path on one page.
//!
//! Look the command up, check what may be checked before its keys are looked at, find who coordinates the keys, and run
//! it here or ask there. What cannot be answered without waiting in the middle (a command over several coordinators,
//! EXEC, SCAN of the whole cluster ...) is left to the caller as [`Step::Wait`], with nothing done.
//!
//! Nothing in this file waits.

use crate::base::clock::{Hlc, wall_us};
use crate::base::ids::{Slot, slot_of};
use crate::base::metrics::{Class, Count};
use crate::commands::spec::{Command, CommandLimits, Cx, Handler, flag, slots_of};
use crate::commands::table::CommandIndex;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{REPLY_BYTES_MAX, Reply};
use crate::replication::coordinator::View;
use crate::replication::routing::Quorum;
use crate::server::batch::Batch;
use crate::server::batch::window::Request;
use crate::server::forward::seen::PeerSeen;
use crate::server::session::Session;
use crate::server::session::settings::{Consistency, command_limits, output_bytes_max, quorum_of};
use crate::server::session::transaction::Transaction;
use crate::server::state::clients::{Client, state};
use crate::server::worker::Worker;
use crate::server::{commands, share};

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
            if let Err(error) = self.transaction.queue(command, request.bytes) {
                self.fail(&error.to_string());
                return Step::Done;
            }
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
        let slot = slots.first().copied().unwrap_or_else(|| slot_of(b""));
        let is_spread = slots.iter().any(|other| *other != slot);
        if is_spread && self.session.cluster_face {
            self.fail("CROSSSLOT Keys in request don't hash to the same slot");
            return Step::Done;
        }
        if !self.view.is_solo && self.origin != Origin::PeerForShare {
            let Some(group) = self.view.roles.of(slot) else {
                self.fail("CLUSTERDOWN Hash slot not served: this node has not joined its cluster yet");
                return Step::Done;
            };
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
        effects.only_writes = command.only_writes();
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
                self.replicate(command, request.args, &mut keys, from, now_ms);
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
