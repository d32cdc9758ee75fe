//! Whether copies may lie where no home replica looks: two moments, told from outside.
//!
//! A copy of a key outside its home replicas (a *stray*: who stood in for somebody has it, or who lost the slot to a
//! node that joined) can be older than what its home replicas hold. They may forget an expired key without a trace only
//! when no stray is left that would be taken for news once it goes home (`shed`). Strays come to be while things are
//! *stirred*: a member cannot be used, is filling up or has not been handed over what it missed, or the ring moves.
//! They are gone when, in a round of questions begun later, everybody has said that it holds nothing for others
//! (`anti_entropy`).
//!
//! Invariant: a stir that has not ended, or that no calm round has followed, keeps the traces. Deliberately not known
//! here: a stir that this node does not see, as when two others do not reach each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// See the head of the file. Times are in milliseconds since 1970, by this node's clock.
#[derive(Debug, Default)]
pub(super) struct Calm {
    is_stirred: AtomicBool,
    /// When things were last seen stirred; 0 for never.
    stirred_ms: AtomicU64,
    /// When the last round began that everybody answered with "I owe nobody anything"; 0 for never.
    calm_ms: AtomicU64,
}

impl Calm {
    /// Says whether things are stirred from now on.
    pub fn note_stir(&self, is_stirred: bool, now_ms: u64) {
        // The end of a stir is a part of it.
        if self.is_stirred.swap(is_stirred, Ordering::AcqRel) || is_stirred {
            self.stirred_ms.fetch_max(now_ms, Ordering::AcqRel);
        }
    }

    /// Everybody has said that it holds nothing for others, in answer to questions of which the first was asked at
    /// `began_ms`.
    pub fn note_calm(&self, began_ms: u64) {
        self.calm_ms.fetch_max(began_ms, Ordering::AcqRel);
    }

    /// When the last round began that everybody answered with "I owe nobody anything"; `None` for never.
    pub fn calm_ms(&self) -> Option<u64> {
        Some(self.calm_ms.load(Ordering::Acquire)).filter(|ms| *ms > 0)
    }

    /// True while somebody may hold a stray.
    pub fn strays_possible(&self) -> bool {
        self.is_stirred.load(Ordering::Acquire) || self.awaits_round()
    }

    /// True when things are no longer stirred and nobody has asked since whether they left strays.
    pub fn awaits_round(&self) -> bool {
        let stirred_ms = self.stirred_ms.load(Ordering::Acquire);
        let has_stirred = stirred_ms != 0 && stirred_ms >= self.calm_ms.load(Ordering::Acquire);
        has_stirred && !self.is_stirred.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_may_be_there_from_the_beginning_of_a_stir_to_a_calm_round_begun_after_its_end() {
        let calm = Calm::default();
        calm.note_stir(false, 1_000);
        assert!(!calm.strays_possible(), "nothing has ever moved");
        calm.note_stir(true, 2_000);
        assert!(calm.strays_possible() && !calm.awaits_round());
        assert_eq!(calm.calm_ms(), None);
        calm.note_calm(2_500);
        assert_eq!(calm.calm_ms(), Some(2_500));
        assert!(calm.strays_possible(), "it goes on");
        calm.note_stir(false, 3_000);
        assert!(calm.strays_possible() && calm.awaits_round(), "the round began before its end");
        calm.note_calm(3_000);
        assert!(calm.strays_possible(), "nor is one enough that began in the same millisecond");
        calm.note_calm(3_001);
        assert!(!calm.strays_possible() && !calm.awaits_round());
        calm.note_stir(false, 4_000);
        assert!(!calm.strays_possible());
        calm.note_stir(true, 5_000);
        assert!(calm.strays_possible(), "the next one");
    }
}
