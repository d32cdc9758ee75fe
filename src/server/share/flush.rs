//! A node's share of FLUSHALL and FLUSHDB: in which parts it is asked for, and clearing slots.
//!
//! Flushing has a second round, in which each node clears the slots of which it still holds anything: nodes may differ
//! for a moment on who coordinates, and a coordinator may have evicted what others hold. A slot is cleared by one
//! versioned change (`store::clear`), whatever it holds; ASYNC and SYNC are alike, for memory is given back at once,
//! slot by slot, while other slots are open to everybody, and in a cluster other requests have their turn. A share that
//! has lain about for long is not run, nor gone on with after a stop: what was written after the flush was replied to,
//! without this node, must stay.
//!
//! A share tells which slots it was. Nodes that differ on who coordinates may leave a slot out, each for the other, and
//! in strict mode, which has no second round, a flush of which that is so is not over.

use std::time::{Duration, Instant};

use crate::base::clock::Hlc;
use crate::base::ids::{SLOT_COUNT, Slot};
use crate::base::metrics::Count;
use crate::commands::CommandError;
use crate::commands::spec::{Command, Handler};
use crate::protocol::client::encode_command;
use crate::protocol::{Args, Reply, parse_i64};
use crate::replication::routing::Quorum;
use crate::replication::wait::Waits;
use crate::server::batch::scanned::command_of;
use crate::server::error::RequestError;
use crate::server::forward::wire::{QuestionKind, STALE_MS_MAX};
use crate::server::share::{Asker, Share, has_slot, note_slot};
use crate::store::Effects;
use crate::store::scope::Scope;

/// In how many questions a node is asked for its share of flushing: each takes a millisecond or two of a million keys.
const FLUSH_PARTS: usize = 64;
/// How long it may be between two slots that are flushed.
const STALE: Duration = Duration::from_millis(STALE_MS_MAX);

/// Whether a question may be run however long it has lain about: a node's share of what only looks. Who asks to flush
/// gives up in the end and asks again, and what is written after its reply must stay; in strict mode replicas see to
/// that themselves, by declining what a node does whose slots have been promised to another.
pub fn may_be_old(kind: QuestionKind, requests: &[u8], quorum: Quorum) -> bool {
    kind.is_share() && (quorum.strict || !command_of(requests).is_some_and(is_flush))
}

/// Whether a command flushes.
fn is_flush(command: &Command) -> bool {
    matches!(command.handler, Handler::Node(node) if node.is_flush())
}

/// Whether a request counts as a command of its own in statistics: of the questions of one flush the first does.
#[inline]
pub fn is_first_part(command: &Command, is_rest: bool, args: Args<'_>) -> bool {
    !is_flush(command) || !is_rest && args.get(2).is_none_or(|number| number == b"0")
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

    fn slots(self) -> impl Iterator<Item = Slot> {
        Slot::all().filter(move |slot| slot.index() * self.count / SLOT_COUNT == self.number)
    }

    /// Whether shares that tell of these slots, as [`Share::flush`] does, are all of the part.
    pub fn is_covered<'s>(self, shares: impl Iterator<Item = &'s [u8]> + Clone) -> bool {
        (0..self.slots().count()).all(|at| shares.clone().any(|share| has_slot(share, at)))
    }
}

