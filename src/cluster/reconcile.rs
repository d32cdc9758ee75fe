//! Two replicas compare what they hold and exchange what differs: digests of slots, of buckets, then keys.
//!
//! The asker's side ([`Cluster::differing`], [`Cluster::mend`], [`Cluster::reconcile`]); `service` answers. Whole
//! states with their versions travel, and both sides merge them, so whatever is written meanwhile survives and every
//! step may be repeated or cut short. What one message does not take is found again by the next comparison.
//!
//! Decides nothing itself: `difference` does. Who is compared with whom, and when, is `anti_entropy`.

use std::collections::HashSet;

use tokio::task::yield_now;

use crate::base::clock::{Hlc, SKEW_MS_MAX};
use crate::base::ids::{NodeId, Slot};
use crate::base::wire::WireError;
use crate::cluster::Cluster;
use crate::cluster::pacer::Pacer;
use crate::cluster::transfer::{PIECE_BYTES, PIECE_TIMEOUT, TransferError};
use crate::peer::compare::{Compare, CompareAnswer};
use crate::peer::control::{ControlError, ControlLink, Request, Response};
use crate::peer::entries::Entries;
use crate::store::digest::Measure;
use crate::store::fingerprint::fingerprint;

/// Keys that expire within so long of a comparison are left out: they go at slightly different moments everywhere.
const HORIZON_MS: u64 = 2 * SKEW_MS_MAX + 2_000;
/// Slots compared with what a node has missed before it is noted that they are done.
const SLOTS_PER_PIECE: usize = 1_024;
/// Slots and entries in one question: few, because a write that falls between the two looks at a slot is taken for a
/// difference.
pub(super) const SLOTS_PER_QUESTION: usize = 64;
const ENTRIES_PER_QUESTION: usize = 4_096;
/// A slot of up to so many entries is compared key by key at once.
const SMALL_SLOT_ENTRIES: usize = 512;

/// What came of mending a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mended {
    /// Keys that travelled, either way.
    pub keys: u64,
    /// No key that is deleted here lived over there.
    pub is_buried: bool,
}

/// Which keys that one side alone has travel when a slot is mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Take {
    /// Those of both, as far as there is room.
    Both,
    /// Ours alone, and the other has to take them: these may be the last copies.
    Ours,
    /// Those of both, and the other has to take ours that were written since: it has missed them. What is older it may
    /// have given up for want of room, and is not brought back.
    Missed {
        /// Since then.
        since: Hlc,
    },
}

impl Cluster {
    /// The moment up to which keys count as fading in a comparison that begins now.
    pub(super) fn horizon_ms(&self) -> u64 {
        self.store.clock.now_ms() + HORIZON_MS
    }

    pub(super) fn measure(&self, horizon_ms: u64) -> Measure {
        Measure { seed: self.digest_seed, horizon_ms }
    }

    /// Compares these slots with `peer`, which has missed what was written in them since, and mends all that differ:
    /// afterwards it holds that, however little room it has. Takes slots that are done off `slots`, so that after an
    /// error the rest can be done later; gives the number of keys that travelled.
    pub async fn reconcile(&self, peer: NodeId, slots: &mut Vec<Slot>, since: Hlc) -> Result<u64, TransferError> {
        let row = self.topology().rows.get(&peer).cloned().ok_or(TransferError::UnknownNode(peer))?;
        let (link, horizon_ms, mut pace) = (self.links.new_to(&row), self.horizon_ms(), Pacer::begin());
        let mut keys = 0;
        while !slots.is_empty() {
            let rest = slots.split_off(slots.len().saturating_sub(SLOTS_PER_PIECE));
            let mended = async {
                for slot in self.differing(&link, horizon_ms, &rest, &mut pace).await? {
                    keys += self.mend(&link, horizon_ms, slot, Take::Missed { since }).await?.keys;
                    pace.rest().await;
                }
                Ok::<(), ControlError>(())
            };
            if let Err(error) = mended.await {
                slots.extend(rest);
                return Err(error.into());
            }
        }
        Ok(keys)
    }

