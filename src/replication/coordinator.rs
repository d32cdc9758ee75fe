//! The coordinator's side of replication: frames onto lanes, what a batch waits for, and what replicas answer.
//!
//! A [`View`] is what a worker uses for a batch: one consistent picture of roles and peers. Writing appends a command's
//! deltas to the lanes of the slot's other active nodes, under the slot's lock; reading appends a verify to one of
//! them. Both note in the batch's [`Waits`] how far the lanes must be acknowledged before the replies may go out.
//!
//! A replica that contradicts a verify sends what it holds; it is merged here, the merged state goes back, and the read
//! is run again (read repair). A replica that cannot apply a delta asks in the same way.
//!
//! Replies are never sent on hope: a wait that can no longer be met says so, and the caller answers with an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::{Count, Registry};
use crate::base::version::{Actor, ActorTable, Dot, Version};
use crate::base::wire::{Reader, WireError};
use crate::peer::ballot::{Declined, PromiseAnswer};
use crate::peer::entries::Known;
use crate::peer::frame::{Frame, KeyRef, Kind, MismatchCause, Seen, Verify, read_refused};
use crate::peer::handshake::Hello;
use crate::peer::lane::{Lane, lane_index};
use crate::peer::link::LaneEvents;
use crate::peer::registry::Peer;
use crate::replication::ballots::Ballots;
use crate::replication::routing::{Quorum, Roles, SlotRoles};
use crate::replication::wait::{Sent, WaitKey, WaitPlaces, Waits, note_frame, place_of_confirmer, place_of_write};
use crate::store::Store;
use crate::store::deltas::chains;
use crate::store::mutation::Delta;
use crate::store::state::State;

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
    /// Nobody runs its commands.
    NoCoordinator,
    /// Whoever does would refuse them.
    Quorum(QuorumError),
}

impl Unserved {
    /// What a client reads, without the leading `-`.
    pub const fn text(self) -> &'static str {
        match self {
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
        roles.coordinator.ok_or(Unserved::NoCoordinator)?;
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
            true => (roles.home_targets, roles.home_confirmers, usize::from(roles.is_home)),
            false => (roles.targets.len(), roles.confirmers.len(), usize::from(roles.is_active)),
        };
        if writes && targets + own < quorum.write {
            return Err(QuorumError::Write);
        }
        if confirmers + own < quorum.read || !writes && !roles.knows_enough(quorum.read) {
            return Err(QuorumError::Read);
        }
        Ok(())
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

/// What the coordinator works with.
pub struct Coordinator {
    /// The data.
    pub store: Arc<Store>,
    /// Where things are counted.
    pub metrics: Arc<Registry>,
    /// What this node has promised, and which of its slots are not settled.
    pub ballots: Arc<Ballots>,
    /// The number of the latest view ([`View::number`]), or of the one that is about to be.
    pub current_view: AtomicU64,
}

impl Coordinator {
    /// Whether a batch that goes by this view may write: after a later one others may coordinate its keys. Ask under
    /// the slot's lock.
    #[inline]
    pub fn is_current(&self, view: &View) -> bool {
        view.number == self.current_view.load(Ordering::Acquire)
    }

    /// Sends a command's deltas, chain by chain (`store::deltas`), to the slot's other active nodes. Call it under the
    /// slot's lock. Gives the places in `waits` that the reply depends on.
    pub fn replicate(
        &self,
        view: &View,
        slot: Slot,
        deltas: &[u8],
        quorum: Quorum,
        now_ms: u64,
        waits: &mut Waits,
    ) -> WaitPlaces {
        let Some(roles) = view.roles.of(slot) else { return WaitPlaces::new() };
        for peer in view.peers_at(&roles.missing) {
            if peer.is_connected() {
                // Whoever is only stalled finds its deltas on its lane when it goes on, but nobody waits for it.
                self.send(peer, slot, deltas, Kind::Delta, now_ms, &mut SmallVec::<[_; 1]>::new());
            } else {
                self.note_missed(peer, slot, now_ms);
            }
        }
        if quorum.strict {
            return self.replicate_strict(view, (roles, slot), deltas, quorum, now_ms, waits);
        }
        let need = quorum.write.saturating_sub(usize::from(roles.is_active));
        let place = place_of_write(waits, view.wait_key(slot), need);
        if let Some(wait) = waits.get_mut(place) {
            for peer in view.peers_at(&roles.targets) {
                self.send(peer, slot, deltas, Kind::Delta, now_ms, &mut wait.frames);
            }
            for peer in view.peers_at(&roles.pending) {
                self.send(peer, slot, deltas, Kind::Delta, now_ms, &mut wait.pending);
            }
        }
        WaitPlaces::from_slice(&[place])
    }

