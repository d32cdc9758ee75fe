//! Reads of keys that another node coordinates, answered from this node's own copy.
//!
//! A node that holds a copy runs such a read on it at once, and sends the request to the coordinator together with the
//! version that it has seen. If the coordinator holds the same version, it says so in four bytes: two replicas agree, which
//! is all that R=2 asks for, and neither the value nor a verify to a third node has to travel. If it does not, it runs the
//! request as if nothing had been said, and its reply takes the place of ours.
//!
//! Both looks fall between the request's arrival and its reply, so this is the quorum of any other read; the forward
//! link keeps the order of a connection's requests, so a read behind a write finds the coordinator ahead of our copy.
//!
//! Only commands whose reply follows from what the key holds, whichever node looks. The use of the key is counted where it
//! is coordinated. Not in strict mode, where only promised replicas confirm; not when R is more than 2.

use crate::base::version::{Actor, ActorTable};
use crate::base::wire::{Reader, put_u32};
use crate::commands::spec::{Command, Cx, Group as Kind, flag};
use crate::peer::frame::Seen;
use crate::protocol::Reply;
use crate::replication::replica::confirms;
use crate::replication::routing::Group;
use crate::server::confirm::seen_by_one;
use crate::server::dispatch::{KeysFunction, Origin, Run};
use crate::server::forward::set_length;
use crate::server::question::Target;
use crate::server::window::Request;
use crate::store::{Effects, Keyspace};

/// What the peer that asks has seen of a request's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSeen {
    seen: Seen,
    /// The peer's place in the view.
    by: u16,
}

/// What a question says that its asker has seen, request by request; see [`put_all`].
pub struct SeenList<'q> {
    rest: Reader<'q>,
    /// The asker's place in the view, and its short name.
    by: Option<u16>,
    actor: Actor,
}

impl<'q> SeenList<'q> {
    /// The list of a peer; nothing is believed of one that is not in the view.
    pub fn new(bytes: &'q [u8], by: Option<u16>, actor: Actor) -> SeenList<'q> {
        SeenList { rest: Reader::new(bytes), by, actor }
    }

    /// What has been seen of the next request's key; `None` for nothing, and from the first nonsense on.
    pub fn next(&mut self, actors: &ActorTable) -> Option<PeerSeen> {
        let is_there = self.rest.u8() == Ok(1);
        let seen = is_there.then(|| Seen::read(&mut self.rest, self.actor, actors))?;
        match seen {
            Ok(seen) => Some(PeerSeen { seen, by: self.by? }),
            Err(_) => {
                self.rest = Reader::new(&[]);
                None
            }
        }
    }
}

/// Appends a list behind its length: for each request 0, or 1 and what was seen of its key, as [`Seen::put`] wrote it.
pub fn put_all<'s>(out: &mut Vec<u8>, seen: impl Iterator<Item = Option<&'s [u8]>>) {
    let at = out.len();
    put_u32(out, 0);
    for one in seen {
        out.push(u8::from(one.is_some()));
        out.extend_from_slice(one.unwrap_or_default());
    }
    // Not longer than the question that it is a part of, whose length is looked at.
    let _ = set_length(out, at);
}

/// Whether the reply of a command follows from what its only key holds. It does not where order or chance differ between
/// nodes, or where looking is not using.
fn is_determined(command: &Command) -> bool {
    let of_content = match command.group {
        Kind::String | Kind::Bitmap => true,
        Kind::Hash | Kind::Set => command.has(flag::FAST),
        _ => false,
    };
    of_content && command.has(flag::READONLY) && command.only_key().is_some()
}

