//! Who runs what of a transaction: its requests, cut into groups that one node runs as a whole.
//!
//! A group is a stretch of requests whose keys have one coordinator. A request without keys (PING, SELECT, CONFIG ...)
//! is for the node that the client talks to, whoever that is: it stands in whatever group it comes in, and divides
//! none. But one that may look at the store itself (CONFIG, CLIENT ...) is the last of its group, since no slot may be
//! locked while it runs. A request about the whole keyspace, or with keys of several coordinators, stands alone between
//! groups.
//!
//! Watched keys bind all groups: theirs is the coordinator of every key, else nobody could say that a key is as it was
//! seen while another node changes what depends on it.
//!
//! Pure. To find a group each of its requests is looked at once, so that a transaction of any number of groups costs
//! what its requests cost; with watched keys all that follow are looked at too, and those are over with the first
//! group.

use crate::base::ids::slot_of;
use crate::commands::CommandError;
use crate::commands::spec::{Command, Handler, NodeCommand, flag};
use crate::protocol::client::{ReplyLimits, ReplyScanner};
use crate::protocol::{Args, parse_i64};
use crate::replication::view::View;
use crate::server::session::watched::Watched;
use crate::server::transaction::queued::Queued;

const OTHER_COORDINATOR: &str =
    "ERR WATCH needs all keys of the transaction to have the same coordinator as the watched keys";

/// Who runs a queued request. Members are places in a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runner {
    /// Any node: it has no keys.
    Anyone,
    /// The coordinator of all its keys.
    One(u16),
    /// More than one: its keys have several coordinators, or some have none.
    Several,
    /// Nobody yet: none of its keys has a coordinator.
    Nobody,
    /// Every node: it is about the whole keyspace.
    All,
}

/// What is run next of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// This many requests, by member `at`, as one.
    Together {
        /// Who runs those of them that have keys.
        at: u16,
        /// How many.
        len: usize,
    },
    /// The first request, alone.
    Alone,
    /// Nothing, before keys of the first requests have a coordinator. To run them alone meanwhile would not be atomic.
    Later,
}

/// The next group. `watched_at` is who coordinates the watched keys, if there are any; who has no keys to run goes to
/// `me`. `is_last` says which requests are the last of their group.
pub fn next_group<R>(
    requests: &[R],
    watched_at: Option<u16>,
    me: u16,
    runner_of: impl Fn(&R) -> Runner,
    is_last: impl Fn(&R) -> bool,
) -> Result<Next, CommandError> {
    if let Some(at) = watched_at {
        if requests.iter().any(|request| runner_of(request) == Runner::Nobody) {
            return Ok(Next::Later);
        }
        let is_elsewhere = |runner| runner == Runner::Several || matches!(runner, Runner::One(other) if other != at);
        if requests.iter().any(|request| is_elsewhere(runner_of(request))) {
            return Err(CommandError::text(OTHER_COORDINATOR));
        }
    }
    let (mut at, mut len) = (watched_at, 0);
    for request in requests {
        match runner_of(request) {
            Runner::Anyone => {}
            Runner::One(member) if at.is_none_or(|at| at == member) => at = Some(member),
            Runner::Nobody if at.is_none() => return Ok(Next::Later),
            Runner::All | Runner::Several if len == 0 && watched_at.is_none() => return Ok(Next::Alone),
            _ => break,
        }
        len += 1;
        if is_last(request) {
            break;
        }
    }
    Ok(Next::Together { at: at.unwrap_or(me), len })
}

/// Who runs a request.
pub fn runner(view: &View, request: &Queued<'_>) -> Runner {
    if view.is_solo {
        return Runner::One(view.me);
    }
    // Shard channels have slots, and are served by every node.
    let Some(command) = request.command.filter(|command| !command.has(flag::PUBSUB)) else { return Runner::Anyone };
    let mut at = request.slots.iter().map(|slot| view.coordinator_of(*slot));
    match (at.next(), command.handler) {
        (Some(first), _) if at.any(|other| other != first) => Runner::Several,
        (Some(Some(first)), _) => Runner::One(first),
        (Some(None), _) => Runner::Nobody,
        (None, Handler::Node(node)) if node.is_of_all_keys() => Runner::All,
        (None, _) => Runner::Anyone,
    }
}

/// Whether no slot may be locked while a request runs.
pub fn runs_unlocked(request: &Queued<'_>) -> bool {
    let is_unlocked = |command: &Command| matches!(command.handler, Handler::Node(node) if !node.leaves_store_alone());
    request.command.is_some_and(is_unlocked)
}

/// Who coordinates all watched keys; `None` when that is not who was asked to watch them, and may have missed a change.
pub fn coordinator_of(view: &View, watched: &[Watched]) -> Option<u16> {
    let at = match watched.first()?.at {
        None => view.me,
        Some(id) => view.place_of(id)?,
    };
    watched.iter().all(|it| view.coordinator_of(slot_of(&it.key)) == Some(at)).then_some(at)
}

/// The database that a request selects for those behind it, if it is one that does.
pub fn selected(command: &Command, args: Args<'_>) -> Option<u8> {
    let selects = matches!(command.handler, Handler::Node(NodeCommand::Select));
    args.get(1).filter(|_| selects).and_then(parse_i64).and_then(|number| u8::try_from(number).ok())
}

