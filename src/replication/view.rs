//! What a worker goes by for a batch: one consistent picture of who does what, and of the peers.
//!
//! It is made anew whenever rows, liveness or a link changes (`node::view`), and never changes itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::{NodeId, Slot};
use crate::peer::lane::{Lane, lane_index};
use crate::peer::registry::Peer;
use crate::replication::routing::{Quorum, Roles, SlotRoles};
use crate::replication::wait::WaitKey;

/// One consistent picture of the cluster for a batch.
#[derive(Debug, Default)]
pub struct View {
    /// Who does what.
    pub roles: Roles,
    /// The ring's members and, behind them, nodes that are joining: `None` for this node itself.
    pub peers: Vec<Option<Arc<Peer>>>,
    /// This node's place among the members.
    pub me: u16,
    /// N, capped by the number of members.
    pub replicas: usize,
    /// This node is the only member: nothing is replicated, forwarded or verified.
    pub is_solo: bool,
    /// Differs when the rings do, those to come included, and otherwise whenever votes mean something else
    /// (`Rows::configuration`).
    pub electorate_digest: u64,
    /// Nodes are on their way in or out.
    pub is_moving: bool,
    /// Who has which place, and in which generation.
    pub ids: Vec<(NodeId, u64)>,
    /// Which one it is: greater than that of any view before.
    pub number: u64,
    /// How often this node had been called unfit to coordinate before the view was made.
    pub doubts: u64,
    /// Since when this is the view; `None` for one that nobody goes by.
    pub published_at: Option<Instant>,
}

/// Why a command cannot be run now. Nothing was changed; it may be retried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", Unserved::Quorum(*self).text())]
pub enum QuorumError {
    /// Too few replicas are reachable for W.
    Write,
    /// Too few replicas are reachable for R.
    Read,
}

/// Why a slot cannot be served now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.text())]
pub enum Unserved {
    /// No slot has a coordinator: this node is not with its cluster yet, or not any more.
    Waiting,
    /// Nobody runs its commands.
    NoCoordinator,
    /// Whoever does would refuse them.
    Quorum(QuorumError),
}

impl Unserved {
    /// What a client reads, without the leading `-`.
    pub const fn text(self) -> &'static str {
        match self {
            Unserved::Waiting => "CLUSTERDOWN this node waits until it is with its cluster again",
            Unserved::NoCoordinator => "CLUSTERDOWN no node that is up may run the commands of this hash slot",
            Unserved::Quorum(QuorumError::Write) => {
                "CLUSTERDOWN too few replicas of this hash slot are reachable for a write"
            }
            Unserved::Quorum(QuorumError::Read) => {
                "CLUSTERDOWN too few replicas of this hash slot are reachable for a read"
            }
        }
    }
}

impl View {
    /// Whether the slots of these roles are served: somebody coordinates them, and can reach W and R, or R alone for
    /// what does not write, as far as this node sees.
    pub fn check_served(&self, roles: &SlotRoles, quorum: Quorum, writes: bool) -> Result<(), Unserved> {
        if roles.coordinator.is_none() {
            return Err(if self.serves_anything() { Unserved::NoCoordinator } else { Unserved::Waiting });
        }
        self.check(roles, quorum, writes).map_err(Unserved::Quorum)
    }

    /// What a slot's frames have in common with others of a batch.
    pub(super) fn wait_key(&self, slot: Slot) -> WaitKey {
        let lanes = self.peers.iter().flatten().next().map_or(1, |peer| peer.lanes.len());
        let (roles, lane) = (self.roles.number_of(slot), lane_index(slot, lanes) as u16);
        WaitKey { roles, lane, doubts: self.doubts }
    }

    /// Refuses a command whose quorum is out of reach.
    pub fn check(&self, roles: &SlotRoles, quorum: Quorum, writes: bool) -> Result<(), QuorumError> {
        let (targets, confirmers, own) = match quorum.strict {
            true => (roles.home_targets, roles.home_confirmers, roles.is_home),
            false => (roles.targets.len(), roles.confirmers.len(), roles.is_active),
        };
        let (own, own_fit) = (usize::from(own), usize::from(own && roles.is_fit));
        if writes && targets + own < quorum.write {
            return Err(QuorumError::Write);
        }
        if confirmers + own_fit < quorum.read || !writes && !roles.knows_enough(quorum.read) {
            return Err(QuorumError::Read);
        }
        Ok(())
    }

    /// Whether things have been as the view says for longer than that.
    pub fn has_stood_for(&self, time: Duration, now: Instant) -> bool {
        self.published_at.is_some_and(|at| now.saturating_duration_since(at) > time)
    }

