//! One request, from its name to its reply: the request path on one page.
//!
//! Look the command up, check what may be checked before its keys are looked at, find who coordinates the keys, and run
//! it here or ask there. What cannot be answered without waiting in the middle (a command over several coordinators,
//! EXEC, SCAN of the whole cluster ...) is left to the caller as [`Step::Wait`], with nothing done.
//!
//! Nothing in this file waits.

use crate::base::ids::{Slot, slot_of};
use crate::base::metrics::{Class, Count};
use crate::base::version::Version;
use crate::commands::spec::{Command, CommandLimits, Cx, Handler, NodeCommand, flag};
use crate::commands::{CommandError, subcommands, table};
use crate::protocol::{Args, Proto, Reply};
use crate::replication::coordinator::{View, verify_of};
use crate::replication::routing::Quorum;
use crate::server::batch::{Batch, Hole, Pending};
use crate::server::clients::{Client, state};
use crate::server::commands::connection::Session;
use crate::server::commands::{self};
use crate::server::events::{sets_events, tells_of_misses};
use crate::server::forward::ask;
use crate::server::share::{self, Share};
use crate::server::transaction::Transaction;
use crate::server::worker::Worker;
use crate::store::eviction::Evicted;
use crate::store::{Event, Keyspace};

/// How a request was dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Its reply is in the batch, or will be.
    Done,
    /// It must be alone and may wait: nothing was done.
    Wait,
    /// Clients are paused until this time, in milliseconds since 1970: nothing was done.
    Paused(u64),
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
    /// The limits that options set.
    pub limits: CommandLimits,
    /// Where the request comes from.
    pub origin: Origin,
    /// The time of the batch, in microseconds since 1970.
    pub now_us: u64,
    /// Set when a peer's request was not run because this node does not coordinate its key.
    pub not_run: bool,
}

