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
//! A cursor of SCAN is `[tag 8 bits][slot 14][where in the slot 31]`, 53 bits, because some clients take it for a
//! floating-point number: slots are walked in their order, whoever coordinates them. Where in the slot, `store::scan`
//! says of one process's table, which the tag names; any other process walks that slot from its start.

pub mod copies;
pub mod flush;
pub mod keys;
pub mod lookups;
pub mod marks;

use crate::base::ids::Slot;
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

/// Bits of a cursor that tell processes apart.
const TAG_BITS: u32 = 8;
const INSIDE_MASK: u64 = (1 << CURSOR_BITS) - 1;
/// Bits of a cursor below the tag.
const TAG_SHIFT: u32 = CURSOR_BITS + 14;

const _: () = assert!(TAG_SHIFT + TAG_BITS <= 53);
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
    /// The second round of flushing: all slots of which something is held here.
    pub is_rest: bool,
    /// A node asks, maybe for a part of its share of flushing.
    pub may_be_part: bool,
    /// A node asks that puts shares together: SCAN tells which slots it has walked, and in which it has looked keys up
    /// for their type, and RANDOMKEY out of how many keys it has drawn.
    pub is_put_together: bool,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
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
}

/// The slot that a cursor stands in.
pub fn slot_number_of(cursor: u64) -> u16 {
    (cursor >> CURSOR_BITS) as u16 & 0x3fff
}

/// Whether a cursor stands in the middle of its slot.
pub fn is_inside_slot(cursor: u64) -> bool {
    cursor & INSIDE_MASK != 0
}

/// Whether a share tells of the slot at this place of those that it was asked for.
pub fn has_slot(slots: &[u8], at: usize) -> bool {
    slots.get(at / 8).is_some_and(|byte| byte & 1 << (at % 8) != 0)
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
        if command != NodeCommand::Wait && !self.is_rest && !self.view.serves_anything() {
            return Err(RequestError::Unserved(Unserved::Waiting).refusal());
        }
        if matches!(command, DbSize | Keys | RandomKey) && self.may_lack(self.slots()) {
            return Err(RequestError::NotConfirmed.refusal());
        }
        match command {
            NodeCommand::DbSize => out.int(self.count() as i64),
            // A node that is alone: asked by a client it is to go stretch by stretch as well, inside a transaction it
            // may not.
            NodeCommand::Keys if !self.may_be_part && !self.are_few(self.slots()) => return Ok(false),
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
        self.view.is_solo || self.is_rest || coordinator() == Some(self.view.me)
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
        let step = self.scan_step(from, &options);
        out.array(if self.is_put_together { 4 } else { 2 });
        out.bulk(step.next.to_string().as_bytes());
        out.array(step.keys.len());
        step.keys.iter().for_each(|key| out.bulk(key));
        if self.is_put_together {
            let mut told = Vec::new();
            step.lookups.iter().for_each(|it| it.put(&mut told));
            out.bulk(&step.slots);
            out.bulk(&told);
        } else {
            step.lookups.iter().for_each(|it| it.count(&self.worker.metrics));
        }
        Ok(())
    }

    fn scan_step(&self, from: u64, options: &ScanOptions<'_>) -> ShareStep {
        let store = &self.worker.shared.node.store;
        let first = slot_number_of(from);
        // A place in another process's table, or in our own before a restart, means nothing here.
        let mut inside = if from >> TAG_SHIFT == self.tag() { from & INSIDE_MASK } else { 0 };
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
            if seen >= most {
                step.next = self.cursor_at(slot, 0);
                return step;
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
                step.next = self.cursor_at(slot, inside);
                return step;
            }
            note_slot(&mut step.slots, slot.number() - first);
        }
        step
    }

    fn cursor_at(&self, slot: Slot, inside: u64) -> u64 {
        // Where a slot's walk begins is the same everywhere; and it is not the end, which is 0.
        let tag = if inside == 0 { 0 } else { self.tag() };
        tag << TAG_SHIFT | u64::from(slot.number()) << CURSOR_BITS | inside
    }

    /// Tells this process's tables from those of others.
    fn tag(&self) -> u64 {
        let actor = self.worker.shared.hello.actor();
        let mixed = (actor.node ^ actor.generation.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed >> (u64::BITS - TAG_BITS)
    }
}
