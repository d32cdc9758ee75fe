//! Giving freed memory back to the system.
//!
//! The allocator (mimalloc) keeps what was freed for a while, and looks at it again only when the same thread
//! allocates. After a FLUSHALL, or when most keys have expired together, nobody may allocate for long: the process
//! would keep all of it. So when what the store holds has fallen far below what it held, every thread that allocates
//! entries is asked once to give back what it keeps.
//!
//! That walks the pages of the thread, also those still in use: 8 ms for 4 GB of which every ninth entry of 2 KB is
//! left (2026-11-27). It is asked for only when what was held is [`FALL_MIN`] times what is left, so a node that holds
//! much and loses little never pays. In a program without this allocator it does nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::node::Node;
use crate::node::work::Work;

/// How often is looked.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// What was held has to be this many times what is left.
const FALL_MIN: u64 = 8;
/// What has to have gone, in bytes: little, because the last few entries, tombstones above all, keep whole pages in
/// use.
const GONE_MIN: u64 = 64 << 10;

/// Watches what the store holds, for ever.
pub async fn watch(node: Arc<Node>) {
    let mut tick = tokio::time::interval(LOOK_PERIOD);
    let mut fall = Fall::default();
    loop {
        tick.tick().await;
        if fall.has_come(node.shared.node.store.used_bytes()) {
            (0..node.workers.len()).for_each(|worker| node.workers.give(worker, Work::Trim));
            trim();
        }
    }
}

/// Gives back to the system what this thread has freed.
pub fn trim() {
    // SAFETY: it may be called at any time from any thread. It frees only pages of this thread's heap in which no block
    // is in use, by the allocator's own record.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// What was held at most since memory was last given back, in bytes.
#[derive(Default)]
struct Fall {
    held_max: u64,
    /// It had fallen far when it was last looked at: what was removed may still be on its way to who frees it.
    is_falling: bool,
}

impl Fall {
    /// True when most of what was held has gone, and did so before the last look.
    fn has_come(&mut self, held: u64) -> bool {
        self.held_max = self.held_max.max(held);
        let has_fallen = held <= self.held_max / FALL_MIN && self.held_max - held >= GONE_MIN;
        if !has_fallen || !self.is_falling {
            self.is_falling = has_fallen;
            return false;
        }
        *self = Fall { held_max: held, is_falling: false };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_when_most_is_gone_for_good() {
        let mut fall = Fall::default();
        let held_kib = [0, 9_000, 8_000, 1_200, 1_100, 7_000, 1_100, 1_100, 1_100, 0, 0, 60, 0, 0, 9_000, 0, 0, 0];
        let seen = held_kib.map(|kib: u64| fall.has_come(kib << 10));
        let come: Vec<usize> = (0..seen.len()).filter(|at| seen[*at]).collect();
        assert_eq!(come, [7, 10, 16], "an eighth twice; nothing twice; never for 60 KB; nothing twice");
    }

    #[test]
    fn giving_back_takes_nothing_that_is_in_use() {
        let kept: Vec<Vec<u8>> = (0..1_000).map(|n| vec![n as u8; 100 + n]).collect();
        drop((0..1_000).map(|n| vec![1_u8; 10_000 + n]).collect::<Vec<_>>());
        trim();
        assert!(
            kept.iter().enumerate().all(|(n, bytes)| bytes.len() == 100 + n && bytes.iter().all(|b| *b == n as u8))
        );
    }
}
