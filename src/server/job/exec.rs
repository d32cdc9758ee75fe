//! EXEC: runs what was queued since MULTI, group by group (`groups`), each at the node that coordinates its keys.
//!
//! Each group runs under the locks of all its slots (`together`): nobody sees half of it. So a transaction is atomic
//! when its keys have one coordinator, as those with one hash tag always do, and a series of atomic groups otherwise.
//!
//! A group that its node did not run is looked at anew for a moment, [`PATIENCE`]; so that it runs, another node may
//! have to become the coordinator first. When that is over, or nobody knows whether a group has run, EXEC ends. If
//! nothing has run before, its reply is the error alone. Else it is the array, with an error for each request from
//! there on: a client that is told to try again must not find half of its transaction done twice.

use std::sync::Arc;
use std::time::Instant;

use crate::commands::CommandError;
use crate::protocol::{REPLY_BYTES_MAX, Reply};
use crate::replication::view::View;
use crate::server::batch::Batch;
use crate::server::error::RequestError;
use crate::server::forward::call::Outcome;
use crate::server::forward::wire::{Manner, QuestionKind};
use crate::server::job::retry::RETRY_PAUSE;
use crate::server::job::{Job, PATIENCE};
use crate::server::request::run::{Origin, Run};
use crate::server::session::watched::{Watched, put_watched};
use crate::server::transaction::groups::{Next, Runner, coordinator_of, next_group, replies_of, runner, runs_unlocked};
use crate::server::transaction::queued::{Queued, requests_of};
use crate::server::transaction::{Ran, Tried};

