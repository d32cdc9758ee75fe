//! EXEC: runs what was queued since MULTI, as one group for each coordinator.
//!
//! The requests whose keys are coordinated here run under the locks of all their slots, in their order: nobody sees half
//! of them. Requests for another coordinator go there together and run there in the same way. Commands about the whole
//! cluster stand between groups. So a transaction is atomic when its keys have one coordinator, as those with one hash
//! tag always have, and a series of atomic groups otherwise.

use std::sync::Arc;
use std::time::Instant;

use crate::base::ids::{Slot, slot_of};
use crate::commands::spec::{Command, Cx, Handler, NodeCommand, flag, slots_of};
use crate::commands::{CommandError, subcommands, table};
use crate::protocol::client::{ReplyLimits, ReplyScanner};
use crate::protocol::{Limits, Proto, Reply, Scan, Scanner};
use crate::replication::coordinator::View;
use crate::server::batch::Batch;
use crate::server::connection::{AGAIN_PAUSE, NOBODY_IN_TIME};
use crate::server::dispatch::{Origin, Run, Step};
use crate::server::events::tells_of_misses;
use crate::server::forward::{Fate, ask};
use crate::server::held::put_watched;
use crate::server::settings::quorum_of;
use crate::server::transaction::{Transaction, Watched};
use crate::server::wait::{Job, PATIENCE, garbled, scanned};
use crate::server::window::Request;
use crate::store::Keyspace;

const OTHER_COORDINATOR: &str =
    "ERR WATCH needs all keys of the transaction to have the same coordinator as the watched keys";

/// Who runs a queued request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Runner {
    /// This node, or nobody in particular.
    Here,
    /// Another member.
    There(u16),
    /// Every node: a command about the whole keyspace.
    All,
}

/// What came of requests that were to run if watched keys are as they were.
pub(super) enum Attempt {
    /// They ran; their replies one behind the other.
    Ran(Vec<u8>),
    /// A watched key has changed; nothing was done.
    Changed,
    /// Nothing was done: another node has to be asked.
    NotRun,
    /// They may have run.
    Unknown,
}

impl Job {
    /// Runs the queued requests and answers with the array of their replies.
    pub(super) async fn exec(&mut self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let transaction = std::mem::take(&mut self.talk.transaction);
        self.client.queued.store(-1, std::sync::atomic::Ordering::Relaxed);
        self.client.set_state(crate::server::clients::state::MULTI, false);
        let view = self.worker.shared.view.load_full();
        let requests = cut(transaction.requests());
        let plan: Vec<(Runner, &[u8])> =
            requests.into_iter().map(|request| (runner(&view, request), request)).collect();
        let watched = &transaction.watched;
        let elsewhere = watched.first().and_then(|it| it.at);
        if elsewhere.is_some() {
            return self.exec_watched(&view, &plan, watched, out).await;
        }
        if !watched.is_empty() && plan.iter().any(|(runner, _)| matches!(runner, Runner::There(_))) {
            return Err(CommandError::text(OTHER_COORDINATOR));
        }
        let mut replies = Vec::new();
        let mut is_first = true;
        for group in plan.chunk_by(|a, b| a.0 == b.0 && a.0 != Runner::All) {
            let Some((runner, _)) = group.first() else { continue };
            let requests: Vec<&[u8]> = group.iter().map(|(_, request)| *request).collect();
            match runner {
                Runner::Here => {
                    let watched = if is_first { &watched[..] } else { &[] };
                    if !self.exec_here(&view, &requests, watched, &mut replies).await? {
                        Reply::new(out, self.talk.session.proto).null_array();
                        return Ok(());
                    }
                }
                Runner::There(at) => self.exec_there(&view, *at, &requests, &mut replies).await?,
                Runner::All => {
                    for request in requests {
                        if let Err(error) = Box::pin(self.run(request, &mut replies)).await {
                            Reply::new(&mut replies, self.talk.session.proto).error(error.to_string());
                        }
                    }
                }
            }
            is_first = false;
        }
        if plan.is_empty() && !self.exec_here(&view, &[], watched, &mut replies).await? {
            Reply::new(out, self.talk.session.proto).null_array();
            return Ok(());
        }
        Reply::new(out, self.talk.session.proto).array(plan.len());
        out.extend_from_slice(&replies);
        Ok(())
    }

