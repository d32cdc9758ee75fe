//! This node's part in the ballots of all slots: what it has promised, and which of its own slots are not settled.
//!
//! Promises change, and are looked at for a strict write, only under the lock of the slot's table: that is what makes
//! "declined from now on" true. The rules are `ballot`'s.
//!
//! A slot's *tenure* is a number that moves whenever what this node holds of the slot may lack what others have
//! acknowledged: it has become coordinator, gained a promise, or slept for long. Until the tenure is
//! settled, keys are confirmed one by one (`settle`).
//!
//! Bounded: a word or two a slot, a lease for each lane of each peer's latest life and of earlier ones that still hold
//! a promise, [`CONFIRMS_MAX`] keys being confirmed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::base::clock::{Hlc, SKEW_MS_MAX};
use crate::base::ids::{NodeId, SLOT_COUNT, Slot};
use crate::base::version::Actor;
use crate::peer::registry::Peer;
use crate::replication::ballot::{Holder, Lease, Promise};

/// How long after the last strict request promises are asked for and leases kept, in milliseconds.
const WANTED_MS: u64 = 30_000;
/// Most keys that are remembered as confirmed, or being so, at the same time.
pub const CONFIRMS_MAX: usize = 1 << 16;

/// A key of an unsettled slot.
pub type ConfirmKey = (Slot, u8, Box<[u8]>);

/// How far the confirmation of a key is.
#[derive(Debug)]
pub struct Confirm {
    /// The tenure that it is for.
    pub tenure: u32,
    /// Only replicas that have promised count.
    pub strict: bool,
    /// How many answers were wanted, and how many of those that were there are needed.
    pub wanted: usize,
    /// See [`Confirm::wanted`].
    pub need: usize,
    /// Verifies on their way; empty once it is confirmed.
    pub asked: SmallVec<[(Arc<Peer>, u64); 4]>,
}

/// A lane of a peer that asks for promises.
#[derive(Debug)]
struct Candidate {
    node: NodeId,
    /// Which life of the node.
    actor: Actor,
    lane: u8,
    lease: Lease,
    /// The latest of its connections.
    connection: u64,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Ballots {
    promises: Box<[Mutex<Promise>]>,
    candidates: Mutex<Vec<Candidate>>,
    /// Tenure in the upper bits; the lowest is set while it is not settled.
    tenures: Box<[AtomicU32]>,
    unsettled: AtomicUsize,
    /// A slot's number plus one; 0 for none.
    sought: AtomicU32,
    /// How often a slot has been unsettled.
    unsettlings: AtomicU64,
    confirms: Mutex<HashMap<ConfirmKey, Confirm>>,
    wanted_ms: AtomicU64,
    /// What promises are given under (`View::electorate_digest`).
    electorate_digest: AtomicU64,
}

impl Ballots {
    /// Nothing is promised by a node that begins now. An earlier life of it may have let others stamp as far ahead as
    /// any.
    pub fn new(now: Hlc) -> Ballots {
        let floor = Hlc::at_ms(now.ms() + SKEW_MS_MAX);
        let free = || Mutex::new(Promise { holder: Holder::NOBODY, floor });
        Ballots {
            promises: (0..SLOT_COUNT).map(|_| free()).collect(),
            candidates: Mutex::default(),
            tenures: (0..SLOT_COUNT).map(|_| AtomicU32::new(0)).collect(),
            unsettled: AtomicUsize::new(0),
            sought: AtomicU32::new(0),
            unsettlings: AtomicU64::new(0),
            confirms: Mutex::default(),
            wanted_ms: AtomicU64::new(0),
            electorate_digest: AtomicU64::new(0),
        }
    }

