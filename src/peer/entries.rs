//! Whole keys on their way between nodes: each key's slot, database, name and whole state, original versions included,
//! so that whoever receives them only merges ([`KeyState::merge_into`]); and what a node knows of one key, when two of
//! them do not agree on it.

use crate::base::ids::Slot;
use crate::base::metrics::{Count, Registry};
use crate::base::version::ActorTable;
use crate::base::wire::{Reader, WireError, put_bytes, put_u16, put_varint};
use crate::peer::frame::KeyRef;
use crate::store::Store;
use crate::store::entry::Entry;
use crate::store::incoming::Applied;
use crate::store::name::Name;
use crate::store::scope::is_name;
use crate::store::slot::SlotTable;
use crate::store::state::State;

/// Whole keys on their way.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    count: u64,
}

/// One of them, taken apart.
#[derive(Clone, PartialEq, Debug)]
pub struct KeyState<'a> {
    /// The key's slot.
    pub slot: Slot,
    /// Its database.
    pub db: u8,
    /// The key.
    pub key: &'a [u8],
    /// All there is to know of it.
    pub state: State,
}

/// What a node knows of one key: what it holds of it, and the clears that it has been through.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Known {
    /// The key's state; `None` when there is no entry.
    pub state: Option<State>,
    /// The clears of the slot that concern the key.
    pub clears: Entries,
}

impl<'a> KeyState<'a> {
    /// Whether a key or a clear can be called so.
    pub fn is_named(&self) -> bool {
        is_name(self.db, self.key)
    }

    /// The name in its slot.
    pub fn name(&self) -> Name<'a> {
        Name::of(self.db, self.key)
    }

    /// Merges it into the table of its slot, and counts a conflict.
    pub fn merge_into(self, table: &mut SlotTable, store: &Store, now_ms: u64, metrics: &Registry) -> Applied {
        let applied = table.merge(self.name(), self.state, &store.rules(now_ms), &store.actors);
        if applied == Applied::Conflict {
            metrics.count(Count::Conflicts, 1);
        }
        applied
    }
}

impl Known {
    /// What this table of `slot` knows of a key.
    pub fn of(table: &SlotTable, slot: Slot, name: Name<'_>, actors: &ActorTable) -> Known {
        let mut clears = Entries::default();
        table.clears_of(name.db).for_each(|clear| clears.push(slot, clear, actors));
        Known { state: table.find(name).map(State::of), clears }
    }

    /// Takes out all that is to be merged, in this order, the clears first; `name` is the key's.
    pub fn take_states<'a>(
        &'a mut self,
        name: KeyRef<'a>,
        actors: &'a ActorTable,
    ) -> impl Iterator<Item = Result<KeyState<'a>, WireError>> {
        let KeyRef { slot, db, key } = name;
        let state = self.state.take().map(|state| Ok(KeyState { slot, db, key, state }));
        self.clears.iter(actors).chain(state)
    }

    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>, actors: &ActorTable) {
        out.push(u8::from(self.state.is_some()));
        if let Some(state) = &self.state {
            state.encode(out, actors);
        }
        self.clears.encode(out);
    }

    /// Reads it from all that is left.
    pub fn read(reader: &mut Reader<'_>, actors: &ActorTable) -> Result<Known, WireError> {
        let state = if reader.u8()? == 1 { Some(State::decode(reader, actors)?) } else { None };
        Ok(Known { state, clears: Entries::decode(reader)? })
    }
}

impl Entries {
    /// Adds an entry of `slot` as it is, tombstones and expired ones included.
    pub fn push(&mut self, slot: Slot, entry: &Entry, actors: &ActorTable) {
        put_u16(&mut self.bytes, slot.number());
        self.bytes.push(entry.db());
        put_bytes(&mut self.bytes, entry.key());
        State::of(entry).encode(&mut self.bytes, actors);
        self.count += 1;
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many bytes they take.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes them apart one by one; ends after the first that is malformed.
    pub fn iter<'a>(&'a self, actors: &'a ActorTable) -> impl Iterator<Item = Result<KeyState<'a>, WireError>> {
        let mut reader = Reader::new(&self.bytes);
        let mut left = self.count;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let state = key_state(&mut reader, actors);
            if state.is_err() {
                left = 0;
            }
            Some(state)
        })
    }

    /// Appends them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        out.extend_from_slice(&self.bytes);
    }

    /// Reads them from all that is left.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Entries, WireError> {
        let count = reader.varint()?;
        let bytes = reader.take(reader.rest().len())?.to_vec();
        Ok(Entries { bytes, count })
    }
}

fn key_state<'a>(reader: &mut Reader<'a>, actors: &ActorTable) -> Result<KeyState<'a>, WireError> {
    let slot = Slot::new(reader.u16()?).ok_or(WireError)?;
    let db = reader.u8()?;
    let key = reader.bytes()?;
    Ok(KeyState { slot, db, key, state: State::decode(reader, actors)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::store::Effects;
    use crate::store::mutation::Mutation;

    fn entries() -> (Store, Entries) {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        let slot = slot_of(b"key");
        let mut effects = Effects::default();
        let assign = Mutation::Assign { value: b"value", deadline_ms: 0 };
        store.lock(slot, 3, 9, &mut effects).write(b"key", assign);
        let mut entries = Entries::default();
        store.table(slot).iter().for_each(|entry| entries.push(slot, entry, &store.actors));
        (store, entries)
    }

    #[test]
    fn keys_arrive_as_they_were() {
        let (store, entries) = entries();
        let back: Vec<_> = entries.iter(&store.actors).map(|key| key.expect("own bytes")).collect();
        assert_eq!((back.len(), back[0].db, back[0].key), (1, 3, &b"key"[..]));
        assert_eq!(back[0].state.content, crate::store::state::Content::String(b"value".to_vec()));
        let short = Entries { bytes: entries.bytes[..5].to_vec(), count: u64::MAX };
        assert_eq!(short.iter(&store.actors).collect::<Vec<_>>(), [Err(WireError)]);
    }
}
