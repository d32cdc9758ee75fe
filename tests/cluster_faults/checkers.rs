//! Did the cluster keep its word? Pure functions from what clients saw to a list of complaints; empty is good.
//!
//! A write whose outcome is unknown may have happened at any time after it was sent, also later than writes after it
//! (its bytes may lie in the socket of a paused process), so seeing one is never held against the cluster; not seeing
//! an acknowledged one is.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Added, Count, Read, Write};

/// At most this many complaints of one kind are spelled out.
const SHOWN: usize = 10;

/// One writer per key, rising numbers: no read that began after an acknowledgement sees less, nothing is read that was
/// not written, and what one read saw no later read goes behind.
pub fn registers(writes: &[Write], reads: &[Read]) -> Vec<String> {
    let mut by_key: BTreeMap<usize, (Vec<&Write>, Vec<&Read>)> = BTreeMap::new();
    writes.iter().for_each(|write| by_key.entry(write.key).or_default().0.push(write));
    reads.iter().for_each(|read| by_key.entry(read.key).or_default().1.push(read));
    let complaints = by_key.into_values().flat_map(|(writes, reads)| register(&writes, reads));
    shortened(complaints.collect())
}

fn register(writes: &[&Write], mut reads: Vec<&Read>) -> Vec<String> {
    let by_seq: BTreeMap<u64, &Write> = writes.iter().map(|write| (write.seq, *write)).collect();
    // (acknowledged at, number), and beside it (returned at, number) of reads: both only push the floor up.
    let mut acks: Vec<(u64, u64)> = writes.iter().filter_map(|write| Some((write.acked?, write.seq))).collect();
    acks.sort_unstable();
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for read in &reads {
        if let Some(seq) = read.seq.filter(|seq| by_seq.get(seq).is_some_and(|write| write.acked.is_some())) {
            seen.push((read.returned, seq));
        }
    }
    seen.sort_unstable();
    reads.sort_unstable_by_key(|read| read.invoked);
    let (mut ack_at, mut seen_at, mut acked, mut read_before) = (0, 0, None, None);
    let mut complaints = Vec::new();
    for read in reads {
        while ack_at < acks.len() && acks[ack_at].0 < read.invoked {
            acked = acked.max(Some(acks[ack_at].1));
            ack_at += 1;
        }
        while seen_at < seen.len() && seen[seen_at].0 < read.invoked {
            read_before = read_before.max(Some(seen[seen_at].1));
            seen_at += 1;
        }
        let place = || format!("key {} through {} at {:.3} s", read.key, read.node, read.invoked as f64 / 1e9);
        match read.seq.map(|seq| (seq, by_seq.get(&seq))) {
            None if acked.is_some() => complaints.push(format!("nil: {}, acknowledged {acked:?}", place())),
            None => {}
            Some((seq, None)) => complaints.push(format!("never written: {} is {seq}", place())),
            Some((seq, Some(write))) => {
                if write.invoked > read.returned {
                    complaints.push(format!("from the future: {} is {seq}", place()));
                } else if write.acked.is_some() && Some(seq) < acked {
                    complaints.push(format!("stale: {} is {seq}, acknowledged {acked:?}", place()));
                } else if write.acked.is_some() && Some(seq) < read_before {
                    complaints.push(format!("goes back: {} is {seq}, read before {read_before:?}", place()));
                }
            }
        }
    }
    complaints
}

/// The final value of each counter lies between what was acknowledged and what may have happened.
pub fn counters(counts: &BTreeMap<String, Count>, last: &BTreeMap<String, i64>) -> Vec<String> {
    let check = |(key, count): (&String, &Count)| {
        let value = last.get(key).copied().unwrap_or(0);
        let (low, high) = (count.acked as i64, (count.acked + count.unknown) as i64);
        let outside = value < low || value > high;
        outside.then(|| format!("counter {key} is {value}, must be within {low} and {high}"))
    };
    shortened(counts.iter().filter_map(check).collect())
}

