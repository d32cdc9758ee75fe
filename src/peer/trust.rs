//! Who takes this node for fit to coordinate.
//!
//! A node that comes back, from a restart or a long pause, holds itself for fit as soon as it is warm; the others route past it until
//! they reach it again and have handed over what it missed. If it coordinated meanwhile, two nodes would run commands on the same
//! slots, and an acknowledged write could lose to one with a later stamp that was made before it. So each node says on all of its
//! lanes whether it takes the other for fit ([`Word`]), behind the deltas that it sent while it did not, and a node
//! coordinates only once all that it reaches have said so (`node::picture`).
//!
//! What was said holds for as long as the connection does. One may end long after the next was made, so they are numbered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::base::ids::NodeId;
use crate::base::wire::{Reader, WireError};

/// What is said on a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// The sender takes the receiver for fit.
    pub is_fit: bool,
    /// How many lanes this is said on.
    pub lanes: u8,
}

impl Word {
    /// Appends the word.
    pub fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[u8::from(self.is_fit), self.lanes]);
    }

    /// Reads a word.
    pub fn read(body: &[u8]) -> Result<Word, WireError> {
        let mut reader = Reader::new(body);
        Ok(Word { is_fit: reader.u8()? != 0, lanes: reader.u8()? })
    }
}

/// A connection on which a node says what it takes this one for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Speaker {
    /// Who says it.
    pub node: NodeId,
    /// On which of its lanes.
    pub lane: u8,
    /// Later connections have higher numbers.
    connection: u64,
}

/// The last words of a node by lane, each with its connection's number.
type Words = BTreeMap<u8, (u64, Word)>;

/// What the other nodes have said, by node and lane, and on which connection.
#[derive(Debug, Default)]
pub struct Trust {
    said: Mutex<BTreeMap<NodeId, Words>>,
    connections: AtomicU64,
}

impl Trust {
    /// A connection was made on which this lane of that node speaks.
    pub fn meet(&self, node: NodeId, lane: u8) -> Speaker {
        Speaker { node, lane, connection: self.connections.fetch_add(1, Ordering::Relaxed) }
    }

    /// Notes what is said, unless a later connection has said something.
    pub fn hear(&self, speaker: Speaker, word: Word) {
        let mut said = self.said.lock();
        let words = said.entry(speaker.node).or_default();
        if words.get(&speaker.lane).is_none_or(|(connection, _)| *connection <= speaker.connection) {
            words.insert(speaker.lane, (speaker.connection, word));
        }
    }

    /// The connection has ended.
    pub fn forget(&self, speaker: Speaker) {
        let mut said = self.said.lock();
        if let Some(words) = said.get_mut(&speaker.node) {
            words.retain(|lane, (connection, _)| (*lane, *connection) != (speaker.lane, speaker.connection));
            if words.is_empty() {
                said.remove(&speaker.node);
            }
        }
    }

    /// True when that node has said so on every lane.
    pub fn is_given_by(&self, node: &NodeId) -> bool {
        let said = self.said.lock();
        let Some(words) = said.get(node) else { return false };
        let lanes = words.values().map(|(_, word)| usize::from(word.lanes)).max().unwrap_or_default();
        words.len() >= lanes && words.values().all(|(_, word)| word.is_fit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_what_every_lane_has_said_last() {
        let (trust, node) = (Trust::default(), NodeId::random());
        let word = |is_fit| Word { is_fit, lanes: 2 };
        let [first, second] = [0, 1].map(|lane| trust.meet(node, lane));
        assert!(!trust.is_given_by(&node));
        trust.hear(first, word(true));
        assert!(!trust.is_given_by(&node), "deltas may still be on the other lane");
        trust.hear(second, word(true));
        assert!(trust.is_given_by(&node) && !trust.is_given_by(&NodeId::random()));
        trust.hear(second, word(false));
        assert!(!trust.is_given_by(&node));
        trust.hear(second, word(true));
        trust.forget(first);
        assert!(!trust.is_given_by(&node), "the connection has ended");
    }

    #[test]
    fn a_connection_that_ends_late_takes_nothing_back_from_a_later_one() {
        let (trust, node) = (Trust::default(), NodeId::random());
        let word = |is_fit| Word { is_fit, lanes: 1 };
        let [earlier, later] = [(), ()].map(|()| trust.meet(node, 0));
        trust.hear(later, word(true));
        trust.hear(earlier, word(false));
        trust.forget(earlier);
        assert!(trust.is_given_by(&node));
        trust.forget(later);
        assert!(!trust.is_given_by(&node));
    }

    #[test]
    fn words_read_back() {
        let (mut out, word) = (Vec::new(), Word { is_fit: true, lanes: 3 });
        word.put(&mut out);
        assert_eq!(Word::read(&out), Ok(word));
        assert_eq!(Word::read(&[1]), Err(WireError));
    }
}
