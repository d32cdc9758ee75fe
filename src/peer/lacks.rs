//! Whether a peer may lack writes that nobody is about to tell it of.
//!
//! Two things leave a home replica without a write that others hold. It may have *declined* it: a replica that has
//! promised a slot to another node, or to nobody, declines a strict write of it, and is not handed it afterwards, since
//! had the write lost, that would bring it back. Or whoever made the write is *lost*: it reached this node and not yet
//! that peer when its connections ended, and who is lost tells and hands over nothing any more. Who was lost may be
//! back with an empty memory, filled up from those who lack something, so all peers count after a loss, that one too,
//! and whoever joins later.
//!
//! Either way the peer may hold an older value until this node and it have compared all slots that they share, so until
//! then expired keys leave tombstones here. They do so a little longer than that, because keys close to their deadline
//! are left out of a comparison.
//!
//! Invariant: what is noted while the two compare is not made up for by that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often connections to or from any member have ended, as all peers know it.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<AtomicU64>);

impl Losses {
    /// A connection has ended, behind the last write that came by it and before its member counts again.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// See the head of the file. Times are in milliseconds since 1970, by this node's clock.
#[derive(Debug)]
pub struct Lacks {
    declined: AtomicU64,
    losses: Losses,
    /// How many of both were made up for.
    made_up: AtomicU64,
    /// Until when keys may be there that no comparison has looked at.
    fading_ms: AtomicU64,
}

impl Lacks {
    /// Of a peer that was compared with nobody since the first of these losses.
    pub fn new(losses: Losses) -> Lacks {
        Lacks { declined: AtomicU64::new(0), losses, made_up: AtomicU64::new(0), fading_ms: AtomicU64::new(0) }
    }

    /// The peer has declined a write.
    pub fn note_declined(&self) {
        self.declined.fetch_add(1, Ordering::AcqRel);
    }

    /// How much was noted, to be given to [`Lacks::make_up`].
    pub fn noted(&self) -> u64 {
        self.declined.load(Ordering::Acquire) + self.losses.0.load(Ordering::Acquire)
    }

    /// Everything that the two share has been compared, and mended, since so much was noted, but keys that are gone by
    /// `fading_ms`.
    pub fn make_up(&self, noted: u64, fading_ms: u64) {
        if self.made_up.load(Ordering::Acquire) < noted {
            self.fading_ms.fetch_max(fading_ms, Ordering::AcqRel);
            self.made_up.fetch_max(noted, Ordering::AcqRel);
        }
    }

    /// True while the peer may lack a write.
    pub fn may_lack(&self, now_ms: u64) -> bool {
        // In the order opposite to that in which they are made up for.
        self.made_up.load(Ordering::Acquire) < self.noted() || now_ms < self.fading_ms.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_declined_or_lost_is_made_up_for_by_a_comparison_begun_later() {
        let losses = Losses::default();
        let lacks = Lacks::new(losses.clone());
        assert!(!lacks.may_lack(10));
        for note in [&|| lacks.note_declined(), &|| losses.note()] as [&dyn Fn(); 2] {
            note();
            let before = lacks.noted();
            note();
            lacks.make_up(before, 0);
            assert!(lacks.may_lack(10), "the second came while they compared");
            lacks.make_up(lacks.noted(), 0);
            assert!(!lacks.may_lack(10));
            lacks.make_up(before, 99);
            assert!(!lacks.may_lack(10), "there was nothing left to make up for");
        }
    }

    #[test]
    fn keys_that_were_about_to_expire_are_waited_for_once() {
        let lacks = Lacks::new(Losses::default());
        lacks.note_declined();
        lacks.make_up(lacks.noted(), 3_000);
        assert!(lacks.may_lack(2_999) && !lacks.may_lack(3_000));
        lacks.make_up(lacks.noted(), 9_000);
        assert!(!lacks.may_lack(3_000), "a later comparison had nothing to make up for");
    }

    #[test]
    fn one_loss_concerns_all_peers_and_those_that_come_later() {
        let losses = Losses::default();
        let [one, other] = [(), ()].map(|()| Lacks::new(losses.clone()));
        losses.note();
        let later = Lacks::new(losses.clone());
        one.make_up(one.noted(), 0);
        assert_eq!([&one, &other, &later].map(|lacks| lacks.may_lack(1)), [false, true, true]);
    }
}