    /// A transaction whose watched keys another node coordinates: it runs there, whole.
    async fn exec_watched(
        &mut self,
        view: &Arc<View>,
        plan: &[(Runner, &[u8])],
        watched: &[Watched],
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let proto = self.talk.session.proto;
        let at = view
            .peers
            .iter()
            .position(|peer| peer.as_ref().map(|peer| peer.id) == watched.first().and_then(|it| it.at));
        let coordinator = |it: &Watched| view.roles.of(slot_of(&it.key)).and_then(|group| group.coordinator);
        let at = at.and_then(|at| u16::try_from(at).ok());
        if at.is_none() || watched.iter().any(|it| coordinator(it) != at) {
            // Whoever coordinates the keys now may have changed them: as if they were.
            Reply::new(out, proto).null_array();
            return Ok(());
        }
        let at = at.unwrap_or_default();
        if plan.iter().any(|(runner, _)| *runner != Runner::There(at)) {
            return Err(CommandError::text(OTHER_COORDINATOR));
        }
        let requests: Vec<&[u8]> = plan.iter().map(|(_, request)| *request).collect();
        match ran(self.insist(view, at, watched, &requests).await)? {
            Some(replies) if count_replies(&replies) == Some(plan.len()) => {
                Reply::new(out, proto).array(plan.len());
                out.extend_from_slice(&replies);
                Ok(())
            }
            Some(_) => Err(garbled()),
            None => {
                Reply::new(out, proto).null_array();
                Ok(())
            }
        }
    }

    /// Runs requests whose keys this node coordinates; false, with nothing done, when a watched key has changed.
    async fn exec_here(
        &mut self,
        view: &Arc<View>,
        requests: &[&[u8]],
        watched: &[Watched],
        replies: &mut Vec<u8>,
    ) -> Result<bool, CommandError> {
        let found = ran(self.insist(view, view.me, watched, requests).await)?;
        replies.extend_from_slice(found.as_deref().unwrap_or_default());
        Ok(found.is_some())
    }

