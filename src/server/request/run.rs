//! What a request is run with, where it comes from, and how it was dealt with.
//!
//! A [`Run`] is made once for a window of a batch, or for a question of another node; what belongs to one request of
//! them is in [`Run::current`]. What it does with a request is in the files beside this one,
//! [`dispatch`] first.
//!
//! [`dispatch`]: super::dispatch

use std::time::Instant;

use crate::base::clock::{Hlc, wall_us};
use crate::commands::spec::{Command, CommandLimits};
use crate::protocol::{REPLY_BYTES_MAX, Reply};
use crate::replication::routing::Quorum;
use crate::replication::view::View;
use crate::server::batch::Batch;
use crate::server::forward::seen::PeerSeen;
use crate::server::session::settings::{Consistency, command_limits, output_bytes_max, quorum_of};
use crate::server::session::transaction::Transaction;
use crate::server::session::{Session, Talk};
use crate::server::state::client::{Client, state};
use crate::server::worker::Worker;

/// How a request was dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Its reply is in the batch, or will be.
    Done,
    /// It must be alone and may wait: nothing was done.
    Wait,
    /// A request before it on one of its slots may have to run first (`order`): nothing was done.
    Behind,
    /// Clients are paused: nothing was done.
    Paused,
    /// For another node that asks: the request is not for this node, or not now, and nothing was done.
    NotRun,
    /// For another node that asks: what it has seen of the key is what there is to see, so that there is no reply.
    AsSeen,
}

impl Step {
    /// True when the request was dealt with, whether it needed a reply or not.
    pub fn has_run(self) -> bool {
        matches!(self, Step::Done | Step::AsSeen)
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client.
    Client,
    /// This node, in the name of a client whose request has several parts.
    Part,
    /// This node, in the name of a client whose request it has left to another, or put off, before: it is counted
    /// already.
    Again,
    /// Another node, which takes this one for the coordinator.
    Peer,
    /// Another node, or this one, that asks for this node's share of what all nodes hold.
    Share,
    /// The same, to flush what the shares have left.
    ShareRest,
}

impl Origin {
    /// True when this node answers the client itself, and so may ask others.
    pub fn is_here(self) -> bool {
        matches!(self, Origin::Client | Origin::Part | Origin::Again)
    }
}

/// What a request is run with.
pub struct Run<'r> {
    /// The worker.
    pub worker: &'r Worker,
    /// The view of the batch.
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
    /// The time of the window, in microseconds since 1970.
    pub now_us: u64,
    /// Whether somebody watches, by MONITOR, what clients ask, and this is a client's.
    pub is_monitored: bool,
    /// Set when a request may have run before: then it runs only if its keys have not been written since.
    pub fence: Option<Hlc>,
    /// From when on another node's question has lain about for too long; `None` for what may be as old as it likes.
    pub late_at: Option<Instant>,
    /// Of the request that is about to run.
    pub current: Current,
}

/// What is noted for one request alone, by whoever is about to run it.
#[derive(Default)]
pub struct Current {
    /// What the peer that asks has seen of its key.
    pub peer_seen: Option<PeerSeen>,
    /// What `Ballots::unsettlings` was before this node looked whether it may build on what it holds.
    pub unsettlings: u64,
}

impl<'r> Run<'r> {
    /// What a window's requests are run with: options and time are looked at once.
    pub fn new(
        worker: &'r Worker,
        view: &'r View,
        client: &'r Client,
        talk: &'r mut Talk,
        batch: &'r mut Batch,
        origin: Origin,
    ) -> Run<'r> {
        let Talk { session, transaction, consistency: wish } = talk;
        let (quorum, limits) = worker.settings.read(|settings| {
            let mut limits = command_limits(settings, session.cluster_face);
            if origin.is_here() {
                limits.reply_bytes_max = output_bytes_max(settings).unwrap_or(REPLY_BYTES_MAX).min(REPLY_BYTES_MAX);
            }
            (quorum_of(settings, *wish, view), limits)
        });
        let now_us = wall_us();
        let is_monitored = origin == Origin::Client && worker.shared.node.monitors.is_watched();
        Run {
            worker,
            view,
            client,
            session,
            transaction,
            batch,
            quorum,
            wish: *wish,
            limits,
            origin,
            now_us,
            is_monitored,
            fence: None,
            late_at: None,
            current: Current::default(),
        }
    }

    /// Where the next reply goes.
    pub fn reply(&mut self) -> Reply<'_> {
        Reply::new(&mut self.batch.out, self.session.proto)
    }

    /// Whether a command's use of its keys is not to be seen: TOUCH is there for nothing else.
    pub fn leaves_untouched(&self, command: &Command) -> bool {
        (self.wish.no_touch || self.client.is_in(state::NO_TOUCH)) && command.name != "touch"
    }
}
