//! What a request needs of other nodes once it has run here: its deltas on their lanes, its reads confirmed.
//!
//! Both happen while the slots are still locked, so that a key's frames leave in the order in which things were done to
//! it. Nothing waits: the batch notes what its replies depend on.

use smallvec::SmallVec;

use crate::base::ids::{Slot, slot_of};
use crate::base::version::Version;
use crate::commands::spec::Command;
use crate::peer::frame::{KeyRef, Seen, Verify};
use crate::replication::coordinator::{QuorumError, seen_of};
use crate::server::batch::Pending;
use crate::server::dispatch::Run;
use crate::server::window::Request;
use crate::store::Keyspace;

impl Run<'_> {
    /// Puts the deltas of a command on their lanes, slot by slot.
    pub fn replicate(&mut self, keys: &mut Keyspace<'_>, from: usize, now_ms: u64) {
        let deltas = keys.take_deltas();
        if deltas.is_empty() {
            return;
        }
        let mut depends_on: SmallVec<[usize; 2]> = SmallVec::new();
        for (slot, part) in by_slot(&deltas) {
            let coordinator = &self.worker.shared.coordinator;
            let wait = coordinator.replicate(self.view, slot, part, self.quorum, now_ms, &mut self.batch.waits);
            depends_on.extend(wait.filter(|wait| !depends_on.contains(wait)));
        }
        keys.give_back_deltas(deltas);
        let reply = self.batch.place(from);
        let pending = depends_on.into_iter().map(|wait| Pending { reply, wait, read: None });
        self.batch.pending.extend(pending);
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
        let mut kept = None;
        let reply = self.batch.place(from);
        for key in command.key_positions(request.args).filter_map(|at| request.args.get(at)) {
            let seen = match request.spot {
                Some(_) => seen_by_one(keys, key, before),
                None => seen_now(keys, key),
            };
            let slot = request.slot().unwrap_or_else(|| slot_of(key));
            let verify = Verify { name: KeyRef { slot, db: self.session.db, key }, seen };
            let (coordinator, draw) = (&self.worker.shared.coordinator, self.worker.draw());
            let asked = coordinator.verify(self.view, &verify, self.quorum, draw, &mut self.batch.waits)?;
            if let Some((wait, number)) = asked {
                let (db, proto) = (self.session.db, self.session.proto);
                let ask = *kept.get_or_insert_with(|| self.batch.keep(request.bytes, db, proto));
                self.batch.pending.push(Pending { reply, wait, read: Some((number, ask)) });
            }
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

/// Cuts recorded deltas, each behind its length, into stretches of one slot.
pub fn by_slot(deltas: &[u8]) -> impl Iterator<Item = (Slot, &[u8])> {
    let mut rest = deltas;
    std::iter::from_fn(move || {
        let (slot, mut len) = first_delta(rest)?;
        while let Some((next, more)) = rest.get(len..).and_then(first_delta) {
            if next != slot {
                break;
            }
            len += more;
        }
        let (part, behind) = rest.split_at_checked(len)?;
        rest = behind;
        Some((slot, part))
    })
}

fn first_delta(deltas: &[u8]) -> Option<(Slot, usize)> {
    let (head, rest) = deltas.split_first_chunk::<4>()?;
    let (slot, _) = rest.split_first_chunk::<2>()?;
    Some((Slot::new(u16::from_le_bytes(*slot))?, 4 + u32::from_le_bytes(*head) as usize))
}
