//! A node's share of KEYS: in which stretches of slots it is asked for, and matching names.
//!
//! A stretch of which a node holds more than [`LOOKS_MAX`] entries is not looked through: the node says so, and who
//! asks halves it (`job::whole`). So few keys come in one answer, and while a node looks through many, others have
//! their turn. What is in one slot is looked through at once, however much it is.

use std::ops::Range;

use crate::base::ids::{SLOT_COUNT, Slot};
use crate::commands::CommandError;
use crate::protocol::client::encode_command;
use crate::protocol::{Args, Reply, parse_i64};
use crate::server::error::RequestError;
use crate::server::share::Share;

/// How many entries a node looks through at once: some milliseconds' work.
pub(super) const LOOKS_MAX: usize = 1 << 15;

/// Slots that stand one behind the other, at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch(Range<usize>);

impl Stretch {
    /// All slots.
    pub fn whole() -> Stretch {
        Stretch(0..SLOT_COUNT)
    }

    /// What `RONDO.KEYS pattern from to` is about.
    fn of(args: Args<'_>) -> Result<Stretch, CommandError> {
        let number = |at| args.get(at).and_then(parse_i64).and_then(|number| usize::try_from(number).ok());
        match (number(2), number(3)) {
            (Some(from), Some(to)) if from < to && to <= SLOT_COUNT => Ok(Stretch(from..to)),
            _ => Err(CommandError::Syntax),
        }
    }

    /// The question for the names in it that match.
    pub fn question(&self, pattern: &[u8]) -> Vec<u8> {
        let (from, to) = (self.0.start.to_string(), self.0.end.to_string());
        let mut request = Vec::new();
        encode_command(&mut request, &[b"RONDO.KEYS", pattern, from.as_bytes(), to.as_bytes()]);
        request
    }

    /// Its two halves; `None` for a single slot.
    pub fn halves(&self) -> Option<[Stretch; 2]> {
        let Range { start, end } = self.0;
        let middle = start.midpoint(end);
        (middle > start).then_some([Stretch(start..middle), Stretch(middle..end)])
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        Slot::all().skip(self.0.start).take(self.0.len())
    }
}

impl Share<'_> {
    /// Answers RONDO.KEYS: the names of this share of a stretch, or null where they are too many to be looked through
    /// at once.
    pub(super) fn keys_of_stretch(&self, args: Args<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
        let stretch = Stretch::of(args)?;
        let slots = || stretch.slots().filter(|slot| self.includes(*slot));
        if self.may_lack(slots()) {
            return Err(RequestError::NotConfirmed.refusal());
        }
        match stretch.halves().is_some() && !self.are_few(slots()) {
            true => out.null(),
            false => self.keys(args.get(1).unwrap_or_default(), slots(), out),
        }
        Ok(())
    }

    /// Whether so little is in these slots that it may be looked through at once.
    pub(super) fn are_few(&self, mut slots: impl Iterator<Item = Slot>) -> bool {
        let store = &self.worker.shared.node.store;
        let left = |left: usize, slot| left.checked_sub(store.table(slot).iter().take(left + 1).count());
        slots.try_fold(LOOKS_MAX, left).is_some()
    }

    /// All names in these slots that match.
    pub(super) fn keys(&self, pattern: &[u8], slots: impl Iterator<Item = Slot>, out: &mut Reply<'_>) {
        let store = &self.worker.shared.node.store;
        let mut found: Vec<Vec<u8>> = Vec::new();
        for slot in slots {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::batch::scanned::scanned;

    fn stretch_of(request: &[u8]) -> Option<Stretch> {
        Stretch::of(scanned(request).ok()?.args(request)).ok()
    }

    #[test]
    fn halves_are_all_of_a_stretch_down_to_single_slots() {
        let (mut left, mut slots) = (vec![Stretch::whole()], Vec::new());
        while let Some(stretch) = left.pop() {
            match stretch.halves() {
                Some([first, second]) => left.extend([second, first]),
                None => slots.extend(stretch.slots()),
            }
        }
        assert!(slots.into_iter().eq(Slot::all()));
    }

    #[test]
    fn a_stretch_is_asked_for_and_nonsense_refused() {
        let [first, second] = Stretch::whole().halves().expect("more than one slot");
        for stretch in [Stretch::whole(), first, second] {
            assert_eq!(stretch_of(&stretch.question(b"a b\r\n")), Some(stretch));
        }
        for nonsense in ["RONDO.KEYS * 5 5", "RONDO.KEYS * 0 16385", "RONDO.KEYS * -1 5", "RONDO.KEYS * x 5"] {
            assert_eq!(stretch_of(format!("{nonsense}\r\n").as_bytes()), None, "{nonsense}");
        }
    }
}
