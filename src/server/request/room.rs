//! Room for commands that need memory, when the node holds more than `maxmemory` allows.

use crate::commands::CommandError;
use crate::server::error::RequestError;
use crate::server::request::run::Run;
use crate::store::eviction::Evicted;

/// Most keys that are evicted for one command.
const EVICTED_KEYS_MAX: u64 = 10_000;

impl Run<'_> {
    /// Whether what needs memory has to be refused: the node is over its limit, and evicting does not help.
    pub fn has_no_room(&self) -> bool {
        self.worker.shared.node.store.is_over_limit() && self.make_room().is_err()
    }

    /// Evicts until there is room, or refuses.
    pub fn make_room(&self) -> Result<(), CommandError> {
        match self.worker.shared.node.evict(self.view, self.now_us / 1_000, EVICTED_KEYS_MAX) {
            Evicted::Enough(_) => Ok(()),
            Evicted::NotEnough(_) => Err(RequestError::OutOfMemory.refusal()),
        }
    }
}
