//! What a request needs of other nodes once it has run here: its deltas on their lanes, its reads confirmed.
//!
//! Both happen while the slots are still locked, so that a key's frames leave in the order in which things were done to
//! it. Nothing waits: the batch notes what its replies depend on.

use crate::base::ids::{Slot, slot_of};
use crate::base::version::{Actor, Version};
use crate::commands::spec::Command;
use crate::peer::frame::{KeyRef, Seen, Verify};
use crate::protocol::Args;
use crate::replication::coordinator::seen_of;
use crate::replication::routing::Quorum;
use crate::replication::view::{QuorumError, View};
use crate::replication::wait::WaitPlaces;
use crate::server::batch::Batch;
use crate::server::batch::ask::{Ask, Reading, ReplyPlace, Span, Unconfirmed, kept};
use crate::server::batch::scanned::has_key;
use crate::server::batch::window::Request;
use crate::server::request::group_writes::GroupWrites;
use crate::server::request::run::Run;
use crate::server::worker::Worker;
use crate::store::Keyspace;
use crate::store::deltas::by_slot;
use crate::store::name::Name;

impl Run<'_> {
    /// Puts the deltas of a command on their lanes, slot by slot.
    pub fn replicate(&mut self, command: &Command, args: Args<'_>, keys: &mut Keyspace<'_>, from: usize, now_ms: u64) {
        self.replicate_noting(command, args, keys, from, now_ms, |_, _| {});
    }

    /// As [`Run::replicate`]; `note` is given each slot with what its part waits for.
    pub fn replicate_noting(
        &mut self,
        command: &Command,
        args: Args<'_>,
        keys: &mut Keyspace<'_>,
        from: usize,
        now_ms: u64,
        mut note: impl FnMut(Slot, &WaitPlaces),
    ) {
        let deltas = keys.take_deltas();
        if deltas.is_empty() {
            return;
        }
        let (reply, tells) = (self.batch.place(from), !command.is_repeatable(args));
        let first = self.batch.unconfirmed.len();
        for (slot, part) in by_slot(&deltas) {
            self.batch.note_written(slot);
            let coordinator = &self.worker.shared.coordinator;
            let waits = coordinator.replicate(self.view, slot, part, self.quorum, now_ms, &mut self.batch.waits);
            note(slot, &waits);
            for wait in waits {
                let is_noted = self.batch.unconfirmed.iter().skip(first).any(|unconfirmed| unconfirmed.wait == wait);
                if !is_noted {
                    self.batch.unconfirmed.push(Unconfirmed { reply, wait, read: None, tells });
                }
            }
        }
        keys.give_back_deltas(deltas);
    }

    /// Asks for confirmation of the versions that a command has read; `before` are the lookups before it ran.
    pub fn verify(
        &mut self,
        command: &'static Command,
        request: &Request<'_>,
        keys: &Keyspace<'_>,
        before: (u64, u64),
        from: usize,
    ) -> Result<(), QuorumError> {
        let reply = self.batch.place(from);
        if request.spot.is_some() {
            let key = request.key();
            return self.verify_key(request, key, seen_by_one(keys, key, before), reply, &mut None);
        }
        let mut kept = None;
        for key in command.key_positions(request.args).filter_map(|at| request.args.get(at)) {
            self.verify_key(request, key, seen_now(keys, key), reply, &mut kept)?;
        }
        Ok(())
    }

    /// As [`Run::verify`], behind what its own group has written, with all slots locked: a key of which that was the
    /// last write needs no other confirmation than that write. As many nodes have to hold it as would have to confirm
    /// the key. None of those may hold what this node had not seen, or in strict mode have promised the slot to
    /// another.
    pub fn verify_behind(
        &mut self,
        written: &GroupWrites,
        command: &'static Command,
        request: &Request<'_>,
        keys: &Keyspace<'_>,
        from: usize,
    ) -> Result<(), QuorumError> {
        let (reply, mut kept) = (self.batch.place(from), None);
        for key in command.key_positions(request.args).filter_map(|at| request.args.get(at)) {
            let (last, _) = keys.seen(key);
            let is_enough = last.actor == Actor::SELF && self.quorum.write >= self.quorum.read;
            match written.waits_of(slot_of(key), last.hlc).filter(|_| is_enough) {
                Some(waits) => {
                    let unconfirmed = |wait: &usize| Unconfirmed { reply, wait: *wait, read: None, tells: true };
                    self.batch.unconfirmed.extend(waits.iter().map(unconfirmed));
                }
                None => self.verify_key(request, key, seen_now(keys, key), reply, &mut kept)?,
            }
        }
        Ok(())
    }

    /// Asks for confirmation of what a request has seen of one of its keys; `kept` is how it may be run again, once
    /// that is noted.
    #[inline]
    fn verify_key(
        &mut self,
        request: &Request<'_>,
        key: &[u8],
        seen: Seen,
        reply: ReplyPlace,
        kept: &mut Option<Ask>,
    ) -> Result<(), QuorumError> {
        let slot = request.slot().unwrap_or_else(|| slot_of(key));
        let name = KeyRef { slot, db: self.session.db, key };
        let verify = Verify { name, seen, is_repeated: false, is_exact: self.fence.is_some() };
        let (coordinator, draw) = (&self.worker.shared.coordinator, self.worker.draw());
        let asked = coordinator.verify(self.view, &verify, self.quorum, draw, &mut self.batch.waits)?;
        self.batch.note_read(slot);
        // The last one takes it as it is: a copy costs more than all else here.
        let seen = std::iter::repeat_n(verify.seen, asked.len());
        for ((wait, number), seen) in asked.into_iter().zip(seen) {
            let (db, proto, fence) = (self.session.db, self.session.proto, self.fence);
            let ask = *kept.get_or_insert_with(|| Ask { fence, ..self.batch.keep(request.bytes, db, proto) });
            let key = span_within(request.bytes, key, ask.request);
            let read_at = self.worker.shared.node.store.clock.so_far();
            let read = Reading { number, ask, key, seen, read_at };
            self.batch.unconfirmed.push(Unconfirmed { reply, wait, read: Some(read), tells: true });
        }
        Ok(())
    }
}

