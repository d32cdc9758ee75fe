//! What a history must be like.
//!
//! Every written value is another one, every counter only grows by INCR, and a member is added once and removed at most
//! once. With at most one node faulty at a time it must hold that, where one request comes before another if it was
//! done before the other was asked for, or if both were sent in this order on one connection (`Event::precedes`):
//! - a read gives no value (nor none) that a write, which comes before the read, has replaced; a write replaces those
//!   that come before it, and also those that somebody had read before;
//! - a read gives nothing that nobody has asked to be written, or that was refused;
//! - a counter counts what comes before, and no more than what was asked for by then and does not come after: so does
//!   INCR, however long it took, and no two that were acknowledged give one number;
//! - a set has a member whose addition was acknowledged and whose removal was not asked for, and none whose removal was
//!   acknowledged;
//! - what its client has written before is there to be copied and renamed, and nothing else is copied;
//! - a key that was to be there for a while is gone after it, and not before (`deadlines`);
//! - FLUSHALL is a deletion of every key;
//! - nobody sees half of a transaction over keys with one hash tag;
//! - no two write on top of the same value that they have watched and read;
//! - SET NX is refused only where something may be, and in strict mode no two are granted with no deletion between
//!   them.
//!
//! What was answered with an error that leaves the outcome open may have happened, at any later time.

use std::collections::{BTreeMap, BTreeSet};

use super::deadlines::{self, Term};
use super::history::{Asked, Event, History, Manner, SOURCES, What, text_of};
use crate::protocol::client::Value;

/// What was asked of each key.
type ByKey<'e> = BTreeMap<String, Vec<&'e Event>>;

impl History {
    /// What must not have happened and has; in strict mode more must not.
    pub fn judge(&self, is_strict: bool) -> Vec<String> {
        let mut by_key = ByKey::new();
        for event in &self.events {
            by_key.entry(event.asked.key()).or_default().push(event);
        }
        let flushes = by_key.remove(&Asked { what: What::Flush, of: 0 }.key()).unwrap_or_default();
        let mut wrongs = Vec::new();
        for events in by_key.values() {
            match events[0].asked.what {
                What::Increment | What::Count => judge_counter(events, &flushes, &mut wrongs),
                What::Add(_) | What::Remove(_) | What::Members => judge_set(events, &flushes, &mut wrongs),
                _ => judge_register(&[&events[..], &flushes[..]].concat(), &mut wrongs),
            }
        }
        judge_copies(&self.events, &by_key, &flushes, &mut wrongs);
        judge_pairs(&self.events, &mut wrongs);
        if flushes.is_empty() {
            judge_swaps(&self.events, &mut wrongs);
        }
        for events in by_key.values() {
            judge_refused_locks(events, &flushes, &mut wrongs);
            if is_strict {
                judge_locks(events, &flushes, &mut wrongs);
            }
        }
        wrongs
    }
}

/// A source that was written before, and by nobody else, is there to be copied.
fn judge_copies(history: &[Event], by_key: &ByKey<'_>, flushes: &[&Event], wrongs: &mut Vec<String>) {
    for copy in history.iter().filter(|event| event.found_no_source()) {
        let source = copy.asked.value().map(|value| Asked { what: What::Set(value), of: SOURCES + value });
        let write = source.and_then(|source| by_key.get(&source.key())?.first());
        let is_there = |write: &&&Event| write.precedes(copy) && !may_be_flushed(write, flushes, copy);
        if let Some(write) = write.filter(is_there) {
            wrongs.push(format!("there was something to copy\n  {write}\n  {copy}"));
        }
    }
}

/// Nobody sees half of a transaction over keys with one hash tag.
fn judge_pairs(history: &[Event], wrongs: &mut Vec<String>) {
    let reads: Vec<&Event> = history
        .iter()
        .filter(|it| it.manner == Manner::Queued && it.asked.is_of_pair() && it.asked.what == What::Get)
        .collect();
    for two in reads.chunk_by(|one, other| one.first == other.first) {
        let [one, other] = two else { continue };
        if one.done_us().is_some() && other.done_us().is_some() && given(one) != given(other) {
            wrongs.push(format!(
                "half of a transaction was seen
  {one}
  {other}"
            ));
        }
    }
}

/// Who has watched a register and read it writes on top of what was read: nobody else does. Nothing else writes there.
fn judge_swaps(history: &[Event], wrongs: &mut Vec<String>) {
    let mut known: BTreeMap<(String, Option<u64>), &Event> = BTreeMap::new();
    let is_swap = |it: &&Event| matches!(it.asked.what, What::Swap(_)) && it.done_us().is_some();
    for swap in history.iter().filter(is_swap) {
        let Some(read) = history.get(swap.first).filter(|read| read.done_us().is_some()) else { continue };
        if let Some(other) = known.insert((swap.asked.key(), given(read)), swap) {
            wrongs.push(format!("two have written on top of the same value\n  {other}\n  {read}\n  {swap}"));
        }
    }
}

