//! Whether too much waits for a client that does not read: Redis's hard and soft limits.
//!
//! Above the hard limit at once; above the soft limit once it has been exceeded without a break for longer than it
//! allows.

use crate::base::config::BufferLimit;

/// What is remembered of one buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excess {
    /// Since when the soft limit is exceeded, in the caller's milliseconds.
    since_ms: Option<u64>,
}

impl Excess {
    /// Judges the buffer, of which `len_bytes` wait now.
    pub fn is_too_much(&mut self, len_bytes: usize, limit: BufferLimit, now_ms: u64) -> bool {
        let len = len_bytes as u64;
        if limit.hard_bytes != 0 && len > limit.hard_bytes {
            return true;
        }
        if limit.soft_bytes == 0 || len <= limit.soft_bytes {
            self.since_ms = None;
            return false;
        }
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        now_ms.saturating_sub(since_ms) > limit.soft_seconds * 1_000
    }

    /// The buffer has been emptied.
    pub fn end(&mut self) {
        self.since_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_holds_at_once_and_the_soft_one_after_its_time() {
        let limit = BufferLimit { hard_bytes: 100, soft_bytes: 10, soft_seconds: 2 };
        let mut excess = Excess::default();
        assert!(excess.is_too_much(101, limit, 0) && !excess.is_too_much(100, limit, 1_000));
        assert!(!excess.is_too_much(11, limit, 3_000) && excess.is_too_much(11, limit, 3_001));
        assert!(!excess.is_too_much(10, limit, 9_000) && !excess.is_too_much(11, limit, 9_001));
        excess.end();
        assert!(!excess.is_too_much(11, limit, 20_000) && !excess.is_too_much(1_000_000, BufferLimit::default(), 0));
    }
}
