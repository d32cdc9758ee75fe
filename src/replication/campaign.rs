//! Asking for promises: what a coordinator does, again and again, while strict requests come.
//!
//! First it promises its slots to itself, then it asks the other home replicas, those to come included: all slots of a
//! lane in one question, and one question a lane at a time. A question also prolongs the lease, so it is asked every
//! few moments even when nothing is left to gain. A replica that has fenced this node makes it begin afresh.
//!
//! Nobody is asked that does not matter: while no strict request comes, nothing is sent and nothing is promised.

use std::sync::Arc;

use crate::base::clock::{Hlc, SKEW_MS_MAX};
use crate::base::ids::Slot;
use crate::base::metrics::Count;
use crate::peer::ballot::{Declined, PromiseAnswer, PromiseRequest};
use crate::peer::frame::Kind;
use crate::peer::granted::SoughtPromises;
use crate::peer::lane::lane_index;
use crate::peer::registry::Peer;
use crate::replication::ballot::Holder;
use crate::replication::coordinator::Coordinator;
use crate::replication::view::View;

/// How far beyond its clock a coordinator asks to be allowed to stamp, in milliseconds.
pub const LEASE_MS: u64 = 250;
/// The same beyond the time of day, which a clock may run ahead of; less than what counts as skew.
pub const LEASE_AHEAD_MS_MAX: u64 = SKEW_MS_MAX - 50;

impl Coordinator {
    /// Promises to itself the slots that this node coordinates, as far as `is_whole` says that it may, and asks for
    /// what it lacks.
    pub fn campaign(&self, view: &View, is_whole: &dyn Fn(Slot) -> bool) {
        let now_ms = self.store.clock.now_ms();
        if view.is_solo {
            return;
        }
        let is_mine = |slot: &Slot| view.is_coordinator(*slot) && view.roles.of(*slot).is_some_and(|it| it.is_home);
        let mine: Vec<Slot> = Slot::all().filter(is_mine).collect();
        for slot in &mine {
            if !self.ballots.is_own(*slot) && is_whole(*slot) {
                self.promise_to_self(view, *slot, now_ms);
            }
        }
        let own: Vec<Slot> = mine.into_iter().filter(|slot| self.ballots.is_own(*slot)).collect();
        for (at, peer) in view.peers.iter().enumerate() {
            let Some(peer) = peer else { continue };
            let concerns = |slot: &Slot| {
                let roles = view.roles.of(*slot);
                roles.is_some_and(|it| it.voters.iter().any(|place| usize::from(*place) == at))
            };
            let wanted: Vec<Slot> = own.iter().copied().filter(concerns).collect();
            if !wanted.is_empty() {
                self.ask(view, peer, &wanted, now_ms);
            }
        }
    }

    fn promise_to_self(&self, view: &View, slot: Slot, now_ms: u64) {
        let _locked = self.store.table(slot);
        let now = self.store.clock.latest(now_ms);
        if self.ballots.goes_by(view.electorate_digest)
            && self.store.clock.observe(self.ballots.floor(slot, now), now_ms).is_ok()
        {
            self.ballots.promise(slot, Holder::SELF, now);
            self.ballots.unsettle(slot);
            self.metrics.count(Count::PromisesGiven, 1);
        }
    }

    fn ask(&self, view: &View, peer: &Arc<Peer>, wanted: &[Slot], now_ms: u64) {
        let ahead = self.store.clock.latest(now_ms).ms().saturating_add(LEASE_MS);
        let until = Hlc::at_ms(ahead.min(now_ms + LEASE_AHEAD_MS_MAX));
        let count = peer.lanes.len();
        for (at, lane) in peer.lanes.iter().enumerate().filter(|(_, lane)| lane.is_open()) {
            let lacking = |slot: &Slot| lane_index(*slot, count) == at && !peer.granted.has(*slot);
            let slots: Vec<Slot> = wanted.iter().copied().filter(lacking).collect();
            let electorate_digest = view.electorate_digest;
            peer.granted.ask(at, SoughtPromises { until, electorate_digest, slots }, |question, is_fresh| {
                let slots = question.slots.clone();
                let request = PromiseRequest { is_fresh, until, electorate_digest, slots };
                lane.append(Kind::Promise, |out| request.put(out))
            });
            lane.flush();
        }
    }

    /// Takes in what a replica has promised.
    pub(super) fn promised(&self, peer: &Peer, lane: usize, base: u64, answer: &PromiseAnswer, now_ms: u64) {
        let Some(question) = peer.granted.answered(lane, base.saturating_add(answer.number)) else { return };
        if !answer.granted {
            peer.granted.reset(lane);
            self.metrics.count(Count::PromisesRefused, 1);
            return;
        }
        self.metrics.count(Count::PromisesRefused, answer.refused.len() as u64);
        // Writes to what was promised now must be stamped later than those before: if the clock cannot follow, ask
        // again.
        if self.store.clock.observe(answer.floor, now_ms).is_err() {
            self.metrics.count(Count::ClockRefusals, 1);
            return;
        }
        let mut refused = answer.refused.iter().peekable();
        for slot in question.slots {
            if refused.next_if(|refused| **refused == slot).is_some() {
                continue;
            }
            let _locked = self.store.table(slot);
            if !self.ballots.goes_by(question.electorate_digest) {
                return;
            }
            peer.granted.note(slot);
            self.ballots.unsettle(slot);
        }
    }

    /// Takes in that a replica did not do something.
    pub(super) fn declined(&self, peer: &Peer, lane: usize, base: u64, declined: &Declined) {
        let Some(own) = peer.lanes.get(lane) else { return };
        let number = base.saturating_add(declined.number);
        if declined.kind == Kind::StrictDelta {
            // Before the lane takes it for dealt with: in between nobody would know that the peer may be behind.
            peer.lacks.note_declined();
        }
        own.decline(number);
        match declined.kind {
            Kind::StrictVerify => {
                own.note_mismatch(number);
                peer.granted.forget(declined.slot);
            }
            Kind::StrictDelta => peer.granted.forget(declined.slot),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::test_support::{coordinator, view_of};

    #[test]
    fn a_replica_that_has_declined_a_write_may_lack_it() {
        let (coordinator, view) = (coordinator(), view_of(true));
        let (slot, peer) = (Slot::all().next().expect("a slot"), view.peer(1).expect("a peer"));
        let decline = |kind| coordinator.declined(peer, 0, 0, &Declined { number: 1, kind, slot });
        decline(Kind::StrictVerify);
        decline(Kind::Digest);
        assert!(!peer.lacks.may_lack(1), "it lacks nothing that it was not sent");
        decline(Kind::StrictDelta);
        assert!(peer.lacks.may_lack(1));
    }
}
