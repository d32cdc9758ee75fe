//! What a node does whose clock was far ahead and has been set back: it ends, so that it is started again. One that was
//! set back by a few seconds goes on ([`SetBack`]).
//!
//! Its stamps never go back (`base::clock`), so the others refuse what it writes until time has caught up. It cannot
//! begin a new clock under the same name either, because one actor's stamps only grow. A new life has another actor,
//! begins empty, and fills up from the others: what was acknowledged is held by W nodes, and what it has stamped in the
//! future was refused by all.
//!
//! It ends only if nothing can be lost by it: keys have more than one copy, and every other member is there, holds what
//! it should, and shows by a stamp of its own that it is not ahead too. So never do two end together, and a node goes
//! on that is alone, or has been set back wrongly (its stamps are then those of the others). It says in its log and in
//! the status why it is refused.

use std::time::Duration;

use tokio::time::sleep;
use tracing::error;

use crate::base::clock::{Hlc, SKEW_MS_MAX};
use crate::base::throttle::Throttle;
use crate::cluster::Cluster;
use crate::cluster::barrier::TELL_INTERVAL;
use crate::cluster::ending::Ending;
use crate::cluster::start_over::ask_absences;
use crate::ring::Row;

/// Stamps are no further ahead of a clock that was not set back, in milliseconds: others' clocks and leases put them
/// ahead too.
const AHEAD_MS_MAX: u64 = 1_000;
/// A clock that was set back by no more than this is waited for: time catches up sooner than its node would fill up
/// anew.
const WAITED_MS_MAX: u64 = 10_000;
/// Between two looks at the clock.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A node ends when it has found itself ahead so many times in a row.
const LOOKS: usize = 10;
/// What another has stamped longer ago does not show what it stamps now.
const STAMP_AGE_MAX: Duration = Duration::from_secs(5);

/// How a clock was set back: the others refuse what its node writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetBack {
    /// By little: the node goes on, and time catches up.
    Little,
    /// So far that the node ends, if nothing can be lost by it.
    Far,
}

impl SetBack {
    /// What is to be said of a node whose stamps are so far ahead of its clock; `None` for a clock that was not set
    /// back.
    pub fn of(stamps_ahead_ms: u64) -> Option<SetBack> {
        let by = if stamps_ahead_ms > WAITED_MS_MAX { SetBack::Far } else { SetBack::Little };
        (stamps_ahead_ms > AHEAD_MS_MAX).then_some(by)
    }
}

/// What another member says of itself.
#[derive(Clone, Copy, Debug)]
struct Other {
    /// It holds what it should.
    is_warm: bool,
    /// Its latest stamp, if that is of this moment.
    stamp: Option<Hlc>,
}

/// Whether nothing is lost when a node ends whose clock shows `now_ms`. `others` are all other members; one that does
/// not answer is `None`.
fn may_end(replicas: usize, others: &[Option<Other>], now_ms: u64) -> bool {
    let is_right = |other: &Other| other.is_warm && other.stamp.is_some_and(|at| at.ms() <= now_ms + SKEW_MS_MAX);
    replicas > 1 && !others.is_empty() && others.iter().all(|other| other.as_ref().is_some_and(is_right))
}

impl Cluster {
    /// Looks, for ever, whether this node stamps far ahead of its own clock, and has it end if it should.
    pub(super) async fn watch_clock(&self) {
        let (mut looks, mut errors) = (0, Throttle::new(TELL_INTERVAL));
        loop {
            sleep(LOOK_INTERVAL).await;
            let stamps_ahead_ms = self.store.clock.stamps_ahead_ms();
            let is_far = SetBack::of(stamps_ahead_ms) == Some(SetBack::Far);
            looks = if is_far && self.topology().others().next().is_some() { looks + 1 } else { 0 };
            if looks < LOOKS {
                continue;
            }
            if self.may_end().await {
                self.end(Ending::SetBack { stamps_ahead_ms });
                return;
            }
            if errors.passes() {
                error!(
                    stamps_ahead_ms,
                    "this node's clock was set back: others refuse its writes until time has caught up, and it cannot end and \
                     fill up anew, because keys have one copy, or others are away, filling up, or were set back too"
                );
            }
        }
    }

    async fn may_end(&self) -> bool {
        let rows: Vec<Row> = self.topology().others().cloned().collect();
        let mut others = Vec::new();
        for row in &rows {
            let said = ask_absences(&self.links.kept_to(row)).await.ok();
            others.push(said.map(|said| {
                let is_recent = said.majority.at.elapsed() < STAMP_AGE_MAX;
                Other { is_warm: said.is_warm, stamp: is_recent.then_some(said.majority.stamp) }
            }));
        }
        may_end(self.config.settings().replicas, &others, self.store.clock.now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_by_little_is_waited_for() {
        let told = [0, AHEAD_MS_MAX, AHEAD_MS_MAX + 1, WAITED_MS_MAX, WAITED_MS_MAX + 1].map(SetBack::of);
        assert_eq!(told, [None, None, Some(SetBack::Little), Some(SetBack::Little), Some(SetBack::Far)]);
    }

    #[test]
    fn a_node_ends_only_if_all_others_are_there_and_were_not_ahead_themselves() {
        let other = |is_warm, ms: u64| Some(Other { is_warm, stamp: Some(Hlc::at_ms(ms)) });
        let right = other(true, 10_000 + SKEW_MS_MAX);
        assert!(may_end(3, &[right, right], 10_000) && may_end(2, &[right], 10_000));
        assert!(!may_end(1, &[right, right], 10_000), "it may hold the only copy");
        assert!(!may_end(3, &[], 10_000), "nobody refuses a node that is alone");
        let old = Some(Other { is_warm: true, stamp: None });
        for ill in [None, old, other(false, 10_000), other(true, 10_001 + SKEW_MS_MAX)] {
            assert!(!may_end(3, &[right, ill], 10_000), "{ill:?}");
        }
    }
}
