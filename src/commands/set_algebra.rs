//! Intersection, union and difference of sets, answered, counted or stored.
//!
//! An intersection walks the smallest set and looks each member up in the others, smallest first. A difference either
//! looks each member of the first set up in the others or takes the others' members out of a copy, whichever touches
//! fewer members. What is stored is computed whole before the destination is touched, because that may be a source.

use ahash::AHashSet;

use crate::commands::CommandError;
use crate::commands::set::{members, peek_set, read_set};
use crate::commands::spec::{Command, Cx, Group, Handler, Keys, flag};
use crate::protocol::parse_i64;
use crate::store::value::Set;
use crate::store::{Keyspace, canonical_int, whole};

const SOURCES: Keys = Keys::Range { first: 1, last: -1, step: 1 };

/// What is made of the sets.
#[derive(Clone, Copy)]
enum Operation {
    Intersect,
    Unite,
    Subtract,
}

/// SINTER key ...: a set of what all have.
pub static SINTER: Command = Command {
    name: "sinter",
    summary: "Intersect multiple sets",
    syntax: "key [key ...]",
    since: "1.0.0",
    complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
    group: Group::Set,
    arity: -2,
    flags: flag::READONLY | flag::LONG,
    keys: SOURCES,
    handler: Handler::Keys(sinter),
};
fn sinter(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    answer(cx, Operation::Intersect)
}

/// SUNION key ...: a set of what any has.
pub static SUNION: Command = Command {
    name: "sunion",
    summary: "Add multiple sets",
    syntax: "key [key ...]",
    since: "1.0.0",
    complexity: "O(N) where N is the total number of elements in all given sets.",
    group: Group::Set,
    arity: -2,
    flags: flag::READONLY | flag::LONG,
    keys: SOURCES,
    handler: Handler::Keys(sunion),
};
fn sunion(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    answer(cx, Operation::Unite)
}

/// SDIFF key ...: a set of what only the first has.
pub static SDIFF: Command = Command {
    name: "sdiff",
    summary: "Subtract multiple sets",
    syntax: "key [key ...]",
    since: "1.0.0",
    complexity: "O(N) where N is the total number of elements in all given sets.",
    group: Group::Set,
    arity: -2,
    flags: flag::READONLY | flag::LONG,
    keys: SOURCES,
    handler: Handler::Keys(sdiff),
};
fn sdiff(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    answer(cx, Operation::Subtract)
}

fn answer(cx: &mut Cx<'_, '_>, operation: Operation) -> Result<(), CommandError> {
    let names: Vec<&[u8]> = cx.args.iter().skip(1).collect();
    let found = combine(operation, &lookup(cx.keys, &names)?);
    cx.out.set(found.len());
    found.iter().for_each(|member| cx.out.bulk(member));
    Ok(())
}

/// SINTERSTORE destination key ...: how many members the destination now has.
pub static SINTERSTORE: Command = Command {
    name: "sinterstore",
    summary: "Intersect multiple sets and store the resulting set in a key",
    syntax: "destination key [key ...]",
    since: "1.0.0",
    complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
    group: Group::Set,
    arity: -3,
    flags: flag::WRITE | flag::READS_TOO | flag::REPEATABLE | flag::DENYOOM | flag::LONG,
    keys: SOURCES,
    handler: Handler::Keys(sinterstore),
};
fn sinterstore(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    store(cx, Operation::Intersect, "sinterstore")
}

/// SUNIONSTORE destination key ...: how many members the destination now has.
pub static SUNIONSTORE: Command = Command {
    name: "sunionstore",
    summary: "Add multiple sets and store the resulting set in a key",
    syntax: "destination key [key ...]",
    since: "1.0.0",
    complexity: "O(N) where N is the total number of elements in all given sets.",
    group: Group::Set,
    arity: -3,
    flags: flag::WRITE | flag::READS_TOO | flag::REPEATABLE | flag::DENYOOM | flag::LONG,
    keys: SOURCES,
    handler: Handler::Keys(sunionstore),
};
fn sunionstore(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    store(cx, Operation::Unite, "sunionstore")
}

