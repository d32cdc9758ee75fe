//! How much a connection does before the others of its worker have their turn.
//!
//! A client that sends without end would else keep its connection reading and running until the runtime stops it, which
//! counts calls and not bytes: 126 ms at a time were measured. What is counted are bytes of requests, those that arrive
//! and those that had been kept; a connection that is never asked so much at once does not notice.

use crate::server::worker::INPUT_BYTES;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Turn {
    bytes: usize,
}

impl Turn {
    /// Begins a turn.
    pub fn begin(&mut self) {
        self.bytes = 0;
    }

    /// Notes bytes that were read, or run.
    pub fn note(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether the others have their turn now: after as much as one read brings at most.
    pub fn is_over(&self) -> bool {
        self.bytes >= INPUT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_after_a_read_that_brought_all_that_one_may() {
        let mut turn = Turn::default();
        turn.note(INPUT_BYTES - 1);
        assert!(!turn.is_over());
        turn.note(1);
        assert!(turn.is_over());
        turn.begin();
        assert!(!turn.is_over());
    }
}
