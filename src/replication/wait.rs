//! What a batch waits for: how far lanes have to be acknowledged before its replies may go out.
//!
//! Writes of a batch that go to the same nodes on the same lane share one [`Wait`], and so do reads that the same node has to
//! confirm: one number a peer then stands for all of its frames, because a connection is acknowledged in order. It cannot
//! stand for a frame that was sent on an earlier connection and lost with it, nor for one that did not get onto the lane at
//! all; once there is such a one, the peer counts as lost for the whole wait.
//!
//! Invariant: a wait is met only if every frame noted in it is held by as many nodes as it needs.
//!
//! Sends nothing, and answers nobody.

use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use crate::peer::lane::{Fate, Lane};
use crate::peer::registry::Peer;

/// Stands for the number of a frame that did not get onto its lane, or shared its wait with one that was lost.
pub(super) const NEVER: u64 = u64::MAX;

/// Frames that a batch waits for, of one group. A number stands for all frames of the wait on that lane before it: those that it
/// cannot stand for, because the connection was another, make it [`NEVER`].
#[derive(Debug)]
pub struct Wait {
    group: u16,
    lane: u16,
    /// Whether it is about writes; else about one confirmer of reads.
    writes: bool,
    /// How many of `frames` must be held.
    need: usize,
    /// A strict write: what is lost stays lost.
    strict: bool,
    /// The last frame on each peer's lane, or [`NEVER`].
    pub(super) frames: SmallVec<[(Arc<Peer>, u64); 2]>,
    /// For a read: somebody else could have been asked, and will be if this one is slow.
    has_spare: bool,
    /// Frames that must be held in any case unless their lane breaks or stalls: nodes that are taking the slot over.
    pub(super) pending: SmallVec<[(Arc<Peer>, u64); 1]>,
}

/// What became of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Still waiting.
    Pending,
    /// Enough nodes hold it.
    Met,
    /// Too many connections broke. A read is to be run again; a write may be held or not, until a peer that was lost has
    /// been handed what it missed.
    Broken,
}

impl Wait {
    /// What became of it.
    pub fn outcome(&self) -> Outcome {
        let (mut held, mut open) = (0, 0);
        for (peer, number) in &self.frames {
            match self.fate(peer, *number) {
                Fate::Held => held += 1,
                Fate::Pending if self.is_worth_waiting(peer) => open += 1,
                Fate::Pending => {}
                // What was lost is handed over with all else that the peer missed.
                Fate::Lost if self.may_heal() && peer.has_caught_up() => held += 1,
                Fate::Lost => {}
            }
        }
        let is_open = |peer: &Peer, number| self.fate(peer, number) == Fate::Pending && self.is_worth_waiting(peer);
        let pending = self.pending.iter().any(|(peer, number)| is_open(peer, *number));
        match (held >= self.need, held + open >= self.need) {
            (true, _) if !pending => Outcome::Met,
            (true, _) | (false, true) => Outcome::Pending,
            (false, false) => Outcome::Broken,
        }
    }

    /// Whether what is lost may still be held, once it has been handed over.
    pub fn may_heal(&self) -> bool {
        self.writes && !self.strict
    }

    fn new(group: u16, lane: u16, writes: bool, need: usize) -> Wait {
        let (frames, pending) = (SmallVec::new(), SmallVec::new());
        Wait { group, lane, writes, need, strict: false, frames, has_spare: false, pending }
    }

    /// What a strict write waits for; it shares that with no other, because each may be declined.
    pub(super) fn of_strict_write(group: u16, lane: u16, need: usize) -> Wait {
        Wait { strict: true, ..Wait::new(group, lane, true, need) }
    }

    /// Wakes `waker` when the outcome may have changed.
    pub fn register(&self, waker: &Waker) {
        for (peer, number) in self.frames.iter().chain(&self.pending) {
            if let Some(lane) = peer.lanes.get(usize::from(self.lane))
                && self.fate(peer, *number) == Fate::Pending
            {
                lane.wait_for(*number, waker);
            }
        }
    }

    /// True when the verify with this number was lost: nobody has confirmed it.
    #[inline]
    pub fn was_lost(&self, number: u64) -> bool {
        self.frames.first().is_none_or(|(peer, _)| self.fate(peer, number) == Fate::Lost)
    }

    /// True, once, when the verify with this number was contradicted.
    pub fn was_contradicted(&self, number: u64) -> bool {
        let lane = self.frames.first().and_then(|(peer, _)| peer.lanes.get(usize::from(self.lane)));
        lane.is_some_and(|lane| lane.has_mismatches() && lane.take_mismatch(number))
    }

    /// False while the peer says nothing, or for a read that another can confirm, while it takes long.
    fn is_worth_waiting(&self, peer: &Peer) -> bool {
        let lane = peer.lanes.get(usize::from(self.lane));
        lane.is_some_and(|lane| if self.has_spare { !lane.is_slow() } else { !lane.is_stalled() })
    }

    fn fate(&self, peer: &Peer, number: u64) -> Fate {
        let lane = peer.lanes.get(usize::from(self.lane)).filter(|_| number != NEVER);
        lane.map_or(Fate::Lost, |lane| lane.fate(number))
    }
}

