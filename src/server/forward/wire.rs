//! Questions and answers between nodes, as they travel.
//!
//! A question is a frame: `[length u32][flags u8][db u8][consistency 3 bytes][sent u64][stamp u64] [requests in RESP]`:
//! all requests of a client's batch for that peer; with [`QuestionKind::EachIfNotSeen`], what was seen of their keys
//! stands before them (`own_copy`). An answer is a frame too: `[length u32][number u64]` and for each request `[length
//! u32][reply in RESP]`, the length [`NOT_RUN`] for one that was not run, and [`AS_SEEN`] for one whose asker has seen
//! what there is to see. Answers come in any order: `number` is that of the question, counted by both ends from 0 at
//! the start of the connection, so that no question has to say it. `sent` is the asker's monotonic clock: the other
//! side refuses what lay about for longer than [`STALE_MS_MAX`], so that it cannot run what its asker has given up on
//! meanwhile. `stamp` is the asker's hybrid logical clock: what the other side writes for the question is later.

use std::ops::Range;

use crate::base::framing;
use crate::base::wire::{Reader, WireError};
use crate::protocol::Proto;
use crate::server::session::settings::Consistency;

/// How old a question may be when it is run, in milliseconds.
pub const STALE_MS_MAX: u64 = 110;
/// Longest question, in bytes.
pub const QUESTION_BYTES_MAX: usize = 1 << 30;

/// What is to be done with a question's requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QuestionKind {
    /// Run each.
    #[default]
    Each,
    /// The same; what the asker has seen of their keys stands before them.
    EachIfNotSeen,
    /// They are one transaction: run them together, one reply behind the other, if the watched keys, which stand before
    /// them, are unchanged. The answer begins with 1, or is 0 when one has changed.
    IfUnchanged,
    /// Say what this node holds of the request's keys, if it coordinates them (see `copies`).
    Copies,
    /// The same, whoever coordinates them.
    OwnCopies,
    /// Run it for what this node holds or coordinates, whatever the ring says: a part of a larger question.
    Share,
    /// The same in the second round of flushing: for all that this node still holds.
    ShareRest,
}

impl QuestionKind {
    /// Every one with its bits in a question's first byte. Together with [`RESP3`] and [`FENCED`] they use all eight.
    const BITS: [(QuestionKind, u8); 7] = [
        (QuestionKind::Each, 0),
        (QuestionKind::EachIfNotSeen, 128),
        (QuestionKind::IfUnchanged, 32 | 4),
        (QuestionKind::Copies, 16),
        (QuestionKind::OwnCopies, 16 | 2),
        (QuestionKind::Share, 2),
        (QuestionKind::ShareRest, 8 | 2),
    ];

    /// Whether this node is asked for what it holds itself, whoever coordinates that.
    pub fn is_share(self) -> bool {
        matches!(self, QuestionKind::OwnCopies | QuestionKind::Share | QuestionKind::ShareRest)
    }
}

/// The reply is RESP3.
const RESP3: u8 = 1;
/// It may have run before: it is to run only if its keys have not been written since its stamp.
const FENCED: u8 = 64;

/// How a question is to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// What is to be done.
    pub kind: QuestionKind,
    /// The protocol of the reply.
    pub proto: Proto,
    /// The database.
    pub db: u8,
    /// What its connection asked for.
    pub wish: Consistency,
}

impl Manner {
    /// Appends it. `is_fenced`: it may have run before, and is to run only if its keys have not been written since its
    /// stamp.
    pub fn put(&self, is_fenced: bool, out: &mut Vec<u8>) {
        let kind = QuestionKind::BITS.iter().find(|(kind, _)| *kind == self.kind).map_or(0, |(_, bits)| *bits);
        let proto = if self.proto == Proto::Resp3 { RESP3 } else { 0 };
        out.extend_from_slice(&[kind | proto | if is_fenced { FENCED } else { 0 }, self.db]);
        self.wish.put(out);
    }

    /// Reads what [`Manner::put`] has written, and whether it is fenced.
    pub fn read(reader: &mut Reader<'_>) -> Result<(Manner, bool), WireError> {
        let (flags, db, wish) = (reader.u8()?, reader.u8()?, Consistency::read(reader)?);
        let bits = flags & !(RESP3 | FENCED);
        let (kind, _) = QuestionKind::BITS.into_iter().find(|(_, known)| *known == bits).ok_or(WireError)?;
        let proto = if flags & RESP3 != 0 { Proto::Resp3 } else { Proto::Resp2 };
        Ok((Manner { kind, proto, db, wish }, flags & FENCED != 0))
    }
}

/// In the place of a reply's length: not run, because this node does not coordinate the key, or the question came too
/// late.
pub const NOT_RUN: u32 = u32::MAX;

/// In the place of a reply's length: the reply is what follows from what the asker has seen of the key.
pub const AS_SEEN: u32 = u32::MAX - 1;

/// The longest reply: lengths beyond it mean something else.
pub const REPLY_LENGTH_MAX: usize = AS_SEEN as usize - 1;

/// What came of one request of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answered {
    /// It ran; where its reply is.
    Reply(Range<usize>),
    /// [`AS_SEEN`].
    AsSeen,
    /// [`NOT_RUN`].
    NotRun,
}

/// The number of the question that an answer is to, and what [`read_answer`] reads; `None` for what is no answer.
pub fn number_of(answer: &[u8]) -> Option<(u64, &[u8])> {
    let (number, replies) = answer.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), replies))
}

/// What an answer says of each request; replies are stretches of it. Ends early when the answer is malformed.
pub fn read_answer(answer: &[u8]) -> impl Iterator<Item = Answered> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = answer.get(at..)?;
        let said = match Reader::new(rest).u32().ok()? {
            NOT_RUN => Answered::NotRun,
            AS_SEEN => Answered::AsSeen,
            _ => {
                let (reply, _) = framing::split(rest)?;
                let from = at + framing::LENGTH_BYTES;
                at += reply.len();
                Answered::Reply(from..from + reply.len())
            }
        };
        at += framing::LENGTH_BYTES;
        Some(said)
    })
}

/// What an answer of one reply says, behind its number.
pub fn answer_of(reply: &[u8]) -> Vec<u8> {
    let mut answer = Vec::with_capacity(framing::LENGTH_BYTES + reply.len());
    let at = framing::begin(&mut answer);
    answer.extend_from_slice(reply);
    match framing::end(&mut answer, at, REPLY_LENGTH_MAX) {
        true => answer,
        false => NOT_RUN.to_le_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manner_reads_back_and_what_nobody_means_is_refused() {
        let mut known = 0;
        for flags in 0..=u8::MAX {
            let mut bytes = vec![flags, 3];
            Consistency::default().put(&mut bytes);
            let Ok((manner, is_fenced)) = Manner::read(&mut Reader::new(&bytes)) else { continue };
            let mut again = Vec::new();
            manner.put(is_fenced, &mut again);
            assert_eq!(again, bytes);
            known += 1;
        }
        assert_eq!(known, 4 * QuestionKind::BITS.len(), "each in two protocols, fenced or not");
    }
}
