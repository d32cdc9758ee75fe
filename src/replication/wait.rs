//! What a batch waits for: how far lanes have to be acknowledged before its replies may go out.
//!
//! Writes of a batch that go to the same nodes on the same lane share one [`Wait`], and so do reads that the same node
//! has to confirm: one number a peer then stands for all of its frames, because a connection is acknowledged in order.
//! It cannot stand for a frame that was sent on an earlier connection and lost with it, nor for one that did not get
//! onto the lane at all; once there is such a one, the peer counts for no frame of the wait before it has been handed
//! what it missed.
//!
//! A write that is held in the end may have been without enough replicas that answer for a while, or one may have
//! called its node unfit to coordinate (`peer::trust`). Then another may have coordinated its key meanwhile, without
//! it: it is *doubtful*.
//!
//! Invariant: a wait is met only if every frame noted in it is held by as many nodes as it needs.
//!
//! Sends nothing, and answers nobody.

use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use crate::peer::lane::{Fate, Lane};
use crate::peer::registry::Peer;

/// What a wait has sent to one peer.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    peer: Arc<Peer>,
    /// The first frame.
    first: Option<u64>,
    /// The last frame that got onto the lane; it stands for those before it on the same connection.
    last: Option<u64>,
    /// A frame was lost with an earlier connection, or did not get onto the lane: it counts when the peer has been
    /// handed all that it missed.
    has_missed: bool,
}

/// What frames of a batch have in common that share a wait.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct WaitKey {
    /// The number of the roles of their slots.
    pub roles: u16,
    /// Their lane.
    pub lane: u16,
    /// How often this node had been called unfit before the view was made that the batch goes by.
    pub doubts: u64,
}

/// What frames are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// Writes. What is lost may be handed over, and is held then.
    Write,
    /// One strict write: what is lost stays lost.
    StrictWrite,
    /// Reads that one node has to confirm. Where it is not the only one that could, it is not waited for when it is
    /// slow.
    Confirm {
        /// Somebody else could have been asked, and will be.
        has_spare: bool,
    },
}

/// Frames that a batch waits for, about slots of the same roles.
#[derive(Debug)]
pub struct Wait {
    key: WaitKey,
    purpose: Purpose,
    /// How many of `frames` must be held.
    need: usize,
    /// What each peer was sent.
    pub(super) frames: SmallVec<[Sent; 2]>,
    /// It was found broken before it was healed.
    pub was_broken: bool,
    /// Frames that must be held in any case unless their lane breaks or stalls: nodes that are taking the slot over.
    pub(super) pending: SmallVec<[Sent; 1]>,
}

/// How far a wait has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitState {
    /// Still waiting.
    Open,
    /// Enough nodes hold it.
    Met,
    /// Too many connections broke. A read is to be run again; a write may be held or not, until a peer that was lost
    /// has been handed what it missed.
    Broken,
}

impl Wait {
    /// How far it has come.
    pub fn state(&self) -> WaitState {
        let (mut held, mut open, mut left) = (0, 0, 0);
        for sent in &self.frames {
            match self.prospect(sent) {
                Fate::Held => held += 1,
                Fate::Open => open += 1,
                Fate::Lost | Fate::Forgotten => left += usize::from(sent.peer.has_left()),
            }
        }
        let mut prospects = self.pending.iter().map(|sent| self.prospect(sent));
        let pending = prospects.clone().any(|it| it == Fate::Open);
        // Those that were taking the slot over count for those that have left since. Some may have been about to take
        // it over from others; so all must hold the frames, or be about to.
        let mut may_stand = || prospects.all(|it| matches!(it, Fate::Held | Fate::Open));
        if left > 0 && self.purpose == Purpose::Write && may_stand() {
            let stand = left.min(self.pending.len());
            (held, open) = if pending { (held, open + stand) } else { (held + stand, open) };
        }
        match (held >= self.need, held + open >= self.need) {
            (true, _) if !pending => WaitState::Met,
            (true, _) | (false, true) => WaitState::Open,
            (false, false) => WaitState::Broken,
        }
    }

