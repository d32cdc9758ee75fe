//! Slot ballots: the rules by which at most one node makes strict writes to a slot, whatever is cut off, paused or
//! lost.
//!
//! Every home replica keeps a [`Promise`] a slot: who alone may make strict writes to it here. A coordinator that holds
//! the promises of a majority of the slot's home replicas, its own among them, may run strict commands; what it writes
//! is acknowledged when a majority that has promised to it holds it, and a replica that has promised elsewhere
//! declines. A replica promises a slot to whom its own view of the cluster names coordinator, so two that try at the
//! same time do not take the slot from each other for ever.
//!
//! There are no rounds, as in Paxos, because three other rules do their work:
//! - promises, writes and reads of a slot travel to a replica on one first-in-first-out lane, of which one connection
//!   lives at a time, and a strict write goes only to replicas whose promise was there when the write was let in;
//! - with every promise that a coordinator gains, the slot is *unsettled* again: what it holds of a key counts only
//!   when a majority that has promised confirms it (`settle`);
//! - one slot's lock covers letting a command in, running it, and sending what it writes.
//!
//! *Why no two strict writes miss each other.* Let w and v be acknowledged, by different holders, and q a replica that
//! accepted both, v first. The author of w was promised q after that, and settled after that promise, with a majority;
//! some q' of it also accepted v. Had q' accepted v later than it confirmed to w's author, it would have been promised
//! to v's author anew in between, and v would have been let in before that: then v reached q' on the same lane before
//! that promise was asked for, while the holder was w's author, and was declined. So q' confirmed a state that has v in
//! it.
//!
//! *Stamps.* A coordinator that was deposed without knowing it still writes to its own copy, and later that copy is
//! merged like any other. So that it never wins over an acknowledged write, a holder stamps strict writes only up to
//! the [`Lease`] that a majority has let it have; a replica that promises the slot to another tells that one the lease
//! of the holder before, and the new holder stamps later than that ([`Promise::give`]). Time makes leases useful; that
//! they are kept does not rest on it.
//!
//! A replica that has lost its memory promises nothing before it has fetched its slots from all its other home replicas
//! (`cluster::whole`): whoever counts on what it accepted is among them.
//!
//! *While the ring changes* a slot has several [`Electorate`]s: its home replicas under each ring that somebody may go
//! by (`ring::steps`). A coordinator needs the promise of a majority of each, and what it writes is acknowledged when a
//! majority of each holds it. A replica promises only to who goes by the same rows (`Rows::configuration`), and when it
//! goes by others it withdraws its promises, before it tells anybody that it does. So of two strict writes one of which
//! was made under an earlier ring, what is said above holds with q and q' taken from a ring that both authors thought
//! possible; and it is enough that a coordinator settles with a majority of today's ring, because every earlier author
//! thought that one possible, too. Who is only about to be a home replica may promise before it holds what was written:
//! nobody settles with it, and it does not become one before it has fetched what a majority of the earlier ones held
//! after they had withdrawn their promises. Should it lose its memory before, all withdraw theirs once more, because it
//! has another life.
//!
//! Knows no lock, no clock and no lane: `ballots` keeps these, `campaign` asks for them.

use crate::base::clock::Hlc;
use crate::ring::steps::majority;

/// Whom a replica may promise a slot: nobody, itself, or one lane of a peer's present life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Holder(pub u16);

impl Holder {
    /// Nobody.
    pub const NOBODY: Holder = Holder(0);
    /// The replica itself.
    pub const SELF: Holder = Holder(1);
    /// Nobody any more: what was promised was withdrawn.
    pub const WITHDRAWN: Holder = Holder(u16::MAX);
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

/// A slot's home replicas under one ring, seen from one of the nodes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Electorate {
    /// Those other than this node, by their places in the view.
    pub others: Vec<u16>,
    /// This node is one, too.
    pub has_me: bool,
}

impl Electorate {
    /// How many others are needed beside this node: to be `quorum`, as far as there are so many, and a majority at
    /// least.
    pub fn needed(&self, quorum: usize) -> usize {
        let size = self.others.len() + usize::from(self.has_me);
        quorum.min(size).max(majority(size)) - usize::from(self.has_me)
    }
}

/// The latest stamp that a holder may use for a strict write, given the leases of those whose promise it has; `None`
/// when it and they are no majority of each electorate, or there is none.
pub fn window(electorates: &[Electorate], lease: impl Fn(u16) -> Option<Hlc>) -> Option<Hlc> {
    electorates.iter().map(|electorate| window_of(electorate, &lease)).min().flatten()
}

fn window_of(electorate: &Electorate, lease: impl Fn(u16) -> Option<Hlc>) -> Option<Hlc> {
    let mut leases: smallvec::SmallVec<[Hlc; 8]> = electorate.others.iter().filter_map(|at| lease(*at)).collect();
    leases.sort_unstable_by(|a, b| b.cmp(a));
    match electorate.needed(1).checked_sub(1) {
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
        let with_me = |others: u16| Electorate { others: (0..others).collect(), has_me: true };
        let window_of = |others, leases: &[u64]| {
            window(&[with_me(others)], |at| leases.get(usize::from(at)).map(|lease| Hlc(*lease)))
        };
        assert_eq!(window_of(0, &[]), Some(Hlc(u64::MAX)));
        assert_eq!(window_of(1, &[]), None);
        assert_eq!(window_of(2, &[7]), Some(Hlc(7)));
        assert_eq!(window_of(2, &[7, 9]), Some(Hlc(9)));
        assert_eq!(window_of(4, &[7]), None);
        assert_eq!(window_of(4, &[7, 9, 8]), Some(Hlc(8)));
    }

    #[test]
    fn while_the_ring_changes_a_majority_of_each_electorate_is_needed() {
        let old = Electorate { others: vec![1, 2], has_me: true };
        let new = Electorate { others: vec![2, 3, 4], has_me: false };
        let promised = |by: &'static [u16]| move |at: u16| by.contains(&at).then(|| Hlc(10 * u64::from(at)));
        let both = [old, new];
        assert_eq!(window(&both, promised(&[1])), None, "no majority of those to come");
        assert_eq!(window(&both, promised(&[3, 4])), None, "no majority of today's");
        assert_eq!(window(&both, promised(&[2, 3])), Some(Hlc(20)));
        assert_eq!(window(&both, promised(&[1, 3, 4])), Some(Hlc(10)));
        assert_eq!(window(&[], promised(&[1, 2, 3, 4])), None);
        assert_eq!((both[0].needed(3), both[1].needed(1), both[1].needed(9)), (2, 2, 3));
    }
}
