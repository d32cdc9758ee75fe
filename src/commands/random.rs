//! Random elements of collections: HRANDFIELD, SRANDMEMBER, SPOP.
//!
//! A positive count asks for that many different elements, a negative one for that many draws with repetition. Few
//! different ones out of a large table are drawn until enough are different; many, or any out of a packed collection,
//! are taken from a shuffled list. Either way the cost is that of the answer, or of the collection when that is small.
//!
//! Draws with repetition can be asked for without end: an answer longer than [`REPEATS_BYTES_MAX`] is refused, before
//! anything is drawn where that can be told, while Redis would fill its memory.

use ahash::AHashSet;
use rand::seq::SliceRandom as _;

use crate::commands::CommandError;
use crate::commands::hash::{notify_if_gone, read_hash, reply_value};
use crate::commands::set::{members, peek_set, read_set};
use crate::commands::spec::{Command, Cx, Group, Handler, KEY, flag};
use crate::protocol::{Proto, Reply, parse_i64};
use crate::store::element::Element;
use crate::store::elements::Elements;
use crate::store::mutation::Mutation;

/// The longest answer to a negative count, in bytes.
const REPEATS_BYTES_MAX: usize = 64 << 20;
const TOO_MANY_REPEATS: CommandError = CommandError::text("ERR the answer to this count would exceed 64 MB");
/// What the shortest reply to one draw takes, in bytes: an empty element.
const DRAW_BYTES_MIN: usize = b"$0\r\n\r\n".len();

/// Tables of which more than one part in this many is wanted are shuffled rather than drawn from.
const SHUFFLE_SHARE: usize = 3;

/// `HRANDFIELD key [count [WITHVALUES]]`: a field or null; with a count an array of fields or pairs.
pub static HRANDFIELD: Command = Command {
    name: "hrandfield",
    summary: "Get one or multiple random fields from a hash",
    syntax: "key [count [WITHVALUES]]",
    since: "6.2.0",
    complexity: "O(N) where N is the number of fields returned",
    group: Group::Hash,
    arity: -2,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(hrandfield),
};
fn hrandfield(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    if cx.args.len() == 2 {
        match read_hash(cx.keys, key)?.and_then(|fields| fields.pick(rand::random())) {
            Some(element) => cx.out.bulk(element.member),
            None => cx.out.null(),
        }
        return Ok(());
    }
    let count = count(cx)?;
    let values = match (cx.args.len(), cx.args.get(3)) {
        (3, _) => false,
        (4, Some(word)) if word.eq_ignore_ascii_case(b"WITHVALUES") => true,
        _ => return Err(CommandError::Syntax),
    };
    if values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::text("ERR value is out of range"));
    }
    let fields = read_hash(cx.keys, key)?;
    let in_pairs = cx.out.proto == Proto::Resp3;
    let each = if values && !in_pairs { 2 } else { 1 };
    reply_chosen(&mut cx.out, fields, count, each, |out, element| {
        if values && in_pairs {
            out.array(2);
        }
        out.bulk(element.member);
        if values {
            reply_value(out, element);
        }
    })
}

/// SRANDMEMBER key [count]: a member or null; with a count an array of members.
pub static SRANDMEMBER: Command = Command {
    name: "srandmember",
    summary: "Get one or multiple random members from a set",
    syntax: "key [count]",
    since: "1.0.0",
    complexity: "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
    group: Group::Set,
    arity: -2,
    flags: flag::READONLY,
    keys: KEY,
    handler: Handler::Keys(srandmember),
};
fn srandmember(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    if cx.args.len() == 2 {
        match read_set(cx.keys, key)?.and_then(|set| set.members.pick(rand::random())) {
            Some(element) => cx.out.bulk(element.member),
            None => cx.out.null(),
        }
        return Ok(());
    }
    if cx.args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = count(cx)?;
    let set = read_set(cx.keys, key)?.map(|set| &set.members);
    reply_chosen(&mut cx.out, set, count, 1, |out, element| out.bulk(element.member))
}