impl Run<'_> {
    /// Answers a read that `target` coordinates from this node's copy, if the command and the copy allow it: true then, and
    /// the reply stands in the batch, on condition that `target` confirms it.
    pub(super) fn read_own_copy(
        &mut self,
        (target, group): (Target, &Group),
        (command, run): (&'static Command, KeysFunction),
        request: &Request<'_>,
    ) -> bool {
        let may = self.origin == Origin::Client && group.is_active && self.quorum.read == 2 && !self.quorum.strict;
        let Some(spot) = request.spot.filter(|_| may && is_determined(command)) else { return false };
        let (from, node) = (self.batch.out.len(), &self.worker.shared.node);
        // The coordinator counts what is found or not, and tells who wants to know.
        let mut effects = Effects { no_touch: self.leaves_untouched(command), ..Effects::default() };
        let seen = {
            let mut keys = node.store.lock_key(request.key(), spot, self.session.db, self.now_us / 1_000, &mut effects);
            let out = Reply::new(&mut self.batch.out, self.session.proto);
            let result = Cx { args: request.args, keys: &mut keys, out, limits: self.limits }.run(run);
            // Asked behind the look: whoever forgets what it holds is cold before.
            let is_warm = node.cluster.get().is_some_and(|cluster| cluster.is_warm());
            (result.is_ok() && is_warm).then(|| seen_by_one(&keys, request.key(), (0, 0)))
        };
        let Some(seen) = seen else {
            self.batch.out.truncate(from);
            return false;
        };
        let ask = self.batch.keep(request.bytes, self.session.db, self.session.proto);
        let seen = self.batch.keep_seen(|out| seen.put(out, &node.store.actors));
        self.batch.leave_reply(target, ask, from, seen);
        true
    }

    /// Whether what a peer has seen would confirm what a command reads of this group here.
    pub(super) fn believes(&self, seen: &PeerSeen, group: &Group, command: &Command) -> bool {
        let need = self.quorum.read.saturating_sub(usize::from(group.is_active));
        !self.quorum.strict && need <= 1 && group.confirmers.contains(&seen.by) && is_determined(command)
    }

    /// Whether the peer that asks has seen what this node, which has locked the key's slot, holds of it. That is a use of
    /// the key.
    #[inline]
    pub(super) fn agrees_with_peer(&mut self, keys: &mut Keyspace<'_>, key: &[u8]) -> bool {
        self.peer_seen.is_some() && self.peer_seen.take().is_some_and(|it| holds_what(&it.seen, keys, key))
    }
}

fn holds_what(seen: &Seen, keys: &mut Keyspace<'_>, key: &[u8]) -> bool {
    let (entry, now_ms) = (keys.entry(key), keys.now_ms());
    // Whether a deadline has passed is for the coordinator's clock to say.
    let is_dead = entry.is_none_or(|entry| entry.is_tombstone() || entry.is_expired(now_ms));
    let agrees = is_dead == seen.dead && confirms(entry, seen, now_ms);
    if agrees {
        keys.read(key);
    }
    agrees
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::ids::ActorId;
    use crate::base::version::{Dot, Version};
    use crate::commands::table::find;

    #[test]
    fn what_was_seen_arrives_request_by_request_and_nonsense_ends_it() {
        let (us, them) = (ActorId { node: 1, boot: 1 }, ActorId { node: 2, boot: 2 });
        let (ours, theirs) = (ActorTable::new(us), ActorTable::new(them));
        let at = |actor| Some(Version::first(Dot { hlc: Hlc(7), actor }));
        let own = Seen { version: at(Actor::SELF), dead: false };
        let none = Seen { version: None, dead: true };
        let written = |seen: &Seen| {
            let mut bytes = Vec::new();
            seen.put(&mut bytes, &ours);
            bytes
        };
        let (first, third) = (written(&own), written(&none));
        let mut bytes = Vec::new();
        put_all(&mut bytes, [Some(&first[..]), None, Some(&third[..])].into_iter());
        let (list, us_there) = (bytes.split_off(4), theirs.intern(us).expect("room"));
        let mut read = SeenList::new(&list, Some(3), us_there);
        let mut next = || read.next(&theirs);
        assert_eq!(next(), Some(PeerSeen { seen: Seen { version: at(us_there), dead: false }, by: 3 }));
        assert_eq!(next(), None);
        assert_eq!(next(), Some(PeerSeen { seen: none, by: 3 }));
        assert_eq!((next(), next()), (None, None));
        let mut cut = SeenList::new(&list[..5], Some(3), us_there);
        assert_eq!((cut.next(&theirs), cut.next(&theirs)), (None, None));
        assert_eq!(SeenList::new(&list, None, us_there).next(&theirs), None, "of a stranger");
    }

    #[test]
    fn only_replies_that_are_the_same_on_every_node_come_from_a_copy() {
        let is = |name: &str| is_determined(find(name.as_bytes()).expect("a command").1);
        let from_copy = ["get", "strlen", "getrange", "getbit", "bitcount", "hget", "hmget", "hlen", "sismember"];
        // Writes; several keys; order and chance; not a use.
        let elsewhere = ["set", "getdel", "mget", "lcs", "hgetall", "hkeys", "sscan", "srandmember", "ttl", "type"];
        assert!(from_copy.into_iter().all(is) && !elsewhere.into_iter().any(is));
    }
}
