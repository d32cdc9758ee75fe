//! What two nodes say to each other when they compare what they hold: digests of slots, then of buckets, then keys.
//!
//! Travels on the control link. Nothing here decides what differs: that is `cluster::difference`.
//!
//! Invariant: whatever is read is bounded by the message that it came in; nothing is set aside by an announced number.

use crate::base::clock::Hlc;
use crate::base::ids::{NodeId, Slot};
use crate::base::wire::{Reader, WireError, put_u16, put_u64, put_varint};
use crate::peer::entries::Entries;
use crate::store::digest::{BUCKETS, Mark};

const SLOTS: u8 = 1;
const BUCKET_DIGESTS: u8 = 2;
const KEYS: u8 = 3;
const CALM: u8 = 4;
const ABSENCES: u8 = 5;

/// Flags of [`Compare::Keys`].
const ONLY_KNOWN: u8 = 1;
const MUST_TAKE: u8 = 2;

/// What one node asks.
#[derive(Clone, PartialEq, Debug)]
pub enum Compare {
    /// "These are my digests of these slots, by this horizon. Which of yours are others?"
    Slots {
        /// Keys that expire at or before this do not count, in milliseconds since 1970.
        horizon_ms: u64,
        /// Slots with their digests.
        digests: Vec<(Slot, u64)>,
    },
    /// "And which buckets of this slot?"
    Buckets {
        /// As above.
        horizon_ms: u64,
        /// The slot.
        slot: Slot,
        /// The digest of each bucket.
        digests: Box<[u64; BUCKETS]>,
    },
    /// "These are my keys in these buckets. What do you hold of them that I do not, and what do you lack?"
    Keys {
        /// As above.
        horizon_ms: u64,
        /// The slot.
        slot: Slot,
        /// The buckets, a bit each.
        buckets: u64,
        /// Send nothing that is not named here: the asker has no room, or no business with it.
        only_known: bool,
        /// Want what you lack, however little room you have: it is about to be dropped here.
        must_take: bool,
        /// The keys.
        marks: Vec<Mark>,
    },
    /// "Is there anything that you still owe anybody?"
    Calm,
    /// "Without whom have you forgotten deletions, or may soon?"
    Absences,
}

/// What the other answers to a [`Compare`].
#[derive(Clone, PartialEq, Debug)]
pub enum CompareAnswer {
    /// The slots whose digests differ.
    Slots(Vec<Slot>),
    /// The buckets that differ, a bit each.
    Buckets(u64),
    /// What came of comparing keys.
    Keys {
        /// Whole states that the asker lacks or has otherwise; as many as one message takes.
        entries: Entries,
        /// Fingerprints of keys that the asker is to send.
        wanted: Vec<u64>,
        /// Nothing that the asker has as deleted lives here.
        is_buried: bool,
    },
    /// It owes nobody anything.
    Calm(bool),
    /// To `Absences`.
    Absences {
        /// It holds all that it should.
        is_warm: bool,
        /// How long ago it last saw a majority of the members, in milliseconds.
        away_ms: u64,
        /// A stamp of its own from then: what it held before is stamped earlier.
        away_since: Hlc,
        /// The members that it has left out, each with the generation that it then was in.
        left_out: Vec<(NodeId, u64)>,
    },
}

impl Compare {
    /// True when the answer tells or gives keys, or leads to it.
    pub fn is_about_keys(&self) -> bool {
        !matches!(self, Compare::Calm | Compare::Absences)
    }

    /// Appends the question.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Compare::Slots { horizon_ms, digests } => {
                out.push(SLOTS);
                put_u64(out, *horizon_ms);
                for (slot, digest) in digests {
                    put_u16(out, slot.number());
                    put_u64(out, *digest);
                }
            }
            Compare::Buckets { horizon_ms, slot, digests } => {
                out.push(BUCKET_DIGESTS);
                put_u64(out, *horizon_ms);
                put_u16(out, slot.number());
                digests.iter().for_each(|digest| put_u64(out, *digest));
            }
            Compare::Keys { horizon_ms, slot, buckets, only_known, must_take, marks } => {
                out.push(KEYS);
                put_u64(out, *horizon_ms);
                put_u16(out, slot.number());
                put_u64(out, *buckets);
                out.push((u8::from(*only_known) * ONLY_KNOWN) | (u8::from(*must_take) * MUST_TAKE));
                for mark in marks {
                    put_u64(out, mark.key);
                    put_u64(out, mark.version);
                    out.push(u8::from(mark.fades) | u8::from(mark.clears) << 1);
                }
            }
            Compare::Calm => out.push(CALM),
            Compare::Absences => out.push(ABSENCES),
        }
    }

    /// Reads a question from all that is left.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Compare, WireError> {
        let kind = reader.u8()?;
        match kind {
            CALM => return Ok(Compare::Calm),
            ABSENCES => return Ok(Compare::Absences),
            _ => {}
        }
        let horizon_ms = reader.u64()?;
        Ok(match kind {
            SLOTS => {
                let mut digests = Vec::new();
                while !reader.is_empty() {
                    digests.push((reader.slot()?, reader.u64()?));
                }
                Compare::Slots { horizon_ms, digests }
            }
            BUCKET_DIGESTS => {
                let slot = reader.slot()?;
                let mut digests = Box::new([0; BUCKETS]);
                for digest in digests.iter_mut() {
                    *digest = reader.u64()?;
                }
                Compare::Buckets { horizon_ms, slot, digests }
            }
            KEYS => {
                let (slot, buckets, flags) = (reader.slot()?, reader.u64()?, reader.u8()?);
                let (only_known, must_take) = (flags & ONLY_KNOWN != 0, flags & MUST_TAKE != 0);
                let mut marks = Vec::new();
                while !reader.is_empty() {
                    let (key, version, flags) = (reader.u64()?, reader.u64()?, reader.u8()?);
                    marks.push(Mark { key, version, fades: flags & 1 != 0, clears: flags & 2 != 0 });
                }
                Compare::Keys { horizon_ms, slot, buckets, only_known, must_take, marks }
            }
            _ => return Err(WireError),
        })
    }
}

