//! What two nodes say to each other when they compare what they hold: digests of slots, then of buckets, then keys.
//!
//! Travels on the control link. Nothing here decides what differs: that is `cluster::difference`.
//!
//! Invariant: whatever is read is bounded by the message that it came in; nothing is set aside by an announced number.

use crate::base::ids::Slot;
use crate::base::wire::{Reader, WireError, put_u16, put_u64, put_varint};
use crate::peer::entries::Entries;
use crate::store::digest::{BUCKETS, Mark};

const SLOTS: u8 = 1;
const BUCKET_DIGESTS: u8 = 2;
const KEYS: u8 = 3;
const CALM: u8 = 4;

/// What one node asks.
#[derive(Clone, PartialEq, Debug)]
pub enum Question {
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
        /// The keys.
        marks: Vec<Mark>,
    },
    /// "Is there anything that you still owe anybody?"
    Calm,
}

/// What the other answers.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
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
}

impl Question {
    /// Appends the question.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Question::Slots { horizon_ms, digests } => {
                out.push(SLOTS);
                put_u64(out, *horizon_ms);
                for (slot, digest) in digests {
                    put_u16(out, slot.number());
                    put_u64(out, *digest);
                }
            }
            Question::Buckets { horizon_ms, slot, digests } => {
                out.push(BUCKET_DIGESTS);
                put_u64(out, *horizon_ms);
                put_u16(out, slot.number());
                digests.iter().for_each(|digest| put_u64(out, *digest));
            }
            Question::Keys { horizon_ms, slot, buckets, only_known, marks } => {
                out.push(KEYS);
                put_u64(out, *horizon_ms);
                put_u16(out, slot.number());
                put_u64(out, *buckets);
                out.push(u8::from(*only_known));
                for mark in marks {
                    put_u64(out, mark.key);
                    put_u64(out, mark.version);
                    out.push(u8::from(mark.fades) | u8::from(mark.clears) << 1);
                }
            }
            Question::Calm => out.push(CALM),
        }
    }

    /// Reads a question from all that is left.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Question, WireError> {
        let kind = reader.u8()?;
        if kind == CALM {
            return Ok(Question::Calm);
        }
        let horizon_ms = reader.u64()?;
        Ok(match kind {
            SLOTS => {
                let mut digests = Vec::new();
                while !reader.is_empty() {
                    digests.push((read_slot(reader)?, reader.u64()?));
                }
                Question::Slots { horizon_ms, digests }
            }
            BUCKET_DIGESTS => {
                let slot = read_slot(reader)?;
                let mut digests = Box::new([0; BUCKETS]);
                for digest in digests.iter_mut() {
                    *digest = reader.u64()?;
                }
                Question::Buckets { horizon_ms, slot, digests }
            }
            KEYS => {
                let (slot, buckets, only_known) = (read_slot(reader)?, reader.u64()?, reader.u8()? != 0);
                let mut marks = Vec::new();
                while !reader.is_empty() {
                    let (key, version, flags) = (reader.u64()?, reader.u64()?, reader.u8()?);
                    marks.push(Mark { key, version, fades: flags & 1 != 0, clears: flags & 2 != 0 });
                }
                Question::Keys { horizon_ms, slot, buckets, only_known, marks }
            }
            _ => return Err(WireError),
        })
    }
}

impl Answer {
    /// Appends the answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Answer::Slots(slots) => {
                out.push(SLOTS);
                slots.iter().for_each(|slot| put_u16(out, slot.number()));
            }
            Answer::Buckets(buckets) => {
                out.push(BUCKET_DIGESTS);
                put_u64(out, *buckets);
            }
            Answer::Keys { entries, wanted, is_buried } => {
                out.push(KEYS);
                out.push(u8::from(*is_buried));
                put_varint(out, wanted.len() as u64);
                wanted.iter().for_each(|key| put_u64(out, *key));
                entries.encode(out);
            }
            Answer::Calm(calm) => out.extend_from_slice(&[CALM, u8::from(*calm)]),
        }
    }

    /// Reads an answer from all that is left.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Answer, WireError> {
        Ok(match reader.u8()? {
            SLOTS => {
                let mut slots = Vec::new();
                while !reader.is_empty() {
                    slots.push(read_slot(reader)?);
                }
                Answer::Slots(slots)
            }
            BUCKET_DIGESTS => Answer::Buckets(reader.u64()?),
            KEYS => {
                let is_buried = reader.u8()? != 0;
                let mut wanted = Vec::new();
                for _ in 0..reader.varint()? {
                    wanted.push(reader.u64()?);
                }
                Answer::Keys { entries: Entries::decode(reader)?, wanted, is_buried }
            }
            CALM => Answer::Calm(reader.u8()? != 0),
            _ => return Err(WireError),
        })
    }
}

fn read_slot(reader: &mut Reader<'_>) -> Result<Slot, WireError> {
    Slot::new(reader.u16()?).ok_or(WireError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(question: &Question) -> Result<Question, WireError> {
        let mut bytes = Vec::new();
        question.encode(&mut bytes);
        Question::decode(&mut Reader::new(&bytes))
    }

    fn answered(answer: &Answer) -> Result<Answer, WireError> {
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        Answer::decode(&mut Reader::new(&bytes))
    }

    proptest! {
        #[test]
        fn what_is_said_is_understood(horizon_ms: u64, number in 0u16..16_384, keys: Vec<(u64, u64, bool, bool)>, flag: bool) {
            let slot = Slot::new(number).expect("a slot");
            let mark = |(key, version, fades, clears)| Mark { key, version, fades, clears };
            let marks = keys.iter().copied().map(mark);
            let wanted: Vec<u64> = keys.iter().map(|(key, ..)| *key).collect();
            let questions = [
                Question::Slots { horizon_ms, digests: keys.iter().map(|(key, ..)| (slot, *key)).collect() },
                Question::Buckets { horizon_ms, slot, digests: Box::new([horizon_ms; BUCKETS]) },
                Question::Keys { horizon_ms, slot, buckets: 5, only_known: flag, marks: marks.collect() },
                Question::Calm,
            ];
            for question in questions {
                prop_assert_eq!(asked(&question), Ok(question));
            }
            let entries = Entries::default();
            for answer in [
                Answer::Slots(vec![slot; keys.len()]),
                Answer::Buckets(horizon_ms),
                Answer::Keys { entries, wanted, is_buried: flag },
                Answer::Calm(flag),
            ] {
                prop_assert_eq!(answered(&answer), Ok(answer));
            }
        }

        #[test]
        fn nonsense_is_an_error_or_harmless(bytes: Vec<u8>) {
            let _ = Question::decode(&mut Reader::new(&bytes));
            let _ = Answer::decode(&mut Reader::new(&bytes));
        }
    }
}