/// SDIFFSTORE destination key ...: how many members the destination now has.
pub static SDIFFSTORE: Command = Command {
    name: "sdiffstore",
    summary: "Subtract multiple sets and store the resulting set in a key",
    syntax: "destination key [key ...]",
    since: "1.0.0",
    complexity: "O(N) where N is the total number of elements in all given sets.",
    group: Group::Set,
    arity: -3,
    flags: flag::WRITE | flag::READS_TOO | flag::DENYOOM | flag::LONG,
    keys: SOURCES,
    handler: Handler::Keys(sdiffstore),
};
fn sdiffstore(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    store(cx, Operation::Subtract, "sdiffstore")
}

fn store(cx: &mut Cx<'_, '_>, operation: Operation, event: &'static str) -> Result<(), CommandError> {
    let destination = cx.arg(1)?;
    let names: Vec<&[u8]> = cx.args.iter().skip(2).collect();
    let found = combine(operation, &lookup(cx.keys, &names)?);
    let len = found.len();
    let whole = whole::set(found.into_iter(), None);
    if len > 0 {
        cx.put_whole(destination, &whole, 0)?;
        cx.keys.notify(b's', event, destination);
    } else if cx.keys.delete(destination) {
        cx.keys.notify(b'g', "del", destination);
    }
    cx.out.int(len as i64);
    Ok(())
}

/// SINTERCARD numkeys key ... [LIMIT limit]: how many members all have, counted up to the limit.
pub static SINTERCARD: Command = Command {
    name: "sintercard",
    summary: "Intersect multiple sets and return the cardinality of the result",
    syntax: "numkeys key [key ...] [LIMIT limit]",
    since: "7.0.0",
    complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
    group: Group::Set,
    arity: -3,
    flags: flag::READONLY | flag::MOVABLEKEYS | flag::LONG,
    keys: Keys::Counted { at: 1 },
    handler: Handler::Keys(sintercard),
};
fn sintercard(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let count = parse_i64(cx.arg(1)?).filter(|count| *count > 0);
    let count = count.ok_or(CommandError::text("ERR numkeys should be greater than 0"))?;
    let after = usize::try_from(count).ok().and_then(|count| count.checked_add(2));
    let after = after.filter(|after| *after <= cx.args.len());
    let after = after.ok_or(CommandError::text("ERR Number of keys can't be greater than number of args"))?;
    let (mut limit, mut at) = (0, after);
    while at < cx.args.len() {
        if !cx.arg(at)?.eq_ignore_ascii_case(b"LIMIT") {
            return Err(CommandError::Syntax);
        }
        let value = parse_i64(cx.arg(at + 1)?).and_then(|value| usize::try_from(value).ok());
        limit = value.ok_or(CommandError::text("ERR LIMIT can't be negative"))?;
        at += 2;
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let names: Vec<&[u8]> = cx.args.iter().take(after).skip(2).collect();
    let sets = smallest_first(&lookup(cx.keys, &names)?);
    let len = sets.split_first().map_or(0, |(smallest, others)| {
        // One by one: up to a small limit few members of many are looked at.
        smallest.members.iter().filter(|it| in_all(others, it.member)).take(limit).count()
    });
    cx.out.int(len as i64);
    Ok(())
}

/// The sets called so, each of which counts as used; `None` for keys that do not exist.
fn lookup<'k>(keys: &'k mut Keyspace<'_>, names: &[&[u8]]) -> Result<Vec<Option<&'k Set>>, CommandError> {
    for name in names {
        read_set(keys, name)?;
    }
    names.iter().map(|name| peek_set(keys, name)).collect()
}

fn combine<'k>(operation: Operation, sets: &[Option<&'k Set>]) -> Vec<&'k [u8]> {
    let mut found = match operation {
        Operation::Intersect => intersection(sets),
        Operation::Unite => union(sets),
        Operation::Subtract => difference(sets),
    };
    // Redis collects unions and differences in a set of their own, and one of numbers lists them in order.
    if sets.iter().flatten().all(|set| set.intset) {
        found.sort_by_cached_key(|member| canonical_int(member));
    }
    found
}

fn intersection<'k>(sets: &[Option<&'k Set>]) -> Vec<&'k [u8]> {
    let sets = smallest_first(sets);
    let Some((smallest, others)) = sets.split_first() else { return Vec::new() };
    members(smallest).into_iter().filter(|member| in_all(others, member)).collect()
}

/// The sets whose members in common are looked for: none when one of them is empty.
fn smallest_first<'k>(sets: &[Option<&'k Set>]) -> Vec<&'k Set> {
    let mut all: Vec<&'k Set> = sets.iter().flatten().copied().collect();
    if all.len() < sets.len() {
        // One of them is empty.
        all.clear();
    }
    all.sort_by_key(|set| set.members.len());
    all
}

