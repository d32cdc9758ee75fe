//! Room for commands that need memory, when the node holds more than `maxmemory` allows.

use crate::base::ids::slot_of;
use crate::base::metrics::Count;
use crate::commands::CommandError;
use crate::server::request::run::Run;
use crate::store::Event;
use crate::store::eviction::Evicted;

/// What a client reads when memory is full and nothing may be evicted.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

impl Run<'_> {
    /// Whether what needs memory has to be refused: the node is over its limit, and evicting does not help.
    pub fn has_no_room(&self) -> bool {
        self.worker.shared.node.store.is_over_limit() && self.make_room().is_err()
    }

    /// Evicts until there is room, or refuses.
    pub fn make_room(&self) -> Result<(), CommandError> {
        let store = &self.worker.shared.node.store;
        let hub = &self.worker.shared.node.pubsub;
        let mut events = Vec::new();
        let evicted = store.evict(self.now_us / 1_000, 10_000, |db, key| {
            if hub.wants_events() && self.view.is_coordinator(slot_of(key)) {
                events.push(Event { class: b'e', name: "evicted", db, key: key.into() });
            }
        });
        hub.publish_events(&events);
        let (Evicted::Enough(keys) | Evicted::NotEnough(keys)) = evicted;
        self.worker.metrics.count(Count::EvictedKeys, keys);
        match evicted {
            Evicted::Enough(_) => Ok(()),
            Evicted::NotEnough(_) => Err(CommandError::text(OUT_OF_MEMORY)),
        }
    }
}
