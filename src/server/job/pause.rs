//! CLIENT PAUSE: the requests that have to wait until it is over.
//!
//! Dispatch lets a request that has to wait alone, with nothing done ([`Step::Paused`]). Its connection reads no more
//! and counts as blocked; when the pause is over, the request is dispatched as if it came just then, so that one
//! between MULTI and EXEC is queued. As in Redis a pause of all commands holds back CLIENT UNPAUSE too.
//!
//! Does not hold back what other nodes ask: a pause is a matter of one node and its own clients.

use std::time::{Duration, Instant};

use crate::base::clock::wall_us;
use crate::server::batch::Batch;
use crate::server::batch::scanned::command_of;
use crate::server::job::Job;
use crate::server::request::run::{Origin, Step};
use crate::server::state::client::state;

/// How long to sleep at most before looking whether the pause was ended.
const LOOK_MS: u64 = 20;

impl Job {
    /// The reply to a request that was held back, once the pause is over; `None`, with nothing done, when it has to
    /// wait for something else. It counts as having `arrived` when the pause ends.
    pub(super) async fn after_pause(&mut self, request: &[u8], arrived: &mut Instant) -> Option<Vec<u8>> {
        loop {
            if self.wait_for_pause(request).await {
                *arrived = Instant::now();
            }
            let mut batch = Batch::new(Instant::now());
            match self.dispatch(request, Origin::Client, None, &mut batch) {
                Step::Paused => {}
                Step::Wait | Step::Behind => return None,
                Step::Done | Step::NotRun | Step::AsSeen => {
                    self.resolve(&mut batch).await;
                    self.worker.count_answered(&batch, arrived.elapsed());
                    let mut reply = Vec::new();
                    batch.finish(&mut reply);
                    return Some(reply);
                }
            }
        }
    }

    /// True when there was one.
    async fn wait_for_pause(&self, request: &[u8]) -> bool {
        let may_write = command_of(request).is_some_and(|command| self.talk.transaction.may_write(command));
        let mut has_waited = false;
        loop {
            let now_ms = wall_us() / 1_000;
            let paused = self.worker.shared.node.clients.paused_until_ms(may_write, now_ms);
            self.client.set_state(state::BLOCKED, paused.is_some());
            let Some(until_ms) = paused else { return has_waited };
            has_waited = true;
            tokio::time::sleep(Duration::from_millis(until_ms.saturating_sub(now_ms).clamp(1, LOOK_MS))).await;
        }
    }
}
