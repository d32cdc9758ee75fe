//! EXEC: runs what was queued since MULTI, as one group for each coordinator.
//!
//! The requests whose keys are coordinated here run under the locks of all their slots, in their order: nobody sees half
//! of them. Requests for another coordinator go there together and run there in the same way. Commands about the whole
//! cluster stand between groups. So a transaction is atomic when its keys have one coordinator, as those with one hash
//! tag always have, and a series of atomic groups otherwise.

use std::sync::Arc;
use std::time::Instant;

use crate::base::ids::{NodeId, Slot, slot_of};
use crate::commands::spec::{Command, Cx, Handler, NodeCommand, flag, slots_of};
use crate::commands::{CommandError, subcommands, table};
use crate::protocol::client::{ReplyLimits, ReplyScanner};
use crate::protocol::{Limits, Proto, Reply, Scan, Scanner};
use crate::replication::coordinator::View;
use crate::server::batch::{Batch, UNKNOWN_OUTCOME};
use crate::server::connection::AGAIN_PAUSE;
use crate::server::dispatch::{Origin, Run, Step};
use crate::server::events::tells_of_misses;
use crate::server::forward::{Fate, ask};
use crate::server::held::put_watched;
use crate::server::monitor::NOT_IN_TRANSACTION;
use crate::server::transaction::{Transaction, Watched};
use crate::server::wait::{Job, PATIENCE, garbled, scanned};
use crate::server::window::Request;
use crate::store::Keyspace;

const OTHER_COORDINATOR: &str =
    "ERR WATCH needs all keys of the transaction to have the same coordinator as the watched keys";

