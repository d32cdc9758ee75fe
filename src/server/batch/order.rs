//! The order of a connection's requests: they take effect on a slot in the order in which they were sent.
//!
//! Requests that have run cannot be overtaken. But one that another node was asked for, or that was put off until
//! enough replicas answer, may be asked for again later; if the requests behind it ran meanwhile, its client would see
//! its own commands change places. So each batch notes the slots of such requests here, and a request that touches one
//! of them waits, with all that come behind it, until the batches before it are over. Requests that only read wait for
//! no others of that kind.
//!
//! What a batch leaves to one node goes there in one question and is run there in its order, so that it needs no
//! waiting; if that node leaves one request out, it leaves out those behind it on the same slot as well, by the same
//! rule. Where the manner changes in which requests are to be run (their protocol, their database), another question
//! begins, of which that is not so.
//!
//! A slot is looked up at the same cost however many are open, so that a request with many keys costs what its keys
//! cost.
//!
//! Bounded by what a connection may have with other nodes.

use crate::base::ids::{SLOT_COUNT, Slot};

/// Slots up to which they are kept as a list; above it a bit each.
const FEW_MAX: usize = 64;
const WORD_BITS: usize = u64::BITS as usize;

/// A set of slots.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct SlotSet {
    few: Vec<Slot>,
    /// All of them, when they are not few.
    many: Option<Box<[u64; SLOT_COUNT / WORD_BITS]>>,
}

/// The slots of requests whose outcome is open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Open {
    read: SlotSet,
    written: SlotSet,
}

/// What of a batch, and of the batches before it, is open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Order {
    before: Open,
    own: Open,
    /// Not all of `own` goes the same way, so that a request may not simply join it.
    is_divided: bool,
}

impl Order {
    /// The order of a batch that comes behind these.
    pub fn behind<'b>(others: impl Iterator<Item = &'b Order>) -> Order {
        let mut order = Order::default();
        others.for_each(|other| order.before.join(&other.own));
        order
    }

    /// Whether a request of the batch that may write to a slot was left to others, or for later.
    pub fn has_left_write(&self, slot: Slot) -> bool {
        self.own.written.contains(slot)
    }

    /// True when a request on these slots has to wait for what is open.
    #[inline]
    pub fn blocks(&self, slots: &[Slot], writes: bool) -> bool {
        let meets = |open: &Open| !open.is_empty() && slots.iter().any(|slot| open.meets(*slot, writes));
        meets(&self.before) || self.is_divided && meets(&self.own)
    }

    /// Notes that the outcome of a request on these slots is open.
    pub fn leave_open(&mut self, slots: &[Slot], writes: bool) {
        let set = if writes { &mut self.own.written } else { &mut self.own.read };
        slots.iter().for_each(|slot| set.insert(*slot));
    }

    /// From now on no request may join those that are open.
    pub fn divide(&mut self) {
        self.is_divided = true;
    }

    /// Takes over what another batch has left open.
    pub fn join(&mut self, other: &Order) {
        self.own.join(&other.own);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.before.clear();
        self.own.clear();
        self.is_divided = false;
    }
}

impl Open {
    fn is_empty(&self) -> bool {
        self.read.is_empty() && self.written.is_empty()
    }

    /// Whether a request on this slot may not overtake what is open.
    fn meets(&self, slot: Slot, writes: bool) -> bool {
        self.written.contains(slot) || writes && self.read.contains(slot)
    }

    fn join(&mut self, other: &Open) {
        other.read.each(|slot| self.read.insert(slot));
        other.written.each(|slot| self.written.insert(slot));
    }

    fn clear(&mut self) {
        self.read.clear();
        self.written.clear();
    }
}

impl SlotSet {
    fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_none()
    }

    fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = place_of(slot);
        match &self.many {
            Some(words) => words.get(word).is_some_and(|word| word & bit != 0),
            None => self.few.contains(&slot),
        }
    }

    fn insert(&mut self, slot: Slot) {
        if self.many.is_none() && self.few.len() < FEW_MAX {
            self.few.push(slot);
            return;
        }
        let words = self.many.get_or_insert_with(|| Box::new([0; SLOT_COUNT / WORD_BITS]));
        for slot in self.few.drain(..).chain([slot]) {
            let (word, bit) = place_of(slot);
            if let Some(word) = words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn each(&self, visit: impl FnMut(Slot)) {
        match &self.many {
            Some(_) => Slot::all().filter(|slot| self.contains(*slot)).for_each(visit),
            None => self.few.iter().copied().for_each(visit),
        }
    }

    fn clear(&mut self) {
        self.few.clear();
        self.many = None;
    }
}

/// The word and the bit of a slot.
fn place_of(slot: Slot) -> (usize, u64) {
    (slot.index() / WORD_BITS, 1 << (slot.index() % WORD_BITS))
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
        assert!(first.has_left_write(a[0]) && !first.has_left_write(b[0]));
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
        order.divide();
        assert!(order.blocks(&a, true) && order.blocks(&a, false) && !order.blocks(&b, true));
    }

    #[test]
    fn reads_do_not_wait_for_reads() {
        let a = [slot_of(b"a")];
        let mut order = Order::default();
        order.leave_open(&a, false);
        order.divide();
        assert!(order.blocks(&a, true) && !order.blocks(&a, false));
    }

    #[test]
    fn slots_are_no_list_to_be_gone_through_when_they_are_many() {
        let all: Vec<Slot> = Slot::all().collect();
        let mut first = Order::default();
        (0..3).for_each(|_| first.leave_open(&all[1..], true));
        first.leave_open(&all[..1], false);
        let mut second = Order::behind([&first, &first].into_iter());
        second.join(&first);
        for open in [&first.own, &second.before, &second.own] {
            assert!(open.written.few.len() + open.read.few.len() <= 2 * FEW_MAX);
            assert!(all[1..].iter().all(|slot| open.meets(*slot, false)));
            assert!(open.meets(all[0], true) && !open.meets(all[0], false));
        }
        second.clear();
        assert_eq!(second, Order::default());
    }
}
