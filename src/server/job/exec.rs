//! EXEC: runs what was queued since MULTI, group by group (`groups`), each at the node that coordinates its keys.
//!
//! Each group runs under the locks of all its slots (`together`): nobody sees half of it. So a transaction is atomic
//! when its keys have one coordinator, as those with one hash tag always do, and a series of atomic groups otherwise.
//! They run one after the other, so that as little as possible has run when one cannot; when somebody else has become
//! a coordinator, the groups of what is left are found anew.
//!
//! What its node did not run is asked for again for a moment ([`Tries`]), because another node may have to become the
//! coordinator first; not where it has long been known that nobody can run it. Groups are found anew only by another
//! view, and before it asks again it pauses for as long as it has tried, up to a bound: a transaction of a million
//! requests would keep its threads from all else.
//!
//! When that is over, or nobody knows whether a group has run, EXEC ends. If nothing has run before, its reply is the
//! error alone. Else it is the array, with an error for each request that has not run: a client that is told to try
//! again must not find half of its transaction done twice.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::commands::CommandError;
use crate::commands::spec::flag;
use crate::protocol::Reply;
use crate::replication::view::{Unserved, View};
use crate::server::batch::{Batch, RETRY_FOR_MAX};
use crate::server::error::RequestError;
use crate::server::forward::call::Outcome;
use crate::server::forward::wire::{Manner, QuestionKind};
use crate::server::job::Job;
use crate::server::job::retry::RETRY_PAUSE;
use crate::server::job::tries::Tries;
use crate::server::request::run::{Origin, Run};
use crate::server::session::settings::quorum_of;
use crate::server::session::watched::{Watched, put_watched};
use crate::server::transaction::groups::{Group, Kind, Next, next_groups};
use crate::server::transaction::queued::{Queued, requests_of};
use crate::server::transaction::replies::Replies;
use crate::server::transaction::runner::{Runner, runner_of, runner_of_watched, runs_unlocked, selects};
use crate::server::transaction::{NoReplies, Ran};

const NOBODY_RUNS: &str = "TRYAGAIN the coordinator of some keys of the transaction does not answer";

/// How long it pauses at most before a group is tried again.
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(100);

/// How far a transaction has come.
struct Progress<'q> {
    requests: &'q [Queued<'q>],
    /// Keys that must be found unchanged by the next group.
    watched: &'q [Watched],
    replies: Replies,
    /// Since it began, or some of it has run last.
    tries: Tries,
}

impl<'q> Progress<'q> {
    /// The requests that have no reply yet.
    fn left(&self) -> impl Iterator<Item = &'q Queued<'q>> {
        self.replies.left().filter_map(|place| self.requests.get(place))
    }

    fn requests_of(&self, group: &Group) -> Cow<'q, [Queued<'q>]> {
        match group.stretch().and_then(|(from, to)| self.requests.get(from..to)) {
            Some(stretch) => Cow::Borrowed(stretch),
            None => group.places.iter().filter_map(|place| self.requests.get(*place).cloned()).collect(),
        }
    }
}

