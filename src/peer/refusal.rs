//! Why a node will not do what another asks, on a lane or on the control link: one word for each reason.
//!
//! Nothing is half done when a node refuses but, on the control link, the states before the one that it stopped at,
//! which are merged.

use crate::base::wire::{Reader, WireError};

/// See the head of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// It is filling up itself and does not know: ask another, or later.
    #[error("it is warming up")]
    Warming = 1,
    /// A stamp lies too far ahead of its clock: again when the clocks agree.
    #[error("a stamp lies too far ahead of its clock")]
    Skew = 2,
    /// What was sent makes no sense to it. Of the control link alone: a lane ends without a word.
    #[error("it found the states malformed")]
    Malformed = 3,
}

impl Refusal {
    /// Reads a reason.
    pub fn read(reader: &mut Reader<'_>) -> Result<Refusal, WireError> {
        let code = reader.u8()?;
        let all = [Refusal::Warming, Refusal::Skew, Refusal::Malformed];
        all.into_iter().find(|refusal| *refusal as u8 == code).ok_or(WireError)
    }
}
