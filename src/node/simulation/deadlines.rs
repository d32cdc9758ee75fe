//! When a register's values must be gone, and until when they must be there.
//!
//! A value's deadline is set by the write that gives the value, and by each later PEXPIRE, GETEX and PERSIST that meets
//! it. Which of them is the last one is known only as far as one began after the other was done, and is known to have
//! met this very value. What is left gives a term: a value may be gone from the earliest of its deadlines on, and must
//! be gone after the latest. The nodes' clocks differ, so that both are given away by as much.

use std::collections::BTreeMap;

use super::history::{Event, What, text_of};
use crate::protocol::client::Value;

/// How far two nodes' clocks may be apart: the story sets each by 150 ms at most, and they count whole milliseconds.
const SKEW_US: u64 = 302_000;

/// From when on a value may be gone, and since when it must be; `None` for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Term {
    pub earliest_us: Option<u64>,
    pub latest_us: Option<u64>,
}

/// The terms of the values that were given to one register, by value.
pub fn terms(events: &[&Event]) -> BTreeMap<u64, Term> {
    let of = |write: &&Event| Some((write.asked.value()?, term(write, events)));
    events.iter().filter_map(of).collect()
}

fn term(write: &Event, events: &[&Event]) -> Term {
    let later: Vec<&Event> = events.iter().copied().filter(|event| may_meet(event, write)).collect();
    let sure: Vec<&Event> = later.iter().copied().filter(|event| has_met(event, write, events)).collect();
    let is_last = |event: &&&Event| !sure.iter().any(|it| event.precedes(it));
    let own = sure.is_empty().then_some(write);
    let last: Vec<&Event> = own.into_iter().chain(later.iter().filter(is_last).copied()).collect();
    let earliest = last.iter().filter_map(|event| Some(event.began_us + ttl_us(event)?)).min();
    let latest: Option<Vec<u64>> = last.iter().map(|event| Some(event.done_us()? + ttl_us(event)?)).collect();
    Term {
        earliest_us: earliest.map(|us| us.saturating_sub(SKEW_US)),
        latest_us: latest.and_then(|all| all.into_iter().max()).map(|us| us + SKEW_US),
    }
}

/// How long the value is to be there from then on; `None` for good.
fn ttl_us(event: &Event) -> Option<u64> {
    match event.asked.what {
        What::SetFor(_, ms) | What::Expire(ms) | What::GetFor(ms) => Some(ms * 1_000),
        _ => None,
    }
}

/// True when it may have set the deadline of what this write has written.
fn may_meet(event: &Event, write: &Event) -> bool {
    let found = match (event.asked.what, &event.answer) {
        (What::GetFor(_), Some(value @ (Value::Null | Value::Bulk(_)))) => text_of(value) == write.asked.value(),
        (What::Expire(_) | What::Persist, Some(Value::Int(count))) => *count == 1,
        (What::GetFor(_) | What::Expire(_) | What::Persist, _) => !event.is_refused(),
        _ => false,
    };
    found && !event.precedes(write)
}

/// True when it is known to have set the deadline of what this write, and no other, has written.
fn has_met(event: &Event, write: &Event, events: &[&Event]) -> bool {
    match (event.asked.what, &event.answer) {
        (What::GetFor(_), Some(Value::Bulk(_))) => true,
        (What::Expire(_) | What::Persist, Some(Value::Int(1))) => {
            let is_elsewhere = |other: &&Event| {
                !other.asked.replaces()
                    || other.asked == write.asked
                    || other.is_refused()
                    || other.precedes(write)
                    || event.precedes(other)
            };
            write.precedes(event) && events.iter().all(is_elsewhere)
        }
        _ => false,
    }
}
