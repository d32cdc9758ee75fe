//! Histories that are as they must be, and the same with one thing wrong.

use super::*;

/// What is asked, when it began, when it ended and how.
type Asking = (What, u64, Option<(u64, Value)>);

/// Each on a connection of its own.
fn judged(told: &[Asking]) -> Vec<String> {
    judged_by(told, |place| (place, 0))
}

/// All on one connection.
fn judged_in_order(told: &[Asking]) -> Vec<String> {
    judged_by(told, |place| (0, place as usize))
}

fn judged_by(told: &[Asking], order: fn(u64) -> (u64, usize)) -> Vec<String> {
    let mut history = History::default();
    for (what, began_us, end) in told {
        let asked = Asked { what: *what, of: 0 };
        let (ended_us, answer) = end.clone().unzip();
        let order = order(history.counts().0 as u64);
        let began_us = *began_us;
        let (manner, first) = (Manner::Alone, order.1);
        history.note(Event { asked, client: 0, node: 0, order, manner, first, began_us, ended_us, answer });
    }
    history.judge(true)
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
    assert_eq!(judged(&[&two[..], std::slice::from_ref(&lost)].concat()).len(), 1, "nothing is older than anything");
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
fn what_is_sent_together_on_one_connection_takes_effect_in_its_order() {
    let set = |value| (What::Set(value), 0, Some((9, ok())));
    let get = |value: Value| (What::Get, 0, Some((9, value)));
    assert_eq!(judged_in_order(&[get(Value::Null), set(1), get(bulk("1")), set(2), get(bulk("2"))]), [""; 0]);
    assert_eq!(judged_in_order(&[set(1), set(2), get(bulk("1"))]).len(), 1, "a write was overtaken");
    assert_eq!(judged_in_order(&[set(1), get(Value::Null)]).len(), 1, "the read went before");
    assert_eq!(judged_in_order(&[get(bulk("1")), set(1)]).len(), 1, "the read came behind");
    assert_eq!(judged(&[get(bulk("1")), set(1)]), [""; 0], "of others nothing is known");
    let add = |count| (What::Increment, 0, Some((9, Value::Int(count))));
    assert_eq!(judged_in_order(&[add(1), add(2)]), [""; 0]);
    assert_eq!(judged_in_order(&[add(2), add(1)]).len(), 2);
    let member = (What::Add(1), 0, Some((9, Value::Int(1))));
    let members = (What::Members, 0, Some((9, Value::Array(vec![bulk("1")]))));
    assert_eq!(judged_in_order(&[member.clone(), members.clone()]), [""; 0]);
    assert_eq!(judged_in_order(&[members, member]).len(), 1, "it was not there yet");
}

#[test]
fn what_was_written_before_is_there_to_be_copied() {
    let judged = |events: &[(Asked, Value)]| {
        let mut history = History::default();
        for (place, (asked, answer)) in events.iter().enumerate() {
            let (order, answer) = ((0, place), Some(answer.clone()));
            let event = Event {
                asked: *asked,
                client: 0,
                node: 0,
                order,
                manner: Manner::Alone,
                first: place,
                began_us: 0,
                ended_us: Some(9),
                answer,
            };
            history.note(event);
        }
        history.judge(true)
    };
    let source = (Asked { what: What::Set(1), of: SOURCES + 1 }, ok());
    let copy = |found| (Asked { what: What::Copy(1), of: 0 }, Value::Int(found));
    let read = |value: &str| (Asked { what: What::Get, of: 0 }, bulk(value));
    assert_eq!(judged(&[source.clone(), copy(1), read("1")]), [""; 0]);
    assert_eq!(judged(&[source.clone(), copy(0)]).len(), 1, "it was there");
    assert_eq!(judged(&[source, copy(1), read("2")]).len(), 1, "something else was copied");
}

#[test]
fn nobody_else_writes_on_top_of_what_was_watched() {
    let swaps = |told: &[(&str, u64, Value)]| {
        let mut history = History::default();
        for (read, value, answer) in told {
            let first = history.counts().0;
            for (what, answer) in [(What::Get, bulk(read)), (What::Swap(*value), answer.clone())] {
                let (asked, ended_us) = (Asked { what, of: 0 }, Some(90));
                let order = (*value, history.counts().0);
                let (client, node, manner, began_us) = (0, 0, Manner::Queued, 10);
                let answer = Some(answer);
                history.note(Event { asked, client, node, order, manner, first, began_us, ended_us, answer });
            }
        }
        history.judge(false)
    };
    let first = ("", 1, ok());
    assert_eq!(swaps(&[first.clone(), ("1", 2, ok()), ("2", 3, ok())]), [""; 0]);
    assert_eq!(swaps(&[first.clone(), ("1", 2, ok()), ("1", 3, Value::Null)]), [""; 0], "one has lost");
    assert_eq!(
        swaps(&[first.clone(), ("1", 2, ok()), ("1", 3, error("TIMEOUT whatever"))]),
        [""; 0],
        "it is not known"
    );
    assert_eq!(swaps(&[first.clone(), ("1", 2, ok()), ("1", 3, ok())]).len(), 1);
    assert_eq!(swaps(&[first, ("1", 2, Value::Null), ("2", 3, Value::Null)]).len(), 1, "what was refused is not there");
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
