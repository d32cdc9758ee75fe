//! What a command asks of replicas: that W hold its deltas, and that R agree with what it has read.
//!
//! Writing appends a command's deltas to the lanes of the slot's other active nodes, under the slot's lock; reading
//! appends a verify to one of them. Both note in the batch's [`Waits`] how far the lanes must be acknowledged before
//! the replies may go out.
//!
//! Replies are never sent on hope: a wait that can no longer be met says so, and the caller answers with an error.

use smallvec::SmallVec;

use crate::base::ids::Slot;
use crate::peer::frame::{Kind, Verify};
use crate::peer::lane::Lane;
use crate::replication::coordinator::Coordinator;
use crate::replication::routing::Quorum;
use crate::replication::view::{QuorumError, View};
use crate::replication::wait::{WaitPlaces, Waits, note_frame, place_of_confirmer, place_of_write};

impl Coordinator {
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