/// What a command has seen of its only key, given the lookups before it ran.
#[inline]
pub fn seen_by_one(keys: &Keyspace<'_>, key: &[u8], (hits, misses): (u64, u64)) -> Seen {
    let effects = keys.effects();
    if effects.seen_is_plain && effects.hits + effects.misses == hits + misses + 1 {
        return seen_of(Version::first(effects.seen), effects.hits > hits);
    }
    seen_now(keys, key)
}

fn seen_now(keys: &Keyspace<'_>, key: &[u8]) -> Seen {
    let (version, is_live) = keys.version_of(key);
    seen_of(version, is_live)
}

/// Where `part`, which lies in `whole`, is in a copy of `whole` that lies at `copy`.
fn span_within(whole: &[u8], part: &[u8], copy: Span) -> Span {
    let offset = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    let from = (copy.from + offset).min(copy.to);
    Span { from, to: (from + part.len()).min(copy.to) }
}

impl Worker {
    /// Asks other replicas to confirm what was read for `reply`, as it was read then. An error when there are too few.
    pub fn confirm_elsewhere(
        &self,
        view: &View,
        batch: &mut Batch,
        quorum: Quorum,
        reply: ReplyPlace,
        read: Reading,
    ) -> Result<(), QuorumError> {
        let key = kept(&batch.requests, read.key);
        let name = KeyRef { slot: slot_of(key), db: read.ask.db, key };
        let verify = Verify { name, seen: read.seen.clone(), is_repeated: true, is_exact: read.ask.fence.is_some() };
        let coordinator = &self.shared.coordinator;
        for (wait, number) in coordinator.verify(view, &verify, quorum, self.draw(), &mut batch.waits)? {
            batch.unconfirmed.push(Unconfirmed {
                reply,
                wait,
                read: Some(Reading { number, ..read.clone() }),
                tells: true,
            });
        }
        Ok(())
    }

    /// Whether this node has written a key of a request since that read it, maybe by a request of these batches, the
    /// first of which holds the one that has read. Then running it again would show it what was written behind it; so
    /// all of its keys count, and not only the one that was read for `read`.
    pub fn is_read_overtaken<'b>(
        &self,
        read: &Reading,
        batch: &Batch,
        later: impl Iterator<Item = &'b Batch> + Clone,
    ) -> bool {
        let (store, db) = (&self.shared.node.store, read.ask.db);
        let latest = |slot: Slot, key: &[u8]| {
            store.table(slot).find(Name::of(db, key)).map(|entry| entry.version().latest_of(Actor::SELF))
        };
        has_key(batch.kept(read.ask.request), |key| {
            let slot = slot_of(key);
            let may_be = batch.may_have_written(slot) || later.clone().any(|batch| batch.may_have_written(slot));
            may_be && latest(slot, key).is_some_and(|latest| latest > read.read_at)
        })
    }
}
