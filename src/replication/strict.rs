//! Strict commands at the coordinator: what lets them in, and what their frames wait for.
//!
//! Only home replicas count, and of them only those whose promise was there when the command was let in; the rules and
//! their proof are in `ballot`. What a strict write misses is not made good by handing it over later: its client then
//! reads that the outcome is unknown.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::peer::frame::Kind;
use crate::peer::registry::Peer;
use crate::replication::ballot;
use crate::replication::coordinator::{Coordinator, View, Wait, Waits, send};
use crate::replication::routing::Quorum;

impl Quorum {
    /// The quorum of strict commands among so many replicas: W and R are raised to a majority.
    pub fn strict(self, replicas: usize) -> Quorum {
        let least = ballot::majority(replicas);
        Quorum { write: self.write.max(least), read: self.read.max(least), strict: true }
    }
}

impl View {
    /// The slot's other home replicas that have promised it to this node.
    pub(super) fn promised<'v>(&'v self, slot: Slot, of: &'v [u16]) -> impl Iterator<Item = &'v Arc<Peer>> {
        of.iter().filter_map(|at| self.peer(*at)).filter(move |peer| peer.granted.has(slot))
    }

    /// As `pick_confirmers`, of those that have promised.
    pub(super) fn pick_promised(&self, slot: Slot, need: usize, draw: usize) -> (SmallVec<[u16; 4]>, bool) {
        let homes = self.roles.of(slot).map_or(&[][..], |group| group.confirming_homes());
        let has_promised = |at: &&u16| self.peer(**at).is_some_and(|peer| peer.granted.has(slot));
        let mut promised: SmallVec<[u16; 4]> = homes.iter().filter(has_promised).copied().collect();
        let has_spare = promised.len() > need;
        if let Some(first) = draw.checked_rem(promised.len()) {
            promised.rotate_left(first);
        }
        promised.truncate(need);
        (promised, has_spare)
    }
}

impl Coordinator {
    /// The latest stamp of strict writes to a slot that this node coordinates; `None` while too few have promised.
    ///
    /// To be relied on it has to be asked under the slot's lock.
    pub fn window(&self, view: &View, slot: Slot) -> Option<Hlc> {
        let group = view.roles.of(slot).filter(|group| group.is_home && view.is_coordinator(slot))?;
        if !self.ballots.is_own(slot) {
            return None;
        }
        let leases = group.homes().iter().filter_map(|at| view.peer(*at)).filter_map(|peer| peer.granted.until(slot));
        ballot::window(view.replicas, leases)
    }

    /// Whether a strict command may clear a slot that this node coordinates; while it may not, promises are asked for. The slot
    /// need not be settled: a clear takes away what was written before it, known here or not, and that is all that a holder
    /// before this one has acknowledged.
    pub fn may_clear(&self, view: &View, slot: Slot, now_ms: u64) -> bool {
        self.ballots.want(now_ms);
        self.window(view, slot).is_some_and(|max| max > self.store.clock.latest(now_ms))
    }

    /// As [`Coordinator::replicate`], for a strict write.
    pub(super) fn replicate_strict(
        &self,
        view: &View,
        slot: Slot,
        deltas: &[u8],
        quorum: Quorum,
        now_ms: u64,
        waits: &mut Waits,
    ) -> Option<usize> {
        let group = view.roles.of(slot)?;
        let need = quorum.write.saturating_sub(usize::from(group.is_home));
        let mut wait = Wait::of_strict_write(view, slot, need);
        let mut uncounted: SmallVec<[(Arc<Peer>, u64); 2]> = SmallVec::new();
        for at in group.homes() {
            // Who has not promised gets the write too, but is not counted: it may be filling up.
            match view.peer(*at).is_some_and(|peer| peer.granted.has(slot)) {
                true => send(view, *at, slot, deltas, Kind::StrictDelta, now_ms, &mut wait.frames),
                false => send(view, *at, slot, deltas, Kind::Delta, now_ms, &mut uncounted),
            };
        }
        for at in &group.pending {
            send(view, *at, slot, deltas, Kind::Delta, now_ms, &mut wait.pending);
        }
        waits.push(wait);
        Some(waits.len() - 1)
    }
}
