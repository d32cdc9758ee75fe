//! The order of a connection's requests: they take effect on a slot in the order in which they were sent.
//!
//! Requests that have run cannot be overtaken. But one that another node was asked for, or that was put off until enough
//! replicas answer, may be asked for again later; if the requests behind it ran meanwhile, its client would see its own
//! commands change places. So each batch notes the slots of such requests here, and a request that touches one of them
//! waits, with all that come behind it, until the batches before it are over. Requests that only read wait for no others
//! of that kind.
//!
//! What a batch leaves to one node goes there on one link and is run there in its order, so that it needs no waiting; if
//! that node leaves one request out, it leaves out those behind it on the same slot as well, by the same rule.
//!
//! Bounded by what a connection may have with other nodes.

use crate::base::ids::Slot;

/// A slot that a request touches whose outcome is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Open {
    slot: Slot,
    writes: bool,
}

/// What of a batch, and of the batches before it, is open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Order {
    before: Vec<Open>,
    own: Vec<Open>,
    /// Not all of `own` goes the same way, so that a request may not simply join it.
    parts: bool,
}

impl Order {
    /// The order of a batch that comes behind these.
    pub fn behind<'b>(others: impl Iterator<Item = &'b Order>) -> Order {
        Order { before: others.flat_map(|other| &other.own).copied().collect(), ..Order::default() }
    }

    /// True when a request on these slots has to wait for what is open.
    #[inline]
    pub fn blocks(&self, slots: &[Slot], writes: bool) -> bool {
        let meets = |open: &Open| (open.writes || writes) && slots.contains(&open.slot);
        !self.before.is_empty() && self.before.iter().any(meets) || self.parts && self.own.iter().any(meets)
    }

    /// Notes that the outcome of a request on these slots is open.
    pub fn leave_open(&mut self, slots: &[Slot], writes: bool) {
        self.own.extend(slots.iter().map(|slot| Open { slot: *slot, writes }));
    }

    /// From now on no request may join those that are open.
    pub fn part(&mut self) {
        self.parts = true;
    }

    /// Takes over what another batch has left open.
    pub fn join(&mut self, other: &Order) {
        self.own.extend_from_slice(&other.own);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.before.clear();
        self.own.clear();
        self.parts = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::slot_of;

    #[test]
    fn a_request_waits_for_what_is_open_on_its_slot_before_it() {
        let (a, b) = ([slot_of(b"a")], [slot_of(b"b")]);
        let mut first = Order::default();
        first.leave_open(&a, true);
        assert!(!first.blocks(&a, true), "it goes the same way");
        let mut second = Order::behind([&first].into_iter());
        assert!(second.blocks(&a, false) && second.blocks(&[b[0], a[0]], true) && !second.blocks(&b, true));
        second.leave_open(&b, true);
        let third = Order::behind([&second].into_iter());
        assert!(!third.blocks(&a, true) && third.blocks(&b, true));
        second.clear();
        assert_eq!(second, Order::default());
    }

    #[test]
    fn once_one_was_put_off_nothing_on_its_slot_overtakes_it_in_the_batch() {
        let (a, b) = ([slot_of(b"a")], [slot_of(b"b")]);
        let mut order = Order::default();
        order.leave_open(&a, true);
        order.part();
        assert!(order.blocks(&a, true) && order.blocks(&a, false) && !order.blocks(&b, true));
    }

    #[test]
    fn reads_do_not_wait_for_reads() {
        let a = [slot_of(b"a")];
        let mut order = Order::default();
        order.leave_open(&a, false);
        order.part();
        assert!(order.blocks(&a, true) && !order.blocks(&a, false));
    }
}
