//! Whether somebody may hold an older copy of a key than this node: what is asked before an expired key is forgotten
//! without a trace.
//!
//! Older copies are possible where a peer is *behind* (it does not answer, is owed something, or what it was sent waits
//! for long), where it may *lack* what nobody is about to tell it (`peer::lacks`), and outside home replicas (`calm`).
//! That much a node knows by itself, and says with each acknowledgement that it gives
//! ([`Cluster::knows_of_older_copies`]): who coordinates a write knows alone who does not have it yet, and may die
//! before that one has, so every other replica has to keep traces as well. What was said holds until something else is
//! said on the same lane, and when the lane ends everybody counts as lacking something.
//!
//! In time: a write that some replica lacks was appended to that one's lane [`GRACE_MS`] before its key leaves
//! anywhere, or earlier. The coordinator takes that replica for behind [`LAG_MAX`] after that (`peer::lag` is never too
//! short), and says so within [`SAID_MS`]. What another replica has heard of the coordinator then is older by no more
//! than [`LAG_MAX`] and a heartbeat: frames on the lane there are no further apart, each is acknowledged with the word
//! of that moment, and were an acknowledgement later, the coordinator itself would count as behind. [`CLOCKS_MS`] are
//! left for clocks that differ, and for stamps that are older than their writes.
//!
//! Not known here: what a node that is no peer of this one knows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::peer::link::HEARTBEAT;
use crate::peer::registry::Peer;
use crate::store::expiry::GRACE_MS;

/// How old what a node knows may be when it says so, in milliseconds: it looks no more often.
const SAID_MS: u64 = 4;
/// What is left for clocks that differ, in milliseconds.
const CLOCKS_MS: u64 = 56;
/// Whoever lags by more is behind.
const LAG_MAX: Duration = Duration::from_millis((GRACE_MS - HEARTBEAT.as_millis() as u64 - SAID_MS - CLOCKS_MS) / 2);

/// What this node knew by itself when it last looked, and when that was.
#[derive(Debug, Default)]
pub(super) struct LastLook(AtomicU64);

impl LastLook {
    /// What `look` finds, or what it has found in the same few milliseconds since the start.
    fn get(&self, ms: u64, look: impl FnOnce() -> bool) -> bool {
        // Never 0, which is what nobody has looked at.
        let turn = (ms / SAID_MS + 1) << 1;
        let known = self.0.load(Ordering::Acquire);
        if known & !1 == turn {
            return known & 1 != 0;
        }
        let found = look();
        self.0.store(turn | u64::from(found), Ordering::Release);
        found
    }
}

impl Cluster {
    /// True while somebody may hold an older copy of a key than this node, as far as this node or any of its peers
    /// knows.
    pub fn older_copies_possible(&self) -> bool {
        self.finds_older_copies(Peer::knows_of_older)
    }

    /// The same, as far as this node knows by itself. Cheap.
    pub fn knows_of_older_copies(&self) -> bool {
        let ms = self.presence.age().as_millis() as u64;
        self.known_older.get(ms, || self.finds_older_copies(|_| false))
    }

    /// Whether any peer shows a sign of older copies; `heeds` adds what the peer itself says. What ends with a
    /// comparison counts only where nodes compare.
    fn finds_older_copies(&self, heeds: impl Fn(&Peer) -> bool) -> bool {
        let (compares, now) = (self.config.settings().anti_entropy_interval_ms > 0, Instant::now());
        let now_ms = self.store.clock.now_ms();
        let is_behind = |peer: &Peer| !peer.has_caught_up() || peer.lag(now) > LAG_MAX;
        let lacks = |peer: &Peer| compares && peer.lacks.may_lack(now_ms);
        // In this order: a lag that is short says how late the word is, and the end of a lane is noted before the next
        // one speaks.
        let is_sign = |peer: &Peer| is_behind(peer) || heeds(peer) || lacks(peer);
        compares && self.calm.strays_possible() || self.peers.all().iter().any(|peer| is_sign(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_looked_at_anew_after_a_few_milliseconds() {
        let known = LastLook::default();
        assert!(!known.get(0, || false));
        assert!(!known.get(SAID_MS - 1, || true));
        assert!(known.get(SAID_MS, || true));
        assert!(known.get(2 * SAID_MS - 1, || false));
        assert!(!known.get(2 * SAID_MS, || false));
    }

    #[test]
    fn a_lag_is_seen_and_told_before_what_expires_leaves() {
        let told = LAG_MAX + Duration::from_millis(SAID_MS) + HEARTBEAT + LAG_MAX;
        assert!(told + Duration::from_millis(CLOCKS_MS) <= Duration::from_millis(GRACE_MS), "{told:?}");
    }
}
