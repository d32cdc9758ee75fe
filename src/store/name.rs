//! What a key is called, and the hash under which it stands in its slot's table.
//!
//! The hash is of this process only, and never on the wire. It has a seed of its own in each process, so that nobody
//! can choose keys that fall together.

use std::sync::OnceLock;

use crate::store::entry::Entry;

/// A key's name with its hash, computed once.
#[derive(Clone, Copy, Debug)]
pub struct Name<'k> {
    /// The database.
    pub db: u8,
    /// The key.
    pub key: &'k [u8],
    /// The table's hash of both.
    pub hash: u64,
}

impl<'k> Name<'k> {
    /// The name of a key whose hash is not known yet.
    pub fn of(db: u8, key: &'k [u8]) -> Name<'k> {
        Name { db, key, hash: hash_name(db, key) }
    }
}

/// The hash under which a key stands in its slot's table.
#[inline]
pub fn hash_name(db: u8, key: &[u8]) -> u64 {
    static HASHER: OnceLock<ahash::RandomState> = OnceLock::new();
    in_database(db, HASHER.get_or_init(ahash::RandomState::new).hash_one(key))
}

/// The hash of a key in database `db`, given the one in database 0. Other databases are rare: no second hashing.
#[inline]
pub fn in_database(db: u8, hash: u64) -> u64 {
    hash ^ u64::from(db).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash under which an entry stands.
pub(super) fn hash_of(entry: &Entry) -> u64 {
    hash_name(entry.db(), entry.key())
}
