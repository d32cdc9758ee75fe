//! Requests that must be alone and may wait: those about the whole cluster, over several coordinators, or about time.
//!
//! Each is an `async` function that asks nodes for their share, this one included, and puts the shares together. A share
//! is an ordinary request, run by the node that is asked for what it coordinates itself (`Origin::PeerForShare`).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::base::clock::Hlc;
use crate::commands::spec::{Command, Handler, NodeCommand};
use crate::commands::{CommandError, subcommands, table};
use crate::peer::registry::Peer;
use crate::protocol::client::{ReplyDecoder, ReplyLimits, Value};
use crate::protocol::{Args, Proto, REPLY_BYTES_MAX, Reply, Scanner, parse_i64};
use crate::replication::coordinator::View;
use crate::server::again::Rerun;
use crate::server::batch::Batch;
use crate::server::batch::scanned::scanned;
use crate::server::batch::window::Request;
use crate::server::connection::AGAIN_PAUSE;
use crate::server::forward::{Call, Fate, Manner, answer_of, ask};
use crate::server::request::listening::is_subscription;
use crate::server::request::run::{Origin, Run, Step};
use crate::server::session::Talk;
use crate::server::session::settings::{Consistency, quorum_of};
use crate::server::share::flush::FlushPart;
use crate::server::share::is_whole;
use crate::server::state::clients::{Client, state};
use crate::server::worker::Worker;

/// How long a request may look for coordinators that answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

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
}

/// Runs `request`, as it came, to its end.
pub async fn start(worker: Rc<Worker>, client: Arc<Client>, talk: Talk, request: Vec<u8>) -> Done {
    let mut job = Job { worker, client, talk };
    let before = job.client.reply_mode();
    let mut reply = match job.after_pause(&request).await {
        Some(reply) => reply,
        None => {
            let reply = job.whole_reply(&request).await;
            job.show(&[&request], job.talk.session.db);
            reply
        }
    };
    if job.client.keeps_back(before) && !is_pushed(&request) {
        reply.clear();
    }
    Done { reply, talk: job.talk }
}

/// Whether CLIENT REPLY has no say in what a request brings: to begin or end a subscription is told as messages are.
fn is_pushed(request: &[u8]) -> bool {
    let named = |scanner: Scanner| table::find(scanner.args(request).name());
    scanned(request).ok().and_then(named).is_some_and(|(_, command)| is_subscription(command))
}

/// Runs a request that has to be run again and must now be alone, in the name of a batch that waits for it.
pub fn later(worker: Rc<Worker>, client: Arc<Client>, talk: Talk, request: Vec<u8>) -> Rc<Call> {
    let call = Call::of_our_own();
    let answer_to = call.clone();
    tokio::task::spawn_local(async move {
        let reply = Job { worker, client, talk }.whole_reply(&request).await;
        answer_to.settle(Fate::Replied(answer_of(&reply)));
    });
    call
}

impl Job {
    /// How other nodes are to run a part of what this connection asks.
    pub(super) fn manner(&self, flags: u8) -> Manner {
        let no_touch = self.client.is_in(state::NO_TOUCH);
        Manner { flags, db: self.talk.session.db, wish: Consistency { no_touch, ..self.talk.consistency } }
    }

    /// The reply to `request`, an error's too.
    fn whole_reply<'j>(&'j mut self, request: &'j [u8]) -> Pin<Box<dyn Future<Output = Vec<u8>> + 'j>> {
        Box::pin(async move {
            let mut reply = Vec::new();
            let mut result = self.run(request, &mut reply).await;
            if reply.len() > REPLY_BYTES_MAX {
                result = Err(CommandError::ReplyTooLarge);
            }
            if let Err(error) = result {
                reply.clear();
                self.worker.shared.node.errors.note(&error.to_string());
                Reply::new(&mut reply, self.talk.session.proto).error(error.to_string());
            }
            reply
        })
    }

