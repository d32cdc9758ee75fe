//! What a change of a slot goes by beside the entry and the change itself: options, and what time it is.

use crate::store::access::Access;
use crate::store::elements::PackLimits;

/// What `SlotTable::apply` needs to know beside the entry and the mutation.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Deletions leave tombstones: true as soon as the key has other replicas.
    pub tombstones: bool,
    /// When a hash stops being packed.
    pub hash: PackLimits,
    /// When a set stops being packed.
    pub set: PackLimits,
    /// Most members of what OBJECT ENCODING calls an intset.
    pub intset_entries_max: usize,
    /// The second in which new keys are created.
    pub now_s: u32,
    /// The use of a key that a change of it is.
    pub access: Access,
}
