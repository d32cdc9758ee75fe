//! A node's share of commands about the whole keyspace: DBSIZE, KEYS, SCAN, RANDOMKEY, FLUSHALL, FLUSHDB.
//!
//! The share is the slots that this node coordinates at the moment, so the shares of all nodes are the whole, each key
//! once. Only flushing has a second round, in which each node clears the slots of which it still holds anything: nodes may
//! differ for a moment on who coordinates, and a coordinator may have evicted what others hold. A slot is cleared by one
//! versioned change (`store::clear`), whatever it holds; ASYNC and SYNC are alike, for memory is given back at once, slot by
//! slot, while other slots are open to everybody, and in a cluster other requests have their turn. A share of flushing that has lain about for long is not run, nor gone on with
//! after a stop: what was written after the flush was replied to, without this node, must stay.
//!
//! A cursor of SCAN is `[tag 8 bits][slot 14][where in the slot 31]`, 53 bits, because some clients take it for a floating-
//! point number: slots are walked in their order, whoever coordinates them. Where in the slot, `store::scan` says of one
//! process's table, which the tag names; any other process walks that slot from its start.

use std::time::{Duration, Instant};

use crate::base::clock::Hlc;
use crate::base::ids::{SLOT_COUNT, Slot};
use crate::base::metrics::Count;
use crate::commands::scan::{ScanOptions, cursor};
use crate::commands::spec::{Command, Handler, NodeCommand};
use crate::commands::{CommandError, table};
use crate::protocol::client::encode_command;
use crate::protocol::{Args, Reply, parse_i64};
use crate::replication::coordinator::View;
use crate::replication::routing::Quorum;
use crate::replication::wait::Waits;
use crate::server::batch::scanned::scanned;
use crate::server::dispatch::Origin;
use crate::server::forward::{STALE_MS_MAX, ask};
use crate::server::wait;
use crate::server::worker::Worker;
use crate::store::Effects;
use crate::store::clear::Scope;
use crate::store::entry::Entry;
use crate::store::keyspace::view;
use crate::store::scan::CURSOR_BITS;

/// In how many questions a node is asked for its share of flushing: each takes a millisecond or two of a million keys.
const FLUSH_PARTS: usize = 64;
/// How long it may be between two slots that are flushed.
const STALE: Duration = Duration::from_millis(STALE_MS_MAX);

const NOT_CLEARED: &str = "CLUSTERDOWN some hash slots could not be cleared: too few of their replicas are reachable";

/// Bits of a cursor that tell processes apart.
const TAG_BITS: u32 = 8;
const INSIDE_MASK: u64 = (1 << CURSOR_BITS) - 1;
/// Bits of a cursor below the tag.
const TAG_SHIFT: u32 = CURSOR_BITS + 14;

const _: () = assert!(TAG_SHIFT + TAG_BITS <= 53);
/// How often RANDOMKEY draws before it looks through all entries.
const RANDOM_DRAWS: usize = 16;

/// Whether a command is about the whole keyspace.
pub fn is_whole(command: NodeCommand) -> bool {
    use NodeCommand::{DbSize, FlushAll, FlushDb, Keys, RandomKey, Scan};
    matches!(command, DbSize | Keys | RandomKey | Scan | FlushAll | FlushDb)
}

/// Whether a question may be run however long it has lain about: a node's share of what only looks. Who asks to flush gives
/// up in the end and asks again, and what is written after its reply must stay; in strict mode replicas see to that themselves,
/// by declining what a node does whose slots have been promised to another.
pub fn may_be_old(flags: u8, requests: &[u8], quorum: Quorum) -> bool {
    let command = || table::find(scanned(requests).ok()?.args(requests).name());
    flags & ask::LOCAL != 0 && (quorum.strict || !command().is_some_and(|(_, command)| is_flush(command)))
}

/// Whether a command flushes, and so goes in two rounds.
pub fn is_flush(command: &Command) -> bool {
    matches!(command.handler, Handler::Node(NodeCommand::FlushAll | NodeCommand::FlushDb))
}

/// Whether a request counts as a command of its own in statistics: of the questions of one flush the first does.
#[inline]
pub fn is_first_part(command: &Command, origin: Origin, args: Args<'_>) -> bool {
    !is_flush(command) || origin != Origin::PeerForRest && args.get(2).is_none_or(|number| number == b"0")
}

