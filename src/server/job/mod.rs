//! Requests that must be alone and may wait: those about the whole cluster, over several coordinators, or about time.
//!
//! Each is an `async` function in a file beside this one that asks other nodes and puts together what they say. What is
//! asked of a node is an ordinary request, run by it for what it coordinates itself (`Origin::Share`).
//!
//! | file | what it does |
//! |---|---|
//! | `retry`, `tries` | requests that are run again: nobody ran them, or a read was contradicted; for how long |
//! | `gather`, `across` | keys of several coordinators: cut by key, or all together |
//! | `exec`, `watch` | transactions |
//! | `whole`, `scan` | the whole keyspace |
//! | `wait`, `meta` | what replicas hold: WAIT, RONDO.META |
//! | `listen`, `events` | the connection: subscriptions and MONITOR; CONFIG SET |
//! | `pause`, `consistency` | the connection: CLIENT PAUSE; RONDO.CONSISTENCY |
//! | `values` | replies of other nodes as values |

pub mod retry;
mod tries;
mod consistency;
mod events;
mod listen;
mod exec;
mod meta;
mod pause;
mod values;
mod gather;
mod across;
mod wait;
mod watch;
mod whole;
mod scan;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::base::clock::Hlc;
use crate::commands::spec::{Command, Handler, NodeCommand};
use crate::commands::{CommandError, subcommands, table};
use crate::peer::registry::Peer;
use crate::protocol::{Proto, REPLY_BYTES_MAX, Reply};
use crate::replication::view::View;
use crate::server::batch::Batch;
use crate::server::batch::ask::Retry;
use crate::server::batch::scanned::{command_of, scanned};
use crate::server::batch::window::Request;
use crate::server::forward::call::{Call, Outcome};
use crate::server::forward::wire::{Manner, QuestionKind, answer_of};
use crate::server::job::retry::{Retrier, retry_pause};
use crate::server::job::values::garbled;
use crate::server::request::listening::is_subscription;
use crate::server::request::run::{Origin, Run, Step};
use crate::server::session::Talk;
use crate::server::session::settings::Consistency;
use crate::server::state::client::{Client, state};
use crate::server::transaction::Ran;
use crate::server::worker::Worker;

/// What came of a request.
pub struct Done {
    /// The reply.
    pub reply: Vec<u8>,
    /// The connection's state, which the request may have changed.
    pub talk: Talk,
}

/// A request that is being waited for.
pub type Waiting = dyn Future<Output = Done>;

/// Everything that a waiting request works with.
pub struct Job {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Arc<Client>,
    pub(super) talk: Talk,
    /// The request, or its part for this node, was counted where it ran.
    is_counted: bool,
    /// It was left to others, or put off, before, and counted then.
    is_again: bool,
}

/// Runs `request`, as it came, to its end. How long that took since it `arrived` is noted, but for WAIT, which waits as
/// long as it is told to.
pub async fn start(
    worker: Rc<Worker>,
    client: Arc<Client>,
    talk: Talk,
    request: Vec<u8>,
    mut arrived: Instant,
) -> Done {
    let mut job = Job { worker, client, talk, is_counted: false, is_again: false };
    let before = job.client.reply_mode();
    let mut reply = match job.after_pause(&request, &mut arrived).await {
        Some(reply) => reply,
        None => {
            let reply = job.whole_reply(&request).await;
            if let Some(command) = command_of(&request)
                && !matches!(command.handler, Handler::Node(NodeCommand::Wait))
            {
                job.worker.metrics.answered(command.class(), arrived.elapsed().as_micros() as u64, 1);
            }
            job.show([request.as_slice()], job.talk.session.db);
            reply
        }
    };
    if job.client.keeps_back(before) && !is_pushed(&request) {
        reply.clear();
    }
    reply.splice(0..0, job.client.mailbox.take_aside());
    Done { reply, talk: job.talk }
}

/// Whether CLIENT REPLY has no say in what a request brings: to begin or end a subscription is told as messages are.
fn is_pushed(request: &[u8]) -> bool {
    command_of(request).is_some_and(is_subscription)
}

/// Runs a request that has to be run again and must now be alone, in the name of a batch that waits for it.
pub fn later(worker: Rc<Worker>, client: Arc<Client>, talk: Talk, request: Vec<u8>) -> Rc<Call> {
    let call = Call::of_our_own();
    let answer_to = call.clone();
    tokio::task::spawn_local(async move {
        let mut job = Job { worker, client, talk, is_counted: false, is_again: true };
        let reply = job.whole_reply(&request).await;
        answer_to.complete(Outcome::Replied(answer_of(&reply)));
    });
    call
}

