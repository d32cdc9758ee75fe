//! Freed memory: given back to the system, and by one thread to another.
//!
//! The allocator (mimalloc) keeps what was freed for a while, and looks at it again only when the same thread
//! allocates. After a FLUSHALL, or when most keys have expired together, nobody may allocate for long: the process
//! would keep all of it. So when what the store holds has fallen far below what it held ([`Fall`]), every worker is
//! asked once to give back what it keeps.
//!
//! What is freed is of use only to the thread that has made it. Where one worker has made most entries, because one
//! connection has brought them, and others make those that take their place, the process would come to take twice what
//! it holds. What a thread leaves behind when it ends, though, the allocator gives to whoever needs memory next. So
//! while the process takes much more than the store holds, and ever more ([`Holes`]), the workers are asked to leave
//! behind all that they have made.
//!
//! Either walks the pages of the thread, also those still in use: 8 ms for 4 GB of which every ninth entry of 2 KB is
//! left (2026-11-27). It is asked for only when what was held is [`FALL_MIN`] times what is left, or when the holes
//! have grown, so a node that holds much and loses little never pays. In a program without this allocator it does
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::node::Node;
use crate::node::work::Work;
use crate::server::figures::process::resident_bytes;

/// How often is looked.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// What was held has to be this many times what is left.
const FALL_MIN: u64 = 8;
/// What has to have gone, in bytes: little, because the last few entries, tombstones above all, keep whole pages in
/// use.
const GONE_MIN: u64 = 64 << 10;

/// A node that holds less than this, in bytes, may have as many holes as it likes.
const HELD_MIN: u64 = 256 << 20;
/// Less than one part in so many of what is held does not count as holes: no allocator is without.
const HOLES_SHARE: u64 = 4;
/// By one part in so many of what is held the process has to have grown before its memory is handed on again.
const GROWTH_SHARE: u64 = 64;

/// Watches what the store holds, for ever.
pub async fn watch(node: Arc<Node>) {
    let mut tick = tokio::time::interval(LOOK_PERIOD);
    let (mut fall, mut holes) = (Fall::default(), Holes::default());
    loop {
        tick.tick().await;
        let held = node.shared.node.store.used_bytes();
        let for_all = |work: fn() -> Work| (0..node.workers.len()).for_each(|worker| node.workers.give(worker, work()));
        if fall.has_come(held) {
            for_all(|| Work::Trim);
        } else if held >= HELD_MIN && holes.have_grown(held, resident_bytes()) {
            for_all(|| Work::HandOn);
        }
    }
}

/// Gives back to the system what this thread has freed.
pub fn trim() {
    // SAFETY: it may be called at any time from any thread. It frees only pages of this thread's heap in which no block
    // is in use, by the allocator's own record.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Leaves to other threads what becomes free of the memory that this one has allocated.
pub fn hand_on() {
    // SAFETY: it may be called at any time from any thread (mimalloc 2.3.2, `_mi_thread_done`), and is whenever one
    // ends. Pages with blocks in use are given up as they are, and their blocks may be freed by any thread, as those of
    // a thread that has ended; this thread has no heap then, and its next allocation makes it one.
    unsafe { libmimalloc_sys::mi_thread_done() };
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

/// What the process takes beyond what is held.
#[derive(Default)]
struct Holes {
    /// What it took when memory was last handed on, in bytes; or less, if it has taken less since.
    resident: u64,
}

impl Holes {
    /// True when they are large, and have grown since that was last so.
    fn have_grown(&mut self, held: u64, resident: u64) -> bool {
        let are_large = resident > held + held / HOLES_SHARE;
        let have_grown = are_large && resident > self.resident + held / GROWTH_SHARE;
        if have_grown || resident < self.resident {
            self.resident = resident;
        }
        have_grown
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
    fn memory_is_handed_on_once_for_each_share_that_the_holes_grow_by() {
        let mut holes = Holes::default();
        let resident = [1_000, 1_250, 1_251, 1_260, 1_266, 1_267, 1_900, 1_100, 1_250, 1_260, 1_270];
        let seen = resident.map(|resident| holes.have_grown(1_000, resident));
        let grown: Vec<usize> = (0..seen.len()).filter(|at| seen[*at]).collect();
        assert_eq!(grown, [2, 5, 6, 9]);
    }

    /// Memory of the allocator that the node runs with, which is not that of the tests, full of one byte.
    struct Block(*mut u8, usize);

    // SAFETY: nobody else has it.
    unsafe impl Send for Block {}

    impl Block {
        fn of(bytes: usize) -> Block {
            // SAFETY: any size may be asked for; there is no other promise than that what comes is that large, or null.
            let at = unsafe { libmimalloc_sys::mi_malloc(bytes) }.cast::<u8>();
            assert!(!at.is_null());
            // SAFETY: it is as large as that, and nobody else has it.
            unsafe { at.write_bytes(bytes as u8, bytes) };
            Block(at, bytes)
        }

        fn is_whole(&self) -> bool {
            // SAFETY: all of it was written in `of`, and nobody has it mutably.
            let bytes = unsafe { std::slice::from_raw_parts(self.0, self.1) };
            bytes.iter().all(|byte| *byte == self.1 as u8)
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: it is from that allocator, and freed once.
            unsafe { libmimalloc_sys::mi_free(self.0.cast()) };
        }
    }

    #[test]
    fn what_is_in_use_stays_as_it_is_and_may_be_freed_by_any_thread() {
        let blocks = || (0..2_000).map(|n| Block::of(50 + n)).collect::<Vec<_>>();
        let mut kept = blocks();
        for give_up in [trim, hand_on, hand_on, trim] {
            let mut at = 0;
            kept.retain(|_| {
                at += 1;
                at % 3 != 0
            });
            give_up();
            kept.extend(blocks());
            assert!(kept.iter().all(Block::is_whole));
            kept = std::thread::spawn(move || {
                kept.truncate(kept.len() - 500);
                kept.extend(blocks());
                assert!(kept.iter().all(Block::is_whole));
                kept
            })
            .join()
            .expect("it does not panic");
        }
        assert!(kept.iter().all(Block::is_whole));
    }
}
