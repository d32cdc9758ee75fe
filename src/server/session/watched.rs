//! What a connection watches: keys, each with the version that it had when WATCH first named it.
//!
//! Found by name in constant time, so that watching many keys costs what reading their names costs, however often they
//! are named. Bounded by [`WATCHED_BYTES_MAX`]: names are a client's own bytes, and UNWATCH or EXEC may never come.
//!
//! Invariants: no key is listed twice; all keys were seen at one coordinator, which callers see to before they add.

use hashbrown::HashTable;

use crate::base::clock::Hlc;
use crate::base::ids::NodeId;
use crate::base::version::{ActorTable, Version};
use crate::base::wire::{Reader, WireError, put_bytes, put_u64};
use crate::store::hash_name;
use crate::store::missing_keys::MissingKey;
use crate::store::mutation::{put_full_version, read_full_version};

/// Most bytes that the watched keys of a connection may take. Redis has no such limit.
const WATCHED_BYTES_MAX: usize = 256 << 20;

/// What a client reads that watches more.
pub const TOO_MANY_WATCHED: &str = "ERR the watched keys of a connection may take no more than 256 MB";

/// What a client reads that watches keys of several coordinators.
pub const SEVERAL_COORDINATORS: &str =
    "ERR WATCH needs all watched keys to have the same coordinator: give them one hash tag";

/// The `since` of a key that something was computed of: whatever was written since counts, be it nothing that WATCH
/// notices, and what is computed of a key that is not there holds as well if it has come and gone.
pub const EXACTLY: Hlc = Hlc(u64::MAX);

/// A watched key and the version it had.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The database.
    pub db: u8,
    /// The key.
    pub key: Vec<u8>,
    /// The version it had; the default one for none. All of it: what a merge brings may leave the last write as it is.
    pub seen: Version,
    /// Whether it was there.
    pub was_live: bool,
    /// A stamp of its coordinator, from before the look: what is written later is stamped later. Or [`EXACTLY`].
    pub since: Hlc,
    /// Tells that it has come since and gone, on a node without replicas, where its version would not.
    pub missing: Option<MissingKey>,
    /// The node that coordinates it; `None` for this one.
    pub at: Option<NodeId>,
}

/// See the head of the file.
#[derive(Clone, Debug, Default)]
pub struct WatchList {
    keys: Vec<Watched>,
    /// Where each key stands in `keys`.
    places: HashTable<usize>,
    bytes: usize,
}

impl WatchList {
    /// The keys, in the order in which they were watched.
    pub fn keys(&self) -> &[Watched] {
        &self.keys
    }

    /// Whether keys may be added that `at` coordinates (`None` for this node): all have one coordinator.
    pub fn is_at(&self, at: Option<NodeId>) -> bool {
        self.keys.first().is_none_or(|first| first.at == at)
    }

    /// Whether there is room for these keys, taken for new ones.
    pub fn has_room_for<'k>(&self, mut keys: impl Iterator<Item = &'k [u8]>) -> bool {
        let left = WATCHED_BYTES_MAX.checked_sub(self.bytes);
        left.and_then(|left| keys.try_fold(left, |left, key| left.checked_sub(bytes_of(key)))).is_some()
    }

    /// Watches a key; one that is watched already keeps the version that was seen first.
    pub fn add(&mut self, watched: Watched) {
        let WatchList { keys, places, bytes } = self;
        let is_it = |at: &usize| keys.get(*at).is_some_and(|it| it.db == watched.db && it.key == watched.key);
        let hash = hash_name(watched.db, &watched.key);
        if places.find(hash, is_it).is_none() {
            let hash_at = |at: &usize| keys.get(*at).map_or(0, |it| hash_name(it.db, &it.key));
            places.insert_unique(hash, keys.len(), hash_at);
            *bytes += bytes_of(&watched.key);
            keys.push(watched);
        }
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        *self = WatchList::default();
    }
}

/// About what watching a key takes: its name stands here, and twice more while it is watched for being absent.
fn bytes_of(key: &[u8]) -> usize {
    size_of::<Watched>() + 3 * key.len()
}

/// Appends watched keys, their number first, as EXEC sends them to the coordinator.
pub fn put_watched(out: &mut Vec<u8>, watched: &[Watched], actors: &ActorTable) {
    put_u64(out, watched.len() as u64);
    for it in watched {
        out.push(it.db);
        put_bytes(out, &it.key);
        put_full_version(out, &it.seen, actors);
        out.push(u8::from(it.was_live));
        put_u64(out, it.since.0);
    }
}

/// Reads watched keys; they are kept at this node from now on.
pub fn read_watched(reader: &mut Reader<'_>, actors: &ActorTable) -> Result<Vec<Watched>, WireError> {
    let mut watched = Vec::new();
    for _ in 0..reader.u64()? {
        let (db, key) = (reader.u8()?, reader.bytes()?.to_vec());
        let seen = read_full_version(reader, actors)?;
        let (was_live, since) = (reader.u8()? != 0, Hlc(reader.u64()?));
        watched.push(Watched { db, key, seen, was_live, since, missing: None, at: None });
    }
    Ok(watched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::version::Dot;

    fn watched(db: u8, key: &[u8], stamp: u64) -> Watched {
        let since = Hlc(stamp);
        let seen = Version::first(Dot { hlc: since, ..Dot::default() });
        Watched { db, key: key.to_vec(), seen, was_live: true, since, missing: None, at: None }
    }

    /// Comparing each key with all others would take hours.
    #[test]
    fn many_keys_are_found_again_by_name_and_keep_what_was_seen_first() {
        const KEYS: u64 = 300_000;
        let mut list = WatchList::default();
        for stamp in [1, 2, 3] {
            (0..KEYS).for_each(|n| list.add(watched(0, &n.to_le_bytes(), stamp)));
        }
        list.add(watched(1, &7u64.to_le_bytes(), 4));
        assert_eq!(list.keys().len() as u64, KEYS + 1, "a key of another database is another one");
        let (last, others) = list.keys().split_last().expect("keys");
        assert!(others.iter().zip(0u64..).all(|(it, n)| it.key == n.to_le_bytes() && it.seen.dot.hlc == Hlc(1)));
        assert_eq!(last.seen.dot.hlc, Hlc(4));
    }

    #[test]
    fn there_is_room_for_so_many_bytes_until_they_are_forgotten() {
        let (key, mut list) = (vec![0; 1 << 20], WatchList::default());
        let has_room_for = |list: &WatchList, count| list.has_room_for(std::iter::repeat_n(&key[..], count));
        assert!(has_room_for(&list, 85) && !has_room_for(&list, 86));
        assert!(!list.has_room_for(std::iter::repeat_n(&b""[..], 10_000_000)), "many short ones");
        list.add(watched(0, &key, 1));
        list.add(watched(0, &key, 2));
        assert!(has_room_for(&list, 84) && !has_room_for(&list, 85));
        list.clear();
        assert!(list.keys().is_empty() && has_room_for(&list, 85));
    }

    #[test]
    fn all_keys_are_at_one_coordinator() {
        let (here, there) = (None, Some(NodeId::from_bytes([7; 20])));
        let mut list = WatchList::default();
        assert!(list.is_at(here) && list.is_at(there));
        list.add(Watched { at: there, ..watched(0, b"k", 1) });
        assert!(!list.is_at(here) && list.is_at(there));
    }
}
