//! What a history must be like.
//!
//! Every written value is another one, every counter only grows by INCR, and a member is added once and removed at most once. With at
//! most one node faulty at a time it must hold that:
//! - a read gives no value (nor none) that a write, acknowledged before the read began, has replaced; a write replaces those
//!   acknowledged before it began, and also those that somebody had read before;
//! - a read gives nothing that nobody has asked to be written, or that was refused;
//! - a counter counts what was acknowledged before it was asked for, and no more than what was asked for by then: so does INCR,
//!   however long it took, and no two that were acknowledged give one number;
//! - a set has a member whose addition was acknowledged and whose removal was not asked for, and none whose removal was acknowledged;
//! - a key that was to be there for a while is gone after it, and not before (`deadlines`);
//! - FLUSHALL is a deletion of every key.
//!
//! What was answered with an error that leaves the outcome open may have happened, at any later time.

use std::collections::{BTreeMap, BTreeSet};

use super::deadlines::{self, Term};
use super::history::{Event, History, What, text_of};
use crate::protocol::client::Value;

impl History {
    /// What must not have happened and has.
    pub fn judge(&self) -> Vec<String> {
        let mut by_key: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
        for event in &self.events {
            by_key.entry(event.asked.key()).or_default().push(event);
        }
        let flushes = by_key.remove("all0").unwrap_or_default();
        let mut wrongs = Vec::new();
        for events in by_key.values() {
            match events[0].asked.what {
                What::Increment | What::Count => judge_counter(events, &flushes, &mut wrongs),
                What::Add(_) | What::Remove(_) | What::Members => judge_set(events, &flushes, &mut wrongs),
                _ => judge_register(&[&events[..], &flushes[..]].concat(), &mut wrongs),
            }
        }
        wrongs
    }
}

/// One write of a register: what it left there (`None` for nothing), when it was asked for, and when it was there for sure.
struct Write<'a> {
    value: Option<u64>,
    event: Option<&'a Event>,
    began_us: u64,
    there_us: Option<u64>,
}

/// The value that a read gave.
fn given(read: &Event) -> Option<u64> {
    read.answer.as_ref().and_then(text_of)
}