impl CompareAnswer {
    /// Appends the answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            CompareAnswer::Slots(slots) => {
                out.push(SLOTS);
                slots.iter().for_each(|slot| put_u16(out, slot.number()));
            }
            CompareAnswer::Buckets(buckets) => {
                out.push(BUCKET_DIGESTS);
                put_u64(out, *buckets);
            }
            CompareAnswer::Keys { entries, wanted, is_buried } => {
                out.push(KEYS);
                out.push(u8::from(*is_buried));
                put_varint(out, wanted.len() as u64);
                wanted.iter().for_each(|key| put_u64(out, *key));
                entries.encode(out);
            }
            CompareAnswer::Calm(calm) => out.extend_from_slice(&[CALM, u8::from(*calm)]),
            CompareAnswer::Absences { is_warm, away_ms, away_since, left_out } => {
                out.extend_from_slice(&[ABSENCES, u8::from(*is_warm)]);
                put_u64(out, *away_ms);
                put_u64(out, away_since.0);
                for (node, generation) in left_out {
                    out.extend_from_slice(node.as_bytes());
                    put_u64(out, *generation);
                }
            }
        }
    }

    /// Reads an answer from all that is left.
    pub fn decode(reader: &mut Reader<'_>) -> Result<CompareAnswer, WireError> {
        Ok(match reader.u8()? {
            SLOTS => {
                let mut slots = Vec::new();
                while !reader.is_empty() {
                    slots.push(reader.slot()?);
                }
                CompareAnswer::Slots(slots)
            }
            BUCKET_DIGESTS => CompareAnswer::Buckets(reader.u64()?),
            KEYS => {
                let is_buried = reader.u8()? != 0;
                let mut wanted = Vec::new();
                for _ in 0..reader.varint()? {
                    wanted.push(reader.u64()?);
                }
                CompareAnswer::Keys { entries: Entries::decode(reader)?, wanted, is_buried }
            }
            CALM => CompareAnswer::Calm(reader.u8()? != 0),
            ABSENCES => {
                let (is_warm, away_ms, away_since) = (reader.u8()? != 0, reader.u64()?, Hlc(reader.u64()?));
                let mut left_out = Vec::new();
                while !reader.is_empty() {
                    left_out.push((NodeId::from_bytes(reader.array()?), reader.u64()?));
                }
                CompareAnswer::Absences { is_warm, away_ms, away_since, left_out }
            }
            _ => return Err(WireError),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(question: &Compare) -> Result<Compare, WireError> {
        let mut bytes = Vec::new();
        question.encode(&mut bytes);
        Compare::decode(&mut Reader::new(&bytes))
    }

    fn answered(answer: &CompareAnswer) -> Result<CompareAnswer, WireError> {
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        CompareAnswer::decode(&mut Reader::new(&bytes))
    }

    proptest! {
        #[test]
        fn what_is_said_is_understood(horizon_ms: u64, number in 0u16..16_384, keys: Vec<(u64, u64, bool, bool)>, flag: bool) {
            let slot = Slot::new(number).expect("a slot");
            let mark = |(key, version, fades, clears)| Mark { key, version, fades, clears };
            let marks = keys.iter().copied().map(mark);
            let wanted: Vec<u64> = keys.iter().map(|(key, ..)| *key).collect();
            let questions = [
                Compare::Slots { horizon_ms, digests: keys.iter().map(|(key, ..)| (slot, *key)).collect() },
                Compare::Buckets { horizon_ms, slot, digests: Box::new([horizon_ms; BUCKETS]) },
                Compare::Keys { horizon_ms, slot, buckets: 5, only_known: flag, must_take: !flag, marks: marks.collect() },
                Compare::Calm,
                Compare::Absences,
            ];
            for question in questions {
                prop_assert_eq!(asked(&question), Ok(question));
            }
            let entries = Entries::default();
            for answer in [
                CompareAnswer::Slots(vec![slot; keys.len()]),
                CompareAnswer::Buckets(horizon_ms),
                CompareAnswer::Keys { entries, wanted, is_buried: flag },
                CompareAnswer::Calm(flag),
                CompareAnswer::Absences { is_warm: flag, away_ms: horizon_ms, away_since: Hlc(!horizon_ms), left_out: vec![(NodeId::from_bytes([7; 20]), horizon_ms); keys.len()] },
            ] {
                prop_assert_eq!(answered(&answer), Ok(answer));
            }
        }

        #[test]
        fn nonsense_is_an_error_or_harmless(bytes: Vec<u8>) {
            let _ = Compare::decode(&mut Reader::new(&bytes));
            let _ = CompareAnswer::decode(&mut Reader::new(&bytes));
        }
    }
}
