//! Frames: a length, a kind, a body. The words that nodes speak on replica links.
//!
//! `[length u32, of what follows][kind u8][body]`. A replica link's requests are numbered by their place in the stream,
//! from 1; the answers name that number. [`next_frame`] cuts a buffer into whole frames (`base::framing`).

use crate::base::clock::Hlc;
use crate::base::framing;
use crate::base::ids::Slot;
use crate::base::version::{Actor, ActorTable, Version};
use crate::base::wire::{Reader, WireError, put_bytes, put_u16, put_u64};
use crate::peer::refusal::Refusal;
use crate::store::mutation::{put_context, put_dot, read_context, read_dot};

/// The longest frame, in bytes of what follows its length: as long as lengths can say. A request is shorter by far; a
/// hash or set that is longer as a whole cannot be sent ([`put_frame`] says so).
pub const FRAME_BYTES_MAX: usize = u32::MAX as usize;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A mutation to apply (`store::mutation::Delta`).
    Delta = 1,
    /// "Do you hold this version of this key?"
    Verify = 2,
    /// A key's whole state to merge.
    State = 3,
    /// Nothing: a sign of life is wanted.
    Heartbeat = 4,
    /// "Promise me these slots" (`ballot::PromiseRequest`).
    Promise = 5,
    /// "Does this slot hold the same at yours?" (`ballot::DigestRequest`).
    Digest = 6,
    /// A delta to apply only if the slot is promised to the sender.
    StrictDelta = 7,
    /// A verify that counts only if the slot is promised to the sender.
    StrictVerify = 8,
    /// Whether the sender takes the receiver for fit to coordinate (`trust::Word`).
    Trust = 9,
    /// Answer: all requests up to this number are done ([`struct@Ack`]).
    Ack = 16,
    /// Answer: this request could not be acknowledged as it stands; what this replica holds of the key.
    Mismatch = 17,
    /// Answer: this request was refused.
    Refused = 18,
    /// Answer: what was promised (`ballot::PromiseAnswer`).
    Promised = 19,
    /// Answer: this request was not done (`ballot::Declined`); to a [`Kind::Digest`], the slots differ.
    Declined = 20,
}

impl Kind {
    pub(super) fn parse(byte: u8) -> Option<Kind> {
        use Kind::{Ack, Declined, Delta, Digest, Heartbeat, Mismatch, Promise, Promised, Refused, State};
        use Kind::{StrictDelta, StrictVerify, Trust, Verify};
        let requests = [Delta, Verify, State, Heartbeat, Promise, Digest, StrictDelta, StrictVerify, Trust];
        let answers = [Ack, Mismatch, Refused, Promised, Declined];
        requests.into_iter().chain(answers).find(|kind| *kind as u8 == byte)
    }
}

/// One whole frame in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it says.
    pub body: &'a [u8],
}

/// The first frame in `buf` and the bytes it takes; `None` when it has not arrived whole.
#[inline]
pub fn next_frame(buf: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let Some((frame, len)) = framing::next(buf, FRAME_BYTES_MAX)? else { return Ok(None) };
    let (kind, body) = frame.split_first().ok_or(WireError)?;
    let kind = Kind::parse(*kind).ok_or(WireError)?;
    Ok(Some((Frame { kind, body }, len)))
}

/// Appends a frame whose body `write` appends. False, and nothing is appended, when it would be longer than a frame may
/// be.
#[inline]
pub fn put_frame(out: &mut Vec<u8>, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> bool {
    let at = framing::begin(out);
    out.push(kind as u8);
    write(out);
    let fits = framing::end(out, at, FRAME_BYTES_MAX);
    if !fits {
        out.truncate(at);
        out.shrink_to_fit();
    }
    fits
}

/// A key's name and what the sender knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRef<'a> {
    /// The key's slot.
    pub slot: Slot,
    /// Its database.
    pub db: u8,
    /// The key.
    pub key: &'a [u8],
}

impl KeyRef<'_> {
    /// Appends the name.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>) {
        put_u16(out, self.slot.number());
        out.push(self.db);
        put_bytes(out, self.key);
    }

    /// Reads a name.
    #[inline]
    pub fn read<'a>(reader: &mut Reader<'a>) -> Result<KeyRef<'a>, WireError> {
        let slot = Slot::new(reader.u16()?).ok_or(WireError)?;
        Ok(KeyRef { slot, db: reader.u8()?, key: reader.bytes()? })
    }
}

/// What a node has seen of a key, for another to compare with what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The version; `None` when there was nothing of the key.
    pub version: Option<Version>,
    /// There was no live value: nothing, a tombstone, or something expired. A node that holds nothing agrees with that.
    pub dead: bool,
}

impl Seen {
    /// Appends it.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>, actors: &ActorTable) {
        let has_context = self.version.as_ref().is_some_and(|version| !version.context.is_empty());
        out.push(u8::from(self.version.is_some()) | u8::from(self.dead) << 1 | u8::from(has_context) << 2);
        if let Some(version) = &self.version {
            put_dot(out, version.dot, actors);
            if has_context {
                put_context(out, &version.context, actors);
            }
        }
    }

    /// Reads what `sender` wrote.
    #[inline]
    pub fn read(reader: &mut Reader<'_>, sender: Actor, actors: &ActorTable) -> Result<Seen, WireError> {
        let flags = reader.u8()?;
        let mut version = None;
        if flags & 1 != 0 {
            let mut theirs = Version::first(read_dot(reader, sender, actors)?);
            if flags & 4 != 0 {
                theirs.context = read_context(reader, sender, actors)?;
            }
            version = Some(theirs);
        }
        Ok(Seen { version, dead: flags & 2 != 0 })
    }
}

