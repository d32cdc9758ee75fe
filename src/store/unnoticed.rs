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

use crate::base::version::Version;

/// Keys that are remembered; beyond it all are forgotten.
const KEYS_MAX: usize = 1_024;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Unnoticed(Mutex<HashMap<NameHash, Stretch>>);

/// The hash of a key's database and the key (`store::hash_name`).
type NameHash = u64;

/// From `first` to `last` nothing happened to a key that anybody should notice.
#[derive(Debug)]
struct Stretch {
    first: Version,
    last: Version,
}

impl Unnoticed {
    /// The key's version `after` came next to `before`, the default one for none, by a write that is not to be noticed.
    pub fn note(&self, name: NameHash, before: Version, after: Version) {
        let mut stretches = self.0.lock();
        match stretches.get_mut(&name).filter(|known| known.last == before) {
            Some(known) => known.last = after,
            None => {
                if stretches.len() >= KEYS_MAX && !stretches.contains_key(&name) {
                    stretches.clear();
                }
                stretches.insert(name, Stretch { first: before, last: after });
            }
        }
    }

    /// Whether nothing that is to be noticed lies between these two versions of the key. A merge ends a stretch, so
    /// that inside of one the last write tells versions apart.
    pub fn leads(&self, name: NameHash, from: &Version, to: &Version) -> bool {
        let is_inside = |it: &Stretch| it.first.dot.hlc < from.dot.hlc && from.dot.hlc < it.last.dot.hlc;
        let stretches = self.0.lock();
        stretches
            .get(&name)
            .is_some_and(|it| it.last == *to && (it.first == *from || it.last == *from || is_inside(it)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::version::{Actor, Dot};
    use crate::store::hash_name;

    fn at(stamp: u64) -> Version {
        Version::first(Dot { hlc: Hlc(stamp), ..Dot::default() })
    }

    /// The same with what another actor wrote at 3 merged into it.
    fn merged(stamp: u64) -> Version {
        let other = Dot { hlc: Hlc(3), actor: Actor(1) };
        Version { context: [other].into_iter().collect(), ..at(stamp) }
    }

    #[test]
    fn a_merge_is_noticed() {
        let (unnoticed, k) = (Unnoticed::default(), hash_name(0, b"k"));
        unnoticed.note(k, at(5), at(7));
        assert!(unnoticed.leads(k, &at(5), &at(7)));
        assert!(!unnoticed.leads(k, &at(5), &merged(7)) && !unnoticed.leads(k, &merged(5), &at(7)));
        unnoticed.note(k, merged(7), merged(9));
        assert!(unnoticed.leads(k, &merged(7), &merged(9)));
        assert!(!unnoticed.leads(k, &at(5), &merged(9)) && !unnoticed.leads(k, &at(7), &merged(9)));
    }

    #[test]
    fn stretches_grow_end_with_what_is_noticed_and_are_bounded() {
        let unnoticed = Unnoticed::default();
        let k = hash_name(0, b"k");
        unnoticed.note(k, at(0), at(5));
        unnoticed.note(k, at(5), at(7));
        let leads = |from, to| unnoticed.leads(k, &at(from), &at(to));
        assert!(leads(0, 7) && leads(5, 7) && !leads(5, 6) && !unnoticed.leads(hash_name(1, b"k"), &at(0), &at(7)));
        // Stamp 8 was noticed.
        unnoticed.note(k, at(8), at(9));
        assert!(leads(8, 9) && !leads(7, 9) && !leads(0, 7));
        (0..KEYS_MAX as u64).for_each(|n| unnoticed.note(hash_name(0, &n.to_le_bytes()), at(0), at(1)));
        assert!(unnoticed.0.lock().len() <= KEYS_MAX && !leads(8, 9));
    }
}