    /// Whether what is lost may still be held, once it has been handed over.
    pub fn may_heal(&self) -> bool {
        self.purpose == Purpose::Write
    }

    /// Whether another node may have coordinated what was written here before it had it.
    pub fn is_doubtful(&self) -> bool {
        let is_doubted = |sent: &Sent| self.key.doubts != sent.peer.doubts() || self.has_conflicted(sent);
        self.purpose != Purpose::StrictWrite && (self.was_broken || self.frames.iter().any(is_doubted))
    }

    /// The lane to a peer that its frames take.
    fn lane_to<'p>(&self, peer: &'p Peer) -> Option<&'p Lane> {
        peer.lanes.get(usize::from(self.key.lane))
    }

    /// Whether a write that a peer was sent has met one there that this node had not seen: of another coordinator.
    fn has_conflicted(&self, sent: &Sent) -> bool {
        let lane = self.lane_to(&sent.peer);
        lane.zip(sent.first).is_some_and(|(lane, first)| lane.has_conflicted_since(first))
    }

    fn new(key: WaitKey, purpose: Purpose, need: usize) -> Wait {
        let (frames, pending) = (SmallVec::new(), SmallVec::new());
        Wait { key, purpose, need, frames, was_broken: false, pending }
    }

    /// What a strict write waits for; it shares that with no other, because each may be declined.
    pub(super) fn of_strict_write(key: WaitKey, need: usize) -> Wait {
        Wait::new(key, Purpose::StrictWrite, need)
    }

    /// A write to one peer, which is the only frame on its only lane; gives its place.
    #[cfg(test)]
    pub fn of_write_to(peer: &Arc<Peer>, waits: &mut Waits) -> usize {
        let at = place_of_write(waits, WaitKey::default(), 1);
        let number = peer.lanes.first().and_then(|lane| lane.append(crate::peer::frame::Kind::Delta, |_| {}));
        if let (Some(wait), Some(lane)) = (waits.get_mut(at), peer.lanes.first()) {
            note_frame(&mut wait.frames, peer, lane, number);
        }
        at
    }

    /// A strict write of two electorates, which wait for the same frames: all of them, and any.
    #[cfg(test)]
    pub fn of_two_electorates(peers: &[Arc<Peer>], waits: &mut Waits) {
        let [mut all, mut any] = [peers.len(), 1].map(|need| Wait::of_strict_write(WaitKey::default(), need));
        for (peer, lane) in peers.iter().filter_map(|peer| Some((peer, peer.lanes.first()?))) {
            note_frame(&mut all.frames, peer, lane, lane.append(crate::peer::frame::Kind::StrictDelta, |_| {}));
        }
        any.frames.clone_from(&all.frames);
        waits.extend([all, any]);
    }

    /// Has `waker` woken when the outcome, which is still open, may have changed.
    pub fn register(&self, waker: &Waker) {
        let mut is_as_seen = true;
        for (lane, number) in self.waited_for() {
            // A lane that changes its pace wakes only who waits by then.
            is_as_seen &= lane.wait_for(number, waker) && !lane.is_slow();
        }
        if !is_as_seen && self.state() != WaitState::Open {
            waker.wake_by_ref();
        }
    }

    /// Has `waker` not woken any more by nodes that were not needed in the end.
    pub fn unregister(&self, waker: &Waker) {
        self.waited_for().for_each(|(lane, number)| lane.stop_waiting(number, waker));
    }

    /// The last frame on each lane.
    fn waited_for(&self) -> impl Iterator<Item = (&Lane, u64)> {
        let frames = self.frames.iter().chain(&self.pending);
        frames.filter_map(|sent| self.lane_to(&sent.peer).zip(sent.last))
    }

    /// True when the verify with this number was lost, or nobody knows: it has confirmed nothing.
    #[inline]
    pub fn was_lost(&self, number: u64) -> bool {
        let lane = self.frames.first().and_then(|sent| self.lane_to(&sent.peer));
        lane.is_none_or(|lane| matches!(lane.fate(number), Fate::Lost | Fate::Forgotten))
    }

    /// True, once, when the verify with this number was contradicted.
    pub fn was_contradicted(&self, number: u64) -> bool {
        let lane = self.frames.first().and_then(|sent| self.lane_to(&sent.peer));
        lane.is_some_and(|lane| lane.has_mismatches() && lane.take_mismatch(number))
    }

    /// False while the peer says nothing, or for a read that another can confirm, while it takes long.
    fn is_worth_waiting(&self, peer: &Peer) -> bool {
        self.lane_to(peer).is_some_and(|lane| match self.purpose {
            Purpose::Confirm { has_spare: true } => !lane.is_slow(),
            Purpose::Write | Purpose::StrictWrite | Purpose::Confirm { has_spare: false } => !lane.is_stalled(),
        })
    }

    /// The fate of what a peer was sent, as far as it is waited for: what is open and not worth it counts as lost.
    fn prospect(&self, sent: &Sent) -> Fate {
        match self.fate(sent) {
            Fate::Open if !self.is_worth_waiting(&sent.peer) => Fate::Lost,
            fate => fate,
        }
    }

    /// What became of all that a peer was sent. What was lost is handed over with all else that the peer missed, and
    /// held then.
    fn fate(&self, sent: &Sent) -> Fate {
        let Some(lane) = self.lane_to(&sent.peer) else { return Fate::Lost };
        let last = sent.last.map_or(Fate::Held, |number| lane.fate(number));
        let has_lost = sent.has_missed || last == Fate::Lost;
        let is_healed = || self.may_heal() && sent.peer.has_caught_up();
        match last {
            Fate::Held | Fate::Lost if has_lost => {
                if is_healed() {
                    Fate::Held
                } else {
                    Fate::Lost
                }
            }
            // A later frame that is still open is not worth waiting for: what was lost before it may never be handed
            // over.
            Fate::Open if has_lost && !is_healed() => Fate::Lost,
            fate => fate,
        }
    }
}

