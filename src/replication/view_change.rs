//! A change of view: what it means for promises and for what is settled, before anybody goes by it.
//!
//! Promises belong to the rings that they were given under (`ballot`): a slot whose electorates are others now is
//! promised to nobody any more, and what others have promised here is asked for again. When that is done the node goes
//! by the new rings, and may say so.
//!
//! A slot that this node coordinates no longer need not be settled any more, but batches that began by the view
//! before may still run commands on it: it counts as settled only when all workers have passed on to the new one
//! ([`Coordinator::leave`]).

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::ids::{NodeId, Slot};
use crate::peer::registry::Peer;
use crate::replication::coordinator::Coordinator;
use crate::replication::routing::SlotRoles;
use crate::replication::view::View;

impl Coordinator {
    /// Prepares for a new view: withdraws promises given under other rings; what this node begins to coordinate is
    /// not settled, and neither is what it coordinates together with somebody who is back and may have coordinated it
    /// meanwhile. Gives the slots that are to be left, with their tenures.
    pub fn change_view(&self, before: &View, view: &View) -> Vec<(Slot, u32)> {
        if before.electorate_digest != view.electorate_digest {
            self.withdraw(before, view);
        }
        let missing = |view: &View| -> Vec<NodeId> {
            view.roles.distinct.iter().flat_map(|roles| view.peers_at(&roles.missing)).map(|peer| peer.id).collect()
        };
        let (gone_before, gone) = (missing(before), missing(view));
        let is_back =
            |at: &u16| view.peer(*at).is_some_and(|peer| gone_before.contains(&peer.id) && !gone.contains(&peer.id));
        let mut left = Vec::new();
        for slot in Slot::all() {
            let roles = view.roles.of(slot).filter(|_| !view.is_solo && view.is_coordinator(slot));
            match (roles, self.ballots.unsettled_tenure(slot)) {
                (Some(roles), _) if !before.is_coordinator(slot) || roles.homes().iter().any(is_back) => {
                    self.ballots.unsettle(slot);
                }
                (None, Some(tenure)) => left.push((slot, tenure)),
                _ => {}
            }
        }
        left
    }

    /// Settles slots that are not this node's to settle, once nobody goes by a view any more in which they were.
    /// Those that it has begun to coordinate again meanwhile have another tenure.
    pub fn leave(&self, left: &[(Slot, u32)]) {
        for (slot, tenure) in left {
            self.ballots.settle(*slot, *tenure);
        }
    }

    fn withdraw(&self, before: &View, view: &View) {
        // First: whoever promises a slot, or notes a promise, looks at this with the slot locked.
        self.ballots.go_by(view.electorate_digest);
        let is_in_view = |peer: &Arc<Peer>| view.peers.iter().flatten().any(|it| Arc::ptr_eq(it, peer));
        let gone: Vec<&Arc<Peer>> = before.peers.iter().flatten().filter(|peer| !is_in_view(peer)).collect();
        let peers = || view.peers.iter().flatten().chain(gone.iter().copied());
        // What was asked by the rings before is not noted any more, and all is asked for afresh: so no slot may count
        // as granted (`Lease::is_fenced`).
        peers().for_each(|peer| (0..peer.lanes.len()).for_each(|lane| peer.granted.reset(lane)));
        let now = self.store.clock.latest(self.store.clock.now_ms());
        let all_live_on = !before.is_moving && !view.is_moving || live_on(before, view);
        let mut known: HashMap<(u16, u16), bool> = HashMap::new();
        for slot in Slot::all() {
            let numbers = (before.roles.number_of(slot), view.roles.number_of(slot));
            let is_same = *known.entry(numbers).or_insert_with(|| electorates(before, slot) == electorates(view, slot));
            // Under its lock, behind whoever has looked just before us and noted a promise behind the reset.
            let _locked = self.store.table(slot);
            peers().for_each(|peer| peer.granted.forget(slot));
            if !is_same || !all_live_on {
                self.ballots.withdraw(slot, now);
            }
        }
    }
}

/// True when nobody of both views has begun another life.
fn live_on(before: &View, view: &View) -> bool {
    let is_other =
        |(id, generation): &(NodeId, u64)| view.ids.iter().any(|(known, now)| known == id && now != generation);
    !before.ids.iter().any(is_other)
}

/// The electorates of a slot, whatever places their members have.
fn electorates(view: &View, slot: Slot) -> Vec<Vec<Option<NodeId>>> {
    let ids = |roles: &SlotRoles| -> Vec<Vec<Option<NodeId>>> {
        let with_me = |has_me: bool| has_me.then_some(view.me);
        let members = roles.electorates.iter().map(|it| it.others.iter().copied().chain(with_me(it.has_me)));
        members
            .map(|places| {
                let mut ids: Vec<_> = places.map(|at| view.ids.get(usize::from(at)).map(|(id, _)| *id)).collect();
                ids.sort_unstable();
                ids
            })
            .collect()
    };
    view.roles.of(slot).map(ids).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::test_support::{coordinator, view_of};

    /// A batch that began by the view before goes on, and must find that what it builds on is not settled.
    #[test]
    fn a_slot_that_is_left_is_not_settled_before_all_workers_have_the_new_picture() {
        let (coordinator, [mine, others]) = (coordinator(), [true, false].map(view_of));
        let slot = Slot::all().find(|slot| mine.is_coordinator(*slot)).expect("a slot");
        assert_eq!(coordinator.change_view(&others, &mine), []);
        let tenure = coordinator.ballots.unsettled_tenure(slot).expect("it begins to coordinate");
        let left = coordinator.change_view(&mine, &others);
        assert!(left.contains(&(slot, tenure)) && coordinator.ballots.unsettled_tenure(slot) == Some(tenure));
        coordinator.leave(&left);
        assert_eq!(coordinator.ballots.unsettled_count(), 0);
    }

    /// Who has found just before that the rings are those of its question.
    #[test]
    fn a_promise_that_is_noted_while_the_rings_change_counts_no_more() {
        let (coordinator, before) = (coordinator(), view_of(true));
        let view = View { electorate_digest: 7, ..view_of(true) };
        let peer = before.peer(1).expect("a peer");
        let (slot, last) = (Slot::all().next().expect("a slot"), Slot::all().last().expect("a slot"));
        peer.granted.note(last);
        let locked = coordinator.store.table(slot);
        assert!(coordinator.ballots.goes_by(before.electorate_digest));
        std::thread::scope(|threads| {
            threads.spawn(|| coordinator.change_view(&before, &view));
            while peer.granted.has(last) {
                std::thread::yield_now();
            }
            peer.granted.note(slot);
            drop(locked);
        });
        assert!(coordinator.ballots.goes_by(7) && !peer.granted.has(slot));
    }

    #[test]
    fn a_slot_that_is_left_and_taken_again_stays_unsettled() {
        let (coordinator, [mine, others]) = (coordinator(), [true, false].map(view_of));
        coordinator.change_view(&others, &mine);
        let left = coordinator.change_view(&mine, &others);
        coordinator.change_view(&others, &mine);
        coordinator.leave(&left);
        let coordinated = Slot::all().filter(|slot| mine.is_coordinator(*slot)).count();
        assert_eq!(coordinator.ballots.unsettled_count(), coordinated);
    }
}