impl Job {
    /// How other nodes are to run a part of what this connection asks.
    pub(super) fn manner(&self, kind: QuestionKind) -> Manner {
        let no_touch = self.client.is_in(state::NO_TOUCH);
        let wish = Consistency { no_touch, ..self.talk.consistency };
        Manner { kind, proto: Proto::Resp2, db: self.talk.session.db, wish }
    }

    /// The reply to `request`, an error's too.
    fn whole_reply<'j>(&'j mut self, request: &'j [u8]) -> Pin<Box<dyn Future<Output = Vec<u8>> + 'j>> {
        Box::pin(async move {
            let mut reply = Vec::new();
            self.answer(request, &mut reply).await;
            reply
        })
    }

    /// Runs `request`, counts it, and appends its reply to `out`, an error's too.
    pub(super) async fn answer(&mut self, request: &[u8], out: &mut Vec<u8>) {
        let (from, was_counted) = (out.len(), std::mem::take(&mut self.is_counted));
        let mut result = self.run(request, out).await;
        if out.len() - from > REPLY_BYTES_MAX {
            result = Err(CommandError::ReplyTooLarge);
        }
        self.count(request, result.is_err());
        self.is_counted = was_counted;
        if let Err(error) = result {
            out.truncate(from);
            self.worker.count_error(&error.bytes());
            Reply::new(out, self.talk.session.proto).error(error.bytes());
        }
    }

    /// Counts a request that has run. A part of it that was run here is counted already, and timed.
    fn count(&self, request: &[u8], has_failed: bool) {
        let Ok(scanner) = scanned(request) else { return };
        let args = scanner.args(request);
        let Some((index, command)) = table::find(args.name()) else { return };
        let counted_at = table::counted_at(index, command, args).unwrap_or(index);
        if !self.is_counted && !self.is_again {
            self.worker.metrics.ran(counted_at, 1, 0);
        }
        if has_failed {
            self.worker.metrics.failed(counted_at);
        }
    }

    async fn run(&mut self, request: &[u8], out: &mut Vec<u8>) -> Result<(), CommandError> {
        let scanner = scanned(request)?;
        let args = scanner.args(request);
        let Some((_, command)) = table::find(args.name()) else { return Err(CommandError::Syntax) };
        let command = subcommands::running(command, args);
        match command.handler {
            Handler::Node(NodeCommand::Exec) => self.exec(out).await,
            Handler::Node(NodeCommand::Scan) => self.scan(args, request, out).await,
            Handler::Node(node @ (NodeCommand::DbSize | NodeCommand::RandomKey)) => {
                self.whole(node, request, out).await
            }
            Handler::Node(NodeCommand::Keys) => self.keys(args.get(1).unwrap_or_default(), out).await,
            Handler::Node(NodeCommand::FlushAll | NodeCommand::FlushDb) => self.flush(args, request, out).await,
            Handler::Node(NodeCommand::Watch) => self.watch(args, request, out).await,
            Handler::Node(NodeCommand::Meta) => self.meta(command, args, request, out).await,
            Handler::Node(NodeCommand::Subscribe(_) | NodeCommand::Unsubscribe(_)) => {
                self.subscribe(command, args, out).await
            }
            Handler::Node(NodeCommand::Monitor) => {
                self.monitor(out);
                Ok(())
            }
            Handler::Node(NodeCommand::Config) => self.set_events(command, args, out).await,
            Handler::Node(NodeCommand::Wait) => self.wait(args, out).await,
            Handler::Node(NodeCommand::Consistency) if subcommands::asks_for_help(args) => {
                subcommands::help_alone(&mut Reply::new(out, self.talk.session.proto), command);
                Ok(())
            }
            Handler::Node(NodeCommand::Consistency) => self.consistency(args, out),
            Handler::Node(NodeCommand::Reset) => {
                self.talk.consistency = Consistency::default();
                let mut batch = Batch::new(Instant::now());
                self.dispatch(request, self.origin(), None, &mut batch);
                batch.finish(out);
                Ok(())
            }
            Handler::Node(_) => Err(not_there_yet(command)),
            Handler::Keys(_) | Handler::FanOut(..) => self.on_keys(command, request, out).await,
        }
    }

