//! What clients may have seen of locks and numbers, if strict mode keeps its word. Pure.

use std::collections::BTreeMap;

/// When something was asked for and answered, in microseconds since the test began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span {
    pub invoked: u64,
    pub returned: u64,
}

/// All that clients were told.
#[derive(Default)]
pub struct History {
    /// Key -> who was told that its SET NX made it, and when.
    pub wins: BTreeMap<String, Vec<(String, Span)>>,
    /// Key -> numbers that INCR gave.
    pub numbers: BTreeMap<String, Vec<(i64, Span)>>,
    /// Lock -> who held it, from the reply that gave it to the request that gave it back.
    pub held: BTreeMap<String, Vec<(String, Span)>>,
    /// What clients saw that contradicts what they were told themselves.
    pub surprises: Vec<String>,
    /// Errors and replies that never came.
    pub unknown: usize,
}

impl History {
    pub fn add(&mut self, other: History) {
        for (key, wins) in other.wins {
            self.wins.entry(key).or_default().extend(wins);
        }
        for (key, numbers) in other.numbers {
            self.numbers.entry(key).or_default().extend(numbers);
        }
        for (key, held) in other.held {
            self.held.entry(key).or_default().extend(held);
        }
        self.surprises.extend(other.surprises);
        self.unknown += other.unknown;
    }

    pub fn summary(&self) -> String {
        let count = |map: &BTreeMap<String, Vec<(String, Span)>>| map.values().map(Vec::len).sum::<usize>();
        let numbers: usize = self.numbers.values().map(Vec::len).sum();
        format!(
            "{} keys won, {numbers} numbers, {} holds, {} unknown",
            count(&self.wins),
            count(&self.held),
            self.unknown
        )
    }

    /// Everything that must not be.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.surprises.clone();
        for (key, wins) in self.wins.iter().filter(|(_, wins)| wins.len() > 1) {
            complaints.push(format!("{key} was won by {wins:?}"));
        }
        for (key, numbers) in &self.numbers {
            complaints.extend(repeated(key, numbers));
        }
        for (lock, held) in &self.held {
            complaints.extend(overlapping(lock, held));
        }
        complaints
    }
}

/// Numbers given twice, or not larger than one that was given before they were asked for.
fn repeated(key: &str, numbers: &[(i64, Span)]) -> Vec<String> {
    let mut by_return: Vec<&(i64, Span)> = numbers.iter().collect();
    by_return.sort_by_key(|(_, span)| span.returned);
    let mut complaints = Vec::new();
    let mut seen: BTreeMap<i64, Span> = BTreeMap::new();
    for (number, span) in &by_return {
        if let Some(other) = seen.insert(*number, *span) {
            complaints.push(format!("{key} gave {number} twice: {other:?} and {span:?}"));
        }
    }
    let mut by_invoke = by_return.clone();
    by_invoke.sort_by_key(|(_, span)| span.invoked);
    let (mut ended, mut highest) = (by_return.iter().peekable(), i64::MIN);
    for (number, span) in by_invoke {
        while let Some((before, _)) = ended.next_if(|(_, before)| before.returned < span.invoked) {
            highest = highest.max(*before);
        }
        if *number < highest {
            complaints.push(format!("{key} gave {number} at {span:?}, after {highest}"));
        }
    }
    complaints
}

fn overlapping(lock: &str, held: &[(String, Span)]) -> Vec<String> {
    let mut held: Vec<&(String, Span)> = held.iter().collect();
    held.sort_by_key(|(_, span)| span.invoked);
    let pairs = held.windows(2).filter(|pair| pair[0].1.returned > pair[1].1.invoked);
    pairs.map(|pair| format!("{lock} was held by {:?} and {:?}", pair[0], pair[1])).collect()
}

#[test]
fn what_must_not_be_is_found() {
    let span = |invoked, returned| Span { invoked, returned };
    let who = |name: &str, invoked, returned| (name.to_owned(), span(invoked, returned));
    let mut history = History::default();
    history.wins.insert("w1".to_owned(), vec![who("a", 0, 5)]);
    history.numbers.insert("n1".to_owned(), vec![(1, span(0, 9)), (3, span(1, 4)), (2, span(2, 3))]);
    history.held.insert("l1".to_owned(), vec![who("b", 6, 7), who("a", 0, 5)]);
    assert_eq!(history.complaints(), [""; 0]);
    history.wins.insert("w2".to_owned(), vec![who("a", 0, 5), who("b", 9, 12)]);
    history.numbers.insert("n2".to_owned(), vec![(4, span(0, 3)), (4, span(7, 9))]);
    history.numbers.insert("n3".to_owned(), vec![(4, span(0, 3)), (2, span(4, 5))]);
    history.held.insert("l2".to_owned(), vec![who("a", 0, 7), who("b", 6, 9)]);
    assert_eq!(history.complaints().len(), 4);
}