/// Every acknowledged element is there, and none that nobody added.
pub fn collections(added: &Added, last: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut possible: BTreeSet<(&str, &str)> = BTreeSet::new();
    possible.extend(added.acked.iter().chain(&added.unknown).map(|(key, element)| (key.as_str(), element.as_str())));
    let holds = |key: &str, element: &str| last.get(key).is_some_and(|elements| elements.contains(element));
    let lost = added.acked.iter().filter(|(key, element)| !holds(key, element));
    let mut complaints: Vec<String> = lost.map(|(key, element)| format!("lost: {element} of {key}")).collect();
    for (key, elements) in last {
        let strange = elements.iter().filter(|element| !possible.contains(&(key.as_str(), element.as_str())));
        complaints.extend(strange.map(|element| format!("never added: {element} of {key}")));
    }
    shortened(complaints)
}

fn shortened(mut complaints: Vec<String>) -> Vec<String> {
    if complaints.len() > SHOWN {
        let more = complaints.len() - SHOWN;
        complaints.truncate(SHOWN);
        complaints.push(format!("and {more} more"));
    }
    complaints
}

/// Each checker finds what it is there for.
#[cfg(test)]
mod tests {
    use super::*;

    fn write(seq: u64, invoked: u64, acked: Option<u64>) -> Write {
        Write { key: 1, seq, invoked, acked }
    }

    fn read(seq: Option<u64>, invoked: u64, returned: u64) -> Read {
        Read { key: 1, seq, invoked, returned, node: "n".to_owned() }
    }

    fn complaint(writes: &[Write], reads: &[Read]) -> String {
        let complaints = registers(writes, reads);
        assert!(complaints.len() <= 1, "{complaints:?}");
        complaints.first().map(|text| text.split(':').next().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_good_register_passes() {
        let writes = [write(1, 0, Some(10)), write(2, 20, Some(30)), write(3, 40, None), write(4, 60, Some(70))];
        let reads = [
            read(None, 0, 5),
            read(Some(1), 5, 8),
            read(Some(1), 25, 28),
            read(Some(2), 31, 32),
            read(Some(3), 50, 55),
            read(Some(4), 80, 81),
        ];
        assert_eq!(complaint(&writes, &reads), "");
        // An unknown write may come up late.
        assert_eq!(complaint(&writes, &[read(Some(3), 90, 91), read(Some(4), 95, 96)]), "");
    }

    #[test]
    fn a_bad_register_does_not() {
        let writes = [write(1, 0, Some(10)), write(2, 20, Some(30))];
        assert_eq!(complaint(&writes, &[read(None, 11, 12)]), "nil");
        assert_eq!(complaint(&writes, &[read(Some(1), 31, 32)]), "stale");
        assert_eq!(complaint(&writes, &[read(Some(7), 31, 32)]), "never written");
        assert_eq!(complaint(&writes, &[read(Some(2), 11, 12)]), "from the future");
        assert_eq!(complaint(&writes, &[read(Some(2), 21, 22), read(Some(1), 23, 24)]), "goes back");
    }

    #[test]
    fn a_counter_must_add_up() {
        let counts = |acked, unknown| BTreeMap::from([("c".to_owned(), Count { acked, unknown })]);
        let last = |value| BTreeMap::from([("c".to_owned(), value)]);
        assert!(counters(&counts(5, 2), &last(5)).is_empty() && counters(&counts(5, 2), &last(7)).is_empty());
        assert_eq!(counters(&counts(5, 2), &last(4)).len(), 1);
        assert_eq!(counters(&counts(5, 2), &last(8)).len(), 1);
        assert_eq!(counters(&counts(5, 2), &BTreeMap::new()).len(), 1);
    }

    #[test]
    fn an_element_must_not_vanish() {
        let pair = |element: &str| ("s".to_owned(), element.to_owned());
        let added = Added { acked: vec![pair("a"), pair("b")], unknown: vec![pair("u")] };
        let last = |elements: &[&str]| {
            BTreeMap::from([("s".to_owned(), elements.iter().map(|e| (*e).to_owned()).collect::<BTreeSet<_>>())])
        };
        assert!(collections(&added, &last(&["a", "b"])).is_empty());
        assert!(collections(&added, &last(&["a", "b", "u"])).is_empty());
        assert_eq!(collections(&added, &last(&["a"])), ["lost: b of s"]);
        assert_eq!(collections(&added, &last(&["a", "b", "x"])), ["never added: x of s"]);
    }
}
