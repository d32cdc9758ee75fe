//! Which deadline a settled conflict has, and which write gave it.
//!
//! A string's goes with the string: of two the one that is kept says it. That of any other type is merged by itself, so
//! that neither an EXPIRE is lost to a later HSET, SADD or INCR of another coordinator, nor the other way round: of
//! two writes that gave a deadline the later holds. One that the other side has seen and no longer has went with a
//! deletion there, and does not come back.
//!
//! Beside a deletion that has not seen all, only what is left has a deadline to speak of. A number's that was given
//! after a later base was set, by who did not know of that, outlives it as additions do.

use crate::base::version::{ActorTable, Dot};
use crate::store::state::{Content, State};

/// A deadline with the write that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Date {
    /// In milliseconds since 1970; 0 for never.
    pub deadline_ms: u64,
    /// Nobody's where none was given.
    pub dot: Dot,
    /// Any other merge of the same writes comes to the same. What a deletion makes of a deadline depends on what was
    /// merged first.
    pub is_told: bool,
}

impl Date {
    /// The date of what is kept on a later base than it was given on, or beside a deletion. It depends on what was
    /// merged first: the base may have been merged before with what has no date, and the deletion may have seen what
    /// gave it.
    pub(super) fn outliving(of: &State, winner: &State) -> Date {
        let is_told = of.deadline_ms == 0 && winner.content == Content::Tombstone;
        Date { deadline_ms: of.deadline_ms, dot: if is_told { Dot::default() } else { of.dated() }, is_told }
    }

    /// The date of what two states were settled to: `content`, whose last write is `winner`'s.
    pub(super) fn settle(a: &State, b: &State, winner: &State, content: &Content, actors: &ActorTable) -> Date {
        let meets = Meets::of(a, b);
        let is_one_write = a.version.dot == b.version.dot;
        // Whose deadline holds, and whether one and the same write has given both: they may differ by what they were
        // merged with.
        let (holder, is_same) = match meets {
            Meets::Alike => (holder(a, b, actors), a.dated() == b.dated()),
            Meets::Deletion => ([a, b].into_iter().find(|state| state.is_collection()), is_one_write),
            // Registers on two bases may both name what was added to either.
            Meets::Other => (Some(winner), is_one_write && !is_on_two_bases(a, b)),
        };
        let deadline_ms = match holder {
            _ if *content == Content::Tombstone => 0,
            _ if is_same => longer(a.deadline_ms, b.deadline_ms),
            holder => holder.map_or(0, |state| state.deadline_ms),
        };
        let is_any_dated = [a, b].iter().any(|state| state.is_collection() && is_dated(state));
        let is_told = match meets {
            Meets::Alike => *content != Content::Tombstone && holder.is_some() || !is_any_dated,
            Meets::Other | Meets::Deletion => deadline_ms == winner.deadline_ms && !is_any_dated,
        };
        let is_one_deadline = !is_same || a.deadline_ms == b.deadline_ms;
        let dot = holder.map_or_else(Dot::default, State::dated);
        Date { deadline_ms, dot, is_told: is_told && is_one_deadline }
    }
}

/// What meets what.
#[derive(Clone, Copy)]
enum Meets {
    /// What is merged in part: two collections, two numbers on one base, a number and what it was made of.
    Alike,
    /// A collection and a deletion.
    Deletion,
    /// Two of which one is kept.
    Other,
}

impl Meets {
    fn of(a: &State, b: &State) -> Meets {
        let is_number = a.counter().is_some() || b.counter().is_some();
        let is_deletion = [a, b].iter().any(|state| state.content == Content::Tombstone);
        match (a.base(), b.base()) {
            (None, None) => Meets::Alike,
            (Some(one), Some(other)) if is_number && one == other => Meets::Alike,
            (Some(_), Some(_)) => Meets::Other,
            _ if is_deletion => Meets::Deletion,
            _ => Meets::Other,
        }
    }
}

fn is_on_two_bases(a: &State, b: &State) -> bool {
    a.base().zip(b.base()).is_some_and(|(one, other)| one != other)
}

/// The one whose deadline holds, if either's does.
fn holder<'s>(a: &'s State, b: &'s State, actors: &ActorTable) -> Option<&'s State> {
    let holds = |one: &State, other: &State| {
        is_dated(one) && (one.dated() == other.dated() || !other.version.covers(one.dated()))
    };
    match (holds(a, b), holds(b, a)) {
        (true, true) if actors.compare(a.dated(), b.dated()).is_lt() => Some(b),
        (true, _) => Some(a),
        (false, true) => Some(b),
        (false, false) => None,
    }
}

/// Whether a write has given it a deadline, or has taken one.
fn is_dated(state: &State) -> bool {
    state.dated() != Dot::default()
}

/// The later of two deadlines, of which 0 is never.
fn longer(a_ms: u64, b_ms: u64) -> u64 {
    if a_ms == 0 || b_ms == 0 { 0 } else { a_ms.max(b_ms) }
}