    /// As [`Job::if_unchanged`], for a moment again and again while nothing is done: the slots may not be settled yet.
    async fn insist(&mut self, view: &Arc<View>, at: u16, watched: &[Watched], requests: &[&[u8]]) -> Attempt {
        let began = Instant::now();
        loop {
            let attempt = self.if_unchanged(view, at, watched, requests).await;
            if !matches!(attempt, Attempt::NotRun) || began.elapsed() > PATIENCE {
                return attempt;
            }
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
    }

    /// Runs requests together at node `at`, which coordinates all their keys and the watched ones, if those are unchanged.
    pub(super) async fn if_unchanged(
        &mut self,
        view: &Arc<View>,
        at: u16,
        watched: &[Watched],
        requests: &[&[u8]],
    ) -> Attempt {
        if at == view.me {
            let mut batch = Batch::new(Instant::now());
            return match self.together(requests, watched, &mut batch) {
                Some(true) => {
                    self.settle(&mut batch).await;
                    let mut replies = Vec::new();
                    batch.finish(&mut replies);
                    Attempt::Ran(replies)
                }
                Some(false) => Attempt::Changed,
                None => Attempt::NotRun,
            };
        }
        let mut question = Vec::new();
        put_watched(&mut question, watched, &self.worker.shared.node.store.actors);
        requests.iter().for_each(|request| question.extend_from_slice(request));
        match self.ask_together(view, at, ask::WATCHED, &question).await {
            Fate::Replied(mut answer) => match answer.first() {
                Some(1) => Attempt::Ran(answer.split_off(1)),
                Some(0) => Attempt::Changed,
                _ => Attempt::Unknown,
            },
            Fate::Unknown => Attempt::Unknown,
            Fate::NotRun | Fate::Waiting => Attempt::NotRun,
        }
    }

    fn together(&mut self, requests: &[&[u8]], watched: &[Watched], batch: &mut Batch) -> Option<bool> {
        let worker = self.worker.clone();
        let view = worker.shared.view.load();
        let state = (&mut self.talk.session, &mut Transaction::default());
        let mut run = Run::new(&worker, &view, &self.client, state, self.talk.consistency, batch, Origin::Part);
        let began = Instant::now();
        let done = run.together_if_here(requests, watched);
        worker.send_off(&view, batch);
        worker.count_turn(began.elapsed());
        done
    }

    async fn exec_there(
        &mut self,
        view: &Arc<View>,
        at: u16,
        requests: &[&[u8]],
        replies: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let answer = ran(self.insist(view, at, &[], requests).await)?.unwrap_or_default();
        if count_replies(&answer) != Some(requests.len()) {
            return Err(garbled());
        }
        replies.extend_from_slice(&answer);
        Ok(())
    }

    async fn ask_together(&self, view: &View, at: u16, flags: u8, question: &[u8]) -> Fate {
        let Some(peer) = view.peers.get(usize::from(at)).and_then(Option::as_ref) else { return Fate::NotRun };
        let proto = if self.talk.session.proto == Proto::Resp3 { ask::RESP3 } else { 0 };
        let quorum = quorum_of(&self.worker.shared.node.config.settings(), self.talk.consistency, view);
        let strict = if quorum.strict { ask::STRICT } else { 0 };
        let call = self.worker.ask(peer, ask::TOGETHER | proto | strict | flags, self.talk.session.db, question);
        call.answer().await
    }
}

/// The replies of requests that ran, `None` when a watched key had changed, or what to tell the client.
fn ran(attempt: Attempt) -> Result<Option<Vec<u8>>, CommandError> {
    match attempt {
        Attempt::Ran(replies) => Ok(Some(replies)),
        Attempt::Changed => Ok(None),
        Attempt::NotRun => {
            Err(CommandError::text("TRYAGAIN the coordinator of some keys of the transaction does not answer"))
        }
        Attempt::Unknown => Err(CommandError::text(crate::server::batch::UNKNOWN_OUTCOME)),
    }
}

impl Run<'_> {
    /// Runs requests under the locks of all their slots, their replies one behind the other. False, with nothing done,
    /// when a watched key has changed; `None`, with nothing done, when it may not be run yet.
    pub fn together(&mut self, requests: &[&[u8]], watched: &[Watched]) -> Option<bool> {
        let store = self.worker.shared.node.store.clone();
        let now_ms = self.now_us / 1_000;
        let mut names: Vec<Vec<u8>> = watched.iter().map(|it| it.key.clone()).collect();
        for request in requests {
            let Ok(scanner) = scanned(request) else { continue };
            let args = scanner.args(request);
            if let Some((_, command)) = table::find(args.name()) {
                let positions = subcommands::running(command, args).key_positions(args);
                names.extend(positions.filter_map(|at| args.get(at)).map(<[u8]>::to_vec));
            }
        }
        let names = || names.iter().map(Vec::as_slice);
        if !self.view.is_solo && self.may_lack() && !self.is_ready(names()) {
            return None;
        }
        let mut slots: Vec<Slot> = names().map(slot_of).collect();
        if slots.is_empty() {
            slots.extend(Slot::all().take(1));
        }
        let notify = self.worker.shared.node.pubsub.wants_events();
        let mut effects = crate::store::Effects { notify, ..Default::default() };
        let mut is_checked = watched.is_empty();
        let mut rest = requests;
        loop {
            // Commands of the node run without locks, since some look at the store themselves.
            let mut keys = store.lock_many(&slots, self.session.db, now_ms, &mut effects);
            if !self.may_run_strictly(&mut keys, names()) {
                drop(keys);
                if rest.len() == requests.len() {
                    return None;
                }
                rest.iter().for_each(|_| self.fail(NOBODY_IN_TIME));
                return Some(true);
            }
            if !is_checked && !watched.iter().all(|it| is_unchanged(&mut keys, it)) {
                return Some(false);
            }
            is_checked = true;
            while let Some((request, behind)) = rest.split_first() {
                if !self.one_of_together(&mut keys, request, now_ms) {
                    break;
                }
                rest = behind;
            }
            drop(keys);
            self.publish_events(&mut effects);
            let Some((request, behind)) = rest.split_first() else { return Some(true) };
            self.node_command_of_together(request);
            rest = behind;
        }
    }

    /// Runs a peer's transaction if this node coordinates all its keys; `None`, with nothing done, if it does not, or may
    /// not run it yet. Else whether it ran: false when a watched key has changed.
    pub fn together_if_here(&mut self, requests: &[&[u8]], watched: &[Watched]) -> Option<bool> {
        let here = requests.iter().all(|request| runner(self.view, request) == Runner::Here)
            && watched.iter().all(|it| self.view.is_coordinator(slot_of(&it.key)));
        if here { self.together(requests, watched) } else { None }
    }

    /// As [`Run::together_if_here`], with the outcome in front of the replies: 1, or 0 alone when a watched key has changed.
    pub fn together_if_unchanged(&mut self, requests: &[&[u8]], watched: &[Watched]) -> bool {
        self.batch.out.push(1);
        let ran = self.together_if_here(requests, watched);
        if ran == Some(false) {
            self.batch.out.clear();
            self.batch.out.push(0);
        }
        ran.is_some()
    }