/// Cuts replies apart that stand one behind the other; `None` when they are no replies.
pub fn replies_of(answer: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, mut replies) = (answer, Vec::new());
    while !rest.is_empty() {
        let found = ReplyScanner::new(ReplyLimits::arrived()).scan(rest).ok()??;
        let (reply, behind) = rest.split_at_checked(found.consumed)?;
        replies.push(reply);
        rest = behind;
    }
    Some(replies)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::server::transaction::queued::requests_of;

    /// `0` to `9` have a coordinator, `-` and `!` have no keys, `*` has those of several, `#` is about all.
    fn told_by(request: &&[u8]) -> Runner {
        match *request {
            b"-" | b"!" => Runner::Anyone,
            b"*" => Runner::Several,
            b"#" => Runner::All,
            b"?" => Runner::Nobody,
            [digit, ..] => Runner::One(u16::from(digit - b'0')),
            [] => panic!("a request"),
        }
    }

    fn cut_apart(queued: &[u8]) -> Vec<&[u8]> {
        requests_of(queued).iter().map(|request| request.bytes).collect()
    }

    fn cut(line: &str) -> Vec<&[u8]> {
        line.as_bytes().chunks(1).collect()
    }

    /// The groups of a transaction, as a node that is member 5 finds them, the watched keys being with `watched_at`.
    fn groups(line: &str, mut watched_at: Option<u16>) -> Result<String, CommandError> {
        let (requests, mut text) = (cut(line), String::new());
        let mut rest = requests.as_slice();
        while !rest.is_empty() || watched_at.is_some() {
            let (at, len) = match next_group(rest, watched_at.take(), 5, told_by, |request| *request == b"!")? {
                Next::Together { at, len } => (at.to_string(), len),
                Next::Alone => ("alone".to_owned(), 1),
                Next::Later => ("later".to_owned(), rest.len()),
            };
            let (group, behind) = rest.split_at(len);
            text += &format!("{at}:{} ", String::from_utf8_lossy(&group.concat()));
            rest = behind;
        }
        Ok(text.trim_end().to_owned())
    }

    #[test]
    fn what_has_no_keys_divides_no_group_and_what_is_about_several_nodes_stands_alone() {
        for (line, expected) in [
            ("1122", "1:11 2:22"),
            ("-1-1-2-", "1:-1-1- 2:2-"),
            ("--", "5:--"),
            ("1#1", "1:1 alone:# 1:1"),
            ("-*-", "5:- alone:* 5:-"),
            ("##", "alone:# alone:#"),
            ("-??", "later:-??"),
            ("11?1", "1:11 later:?1"),
            ("#?1", "alone:# later:?1"),
            ("11!11", "1:11! 1:11"),
            ("-!!2", "5:-! 5:! 2:2"),
            ("", ""),
        ] {
            assert_eq!(groups(line, None), Ok(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn watched_keys_go_with_the_first_group_and_want_all_keys_where_they_are() {
        for (line, expected) in [
            ("1-1", "1:1-1"),
            ("--", "1:--"),
            ("", "1:"),
            ("#1", "1: alone:# 1:1"),
            ("1#1", "1:1 alone:# 1:1"),
            ("1?", "later:1?"),
        ] {
            assert_eq!(groups(line, Some(1)), Ok(expected.to_owned()), "{line}");
        }
        for line in ["12", "-2", "1*", "#2"] {
            assert_eq!(groups(line, Some(1)), Err(CommandError::text(OTHER_COORDINATOR)), "{line}");
        }
    }

    #[test]
    fn finding_all_groups_takes_two_looks_at_a_request_at_most() {
        let (line, looks) = ("1-2#".repeat(1_000), Cell::new(0));
        let requests = cut(&line);
        let mut rest = requests.as_slice();
        while !rest.is_empty() {
            let look = |request: &&[u8]| {
                looks.set(looks.get() + 1);
                told_by(request)
            };
            let next = next_group(rest, None, 5, look, |_| false);
            let len = if let Ok(Next::Together { len, .. }) = next { len } else { 1 };
            rest = rest.split_at(len).1;
        }
        assert!(looks.get() <= 2 * requests.len(), "{} looks at {} requests", looks.get(), requests.len());
    }

    #[test]
    fn requests_and_replies_are_cut_apart() {
        let queued = b"*1\r\n$4\r\nPING\r\nGET a\r\n*1\r\n$4\r\nTIME\r\n";
        assert_eq!(cut_apart(queued), [&b"*1\r\n$4\r\nPING\r\n"[..], b"GET a\r\n", b"*1\r\n$4\r\nTIME\r\n"]);
        assert_eq!(replies_of(b"+OK\r\n*1\r\n:1\r\n$-1\r\n"), Some(vec![&b"+OK\r\n"[..], b"*1\r\n:1\r\n", b"$-1\r\n"]));
        assert_eq!((replies_of(b""), replies_of(b"+OK\r\n:1"), replies_of(b"x")), (Some(vec![]), None, None));
    }

    /// `proto-max-bulk-len` may let a client send values above its default, 512 MB.
    #[test]
    fn values_of_any_length_are_cut_apart() {
        let (value_bytes, behind) = ((512 << 20) + 1, b"*1\r\n$4\r\nPING\r\n");
        let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${value_bytes}\r\n");
        // Its zeros are neither written nor read, so that they take no memory.
        let mut queued = vec![0; head.len() + value_bytes + 2 + behind.len()];
        queued[..head.len()].copy_from_slice(head.as_bytes());
        queued[head.len() + value_bytes..][..2].copy_from_slice(b"\r\n");
        queued[head.len() + value_bytes + 2..].copy_from_slice(behind);
        let lengths = |parts: Vec<&[u8]>| parts.iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(cut_apart(&queued)), [head.len() + value_bytes + 2, behind.len()]);
        let value_at = head.rfind('$').expect("its length");
        let replies = replies_of(&queued[value_at..]).expect("two replies");
        assert_eq!(replies.len(), 2);
    }
}
