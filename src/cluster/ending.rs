//! Why a node cannot go on as who it is: it was given up for ever, another running process has its id, or its clock was
//! set back (`set_back`).
//!
//! Two processes with one id would each take back the row that the other has written, for ever, and both would seem
//! well. So one of them ends. A node that starts looks at the address where the cluster last knew it: if somebody with
//! its id answers there it does not enter. If nobody does (it crashed and has moved), it is that node. Should two meet
//! all the same, because one stood still or was cut off meanwhile, the one that started later ends.
//!
//! Only a handshake counts, which takes the cluster's secret. Two that cannot reach each other at all are not told
//! apart: each then logs, as an error, from where its row was taken.

use std::net::SocketAddr;

use tokio::sync::watch;
use tracing::{error, warn};

use crate::cluster::Cluster;
use crate::peer::control::ControlError;
use crate::peer::handshake::HandshakeError;
use crate::ring::Rows;

/// Why this node ends. The operator's to mend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Ending {
    /// An operator has said that this node will not come back.
    #[error(
        "this node was given up for ever (RONDO.FORGET), and its id is never taken again: start it with another \
         node-name, and without the node.meta of its data-dir"
    )]
    GivenUp,
    /// Another process is this node.
    #[error(
        "the process at {0} runs under this node's id: give each node a node-name (and data-dir) of its own, or stop that \
         one first"
    )]
    Twin(SocketAddr),
    /// The clock was set back.
    #[error(
        "this node's clock was set back: its stamps were {stamps_ahead_ms} ms ahead, and others refused its writes; started again, it \
         fills up from them"
    )]
    SetBack {
        /// How far its stamps were ahead of the clock.
        stamps_ahead_ms: u64,
    },
}

/// What is known of whether this node is the only one of its id.
#[derive(Debug, Default)]
pub(super) struct Oneness {
    /// Why this node must not go on.
    ending: watch::Sender<Option<Ending>>,
    /// Where the process is that has last written this node's row instead of it.
    pub(super) row_taken_from: watch::Sender<Option<SocketAddr>>,
}

impl Cluster {
    /// Returns when this node must not go on.
    pub async fn ended(&self) -> Ending {
        let mut ending = self.oneness.ending.subscribe();
        loop {
            let why = *ending.borrow_and_update();
            match why {
                Some(why) => return why,
                // The sender is our own: it outlives this.
                None => drop(ending.changed().await),
            }
        }
    }

    /// Has this node end. The first reason stands.
    pub(super) fn end(&self, why: Ending) {
        error!(node = %self.identity.id, "{why}");
        self.oneness.ending.send_if_modified(|ending| ending.is_none() && ending.replace(why).is_none());
    }

    /// Has this node end if what was said at `addr` shows that it is not the only one of its id: always while it
    /// belongs to no cluster, and else when it started later than the other.
    pub(super) fn look_for_twin(&self, addr: SocketAddr, said: &ControlError) {
        let ControlError::Handshake(HandshakeError::Twin { generation }) = said else { return };
        if !self.topology().is_formed() || *generation < self.identity.generation {
            self.end(Ending::Twin(addr));
        } else {
            warn!(%addr, "a process that started later runs under this node's id: it has to end");
        }
    }

    /// Returns never, once this node is to end: it must not enter a cluster meanwhile.
    pub(super) async fn stay_out_if_ended(&self) {
        if self.oneness.ending.borrow().is_some() {
            std::future::pending::<()>().await;
        }
    }

    /// Notes where our row in `theirs`, which is of a later life than ours, is from, if that is not our own address.
    pub(super) fn note_writer(&self, theirs: &Rows) {
        let addr =
            theirs.get(&self.identity.id).map(|row| row.peer_addr).filter(|addr| *addr != self.identity.peer_addr);
        if addr.is_some() {
            self.oneness.row_taken_from.send_replace(addr);
        }
    }
}
