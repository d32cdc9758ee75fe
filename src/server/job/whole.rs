//! Commands about the whole keyspace: DBSIZE, KEYS, RANDOMKEY, FLUSHALL, FLUSHDB. SCAN, which goes in steps, is in
//! `scan`.
//!
//! Every node that coordinates slots is asked for its share (`server::share`), this one included, and the shares are
//! put together. On the cluster face clients do that themselves. KEYS and flushing go part by part, so that no node
//! stands still for long.

use std::time::Instant;

use crate::commands::CommandError;
use crate::commands::spec::NodeCommand;
use crate::protocol::client::Value;
use crate::protocol::{Args, Proto, Reply};
use crate::replication::view::View;
use crate::server::batch::{Batch, RETRY_FOR_MAX};
use crate::server::error::RequestError;
use crate::server::forward::call::Outcome;
use crate::server::forward::wire::QuestionKind;
use crate::server::job::Job;
use crate::server::job::tries::Tries;
use crate::server::job::values::{as_bulks, as_int, decoded, garbled, refused};
use crate::server::request::run::Origin;
use crate::server::share::flush::FlushPart;
use crate::server::share::keys::Stretch;

impl Job {
    /// FLUSHALL, FLUSHDB: part by part at the coordinators, then once more at all that hold anything still.
    pub(super) async fn flush(
        &mut self,
        args: Args<'_>,
        request: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        FlushPart::of(args, false)?;
        // On the cluster face a client asks each node itself.
        let must_cover = !self.talk.session.cluster_face;
        for part in FlushPart::all() {
            let is_whole = |shares: &[Value]| !must_cover || part.is_covered(shares.iter().filter_map(as_bytes));
            self.given_shares(&part.question(args.name()), Origin::Share, is_whole).await?;
        }
        self.given_shares(request, Origin::ShareRest, |_| true).await?;
        Reply::new(out, self.talk.session.proto).ok();
        Ok(())
    }

    /// The shares of all nodes. Asked for again while some node cannot give its own, because too few replicas have
    /// answered it, and while they are not the whole.
    async fn given_shares(
        &mut self,
        request: &[u8],
        origin: Origin,
        is_whole: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>, CommandError> {
        let tries = Tries::begin();
        loop {
            let shares = self.shares(request, origin).await?;
            let refusal =
                shares.iter().find_map(|share| if let Value::Error(text) = share { Some(&text[..]) } else { None });
            let text = match refusal {
                None if is_whole(&shares) => return Ok(shares),
                refusal => refusal.unwrap_or(RequestError::NotCleared.text().as_bytes()),
            };
            if !RequestError::is_passing(text) || self.is_long_unserved() || !tries.again().await {
                return Err(refused(text));
            }
        }
    }

    /// Whether no slot has had a coordinator for as long as one would be waited for.
    fn is_long_unserved(&self) -> bool {
        let view = self.worker.shared.view.load();
        !view.serves_anything() && view.has_stood_for(RETRY_FOR_MAX, Instant::now())
    }

    /// KEYS: stretch by stretch, each halved while some node has too much in it to look through at once.
    pub(super) async fn keys(&mut self, pattern: &[u8], out: &mut Vec<u8>) -> Result<(), CommandError> {
        let (mut left, mut names, mut count) = (vec![Stretch::whole()], Vec::new(), 0);
        while let Some(stretch) = left.pop() {
            let shares = self.given_shares(&stretch.question(pattern), Origin::Share, |_| true).await?;
            if shares.contains(&Value::Null) {
                left.extend(stretch.halves().ok_or_else(garbled)?);
                continue;
            }
            let mut found = Reply::new(&mut names, self.talk.session.proto);
            for key in shares.iter().flat_map(as_bulks) {
                found.bulk(key);
                count += 1;
            }
            if found.is_cut() {
                return Err(CommandError::ReplyTooLarge);
            }
            // Where nobody else was asked nothing has been waited for: others are to have their turn.
            tokio::task::yield_now().await;
        }
        Reply::new(out, self.talk.session.proto).array(count);
        out.extend_from_slice(&names);
        // What nodes were asked for it was counted by its own name.
        self.is_counted = false;
        Ok(())
    }

    /// Asks every node for its share and adds them up.
    pub(super) async fn whole(
        &mut self,
        command: NodeCommand,
        request: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let shares = self.given_shares(request, Origin::Share, |_| true).await?;
        let mut reply = Reply::new(out, self.talk.session.proto);
        match command {
            NodeCommand::DbSize => reply.int(shares.iter().map(as_int).sum()),
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

    /// The shares of all nodes that have one; of this one only on the cluster face, where clients add up themselves.
    /// Asked again when a node dies meanwhile: asking twice does no harm.
    async fn shares(&mut self, request: &[u8], origin: Origin) -> Result<Vec<Value>, CommandError> {
        // On the cluster face each node is asked by the client, and answers for its own share alone.
        if self.talk.session.cluster_face {
            return Ok(vec![decoded(&self.own_share(request, Origin::Share).await)?]);
        }
        let tries = Tries::begin();
        loop {
            let view = self.worker.shared.view.load_full();
            if let Some(replies) = self.shares_by(&view, request, origin).await {
                return replies.iter().map(|reply| decoded(reply)).collect();
            }
            if !tries.again().await {
                return Err(RequestError::NodeSilent.refusal());
            }
        }
    }

    /// The shares of all nodes as one view says who they are; `None` when one of them did not answer.
    pub(super) async fn shares_by(&mut self, view: &View, request: &[u8], origin: Origin) -> Option<Vec<Vec<u8>>> {
        let (kind, at) = match origin {
            Origin::ShareRest => (QuestionKind::ShareRest, view.active()),
            _ => (QuestionKind::Share, view.coordinators()),
        };
        let asked = self.ask_each(view, &at, kind, request);
        let mut replies = vec![self.own_share(request, origin).await];
        for (_, call) in asked {
            let Outcome::Replied(reply) = call.answer().await else { return None };
            replies.push(reply);
        }
        Some(replies)
    }

    /// This node's share.
    pub(super) async fn own_share(&mut self, request: &[u8], origin: Origin) -> Vec<u8> {
        let mut batch = Batch::new(Instant::now());
        let proto = std::mem::replace(&mut self.talk.session.proto, Proto::Resp2);
        self.dispatch(request, origin, None, &mut batch);
        self.talk.session.proto = proto;
        self.resolve(&mut batch).await;
        let mut reply = Vec::new();
        batch.finish(&mut reply);
        reply
    }
}

fn as_bytes(share: &Value) -> Option<&[u8]> {
    match share {
        Value::Bulk(bytes) => Some(bytes),
        _ => None,
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