/// Whoever is refused a lock has found that somebody may have it.
fn judge_refused_locks(events: &[&Event], flushes: &[&Event], wrongs: &mut Vec<String>) {
    for refused in events.iter().filter(|it| it.found_something()) {
        let may_have_it = |it: &&&Event| {
            it.asked.value().is_some()
                && !it.is_refused()
                && may_precede(it, refused)
                && !is_freed(it, refused, events, flushes)
        };
        if !events.iter().any(|it| may_have_it(&it)) {
            wrongs.push(format!(
                "a lock was refused that nobody had
  {refused}"
            ));
        }
    }
}

/// True when it was deleted for sure before the other began.
fn is_freed(lock: &Event, other: &Event, events: &[&Event], flushes: &[&Event]) -> bool {
    let deletions = events.iter().filter(|it| it.asked.what == What::Delete).chain(flushes);
    deletions.into_iter().any(|it| lock.precedes(it) && it.precedes(other))
}

/// A lock is given to one client, and to the next when somebody may have deleted it.
fn judge_locks(events: &[&Event], flushes: &[&Event], wrongs: &mut Vec<String>) {
    let is_won = |it: &&&Event| matches!(it.asked.what, What::SetNew(_)) && it.done_us().is_some();
    let won: Vec<&Event> = events.iter().filter(is_won).copied().collect();
    let may_free = |one: &Event, next: &Event| {
        let deletions = events.iter().filter(|it| it.asked.what == What::Delete && !it.is_refused()).chain(flushes);
        !next.precedes(one) && deletions.into_iter().any(|it| !it.precedes(one) && may_precede(it, next))
    };
    for (at, one) in won.iter().enumerate() {
        for other in won.iter().skip(at + 1).filter(|other| !may_free(one, other) && !may_free(other, one)) {
            wrongs.push(format!(
                "two have the lock
  {one}
  {other}"
            ));
        }
    }
}

/// One write of a register: what it left there (`None` for nothing), who made it, from when on, and who has seen it
/// there.
struct Write<'a> {
    value: Option<u64>,
    event: Option<&'a Event>,
    began_us: u64,
    readers: Vec<&'a Event>,
}

impl Write<'_> {
    /// True when it was there for sure before the other took effect.
    fn precedes(&self, other: &Event) -> bool {
        self.event.is_none_or(|event| event.precedes(other)) || self.readers.iter().any(|read| read.precedes(other))
    }

    /// True when a read, which was done, may have seen it.
    fn may_be_seen(&self, read: &Event) -> bool {
        Some(self.began_us) <= read.ended_us && self.event.is_none_or(|event| !read.precedes(event))
    }
}

/// The value that a read gave.
fn given(read: &Event) -> Option<u64> {
    read.answer.as_ref().and_then(text_of)
}

/// The writes of a register, the first being that nothing is there.
fn writes_of<'e>(events: &[&'e Event], reads: &[&'e Event]) -> Vec<Write<'e>> {
    let mut writes = vec![Write { value: None, event: None, began_us: 0, readers: Vec::new() }];
    writes.extend(events.iter().filter(|event| event.asked.replaces()).map(|event| {
        let value = event.asked.value();
        let readers = reads.iter().copied().filter(|read| value.is_some() && given(read) == value).collect();
        Write { value, event: Some(event), began_us: event.began_us, readers }
    }));
    writes
}

fn judge_register(events: &[&Event], wrongs: &mut Vec<String>) {
    let reads: Vec<&Event> =
        events.iter().copied().filter(|it| it.asked.reads_register() && it.done_us().is_some()).collect();
    let writes = writes_of(events, &reads);
    let terms: BTreeMap<u64, Term> = deadlines::terms(events);
    // A value that has expired leaves nothing, and as long as nothing replaces it.
    let expired: Vec<Write<'_>> = writes
        .iter()
        .filter_map(|write| {
            let began_us = terms.get(&write.value?)?.earliest_us?;
            Some(Write { value: None, began_us, event: write.event, readers: write.readers.clone() })
        })
        .collect();
    for read in &reads {
        let value = given(read);
        let sources: Vec<&Write<'_>> =
            writes.iter().chain(&expired).filter(|it| it.value == value && it.may_be_seen(read)).collect();
        // Nobody waits for what is refused: it must not be there.
        let is_done = |it: &&Write<'_>| it.event.is_none_or(|event| !event.is_refused());
        if !sources.iter().any(is_done) {
            wrongs.push(format!("nobody wrote what was read, or it was refused\n  {read}"));
            continue;
        }
        let term = value.and_then(|value| terms.get(&value));
        if let Some(write) = sources[0].event
            && term.and_then(|term| term.latest_us).is_some_and(|latest_us| latest_us < read.began_us)
        {
            wrongs.push(format!("a value was read that had expired\n  {write}\n  {read}"));
        }
        // A node whose clock is ahead may find nothing to delete where another still has it.
        let found_nothing = |write: &Write<'_>| {
            let is_vain = |event: &Event| matches!(event.answer, Some(Value::Int(0)));
            let may_be_gone = term.and_then(|term| term.earliest_us).is_some_and(|us| us <= read.began_us);
            may_be_gone && write.event.is_some_and(is_vain)
        };
        let newer = |source: &Write<'_>| {
            let replaces = |it: &&Write<'_>| {
                it.event.is_some_and(|event| source.precedes(event)) && it.precedes(read) && !found_nothing(it)
            };
            writes.iter().find(replaces).and_then(|it| it.event)
        };
        if let Some(write) = sources.iter().map(|source| newer(source)).reduce(|one, other| one.and(other)).flatten() {
            let source =
                sources.first().and_then(|it| it.event).map_or("nothing was there".to_owned(), Event::to_string);
            wrongs.push(format!("an older value was read\n  {source}\n  {write}\n  {read}"));
        }
    }
}

