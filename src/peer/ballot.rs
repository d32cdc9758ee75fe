//! The words of slot ballots on a replica link: asking for promises, and the answers; comparing a slot; declining.
//!
//! A request without slots only prolongs what was let before. Whoever asks afresh believes that it holds nothing on
//! this lane.

use crate::base::clock::Hlc;
use crate::base::ids::{SLOT_COUNT, Slot};
use crate::base::wire::{Reader, WireError, put_u16, put_u64};
use crate::peer::frame::Kind;

/// "Promise me these slots, and let me stamp strict writes up to here."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromiseRequest {
    /// The asker holds nothing on this lane, and knows it.
    pub is_fresh: bool,
    /// The latest stamp that it asks for.
    pub until: Hlc,
    /// Who may vote as it sees it (`View::electorate_digest`).
    pub electorate_digest: u64,
    /// The slots.
    pub slots: Vec<Slot>,
}

impl PromiseRequest {
    /// Appends the body.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_fresh));
        put_u64(out, self.until.0);
        put_u64(out, self.electorate_digest);
        put_slots(out, &self.slots);
    }

    /// Reads the body.
    pub fn read(body: &[u8]) -> Result<PromiseRequest, WireError> {
        let mut reader = Reader::new(body);
        let (is_fresh, until, electorate_digest) = (reader.u8()? != 0, Hlc(reader.u64()?), reader.u64()?);
        Ok(PromiseRequest { is_fresh, until, electorate_digest, slots: read_slots(&mut reader)? })
    }
}

/// The answer to request `number`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromiseAnswer {
    /// Which request.
    pub number: u64,
    /// False when nothing was promised or prolonged, because something that the asker believes to hold was given to
    /// another: it must begin afresh.
    pub granted: bool,
    /// Strict writes to the slots that are promised now must be stamped later than this.
    pub floor: Hlc,
    /// Slots that are not promised.
    pub refused: Vec<Slot>,
}

impl PromiseAnswer {
    /// Appends the body.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.number);
        out.push(u8::from(self.granted));
        put_u64(out, self.floor.0);
        put_slots(out, &self.refused);
    }

    /// Reads the body.
    pub fn read(body: &[u8]) -> Result<PromiseAnswer, WireError> {
        let mut reader = Reader::new(body);
        let (number, granted, floor) = (reader.u64()?, reader.u8()? != 0, Hlc(reader.u64()?));
        Ok(PromiseAnswer { number, granted, floor, refused: read_slots(&mut reader)? })
    }
}

/// "Does the slot hold the same at yours?" Answered with the acknowledgement, or by declining.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DigestRequest {
    /// The slot.
    pub slot: Slot,
    /// Only a replica that has promised the slot to the asker is to answer.
    pub strict: bool,
    /// Keys that expire at or before this are left out, in milliseconds since 1970.
    pub horizon_ms: u64,
    /// What the asker holds.
    pub digest: u64,
}

impl DigestRequest {
    /// Appends the body.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_u16(out, self.slot.number());
        out.push(u8::from(self.strict));
        put_u64(out, self.horizon_ms);
        put_u64(out, self.digest);
    }

    /// Reads the body.
    pub fn read(body: &[u8]) -> Result<DigestRequest, WireError> {
        let mut reader = Reader::new(body);
        let slot = Slot::new(reader.u16()?).ok_or(WireError)?;
        Ok(DigestRequest { slot, strict: reader.u8()? != 0, horizon_ms: reader.u64()?, digest: reader.u64()? })
    }
}

/// The answer to a request that was not done: the replica has not promised the slot to the asker, or its digest
/// differs. Unlike other answers it leaves nothing open: what comes behind is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Declined {
    /// Which request.
    pub number: u64,
    /// What kind of request it was.
    pub kind: Kind,
    /// Its slot.
    pub slot: Slot,
}

impl Declined {
    /// Appends the body.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.number);
        out.push(self.kind as u8);
        put_u16(out, self.slot.number());
    }

    /// Reads the body.
    pub fn read(body: &[u8]) -> Result<Declined, WireError> {
        let mut reader = Reader::new(body);
        let number = reader.u64()?;
        let kind = Kind::parse(reader.u8()?).ok_or(WireError)?;
        Ok(Declined { number, kind, slot: Slot::new(reader.u16()?).ok_or(WireError)? })
    }
}

fn put_slots(out: &mut Vec<u8>, slots: &[Slot]) {
    slots.iter().for_each(|slot| put_u16(out, slot.number()));
}

fn read_slots(reader: &mut Reader<'_>) -> Result<Vec<Slot>, WireError> {
    let mut slots = Vec::new();
    while !reader.is_empty() {
        if slots.len() == SLOT_COUNT {
            return Err(WireError);
        }
        slots.push(reader.slot()?);
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_read_back() {
        let slots: Vec<Slot> = Slot::all().step_by(999).collect();
        let (mut out, slot) = (Vec::new(), slots[3]);
        let request = PromiseRequest { is_fresh: true, until: Hlc(7), electorate_digest: 8, slots: slots.clone() };
        request.put(&mut out);
        assert_eq!(PromiseRequest::read(&out), Ok(request));
        out.clear();
        let answer = PromiseAnswer { number: 1, granted: false, floor: Hlc(3), refused: slots };
        answer.put(&mut out);
        assert_eq!(PromiseAnswer::read(&out), Ok(answer));
        out.clear();
        let digest = DigestRequest { slot, strict: true, horizon_ms: 6, digest: 5 };
        digest.put(&mut out);
        assert_eq!(DigestRequest::read(&out), Ok(digest));
        out.clear();
        let declined = Declined { number: 4, kind: Kind::StrictDelta, slot };
        declined.put(&mut out);
        assert_eq!(Declined::read(&out), Ok(declined));
    }

    proptest! {
        #[test]
        fn nonsense_panics_nobody(bytes: Vec<u8>) {
            let _ = PromiseRequest::read(&bytes);
            let _ = PromiseAnswer::read(&bytes);
            let _ = DigestRequest::read(&bytes);
            let _ = Declined::read(&bytes);
        }
    }
}
