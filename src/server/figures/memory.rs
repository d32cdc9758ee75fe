//! How much memory a node takes, in figures that others judge and show.

/// The node's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryFigures {
    /// Bytes that keys and values take, and deletions that are remembered.
    pub used_bytes: u64,
    /// Those of the deletions: `limit_bytes` is not about them.
    pub tombstone_bytes: u64,
    /// The most they ever took.
    pub peak_bytes: u64,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// The same when it had just begun.
    pub startup_bytes: u64,
    /// `maxmemory`, 0 for none.
    pub limit_bytes: u64,
    /// Keys held.
    pub keys: u64,
    /// Bytes waiting for clients.
    pub client_bytes: u64,
}

impl MemoryFigures {
    /// Resident memory over what is accounted for: counted memory, and what the process took before there was any.
    pub fn fragmentation(&self) -> f64 {
        self.resident_bytes as f64 / (self.used_bytes + self.startup_bytes).max(1) as f64
    }
}
