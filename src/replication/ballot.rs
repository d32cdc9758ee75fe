//! Slot ballots: the rules by which at most one node makes strict writes to a slot, whatever is cut off, paused or lost.
//!
//! Every home replica keeps a [`Promise`] a slot: who alone may make strict writes to it here. A coordinator that holds
//! the promises of a majority of the slot's home replicas, its own among them, may run strict commands; what it writes
//! is acknowledged when a majority that has promised to it holds it, and a replica that has promised elsewhere declines.
//! A replica promises a slot to whom its own picture of the cluster names coordinator, so two that try at the same time
//! do not take the slot from each other for ever.
//!
//! There are no rounds, as in Paxos, because three other rules do their work:
//! - promises, writes and reads of a slot travel to a replica on one first-in-first-out lane, of which one connection
//!   lives at a time, and a strict write goes only to replicas whose promise was there when the write was let in;
//! - with every promise that a coordinator gains, the slot is *unsettled* again: what it holds of a key counts only when a
//!   majority that has promised confirms it (`settle`);
//! - one slot's lock covers letting a command in, running it, and sending what it writes.
//!
//! *Why no two strict writes miss each other.* Let w and v be acknowledged, by different holders, and q a replica that
//! accepted both, v first. The author of w was promised q after that, and settled after that promise, with a majority;
//! some q' of it also accepted v. Had q' accepted v later than it confirmed to w's author, it would have been promised to
//! v's author anew in between, and v would have been let in before that: then v reached q' on the same lane before that
//! promise was asked for, while the holder was w's author, and was declined. So q' confirmed a state that has v in it.
//!
//! *Stamps.* A coordinator that was deposed without knowing it still writes to its own copy, and later that copy is
//! merged like any other. So that it never wins over an acknowledged write, a holder stamps strict writes only up to the
//! [`Lease`] that a majority has let it have; a replica that promises the slot to another tells that one the lease of the
//! holder before, and the new holder stamps later than that ([`Promise::give`]). Time makes leases useful; that they are
//! kept does not rest on it.
//!
//! A replica that has lost its memory promises nothing before it has fetched its slots from all its other home replicas
//! (`cluster::whole`): whoever counts on what it accepted is among them.
//!
//! Knows no lock, no clock and no lane: `ballots` keeps these, `campaign` asks for them.

use crate::base::clock::Hlc;

/// Whom a replica may promise a slot: nobody, itself, or one lane of a peer's present life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Holder(pub u16);

impl Holder {
    /// Nobody.
    pub const NOBODY: Holder = Holder(0);
    /// The replica itself.
    pub const SELF: Holder = Holder(1);
}

/// What one replica has promised of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Promise {
    /// Who alone may make strict writes here.
    pub holder: Holder,
    /// No strict write of an earlier holder that a majority let it make is stamped later than this.
    pub floor: Hlc,
}

impl Promise {
    /// Promises the slot to `to` and gives the stamp that its writes have to exceed. `lease` is that of the present
    /// holder, which is fenced by this; `now` is this replica's own clock, which bounds its own stamps.
    pub fn give(&mut self, to: Holder, lease: Option<&mut Lease>, now: Hlc) -> Hlc {
        if self.holder != to {
            self.floor = self.floor_after(lease.as_deref(), now);
            if let Some(lease) = lease {
                lease.is_fenced = true;
            }
            self.holder = to;
        }
        self.floor
    }

    /// The floor that the next holder will be told.
    pub fn floor_after(&self, lease: Option<&Lease>, now: Hlc) -> Hlc {
        let last = match self.holder {
            Holder::NOBODY => Hlc(0),
            Holder::SELF => now,
            _ => lease.map_or(Hlc(0), |lease| lease.until),
        };
        self.floor.max(last)
    }
}

/// What a replica lets one holder do in all slots that it has promised to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lease {
    /// The latest stamp of a strict write. Only grows.
    pub until: Hlc,
    /// A slot was given to another since the holder last began afresh: what it believes it holds is out of date.
    pub is_fenced: bool,
}

impl Lease {
    /// Prolongs the lease, unless the holder is fenced and does not begin afresh, believing that it holds nothing here.
    pub fn renew(&mut self, until: Hlc, is_fresh: bool) -> bool {
        self.is_fenced &= !is_fresh;
        if !self.is_fenced {
            self.until = self.until.max(until);
        }
        !self.is_fenced
    }
}

/// How many of `replicas` are a majority.
pub fn majority(replicas: usize) -> usize {
    replicas / 2 + 1
}

/// The latest stamp that a holder may use for a strict write, given the leases of the other home replicas whose promise
/// it has; `None` when it and they are no majority.
pub fn window(replicas: usize, leases: impl IntoIterator<Item = Hlc>) -> Option<Hlc> {
    let needed = majority(replicas) - 1;
    let mut leases: smallvec::SmallVec<[Hlc; 8]> = leases.into_iter().collect();
    leases.sort_unstable_by(|a, b| b.cmp(a));
    match needed.checked_sub(1) {
        Some(last) => leases.get(last).copied(),
        None => Some(Hlc(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_holder_stamps_later_than_all_before_it_were_let() {
        let (a, b) = (Holder(2), Holder(3));
        let (mut promise, mut of_a, mut of_b) = (Promise::default(), Lease::default(), Lease::default());
        assert_eq!(promise.give(a, None, Hlc(5)), Hlc(0));
        assert!(of_a.renew(Hlc(40), false));
        assert_eq!(promise.give(a, Some(&mut of_a), Hlc(6)), Hlc(0), "it has it already");
        assert_eq!(promise.give(b, Some(&mut of_a), Hlc(7)), Hlc(40));
        assert!(!of_a.renew(Hlc(90), false), "fenced");
        assert_eq!(of_a.until, Hlc(40));
        assert!(of_b.renew(Hlc(30), false) && of_a.renew(Hlc(95), true), "afresh");
        assert_eq!(promise.give(Holder::SELF, Some(&mut of_b), Hlc(8)), Hlc(40), "also than those long before");
        assert_eq!(promise.give(a, None, Hlc(99)), Hlc(99));
    }

    #[test]
    fn a_window_is_what_a_majority_allows() {
        assert_eq!(window(1, []), Some(Hlc(u64::MAX)));
        assert_eq!(window(2, []), None);
        assert_eq!(window(3, [Hlc(7)]), Some(Hlc(7)));
        assert_eq!(window(3, [Hlc(7), Hlc(9)]), Some(Hlc(9)));
        assert_eq!(window(5, [Hlc(7)]), None);
        assert_eq!(window(5, [Hlc(7), Hlc(9), Hlc(8)]), Some(Hlc(8)));
    }
}
