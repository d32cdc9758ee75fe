//! What a node holds of some keys: the question behind WATCH and RONDO.META.
//!
//! A node is asked with `QuestionKind::Copies` and the client's own request; its answer is one [`KeyCopy`] a key, in
//! the order of the keys. For WATCH only the coordinator of all keys answers, a stamp in front that is earlier than
//! whatever it writes afterwards; with `QuestionKind::OwnCopies`, for RONDO.META, every node does. Looking is no use of
//! a key and changes nothing.
//!
//! Actors travel by their full names, because the short ones mean something on one node only.
//!
//! Does not confirm what it finds with other replicas: RONDO.META is there to show when they differ.

use crate::base::ids::slot_of;
use crate::base::version::{ActorTable, Relation, Version};
use crate::base::wire::{Reader, WireError, put_bytes, put_u64};
use crate::protocol::Args;
use crate::replication::view::View;
use crate::store::Store;
use crate::store::keyspace::value_ref;
use crate::store::mutation::{put_full_version, read_full_version};
use crate::store::name::Name;

/// A node's copy of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyCopy {
    /// The version, of a deletion too; `None` when the key is not known here.
    pub version: Option<Version>,
    /// The key is there: neither deleted nor expired.
    pub is_live: bool,
    /// As TYPE says it; empty when the key is not there.
    pub type_name: String,
    /// When it was created, in seconds since 1970.
    pub created_s: u64,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub deadline_ms: u64,
    /// The memory that it takes, in bytes.
    pub bytes: u64,
}

impl KeyCopy {
    /// What the store holds.
    pub fn of(store: &Store, db: u8, key: &[u8], now_ms: u64) -> KeyCopy {
        let table = store.table(slot_of(key));
        let Some(entry) = table.find(Name::of(db, key)) else { return KeyCopy::default() };
        let is_live = !entry.is_tombstone() && !entry.is_expired(now_ms);
        KeyCopy {
            version: Some(entry.version()),
            is_live,
            type_name: value_ref(entry).filter(|_| is_live).map_or(String::new(), |view| view.type_name().to_owned()),
            created_s: u64::from(entry.meta().created_s),
            deadline_ms: entry.deadline_ms(),
            bytes: entry.memory_bytes() as u64,
        }
    }

    /// How this node's copy stands to `reference`; `None` when it is missing here.
    pub fn agreement(&self, reference: &KeyCopy) -> Option<Relation> {
        match (&self.version, &reference.version) {
            // A deletion may be forgotten once everybody knows of it.
            _ if !self.is_live && !reference.is_live => Some(Relation::Equal),
            (None, _) => None,
            (Some(_), None) => Some(Relation::Newer),
            (Some(ours), Some(theirs)) => Some(ours.relation(theirs)),
        }
    }

    /// Appends it as it travels.
    pub fn put(&self, out: &mut Vec<u8>, actors: &ActorTable) {
        out.push(u8::from(self.version.is_some()));
        if let Some(version) = &self.version {
            put_full_version(out, version, actors);
        }
        out.push(u8::from(self.is_live));
        put_bytes(out, self.type_name.as_bytes());
        [self.created_s, self.deadline_ms, self.bytes].into_iter().for_each(|number| put_u64(out, number));
    }

    /// Reads what another node has put.
    pub fn read(reader: &mut Reader<'_>, actors: &ActorTable) -> Result<KeyCopy, WireError> {
        let version = match reader.u8()? {
            0 => None,
            _ => Some(read_full_version(reader, actors)?),
        };
        let is_live = reader.u8()? != 0;
        let type_name = String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| WireError)?;
        let (created_s, deadline_ms, bytes) = (reader.u64()?, reader.u64()?, reader.u64()?);
        Ok(KeyCopy { version, is_live, type_name, created_s, deadline_ms, bytes })
    }
}

/// A node's answer to a question about the keys behind the first word; false, with nothing said, when it has to
/// coordinate them all to answer, which all do that are not asked for a copy alone (`is_local`), and does not.
pub fn answer(
    store: &Store,
    view: &View,
    db: u8,
    args: Args<'_>,
    is_local: bool,
    now_ms: u64,
    out: &mut Vec<u8>,
) -> bool {
    if !is_local {
        if !args.iter().skip(1).all(|key| view.is_coordinator(slot_of(key))) {
            return false;
        }
        put_u64(out, store.clock.tick(now_ms).0);
    }
    for key in args.iter().skip(1) {
        KeyCopy::of(store, db, key, now_ms).put(out, &store.actors);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::ids::ActorId;
    use crate::base::version::{Actor, Dot};
    use crate::server::session::watched::{Watched, put_watched, read_watched};
    use crate::store::Effects;
    use crate::store::mutation::Mutation;

    #[test]
    fn versions_mean_the_same_write_on_every_node() {
        let here = Store::new(ActorId { node: 1, generation: 1 });
        let there = ActorTable::new(ActorId { node: 2, generation: 2 });
        here.set_replicated(true);
        let mut effects = Effects::default();
        here.lock(slot_of(b"k"), 0, 5_000, &mut effects).write(b"k", Mutation::Assign { value: b"v", deadline_ms: 0 });
        let copy = KeyCopy::of(&here, 0, b"k", 5_000);
        assert_eq!((copy.is_live, copy.type_name.as_str(), copy.created_s), (true, "string", 5));
        let (mut out, mut back) = (Vec::new(), Vec::new());
        copy.put(&mut out, &here.actors);
        let read = KeyCopy::read(&mut Reader::new(&out), &there).expect("own bytes");
        let seen = read.version.clone().expect("a version");
        assert_ne!(seen.dot.actor, Actor::SELF, "written by the other node");
        let (key, since) = (b"k".to_vec(), Hlc(7));
        let watched = Watched { db: 0, key, seen, was_live: true, since, missing: None, at: None };
        put_watched(&mut back, &[watched], &there);
        let returned = read_watched(&mut Reader::new(&back), &here.actors).expect("own bytes");
        assert_eq!(returned.into_iter().next().map(|it| (Some(it.seen), it.since)), Some((copy.version, Hlc(7))));
        assert!(read_watched(&mut Reader::new(&back[..back.len() - 1]), &here.actors).is_err());
    }

    #[test]
    fn a_copy_is_told_apart_from_the_coordinators() {
        let dot = |ms: u64| Dot { hlc: Hlc(ms), actor: Actor::SELF };
        let other = |ms: u64| Dot { hlc: Hlc(ms), actor: Actor(1) };
        let copy = |version| KeyCopy { version: Some(version), is_live: true, ..KeyCopy::default() };
        let (old, new) = (copy(Version::first(dot(1))), copy(Version::first(dot(2))));
        assert_eq!(new.agreement(&new), Some(Relation::Equal));
        assert_eq!((old.agreement(&new), new.agreement(&old)), (Some(Relation::Older), Some(Relation::Newer)));
        assert_eq!(copy(Version::first(other(3))).agreement(&new), Some(Relation::Concurrent));
        assert_eq!(KeyCopy::default().agreement(&new), None);
        assert_eq!(KeyCopy::default().agreement(&KeyCopy { is_live: false, ..new }), Some(Relation::Equal));
    }
}