/// The writes of a register, the first being that nothing is there. What was read was there by then.
fn writes_of<'e>(events: &[&'e Event], reads: &[&Event]) -> Vec<Write<'e>> {
    let seen_us = |value: u64| reads.iter().filter(|it| given(it) == Some(value)).filter_map(|it| it.done_us()).min();
    let mut writes = vec![Write { value: None, event: None, began_us: 0, there_us: Some(0) }];
    writes.extend(events.iter().filter(|event| event.asked.replaces()).map(|event| {
        let value = event.asked.value();
        let there_us = event.done_us().into_iter().chain(value.and_then(seen_us)).min();
        Write { value, event: Some(event), began_us: event.began_us, there_us }
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
            Some(Write { value: None, began_us, ..*write })
        })
        .collect();
    for read in &reads {
        let value = given(read);
        let sources: Vec<&Write<'_>> = writes
            .iter()
            .chain(&expired)
            .filter(|it| it.value == value && Some(it.began_us) <= read.ended_us)
            .collect();
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
            let there_us = source.there_us?;
            let replaces = |it: &&Write<'_>| {
                it.began_us > there_us && it.there_us.is_some_and(|us| us < read.began_us) && !found_nothing(it)
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
    let is_after = |flush: &&&Event| event.done_us().is_some_and(|us| us < flush.began_us);
    flushes.iter().filter(is_after).any(|flush| flush.done_us().is_some_and(|us| us < read.began_us))
}

/// True when one of these may have deleted it before the read.
fn may_be_flushed(event: &Event, flushes: &[&Event], read: &Event) -> bool {
    let is_before = |flush: &&Event| flush.done_us().is_some_and(|us| us < event.began_us);
    flushes.iter().any(|flush| Some(flush.began_us) <= read.ended_us && !is_before(flush))
}

fn judge_counter(events: &[&Event], flushes: &[&Event], wrongs: &mut Vec<String>) {
    let increments: Vec<&Event> =
        events.iter().copied().filter(|it| it.asked.what == What::Increment && !it.is_refused()).collect();
    for event in events.iter().filter(|event| event.done_us().is_some()) {
        let Some(count) = event.answer.as_ref().map(|value| text_of(value).unwrap_or_default()) else { continue };
        let own = u64::from(event.asked.what == What::Increment);
        let done =
            |it: &&&Event| it.done_us().is_some_and(|us| us < event.began_us) && !may_be_flushed(it, flushes, event);
        let least = increments.iter().filter(done).count() as u64 + own;
        let may_count = |it: &&&Event| Some(it.began_us) <= event.ended_us && !is_flushed(it, flushes, event);
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
        let (Some(Value::Array(members)), Some(ended_us)) = (&read.answer, read.ended_us) else { continue };
        let members: BTreeSet<u64> = members.iter().filter_map(text_of).collect();
        for (member, event) in &additions {
            let (is_there, removal) = (members.contains(member), removals.get(member));
            let may_be_gone = removal.is_some_and(|it| it.began_us <= ended_us && !it.is_refused())
                || may_be_flushed(event, flushes, read);
            let must_be_gone = removal.and_then(|it| it.done_us()).is_some_and(|us| us < read.began_us)
                || is_flushed(event, flushes, read);
            let must_be_there = event.done_us().is_some_and(|us| us < read.began_us) && !may_be_gone;
            if is_there && (must_be_gone || event.is_refused()) {
                wrongs.push(format!("a member is there that was removed, or refused\n  {event}\n  {read}"));
            }
            if !is_there && must_be_there {
                wrongs.push(format!("a member is missing\n  {event}\n  {read}"));
            }
        }
        for member in &members {
            if additions.get(member).is_none_or(|it| it.began_us > ended_us) {
                wrongs.push(format!("nobody added {member}\n  {read}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::simulation::history::Asked;

    /// What is asked, when it began, when it ended and how.
    type Asking = (What, u64, Option<(u64, Value)>);

    fn judged(told: &[Asking]) -> Vec<String> {
        let mut history = History::default();
        for (what, began_us, end) in told {
            let asked = Asked { what: *what, of: 0 };
            let (ended_us, answer) = end.clone().unzip();
            history.note(Event { asked, client: 0, node: 0, began_us: *began_us, ended_us, answer });
        }
        history.judge()
    }

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.into())
    }

    fn ok() -> Value {
        Value::Simple(b"OK".to_vec())
    }

    fn error(text: &str) -> Value {
        Value::Error(text.into())
    }

    #[test]
    fn an_older_value_is_one_whose_successor_was_acknowledged() {
        let first = (What::Set(1), 10, Some((20, ok())));
        let second = (What::Set(2), 30, Some((40, ok())));
        let read = |began, value: &str| (What::Get, began, Some((began + 5, bulk(value))));
        let two = [first.clone(), second.clone()];
        assert_eq!(judged(&[&two[..], &[read(35, "1"), read(36, "2"), read(41, "2")]].concat()), [""; 0]);
        assert_eq!(judged(&[&two[..], &[read(41, "1")]].concat()).len(), 1, "after the acknowledgement");
        let lost = (What::Get, 50, Some((55, Value::Null)));
        assert_eq!(
            judged(&[&two[..], std::slice::from_ref(&lost)].concat()).len(),
            1,
            "nothing is older than anything"
        );
        let deleted = (What::Delete, 42, Some((45, Value::Int(1))));
        assert_eq!(judged(&[&two[..], &[deleted.clone(), lost]].concat()), [""; 0]);
        assert_eq!(judged(&[&two[..], &[deleted, read(50, "2")]].concat()).len(), 1, "it came back");
        let open = (What::Set(3), 12, Some((15, error("TIMEOUT whatever"))));
        assert_eq!(judged(&[&two[..], &[open.clone(), read(50, "3"), read(70, "3")]].concat()), [""; 0]);
        let seen_and_replaced = [open, read(22, "3"), second, read(50, "3")];
        assert_eq!(judged(&seen_and_replaced).len(), 1, "it was there before its successor was asked for");
        assert_eq!(judged(&[first, read(30, "7")]).len(), 1, "nobody wrote that");
        let refused = (What::Set(4), 10, Some((20, error("CLUSTERDOWN whatever"))));
        assert_eq!(judged(&[refused, read(30, "4")]).len(), 1, "it was said not to be done");
    }

    #[test]
    fn a_counter_counts_each_acknowledged_increment_once() {
        let add = |began, count| (What::Increment, began, Some((began + 5, Value::Int(count))));
        let open = (What::Increment, 0, None);
        let read = |count: &str| (What::Count, 50, Some((55, bulk(count))));
        assert_eq!(judged(&[add(10, 1), add(20, 2), read("2")]), [""; 0]);
        assert_eq!(judged(&[add(10, 1), add(20, 2), read("1")]).len(), 1, "one is lost");
        assert_eq!(judged(&[add(10, 1), add(20, 2), read("3")]).len(), 1, "one counts twice");
        assert_eq!(judged(&[open.clone(), add(10, 2), read("2")]), [""; 0]);
        assert_eq!(judged(&[open, add(10, 1), read("1")]), [""; 0]);
        assert_eq!(judged(&[add(10, 1), add(12, 1)]).len(), 1, "both saw the same");
        assert_eq!(judged(&[add(10, 1), (What::Count, 50, Some((55, Value::Null)))]).len(), 1);
    }

    #[test]
    fn a_set_has_what_was_added_and_not_removed() {
        let add = |member, began| (What::Add(member), began, Some((began + 5, Value::Int(1))));
        let remove = (What::Remove(1), 20, Some((25, Value::Int(1))));
        let read = |began, members: &[&str]| {
            let members = members.iter().map(|member| bulk(member)).collect();
            (What::Members, began, Some((began + 5, Value::Array(members))))
        };
        assert_eq!(judged(&[add(1, 0), add(2, 0), read(10, &["1", "2"])]), [""; 0]);
        assert_eq!(judged(&[add(1, 0), add(2, 0), read(10, &["1"])]).len(), 1);
        assert_eq!(judged(&[add(1, 0), remove.clone(), read(22, &[]), read(22, &["1"]), read(30, &[])]), [""; 0]);
        assert_eq!(judged(&[add(1, 0), remove, read(30, &["1"])]).len(), 1);
        assert_eq!(judged(&[add(1, 0), read(10, &["1", "5"])]).len(), 1);
    }

    #[test]
    fn a_value_is_there_until_its_deadline_and_not_longer() {
        let set = (What::SetFor(1, 2_000), 10, Some((15, ok())));
        let get = |began, value: &str| (What::Get, began, Some((began + 5, bulk(value))));
        let none = |began| (What::Get, began, Some((began + 5, Value::Null)));
        let again = |what, began, reply| (what, began, Some((began + 5, Value::Int(reply))));
        assert_eq!(judged(&[set.clone(), get(100, "1"), none(2_400_000)]), [""; 0]);
        assert_eq!(judged(&[set.clone(), get(2_400_000, "1")]).len(), 1, "it outlives its deadline");
        assert_eq!(judged(&[set.clone(), none(1_000_000)]).len(), 1, "it is gone before");
        let kept = again(What::Persist, 100, 1);
        assert_eq!(judged(&[set.clone(), kept.clone(), get(2_400_000, "1")]), [""; 0]);
        assert_eq!(judged(&[set.clone(), kept, none(2_400_000)]).len(), 1, "it was to stay");
        let shorter = again(What::Expire(500), 100, 1);
        assert_eq!(judged(&[set.clone(), shorter.clone(), none(600_000)]), [""; 0]);
        assert_eq!(judged(&[set.clone(), shorter, get(1_000_000, "1")]).len(), 1, "it was to go earlier");
        let unknown = (What::Expire(500), 100, None);
        assert_eq!(judged(&[set.clone(), unknown, none(600_000), get(1_000_000, "1")]), [""; 0]);
        let longer = (What::GetFor(5_000), 100, Some((105, bulk("1"))));
        assert_eq!(judged(&[set.clone(), longer.clone(), get(4_000_000, "1")]), [""; 0]);
        assert_eq!(judged(&[set, longer, none(4_000_000)]).len(), 1, "it was to stay longer");
    }

    #[test]
    fn nothing_comes_back_that_was_flushed() {
        let set = (What::Set(1), 0, Some((5, ok())));
        let flush = (What::Flush, 10, Some((15, ok())));
        let get = |began, value: Value| (What::Get, began, Some((began + 5, value)));
        assert_eq!(judged(&[set.clone(), flush.clone(), get(12, bulk("1")), get(20, Value::Null)]), [""; 0]);
        assert_eq!(judged(&[set.clone(), flush.clone(), get(20, bulk("1"))]).len(), 1, "it came back");
        let after = (What::Set(2), 16, Some((18, ok())));
        assert_eq!(judged(&[set, flush.clone(), after.clone(), get(20, bulk("2"))]), [""; 0]);
        assert_eq!(judged(&[flush.clone(), after, get(20, Value::Null)]).len(), 1, "it was written afterwards");
        let add = |began, count| (What::Increment, began, Some((began + 5, Value::Int(count))));
        let count = |count: &str| (What::Count, 40, Some((45, bulk(count))));
        assert_eq!(judged(&[add(0, 1), flush.clone(), add(20, 1), count("1")]), [""; 0]);
        assert_eq!(judged(&[add(0, 1), flush.clone(), add(20, 2), count("2")]).len(), 2, "it went on counting");
        let member = |member, began| (What::Add(member), began, Some((began + 5, Value::Int(1))));
        let members = |it: &[&str]| {
            let members = it.iter().map(|member| bulk(member)).collect();
            (What::Members, 40, Some((45, Value::Array(members))))
        };
        assert_eq!(judged(&[member(1, 0), flush.clone(), member(2, 20), members(&["2"])]), [""; 0]);
        assert_eq!(judged(&[member(1, 0), flush.clone(), member(2, 20), members(&["1", "2"])]).len(), 1);
        assert_eq!(judged(&[member(1, 0), flush, member(2, 20), members(&[])]).len(), 1);
    }
}