/// All that a batch waits for.
pub type Waits = SmallVec<[Wait; 2]>;

/// Places in [`Waits`].
pub type WaitPlaces = SmallVec<[usize; 2]>;

/// Notes the next frame that a wait depends on, none if it did not get onto its lane. One that was lost is not outdone
/// by one behind it.
pub(super) fn note_frame(
    frames: &mut SmallVec<impl smallvec::Array<Item = Sent>>,
    peer: &Arc<Peer>,
    lane: &Lane,
    number: Option<u64>,
) {
    match frames.iter_mut().find(|sent| Arc::ptr_eq(&sent.peer, peer)) {
        Some(sent) => {
            let before = sent.last.map(|last| lane.fate(last));
            sent.has_missed |= number.is_none() || before == Some(Fate::Lost);
            sent.first = sent.first.or(number);
            if before != Some(Fate::Forgotten) {
                sent.last = number.or(sent.last);
            }
        }
        None => frames.push(Sent { peer: peer.clone(), first: number, last: number, has_missed: number.is_none() }),
    }
}

/// The place of the wait that writes share for which nodes of these roles are told on this lane, `need` of which have
/// to hold them.
pub(super) fn place_of_write(waits: &mut Waits, key: WaitKey, need: usize) -> usize {
    let same = |wait: &Wait| wait.purpose == Purpose::Write && wait.key == key && wait.need == need;
    waits.iter().position(same).unwrap_or_else(|| {
        waits.push(Wait::new(key, Purpose::Write, need));
        waits.len() - 1
    })
}