/// A group without replies.
struct Failed {
    why: NoReplies,
    /// The places that it was to answer.
    places: Vec<usize>,
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
                replies.write(out)?;
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
    ) -> Result<Option<Replies>, CommandError> {
        let replies = Replies::to(requests.len());
        let mut progress = Progress { requests, watched, replies, tries: Tries::begin() };
        while !progress.replies.are_whole() || !progress.watched.is_empty() {
            let view = self.worker.shared.view.load_full();
            let next = match runner_of_watched(&view, progress.watched) {
                // Nobody can tell whether they have changed: as if they had.
                Runner::Several | Runner::All => return Ok(None),
                Runner::Nobody => Next::Later,
                Runner::One(at) => next_groups(self.left_of(&progress, &view), Some(at), view.me)?,
                Runner::Anyone => next_groups(self.left_of(&progress, &view), None, view.me)?,
            };
            let ran = match next {
                Next::Groups(groups) => self.run_groups(&view, &groups, &mut progress).await,
                Next::Alone(place) => {
                    self.run_alone(place, &mut progress).await;
                    Ok(())
                }
                Next::Later => Err(Failed { why: NoReplies::NotRun, places: Vec::new() }),
            };
            match ran {
                Ok(()) => {}
                Err(Failed { why: NoReplies::NotRun, .. })
                    if self.long_unserved(progress.left()).is_none() && progress.tries.again().await => {}
                Err(failed) if progress.replies.answered() > 0 => {
                    self.give_up(failed, &mut progress);
                    return Ok(Some(progress.replies));
                }
                Err(Failed { why: NoReplies::Changed, .. }) => return Ok(None),
                Err(Failed { why: NoReplies::Unknown, .. }) => return Err(RequestError::UnknownOutcome.refusal()),
                Err(Failed { why: NoReplies::NotRun, .. }) => {
                    let why = self.long_unserved(progress.left());
                    return Err(CommandError::text(why.map_or(NOBODY_RUNS, Unserved::text)));
                }
            }
        }
        Ok(Some(progress.replies))
    }

    /// What decides about the groups of the requests that are left.
    fn left_of(&self, progress: &Progress<'_>, view: &View) -> impl Iterator<Item = (usize, Kind)> + Clone {
        // The cluster face knows no other database than its own.
        let databases = match self.talk.session.cluster_face {
            true => 0,
            false => self.worker.settings.read(|settings| settings.databases),
        };
        let kind_of = move |request: &Queued<'_>| Kind {
            runner: runner_of(view, request),
            is_last: runs_unlocked(request),
            selects: selects(request, databases),
            bytes: request.bytes.len(),
        };
        let left = progress.replies.left();
        left.filter_map(move |place| progress.requests.get(place).map(|request| (place, kind_of(request))))
    }

    /// Runs groups one after the other, for as long as this is the view.
    async fn run_groups(
        &mut self,
        view: &Arc<View>,
        groups: &[Group],
        progress: &mut Progress<'_>,
    ) -> Result<(), Failed> {
        for group in groups {
            let requests = progress.requests_of(group);
            let Some(answer) = self.run_when_possible(view, group.at, &requests, progress).await else { break };
            let failed = |why| Failed { why, places: group.answered().collect() };
            let answer = answer.map_err(failed)?;
            if group.at == view.me {
                progress.replies.take_own(group, &answer);
            } else if !progress.replies.take_of_other(group, &answer) {
                return Err(failed(NoReplies::Unknown));
            }
            (progress.watched, progress.tries) = (&[], Tries::begin());
        }
        Ok(())
    }

    /// Runs a group as soon as its node can; `None` once this is not the view any more.
    async fn run_when_possible(
        &mut self,
        view: &Arc<View>,
        at: u16,
        requests: &[Queued<'_>],
        progress: &Progress<'_>,
    ) -> Option<Result<Vec<u8>, NoReplies>> {
        while Arc::ptr_eq(view, &self.worker.shared.view.load()) {
            let began = Instant::now();
            let answer = self.if_unchanged(view, at, progress.watched, requests).await;
            let pause = began.elapsed().clamp(RETRY_PAUSE, RETRY_PAUSE_MAX);
            let is_over = answer != Err(NoReplies::NotRun) || self.long_unserved(requests.iter()).is_some();
            if is_over || !progress.tries.again_after(pause).await {
                return Some(answer);
            }
        }
        None
    }

    /// Why nobody can run some of these, if that has been so for as long as it would be waited for.
    fn long_unserved<'q>(&self, mut requests: impl Iterator<Item = &'q Queued<'q>>) -> Option<Unserved> {
        let (view, now) = (self.worker.shared.view.load(), Instant::now());
        let quorum = quorum_of(&self.worker.shared.node.config.settings(), self.talk.consistency, &view);
        requests.find_map(|request| {
            let writes = request.has(flag::WRITE);
            view.long_unserved(&request.slots, quorum, writes, now, RETRY_FOR_MAX)
        })
    }

    /// Runs a request that concerns several nodes as if it had come alone.
    async fn run_alone(&mut self, place: usize, progress: &mut Progress<'_>) {
        let mut reply = Vec::new();
        if let Some(request) = progress.requests.get(place) {
            Box::pin(self.answer(request.bytes, &mut reply)).await;
        }
        progress.replies.take(place, &reply);
        progress.tries = Tries::begin();
    }

    /// Answers for requests that are left when others have run: some may have run too, the rest will not.
    fn give_up(&self, failed: Failed, progress: &mut Progress<'_>) {
        let unknown = if failed.why == NoReplies::Unknown { failed.places } else { Vec::new() };
        self.worker.count_failures(0, unknown.len() as u64);
        let mut error = Vec::new();
        Reply::new(&mut error, self.talk.session.proto).error(RequestError::UnknownOutcome.text());
        unknown.iter().for_each(|place| progress.replies.take(*place, &error));
        let left: Vec<usize> = progress.replies.left().collect();
        for place in left {
            let bytes = progress.requests.get(place).map_or(&b""[..], |request| request.bytes);
            progress.replies.take(place, self.worker.refusal(bytes).as_bytes());
        }
    }

    /// Runs requests together at node `at`, which coordinates all their keys and the watched ones, if those are
    /// unchanged; gives their replies one behind the other.
    pub(super) async fn if_unchanged(
        &mut self,
        view: &Arc<View>,
        at: u16,
        watched: &[Watched],
        requests: &[Queued<'_>],
    ) -> Result<Vec<u8>, NoReplies> {
        if at == view.me {
            let mut batch = Batch::new(Instant::now());
            self.together(requests, watched, &mut batch)?;
            if !self.finish_as(&mut batch, Ran::as_one(requests)).await {
                return Err(NoReplies::NotRun);
            }
            let mut replies = Vec::new();
            batch.finish(&mut replies);
            return Ok(replies);
        }
        let mut question = Vec::new();
        put_watched(&mut question, watched, &self.worker.shared.node.store.actors);
        requests.iter().for_each(|request| question.extend_from_slice(request.bytes));
        match self.ask_together(view, at, &question).await {
            Outcome::Replied(mut answer) => match answer.first() {
                Some(1) => Ok(answer.split_off(1)),
                Some(0) => Err(NoReplies::Changed),
                _ => Err(NoReplies::Unknown),
            },
            Outcome::Unknown | Outcome::Gone => Err(NoReplies::Unknown),
            Outcome::NotRun | Outcome::Waiting => Err(NoReplies::NotRun),
        }
    }

    fn together(&mut self, requests: &[Queued<'_>], watched: &[Watched], batch: &mut Batch) -> Result<(), NoReplies> {
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
