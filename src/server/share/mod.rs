//! A node's share of commands about the whole keyspace: DBSIZE, KEYS, SCAN, RANDOMKEY, FLUSHALL, FLUSHDB.
//!
//! | file | what it is |
//! |---|---|
//! | `flush` | FLUSHALL and FLUSHDB, which have a second round |
//! | `keys` | KEYS, stretch by stretch |
//! | `lookups` | how often SCAN has looked up keys for their type |
//! | `copies` | what a node holds of some keys: WATCH and RONDO.META |
//! | `marks` | what a node says of its lanes for WAIT |
//!
//! The share is the slots that this node coordinates at the moment, so the shares of all nodes are the whole, each key
//! once.
//!
//! A cursor of SCAN is `[slot 14 bits][where in the slot 39]`, 53 bits, because some clients take it for a
//! floating-point number: slots are walked in their order, whoever coordinates them. Where in the slot, `store::scan`
//! says of one process's table; any other process walks that slot from its start.
//!
//! SCAN walks a slot that is not settled (`replication::settle`) when it is: until then a node that has just begun to
//! coordinate it may lack keys that others hold, or hold what they have deleted. In sloppy mode one that can be settled
//! with nobody is walked as it is. So SCAN misses no key that stays, in either mode. DBSIZE, KEYS and RANDOMKEY go by
//! what is held here in sloppy mode, as they tell of one moment only.

pub mod copies;
pub mod flush;
pub mod keys;
pub mod lookups;
pub mod marks;

use crate::base::ids::{SLOT_COUNT, Slot};
use crate::commands::CommandError;
use crate::commands::scan::{ScanOptions, cursor};
use crate::commands::spec::NodeCommand;
use crate::protocol::{Args, Reply};
use crate::replication::routing::Quorum;
use crate::replication::view::{Unserved, View};
use crate::replication::wait::Waits;
use crate::server::error::RequestError;
use crate::server::share::keys::LOOKS_MAX;
use crate::server::share::lookups::SlotLookups;
use crate::server::worker::Worker;
use crate::store::entry::Entry;
use crate::store::keyspace::value_ref;
use crate::store::scan::CURSOR_BITS;
use crate::store::scope::Scope;

const INSIDE_MASK: u64 = (1 << CURSOR_BITS) - 1;
const SLOT_BITS: u32 = 14;
const _: () = assert!(SLOT_COUNT == 1 << SLOT_BITS && CURSOR_BITS + SLOT_BITS <= 53);
/// How often RANDOMKEY draws before it looks through all entries.
const RANDOM_DRAWS: usize = 16;

/// What a share is computed with.
pub struct Share<'s> {
    /// The worker.
    pub worker: &'s Worker,
    /// The view.
    pub view: &'s View,
    /// The selected database.
    pub db: u8,
    /// W of the connection, for FLUSHALL.
    pub quorum: Quorum,
    /// Who asks.
    pub asker: Asker,
    /// A node asks that puts shares together: SCAN tells which slots it has walked, in which it has looked keys up for
    /// their type, and whether it ends before one that is not settled, and RANDOMKEY out of how many keys it has drawn.
    pub is_put_together: bool,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

/// Who asks for a share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// A client of a node that is alone.
    Client,
    /// A node, maybe for a part of the share of flushing or of KEYS.
    Node,
    /// A node in the second round of flushing: for all slots of which something is held here.
    NodeForRest,
}

/// A share's step of SCAN.
#[derive(Default)]
struct ShareStep {
    keys: Vec<Vec<u8>>,
    /// Where the share goes on; 0 at its end.
    next: u64,
    /// One bit a slot that was walked to its end, from the cursor's slot on.
    slots: Vec<u8>,
    /// Keys that were looked up for their type.
    lookups: Vec<SlotLookups>,
    /// It would have gone on, but for a slot that is not settled.
    ends_unsettled: bool,
}

/// The slot that a cursor stands in.
pub fn slot_number_of(cursor: u64) -> u16 {
    (cursor >> CURSOR_BITS) as u16 & (SLOT_COUNT - 1) as u16
}

/// Whether a cursor stands in the middle of its slot.
pub fn is_inside_slot(cursor: u64) -> bool {
    cursor & INSIDE_MASK != 0
}