/// True when one of these, done before the read began, has deleted what was done before.
fn is_flushed(event: &Event, flushes: &[&Event], read: &Event) -> bool {
    flushes.iter().any(|flush| event.precedes(flush) && flush.precedes(read))
}

/// True when a read, which was done, may have seen what an event did.
fn may_precede(event: &Event, read: &Event) -> bool {
    Some(event.began_us) <= read.ended_us && !read.precedes(event)
}

/// True when one of these may have deleted it before the read.
fn may_be_flushed(event: &Event, flushes: &[&Event], read: &Event) -> bool {
    flushes.iter().any(|flush| may_precede(flush, read) && !flush.precedes(event))
}

fn judge_counter(events: &[&Event], flushes: &[&Event], wrongs: &mut Vec<String>) {
    let increments: Vec<&Event> =
        events.iter().copied().filter(|it| it.asked.what == What::Increment && !it.is_refused()).collect();
    for event in events.iter().filter(|event| event.done_us().is_some()) {
        let Some(count) = event.answer.as_ref().map(|value| text_of(value).unwrap_or_default()) else { continue };
        let own = u64::from(event.asked.what == What::Increment);
        let done = |it: &&&Event| it.precedes(event) && !may_be_flushed(it, flushes, event);
        let least = increments.iter().filter(done).count() as u64 + own;
        let may_count = |it: &&&Event| may_precede(it, event) && !is_flushed(it, flushes, event);
        let most = increments.iter().filter(may_count).count() as u64;
        if !(least..=most).contains(&count) {
            wrongs.push(format!("a count is not in {least}..={most}\n  {event}"));
        }
    }
    let mut counts: Vec<u64> =
        increments.iter().filter(|it| it.done_us().is_some()).filter_map(|it| text_of(it.answer.as_ref()?)).collect();
    counts.sort_unstable();
    if let Some(twice) = counts.windows(2).find(|pair| pair[0] == pair[1] && flushes.is_empty()) {
        let both: Vec<String> = increments
            .iter()
            .filter(|it| it.done_us().is_some() && it.answer.as_ref().and_then(text_of) == Some(twice[0]))
            .map(|it| format!("\n  {it}"))
            .collect();
        wrongs.push(format!("two increments gave the same{}", both.concat()));
    }
}

fn judge_set(events: &[&Event], flushes: &[&Event], wrongs: &mut Vec<String>) {
    let (mut additions, mut removals) = (BTreeMap::new(), BTreeMap::new());
    for event in events {
        match event.asked.what {
            What::Add(member) => drop(additions.insert(member, *event)),
            What::Remove(member) => drop(removals.insert(member, *event)),
            _ => {}
        }
    }
    for read in events.iter().filter(|it| it.asked.what == What::Members && it.done_us().is_some()) {
        let Some(Value::Array(members)) = &read.answer else { continue };
        let members: BTreeSet<u64> = members.iter().filter_map(text_of).collect();
        for (member, event) in &additions {
            let (is_there, removal) = (members.contains(member), removals.get(member));
            let may_be_gone = removal.is_some_and(|it| may_precede(it, read) && !it.is_refused())
                || may_be_flushed(event, flushes, read);
            let must_be_gone = removal.is_some_and(|it| it.precedes(read)) || is_flushed(event, flushes, read);
            let must_be_there = event.precedes(read) && !may_be_gone;
            if is_there && (must_be_gone || event.is_refused()) {
                wrongs.push(format!("a member is there that was removed, or refused\n  {event}\n  {read}"));
            }
            if !is_there && must_be_there {
                wrongs.push(format!("a member is missing\n  {event}\n  {read}"));
            }
        }
        for member in &members {
            if additions.get(member).is_none_or(|it| !may_precede(it, read)) {
                wrongs.push(format!("nobody added {member}\n  {read}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