impl Share<'_> {
    /// Clears the slots of this share, each by one versioned change whatever it holds. Those that may not be written
    /// now are left as they are, and the error says so: the share is to be asked for again. Who asks for a part is told
    /// which slots of it the share was, one bit each.
    pub(super) fn flush(
        &self,
        scope: Scope,
        args: Args<'_>,
        out: &mut Reply<'_>,
        waits: &mut Waits,
    ) -> Result<(), CommandError> {
        let part = FlushPart::of(args, self.asker != Asker::Client)?;
        let mut covered = Vec::new();
        let places = (0..).zip(part.slots()).filter(|(_, slot)| self.includes(*slot));
        let slots = places.map(|(at, slot)| {
            note_slot(&mut covered, at);
            slot
        });
        self.flush_slots(scope, slots, waits)?;
        match part.count {
            1 => out.ok(),
            _ => out.bulk(&covered),
        }
        Ok(())
    }

    fn flush_slots(
        &self,
        scope: Scope,
        slots: impl Iterator<Item = Slot>,
        waits: &mut Waits,
    ) -> Result<(), CommandError> {
        let is_strict = self.quorum.strict && !self.view.is_solo;
        if is_strict && self.is_for_rest() {
            // Each slot has been cleared by its holder, whoever else still holds something of it.
            return Ok(());
        }
        let (node, coordinator) = (&self.worker.shared.node, &self.worker.shared.coordinator);
        let (mut effects, mut is_whole, mut looked) = (Effects::default(), true, Instant::now());
        for slot in slots {
            if !self.view.is_solo && std::mem::replace(&mut looked, Instant::now()).elapsed() > STALE {
                // This process may have been stopped in between: who asked may have given it up, and replied without
                // it.
                is_whole = false;
                break;
            }
            if !self.must_clear(slot, scope, is_strict) {
                continue;
            }
            if !self.view.is_solo && !self.is_for_rest() && !self.may_clear(slot, is_strict) {
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
        if is_whole { Ok(()) } else { Err(RequestError::NotCleared.refusal()) }
    }

    /// Whether a slot has to be cleared: something is in it here, or may be where nobody can look.
    fn must_clear(&self, slot: Slot, scope: Scope, is_strict: bool) -> bool {
        let shared = &self.worker.shared;
        let is_in_it = {
            let table = shared.node.store.table(slot);
            // In strict mode a deletion too, another clear's as well: a majority may not hold it yet.
            !table.is_empty() && (is_strict || table.counts().any(|(db, _)| scope.includes(db)))
        };
        if is_in_it || self.is_for_rest() || self.view.is_solo {
            return is_in_it;
        }
        // What nodes that are there hold of it and this one does not, having given it up or never got it, is their
        // share of the second round, which there is none of in strict mode.
        let roles = self.view.roles.of(slot);
        let is_alone_with_it = is_strict || roles.is_some_and(|roles| !roles.missing.is_empty());
        let may_lack =
            shared.node.store.eviction.has_evicted() || shared.coordinator.ballots.unsettled_tenure(slot).is_some();
        is_alone_with_it && may_lack
    }

    /// Whether a slot may be cleared now.
    fn may_clear(&self, slot: Slot, is_strict: bool) -> bool {
        let roles = self.view.roles.of(slot);
        roles.is_some_and(|roles| self.view.check(roles, self.quorum, true).is_ok())
            && (!is_strict || self.worker.shared.coordinator.may_clear(self.view, slot, self.now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table;
    use crate::server::batch::scanned::scanned;

    fn part_of(request: &[u8], may_be_part: bool) -> Option<FlushPart> {
        let scanner = scanned(request).ok()?;
        FlushPart::of(scanner.args(request), may_be_part).ok()
    }

    #[test]
    fn every_slot_is_in_one_part_of_a_flush() {
        let parts: Vec<FlushPart> = FlushPart::all().collect();
        let all: Vec<Slot> = Slot::all().collect();
        assert_eq!(parts.iter().flat_map(|part| part.slots()).collect::<Vec<_>>(), all);
        let whole = part_of(b"FLUSHALL ASYNC\r\n", false).expect("what clients say");
        assert_eq!(whole.slots().collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_slot_that_each_of_two_nodes_leaves_to_the_other_is_missed() {
        let part = FlushPart::all().nth(9).expect("there are more");
        let count = part.slots().count() as u16;
        let share = |skips: u16, of: u16| {
            let mut share = Vec::new();
            (0..count).filter(|at| at % of != skips).for_each(|at| note_slot(&mut share, at));
            share
        };
        let (even, odd, most) = (share(1, 2), share(0, 2), share(7, 11));
        let is_covered = |shares: &[&[u8]]| part.is_covered(shares.iter().copied());
        assert!(is_covered(&[&even, &odd]) && is_covered(&[&odd, &[], &most, &even]));
        assert!(!is_covered(&[&even]) && !is_covered(&[&most, &most]) && !is_covered(&[]));
    }

    #[test]
    fn parts_are_asked_for_by_nodes_alone_and_counted_once() {
        for part in FlushPart::all() {
            let question = part.question(b"flushdb");
            assert_eq!((part_of(&question, true), part_of(&question, false)), (Some(part), None));
            let scanner = scanned(&question).expect("own bytes");
            let (_, flushdb) = table::find(b"flushdb").expect("a command");
            let is_first = is_first_part(flushdb, false, scanner.args(&question));
            assert_eq!(is_first, part.number == 0);
        }
        for nonsense in
            ["FLUSHALL SYNC 64 64", "FLUSHALL SYNC 0 99999", "FLUSHALL SYNC 1", "FLUSHALL NOW", "FLUSHALL SYNC -1 2"]
        {
            assert_eq!(part_of(format!("{nonsense}\r\n").as_bytes(), true), None, "{nonsense}");
        }
    }
}