/// Whether a share tells of the slot at this place of those that it was asked for.
pub fn has_slot(slots: &[u8], at: usize) -> bool {
    slots.get(at / 8).is_some_and(|byte| byte & 1 << (at % 8) != 0)
}

fn cursor_at(slot: Slot, inside: u64) -> u64 {
    u64::from(slot.number()) << CURSOR_BITS | inside
}

fn note_slot(slots: &mut Vec<u8>, at: u16) {
    let byte = usize::from(at / 8);
    if slots.len() <= byte {
        slots.resize(byte + 1, 0);
    }
    if let Some(byte) = slots.get_mut(byte) {
        *byte |= 1 << (at % 8);
    }
}

impl Share<'_> {
    fn is_for_rest(&self) -> bool {
        self.asker == Asker::NodeForRest
    }

    /// Answers for this node; false, with nothing done, where the request has to run alone. What FLUSHALL has to wait
    /// for goes to `waits`.
    pub fn answer(
        &self,
        command: NodeCommand,
        args: Args<'_>,
        out: &mut Reply<'_>,
        waits: &mut Waits,
    ) -> Result<bool, CommandError> {
        use NodeCommand::{DbSize, Keys, RandomKey};
        if command != NodeCommand::Wait && !self.is_for_rest() && !self.view.serves_anything() {
            return Err(RequestError::Unserved(Unserved::Waiting).refusal());
        }
        if matches!(command, DbSize | Keys | RandomKey) && self.may_lack(self.slots()) {
            return Err(RequestError::NotConfirmed.refusal());
        }
        match command {
            NodeCommand::DbSize => out.int(self.count() as i64),
            // A node that is alone: asked by a client it is to go stretch by stretch as well, inside a transaction it
            // may not.
            NodeCommand::Keys if self.asker == Asker::Client && !self.are_few(self.slots()) => return Ok(false),
            NodeCommand::Keys => self.keys(args.get(1).unwrap_or_default(), self.slots(), out),
            NodeCommand::KeysOfStretch => self.keys_of_stretch(args, out)?,
            NodeCommand::RandomKey => match self.random_key() {
                Some((key, total)) if self.is_put_together => {
                    out.array(2);
                    out.bulk(&key);
                    out.int(total as i64);
                }
                Some((key, _)) => out.bulk(&key),
                None => out.null(),
            },
            NodeCommand::Scan => self.scan(args, out)?,
            NodeCommand::FlushAll => self.flush(Scope::All, args, out, waits)?,
            NodeCommand::FlushDb => self.flush(Scope::Database(self.db), args, out, waits)?,
            NodeCommand::Wait => marks::answer(self.view, args, out)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The slots of this node's share.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        Slot::all().filter(|slot| self.includes(*slot))
    }

    fn includes(&self, slot: Slot) -> bool {
        let coordinator = || self.view.roles.of(slot).and_then(|roles| roles.coordinator);
        self.view.is_solo || self.is_for_rest() || coordinator() == Some(self.view.me)
    }

    /// Whether some of these slots may hold here what a majority has deleted: in strict mode that is not to be shown.
    fn may_lack(&self, mut slots: impl Iterator<Item = Slot>) -> bool {
        let shared = &self.worker.shared;
        let is_unsettled = |slot: Slot| {
            shared.coordinator.ballots.unsettled_tenure(slot).is_some() && !shared.node.store.table(slot).is_empty()
        };
        self.quorum.strict && !self.view.is_solo && slots.any(is_unsettled)
    }

    fn count(&self) -> u64 {
        let store = &self.worker.shared.node.store;
        self.slots().map(|slot| store.table(slot).len_of(self.db)).sum()
    }

    /// A key, each with the same chance, and how many there are.
    fn random_key(&self) -> Option<(Vec<u8>, usize)> {
        let store = &self.worker.shared.node.store;
        let (mut total, mut ends) = (0, Vec::new());
        for slot in self.slots() {
            let keys = store.table(slot).len_of(self.db) as usize;
            total += keys;
            ends.extend((keys != 0).then_some((total, slot)));
        }
        let is_live = |entry: &&Entry| entry.db() == self.db && !entry.is_tombstone() && !entry.is_expired(self.now_ms);
        let draw = |_| {
            let at = self.worker.draw().checked_rem(total)?;
            let (_, slot) = ends.get(ends.partition_point(|(end, _)| *end <= at))?;
            store.table(*slot).pick(self.worker.draw() as u64).filter(is_live).map(|entry| entry.key().to_vec())
        };
        // Where what is gone, or in other databases, outnumbers keys, drawing finds nothing: then any key will do.
        let any = |(_, slot): &(usize, Slot)| store.table(*slot).iter().find(is_live).map(|entry| entry.key().to_vec());
        let key = (0..RANDOM_DRAWS).find_map(draw).or_else(|| ends.iter().find_map(any))?;
        Some((key, total))
    }

    fn scan(&self, args: Args<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
        let from = cursor(args.get(1).unwrap_or_default())?;
        let options = ScanOptions::parse(args, 2, true)?;
        let step = self.scan_step(from, &options)?;
        out.array(if self.is_put_together { 5 } else { 2 });
        out.bulk(step.next.to_string().as_bytes());
        out.array(step.keys.len());
        step.keys.iter().for_each(|key| out.bulk(key));
        if self.is_put_together {
            let mut told = Vec::new();
            step.lookups.iter().for_each(|it| it.put(&mut told));
            out.bulk(&step.slots);
            out.bulk(&told);
            out.int(i64::from(step.ends_unsettled));
        } else {
            step.lookups.iter().for_each(|it| it.count(&self.worker.metrics));
        }
        Ok(())
    }

    /// Whether this slot is not walked yet: a key that others hold may be missing here.
    fn must_wait_for(&self, slot: Slot) -> bool {
        let (coordinator, node) = (&self.worker.shared.coordinator, &self.worker.shared.node);
        if self.view.is_solo || coordinator.ballots.unsettled_tenure(slot).is_none() {
            return false;
        }
        self.quorum.strict || coordinator.can_compare(self.view, slot, node.config.settings().read_quorum)
    }

    fn scan_step(&self, from: u64, options: &ScanOptions<'_>) -> Result<ShareStep, CommandError> {
        let store = &self.worker.shared.node.store;
        let first = slot_number_of(from);
        let mut inside = from & INSIDE_MASK;
        let mut step = ShareStep::default();
        // COUNT is a wish; who asks for very many gets them in more steps, and others have their turn in between.
        let most = options.count.min(LOOKS_MAX);
        let mut seen = 0;
        // However many are empty: to look at all takes less than a millisecond, and who has few keys gets them in one
        // step.
        for slot in self.slots().filter(|slot| slot.number() >= first) {
            if slot.number() != first {
                inside = 0;
            }
            let must_wait = self.must_wait_for(slot);
            if must_wait {
                self.worker.shared.coordinator.ballots.seek(slot);
            }
            if must_wait && slot.number() == first {
                return Err(RequestError::NotConfirmed.refusal());
            }
            if must_wait || seen >= most {
                step.ends_unsettled = seen < most;
                step.next = cursor_at(slot, 0);
                return Ok(step);
            }
            let mut looked_up = SlotLookups { slot: slot.number(), ..SlotLookups::default() };
            inside = store.table(slot).scan(inside, most - seen, |entry| {
                seen += 1;
                let is_there = entry.db() == self.db && !entry.is_tombstone();
                if !is_there || !options.lets_through(entry.key()) {
                    return;
                }
                let is_live = !entry.is_expired(self.now_ms);
                let mut of_type = |name: &[u8]| {
                    looked_up.note(is_live);
                    value_ref(entry).is_some_and(|view| name.eq_ignore_ascii_case(view.type_name().as_bytes()))
                };
                if options.type_name.is_none_or(&mut of_type) && is_live {
                    step.keys.push(entry.key().to_vec());
                }
            });
            step.lookups.extend((looked_up.hits + looked_up.misses > 0).then_some(looked_up));
            if inside != 0 {
                step.next = cursor_at(slot, inside);
                return Ok(step);
            }
            note_slot(&mut step.slots, slot.number() - first);
        }
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::slot_of;
    use crate::replication::test_support::view_of;
    use crate::server::worker::tests::shared;
    use crate::store::Effects;
    use crate::store::mutation::Mutation;

    const ALL: ScanOptions<'_> = ScanOptions { pattern: None, count: 1_000, type_name: None };
    const NOW_MS: u64 = 1;

    /// A node that has begun to coordinate the slots of a third of these keys, and holds all of them.
    fn worker_with(keys: impl Iterator<Item = String>) -> Worker {
        let shared = shared(1, View::default());
        let mut effects = Effects::default();
        for key in keys {
            let mut locked = shared.node.store.lock(slot_of(key.as_bytes()), 0, NOW_MS, &mut effects);
            locked.write(key.as_bytes(), Mutation::Assign { value: b"v", deadline_ms: 0 });
        }
        Worker::new(0, shared)
    }

    fn share<'s>(worker: &'s Worker, view: &'s View, strict: bool) -> Share<'s> {
        let quorum = Quorum { write: 2, read: 2, strict };
        Share { worker, view, db: 0, quorum, asker: Asker::Node, is_put_together: true, now_ms: NOW_MS }
    }

    #[test]
    fn a_share_ends_before_a_slot_that_may_lack_keys_and_does_not_begin_in_one() {
        let (worker, view) = (worker_with((0..300).map(|n| format!("k{n}"))), view_of(true));
        let ballots = &worker.shared.coordinator.ballots;
        for strict in [false, true] {
            let share = share(&worker, &view, strict);
            let slots: Vec<Slot> = share.slots().collect();
            let unsettled = slots[slots.len() / 2];
            ballots.unsettle(unsettled);
            let step = share.scan_step(0, &ALL).expect("it has walked those before");
            assert!(step.ends_unsettled);
            assert_eq!((step.next, ballots.take_sought()), (cursor_at(unsettled, 0), Some(unsettled)));
            assert!(!step.keys.is_empty() && step.keys.iter().all(|key| slot_of(key) < unsettled));
            assert!(!has_slot(&step.slots, unsettled.index()) && has_slot(&step.slots, slots[0].index()));
            assert!(share.scan_step(step.next, &ALL).is_err() && ballots.take_sought() == Some(unsettled));
            let tenure = ballots.unsettled_tenure(unsettled).expect("unsettled");
            ballots.settle(unsettled, tenure);
            let rest = share.scan_step(step.next, &ALL).expect("all are settled");
            let count = slots.iter().map(|slot| worker.shared.node.store.table(*slot).len()).sum::<usize>();
            assert_eq!((rest.next, step.keys.len() + rest.keys.len()), (0, count));
        }
    }

    #[test]
    fn a_slot_that_can_be_settled_with_nobody_is_walked_as_it_is_in_sloppy_mode_alone() {
        let (worker, view) = (worker_with(std::iter::empty()), view_of(true));
        view.peers.iter().flatten().flat_map(|peer| &peer.lanes).for_each(|lane| lane.close(|_| {}));
        share(&worker, &view, false).slots().for_each(|slot| worker.shared.coordinator.ballots.unsettle(slot));
        let next = |strict| share(&worker, &view, strict).scan_step(0, &ALL).map(|step| step.next).ok();
        assert_eq!(next(false), Some(0));
        assert_ne!(next(true), Some(0));
    }

    /// Such as that of the node which has coordinated the slot before.
    #[test]
    fn a_place_in_another_process_table_misses_nothing() {
        let keys = || (0..100).map(|n| format!("{{a}}{n}"));
        let (worker, view) = (worker_with(keys()), View { is_solo: true, ..View::default() });
        let (share, few) = (share(&worker, &view, false), ScanOptions { count: 60, ..ALL });
        let inside = share.scan_step(0, &few).expect("nothing has to settle").next;
        assert!(is_inside_slot(inside) && inside < 1 << 53);
        let found = |from| share.scan_step(from, &ALL).expect("nothing has to settle").keys.len();
        // Where the layout differs in its lowest or its highest bit.
        let others = [1 << 15, 1 << (CURSOR_BITS - 1)].map(|bit| inside ^ bit);
        assert_eq!((found(inside), others.map(found)), (40, [100, 100]));
    }
}
