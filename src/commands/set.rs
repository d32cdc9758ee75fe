//! Sets: members without order.
//!
//! One mutation a member, so that what is added on either side of a partition is kept and what is removed takes away
//! no more than it had seen. A command that changes nothing writes nothing: SADD of a member that is there is no
//! write, as in Redis, where it does not wake a WATCH either.
//!
//! SPOP and SRANDMEMBER are in `random`, SSCAN in `scan`, what combines sets in `set_algebra`.

use crate::commands::CommandError;
use crate::commands::hash::notify_if_gone;
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, Keys, flag};
use crate::store::keyspace::value_ref;
use crate::store::mutation::Mutation;
use crate::store::value::Set;
use crate::store::{Keyspace, ValueRef, canonical_int};

/// The set at `key`, `None` when there is no such key; counts as a use of the key.
pub(super) fn read_set<'k>(keys: &'k mut Keyspace<'_>, key: &[u8]) -> Result<Option<&'k Set>, CommandError> {
    as_set(keys.read(key))
}

/// The same without counting as a use, for commands that go on to write.
pub(super) fn peek_set<'k>(keys: &'k Keyspace<'_>, key: &[u8]) -> Result<Option<&'k Set>, CommandError> {
    as_set(keys.peek(key).and_then(value_ref))
}

fn as_set(view: Option<ValueRef<'_>>) -> Result<Option<&Set>, CommandError> {
    match view {
        None => Ok(None),
        Some(ValueRef::Set(set)) => Ok(Some(set)),
        Some(_) => Err(CommandError::WrongType),
    }
}

/// The members in the order in which Redis lists them: numbers of an intset in ascending order, others in no order.
pub(super) fn members(set: &Set) -> Vec<&[u8]> {
    let mut members: Vec<&[u8]> = set.members.iter().map(|element| element.member).collect();
    if set.intset {
        members.sort_by_cached_key(|member| canonical_int(member));
    }
    members
}

fn contains(set: Option<&Set>, member: &[u8]) -> bool {
    set.is_some_and(|set| set.members.get(member).is_some())
}

/// SADD key member ...: how many of the members are new.
pub static SADD: Command = Command {
    name: "sadd",
    summary: "Add one or more members to a set",
    syntax: "key member [member ...]",
    since: "1.0.0",
    complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
    group: Group::Set,
    arity: -3,
    flags: flag::WRITE | flag::DENYOOM | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(sadd),
};
fn sadd(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let mut added = 0;
    for member in cx.args.iter().skip(2) {
        if !contains(peek_set(cx.keys, key)?, member) {
            cx.keys.write(key, Mutation::AddMember { member });
            added += 1;
        }
    }
    if added > 0 {
        cx.keys.notify(b's', "sadd", key);
    }
    cx.out.int(added);
    Ok(())
}

/// SREM key member ...: how many of the members were there.
pub static SREM: Command = Command {
    name: "srem",
    summary: "Remove one or more members from a set",
    syntax: "key member [member ...]",
    since: "1.0.0",
    complexity: "O(N) where N is the number of members to be removed.",
    group: Group::Set,
    arity: -3,
    flags: flag::WRITE | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(srem),
};
fn srem(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let mut removed = 0;
    for member in cx.args.iter().skip(2) {
        if contains(peek_set(cx.keys, key)?, member) {
            cx.keys.write(key, Mutation::RemoveMember { member });
            removed += 1;
        }
    }
    if removed > 0 {
        cx.keys.notify(b's', "srem", key);
        notify_if_gone(cx.keys, key);
    }
    cx.out.int(removed);
    Ok(())
}

/// SISMEMBER key member: 1 or 0.
pub static SISMEMBER: Command = Command {
    name: "sismember",
    summary: "Determine if a given value is a member of a set",
    syntax: "key member",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Set,
    arity: 3,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(sismember),
};
fn sismember(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (key, member) = (cx.arg(1)?, cx.arg(2)?);
    let found = contains(read_set(cx.keys, key)?, member);
    cx.out.int(found.into());
    Ok(())
}

/// SMISMEMBER key member ...: 1 or 0 for each.
pub static SMISMEMBER: Command = Command {
    name: "smismember",
    summary: "Returns the membership associated with the given elements for a set",
    syntax: "key member [member ...]",
    since: "6.2.0",
    complexity: "O(N) where N is the number of elements being checked for membership",
    group: Group::Set,
    arity: -3,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(smismember),
};
fn smismember(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let set = read_set(cx.keys, key)?;
    cx.out.array(cx.args.len().saturating_sub(2));
    cx.args.iter().skip(2).for_each(|member| cx.out.int(contains(set, member).into()));
    Ok(())
}