fn in_all(sets: &[&Set], member: &[u8]) -> bool {
    sets.iter().all(|set| set.members.get(member).is_some())
}

fn union<'k>(sets: &[Option<&'k Set>]) -> Vec<&'k [u8]> {
    let mut seen = AHashSet::new();
    sets.iter().flatten().flat_map(|set| members(set)).filter(|member| seen.insert(*member)).collect()
}

fn difference<'k>(sets: &[Option<&'k Set>]) -> Vec<&'k [u8]> {
    let Some((Some(first), others)) = sets.split_first() else { return Vec::new() };
    let others: Vec<&Set> = others.iter().flatten().copied().collect();
    let total: usize = others.iter().map(|other| other.members.len()).sum();
    let first = members(first);
    // Looking up stops at the first set that has the member, so it counts half.
    if first.len().saturating_mul(others.len()) / 2 <= total.saturating_add(first.len()) {
        return first
            .into_iter()
            .filter(|member| others.iter().all(|other| other.members.get(member).is_none()))
            .collect();
    }
    let taken: AHashSet<&[u8]> = others.iter().flat_map(|other| other.members.iter()).map(|it| it.member).collect();
    first.into_iter().filter(|member| !taken.contains(member)).collect()
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;
    use crate::protocol::Proto;

    fn three() -> Node {
        let mut node = Node::new();
        for line in ["SADD {x}a 1 2 3 4", "SADD {x}b 2 3 x", "SADD {x}c 3 4 5", "SET {x}t v"] {
            node.run(line);
        }
        node
    }

    #[test]
    fn answers_and_counts() {
        let mut node = three();
        assert_eq!(node.run("SINTER {x}a {x}b"), "*2\r\n$1\r\n2\r\n$1\r\n3\r\n");
        assert_eq!(node.run("SINTER {x}a {x}none"), "*0\r\n");
        assert_eq!(node.run("SDIFF {x}a {x}b {x}c"), "*1\r\n$1\r\n1\r\n");
        assert_eq!(node.run("SDIFF {x}none {x}a"), "*0\r\n");
        assert_eq!(node.run("SDIFF {x}a {x}a"), "*0\r\n");
        assert_eq!(
            (node.run("SINTERCARD 2 {x}a {x}b"), node.run("SINTERCARD 2 {x}a {x}b LIMIT 1")),
            (":2\r\n".into(), ":1\r\n".into())
        );
        node.proto = Proto::Resp3;
        assert_eq!(node.run("SUNION {x}a {x}c"), "~5\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n");
    }

    #[test]
    fn stores_also_over_a_source() {
        let mut node = three();
        node.effects.notify = true;
        assert_eq!(node.run("SINTERSTORE {x}a {x}a {x}b"), ":2\r\n");
        assert_eq!(node.run("SMEMBERS {x}a"), "*2\r\n$1\r\n2\r\n$1\r\n3\r\n");
        assert_eq!(node.run("SUNIONSTORE {x}t {x}a"), ":2\r\n");
        assert_eq!(node.run("SDIFFSTORE {x}t {x}a {x}b"), ":0\r\n");
        assert_eq!(node.run("SCARD {x}t"), ":0\r\n");
        let events: Vec<_> = node.take_events().iter().map(|event| event.name).collect();
        assert_eq!(events, ["sinterstore", "sunionstore", "del"]);
    }

    #[test]
    fn refuses_in_the_words_of_redis() {
        let mut node = three();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        for line in ["SINTER {x}none {x}t", "SDIFF {x}none {x}t", "SUNIONSTORE {x}d {x}t", "SINTERCARD 1 {x}t"] {
            assert_eq!(node.run(line), wrong);
        }
        for count in ["0", "-1", "x"] {
            assert_eq!(node.run(&format!("SINTERCARD {count} {{x}}a")), "-ERR numkeys should be greater than 0\r\n");
        }
        for count in ["2", "9223372036854775807"] {
            let text = "-ERR Number of keys can't be greater than number of args\r\n";
            assert_eq!(node.run(&format!("SINTERCARD {count} {{x}}a")), text);
        }
        assert_eq!(node.run("SINTERCARD 1 {x}a LIMIT"), "-ERR syntax error\r\n");
        assert_eq!(node.run("SINTERCARD 1 {x}a LIMIT -1"), "-ERR LIMIT can't be negative\r\n");
    }
}
