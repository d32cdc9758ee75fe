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
use crate::replication::routing::{Quorum, SlotRoles};
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
        let place = place_of_write(waits, view.wait_key(slot), needed_of_others(roles, quorum));
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
        let (kind, need, (candidates, has_spare)) = match quorum.strict {
            true => {
                let promised = view.pick_promised(roles, slot, need, draw).ok_or(QuorumError::Read)?;
                (Kind::StrictVerify, promised.0.len(), promised)
            }
            false => (Kind::Verify, need, order_confirmers(view, self.confirmers(roles, slot, need), slot, need, draw)),
        };
        for at in candidates {
            if asked.len() == need {
                break;
            }
            let Some((peer, lane)) = view.peer(at).and_then(|peer| Some((peer, peer.lane_of(slot)?))) else { continue };
            let actors = &self.store.actors;
            // One whose lane has just closed is passed over.
            let Some(number) = lane.append(kind, |out| verify.put(out, actors)) else { continue };
            // Each confirmer is a wait of its own, so that its contradictions can be told apart.
            let place = place_of_confirmer(waits, view.wait_key(slot), peer, has_spare);
            if let Some(wait) = waits.get_mut(place) {
                note_frame(&mut wait.frames, peer, lane, Some(number));
            }
            asked.push((place, number));
        }
        if asked.len() < need { Err(QuorumError::Read) } else { Ok(asked) }
    }

    /// Whether enough of those that may confirm what is read of a slot are connected. A cheap look, for who cannot take
    /// back what was done before a read.
    pub fn has_confirmers(&self, view: &View, slot: Slot, quorum: Quorum) -> bool {
        let Some(roles) = view.roles.of(slot) else { return false };
        let need = quorum.read.saturating_sub(usize::from(roles.is_active));
        if quorum.strict {
            return need == 0 || view.pick_promised(roles, slot, need, 0).is_some();
        }
        view.peers_at(self.confirmers(roles, slot, need)).filter(|peer| peer.is_reached_for(slot)).count() >= need
    }
}

/// How many others have to hold a write.
fn needed_of_others(roles: &SlotRoles, quorum: Quorum) -> usize {
    quorum.write.saturating_sub(usize::from(roles.is_active))
}

/// Who may confirm a read, `need` of which will be asked: in random order, the slow ones last; and whether more than
/// those are not slow. A fixed turn would alias with the traffic: some keys would always be confirmed by the same node.
fn order_confirmers(view: &View, among: &[u16], slot: Slot, need: usize, draw: usize) -> (SmallVec<[u16; 4]>, bool) {
    let count = among.len();
    let first = draw.checked_rem(count).unwrap_or_default();
    let is_slow = |at: &u16| view.peer(*at).and_then(|peer| peer.lane_of(slot)).is_none_or(Lane::is_slow);
    if let (1, [one, other]) = (need, among) {
        // By far the most frequent case, and on the path of every read.
        let (one, other) = if first == 0 { (one, other) } else { (other, one) };
        let is_turned = is_slow(one) && !is_slow(other);
        let (one, other) = if is_turned { (other, one) } else { (one, other) };
        return (SmallVec::from_slice(&[*one, *other]), !is_slow(one) && !is_slow(other));
    }
    let mut prompt: SmallVec<[u16; 4]> = SmallVec::new();
    let mut slow: SmallVec<[u16; 4]> = SmallVec::new();
    for at in among.iter().cycle().skip(first).take(count) {
        if is_slow(at) { slow.push(*at) } else { prompt.push(*at) }
    }
    let has_spare = prompt.len() > need;
    prompt.extend(slow);
    (prompt, has_spare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::slot_of;
    use crate::base::version::Version;
    use crate::peer::frame::KeyRef;
    use crate::replication::coordinator::seen_of;
    use crate::replication::test_support::{coordinator, view_of};

    /// In a transaction nobody could run the read again.
    #[test]
    fn a_read_is_confirmed_by_whoever_has_a_lane_that_is_open() {
        let coordinator = coordinator();
        for strict in [false, true] {
            let view = view_of(true);
            let quorum = Quorum { write: 2, read: 2, strict };
            let slot = slot_of(b"k");
            if strict {
                assert!(!coordinator.has_confirmers(&view, slot, quorum), "none has promised");
                view.peers.iter().flatten().for_each(|peer| peer.granted.note(slot));
            }
            let name = KeyRef { slot, db: 0, key: b"k" };
            let verify = Verify { name, seen: seen_of(Version::default(), false), is_repeated: false, is_exact: false };
            let asked =
                |draw| coordinator.verify(&view, &verify, quorum, draw, &mut Waits::new()).map(|asked| asked.len());
            let close = |at| view.peer(at).and_then(|peer| peer.lane_of(slot)).expect("a lane").close(|_| {});
            assert!(coordinator.has_confirmers(&view, slot, quorum));
            assert_eq!([0, 1].map(asked), [Ok(1), Ok(1)]);
            close(1);
            assert!(coordinator.has_confirmers(&view, slot, quorum));
            assert_eq!([0, 1].map(asked), [Ok(1), Ok(1)], "whoever is drawn");
            close(2);
            assert!(!coordinator.has_confirmers(&view, slot, quorum));
            assert_eq!([0, 1].map(asked), [Err(QuorumError::Read); 2]);
        }
    }
}