const NOBODY_RUNS: &str = "TRYAGAIN the coordinator of some keys of the transaction does not answer";

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
    /// Runs the queued requests and answers with the array of their replies, or with null when a watched key has
    /// changed.
    pub(super) async fn exec(&mut self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let transaction = std::mem::take(&mut self.talk.transaction);
        self.client.end_transaction();
        let (requests, db) = (requests_of(transaction.requests()), self.talk.session.db);
        let replies = self.exec_groups(&requests, transaction.watched.keys()).await?;
        let mut reply = Reply::new(out, self.talk.session.proto);
        match replies {
            Some(replies) => {
                self.show(requests.iter().map(|request| request.bytes), db);
                reply.array(requests.len());
                out.extend_from_slice(&replies);
            }
            None => reply.null_array(),
        }
        Ok(())
    }

    /// Runs requests group by group, the first group only if the watched keys are unchanged, else `None`.
    async fn exec_groups(
        &mut self,
        requests: &[Queued<'_>],
        watched: &[Watched],
    ) -> Result<Option<Vec<u8>>, CommandError> {
        let (mut rest, mut watched, mut replies) = (requests, watched, Vec::new());
        let mut began = Instant::now();
        while !rest.is_empty() || !watched.is_empty() {
            let view = self.worker.shared.view.load_full();
            let watched_at = coordinator_of(&view, watched);
            if watched_at.is_none() && !watched.is_empty() {
                // Another node coordinates them by now, which may have changed them: as if it had.
                return Ok(None);
            }
            let next = next_group(rest, watched_at, view.me, |request| runner(&view, request), runs_unlocked)?;
            let len = if let Next::Together { len, .. } = next { len } else { 1 };
            let (group, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            let attempt = match next {
                Next::Together { at, .. } => self.run_group(&view, at, watched, group).await,
                Next::Alone => self.run_alone(group).await,
                Next::Later => Attempt::NotRun,
            };
            let has_run = rest.len() < requests.len();
            match attempt {
                Attempt::Ran(answer) => {
                    // More than that nobody will see, but all of it has to run.
                    if replies.len() <= REPLY_BYTES_MAX {
                        replies.extend_from_slice(&answer);
                    }
                    (rest, watched, began) = (behind, &[], Instant::now());
                }
                Attempt::NotRun if began.elapsed() <= PATIENCE => tokio::time::sleep(RETRY_PAUSE).await,
                failed if has_run => {
                    self.give_up(rest, if let Attempt::Unknown = failed { len } else { 0 }, &mut replies);
                    return Ok(Some(replies));
                }
                Attempt::Changed => return Ok(None),
                Attempt::Unknown => return Err(RequestError::UnknownOutcome.refusal()),
                Attempt::NotRun => return Err(CommandError::text(NOBODY_RUNS)),
            }
        }
        Ok(Some(replies))
    }

    /// Answers for requests behind some that have run. The first `unknown` may have run too; the rest will not.
    fn give_up(&self, requests: &[Queued<'_>], unknown: usize, replies: &mut Vec<u8>) {
        self.worker.count_failures(0, unknown as u64);
        for (at, request) in requests.iter().enumerate() {
            match at < unknown {
                true => Reply::new(replies, self.talk.session.proto).error(RequestError::UnknownOutcome.text()),
                false => replies.extend_from_slice(self.worker.refusal(request.bytes).as_bytes()),
            }
        }
    }

    /// Runs requests that concern several nodes, each as if it had come alone.
    async fn run_alone(&mut self, requests: &[Queued<'_>]) -> Attempt {
        let mut replies = Vec::new();
        for request in requests {
            Box::pin(self.answer(request.bytes, &mut replies)).await;
        }
        Attempt::Ran(replies)
    }

    /// Runs a group at the node that coordinates its keys. Requests without keys run here, when those have run; SELECT
    /// does so there too, since it says what the keys behind it mean.
    async fn run_group(&mut self, view: &Arc<View>, at: u16, watched: &[Watched], group: &[Queued<'_>]) -> Attempt {
        if at == view.me {
            return self.if_unchanged(view, at, watched, group).await;
        }
        let may_select = !self.talk.session.cluster_face;
        let is_here: Vec<bool> = group.iter().map(|request| runner(view, request) == Runner::Anyone).collect();
        let goes = |request: &Queued<'_>, is_here: bool| !is_here || may_select && request.is_select();
        let sent = group.iter().zip(&is_here).filter(|(request, is_here)| goes(request, **is_here));
        let sent: Vec<Queued<'_>> = sent.map(|(request, _)| request.clone()).collect();
        let answer = match self.if_unchanged(view, at, watched, &sent).await {
            Attempt::Ran(answer) => answer,
            failed => return failed,
        };
        let Some(answers) = replies_of(&answer).filter(|answers| answers.len() == sent.len()) else {
            return Attempt::Unknown;
        };
        let (mut answers, mut replies) = (answers.into_iter(), Vec::with_capacity(answer.len()));
        for (request, is_here) in group.iter().zip(is_here) {
            let there = if goes(request, is_here) { answers.next() } else { None };
            match there.filter(|_| !is_here) {
                Some(reply) => replies.extend_from_slice(reply),
                None => self.run_here(view, request, &mut replies).await,
            }
        }
        Attempt::Ran(replies)
    }

    /// Runs a request without keys here.
    async fn run_here(&mut self, view: &Arc<View>, request: &Queued<'_>, replies: &mut Vec<u8>) {
        match self.if_unchanged(view, view.me, &[], std::slice::from_ref(request)).await {
            Attempt::Ran(reply) => replies.extend_from_slice(&reply),
            _ => replies.extend_from_slice(self.worker.refusal(request.bytes).as_bytes()),
        }
    }

    /// Runs requests together at node `at`, which coordinates all their keys and the watched ones, if those are
    /// unchanged.
    pub(super) async fn if_unchanged(
        &mut self,
        view: &Arc<View>,
        at: u16,
        watched: &[Watched],
        requests: &[Queued<'_>],
    ) -> Attempt {
        if at == view.me {
            let mut batch = Batch::new(Instant::now());
            return match self.together(requests, watched, &mut batch) {
                Tried::Ran => {
                    if !self.finish_as(&mut batch, Ran::as_one(requests)).await {
                        return Attempt::NotRun;
                    }
                    let mut replies = Vec::new();
                    batch.finish(&mut replies);
                    Attempt::Ran(replies)
                }
                Tried::Changed => Attempt::Changed,
                Tried::NotRun => Attempt::NotRun,
            };
        }
        let mut question = Vec::new();
        put_watched(&mut question, watched, &self.worker.shared.node.store.actors);
        requests.iter().for_each(|request| question.extend_from_slice(request.bytes));
        match self.ask_together(view, at, &question).await {
            Outcome::Replied(mut answer) => match answer.first() {
                Some(1) => Attempt::Ran(answer.split_off(1)),
                Some(0) => Attempt::Changed,
                _ => Attempt::Unknown,
            },
            Outcome::Unknown | Outcome::Gone => Attempt::Unknown,
            Outcome::NotRun | Outcome::Waiting => Attempt::NotRun,
        }
    }

    fn together(&mut self, requests: &[Queued<'_>], watched: &[Watched], batch: &mut Batch) -> Tried {
        let worker = self.worker.clone();
        let began = Instant::now();
        let view = worker.view(began);
        let mut run = Run::new(&worker, &view, &self.client, &mut self.talk, batch, Origin::Part);
        let tried = run.together_if_here(requests, watched);
        worker.send_off(&view, batch);
        worker.count_turn(began.elapsed());
        tried
    }

    async fn ask_together(&self, view: &View, at: u16, question: &[u8]) -> Outcome {
        let Some(peer) = view.peer(at) else { return Outcome::NotRun };
        let manner = Manner { proto: self.talk.session.proto, ..self.manner(QuestionKind::IfUnchanged) };
        self.worker.ask(peer, manner, question).answer().await
    }
}