    /// Asks some of the slot's active nodes whether they hold the version that a read has seen. Gives for each the
    /// place in `waits` and the frame's number; nothing when no confirmation is needed. `draw` is random: it picks the
    /// nodes.
    pub fn verify(
        &self,
        view: &View,
        verify: &Verify<'_>,
        quorum: Quorum,
        draw: usize,
        waits: &mut Waits,
    ) -> Result<SmallVec<[(usize, u64); 2]>, QuorumError> {
        let slot = verify.name.slot;
        let roles = view.roles.of(slot).ok_or(QuorumError::Read)?;
        let need = quorum.read.saturating_sub(usize::from(roles.is_active));
        let mut asked = SmallVec::new();
        if need == 0 {
            return Ok(asked);
        }
        let (kind, (chosen, has_spare)) = match quorum.strict {
            true => (Kind::StrictVerify, view.pick_promised(roles, slot, need, draw).ok_or(QuorumError::Read)?),
            false => (Kind::Verify, pick_confirmers(view, self.confirmers(roles, slot, need), slot, need, draw)),
        };
        if chosen.len() < need {
            return Err(QuorumError::Read);
        }
        for at in chosen {
            let peer = view.peer(at).ok_or(QuorumError::Read)?;
            let lane = peer.lane_of(slot).ok_or(QuorumError::Read)?;
            let actors = &self.store.actors;
            let number = lane.append(kind, |out| verify.put(out, actors)).ok_or(QuorumError::Read)?;
            // Each confirmer is a wait of its own, so that its contradictions can be told apart.
            let place = place_of_confirmer(waits, view.wait_key(slot), peer, has_spare);
            if let Some(wait) = waits.get_mut(place) {
                note_frame(&mut wait.frames, peer, lane, Some(number));
            }
            asked.push((place, number));
        }
        Ok(asked)
    }

    /// Who may confirm what was read of a slot, where `need` have to (see [`SlotRoles::confirmers_of`]).
    #[inline]
    pub fn confirmers<'g>(&self, roles: &'g SlotRoles, slot: Slot, need: usize) -> &'g [u16] {
        let is_settled = !self.ballots.has_unsettled() || self.ballots.unsettled_tenure(slot).is_none();
        roles.confirmers_of(is_settled, need)
    }

    /// Appends deltas to a peer's lane and notes in `frames` how far that has to be acknowledged. What does not get
    /// there, because the lane has just closed, the peer has missed.
    pub(super) fn send(
        &self,
        peer: &Arc<Peer>,
        slot: Slot,
        deltas: &[u8],
        kind: Kind,
        now_ms: u64,
        frames: &mut SmallVec<impl smallvec::Array<Item = Sent>>,
    ) {
        let Some(lane) = peer.lane_of(slot) else { return };
        for chain in chains(deltas) {
            let number = lane.append(kind, |out| out.extend_from_slice(chain));
            if number.is_none() {
                self.note_missed(peer, slot, now_ms);
            }
            note_frame(frames, peer, lane, number);
        }
    }

    fn note_missed(&self, peer: &Peer, slot: Slot, stamped_ms: u64) {
        peer.hints.note(slot, stamped_ms);
        self.metrics.count(Count::HintsStored, 1);
    }
}

/// Shared by the tasks of all lanes.
impl LaneEvents for Arc<Coordinator> {
    fn opened(&self, _peer: &Peer, theirs: &Hello) {
        // Known before its first stamp arrives.
        let _ = self.store.actors.intern(theirs.actor());
    }

    fn heard_of(&self, latest: Hlc) {
        // What is too far ahead is not followed, and counted where a delta brings it.
        let _ = self.store.clock.observe(latest, self.store.clock.now_ms());
    }

