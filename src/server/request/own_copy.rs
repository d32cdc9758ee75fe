//! Reads of keys that another node coordinates, answered from this node's own copy.
//!
//! A node that holds a copy runs such a read on it at once, and sends the request to the coordinator together with the
//! version that it has seen. If the coordinator holds the same version, it says so in four bytes: two replicas agree,
//! which is all that R=2 asks for, and neither the value nor a verify to a third node has to travel. If it does not, it
//! runs the request as if nothing had been said, and its reply takes the place of ours.
//!
//! Both looks fall between the request's arrival and its reply, so this is the quorum of any other read; requests that
//! are asked on a forward link are run in their order, so a read behind a write finds the coordinator ahead of our
//! copy.
//!
//! Only commands whose reply follows from what the key holds, whichever node looks. The use of the key is counted where
//! it is coordinated. Not in strict mode, where only promised replicas confirm; not when R is more than 2.

use crate::base::ids::Slot;
use crate::commands::spec::{Command, Cx, Group, KeysFunction, flag};
use crate::peer::frame::Seen;
use crate::protocol::Reply;
use crate::replication::replica::confirms;
use crate::replication::routing::SlotRoles;
use crate::server::batch::question::Target;
use crate::server::batch::window::Request;
use crate::server::forward::seen::PeerSeen;
use crate::server::request::confirm::seen_by_one;
use crate::server::request::run::{Origin, Run};
use crate::store::{Effects, Keyspace};

/// Whether the reply of a command follows from what its only key holds. It does not where order or chance differ
/// between nodes, or where looking is not using.
fn is_determined(command: &Command) -> bool {
    let of_content = match command.group {
        Group::String | Group::Bitmap => true,
        Group::Hash | Group::Set => command.has(flag::FAST),
        _ => false,
    };
    of_content && command.has(flag::READONLY) && command.only_key().is_some()
}

impl Run<'_> {
    /// Answers a read that `target` coordinates from this node's copy, if the command and the copy allow it: true then,
    /// and the reply stands in the batch, on condition that `target` confirms it.
    pub(super) fn read_own_copy(
        &mut self,
        target: Target,
        roles: &SlotRoles,
        command: &'static Command,
        function: KeysFunction,
        request: &Request<'_>,
    ) -> bool {
        let may = self.origin == Origin::Client && roles.is_active && self.quorum.read == 2 && !self.quorum.strict;
        let Some(spot) = request.spot.filter(|_| may && is_determined(command)) else { return false };
        let (from, node) = (self.batch.out.len(), &self.worker.shared.node);
        // The coordinator counts what is found or not, and tells who wants to know.
        let mut effects = Effects { no_touch: self.leaves_untouched(command), ..Effects::default() };
        let seen = {
            let mut keys = node.store.lock_key(request.key(), spot, self.session.db, self.now_us / 1_000, &mut effects);
            let out = Reply::new(&mut self.batch.out, self.session.proto);
            let result = Cx { args: request.args, keys: &mut keys, out, limits: self.limits }.run(function);
            // Asked once it has been read: a node that is to give up what it holds becomes cold first.
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

    /// Whether what a peer has seen would confirm what a command reads of this slot here.
    pub(super) fn believes(&self, seen: &PeerSeen, roles: &SlotRoles, slot: Slot, command: &Command) -> bool {
        let need = self.quorum.read.saturating_sub(usize::from(roles.is_active));
        let may_confirm = || self.worker.shared.coordinator.confirmers(roles, slot, need).contains(&seen.by);
        !self.quorum.strict && need <= 1 && may_confirm() && is_determined(command)
    }

    /// Whether the peer that asks has seen what this node, which has locked the key's slot, holds of it. That is a use
    /// of the key.
    #[inline]
    pub(super) fn agrees_with_peer(&mut self, keys: &mut Keyspace<'_>, key: &[u8]) -> bool {
        self.current.peer_seen.is_some()
            && self.current.peer_seen.take().is_some_and(|it| holds_what(&it.seen, keys, key))
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
    use crate::commands::table::find;

    #[test]
    fn only_replies_that_are_the_same_on_every_node_come_from_a_copy() {
        let is = |name: &str| is_determined(find(name.as_bytes()).expect("a command").1);
        let from_copy = ["get", "strlen", "getrange", "getbit", "bitcount", "hget", "hmget", "hlen", "sismember"];
        // Writes; several keys; order and chance; not a use.
        let elsewhere = ["set", "getdel", "mget", "lcs", "hgetall", "hkeys", "sscan", "srandmember", "ttl", "type"];
        assert!(from_copy.into_iter().all(is) && !elsewhere.into_iter().any(is));
    }
}