    /// The holder that a lane of this life of a node is here, with the number of its new connection; `None` when there
    /// were too many. It takes the place of an earlier life's lane that no slot is promised to any more.
    pub fn connect(&self, node: NodeId, actor: Actor, lane: u8) -> Option<(Holder, u64)> {
        let known = self.candidates.lock().iter().position(|it| it.actor == actor && it.lane == lane);
        let is_earlier = |it: &Candidate| it.node == node && it.lane == lane && it.actor != actor;
        let vacant = known.is_none().then(|| self.vacant(is_earlier)).flatten();
        let mut candidates = self.candidates.lock();
        // Lanes of one number are served one after the other; should somebody have come in between all the same, it
        // stays his.
        let vacant = vacant.filter(|at| candidates.get(*at).is_some_and(is_earlier));
        let at = known.or(vacant).unwrap_or(candidates.len());
        if known.is_none() {
            // What is left of the earlier life's connection ends: it is not the latest of its place.
            let connection = candidates.get(at).map_or(0, |it| it.connection);
            let candidate = Candidate { node, actor, lane, lease: Lease::default(), connection };
            match candidates.get_mut(at) {
                Some(place) => *place = candidate,
                None => candidates.push(candidate),
            }
        }
        let candidate = candidates.get_mut(at)?;
        candidate.connection += 1;
        Some((Holder(u16::try_from(at + 2).ok()?), candidate.connection))
    }

    /// A place that an earlier life of a node had, and that no slot is promised to.
    fn vacant(&self, is_earlier: impl Fn(&Candidate) -> bool) -> Option<usize> {
        if !self.candidates.lock().iter().any(&is_earlier) {
            return None;
        }
        // Promises are looked at without the candidates' lock: whoever gives one takes them in the other order.
        let holders: HashSet<usize> = self.promises.iter().filter_map(|promise| place(promise.lock().holder)).collect();
        let candidates = self.candidates.lock();
        candidates.iter().enumerate().position(|(at, it)| is_earlier(it) && !holders.contains(&at))
    }

    /// True while this is the latest connection of the holder.
    pub fn is_connected(&self, holder: Holder, connection: u64) -> bool {
        let candidates = self.candidates.lock();
        place(holder).and_then(|at| candidates.get(at)).is_some_and(|it| it.connection == connection)
    }

    /// Prolongs a holder's lease; false when it is fenced.
    pub fn renew(&self, holder: Holder, until: Hlc, is_fresh: bool) -> bool {
        let mut candidates = self.candidates.lock();
        place(holder).and_then(|at| candidates.get_mut(at)).is_some_and(|it| it.lease.renew(until, is_fresh))
    }

    /// Promises a slot, and gives the stamp that the holder's writes have to exceed. Call it under the slot's lock.
    pub fn promise(&self, slot: Slot, to: Holder, now: Hlc) -> Hlc {
        self.with_lease(slot, |promise, lease| promise.give(to, lease, now))
    }

    /// From now on promises are given, and own ones relied on, under this digest alone.
    pub fn go_by(&self, electorate_digest: u64) {
        self.electorate_digest.store(electorate_digest, Ordering::Release);
    }

    /// True while promises are given under this digest. Holds for as long as a slot is locked that has been promised
    /// under it.
    pub fn goes_by(&self, electorate_digest: u64) -> bool {
        self.electorate_digest.load(Ordering::Acquire) == electorate_digest
    }

    /// Takes back what was promised of a slot. Call it under the slot's lock.
    pub fn withdraw(&self, slot: Slot, now: Hlc) {
        if !self.is_free(slot) {
            self.promise(slot, Holder::WITHDRAWN, now);
        }
    }

    /// The stamp that writes of the next holder will have to exceed.
    pub fn floor(&self, slot: Slot, now: Hlc) -> Hlc {
        self.with_lease(slot, |promise, lease| promise.floor_after(lease.as_deref(), now))
    }

    /// True when `holder` may make strict writes to the slot here. Holds for as long as the slot is locked.
    pub fn accepts(&self, slot: Slot, holder: Holder) -> bool {
        self.promises.get(slot.index()).is_some_and(|promise| promise.lock().holder == holder)
    }

