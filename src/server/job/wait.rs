//! WAIT: how many replicas hold what this connection has written.
//!
//! On its lanes a node cannot tell one connection's writes from another's. So WAIT asks every node that coordinates
//! slots for its [`marks`], the last frame on each lane at that moment, and then how many replicas hold everything up
//! to them ([`held`]): of each set of home replicas the fewest, and of those only who was there for the marks and is
//! whole. So a stand-in counts for nothing, and the reply is never more than what is true of the connection's own
//! writes, but for W: that many nodes each acknowledged write has had, stand-ins included. It is no less once the lanes
//! have moved on and who was away is back. A node that does not answer any more counts with W too.
//!
//! As in Redis the reply may exceed what was asked for. A replica that had missed
//! something counts when it has been handed all of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::commands::CommandError;
use crate::peer::registry::Peer;
use crate::protocol::client::{Value, encode_command};
use crate::protocol::{Args, Reply};
use crate::replication::view::View;
use crate::server::forward::call::Outcome;
use crate::server::forward::wire::QuestionKind;
use crate::server::job::Job;
use crate::server::job::values::decoded;
use crate::server::session::settings::quorum_of;
use crate::server::share::marks::{HELD, MARKS, held, marks, wishes};
use crate::server::state::client::Unblocked;

/// Between two looks, growing from the one to the other.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(20);

impl Job {
    /// WAIT numreplicas timeout.
    pub(super) async fn wait(&mut self, args: Args<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let (wanted, timeout) = wishes(args)?;
        let began = Instant::now();
        let view = self.worker.shared.view.load_full();
        let own = marks(&view);
        let others = self.marks_elsewhere(&view).await;
        let mut pause = LOOK_MIN;
        self.client.begin_wait();
        loop {
            let held = self.held_everywhere(&own, &others).await;
            let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
            let unblocked = self.client.unblocked();
            if held >= wanted || left == Some(Duration::ZERO) || unblocked != Unblocked::No {
                self.client.end_wait();
                if held < wanted && unblocked == Unblocked::WithError {
                    return Err(CommandError::text("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
                }
                Reply::new(out, self.talk.session.proto).int(held);
                return Ok(());
            }
            tokio::time::sleep(left.map_or(pause, |left| left.min(pause))).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// The other coordinators with their marks; none for one that does not answer. On the cluster face a client writes
    /// to each node itself.
    async fn marks_elsewhere(&self, view: &View) -> Vec<(Arc<Peer>, Option<Vec<u8>>)> {
        let is_alone = view.is_solo || self.talk.session.cluster_face;
        let at = if is_alone { Default::default() } else { view.coordinators() };
        let mut marked = Vec::new();
        for (peer, call) in self.ask_each(view, &at, QuestionKind::Share, &question(MARKS, b"0")) {
            let marks = match value_of(call.answer().await) {
                Some(Value::Bulk(marks)) => Some(marks.to_vec()),
                _ => None,
            };
            marked.push((peer, marks));
        }
        marked
    }

    async fn held_everywhere(&self, own: &[u8], others: &[(Arc<Peer>, Option<Vec<u8>>)]) -> i64 {
        let view = self.worker.shared.view.load_full();
        let quorum = quorum_of(&self.worker.shared.node.config.settings(), self.talk.consistency, &view);
        let at_least = quorum.write as i64 - 1;
        let calls: Vec<_> = others
            .iter()
            .map(|(peer, marks)| {
                let question = question(HELD, marks.as_ref()?);
                Some(self.worker.ask(peer, self.manner(QuestionKind::Share), &question))
            })
            .collect();
        let mut fewest = held(&view, own).map_or(at_least, |held| held as i64);
        for call in calls {
            let answer = match call {
                Some(call) => value_of(call.answer().await),
                None => None,
            };
            fewest = fewest.min(if let Some(Value::Int(held)) = answer { held } else { at_least });
        }
        fewest.max(at_least)
    }
}

fn question(what: &[u8], marks: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    encode_command(&mut request, &[&b"WAIT"[..], what, marks]);
    request
}

fn value_of(outcome: Outcome) -> Option<Value> {
    match outcome {
        Outcome::Replied(reply) => decoded(&reply).ok(),
        _ => None,
    }
}
