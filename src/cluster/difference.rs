//! What differs between two replicas of a slot, decided on marks alone: no clock, no socket, no store.

use std::collections::{HashMap, HashSet};

use crate::store::digest::Mark;

/// What the asked side does with the asker's marks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Fingerprints of keys whose states go to the asker.
    pub send: HashSet<u64>,
    /// Fingerprints of keys whose states the asker is to send.
    pub wanted: Vec<u64>,
    /// No key that the asker has as deleted lives here.
    pub is_buried: bool,
}

/// How much room there is for keys that only one side holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// We take keys that we lack: false close to our limit on memory, where they were given up on purpose.
    pub ours: bool,
    /// The same of the asker.
    pub theirs: bool,
}

/// Compares our marks with the asker's.
///
/// A key that one side alone has is no difference when it fades: tombstones are collected and expired keys swept by
/// each replica at a time of its own. Where both have it and one of them fades, the versions decide. A clear of the
/// slot always goes to the side that lacks it: keys that it takes away may be all that differs.
pub fn compare(ours: &[Mark], theirs: &[Mark], room: Room) -> Difference {
    let known: HashMap<u64, &Mark> = ours.iter().map(|mark| (mark.key, mark)).collect();
    let asked: HashSet<u64> = theirs.iter().map(|mark| mark.key).collect();
    let mut difference = Difference { is_buried: true, ..Difference::default() };
    for mark in theirs {
        match known.get(&mark.key) {
            Some(held) if held.version == mark.version || held.fades && mark.fades && !mark.clears => {}
            Some(held) => {
                difference.send.insert(mark.key);
                difference.wanted.push(mark.key);
                difference.is_buried &= !mark.fades || held.fades && !mark.clears;
            }
            None if mark.clears => {
                difference.wanted.push(mark.key);
                difference.is_buried = false;
            }
            None if mark.fades || !room.ours => {}
            None => difference.wanted.push(mark.key),
        }
    }
    let lacks = |it: &&Mark| (it.clears || room.theirs && !it.fades) && !asked.contains(&it.key);
    difference.send.extend(ours.iter().filter(lacks).map(|it| it.key));
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { ours: true, theirs: true };

    fn mark(key: u64, version: u64) -> Mark {
        Mark { key, version, fades: false, clears: false }
    }

    fn fading(key: u64, version: u64) -> Mark {
        Mark { key, version, fades: true, clears: false }
    }

    fn clear(key: u64, version: u64) -> Mark {
        Mark { clears: true, ..fading(key, version) }
    }

    fn found(ours: &[Mark], theirs: &[Mark], room: Room) -> (Vec<u64>, Vec<u64>, bool) {
        let difference = compare(ours, theirs, room);
        let mut send: Vec<u64> = difference.send.into_iter().collect();
        send.sort_unstable();
        (send, difference.wanted, difference.is_buried)
    }

    #[test]
    fn what_differs_travels_both_ways_and_what_one_side_lacks_goes_there() {
        let (ours, theirs) = ([mark(1, 1), mark(2, 2), mark(3, 3)], [mark(1, 1), mark(2, 9), mark(4, 4)]);
        assert_eq!(found(&ours, &theirs, ROOM), (vec![2, 3], vec![2, 4], true));
        assert_eq!(found(&ours, &theirs, Room { ours: false, theirs: true }), (vec![2, 3], vec![2], true));
        assert_eq!(found(&ours, &theirs, Room { ours: true, theirs: false }), (vec![2], vec![2, 4], true));
        assert_eq!(found(&ours, &ours, ROOM), (vec![], vec![], true));
    }

    #[test]
    fn what_fades_on_one_side_alone_is_left_but_a_deletion_meets_a_live_copy() {
        assert_eq!(found(&[fading(1, 1)], &[], ROOM), (vec![], vec![], true));
        assert_eq!(found(&[], &[fading(1, 1)], ROOM), (vec![], vec![], true));
        assert_eq!(found(&[fading(1, 1)], &[fading(1, 2)], ROOM), (vec![], vec![], true));
        assert_eq!(found(&[mark(1, 1)], &[fading(1, 2)], ROOM), (vec![1], vec![1], false));
        assert_eq!(found(&[fading(1, 2)], &[mark(1, 1)], ROOM), (vec![1], vec![1], true));
    }

    #[test]
    fn a_clear_goes_to_the_side_that_lacks_it_and_is_not_buried_before() {
        let full = Room { ours: false, theirs: false };
        assert_eq!(found(&[clear(1, 1)], &[], full), (vec![1], vec![], true));
        assert_eq!(found(&[], &[clear(1, 1)], full), (vec![], vec![1], false));
        assert_eq!(found(&[clear(1, 1)], &[clear(1, 2)], full), (vec![1], vec![1], false));
        assert_eq!(found(&[clear(1, 1)], &[clear(1, 1)], full), (vec![], vec![], true));
    }
}