    /// True when this node has promised the slot to itself.
    pub fn is_own(&self, slot: Slot) -> bool {
        self.accepts(slot, Holder::SELF)
    }

    /// True when the slot was never promised to anybody.
    pub fn is_free(&self, slot: Slot) -> bool {
        self.accepts(slot, Holder::NOBODY)
    }

    fn with_lease<T>(&self, slot: Slot, act: impl FnOnce(&mut Promise, Option<&mut Lease>) -> T) -> T {
        let mut out_of_range = Promise::default();
        let mut locked = self.promises.get(slot.index()).map(Mutex::lock);
        let promise = locked.as_deref_mut().unwrap_or(&mut out_of_range);
        let mut candidates = self.candidates.lock();
        let lease = place(promise.holder).and_then(|at| candidates.get_mut(at)).map(|it| &mut it.lease);
        act(promise, lease)
    }

    /// Begins a new tenure of a slot: nothing is settled.
    pub fn unsettle(&self, slot: Slot) {
        let Some(tenure) = self.tenures.get(slot.index()) else { return };
        let next = |old: u32| Some((old | 1).wrapping_add(2));
        if tenure.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok_and(|old| old & 1 == 0) {
            self.unsettled.fetch_add(1, Ordering::AcqRel);
        }
        self.unsettlings.fetch_add(1, Ordering::Release);
    }

    /// A number that moves whenever a slot is unsettled: what was found settled, or confirmed, before may be so no
    /// more.
    #[inline]
    pub fn unsettlings(&self) -> u64 {
        self.unsettlings.load(Ordering::Acquire)
    }

    /// Settles a slot whose tenure is still this one.
    pub fn settle(&self, slot: Slot, tenure: u32) -> bool {
        let Some(word) = self.tenures.get(slot.index()) else { return false };
        let done = word.compare_exchange(tenure | 1, tenure & !1, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if done && self.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.confirms.lock().clear();
        }
        done
    }

    /// The tenure of a slot that is not settled.
    #[inline]
    pub fn unsettled_tenure(&self, slot: Slot) -> Option<u32> {
        let tenure = self.tenures.get(slot.index())?.load(Ordering::Acquire);
        (tenure & 1 == 1).then_some(tenure)
    }

