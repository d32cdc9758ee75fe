//! How long something is tried again that may succeed a moment later: another node may have to take over first.
//!
//! Says nothing about what may be tried again, nor what to answer when it is over.

use std::time::{Duration, Instant};

use crate::server::batch::RETRY_FOR_MAX;
use crate::server::job::retry::RETRY_PAUSE;

/// The tries of one thing; see the head of the file.
pub(super) struct Tries {
    began: Instant,
    last_for: Duration,
}

impl Tries {
    /// For as long as a client is kept waiting for other nodes, from now on.
    pub fn begin() -> Tries {
        Tries::begin_for(RETRY_FOR_MAX)
    }

    /// For so long, from now on.
    pub fn begin_for(last_for: Duration) -> Tries {
        Tries { began: Instant::now(), last_for }
    }

    /// True while there may be one more.
    pub fn may_go_on(&self) -> bool {
        self.began.elapsed() <= self.last_for
    }

    /// Waits until it is time for the next one; false at once when there is none.
    pub async fn again(&self) -> bool {
        self.again_after(RETRY_PAUSE).await
    }

    /// As [`Tries::again`], and waits for so long.
    pub async fn again_after(&self, pause: Duration) -> bool {
        let may_go_on = self.may_go_on();
        if may_go_on {
            tokio::time::sleep(pause).await;
        }
        may_go_on
    }
}