    pub(super) async fn run(&mut self, request: &[u8], out: &mut Vec<u8>) -> Result<(), CommandError> {
        let scanner = scanned(request)?;
        let args = scanner.args(request);
        let Some((index, command)) = table::find(args.name()) else { return Err(CommandError::Syntax) };
        let counted_at = subcommands::counted_at(index, command, args).unwrap_or(index);
        let command = subcommands::running(command, args);
        if let Handler::Node(node) = command.handler
            && !is_whole(node)
            && node != NodeCommand::Reset
        {
            // What it runs here is counted and timed where it runs.
            self.worker.metrics.ran(counted_at, 1, 0);
        }
        match command.handler {
            Handler::Node(NodeCommand::Exec) => self.exec(out).await,
            Handler::Node(NodeCommand::Scan) => self.scan(args, request, out).await,
            Handler::Node(NodeCommand::DbSize | NodeCommand::Keys | NodeCommand::RandomKey) => {
                self.whole(command, request, out).await
            }
            Handler::Node(NodeCommand::FlushAll | NodeCommand::FlushDb) => {
                FlushPart::of(args, false)?;
                for part in FlushPart::all() {
                    self.flush(&part.question(args.name()), Origin::PeerForShare).await?;
                }
                self.flush(request, Origin::PeerForRest).await?;
                Reply::new(out, self.talk.session.proto).ok();
                Ok(())
            }
            Handler::Node(NodeCommand::Watch) => self.watch(args, request, out).await,
            Handler::Node(NodeCommand::Meta) => self.meta(args, request, out).await,
            Handler::Node(NodeCommand::Subscribe | NodeCommand::Unsubscribe) => {
                self.subscribe(command, args, out).await;
                Ok(())
            }
            Handler::Node(NodeCommand::Monitor) => {
                self.monitor(out);
                Ok(())
            }
            Handler::Node(NodeCommand::Config) => self.set_events(command, args, out).await,
            Handler::Node(NodeCommand::Wait) => self.wait(args, out).await,
            Handler::Node(NodeCommand::Consistency) => self.consistency(args, out),
            Handler::Node(NodeCommand::Reset) => {
                self.talk.consistency = Consistency::default();
                let mut batch = Batch::new(Instant::now());
                self.dispatch(request, Origin::Part, None, &mut batch);
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
        if self.dispatch(request, Origin::Part, None, &mut batch) == Step::Done {
            self.settle(&mut batch).await;
            batch.finish(out);
            return Ok(());
        }
        let scanner = scanned(request)?;
        let args = scanner.args(request);
        match command.handler {
            Handler::FanOut(_, gather) => self.fan_out(command, gather, args, out).await,
            Handler::Keys(run) => self.across(command, run, args, out).await,
            Handler::Node(_) => Err(garbled()),
        }
    }

    /// Runs a part of a request, or leaves it to be run when [`Job::settle`] asks again.
    pub(super) fn dispatch_part(&mut self, request: &[u8], batch: &mut Batch) {
        if self.dispatch(request, Origin::Part, None, batch) != Step::Done {
            let session = &self.talk.session;
            batch.ask_again(request, session.db, session.proto);
        }
    }

    /// Deals with a request; `since` as in [`Run::since`].
    pub(super) fn dispatch(&mut self, request: &[u8], origin: Origin, since: Option<Hlc>, batch: &mut Batch) -> Step {
        let worker = self.worker.clone();
        let began = Instant::now();
        let view = worker.view(began);
        let Ok(scanner) = scanned(request) else { return Step::Done };
        let state = (&mut self.talk.session, &mut self.talk.transaction);
        let mut run = Run::new(&worker, &view, &self.client, state, self.talk.consistency, batch, origin);
        run.since = since;
        let step = run.request(&Request::new(scanner.args(request), request));
        worker.count_turn(began.elapsed());
        step
    }

    /// Waits for everything that a batch needs, running again what nobody took.
    pub(super) async fn settle(&mut self, batch: &mut Batch) {
        let mut again = Vec::new();
        self.worker.send_off(&self.worker.shared.view.load(), batch);
        loop {
            std::future::poll_fn(|cx| match batch.poll(cx, &mut again) || !again.is_empty() && !batch.asks_others() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            if again.is_empty() {
                self.worker.count_failures(batch.forward_failures, batch.unknown_outcomes);
                return;
            }
            tokio::time::sleep(AGAIN_PAUSE).await;
            let rerun = Rerun { worker: &self.worker, client: &self.client, talk: &self.talk };
            again = rerun.round(batch, std::mem::take(&mut again), std::iter::empty());
        }
    }

    /// A round of flushing some slots: by their coordinators, or what is left by whoever has it. Asked again while some of them
    /// may not be written.
    async fn flush(&mut self, request: &[u8], origin: Origin) -> Result<(), CommandError> {
        let began = Instant::now();
        loop {
            let shares = self.shares(request, origin).await?;
            let refusal =
                shares.iter().find_map(|share| if let Value::Error(text) = share { Some(text) } else { None });
            match refusal {
                None => return Ok(()),
                Some(text) if !text.starts_with(b"CLUSTERDOWN") || began.elapsed() > PATIENCE => {
                    return Err(CommandError::Text(String::from_utf8_lossy(text).into_owned().into()));
                }
                Some(_) => tokio::time::sleep(AGAIN_PAUSE).await,
            }
        }
    }

    /// Asks every node for its share and adds them up.
    pub(super) async fn whole(
        &mut self,
        command: &Command,
        request: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let shares = self.shares(request, Origin::PeerForShare).await?;
        let mut reply = Reply::new(out, self.talk.session.proto);
        if let Some(Value::Error(text)) = shares.iter().find(|share| matches!(share, Value::Error(_))) {
            reply.error(text);
            return Ok(());
        }
        match command.handler {
            Handler::Node(NodeCommand::DbSize) => reply.int(shares.iter().map(as_int).sum()),
            Handler::Node(NodeCommand::Keys) => {
                let keys: Vec<&[u8]> = shares.iter().flat_map(as_bulks).collect();
                reply.array(keys.len());
                keys.iter().for_each(|key| reply.bulk(key));
            }
            _ => {
                let drawn: Vec<(&[u8], u64)> = shares.iter().filter_map(drawn_key).collect();
                match weighted(&drawn, self.worker.draw() as u64) {
                    Some(key) => reply.bulk(key),
                    None => reply.null(),
                }
            }
        }
        Ok(())
    }

    /// The shares of all nodes that have one; of this one only on the cluster face, where clients add up themselves. Asked
    /// again when a node dies meanwhile: asking twice does no harm.
    async fn shares(&mut self, request: &[u8], origin: Origin) -> Result<Vec<Value>, CommandError> {
        // On the cluster face each node is asked by the client, and answers for its own share alone.
        if self.talk.session.cluster_face {
            return Ok(vec![decoded(&self.own_share(request, Origin::PeerForShare).await)?]);
        }
        let began = Instant::now();
        loop {
            let view = self.worker.shared.view.load_full();
            if let Some(replies) = self.shares_by(&view, request, origin).await {
                return replies.iter().map(|reply| decoded(reply)).collect();
            }
            if began.elapsed() > PATIENCE {
                return Err(CommandError::text("CLUSTERDOWN a node that coordinates some of the keys did not answer"));
            }
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
    }

    /// The shares of all nodes as one picture says who they are; `None` when one of them did not answer.
    pub(super) async fn shares_by(&mut self, view: &View, request: &[u8], origin: Origin) -> Option<Vec<Vec<u8>>> {
        let flags = if origin == Origin::PeerForRest { ask::LOCAL | ask::REST } else { ask::LOCAL };
        let at = if origin == Origin::PeerForRest { view.active() } else { view.coordinators() };
        let asked = self.ask_each(view, &at, flags, request);
        let mut replies = vec![self.own_share(request, origin).await];
        for (_, call) in asked {
            let Fate::Replied(reply) = call.answer().await else { return None };
            replies.push(reply);
        }
        Some(replies)
    }

    /// Asks the members at these places of a picture; this node, and who has no links yet, is left out.
    pub(super) fn ask_each(
        &self,
        view: &View,
        at: &BTreeSet<u16>,
        flags: u8,
        question: &[u8],
    ) -> Vec<(Arc<Peer>, Rc<Call>)> {
        let peers = at.iter().filter_map(|at| view.peers.get(usize::from(*at))?.clone());
        peers.map(|peer| (peer.clone(), self.worker.ask(&peer, self.manner(flags), question))).collect()
    }

    pub(super) async fn own_share(&mut self, request: &[u8], origin: Origin) -> Vec<u8> {
        let mut batch = Batch::new(Instant::now());
        let proto = std::mem::replace(&mut self.talk.session.proto, Proto::Resp2);
        self.dispatch(request, origin, None, &mut batch);
        self.talk.session.proto = proto;
        self.settle(&mut batch).await;
        let mut reply = Vec::new();
        batch.finish(&mut reply);
        reply
    }

    /// RONDO.CONSISTENCY [R n] [W n] [STRICT|SLOPPY].
    fn consistency(&mut self, args: Args<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let mut wish = self.talk.consistency;
        let mut words = args.iter().skip(1);
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_slice() {
                b"STRICT" => wish.strict = Some(true),
                b"SLOPPY" => wish.strict = Some(false),
                letter @ (b"R" | b"W") => {
                    let number = words.next().and_then(parse_i64).and_then(|number| usize::try_from(number).ok());
                    let number = number.filter(|number| *number > 0).ok_or(CommandError::Syntax)?;
                    if letter == b"R" { wish.read = Some(number) } else { wish.write = Some(number) }
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        let mut reply = Reply::new(out, self.talk.session.proto);
        if args.len() > 1 {
            self.talk.consistency = wish;
            reply.ok();
            return Ok(());
        }
        let view = self.worker.shared.view.load();
        let quorum = quorum_of(&self.worker.shared.node.config.settings(), wish, &view);
        reply.map(4);
        for (name, number) in
            [("replicas", view.replicas), ("read-quorum", quorum.read), ("write-quorum", quorum.write)]
        {
            reply.bulk(name.as_bytes());
            reply.int(number as i64);
        }
        reply.bulk(b"quorum-mode");
        reply.bulk(if quorum.strict { b"strict" } else { b"sloppy" });
        Ok(())
    }
}

pub(super) fn decoded(reply: &[u8]) -> Result<Value, CommandError> {
    let decoded = ReplyDecoder::new(ReplyLimits::arrived()).decode(reply);
    decoded.ok().flatten().map(|(value, _)| value).ok_or_else(garbled)
}

pub(super) fn as_int(value: &Value) -> i64 {
    if let Value::Int(number) = value { *number } else { 0 }
}

pub(super) fn as_bulks(value: &Value) -> Vec<&[u8]> {
    match value {
        Value::Array(items) | Value::Set(items) => items
            .iter()
            .filter_map(|item| if let Value::Bulk(bytes) = item { Some(&bytes[..]) } else { None })
            .collect(),
        _ => Vec::new(),
    }
}

/// A share of RANDOMKEY: a key, and out of how many it was drawn.
fn drawn_key(share: &Value) -> Option<(&[u8], u64)> {
    match share {
        Value::Bulk(key) => Some((key, 1)),
        Value::Array(parts) => match parts.as_slice() {
            [Value::Bulk(key), Value::Int(of)] => Some((key, u64::try_from(*of).ok()?)),
            _ => None,
        },
        _ => None,
    }
}

/// One of these, chosen by the random number `draw`, with chances in proportion to their weights.
fn weighted<'k>(choices: &[(&'k [u8], u64)], draw: u64) -> Option<&'k [u8]> {
    let total: u64 = choices.iter().map(|(_, weight)| weight).sum();
    let mut left = draw.checked_rem(total)?;
    for (choice, weight) in choices {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return Some(choice),
        }
    }
    None
}

pub(super) fn garbled() -> CommandError {
    CommandError::text("ERR another node gave an answer that makes no sense")
}

fn not_there_yet(command: &Command) -> CommandError {
    CommandError::Text(format!("ERR {} is not supported by rondo yet", command.name.to_uppercase()).into())
}