    /// A command on keys: in parts, across coordinators, or, when the keys have one coordinator by now, as any other.
    async fn on_keys(&mut self, command: &Command, request: &[u8], out: &mut Vec<u8>) -> Result<(), CommandError> {
        let mut batch = Batch::new(Instant::now());
        if self.dispatch(request, self.origin(), None, &mut batch) == Step::Done {
            self.resolve(&mut batch).await;
            batch.finish(out);
            return Ok(());
        }
        let scanner = scanned(request)?;
        let args = scanner.args(request);
        match command.handler {
            Handler::FanOut(_, gather) => self.fan_out(command, gather, args, out).await,
            Handler::Keys(run) => {
                let done = self.across(command, run, args, out).await;
                // What others were asked for it was counted by its own name.
                self.is_counted = false;
                done
            }
            Handler::Node(_) => Err(garbled()),
        }
    }

    /// Where what this node is asked in the request's name comes from.
    fn origin(&self) -> Origin {
        if self.is_again { Origin::Again } else { Origin::Part }
    }

    /// Runs a part of a request, or leaves it to be run when [`Job::resolve`] asks again. The parts of a batch go by
    /// one view: what they wait for is told apart by what is numbered anew in each.
    pub(super) fn dispatch_part(&mut self, view: &View, request: &[u8], batch: &mut Batch) {
        if self.dispatch_by(view, request, self.origin(), None, batch) != Step::Done {
            let session = &self.talk.session;
            batch.leave_for_retry(request, session.db, session.proto);
        }
    }

    /// Deals with a request; `fence` as in [`Run::fence`].
    pub(super) fn dispatch(&mut self, request: &[u8], origin: Origin, fence: Option<Hlc>, batch: &mut Batch) -> Step {
        let view = self.worker.shared.view.load_full();
        self.dispatch_by(&view, request, origin, fence, batch)
    }

    fn dispatch_by(
        &mut self,
        view: &View,
        request: &[u8],
        origin: Origin,
        fence: Option<Hlc>,
        batch: &mut Batch,
    ) -> Step {
        let worker = self.worker.clone();
        let began = Instant::now();
        worker.look_at_pulse(view, began);
        let Ok(scanner) = scanned(request) else { return Step::Done };
        let mut run = Run::new(&worker, view, &self.client, &mut self.talk, batch, origin);
        run.fence = fence;
        let step = run.request(&Request::new(scanner.args(request), request));
        self.is_counted |= step == Step::Done;
        worker.count_turn(began.elapsed());
        step
    }

    /// Waits for everything that a batch needs, running again what nobody took.
    pub(super) async fn resolve(&mut self, batch: &mut Batch) {
        self.finish_as(batch, Ran::Apart).await;
    }

    /// As [`Job::resolve`], for requests that ran so. False when all of them are to run once more.
    pub(super) async fn finish_as(&mut self, batch: &mut Batch, ran: Ran) -> bool {
        let mut retries = Vec::new();
        self.worker.send_off(&self.worker.shared.view.load(), batch);
        while !self.is_resolved(batch, &mut retries).await {
            if ran != Ran::Apart {
                let (unconfirmed, others): (Vec<Retry>, Vec<Retry>) =
                    retries.into_iter().partition(Retry::is_unconfirmed);
                if ran == Ran::TogetherReading && !others.is_empty() {
                    return false;
                }
                others.iter().for_each(|retry| self.retrier(ran).give_up(batch, retry));
                retries = unconfirmed;
            }
            tokio::time::sleep(retry_pause(batch)).await;
            retries = self.retrier(ran).round(batch, retries, std::iter::empty());
        }
        true
    }

    fn retrier(&self, ran: Ran) -> Retrier<'_> {
        Retrier { worker: &self.worker, client: &self.client, talk: &self.talk, ran }
    }

    /// Waits until all is known that a batch waits for; false when some of it has to run `retry`.
    async fn is_resolved(&self, batch: &mut Batch, retries: &mut Vec<Retry>) -> bool {
        std::future::poll_fn(|cx| match batch.poll(cx, retries) || !retries.is_empty() && !batch.asks_others() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        if retries.is_empty() {
            self.worker.count_failures(batch.forward_failures, batch.unknown_outcomes);
        }
        retries.is_empty()
    }

    /// Asks the members at these places of a view; this node, and who has no links yet, is left out.
    pub(super) fn ask_each(
        &self,
        view: &View,
        at: &BTreeSet<u16>,
        kind: QuestionKind,
        question: &[u8],
    ) -> Vec<(Arc<Peer>, Rc<Call>)> {
        let peers = view.peers_at(at).cloned();
        peers.map(|peer| (peer.clone(), self.worker.ask(&peer, self.manner(kind), question))).collect()
    }
}

fn not_there_yet(command: &Command) -> CommandError {
    CommandError::said(format!("ERR {} is not supported by rondo yet", command.name.to_uppercase()))
}