    /// True when some slot is not settled: a cheap look before any other.
    #[inline]
    pub fn has_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) != 0
    }

    /// How many slots are not settled.
    pub fn unsettled_count(&self) -> usize {
        self.unsettled.load(Ordering::Acquire)
    }

    /// Every slot that is not settled, with its tenure.
    pub fn unsettled_slots(&self) -> impl Iterator<Item = (Slot, u32)> + '_ {
        Slot::all().filter_map(|slot| self.unsettled_tenure(slot).map(|tenure| (slot, tenure)))
    }

    /// Has settling go on at this slot: somebody waits for it, and then for those behind it.
    pub fn seek(&self, slot: Slot) {
        self.sought.store(u32::from(slot.number()) + 1, Ordering::Relaxed);
    }

    /// The slot that was sought last, once.
    pub fn take_sought(&self) -> Option<Slot> {
        let number = self.sought.swap(0, Ordering::Relaxed).checked_sub(1)?;
        Slot::new(u16::try_from(number).ok()?)
    }

    /// Slots that this node has promised to itself.
    pub fn own_count(&self) -> usize {
        Slot::all().filter(|slot| self.is_own(*slot)).count()
    }

    /// Works on the confirmations of keys.
    pub fn with_confirms<T>(&self, act: impl FnOnce(&mut HashMap<ConfirmKey, Confirm>) -> T) -> T {
        act(&mut self.confirms.lock())
    }

    /// Notes that a strict request came.
    pub fn want(&self, now_ms: u64) {
        // Looked at before it is written, so that workers do not fight over the line.
        if self.wanted_ms.load(Ordering::Relaxed) + WANTED_MS / 4 < now_ms {
            self.wanted_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// True while strict requests come.
    pub fn is_wanted(&self, now_ms: u64) -> bool {
        now_ms < self.wanted_ms.load(Ordering::Relaxed) + WANTED_MS
    }
}

/// A peer's place among the candidates.
fn place(holder: Holder) -> Option<usize> {
    usize::from(holder.0).checked_sub(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 20])
    }

    #[test]
    fn a_slot_is_settled_only_in_the_tenure_that_was_compared() {
        let (ballots, slot) = (Ballots::new(Hlc(0)), Slot::all().next().expect("a slot"));
        assert!(!ballots.has_unsettled());
        ballots.unsettle(slot);
        let first = ballots.unsettled_tenure(slot).expect("unsettled");
        ballots.unsettle(slot);
        assert!(!ballots.settle(slot, first) && ballots.unsettled_count() == 1);
        let second = ballots.unsettled_tenure(slot).expect("unsettled");
        assert!(ballots.settle(slot, second) && !ballots.has_unsettled());
        ballots.unsettle(slot);
        assert_ne!(ballots.unsettled_tenure(slot), Some(second));
    }

    #[test]
    fn a_promise_to_one_fences_the_other_until_it_begins_afresh() {
        let (ballots, slot) = (Ballots::new(Hlc(0)), Slot::all().next().expect("a slot"));
        let (a, _) = ballots.connect(node(3), Actor(3), 0).expect("room");
        let (b, _) = ballots.connect(node(4), Actor(4), 0).expect("room");
        let later = |by: u64| Hlc::at_ms(SKEW_MS_MAX + by);
        assert_ne!(a, b);
        assert!(ballots.is_free(slot) && ballots.renew(a, later(10), true));
        assert_eq!(ballots.promise(slot, a, Hlc(1)), later(0), "what an earlier life may have allowed");
        assert!(ballots.accepts(slot, a) && !ballots.accepts(slot, b));
        assert_eq!(ballots.promise(slot, b, Hlc(1)), later(10));
        assert!(!ballots.renew(a, later(20), false) && ballots.renew(b, later(30), false));
        assert_eq!(ballots.promise(slot, Holder::SELF, Hlc(2)), later(30));
        assert!(ballots.is_own(slot) && ballots.renew(a, later(40), true));
    }

    #[test]
    fn lives_that_hold_no_promise_any_more_leave_their_places_to_the_next() {
        let (ballots, slot) = (Ballots::new(Hlc(0)), Slot::all().next().expect("a slot"));
        let mut lives = (0..50).map(|life| ballots.connect(node(3), Actor(life), 0));
        let (first, connection) = lives.next().flatten().expect("room");
        assert!(lives.all(|it| it.is_some_and(|(holder, _)| holder == first)), "one place is enough");
        assert!(!ballots.is_connected(first, connection), "what is left of an earlier life ends");
        ballots.promise(slot, first, Hlc(1));
        let (next, _) = ballots.connect(node(3), Actor(7), 0).expect("room");
        assert!(next != first && ballots.accepts(slot, first), "a promise keeps its place");
        let (other, _) = ballots.connect(node(4), Actor(8), 0).expect("room");
        assert!(other != first && other != next, "nor is another node's taken");
        ballots.promise(slot, next, Hlc(2));
        assert_eq!(ballots.connect(node(3), Actor(9), 0).map(|(holder, _)| holder), Some(first));
    }

    #[test]
    fn only_the_latest_connection_of_a_lane_counts() {
        let ballots = Ballots::new(Hlc(0));
        let (holder, first) = ballots.connect(node(3), Actor(3), 1).expect("room");
        let (same, second) = ballots.connect(node(3), Actor(3), 1).expect("room");
        assert_eq!(holder, same);
        assert!(!ballots.is_connected(holder, first) && ballots.is_connected(holder, second));
    }
}
