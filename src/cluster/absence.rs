//! A node that was cut off, or stopped, for longer than the tombstone horizon: it gives up what it held before and fetches it.
//!
//! Others may have forgotten deletions meanwhile that this node never heard of (`graves`); what it still holds of those keys
//! would bring them back. What it took in since is kept: those are writes that somebody was told are safe.
//!
//! The time is that of the monotonic clock: a step of the wall clock never makes a whole cluster throw its data away. It
//! stands still while a whole machine sleeps, and what such a sleep hides is not found here.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::cluster::Cluster;
use crate::cluster::graves::{is_majority, is_outdated};
use crate::cluster::shed::drop_before;
use crate::membership::Liveness;
use crate::ring::RowState;

const LOOK_INTERVAL: Duration = Duration::from_millis(500);

impl Cluster {
    /// How long a member may be away before others forget deletions without it.
    pub(super) fn tombstone_horizon(&self) -> Duration {
        Duration::from_millis(self.config.settings().tombstone_horizon_ms)
    }

    /// True when this node was away for so long that what it holds may be deleted elsewhere: nothing of it may be given
    /// to others.
    pub fn is_outdated(&self) -> bool {
        is_outdated(self.majority_at.lock().elapsed(), self.tombstone_horizon())
    }

    /// Notes for ever when a majority of the members is seen. One that has been away for too long first starts over.
    pub(super) async fn watch_majority(&self) {
        loop {
            if self.sees_majority() && !self.is_outdated() {
                *self.majority_at.lock() = Instant::now();
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    fn sees_majority(&self) -> bool {
        let topology = self.topology();
        let (mut members, mut present) = (1, 1);
        for row in topology.others() {
            members += 1;
            present += usize::from(topology.liveness(&row.id) != Liveness::Down);
        }
        is_majority(present, members)
    }

    /// True when this node is back from an absence that was too long.
    pub(super) fn must_start_over(&self) -> bool {
        if !self.is_outdated() || !self.sees_majority() {
            return false;
        }
        let is_member = self.topology().own_row().is_some_and(|row| row.state == RowState::Normal && row.warm);
        let is_alone = self.topology().others().next().is_none();
        if !is_member || is_alone {
            // Nothing is here that others could have deleted meanwhile.
            *self.majority_at.lock() = Instant::now();
        }
        is_member && !is_alone
    }

    /// Declares this node cold and forgets what it held before it went away; it then fills up as after a restart.
    pub(super) async fn start_over(self: &Arc<Self>) {
        let away = self.majority_at.lock().elapsed();
        warn!(away_s = away.as_secs(), "was away for longer than tombstone-horizon-ms: fetching everything anew");
        self.set_own_row(RowState::Normal, false);
        let before = Hlc::at_ms(self.store.clock.now_ms().saturating_sub(away.as_millis() as u64));
        let mut dropped = 0;
        for slot in Slot::all() {
            dropped += drop_before(&mut self.store.table(slot), before);
            yield_now().await;
        }
        *self.majority_at.lock() = Instant::now();
        warn!(keys = dropped, "forgot what was written before that");
    }
}