    /// Why nobody can run a command on some of these slots, if that has been so for longer than `patience`.
    pub fn long_unserved(
        &self,
        slots: &[Slot],
        quorum: Quorum,
        writes: bool,
        now: Instant,
        patience: Duration,
    ) -> Option<Unserved> {
        let is_old = self.has_stood_for(patience, now);
        let all = slots.iter().filter(|_| is_old).filter_map(|slot| self.roles.of(*slot));
        all.map(|roles| self.check_served(roles, quorum, writes)).find_map(Result::err)
    }

    /// The members that coordinate a slot, by their places.
    pub fn coordinators(&self) -> std::collections::BTreeSet<u16> {
        self.roles.distinct.iter().filter_map(|roles| roles.coordinator).collect()
    }

    /// False while no slot is known to have a coordinator: this node waits to belong to its cluster again, or to any.
    pub fn serves_anything(&self) -> bool {
        self.is_solo || self.roles.distinct.iter().any(|roles| roles.coordinator.is_some())
    }

    /// The members that hold a slot's writes as things stand, other than this one, by their places.
    pub fn active(&self) -> std::collections::BTreeSet<u16> {
        self.roles.distinct.iter().flat_map(|roles| roles.targets.iter().chain(&roles.pending)).copied().collect()
    }

    /// The place of the member that coordinates a slot; `None` while nobody can.
    #[inline]
    pub fn coordinator_of(&self, slot: Slot) -> Option<u16> {
        self.roles.of(slot)?.coordinator
    }

    /// True when this node coordinates a slot.
    pub fn is_coordinator(&self, slot: Slot) -> bool {
        self.is_solo || self.coordinator_of(slot) == Some(self.me)
    }

    /// Lets everything leave that was put on lanes.
    pub fn flush(&self) {
        self.peers.iter().flatten().flat_map(|peer| &peer.lanes).for_each(Lane::flush);
    }

    /// Where a member stands.
    pub fn place_of(&self, id: NodeId) -> Option<u16> {
        let at = self.ids.iter().position(|(known, _)| *known == id)?;
        u16::try_from(at).ok()
    }

    /// The nodes at these places, without this one.
    pub fn peers_at<'a>(&'a self, places: impl IntoIterator<Item = &'a u16>) -> impl Iterator<Item = &'a Arc<Peer>> {
        places.into_iter().filter_map(|at| self.peer(*at))
    }

    /// The node at a place; `None` for this one.
    pub fn peer(&self, at: u16) -> Option<&Arc<Peer>> {
        self.peers.get(usize::from(at)).and_then(Option::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_alone_take_writes_and_answer_no_read_that_two_have_to_confirm() {
        let (targets, confirmers) = (vec![1, 2], vec![1, 2]);
        let stand_ins = SlotRoles { targets, confirmers, is_active: true, is_fit: true, ..SlotRoles::default() };
        let with_home = SlotRoles { home_confirmers: 1, ..stand_ins.clone() };
        let at_home = SlotRoles { is_home: true, ..stand_ins.clone() };
        let checked = |roles: &SlotRoles, read, writes| {
            View::default().check(roles, Quorum { write: 2, read, strict: false }, writes)
        };
        assert_eq!(checked(&stand_ins, 2, true), Ok(()));
        assert_eq!(checked(&stand_ins, 2, false), Err(QuorumError::Read));
        assert_eq!(checked(&stand_ins, 1, false), Ok(()), "whoever asks for one copy gets one");
        assert_eq!([&with_home, &at_home].map(|roles| checked(roles, 2, false)), [Ok(()), Ok(())]);
    }

    /// One of two that are left has come back empty: the other refuses reads, and this one is not to say that it is
    /// ready.
    #[test]
    fn a_node_that_fills_up_does_not_count_itself_for_reads() {
        let quorum = |strict| Quorum { write: 2, read: 2, strict };
        let filling = SlotRoles {
            coordinator: Some(1),
            targets: vec![1],
            confirmers: vec![1],
            home_targets: 1,
            home_confirmers: 1,
            is_active: true,
            is_home: true,
            ..SlotRoles::default()
        };
        for strict in [false, true] {
            let checked = |roles: &SlotRoles| View::default().check_served(roles, quorum(strict), true);
            assert_eq!(checked(&filling), Err(Unserved::Quorum(QuorumError::Read)));
            assert_eq!(checked(&SlotRoles { is_fit: true, ..filling.clone() }), Ok(()));
        }
    }

    #[test]
    fn a_node_that_no_slot_is_served_by_as_far_as_it_knows_says_that_it_waits() {
        let (nobody, somebody) = (SlotRoles::default(), SlotRoles { coordinator: Some(1), ..SlotRoles::default() });
        let why = |distinct: &[SlotRoles]| {
            let mut view = View::default();
            view.roles.distinct = distinct.to_vec();
            view.check_served(&nobody, Quorum { write: 2, read: 2, strict: false }, false)
        };
        assert_eq!(why(&[nobody.clone(), nobody.clone()]), Err(Unserved::Waiting));
        assert_eq!(why(&[nobody.clone(), somebody]), Err(Unserved::NoCoordinator));
    }
}