/// A verify: what the coordinator is about to answer with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verify<'a> {
    /// The key.
    pub name: KeyRef<'a>,
    /// What the coordinator holds of it.
    pub seen: Seen,
    /// It was read some time ago: what the coordinator has written since does not contradict it.
    pub is_repeated: bool,
    /// The read may be older than a write of its own client: another tombstone than the one that was seen, or any where
    /// none was, may be that write, and contradicts it.
    pub is_exact: bool,
}

impl Verify<'_> {
    /// Appends the verify's body.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>, actors: &ActorTable) {
        self.name.put(out);
        self.seen.put(out, actors);
        out.push(u8::from(self.is_repeated) | u8::from(self.is_exact) << 1);
    }

    /// Reads a verify that `sender` wrote.
    #[inline]
    pub fn read<'a>(body: &'a [u8], sender: Actor, actors: &ActorTable) -> Result<Verify<'a>, WireError> {
        let mut reader = Reader::new(body);
        let (name, seen) = (KeyRef::read(&mut reader)?, Seen::read(&mut reader, sender, actors)?);
        let flags = reader.u8()?;
        Ok(Verify { name, seen, is_repeated: flags & 1 != 0, is_exact: flags & 2 != 0 })
    }
}

/// Why a replica answers a [`Kind::Mismatch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MismatchCause {
    /// A delta builds on what it does not hold.
    Delta = 0,
    /// It holds what a verify has not seen.
    Verify = 1,
    /// It lacks what a verify has seen, and holds nothing else.
    Behind = 2,
}

impl MismatchCause {
    /// Reads what a [`Kind::Mismatch`] says.
    pub fn read(reader: &mut Reader<'_>) -> Result<MismatchCause, WireError> {
        match reader.u8()? {
            0 => Ok(MismatchCause::Delta),
            1 => Ok(MismatchCause::Verify),
            2 => Ok(MismatchCause::Behind),
            _ => Err(WireError),
        }
    }
}

/// An acknowledgement of all requests up to a number, and what the sender knows when it gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// Up to which request.
    pub number: u64,
    /// The latest stamp that the sender knows of: whoever hears it stamps later, and so after all that others have told
    /// the sender.
    pub latest: Hlc,
    /// Somebody may hold older copies of keys than the sender, as far as it knows by itself.
    pub knows_of_older: bool,
}

impl Ack {
    /// Appends the frame.
    pub fn put(self, out: &mut Vec<u8>) {
        put_frame(out, Kind::Ack, |out| {
            put_u64(out, self.number);
            put_u64(out, self.latest.0);
            out.push(u8::from(self.knows_of_older));
        });
    }

    /// Reads the body.
    pub fn read(body: &[u8]) -> Result<Ack, WireError> {
        let mut reader = Reader::new(body);
        Ok(Ack { number: reader.u64()?, latest: Hlc(reader.u64()?), knows_of_older: reader.u8()? != 0 })
    }
}

/// Appends a refusal of request `number`.
pub fn put_refused(out: &mut Vec<u8>, number: u64, why: Refusal) {
    put_frame(out, Kind::Refused, |out| {
        put_u64(out, number);
        out.push(why as u8);
    });
}

/// Reads a refusal.
pub fn read_refused(body: &[u8]) -> Result<(u64, Refusal), WireError> {
    let mut reader = Reader::new(body);
    let number = reader.u64()?;
    Ok((number, Refusal::read(&mut reader)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_are_cut_where_they_were_put(bodies in prop::collection::vec(any::<Vec<u8>>(), 0..8), cut: usize) {
            let mut out = Vec::new();
            prop_assert!(bodies.iter().all(|body| put_frame(&mut out, Kind::State, |out| out.extend_from_slice(body))));
            let (mut at, mut read) = (0, Vec::new());
            while let Some((frame, len)) = next_frame(&out[at..]).expect("own frames") {
                read.push(frame.body.to_vec());
                at += len;
            }
            prop_assert_eq!((at, read), (out.len(), bodies));
            let short = cut % (out.len() + 1);
            prop_assert!(next_frame(&out[..short]).is_ok());
        }

        #[test]
        fn nonsense_panics_nobody(bytes: Vec<u8>) {
            let actors = ActorTable::new(crate::base::ids::ActorId { node: 1, generation: 1 });
            let _ = next_frame(&bytes);
            let _ = Verify::read(&bytes, Actor::SELF, &actors);
            let _ = (read_refused(&bytes), Ack::read(&bytes));
        }
    }

    #[test]
    fn acknowledgements_read_back() {
        let some = Ack { number: 7, latest: Hlc(9), knows_of_older: true };
        for ack in [some, Ack { number: u64::MAX, latest: Hlc(u64::MAX), knows_of_older: false }] {
            let mut out = Vec::new();
            ack.put(&mut out);
            let (frame, _) = next_frame(&out).expect("an own frame").expect("whole");
            assert_eq!((frame.kind, Ack::read(frame.body)), (Kind::Ack, Ok(ack)));
        }
        assert_eq!(Ack::read(&[0; 16]), Err(WireError));
    }

    #[test]
    fn a_frame_of_any_length_is_waited_for_and_none_of_no_length() {
        let mut head = u32::MAX.to_le_bytes().to_vec();
        head.push(1);
        assert_eq!(next_frame(&head), Ok(None));
        assert_eq!(next_frame(&[0, 0, 0, 0, 1]), Err(WireError));
    }
}
