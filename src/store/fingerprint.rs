//! Names and versions as numbers, equal on all nodes of a cluster.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::ids::ActorId;
use crate::base::version::{Dot, Version, long_form};

/// The fingerprint of a key's name.
pub fn fingerprint(db: u8, key: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(key, seed ^ u64::from(db).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The fingerprint of a version; `ids` are the actors' long forms.
pub(super) fn version_fingerprint(version: &Version, seed: u64, ids: &[ActorId]) -> u64 {
    let long = |dot: &Dot| {
        let id = long_form(dot.actor, ids);
        (id.node, id.generation, dot.hlc.0)
    };
    // Contexts are sorted by the short form, which each node gives out on its own.
    let mut context: SmallVec<[_; 4]> = version.context.iter().map(long).collect();
    context.sort_unstable();
    let mut bytes: SmallVec<[u8; 96]> = SmallVec::new();
    for (node, generation, hlc) in std::iter::once(long(&version.dot)).chain(context) {
        bytes.extend_from_slice(&node.to_le_bytes());
        bytes.extend_from_slice(&generation.to_le_bytes());
        bytes.extend_from_slice(&hlc.to_le_bytes());
    }
    xxh3_64_with_seed(&bytes, seed)
}