    fn answer(&self, peer: &Peer, lane: usize, base: u64, frame: Frame<'_>) {
        let Some(own) = peer.lanes.get(lane) else { return };
        let now_ms = self.store.clock.now_ms();
        match frame.kind {
            Kind::Mismatch => {
                let mut reader = Reader::new(frame.body);
                let Ok((number, cause)) =
                    reader.u64().and_then(|number| Ok((number, MismatchCause::read(&mut reader)?)))
                else {
                    return own.fail();
                };
                let Ok(name) = KeyRef::read(&mut reader) else { return own.fail() };
                let known = Known::read(&mut reader, &self.store.actors);
                let Ok(conflicts) = known.and_then(|known| self.merge_known(name, known, now_ms)) else {
                    return own.fail();
                };
                if cause == MismatchCause::Delta && conflicts {
                    own.note_conflict(base.saturating_add(number));
                }
                if cause == MismatchCause::Verify {
                    own.note_mismatch(base.saturating_add(number));
                }
                if cause != MismatchCause::Delta {
                    self.metrics.count(Count::ReadRepairs, 1);
                }
                self.send_state(peer, lane, number, name);
            }
            Kind::Refused => {
                // The replica cannot serve us as things stand: the connection ends, and the view is made anew.
                if let Ok((number, why)) = read_refused(frame.body) {
                    tracing::info!(name = peer.name(), peer = %peer.addr, number, ?why, "replica refused");
                }
                own.fail();
            }
            Kind::Promised => match PromiseAnswer::read(frame.body) {
                Ok(answer) => self.promised(peer, lane, base, &answer, now_ms),
                Err(_) => own.fail(),
            },
            Kind::Declined => match Declined::read(frame.body) {
                Ok(declined) => self.declined(peer, lane, base, &declined),
                Err(_) => own.fail(),
            },
            _ => own.fail(),
        }
    }

    fn lost(&self, peer: &Peer, frame: Frame<'_>) {
        // By the write's own stamp: it may have waited for long, on a lane of a process that was stopped meanwhile.
        let actors = &self.store.actors;
        let mut reader = Reader::new(frame.body);
        let write = match frame.kind {
            Kind::Delta | Kind::StrictDelta => {
                Delta::decode(&mut reader, Actor::SELF, actors).ok().map(|it| (it.slot, it.version.dot.hlc))
            }
            Kind::State => lost_state(&mut reader, actors).ok().flatten(),
            _ => None,
        };
        if let Some((slot, stamp)) = write {
            self.note_missed(peer, slot, stamp.ms());
        }
    }
}

/// The slot and the stamp of a state that did not arrive; `None` when it said that nothing is there.
fn lost_state(reader: &mut Reader<'_>, actors: &ActorTable) -> Result<Option<(Slot, Hlc)>, WireError> {
    reader.u64()?;
    let slot = KeyRef::read(reader)?.slot;
    Ok(match reader.u8()? {
        1 => Some((slot, State::decode(reader, actors)?.version.dot.hlc)),
        _ => None,
    })
}

/// Who is to confirm a read, chosen at random among those that are not slow while there are enough of them, and whether
/// one such is left over. A fixed turn would alias with the traffic: some keys would always be confirmed by the same
/// node.
fn pick_confirmers(view: &View, among: &[u16], slot: Slot, need: usize, draw: usize) -> (SmallVec<[u16; 4]>, bool) {
    let count = among.len();
    let first = draw.checked_rem(count).unwrap_or_default();
    let is_slow = |at: &u16| view.peer(*at).and_then(|peer| peer.lane_of(slot)).is_none_or(Lane::is_slow);
    if let (1, [one, other]) = (need, among) {
        // By far the most frequent case, and on the path of every read.
        let (one, other) = if first == 0 { (one, other) } else { (other, one) };
        let chosen = if is_slow(one) && !is_slow(other) { other } else { one };
        return (SmallVec::from_slice(&[*chosen]), !is_slow(one) && !is_slow(other));
    }
    let mut prompt: SmallVec<[u16; 4]> = SmallVec::new();
    let mut slow: SmallVec<[u16; 4]> = SmallVec::new();
    for at in among.iter().cycle().skip(first).take(count) {
        if is_slow(at) { slow.push(*at) } else { prompt.push(*at) }
    }
    let has_spare = prompt.len() > need;
    prompt.extend(slow);
    prompt.truncate(need);
    (prompt, has_spare)
}

/// What a read has seen, as a verify says it; the default version stands for none.
pub fn seen_of(version: Version, is_live: bool) -> Seen {
    Seen { version: (version.dot != Dot::default()).then_some(version), dead: !is_live }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_alone_take_writes_and_answer_no_read_that_two_have_to_confirm() {
        let stand_ins =
            SlotRoles { targets: vec![1, 2], confirmers: vec![1, 2], is_active: true, ..SlotRoles::default() };
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
}
