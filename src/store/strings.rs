//! Strings of a slot: how they are written, whole and in part.
//!
//! A string is written where it lies if that takes as much room and its author stays the same; else its entry is made
//! anew. The most usual write of all, a string over one that only the same author has ever written, is one look and no
//! version to work out ([`SlotTable::overwrite`]); it means what [`SlotTable::apply`] makes of the same mutation.
//!
//! Knows no other type, and no replica.

use crate::base::version::{Dot, Version};
use crate::store::access::Access;
use crate::store::entry::{Data, Entry, FLAG_RAW, Payload};
use crate::store::mutation::Mutation;
use crate::store::name::Name;
use crate::store::rules::Rules;
use crate::store::slot::SlotTable;
use crate::store::value::Value;

impl SlotTable {
    pub(super) fn assign(&mut self, name: Name<'_>, dot: Dot, value: &[u8], deadline_ms: u64, rules: &Rules) {
        let is_same_author = |entry: &Entry| entry.dot().actor == dot.actor;
        if !self.overwrite_if(name, dot, value, deadline_ms, rules, is_same_author) {
            self.put_over(name, dot, Payload::String(value), deadline_ms, rules);
        }
    }

    /// Makes the most usual change with one look: a string over one that takes as much room and was written by the same
    /// author, before, and by nobody else since it was made, so that its version is the stamp alone. False, and nothing
    /// changed, where that is not so.
    #[inline]
    pub(super) fn overwrite(
        &mut self,
        name: Name<'_>,
        version: &Version,
        mutation: &Mutation<'_>,
        rules: &Rules,
    ) -> bool {
        let (Mutation::Assign { value, deadline_ms }, true) = (*mutation, version.context.is_empty()) else {
            return false;
        };
        let dot = version.dot;
        let is_plain = |entry: &Entry| entry.context_is_empty() && entry.dot().precedes(dot);
        let is_done = self.overwrite_if(name, dot, value, deadline_ms, rules, is_plain);
        if is_done {
            self.note_change();
            self.note_deadline(deadline_ms);
        }
        is_done
    }

    #[inline]
    fn overwrite_if(
        &mut self,
        name: Name<'_>,
        dot: Dot,
        value: &[u8],
        deadline_ms: u64,
        rules: &Rules,
        is_fit: impl FnOnce(&Entry) -> bool,
    ) -> bool {
        let Some(entry) = self.find_mut(name) else { return false };
        let was_expiring = entry.deadline_ms() != 0;
        if !is_fit(entry) || !entry.overwrite(value) {
            return false;
        }
        entry.set_dot(dot);
        entry.set_deadline_ms(deadline_ms);
        entry.set_flags(0);
        rules.access.touch(entry);
        self.census.redate(name.db, was_expiring, deadline_ms != 0);
        true
    }

    pub(super) fn patch(&mut self, name: Name<'_>, dot: Dot, offset: usize, bytes: &[u8], rules: &Rules) {
        if self.patch_in_place(name, dot, offset, bytes, rules.access) {
            return;
        }
        let end = offset + bytes.len();
        let (mut text, deadline_ms) = match self.find(name) {
            Some(entry) => (string_of(entry), entry.deadline_ms()),
            None => (Vec::new(), 0),
        };
        text.resize(text.len().max(end), 0);
        if let Some(part) = text.get_mut(offset..end) {
            part.copy_from_slice(bytes);
        }
        self.assign(name, dot, &text, deadline_ms, rules);
        if let Some(entry) = self.find_mut(name) {
            entry.set_flags(FLAG_RAW);
        }
    }

    fn patch_in_place(&mut self, name: Name<'_>, dot: Dot, offset: usize, bytes: &[u8], access: Access) -> bool {
        let Some(entry) = self.find_mut(name) else { return false };
        let end = offset + bytes.len();
        let len = entry.string_mut().map_or(0, |text| text.len());
        if entry.dot().actor != dot.actor || len < end && !entry.grow(end) {
            return false;
        }
        let Some(part) = entry.string_mut().and_then(|text| text.get_mut(offset..end)) else { return false };
        part.copy_from_slice(bytes);
        entry.set_dot(dot);
        entry.set_flags(FLAG_RAW);
        access.touch(entry);
        true
    }
}

/// The bytes that a string or number is shown as; none for what is neither.
pub(super) fn string_of(entry: &Entry) -> Vec<u8> {
    match entry.data() {
        Data::String(bytes) => bytes.to_vec(),
        Data::Value(Value::Counter(counter)) => counter.total().to_string().into_bytes(),
        Data::Value(_) | Data::Tombstone => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::ids::ActorId;
    use crate::base::version::Actor;
    use crate::store::Store;

    const KEY: &[u8] = b"a key";

    /// All that there is to see of a table with one key.
    fn shown(table: &SlotTable) -> String {
        let entry = table.find(Name::of(0, KEY)).expect("an entry");
        let what = (entry.version(), entry.meta(), entry.data(), entry.memory_bytes());
        format!("{what:?} {:?} {} {}", table.census, table.bytes, table.deadline_min_ms)
    }

    proptest! {
        #[test]
        fn to_overwrite_is_to_apply(writes in prop::collection::vec((0usize..40, 0u64..3, 0u16..20, any::<bool>()), 1..30)) {
            let store = Store::new(ActorId { node: 1, generation: 1 });
            store.set_replicated(true);
            let rules = store.rules(1_000);
            let (mut quick, mut plain) = (SlotTable::default(), SlotTable::default());
            for (at, (len, deadline_ms, author, deletes)) in writes.into_iter().enumerate() {
                // Mostly one author, who writes strings.
                let actor = Actor(author.saturating_sub(18));
                let dot = Dot { hlc: Hlc(at as u64 + 1), actor };
                let value = vec![at as u8; len];
                let mutation = match author {
                    0 if deletes => Mutation::Delete,
                    1..5 if deletes => Mutation::Expire { deadline_ms },
                    _ => Mutation::Assign { value: &value, deadline_ms },
                };
                let name = Name::of(0, KEY);
                if plain.find(name).is_none() && matches!(mutation, Mutation::Expire { .. }) {
                    continue;
                }
                plain.apply(name, dot, &mutation, &rules);
                if !quick.overwrite(name, &Version::first(dot), &mutation, &rules) {
                    quick.apply(name, dot, &mutation, &rules);
                }
                prop_assert_eq!(shown(&quick), shown(&plain));
            }
        }

        #[test]
        fn what_others_have_written_or_was_written_later_is_not_overwritten(by_other: bool, later in 1u64..9, len in 0usize..3) {
            let store = Store::new(ActorId { node: 1, generation: 1 });
            let (rules, name, value) = (store.rules(1_000), Name::of(0, KEY), vec![b'v'; len]);
            let mutation = Mutation::Assign { value: &value, deadline_ms: 0 };
            let mut table = SlotTable::default();
            let first = Dot { hlc: Hlc(5), actor: Actor(1) };
            table.apply(name, first, &mutation, &rules);
            let dot = Dot { hlc: Hlc(later), actor: Actor(1 + u16::from(by_other)) };
            let is_news = first.precedes(dot);
            prop_assert_eq!(table.overwrite(name, &Version::first(dot), &mutation, &rules), is_news);
            prop_assert_eq!(table.find(name).map(Entry::dot), Some(if is_news { dot } else { first }));
            let seen = Version::first(first).advanced(Dot { hlc: Hlc(10), actor: Actor(3) });
            prop_assert!(!table.overwrite(name, &seen, &mutation, &rules));
        }
    }
}