/// The count in argument 2, which Redis keeps above the lowest of all numbers so that it has an absolute value.
fn count(cx: &Cx<'_, '_>) -> Result<i64, CommandError> {
    match cx.int(2)? {
        i64::MIN => Err(CommandError::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// Answers with an array of `count` chosen elements, each of which `write` writes as `each` replies.
fn reply_chosen(
    out: &mut Reply<'_>,
    elements: Option<&Elements>,
    count: i64,
    each: usize,
    write: impl Fn(&mut Reply<'_>, Element<'_>),
) -> Result<(), CommandError> {
    let Some(elements) = elements.filter(|elements| count != 0 && !elements.is_empty()) else {
        out.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count > 0 {
        let chosen = different(elements, wanted);
        out.array(chosen.len() * each);
        chosen.into_iter().for_each(|element| write(out, element));
        return Ok(());
    }
    let start = out.buf.len();
    // A packed collection is searched from the front: list it once.
    let listed: Vec<Element<'_>> = if elements.is_packed() { elements.iter().collect() } else { Vec::new() };
    let mut bytes_of = |element: &Element<'_>| {
        write(out, *element);
        let bytes = out.buf.len() - start;
        out.buf.truncate(start);
        bytes
    };
    let least = listed.iter().map(&mut bytes_of).min().unwrap_or(DRAW_BYTES_MIN);
    if wanted.saturating_mul(least) > REPEATS_BYTES_MAX {
        // The client's own limit comes first.
        let is_limited = out.room_bytes() < REPEATS_BYTES_MAX;
        return Err(if is_limited { CommandError::ReplyTooLarge } else { TOO_MANY_REPEATS });
    }
    out.array(wanted * each);
    for _ in 0..wanted {
        let draw: u64 = rand::random();
        let listed = listed.get(draw.checked_rem(listed.len() as u64).unwrap_or(0) as usize).copied();
        if let Some(element) = listed.or_else(|| elements.pick(draw)) {
            write(out, element);
        }
        if out.is_cut() {
            return Ok(());
        }
        if out.buf.len() - start > REPEATS_BYTES_MAX {
            out.buf.truncate(start);
            return Err(TOO_MANY_REPEATS);
        }
    }
    Ok(())
}

/// `count` different elements, or all of them when there are fewer.
fn different(elements: &Elements, count: usize) -> Vec<Element<'_>> {
    if count >= elements.len() {
        return elements.iter().collect();
    }
    if elements.is_packed() || count > elements.len() / SHUFFLE_SHARE {
        let mut listed: Vec<Element<'_>> = elements.iter().collect();
        return listed.partial_shuffle(&mut rand::rng(), count).0.to_vec();
    }
    let (mut seen, mut chosen) = (AHashSet::with_capacity(count), Vec::with_capacity(count));
    while chosen.len() < count {
        chosen.extend(elements.pick(rand::random()).filter(|element| seen.insert(element.member)));
    }
    chosen
}

/// SPOP key [count]: a member that is now gone, or null; with a count a set of them.
pub static SPOP: Command = Command {
    name: "spop",
    summary: "Remove and return one or multiple random members from a set",
    syntax: "key [count]",
    since: "1.0.0",
    complexity: "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
    group: Group::Set,
    arity: -2,
    flags: flag::WRITE | flag::FAST,
    keys: KEY,
    handler: Handler::Keys(spop),
};
fn spop(cx: &mut Cx<'_, '_>) -> Result<(), CommandError> {
    let key = cx.arg(1)?;
    if cx.args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    if cx.args.len() == 3 {
        return spop_count(cx, key);
    }
    let picked = peek_set(cx.keys, key)?.and_then(|set| set.members.pick(rand::random()));
    let Some(member) = picked.map(|element| element.member.to_vec()) else {
        cx.out.null();
        return Ok(());
    };
    cx.keys.write(key, Mutation::RemoveMember { member: &member });
    cx.keys.notify(b's', "spop", key);
    notify_if_gone(cx.keys, key);
    cx.out.bulk(&member);
    Ok(())
}

fn spop_count(cx: &mut Cx<'_, '_>, key: &[u8]) -> Result<(), CommandError> {
    let count = parse_i64(cx.arg(2)?).and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or(CommandError::text("ERR value is out of range, must be positive"))?;
    let Some(set) = peek_set(cx.keys, key)?.filter(|_| count > 0) else {
        cx.out.set(0);
        return Ok(());
    };
    let all = count >= set.members.len();
    let chosen: Vec<Vec<u8>> = if all {
        members(set).into_iter().map(<[u8]>::to_vec).collect()
    } else {
        different(&set.members, count).into_iter().map(|element| element.member.to_vec()).collect()
    };
    if all {
        // One deletion says it all to the replicas.
        cx.keys.delete(key);
    } else {
        chosen.iter().for_each(|member| cx.keys.write(key, Mutation::RemoveMember { member }));
    }
    cx.keys.notify(b's', "spop", key);
    notify_if_gone(cx.keys, key);
    cx.out.set(chosen.len());
    chosen.iter().for_each(|member| cx.out.bulk(member));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Node;
    use crate::protocol::Proto;
    use std::collections::BTreeSet;

    /// The bulk strings of a flat reply.
    fn bulks(reply: &str) -> Vec<String> {
        reply
            .split("\r\n")
            .skip(1)
            .filter(|line| !line.is_empty() && !line.starts_with('$'))
            .map(str::to_owned)
            .collect()
    }

    fn with_members(count: usize) -> Node {
        let mut node = Node::new();
        (0..count).for_each(|n| drop(node.run(&format!("SADD s m{n}"))));
        (0..count).for_each(|n| drop(node.run(&format!("HSET h f{n} v{n}"))));
        node
    }

    #[test]
    fn a_positive_count_gives_different_elements_and_a_negative_one_as_many_as_asked() {
        // Packed, a table of which little is wanted, and one of which much is wanted.
        for (len, wanted) in [(20, 7), (500, 20), (500, 400), (500, 500), (20, 99)] {
            let mut node = with_members(len);
            for line in [format!("SRANDMEMBER s {wanted}"), format!("HRANDFIELD h {wanted}")] {
                let found = bulks(&node.run(&line));
                assert_eq!(found.len(), wanted.min(len), "{line}");
                assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "{line}");
            }
            assert_eq!(bulks(&node.run(&format!("SRANDMEMBER s -{}", 3 * len))).len(), 3 * len);
            assert_eq!(bulks(&node.run(&format!("HRANDFIELD h -{} WITHVALUES", 3 * len))).len(), 6 * len);
        }
    }

    #[test]
    fn every_element_has_its_turn() {
        for len in [10, 300] {
            let mut node = with_members(len);
            let seen: BTreeSet<String> = (0..len * 20).map(|_| node.run("SRANDMEMBER s")).collect();
            assert_eq!(seen.len(), len);
            let drawn: BTreeSet<String> =
                bulks(&node.run(&format!("HRANDFIELD h -{}", len * 20))).into_iter().collect();
            assert_eq!(drawn.len(), len);
        }
    }

    #[test]
    fn popped_members_are_gone() {
        for (len, count) in [(20, 5), (500, 10), (500, 450), (500, 500), (20, 99)] {
            let mut node = with_members(len);
            node.effects.notify = true;
            let popped = bulks(&node.run(&format!("SPOP s {count}")));
            assert_eq!(popped.len(), count.min(len));
            assert_eq!(node.run("SCARD s"), format!(":{}\r\n", len - popped.len()));
            assert!(popped.iter().all(|member| node.run(&format!("SISMEMBER s {member}")) == ":0\r\n"));
            let events: Vec<_> = node.take_events().iter().map(|event| event.name).collect();
            assert_eq!(events, if count >= len { vec!["spop", "del"] } else { vec!["spop"] });
        }
        let mut node = with_members(1);
        assert_eq!((node.run("SPOP s"), node.run("SPOP s")), ("$2\r\nm0\r\n".into(), "$-1\r\n".into()));
    }

    #[test]
    fn shapes_and_refusals_are_those_of_redis() {
        let mut node = with_members(1);
        let range = "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807\r\n";
        assert_eq!(node.run("SRANDMEMBER s -9223372036854775808"), range);
        assert_eq!(node.run("HRANDFIELD h 4611686018427387904 WITHVALUES"), "-ERR value is out of range\r\n");
        assert_eq!(node.run("HRANDFIELD h 1 VALUES"), "-ERR syntax error\r\n");
        assert_eq!(node.run("SPOP s -1"), "-ERR value is out of range, must be positive\r\n");
        assert_eq!(node.run("SPOP s 1 2"), "-ERR syntax error\r\n");
        assert_eq!(node.run("SRANDMEMBER none 9223372036854775807"), "*0\r\n");
        assert_eq!(node.run("HRANDFIELD h -1 WITHVALUES"), "*2\r\n$2\r\nf0\r\n$2\r\nv0\r\n");
        node.proto = Proto::Resp3;
        assert_eq!(node.run("HRANDFIELD h 9 WITHVALUES"), "*1\r\n*2\r\n$2\r\nf0\r\n$2\r\nv0\r\n");
        assert_eq!(
            (node.run("SRANDMEMBER s 5"), node.run("SPOP s 5")),
            ("*1\r\n$2\r\nm0\r\n".into(), "~1\r\n$2\r\nm0\r\n".into())
        );
        assert_eq!((node.run("SPOP s"), node.run("SPOP s 3")), ("_\r\n".into(), "~0\r\n".into()));
    }

    #[test]
    fn an_endless_answer_is_refused_and_leaves_nothing_behind() {
        let mut node = Node::new();
        node.run(&format!("SADD s {}", "x".repeat(60_000)));
        let refused = "-ERR the answer to this count would exceed 64 MB\r\n";
        assert_eq!(node.run("SRANDMEMBER s -9223372036854775807"), refused);
    }
}