/// What a share is computed with.
pub struct Share<'s> {
    /// The worker.
    pub worker: &'s Worker,
    /// The picture.
    pub view: &'s View,
    /// The selected database.
    pub db: u8,
    /// W of the connection, for FLUSHALL.
    pub quorum: Quorum,
    /// The second round of flushing: all slots of which something is held here.
    pub is_rest: bool,
    /// A node asks, maybe for a part of its share of flushing.
    pub may_be_part: bool,
    /// A node asks that puts shares together: SCAN tells which slots it has walked, and RANDOMKEY out of how many keys it has
    /// drawn.
    pub is_put_together: bool,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

/// A share's step of SCAN.
#[derive(Default)]
struct ScanStep {
    keys: Vec<Vec<u8>>,
    /// Where the share goes on; 0 at its end.
    next: u64,
    /// One bit a slot that was walked to its end, from the cursor's slot on.
    slots: Vec<u8>,
}

/// The slot that a cursor stands in.
pub fn slot_number_of(cursor: u64) -> u16 {
    (cursor >> CURSOR_BITS) as u16 & 0x3fff
}

/// Whether a cursor stands in the middle of its slot.
pub fn is_inside_slot(cursor: u64) -> bool {
    cursor & INSIDE_MASK != 0
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
    /// Answers for this node. What FLUSHALL has to wait for goes to `waits`.
    pub fn answer(
        &self,
        command: NodeCommand,
        args: Args<'_>,
        out: &mut Reply<'_>,
        waits: &mut Waits,
    ) -> Result<bool, CommandError> {
        match command {
            NodeCommand::DbSize => out.int(self.count() as i64),
            NodeCommand::Keys => self.keys(args.get(1).unwrap_or_default(), out),
            NodeCommand::RandomKey => match self.random_key() {
                Some(key) if self.is_put_together => {
                    out.array(2);
                    out.bulk(&key);
                    out.int(self.count().max(1) as i64);
                }
                Some(key) => out.bulk(&key),
                None => out.null(),
            },
            NodeCommand::Scan => self.scan(args, out)?,
            NodeCommand::FlushAll => {
                self.flush(Scope::All, FlushPart::of(args, self.may_be_part)?, waits)?;
                out.ok();
            }
            NodeCommand::FlushDb => {
                self.flush(Scope::Database(self.db), FlushPart::of(args, self.may_be_part)?, waits)?;
                out.ok();
            }
            NodeCommand::Wait => wait::answer(self.view, args, out)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The slots of this node's share.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let coordinator = |slot: Slot| self.view.roles.of(slot).and_then(|group| group.coordinator);
        let is_all = self.view.is_solo || self.is_rest;
        Slot::all().filter(move |slot| is_all || coordinator(*slot) == Some(self.view.me))
    }

    fn count(&self) -> u64 {
        let counts = self.worker.shared.node.store.count_keys(self.slots());
        counts.get(&self.db).map_or(0, |of_db| of_db.keys)
    }

    fn keys(&self, pattern: &[u8], out: &mut Reply<'_>) {
        let store = &self.worker.shared.node.store;
        let mut found: Vec<Vec<u8>> = Vec::new();
        for slot in self.slots() {
            let table = store.table(slot);
            let live = table
                .iter()
                .filter(|entry| entry.db() == self.db && !entry.is_tombstone() && !entry.is_expired(self.now_ms));
            let fits = live.filter(|entry| crate::base::glob::matches(pattern, entry.key(), false));
            found.extend(fits.map(|entry| entry.key().to_vec()));
        }
        out.array(found.len());
        found.iter().for_each(|key| out.bulk(key));
    }

    /// A key, each with the same chance.
    fn random_key(&self) -> Option<Vec<u8>> {
        let store = &self.worker.shared.node.store;
        let (mut total, mut ends) = (0, Vec::new());
        for slot in self.slots() {
            let keys = store.table(slot).len();
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
        (0..RANDOM_DRAWS).find_map(draw).or_else(|| ends.iter().find_map(any))
    }

    fn scan(&self, args: Args<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
        let from = cursor(args.get(1).unwrap_or_default())?;
        let options = ScanOptions::parse(args, 2, true)?;
        let step = self.scan_step(from, &options);
        out.array(if self.is_put_together { 3 } else { 2 });
        out.bulk(step.next.to_string().as_bytes());
        out.array(step.keys.len());
        step.keys.iter().for_each(|key| out.bulk(key));
        if self.is_put_together {
            out.bulk(&step.slots);
        }
        Ok(())
    }

    fn scan_step(&self, from: u64, options: &ScanOptions<'_>) -> ScanStep {
        let store = &self.worker.shared.node.store;
        let first = slot_number_of(from);
        // A place in another process's table, or in our own before a restart, means nothing here.
        let mut inside = if from >> TAG_SHIFT == self.tag() { from & INSIDE_MASK } else { 0 };
        let mut step = ScanStep::default();
        let mut seen = 0;
        // However many are empty: to look at all takes less than a millisecond, and who has few keys gets them in one step.
        for slot in self.slots().filter(|slot| slot.number() >= first) {
            if slot.number() != first {
                inside = 0;
            }
            if seen >= options.count {
                step.next = self.cursor_at(slot, 0);
                return step;
            }
            let table = store.table(slot);
            inside = table.scan(inside, options.count - seen, |entry| {
                seen += 1;
                let live = entry.db() == self.db && !entry.is_tombstone() && !entry.is_expired(self.now_ms);
                let of_type = |name: &[u8]| {
                    view(entry).is_some_and(|view| name.eq_ignore_ascii_case(view.type_name().as_bytes()))
                };
                if live && options.lets_through(entry.key()) && options.type_name.is_none_or(of_type) {
                    step.keys.push(entry.key().to_vec());
                }
            });
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
        let mixed = (actor.node ^ actor.boot.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed >> (u64::BITS - TAG_BITS)
    }

    /// Clears the slots of this share, each by one versioned change whatever it holds. Those that may not be written now are
    /// left as they are, and the error says so: the share is to be asked for again.
    fn flush(&self, scope: Scope, part: FlushPart, waits: &mut Waits) -> Result<(), CommandError> {
        let is_strict = self.quorum.strict && !self.view.is_solo;
        if is_strict && self.is_rest {
            // Each slot has been cleared by its holder, whoever else still holds something of it.
            return Ok(());
        }
        let (node, coordinator) = (&self.worker.shared.node, &self.worker.shared.coordinator);
        let (mut effects, mut is_whole, mut looked) = (Effects::default(), true, Instant::now());
        for slot in self.slots().filter(|slot| part.includes(*slot)) {
            if !self.view.is_solo && std::mem::replace(&mut looked, Instant::now()).elapsed() > STALE {
                // This process may have been stopped in between: who asked may have given it up, and replied without it.
                is_whole = false;
                break;
            }
            if !self.must_clear(slot, scope, is_strict) {
                continue;
            }
            if !self.view.is_solo && !self.is_rest && !self.may_clear(slot, is_strict) {
                is_whole = false;
                continue;
            }
            let now_ms = node.store.clock.now_ms();
            // No later than about now: should it be stopped here, what others write meanwhile stays.
            let stale = Hlc::at_ms(node.store.clock.latest(now_ms).ms() + STALE_MS_MAX);
            let mut keys = node.store.lock(slot, self.db, now_ms, &mut effects);
            let max = if is_strict { coordinator.window(self.view, slot) } else { Some(stale) };
            if !self.view.is_solo && !max.is_some_and(|max| keys.stamp_until(max)) {
                is_whole = false;
                continue;
            }
            keys.clear(scope);
            let deltas = keys.take_deltas();
            if !deltas.is_empty() {
                coordinator.replicate(self.view, slot, &deltas, self.quorum, now_ms, waits);
            }
            keys.give_back_deltas(deltas);
        }
        node.metrics.count(Count::KeyChanges, effects.writes);
        if is_whole { Ok(()) } else { Err(CommandError::text(NOT_CLEARED)) }
    }

    /// Whether a slot has to be cleared: something is in it here, or may be where nobody can look.
    fn must_clear(&self, slot: Slot, scope: Scope, is_strict: bool) -> bool {
        let shared = &self.worker.shared;
        let is_held = |entry: &Entry| !entry.is_tombstone() && scope.includes(entry.db());
        let is_in_it = {
            let table = shared.node.store.table(slot);
            !table.is_empty() && table.iter().any(is_held)
        };
        if is_in_it || self.is_rest || self.view.is_solo {
            return is_in_it;
        }
        // What nodes that are there hold of it and this one does not, having given it up or never got it, is their share of the
        // second round, which there is none of in strict mode.
        let group = self.view.roles.of(slot);
        let is_alone_with_it = is_strict || group.is_some_and(|group| !group.missing.is_empty());
        let may_lack =
            shared.node.store.eviction.has_evicted() || shared.coordinator.ballots.unsettled_tenure(slot).is_some();
        is_alone_with_it && may_lack
    }

    /// Whether a slot may be cleared now.
    fn may_clear(&self, slot: Slot, is_strict: bool) -> bool {
        let group = self.view.roles.of(slot);
        group.is_some_and(|group| self.view.check(group, self.quorum, true).is_ok())
            && (!is_strict || self.worker.shared.coordinator.may_clear(self.view, slot, self.now_ms))
    }
}

/// Which slots a question to flush is about: one stretch of so many. Between two of them others have their turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlushPart {
    number: usize,
    count: usize,
}

impl FlushPart {
    /// The parts in which nodes are asked.
    pub fn all() -> impl Iterator<Item = FlushPart> {
        (0..FLUSH_PARTS).map(|number| FlushPart { number, count: FLUSH_PARTS })
    }

    /// What `FLUSHALL [SYNC|ASYNC]` is about, and, if a node may have asked, `FLUSHALL SYNC number count`.
    pub fn of(args: Args<'_>, may_be_part: bool) -> Result<FlushPart, CommandError> {
        let known = |word: &[u8]| word.eq_ignore_ascii_case(b"ASYNC") || word.eq_ignore_ascii_case(b"SYNC");
        if args.get(1).is_some_and(|word| !known(word)) {
            return Err(CommandError::Syntax);
        }
        let number = |at| args.get(at).and_then(parse_i64).and_then(|number| usize::try_from(number).ok());
        match (args.len(), number(2), number(3)) {
            (..=2, ..) => Ok(FlushPart { number: 0, count: 1 }),
            (4, Some(number), Some(count)) if may_be_part && number < count && count <= SLOT_COUNT => {
                Ok(FlushPart { number, count })
            }
            _ => Err(CommandError::Syntax),
        }
    }

    /// The question for it.
    pub fn question(self, name: &[u8]) -> Vec<u8> {
        let mut request = Vec::new();
        let (number, count) = (self.number.to_string(), self.count.to_string());
        encode_command(&mut request, &[name, b"SYNC", number.as_bytes(), count.as_bytes()]);
        request
    }

    fn includes(self, slot: Slot) -> bool {
        slot.index() * self.count / SLOT_COUNT == self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part_of(request: &[u8], may_be_part: bool) -> Option<FlushPart> {
        let scanner = scanned(request).ok()?;
        FlushPart::of(scanner.args(request), may_be_part).ok()
    }

    #[test]
    fn every_slot_is_in_one_part_of_a_flush() {
        let parts: Vec<FlushPart> = FlushPart::all().collect();
        for slot in Slot::all() {
            assert_eq!(parts.iter().filter(|part| part.includes(slot)).count(), 1, "{slot}");
        }
        let whole = part_of(b"FLUSHALL ASYNC\r\n", false).expect("what clients say");
        assert!(Slot::all().all(|slot| whole.includes(slot)));
    }

    #[test]
    fn parts_are_asked_for_by_nodes_alone_and_counted_once() {
        for part in FlushPart::all() {
            let question = part.question(b"flushdb");
            assert_eq!((part_of(&question, true), part_of(&question, false)), (Some(part), None));
            let scanner = scanned(&question).expect("own bytes");
            let (_, flushdb) = table::find(b"flushdb").expect("a command");
            let is_first = is_first_part(flushdb, Origin::PeerForShare, scanner.args(&question));
            assert_eq!(is_first, part.number == 0);
        }
        for nonsense in
            ["FLUSHALL SYNC 64 64", "FLUSHALL SYNC 0 99999", "FLUSHALL SYNC 1", "FLUSHALL NOW", "FLUSHALL SYNC -1 2"]
        {
            assert_eq!(part_of(format!("{nonsense}\r\n").as_bytes(), true), None, "{nonsense}");
        }
    }
}