/// The place of the wait that reads share which `peer` is to confirm on this lane.
pub(super) fn place_of_confirmer(waits: &mut Waits, key: WaitKey, peer: &Arc<Peer>, has_spare: bool) -> usize {
    let purpose = Purpose::Confirm { has_spare };
    let same = |wait: &Wait| {
        let is_alike = wait.purpose == purpose && wait.key.lane == key.lane;
        is_alike && wait.frames.first().is_some_and(|sent| Arc::ptr_eq(&sent.peer, peer))
    };
    waits.iter().position(same).unwrap_or_else(|| {
        waits.push(Wait::new(key, purpose, 1));
        waits.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Slot;
    use crate::peer::frame::Kind;
    use crate::peer::registry::Peers;
    use crate::peer::trust::Word;

    /// Sends a frame, and notes it as a write's or a verify's.
    fn send(waits: &mut Waits, at: usize, peer: &Arc<Peer>) -> Option<u64> {
        let number = peer.lanes[0].append(Kind::Delta, |_| {});
        note_frame(&mut waits[at].frames, peer, &peer.lanes[0], number);
        number
    }

    fn ack(peer: &Peer, number: Option<u64>) {
        peer.lanes[0].write_with(|bytes| Ok(bytes.len())).expect("written");
        peer.lanes[0].ack(number.expect("the lane is open"));
    }

    fn hand_over(peer: &Peer) {
        assert!(peer.hints.take().is_some());
        peer.hints.delivered();
    }

    fn break_link(peer: &Peer) {
        peer.hints.note(Slot::new(0).expect("a slot"), 1);
        peer.lanes[0].close(|_| {});
    }

    #[test]
    fn a_write_that_did_not_get_onto_its_lane_is_not_held_because_one_before_it_is() {
        let ([one, two], mut waits) = (Peer::reached(), Waits::new());
        let at = place_of_write(&mut waits, WaitKey::default(), 1);
        let first = send(&mut waits, at, &one);
        ack(&one, first);
        break_link(&one);
        assert_eq!(send(&mut waits, at, &one), None);
        let second = send(&mut waits, at, &two);
        assert_eq!((place_of_write(&mut waits, WaitKey::default(), 1), waits[at].state()), (at, WaitState::Open));
        ack(&two, second);
        assert_eq!(waits[at].state(), WaitState::Met);
        break_link(&two);
        send(&mut waits, at, &two);
        assert_eq!(waits[at].state(), WaitState::Broken);
    }

    #[test]
    fn who_takes_a_slot_over_counts_for_those_that_have_left() {
        let peers = Peers::new(1, 1 << 20);
        let [leaves, gains, dies] = peers.reach();
        let mut waits = Waits::new();
        let at = place_of_write(&mut waits, WaitKey::default(), 1);
        send(&mut waits, at, &leaves);
        let numbers = [&gains, &dies].map(|peer| {
            let number = peer.lanes[0].append(Kind::Delta, |_| {});
            note_frame(&mut waits[at].pending, peer, &peer.lanes[0], number);
            number
        });
        ack(&gains, numbers[0]);
        break_link(&leaves);
        assert_eq!(waits[at].state(), WaitState::Broken, "it may come back");
        peers.retain(|id| *id != leaves.id);
        assert_eq!(waits[at].state(), WaitState::Open, "of two that were to gain it one does not hold it yet");
        ack(&dies, numbers[1]);
        assert_eq!(waits[at].state(), WaitState::Met);
        let lost = dies.lanes[0].append(Kind::Delta, |_| {});
        note_frame(&mut waits[at].pending, &dies, &dies.lanes[0], lost);
        break_link(&dies);
        assert_eq!(waits[at].state(), WaitState::Broken, "who gained the slot may be the one that does not hold it");
    }

    #[test]
    fn what_was_lost_with_a_connection_is_not_outdone_by_the_next() {
        let ([one], mut waits) = (Peer::reached(), Waits::new());
        let at = place_of_write(&mut waits, WaitKey::default(), 1);
        send(&mut waits, at, &one);
        break_link(&one);
        one.lanes[0].open();
        let second = send(&mut waits, at, &one);
        ack(&one, second);
        assert_eq!(waits[at].state(), WaitState::Broken);
        hand_over(&one);
        assert_eq!(waits[at].state(), WaitState::Met, "nothing is missing any more");
        // What was sent after the hand-over was not in it.
        let third = send(&mut waits, at, &one);
        assert_eq!(waits[at].state(), WaitState::Open);
        ack(&one, third);
        assert_eq!(waits[at].state(), WaitState::Met);
    }

    #[test]
    fn a_write_is_doubtful_when_its_node_was_called_unfit_while_it_waited_or_too_few_answered() {
        let peers = Peers::new(1, 1 << 20);
        let [peer] = peers.reach();
        let speaker = peers.meet(peer.id, 1, 0);
        let hear = |is_fit, is_warm| peers.hear_trust(speaker, Some(Word { is_fit, lanes: 1 }), is_warm);
        // As of a view that is made now.
        let key = || WaitKey { doubts: peers.doubts(), ..WaitKey::default() };
        let mut waits = Waits::new();
        hear(false, true);
        let before = key();
        let at = place_of_write(&mut waits, before, 1);
        send(&mut waits, at, &peer);
        hear(true, true);
        hear(false, false);
        assert!(!waits[at].is_doubtful(), "that was before, or from one that is empty itself");
        hear(false, true);
        assert!(waits[at].is_doubtful());
        let mut later = Waits::new();
        let at = place_of_write(&mut later, key(), 1);
        send(&mut later, at, &peer);
        assert!(!later[at].is_doubtful());
        let by_the_view_before = place_of_write(&mut later, before, 1);
        send(&mut later, by_the_view_before, &peer);
        assert!(later[by_the_view_before].is_doubtful(), "its view knows nothing of the word");
        later[at].was_broken = true;
        assert!(later[at].is_doubtful());
    }

    #[test]
    fn a_write_is_doubtful_when_it_met_another_that_its_node_had_not_seen() {
        let ([one, two], mut before, mut waits) = (Peer::reached(), Waits::new(), Waits::new());
        let at = place_of_write(&mut before, WaitKey::default(), 1);
        let number = send(&mut before, at, &one);
        ack(&one, number);
        let at = place_of_write(&mut waits, WaitKey::default(), 1);
        let first = send(&mut waits, at, &one).expect("open");
        let second = send(&mut waits, at, &one).expect("open");
        send(&mut waits, at, &two);
        assert!(!waits[at].is_doubtful());
        one.lanes[0].note_conflict(first - 1);
        assert!(before[0].is_doubtful() && !waits[at].is_doubtful(), "a write before it");
        one.lanes[0].note_conflict(second);
        assert!(waits[at].is_doubtful());
    }

    #[test]
    fn a_verify_that_was_lost_confirms_nothing_whatever_came_behind_it() {
        let ([one], mut waits) = (Peer::reached(), Waits::new());
        let at = place_of_confirmer(&mut waits, WaitKey::default(), &one, false);
        let lost = send(&mut waits, at, &one);
        break_link(&one);
        one.lanes[0].open();
        let held = send(&mut waits, at, &one);
        ack(&one, held);
        assert!(waits[at].was_lost(lost.expect("open")) && !waits[at].was_lost(held.expect("open")));
        assert_eq!(waits[at].state(), WaitState::Broken);
    }

    /// The lane's thread wakes those who wait when the pace changes; who looked before and waits after that is not
    /// among them.
    #[test]
    fn who_begins_to_wait_when_the_lane_has_just_changed_its_pace_looks_again() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let [peer] = Peer::reached();
        let mut waits = Waits::new();
        let wait = Wait::of_write_to(&peer, &mut waits);
        assert_eq!(waits[wait].state(), WaitState::Open);
        peer.lanes[0].set_pace(crate::peer::lane::Pace::Stalled);
        let count = Arc::new(Count(Default::default()));
        waits[wait].register(&count.clone().into());
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