/// SMEMBERS key: a set of every member.
pub static SMEMBERS: Command = Command {
    name: "smembers",
    summary: "Get all the members in a set",
    syntax: "key",
    since: "1.0.0",
    complexity: "O(N) where N is the set cardinality.",
    group: Group::Set,
    arity: 2,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(smembers),
};
fn smembers(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let members = read_set(cx.keys, key)?.map(members).unwrap_or_default();
    cx.out.set(members.len());
    members.iter().for_each(|member| cx.out.bulk(member));
    Ok(())
}

/// SCARD key: how many members there are.
pub static SCARD: Command = Command {
    name: "scard",
    summary: "Get the number of members in a set",
    syntax: "key",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Set,
    arity: 2,
    flags: flag::READONLY | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(scard),
};
fn scard(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    let len = read_set(cx.keys, key)?.map_or(0, |set| set.members.len());
    cx.out.int(len as i64);
    Ok(())
}

/// SMOVE source destination member: 1, or 0 when the source does not have it.
pub static SMOVE: Command = Command {
    name: "smove",
    summary: "Move a member from one set to another",
    syntax: "source destination member",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Set,
    arity: 4,
    flags: flag::WRITE | flag::FAST,
    keys: Keys::Range { first: 1, last: 2, step: 1 },
    handler: Handler::Keys(smove),
};
fn smove(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let (source, destination, member) = (cx.arg(1)?, cx.arg(2)?, cx.arg(3)?);
    if !cx.keys.exists(source) {
        cx.out.int(0);
        return Ok(());
    }
    let found = contains(peek_set(cx.keys, source)?, member);
    let there = contains(peek_set(cx.keys, destination)?, member);
    if found && source != destination {
        cx.keys.write(source, Mutation::RemoveMember { member });
        cx.keys.notify(b's', "srem", source);
        notify_if_gone(cx.keys, source);
        // Written again where it is there already: another SMOVE, whose keys lie on several nodes, may have put it
        // there and take it back when it finds that this one has taken it from the source.
        if !there {
            cx.keys.write(destination, Mutation::AddMember { member });
            cx.keys.notify(b's', "sadd", destination);
        } else if cx.keys.is_replicated() {
            cx.keys.write_unnoticed(destination, Mutation::AddMember { member });
        }
    }
    cx.out.int(found.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;
    use crate::protocol::Proto;

    #[test]
    fn members_are_added_found_and_removed() {
        let mut node = Node::new();
        assert_eq!((node.run("SADD s b a b"), node.run("SADD s a c")), (":2\r\n".into(), ":1\r\n".into()));
        assert_eq!((node.run("SISMEMBER s a"), node.run("SISMEMBER s x")), (":1\r\n".into(), ":0\r\n".into()));
        assert_eq!(node.run("SMISMEMBER s a x c"), "*3\r\n:1\r\n:0\r\n:1\r\n");
        assert_eq!((node.run("SCARD s"), node.run("SREM s a a x")), (":3\r\n".into(), ":1\r\n".into()));
        node.proto = Proto::Resp3;
        assert_eq!(node.run("SMEMBERS s"), "~2\r\n$1\r\nb\r\n$1\r\nc\r\n");
        assert_eq!((node.run("SREM s b c"), node.run("SMEMBERS s")), (":2\r\n".into(), "~0\r\n".into()));
        node.run("SET t x");
        for line in ["SADD t a", "SREM t a", "SISMEMBER t a", "SMISMEMBER t a", "SMEMBERS t", "SCARD t"] {
            assert_eq!(node.run(line), "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
        }
    }

    #[test]
    fn an_intset_lists_its_numbers_in_order() {
        let mut node = Node::new();
        node.run("SADD s 10 -2 9");
        assert_eq!(node.run("SMEMBERS s"), "*3\r\n$2\r\n-2\r\n$1\r\n9\r\n$2\r\n10\r\n");
    }

    #[test]
    fn moves_a_member_once() {
        let mut node = Node::new();
        node.effects.notify = true;
        node.run("SADD a x");
        node.run("SADD b y");
        assert_eq!((node.run("SMOVE a b y"), node.run("SMOVE a a x")), (":0\r\n".into(), ":1\r\n".into()));
        assert_eq!((node.run("SMOVE a b x"), node.run("SMOVE a b x")), (":1\r\n".into(), ":0\r\n".into()));
        assert_eq!((node.run("SCARD a"), node.run("SCARD b")), (":0\r\n".into(), ":2\r\n".into()));
        let events: Vec<_> = node.take_events().iter().skip(4).map(|event| event.name).collect();
        assert_eq!(events, ["srem", "del", "sadd"]);
        node.run("SET t x");
        assert_eq!(node.run("SMOVE none t x"), ":0\r\n");
        assert_eq!(
            node.run("SMOVE b t none"),
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
        );
    }
}