    /// Runs one request on locked slots; false when it is a command of the node.
    fn one_of_together(&mut self, keys: &mut Keyspace<'_>, request: &[u8], now_ms: u64) -> bool {
        let Ok(scanner) = scanned(request) else { return true };
        let whole = Request::new(scanner.args(request), request);
        let (Some((index, command)), args) = (whole.row, whole.args) else { return true };
        let command: &'static Command = subcommands::running(command, args);
        let (Handler::Keys(run) | Handler::FanOut(run, _)) = command.handler else { return false };
        keys.select(self.session.db);
        keys.tell_of_misses(tells_of_misses(command));
        let (from, began) = (self.batch.out.len(), Instant::now());
        let before = keys.effects().lookups();
        let out = Reply::new(&mut self.batch.out, self.session.proto);
        let result = run(&mut Cx { args, keys, out, limits: self.limits });
        self.count_run(index, command, args, Some(began));
        let must_verify = self.must_verify(command, keys);
        if !self.view.is_solo {
            self.replicate(keys, from, now_ms);
        }
        let verified = match result.is_ok() && must_verify {
            true => self.verify(command, &whole, keys, before, from).map_err(|error| error.to_string()),
            false => result.map_err(|error| error.to_string()),
        };
        if let Err(text) = verified {
            self.batch.out.truncate(from);
            self.fail(&text);
        }
        true
    }

    fn node_command_of_together(&mut self, request: &[u8]) {
        let Ok(scanner) = scanned(request) else { return };
        let args = scanner.args(request);
        if table::find(args.name()).is_some_and(|(_, command)| self.subscribe_together(command, args)) {
            return;
        }
        if table::find(args.name()).is_some_and(|(_, it)| matches!(it.handler, Handler::Node(NodeCommand::Wait))) {
            self.wait_together(args);
            return;
        }
        let (view, worker) = (self.view, self.worker);
        let mut plain = Transaction::default();
        let mut run = Run {
            worker,
            view,
            client: self.client,
            session: self.session,
            transaction: &mut plain,
            batch: self.batch,
            quorum: self.quorum,
            limits: self.limits,
            origin: if view.is_solo { Origin::PeerForShare } else { self.origin },
            now_us: self.now_us,
            not_run: false,
        };
        if run.request(&Request::new(scanner.args(request), request)) != Step::Done {
            run.fail("ERR this command is not allowed inside a transaction over several nodes");
        }
    }
}

fn is_unchanged(keys: &mut Keyspace<'_>, watched: &Watched) -> bool {
    keys.select(watched.db);
    let (seen, is_live) = keys.seen(&watched.key);
    // A key that has expired since counts as unchanged when it was there, as in Redis, only if nobody noticed: it is gone.
    (seen, is_live) == (watched.seen, watched.was_live) || !is_live && !watched.was_live
}

/// Cuts queued requests apart.
pub fn cut(queued: &[u8]) -> Vec<&[u8]> {
    let limits = Limits { request_bytes_max: usize::MAX, ..Limits::default() };
    let (mut scanner, mut rest, mut requests) = (Scanner::new(), queued, Vec::new());
    while let Ok(Scan::Request { consumed }) = scanner.scan(rest, &limits) {
        let (request, behind) = rest.split_at(consumed.min(rest.len()));
        requests.push(request);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    requests
}

fn runner(view: &View, request: &[u8]) -> Runner {
    if view.is_solo {
        return Runner::Here;
    }
    let Ok(scanner) = scanned(request) else { return Runner::Here };
    let args = scanner.args(request);
    let Some((_, command)) = table::find(args.name()) else { return Runner::Here };
    let command = subcommands::running(command, args);
    if command.has(flag::PUBSUB) {
        // Shard channels have slots, and are served by every node.
        return Runner::Here;
    }
    let mut at =
        slots_of(command, args).into_iter().map(|slot| view.roles.of(slot).and_then(|group| group.coordinator));
    match (at.next(), command.handler) {
        (Some(first), _) if at.any(|other| other != first) => Runner::All,
        (Some(Some(first)), _) if first == view.me => Runner::Here,
        (Some(Some(first)), _) => Runner::There(first),
        (Some(None), _) => Runner::All,
        (None, Handler::Node(node)) if crate::server::share::is_whole(node) => Runner::All,
        (None, _) => Runner::Here,
    }
}

fn count_replies(replies: &[u8]) -> Option<usize> {
    let (mut rest, mut count) = (replies, 0);
    while !rest.is_empty() {
        let found = ReplyScanner::new(ReplyLimits::default()).scan(rest).ok()??;
        rest = rest.get(found.consumed..)?;
        count += 1;
    }
    Some(count)
}