    /// Those of these slots whose digests are others over there.
    pub(super) async fn differing(
        &self,
        link: &ControlLink,
        horizon_ms: u64,
        slots: &[Slot],
        pace: &mut Pacer,
    ) -> Result<Vec<Slot>, ControlError> {
        let measure = self.measure(horizon_ms);
        let (mut differing, mut rest) = (Vec::new(), slots);
        while !rest.is_empty() {
            let part;
            (part, rest) = rest.split_at(self.slots_of_question(rest));
            let digests = part.iter().map(|slot| (*slot, self.store.slot_digest(*slot, measure))).collect();
            let worked = pace.worked();
            match ask(link, Compare::Slots { horizon_ms, digests }).await? {
                CompareAnswer::Slots(slots) => differing.extend(slots.into_iter().filter(|slot| part.contains(slot))),
                _ => return Err(WireError.into()),
            }
            pace.rest_for(worked).await;
        }
        Ok(differing)
    }

    /// How many of these slots, one at least, the next question is about.
    fn slots_of_question(&self, slots: &[Slot]) -> usize {
        let mut entries = 0;
        let has_room = |slot: &&Slot| {
            entries += self.entries(**slot);
            entries <= ENTRIES_PER_QUESTION
        };
        slots.iter().take(SLOTS_PER_QUESTION).take_while(has_room).count().max(1)
    }

    /// Entries of a slot, tombstones among them.
    fn entries(&self, slot: Slot) -> usize {
        let table = self.store.table(slot);
        table.len() + table.tombstones()
    }

    /// Exchanges what differs in a slot.
    pub(super) async fn mend(
        &self,
        link: &ControlLink,
        horizon_ms: u64,
        slot: Slot,
        take: Take,
    ) -> Result<Mended, ControlError> {
        let measure = self.measure(horizon_ms);
        let buckets = if self.entries(slot) <= SMALL_SLOT_ENTRIES {
            u64::MAX
        } else {
            let digests = Box::new(self.store.bucket_digests(slot, measure));
            match ask(link, Compare::Buckets { horizon_ms, slot, digests }).await? {
                CompareAnswer::Buckets(buckets) => buckets,
                _ => return Err(WireError.into()),
            }
        };
        let marks = self.store.slot_marks(slot, measure, buckets);
        let (only_known, must_take) = (take == Take::Ours || self.store.is_nearly_full(), take != Take::Both);
        let question = Compare::Keys { horizon_ms, slot, buckets, only_known, must_take, marks };
        let CompareAnswer::Keys { entries, wanted, is_buried } = ask(link, question).await? else {
            return Err(WireError.into());
        };
        let taken = entries.count();
        self.intake.take(entries).await?;
        let since = if let Take::Missed { since } = take { since } else { Hlc(0) };
        let given = self.give(link, slot, &wanted, since).await?;
        Ok(Mended { keys: taken + given, is_buried })
    }

    /// Sends the keys of `slot` with these fingerprints that were written since.
    async fn give(&self, link: &ControlLink, slot: Slot, wanted: &[u64], since: Hlc) -> Result<u64, ControlError> {
        let wanted: HashSet<u64> = wanted.iter().copied().collect();
        let (mut piece, mut sent, mut cursor) = (Entries::default(), 0, 0);
        while !wanted.is_empty() {
            cursor = self.read_batch(slot, cursor, &mut piece, |entry| {
                entry.latest() >= since && wanted.contains(&fingerprint(entry.db(), entry.key(), self.digest_seed))
            });
            if piece.len_bytes() >= PIECE_BYTES || cursor == 0 && !piece.is_empty() {
                sent += piece.count();
                link.ask(&Request::PutStates(std::mem::take(&mut piece)), PIECE_TIMEOUT).await?;
            }
            if cursor == 0 {
                break;
            }
            yield_now().await;
        }
        Ok(sent)
    }
}

pub(super) async fn ask(link: &ControlLink, question: Compare) -> Result<CompareAnswer, ControlError> {
    match link.ask(&Request::Compare(question), PIECE_TIMEOUT).await? {
        Response::Compared(answer) => Ok(answer),
        _ => Err(WireError.into()),
    }
}