impl Run<'_> {
    /// Deals with one request; `bytes` are the request as it came.
    #[inline]
    pub fn request(&mut self, args: Args<'_>, bytes: &[u8]) -> Step {
        let is_for_all = |command: &Command| self.origin != Origin::Client || !command.has(flag::INTERNAL);
        let Some((index, command)) = table::find(args.name()).filter(|(_, command)| is_for_all(command)) else {
            self.transaction.spoil();
            self.fail(&commands::unknown_command(args));
            return Step::Done;
        };
        if let Err(error) = self.admit(command, args) {
            self.worker.metrics.rejected(index);
            self.transaction.spoil();
            self.fail(&error.to_string());
            return Step::Done;
        }
        if self.origin == Origin::Client {
            let may_write = command.flags & (flag::WRITE | flag::MAY_REPLICATE) != 0;
            if let Some(until_ms) = self.worker.shared.node.clients.paused_until_ms(may_write, self.now_us / 1_000)
                && !matches!(command.handler, Handler::Node(NodeCommand::Client))
            {
                return Step::Paused(until_ms);
            }
            self.client.runs(index, self.now_us / 1_000);
        }
        if self.transaction.queues(command) {
            self.transaction.queue(bytes);
            self.client.queued.store(self.transaction.len() as i64, std::sync::atomic::Ordering::Relaxed);
            self.reply().simple("QUEUED");
            return Step::Done;
        }
        self.run(index, subcommands::running(command, args), args, bytes)
    }

    fn admit(&self, command: &'static Command, args: Args<'_>) -> Result<(), CommandError> {
        if !command.accepts(args.len()) {
            return Err(CommandError::Arity(command.name.into()));
        }
        // What runs now looks at its subcommand itself; what is queued has to be right before.
        if self.transaction.is_open() && args.len() > 1 && !subcommands::of(command.name).is_empty() {
            subcommands::checked(command, args)?;
        }
        self.session.admits(command)?;
        if self.client.is_in(state::SUBSCRIBED) {
            self.admit_listening(command)?;
        }
        if command.has(flag::DENYOOM) && self.worker.shared.node.store.is_over_limit() {
            self.make_room()?;
        }
        Ok(())
    }

    /// Evicts until there is room, or refuses.
    fn make_room(&self) -> Result<(), CommandError> {
        let store = &self.worker.shared.node.store;
        let hub = &self.worker.shared.node.pubsub;
        let mut events = Vec::new();
        let evicted = store.evict(self.now_us / 1_000, 10_000, |db, key| {
            if hub.wants_events() && self.view.is_coordinator(slot_of(key)) {
                events.push(Event { class: b'e', name: "evicted", db, key: key.into() });
            }
        });
        hub.publish_events(&events);
        let (Evicted::Enough(keys) | Evicted::NotEnough(keys)) = evicted;
        self.worker.metrics.count(Count::EvictedKeys, keys);
        match evicted {
            Evicted::Enough(_) => Ok(()),
            Evicted::NotEnough(_) => Err(CommandError::text("OOM command not allowed when used memory > 'maxmemory'.")),
        }
    }

    #[inline]
    fn run(&mut self, index: usize, command: &'static Command, args: Args<'_>, bytes: &[u8]) -> Step {
        let class = class_of(command);
        let step = match command.handler {
            Handler::Node(node) => self.run_on_node(command, node, args),
            Handler::Keys(run) | Handler::FanOut(run, _) => self.run_on_keys(index, command, run, args, bytes),
        };
        if step == Step::Done {
            self.worker.metrics.ran(index, 1, 0);
            if let Some(count) = self.batch.answered.get_mut(class as usize) {
                *count += 1;
            }
        }
        step
    }

    fn run_on_node(&mut self, command: &'static Command, node: NodeCommand, args: Args<'_>) -> Step {
        if let Some(step) = self.transaction_command(node, args) {
            return step;
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
        let result = commands::run(command, node, &mut cx, &mut Reply::new(&mut reply, proto));
        match result {
            Ok(true) => {
                self.batch.out.extend_from_slice(&reply);
                if node == NodeCommand::Reset {
                    self.transaction.reset();
                }
            }
            Ok(false) => return self.run_share(node, args),
            Err(error) => {
                self.batch.out.truncate(from);
                self.fail(&error.to_string());
            }
        }
        Step::Done
    }

    /// Answers for this node alone where that is what is asked; else the request has to wait for others.
    fn run_share(&mut self, node: NodeCommand, args: Args<'_>) -> Step {
        let is_rest = self.origin == Origin::PeerForRest;
        let is_alone = self.view.is_solo || is_rest || self.origin == Origin::PeerForShare;
        if !is_alone || !share::is_whole(node) {
            return Step::Wait;
        }
        let (from, now_ms) = (self.batch.out.len(), self.now_us / 1_000);
        let share = Share {
            worker: self.worker,
            view: self.view,
            db: self.session.db,
            quorum: self.quorum,
            is_rest,
            tells_slots: !self.view.is_solo && !self.session.cluster_face,
            now_ms,
        };
        let mut out = Reply::new(&mut self.batch.out, self.session.proto);
        match share.answer(node, args, &mut out, &mut self.batch.waits) {
            Ok(true) => Step::Done,
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
        index: usize,
        command: &'static Command,
        run: fn(&mut Cx<'_, '_>) -> Result<(), CommandError>,
        args: Args<'_>,
        bytes: &[u8],
    ) -> Step {
        let mut keys = command.key_positions(args).filter_map(|at| args.get(at));
        let first = keys.next().map_or(Slot::all().next(), |key| Some(slot_of(key)));
        let Some(slot) = first else { return Step::Done };
        let others: smallvec::SmallVec<[Slot; 4]> = keys.map(slot_of).filter(|other| *other != slot).collect();
        if !others.is_empty() && self.session.cluster_face {
            self.fail("CROSSSLOT Keys in request don't hash to the same slot");
            return Step::Done;
        }
        if !self.view.is_solo && self.origin != Origin::PeerForShare {
            let coordinator = |slot: Slot| self.view.roles.of(slot).and_then(|group| group.coordinator);
            let at = coordinator(slot);
            if others.iter().any(|other| coordinator(*other) != at) {
                return Step::Wait;
            }
            if at != Some(self.view.me) {
                self.send_on(at, slot, command, bytes);
                return Step::Done;
            }
            if let Some(group) = self.view.roles.of(slot)
                && let Err(error) = self.view.check(group, self.quorum, command.has(flag::WRITE))
            {
                tracing::debug!(%error, %slot, "put off");
                self.put_off(command, bytes);
                return Step::Done;
            }
        }
        self.run_here(index, command, run, args, bytes, slot, &others);
        Step::Done
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, all of them known to the caller")]
    #[inline]
    fn run_here(
        &mut self,
        index: usize,
        command: &'static Command,
        run: fn(&mut Cx<'_, '_>) -> Result<(), CommandError>,
        args: Args<'_>,
        bytes: &[u8],
        slot: Slot,
        others: &[Slot],
    ) {
        let worker = self.worker;
        let store = &worker.shared.node.store;
        let now_ms = self.now_us / 1_000;
        let mut effects = worker.effects.borrow_mut();
        effects.notify = worker.shared.node.pubsub.wants_events();
        effects.notify_misses = effects.notify && tells_of_misses(command);
        let from = self.batch.out.len();
        let before = effects.lookups();
        let result;
        let mut verified = Ok(());
        {
            let mut keys = match others {
                [] => store.lock(slot, self.session.db, now_ms, &mut effects),
                others => {
                    let slots: Vec<Slot> = others.iter().copied().chain([slot]).collect();
                    store.lock_many(&slots, self.session.db, now_ms, &mut effects)
                }
            };
            let out = Reply::new(&mut self.batch.out, self.session.proto);
            result = run(&mut Cx { args, keys: &mut keys, out, limits: self.limits });
            if !self.view.is_solo {
                self.replicate(&mut keys, from, now_ms);
                if result.is_ok() && self.must_verify(command) {
                    verified = self.verify(command, args, bytes, &keys, before, from);
                }
            }
        }
        self.count_effects(&mut effects);
        drop(effects);
        if let Err(error) = result {
            self.batch.out.truncate(from);
            worker.metrics.failed(index);
            self.fail(&error.to_string());
        } else if verified.is_err() {
            self.batch.forget_from(from);
            self.put_off(command, bytes);
        }
    }

    /// Leaves a request that was not run, or only read, for a moment later, when the replicas may be there again.
    fn put_off(&mut self, command: &Command, bytes: &[u8]) {
        self.count_quorum_failure(command);
        if self.origin.is_here() {
            self.leave_hole(crate::server::forward::Call::not_run(), command, bytes);
        } else {
            self.not_run = true;
        }
    }

    fn leave_hole(&mut self, call: std::rc::Rc<crate::server::forward::Call>, command: &Command, bytes: &[u8]) {
        let reply = self.batch.place(self.batch.out.len());
        let ask = self.batch.keep(bytes, self.session.db, self.session.proto);
        self.batch.holes.push(Hole { reply, call, ask, is_idempotent: is_repeatable(command) });
    }

    /// Puts the deltas of a command on their lanes, slot by slot, while the slots are locked.
    pub fn replicate(&mut self, keys: &mut Keyspace<'_>, from: usize, now_ms: u64) {
        let deltas = keys.take_deltas();
        if deltas.is_empty() {
            return;
        }
        let mut depends_on: smallvec::SmallVec<[usize; 2]> = smallvec::SmallVec::new();
        for (slot, part) in by_slot(&deltas) {
            let coordinator = &self.worker.shared.coordinator;
            let wait = coordinator.replicate(self.view, slot, part, self.quorum, now_ms, &mut self.batch.waits);
            depends_on.extend(wait.filter(|wait| !depends_on.contains(wait)));
        }
        keys.give_back_deltas(deltas);
        let reply = self.batch.place(from);
        let pending = depends_on.into_iter().map(|wait| Pending { reply, wait, read: None });
        self.batch.pending.extend(pending);
    }

    /// Whether other replicas have to confirm what a command has read.
    #[inline]
    pub fn must_verify(&self, command: &Command) -> bool {
        !self.view.is_solo && command.has(flag::READONLY) && self.quorum.read > 1
    }

    /// Asks for confirmation of the versions that a command has read; `before` are the lookups before it ran.
    pub fn verify(
        &mut self,
        command: &'static Command,
        args: Args<'_>,
        bytes: &[u8],
        keys: &Keyspace<'_>,
        (hits, misses): (u64, u64),
        from: usize,
    ) -> Result<(), crate::replication::coordinator::QuorumError> {
        let mut positions = command.key_positions(args);
        let single = positions.len() == 1;
        let mut kept = None;
        let reply = self.batch.place(from);
        for key in positions.by_ref().filter_map(|at| args.get(at)) {
            let effects = keys.effects();
            let one_lookup = single && effects.hits + effects.misses == hits + misses + 1;
            let (seen, is_live) = if one_lookup && effects.seen_is_plain {
                (Version::first(effects.seen), effects.hits > hits)
            } else {
                keys.version_of(key)
            };
            let verify = verify_of(slot_of(key), self.session.db, key, seen, is_live);
            let (coordinator, draw) = (&self.worker.shared.coordinator, self.worker.draw());
            let asked = coordinator.verify(self.view, &verify, self.quorum, draw, &mut self.batch.waits)?;
            if let Some((wait, number)) = asked {
                let ask = *kept.get_or_insert_with(|| self.batch.keep(bytes, self.session.db, self.session.proto));
                self.batch.pending.push(Pending { reply, wait, read: Some((number, ask)) });
            }
        }
        Ok(())
    }

    /// Asks the coordinator of a slot, or tells a smart client where it is.
    fn send_on(&mut self, at: Option<u16>, slot: Slot, command: &'static Command, bytes: &[u8]) {
        if !self.origin.is_here() {
            // One hop at most: whoever asked looks again.
            self.not_run = true;
            return;
        }
        let peer = at.and_then(|at| self.view.peers.get(usize::from(at))).and_then(Option::as_ref);
        if self.session.cluster_face {
            let addr = peer.and_then(|peer| self.worker.cluster_addr(&peer.id));
            match addr {
                Some(addr) => self.fail(&format!("MOVED {slot} {addr}")),
                None => self.fail("CLUSTERDOWN Hash slot not served"),
            }
            return;
        }
        let proto = if self.session.proto == Proto::Resp3 { ask::RESP3 } else { 0 };
        let strict = if self.quorum.strict { ask::STRICT } else { 0 };
        let repeatable = if is_repeatable(command) { ask::REPEATABLE } else { 0 };
        let call = match peer {
            Some(peer) => self.worker.ask(peer, proto | strict | repeatable, self.session.db, bytes),
            None => crate::server::forward::Call::not_run(),
        };
        self.worker.metrics.count(Count::Forwarded, 1);
        self.leave_hole(call, command, bytes);
    }

    /// Writes an error reply and counts it.
    pub fn fail(&mut self, text: &str) {
        self.worker.metrics.count(Count::ErrorReplies, 1);
        self.worker.shared.node.errors.note(text);
        self.reply().error(text);
    }

    /// Where the next reply goes.
    pub fn reply(&mut self) -> Reply<'_> {
        Reply::new(&mut self.batch.out, self.session.proto)
    }

    fn count_quorum_failure(&self, command: &Command) {
        let count = if command.has(flag::WRITE) { Count::WriteQuorumFailures } else { Count::ReadQuorumFailures };
        self.worker.metrics.count(count, 1);
    }

    fn count_effects(&self, effects: &mut crate::store::Effects) {
        // Hits and misses are taken over once a batch; what is rare is looked at here.
        if effects.expired != 0 {
            self.worker.metrics.count(Count::ExpiredKeys, std::mem::take(&mut effects.expired));
        }
        effects.deltas.clear();
        self.publish_events(effects);
    }
}

/// Cuts recorded deltas, each behind its length, into stretches of one slot.
pub fn by_slot(deltas: &[u8]) -> impl Iterator<Item = (Slot, &[u8])> {
    let mut rest = deltas;
    std::iter::from_fn(move || {
        let (slot, mut len) = first_delta(rest)?;
        while let Some((next, more)) = rest.get(len..).and_then(first_delta) {
            if next != slot {
                break;
            }
            len += more;
        }
        let (part, behind) = rest.split_at_checked(len)?;
        rest = behind;
        Some((slot, part))
    })
}

fn first_delta(deltas: &[u8]) -> Option<(Slot, usize)> {
    let (head, rest) = deltas.split_first_chunk::<4>()?;
    let (slot, _) = rest.split_first_chunk::<2>()?;
    Some((Slot::new(u16::from_le_bytes(*slot))?, 4 + u32::from_le_bytes(*head) as usize))
}

/// What may be run twice with the same effect and the same reply.
fn is_repeatable(command: &Command) -> bool {
    let name = command.name;
    command.has(flag::READONLY)
        || matches!(name, "set" | "setex" | "psetex" | "mset" | "hset" | "hmset" | "expireat" | "pexpireat")
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