const NOBODY_RUNS: &str = "TRYAGAIN the coordinator of some keys of the transaction does not answer";

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
    /// Runs the queued requests and answers with the array of their replies, or with null when a watched key has changed.
    pub(super) async fn exec(&mut self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let transaction = std::mem::take(&mut self.talk.transaction);
        self.client.queued.store(-1, std::sync::atomic::Ordering::Relaxed);
        self.client.set_state(crate::server::clients::state::MULTI, false);
        let (requests, db) = (cut(transaction.requests()), self.talk.session.db);
        let replies = self.exec_groups(&requests, &transaction.watched).await?;
        let mut reply = Reply::new(out, self.talk.session.proto);
        match replies {
            Some(replies) => {
                self.show(&requests, db);
                reply.array(requests.len());
                out.extend_from_slice(&replies);
            }
            None => reply.null_array(),
        }
        Ok(())
    }

    /// Runs requests group by group; the first group only if the watched keys are unchanged, else `None`. A group that was
    /// not run, because its node was too late or its keys have another coordinator by now, is looked at anew for a moment.
    async fn exec_groups(&mut self, requests: &[&[u8]], watched: &[Watched]) -> Result<Option<Vec<u8>>, CommandError> {
        let (mut rest, mut watched, mut replies) = (requests, watched, Vec::new());
        let mut began = Instant::now();
        while !rest.is_empty() || !watched.is_empty() {
            let view = self.worker.shared.view.load_full();
            let Some((runner, len)) = next_group(&view, rest, watched)? else { return Ok(None) };
            let (group, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            let at = match runner {
                Runner::Here => view.me,
                Runner::There(at) => at,
                Runner::All => {
                    self.exec_alone(group, &mut replies).await;
                    rest = behind;
                    continue;
                }
            };
            match self.if_unchanged(&view, at, watched, group).await {
                // Only another node's answer can be wrong; here SUBSCRIBE writes a reply for each channel.
                Attempt::Ran(answer) if at == view.me || count_replies(&answer) == Some(group.len()) => {
                    replies.extend_from_slice(&answer);
                    (rest, watched, began) = (behind, &[], Instant::now());
                }
                Attempt::Ran(_) => return Err(garbled()),
                Attempt::Changed => return Ok(None),
                Attempt::Unknown => return Err(CommandError::text(UNKNOWN_OUTCOME)),
                Attempt::NotRun if began.elapsed() > PATIENCE => return Err(CommandError::text(NOBODY_RUNS)),
                Attempt::NotRun => tokio::time::sleep(AGAIN_PAUSE).await,
            }
        }
        Ok(Some(replies))
    }

    async fn exec_alone(&mut self, requests: &[&[u8]], replies: &mut Vec<u8>) {
        for request in requests {
            if let Err(error) = Box::pin(self.run(request, replies)).await {
                Reply::new(replies, self.talk.session.proto).error(error.to_string());
            }
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
        let began = Instant::now();
        let view = worker.view(began);
        let state = (&mut self.talk.session, &mut Transaction::default());
        let mut run = Run::new(&worker, &view, &self.client, state, self.talk.consistency, batch, Origin::Part);
        let done = run.together_if_here(requests, watched);
        worker.send_off(&view, batch);
        worker.count_turn(began.elapsed());
        done
    }

    async fn ask_together(&self, view: &View, at: u16, flags: u8, question: &[u8]) -> Fate {
        let Some(peer) = view.peers.get(usize::from(at)).and_then(Option::as_ref) else { return Fate::NotRun };
        let proto = if self.talk.session.proto == Proto::Resp3 { ask::RESP3 } else { 0 };
        self.worker.ask(peer, self.manner(ask::TOGETHER | proto | flags), question).answer().await
    }
}

/// Who runs the next requests, and how many of them: all that are one node's, or one that is about all nodes. `None` when
/// another node coordinates the watched keys by now, which may have changed them: as if they were.
fn next_group(view: &View, requests: &[&[u8]], watched: &[Watched]) -> Result<Option<(Runner, usize)>, CommandError> {
    let runners: Vec<Runner> = requests.iter().map(|request| runner(view, request)).collect();
    let len_of = |runner| runners.iter().take_while(|it| **it == runner).count();
    let Some(first) = watched.first() else {
        let runner = runners.first().copied().unwrap_or(Runner::Here);
        return Ok(Some((runner, if runner == Runner::All { 1 } else { len_of(runner) })));
    };
    let at = match first.at {
        None => Some(view.me),
        at => position(view, at),
    };
    let coordinator = |it: &Watched| view.roles.of(slot_of(&it.key)).and_then(|group| group.coordinator);
    let Some(at) = at.filter(|at| watched.iter().all(|it| coordinator(it) == Some(*at))) else { return Ok(None) };
    let runner = if at == view.me { Runner::Here } else { Runner::There(at) };
    let is_elsewhere = |it: &Runner| *it != runner && (runner != Runner::Here || *it != Runner::All);
    match runners.iter().any(is_elsewhere) {
        true => Err(CommandError::text(OTHER_COORDINATOR)),
        false => Ok(Some((runner, len_of(runner)))),
    }
}

/// Where a member stands in the picture.
pub(super) fn position(view: &View, id: Option<NodeId>) -> Option<u16> {
    let at = view.peers.iter().position(|peer| peer.as_ref().map(|peer| peer.id) == id)?;
    u16::try_from(at).ok()
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
                for request in rest {
                    self.batch.out.extend_from_slice(self.worker.refusal(request).as_bytes());
                }
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
            self.worker.count_lookups_of(&mut effects);
            self.count_effects(&mut effects);
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
        let must_verify = self.must_verify(keys);
        if !self.view.is_solo {
            self.replicate(keys, from, now_ms);
        }
        if let Err(error) = result {
            self.batch.out.truncate(from);
            self.fail(&error.to_string());
        }
        if must_verify && let Err(error) = self.verify(command, &whole, keys, before, from) {
            self.batch.forget_from(from);
            self.fail(&error.to_string());
        }
        true
    }

    fn node_command_of_together(&mut self, request: &[u8]) {
        let Ok(scanner) = scanned(request) else { return };
        let args = scanner.args(request);
        if table::find(args.name()).is_some_and(|(_, command)| self.subscribe_together(command, args)) {
            return;
        }
        match table::find(args.name()).map(|(_, command)| command.handler) {
            Some(Handler::Node(NodeCommand::Wait)) => return self.wait_together(args),
            Some(Handler::Node(NodeCommand::Monitor)) => return self.fail(NOT_IN_TRANSACTION),
            _ => {}
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
            wish: self.wish,
            limits: self.limits,
            origin: if view.is_solo { Origin::PeerForShare } else { self.origin },
            now_us: self.now_us,
            is_monitored: false,
            not_run: false,
            peer_seen: None,
            is_as_seen: false,
            since: None,
        };
        if run.request(&Request::new(scanner.args(request), request)) != Step::Done {
            run.fail("ERR this command is not allowed inside a transaction over several nodes");
        }
    }
}

fn is_unchanged(keys: &mut Keyspace<'_>, watched: &Watched) -> bool {
    keys.select(watched.db);
    let is_live = keys.exists(&watched.key);
    // A key that has expired since counts as unchanged when it was there, as in Redis, only if nobody noticed: it is gone.
    match (watched.was_live, is_live) {
        (true, false) => false,
        (false, false) => true,
        (_, true) => keys.is_as_seen(&watched.key, watched.seen),
    }
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