/// All that a batch waits for.
pub type Waits = SmallVec<[Wait; 2]>;

/// Places in [`Waits`].
pub type Places = SmallVec<[usize; 2]>;

/// Notes the next frame that a wait depends on. One that was lost, or never got onto its lane, is not outdone by one behind it.
pub(super) fn note_frame(
    frames: &mut SmallVec<impl smallvec::Array<Item = (Arc<Peer>, u64)>>,
    (peer, lane): (&Arc<Peer>, &Lane),
    number: u64,
) {
    match frames.iter_mut().find(|(known, _)| Arc::ptr_eq(known, peer)) {
        Some((_, last)) if *last == NEVER || lane.fate(*last) == Fate::Lost => *last = NEVER,
        Some((_, last)) => *last = number,
        None => frames.push((peer.clone(), number)),
    }
}

/// The place of the wait that writes share for which a group's nodes are told on this lane, `need` of which have to hold them.
pub(super) fn place_of_write(waits: &mut Waits, group: u16, lane: u16, need: usize) -> usize {
    let same =
        |wait: &Wait| wait.writes && wait.group == group && wait.lane == lane && wait.need == need && !wait.strict;
    waits.iter().position(same).unwrap_or_else(|| {
        waits.push(Wait::new(group, lane, true, need));
        waits.len() - 1
    })
}

/// The place of the wait that reads share which `peer` is to confirm on this lane.
pub(super) fn place_of_confirmer(waits: &mut Waits, group: u16, lane: u16, peer: &Arc<Peer>, has_spare: bool) -> usize {
    let same = |wait: &Wait| {
        let is_alike = !wait.writes && wait.lane == lane && wait.has_spare == has_spare;
        is_alike && wait.frames.first().is_some_and(|(known, _)| Arc::ptr_eq(known, peer))
    };
    waits.iter().position(same).unwrap_or_else(|| {
        waits.push(Wait { has_spare, ..Wait::new(group, lane, false, 1) });
        waits.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{NodeId, Slot};
    use crate::peer::frame::Kind;
    use crate::peer::registry::Peers;

    fn two() -> [Arc<Peer>; 2] {
        let peers = Peers::new(1, 1 << 20);
        [1, 2].map(|port| {
            let (peer, _) = peers.get_or_add(NodeId::random(), ([127, 0, 0, 1], port).into());
            peer.lanes[0].open();
            peer
        })
    }

    /// Sends a frame, and notes it as a write's or a verify's.
    fn send(waits: &mut Waits, at: usize, peer: &Arc<Peer>) -> u64 {
        let number = peer.lanes[0].append(Kind::Delta, |_| {}).unwrap_or(NEVER);
        note_frame(&mut waits[at].frames, (peer, &peer.lanes[0]), number);
        number
    }

    fn break_link(peer: &Peer) {
        peer.missed.note(Slot::new(0).expect("a slot"), 1);
        peer.lanes[0].close(|_| {});
    }

    #[test]
    fn a_write_that_did_not_get_onto_its_lane_is_not_held_because_one_before_it_is() {
        let ([one, two], mut waits) = (two(), Waits::new());
        let at = place_of_write(&mut waits, 0, 0, 1);
        let first = send(&mut waits, at, &one);
        one.lanes[0].ack(first);
        break_link(&one);
        assert_eq!(send(&mut waits, at, &one), NEVER);
        let second = send(&mut waits, at, &two);
        assert_eq!((place_of_write(&mut waits, 0, 0, 1), waits[at].outcome()), (at, Outcome::Pending));
        two.lanes[0].ack(second);
        assert_eq!(waits[at].outcome(), Outcome::Met);
        break_link(&two);
        send(&mut waits, at, &two);
        assert_eq!(waits[at].outcome(), Outcome::Broken);
    }

    #[test]
    fn what_was_lost_with_a_connection_is_not_outdone_by_the_next() {
        let ([one, _], mut waits) = (two(), Waits::new());
        let at = place_of_write(&mut waits, 0, 0, 1);
        send(&mut waits, at, &one);
        break_link(&one);
        one.lanes[0].open();
        let second = send(&mut waits, at, &one);
        one.lanes[0].ack(second);
        assert_eq!(waits[at].outcome(), Outcome::Broken);
        assert!(one.missed.take().is_some(), "handed over");
        one.missed.delivered();
        assert_eq!(waits[at].outcome(), Outcome::Met, "nothing is missing any more");
    }

    #[test]
    fn a_verify_that_was_lost_confirms_nothing_whatever_came_behind_it() {
        let ([one, _], mut waits) = (two(), Waits::new());
        let at = place_of_confirmer(&mut waits, 0, 0, &one, false);
        let lost = send(&mut waits, at, &one);
        break_link(&one);
        one.lanes[0].open();
        let held = send(&mut waits, at, &one);
        one.lanes[0].ack(held);
        assert!(waits[at].was_lost(lost) && !waits[at].was_lost(held));
        assert_eq!(waits[at].outcome(), Outcome::Broken);
    }
}
