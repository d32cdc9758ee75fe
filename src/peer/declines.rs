//! Whether a peer may lack writes that it has declined.
//!
//! A home replica that has promised a slot to another node, or to nobody, declines a strict write of it, and is not handed it
//! afterwards: had the write lost, that would bring it back. Once the write has a majority, the replica holds an older value,
//! until this node and it have compared what they hold. So long what a key leaves behind is not to be forgotten here.
//!
//! Invariant: a decline that is noted while the two compare is not made up for by that.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Declines {
    noted: AtomicU64,
    made_up: AtomicU64,
}

impl Declines {
    /// The peer has declined a write.
    pub fn note(&self) {
        self.noted.fetch_add(1, Ordering::AcqRel);
    }

    /// How many there were, to be given to [`Declines::make_up`].
    pub fn noted(&self) -> u64 {
        self.noted.load(Ordering::Acquire)
    }

    /// Everything that the two share has been compared, and mended, since so many were noted.
    pub fn make_up(&self, noted: u64) {
        self.made_up.fetch_max(noted, Ordering::AcqRel);
    }

    /// True while the peer may lack one.
    pub fn may_lack(&self) -> bool {
        self.noted() > self.made_up.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decline_is_made_up_for_by_a_comparison_begun_later() {
        let declines = Declines::default();
        assert!(!declines.may_lack());
        declines.note();
        let before = declines.noted();
        declines.note();
        declines.make_up(before);
        assert!(declines.may_lack(), "the second came while they compared");
        declines.make_up(declines.noted());
        assert!(!declines.may_lack());
        declines.make_up(before);
        assert!(!declines.may_lack());
    }
}
