//! A number that several nodes may add to at once without losing an addition.
//!
//! The value is a base, set by some write, plus one sum per actor that has added since (a PN-counter on a register;
//! Shapiro et al., "A comprehensive study of CRDTs", 2011). An actor only ever changes its own sum, so merging two
//! states takes each actor's later sum. A base set later replaces an earlier one together with its sums, but for those
//! that were begun later still, by who did not know of it: no addition is lost to what is older than it.
//!
//! Arithmetic wraps at 64 bits. A coordinator refuses an addition that would overflow what it sees, so a total leaves
//! the range only when both sides of a partition nearly fill it.

use std::cmp::Ordering;

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::version::{ActorTable, Dot};

/// One actor's additions since the base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addend {
    /// The actor, and the stamp of its last addition.
    pub dot: Dot,
    /// The sum of its additions.
    pub sum: i64,
    /// The stamp of the first of them. Not known of a hash's field, where it is zero.
    pub since: Hlc,
}

impl Addend {
    /// Whether it was begun after a base was set. At the same stamp it was not, whoever gave that: the base may be a
    /// clear, which takes away all up to its stamp.
    fn outlives(&self, base_dot: Dot) -> bool {
        self.since > base_dot.hlc
    }
}

/// A base and the addends added to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counter {
    /// The value when the base was set; 0 for a key that did not exist.
    pub base: i64,
    /// The write that set the base; the zero dot for a key that did not exist.
    pub base_dot: Dot,
    /// At most one addend an actor, in no order.
    pub addends: SmallVec<[Addend; 1]>,
}

impl Counter {
    /// A counter that nobody has added to.
    pub fn on_base(base: i64, base_dot: Dot) -> Counter {
        Counter { base, base_dot, addends: SmallVec::new() }
    }

    /// The same, based on the number that a text is; only numbers get this far.
    pub fn on_text(text: &[u8], base_dot: Dot) -> Counter {
        let base = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        Counter::on_base(base, base_dot)
    }

    /// The value.
    pub fn total(&self) -> i64 {
        self.addends.iter().fold(self.base, |total, addend| total.wrapping_add(addend.sum))
    }

    /// Adds `by` to the addend of the dot's actor.
    pub fn add(&mut self, dot: Dot, by: i64) {
        match self.addends.iter_mut().find(|addend| addend.dot.actor == dot.actor) {
            Some(addend) => *addend = Addend { dot, sum: addend.sum.wrapping_add(by), ..*addend },
            None => self.addends.push(Addend { dot, sum: by, since: dot.hlc }),
        }
    }

    /// Takes in another replica's state: the later base with its addends, each actor's later addend, and of those on an
    /// earlier base what outlives it.
    pub fn merge(&mut self, other: &Counter, actors: &ActorTable) {
        match actors.compare(self.base_dot, other.base_dot) {
            Ordering::Less => {
                let ours = std::mem::replace(self, other.clone());
                self.take_in(ours.outliving(self.base_dot));
            }
            Ordering::Greater => self.take_in(other.outliving(self.base_dot)),
            Ordering::Equal => self.take_in(other.addends.iter().copied()),
        }
    }

    /// Its addends that were begun after another base was set.
    pub fn outliving(&self, base_dot: Dot) -> impl Iterator<Item = Addend> {
        self.addends.iter().filter(move |addend| addend.outlives(base_dot)).copied()
    }

    /// Takes in each actor's later addend.
    pub fn take_in(&mut self, addends: impl Iterator<Item = Addend>) {
        for theirs in addends {
            match self.addends.iter_mut().find(|addend| addend.dot.actor == theirs.dot.actor) {
                Some(ours) if ours.dot.hlc < theirs.dot.hlc => *ours = theirs,
                Some(_) => {}
                None => self.addends.push(theirs),
            }
        }
    }
}
