//! What a node coordinates with: frames onto lanes, and what becomes of replicas' answers.
//!
//! What a command asks of replicas is in `quorum`. A replica that contradicts a verify sends what it holds; it is
//! merged, the merged state goes back, and the read is run again (`repair`). A replica that cannot apply a delta asks
//! in the same way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::base::metrics::{Count, Registry};
use crate::base::version::{Actor, ActorTable, Dot, Version};
use crate::base::wire::{Reader, WireError};
use crate::peer::ballot::{Declined, PromiseAnswer};
use crate::peer::frame::{Frame, KeyRef, Kind, Seen, read_refused};
use crate::peer::handshake::Hello;
use crate::peer::link::LaneEvents;
use crate::peer::registry::Peer;
use crate::replication::ballots::Ballots;
use crate::replication::routing::SlotRoles;
use crate::replication::view::View;
use crate::replication::wait::{Sent, note_frame};
use crate::store::Store;
use crate::store::deltas::chains;
use crate::store::mutation::Delta;
use crate::store::state::State;

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

    pub(super) fn note_missed(&self, peer: &Peer, slot: Slot, stamped_ms: u64) {
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
        let understood = match frame.kind {
            Kind::Mismatch => self.contradicted(peer, lane, base, frame.body, now_ms),
            Kind::Promised => {
                PromiseAnswer::read(frame.body).map(|answer| self.promised(peer, lane, base, &answer, now_ms))
            }
            Kind::Declined => Declined::read(frame.body).map(|declined| self.declined(peer, lane, base, &declined)),
            Kind::Refused => read_refused(frame.body).map(|(number, why)| {
                tracing::info!(name = peer.name(), peer = %peer.addr, number, ?why, "replica refused");
                // It cannot serve us as things stand: the connection ends, and the view is made anew.
                own.fail();
            }),
            _ => Err(WireError),
        };
        if understood.is_err() {
            own.fail();
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

/// What a read has seen, as a verify says it; the default version stands for none.
pub fn seen_of(version: Version, is_live: bool) -> Seen {
    Seen { version: (version.dot != Dot::default()).then_some(version), dead: !is_live }
}
