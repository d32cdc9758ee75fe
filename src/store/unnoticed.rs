//! Changes that WATCH does not notice, because Redis does not tell of them: a string that a SETBIT without effect makes
//! a raw one, the room that a failing BITFIELD leaves in it, a member that an SMOVE moves into a set that has it.
//!
//! They are versioned and replicated as any other, so their stamps are remembered: a key that was watched at the stamp
//! before one counts as unchanged at the stamp after it. There are few, and [`KEYS_MAX`] keys are remembered at most,
//! by the hashes of their names, so that long names take no more room than short ones; what is forgotten makes a
//! transaction fail that might have run, never the other way round. Two keys of one hash do so as well: no two writes
//! have one stamp.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::base::version::Dot;

/// Keys that are remembered; beyond it all are forgotten.
const KEYS_MAX: usize = 1_024;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Unnoticed(Mutex<HashMap<NameHash, Stretch>>);

/// The hash of a key's database and the key (`store::hash_name`).
type NameHash = u64;

/// From `first` to `last` nothing happened to a key that anybody should notice.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: Dot,
    last: Dot,
}

impl Unnoticed {
    /// The key's write `after` came next to `before`, the zero dot for none, and is not to be noticed.
    pub fn note(&self, name: NameHash, before: Dot, after: Dot) {
        let mut stretches = self.0.lock();
        let known = stretches.get(&name).filter(|known| known.last == before).map(|known| known.first);
        if stretches.len() >= KEYS_MAX && !stretches.contains_key(&name) {
            stretches.clear();
        }
        stretches.insert(name, Stretch { first: known.unwrap_or(before), last: after });
    }

    /// Whether nothing that is to be noticed lies between these two writes of the key.
    pub fn leads(&self, name: NameHash, from: Dot, to: Dot) -> bool {
        let stretches = self.0.lock();
        stretches.get(&name).is_some_and(|it| it.last == to && it.first.hlc <= from.hlc && from.hlc <= to.hlc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::store::hash_name;

    fn dot(stamp: u64) -> Dot {
        Dot { hlc: Hlc(stamp), ..Dot::default() }
    }

    #[test]
    fn stretches_grow_end_with_what_is_noticed_and_are_bounded() {
        let unnoticed = Unnoticed::default();
        let k = hash_name(0, b"k");
        unnoticed.note(k, dot(0), dot(5));
        unnoticed.note(k, dot(5), dot(7));
        let leads = |from, to| unnoticed.leads(k, dot(from), dot(to));
        assert!(leads(0, 7) && leads(5, 7) && !leads(5, 6) && !unnoticed.leads(hash_name(1, b"k"), dot(0), dot(7)));
        // Stamp 8 was noticed.
        unnoticed.note(k, dot(8), dot(9));
        assert!(leads(8, 9) && !leads(7, 9) && !leads(0, 7));
        (0..KEYS_MAX as u64).for_each(|n| unnoticed.note(hash_name(0, &n.to_le_bytes()), dot(0), dot(1)));
        assert!(unnoticed.0.lock().len() <= KEYS_MAX && !leads(8, 9));
    }
}
