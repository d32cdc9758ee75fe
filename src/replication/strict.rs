//! Strict commands at the coordinator: what lets them in, and what their frames wait for.
//!
//! Only home replicas count, and of them only those whose promise was there when the command was let in; while the ring
//! changes, those of every ring that somebody may go by. The rules and their proof are in `ballot`. The other home
//! replicas are given a strict write like any other, when they are there again if need be, but no reply counts on that:
//! where too few of those that had promised take it, its client reads that the outcome is unknown.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::peer::frame::Kind;
use crate::peer::registry::Peer;
use crate::replication::ballot;
use crate::replication::coordinator::Coordinator;
use crate::replication::routing::{Quorum, SlotRoles};
use crate::replication::view::View;
use crate::replication::wait::{Sent, Wait, WaitPlaces, Waits};
use crate::ring::steps::majority;

impl Quorum {
    /// The quorum of strict commands among so many replicas: W and R are raised to a majority.
    pub fn strict(self, replicas: usize) -> Quorum {
        let least = majority(replicas);
        Quorum { write: self.write.max(least), read: self.read.max(least), strict: true }
    }
}

impl View {
    /// The slot's other home replicas that have promised it to this node.
    pub(super) fn promised<'v>(&'v self, slot: Slot, of: &'v [u16]) -> impl Iterator<Item = &'v Arc<Peer>> {
        self.peers_at(of).filter(move |peer| peer.granted.has(slot))
    }

    /// As `order_confirmers`, of those that have promised and have a lane that is open; and as many more as say, with
    /// the others, for a majority of every electorate that the promise still holds. `None` when too few have promised.
    pub(super) fn pick_promised(
        &self,
        roles: &SlotRoles,
        slot: Slot,
        need: usize,
        draw: usize,
    ) -> Option<(SmallVec<[u16; 4]>, bool)> {
        let may_say = |peer: &Arc<Peer>| peer.granted.has(slot) && peer.is_reached_for(slot);
        let has_promised = |at: &&u16| self.peer(**at).is_some_and(may_say);
        let mut chosen: SmallVec<[u16; 4]> = roles.confirming_homes().iter().filter(has_promised).copied().collect();
        let has_spare = chosen.len() > need;
        if let Some(first) = draw.checked_rem(chosen.len()) {
            chosen.rotate_left(first);
        }
        if chosen.len() < need {
            return None;
        }
        chosen.truncate(need);
        for electorate in roles.electorates.iter().skip(1) {
            let have = electorate.others.iter().filter(|at| chosen.contains(at)).count();
            let lacking = electorate.needed(1).saturating_sub(have);
            let more = electorate.others.iter().filter(|at| !chosen.contains(at)).filter(has_promised);
            let more: SmallVec<[u16; 4]> = more.take(lacking).copied().collect();
            if more.len() < lacking {
                return None;
            }
            chosen.extend(more);
        }
        Some((chosen, has_spare))
    }
}

impl Coordinator {
    /// The latest stamp of strict writes to a slot that this node coordinates; `None` while too few have promised.
    ///
    /// To be relied on it has to be asked under the slot's lock.
    pub fn window(&self, view: &View, slot: Slot) -> Option<Hlc> {
        let roles = view.roles.of(slot).filter(|roles| roles.is_home && view.is_coordinator(slot))?;
        if !self.ballots.is_own(slot) || !self.ballots.goes_by(view.electorate_digest) {
            return None;
        }
        ballot::window(&roles.electorates, |at| view.peer(at).and_then(|peer| peer.granted.until(slot)))
    }

    /// Whether a strict command may clear a slot that this node coordinates; while it may not, promises are asked for.
    /// The slot need not be settled: a clear takes away what was written before it, known here or not, and that is all
    /// that a holder before this one has acknowledged.
    pub fn may_clear(&self, view: &View, slot: Slot, now_ms: u64) -> bool {
        self.ballots.want(now_ms);
        self.window(view, slot).is_some_and(|max| max > self.store.clock.latest(now_ms))
    }

    /// As [`Coordinator::replicate`], for a strict write: one wait an electorate. Who has not promised gets the write
    /// too, but is not counted: it may be filling up.
    pub(super) fn replicate_strict(
        &self,
        view: &View,
        (roles, slot): (&SlotRoles, Slot),
        deltas: &[u8],
        quorum: Quorum,
        now_ms: u64,
        waits: &mut Waits,
    ) -> WaitPlaces {
        let first = waits.len();
        let needed = roles.electorates.iter().map(|electorate| electorate.needed(quorum.write));
        waits.extend(needed.map(|need| Wait::of_strict_write(view.wait_key(slot), need)));
        for at in &roles.voters {
            let Some(peer) = view.peer(*at) else { continue };
            let mut frames: SmallVec<[Sent; 1]> = SmallVec::new();
            let has_promised = || peer.granted.has(slot);
            let kind = if has_promised() { Kind::StrictDelta } else { Kind::Delta };
            self.send(peer, slot, deltas, kind, now_ms, &mut frames);
            // Asked again: a lane that was opened anew in between has carried the write behind another promise than it
            // was let in by. None is noted while the slot is locked.
            if kind == Kind::Delta || !has_promised() {
                continue;
            }
            for (electorate, wait) in roles.electorates.iter().zip(waits.iter_mut().skip(first)) {
                if electorate.others.contains(at) {
                    wait.frames.extend(frames.iter().cloned());
                }
            }
        }
        (first..waits.len()).collect()
    }
}
