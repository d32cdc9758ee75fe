//! The memory of what is over, for what comes next: a worker's batches, and buffers of bytes that were run or sent.
//!
//! A connection holds a buffer only while it has something to send, or half a request, so idle connections cost none,
//! however much they once asked for; and the few that go round stay in the caches.
//!
//! Invariant: what is kept is bounded, by [`BATCHES_MAX`] of [`BATCH_BYTES_MAX`] and by [`BUFFERS_BYTES_MAX`]. What is
//! beyond goes back to the allocator.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use crate::server::batch::Batch;

/// Most batches that are kept, and most bytes of each beside its replies.
const BATCHES_MAX: usize = 32;
const BATCH_BYTES_MAX: usize = 64 << 10;
/// Most bytes of the buffers that are kept together.
const BUFFERS_BYTES_MAX: usize = 8 << 20;
/// Larger buffers are not kept: one large request or reply is no sign of more.
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// See the head of the file.
#[derive(Default)]
pub struct Spares {
    #[expect(clippy::vec_box, reason = "a batch is some hundred bytes, which would be copied several times a request")]
    batches: RefCell<Vec<Box<Batch>>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    buffers_bytes: Cell<usize>,
}

impl Spares {
    /// An empty batch that starts now.
    pub fn batch(&self, started: Instant) -> Box<Batch> {
        let mut batch = self.batches.borrow_mut().pop().unwrap_or_else(|| Box::new(Batch::new(started)));
        batch.started = started;
        batch.out = self.buffer();
        batch
    }

    /// An empty buffer.
    pub fn buffer(&self) -> Vec<u8> {
        let buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
        self.buffers_bytes.set(self.buffers_bytes.get() - buffer.capacity());
        buffer
    }

    /// Takes a batch that is over.
    pub fn keep_batch(&self, mut batch: Box<Batch>) {
        self.keep_buffer(std::mem::take(&mut batch.out));
        let mut batches = self.batches.borrow_mut();
        if batches.len() < BATCHES_MAX && batch.spare_bytes() <= BATCH_BYTES_MAX {
            batch.clear();
            batches.push(batch);
        }
    }

    /// Takes a buffer whose bytes nobody needs any more.
    pub fn keep_buffer(&self, mut buffer: Vec<u8>) {
        let (bytes, kept) = (buffer.capacity(), self.buffers_bytes.get());
        if bytes > 0 && bytes <= BUFFER_BYTES_MAX && kept + bytes <= BUFFERS_BYTES_MAX {
            buffer.clear();
            self.buffers.borrow_mut().push(buffer);
            self.buffers_bytes.set(kept + bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_round_and_comes_back_empty() {
        let spares = Spares::default();
        let mut batch = spares.batch(Instant::now());
        batch.out = vec![7; 1_000];
        let mut sent = Vec::new();
        batch.finish(&mut sent);
        spares.keep_batch(batch);
        let at = sent.as_ptr();
        spares.keep_buffer(sent);
        let again = spares.batch(Instant::now());
        assert!(again.out.is_empty() && again.out.as_ptr() == at);
        assert_eq!(spares.batch(Instant::now()).out.capacity(), 0, "it was given once");
        assert_eq!(spares.buffers_bytes.get(), 0);
    }

    #[test]
    fn no_more_is_kept_than_the_bounds_allow() {
        let spares = Spares::default();
        spares.keep_buffer(Vec::with_capacity(BUFFER_BYTES_MAX + 1));
        assert_eq!(spares.buffers_bytes.get(), 0);
        for _ in 0..20 {
            spares.keep_buffer(Vec::with_capacity(BUFFER_BYTES_MAX));
            spares.keep_batch(Box::new(Batch::new(Instant::now())));
        }
        assert_eq!(spares.buffers_bytes.get(), BUFFERS_BYTES_MAX);
        assert_eq!(spares.buffers.borrow().len(), BUFFERS_BYTES_MAX / BUFFER_BYTES_MAX);
        let mut large = Box::new(Batch::new(Instant::now()));
        large.requests.reserve(BATCH_BYTES_MAX + 1);
        spares.keep_batch(large);
        assert_eq!(spares.batches.borrow().len(), 20);
    }
}
