//! Whether a command may be run on its keys yet, and what it is bound to: the request path's side of settling and of strict
//! mode (`replication::settle`, `replication::ballot`).

use crate::base::ids::slot_of;
use crate::commands::spec::{Command, flag};
use crate::server::dispatch::Run;
use crate::store::Keyspace;

impl Run<'_> {
    /// Whether this node has to ask [`Run::is_ready`] before it runs a command. A cheap look.
    #[inline]
    pub fn may_lack(&self) -> bool {
        self.quorum.strict || self.worker.shared.coordinator.ballots.has_unsettled()
    }

    /// Whether what this node, which coordinates these keys, holds of them may be built on (`replication::settle`).
    pub fn is_ready<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> bool {
        let coordinator = &self.worker.shared.coordinator;
        coordinator.is_ready(self.view, self.session.db, keys, self.quorum, self.now_us / 1_000)
    }

    /// Whether a strict command may run on these keys, whose slots are locked; bounds its stamps.
    pub fn may_run_strictly<'k>(
        &self,
        locked: &mut Keyspace<'_>,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
    ) -> bool {
        if !self.quorum.strict || self.view.is_solo {
            return true;
        }
        let coordinator = &self.worker.shared.coordinator;
        coordinator.may_run(self.view, self.session.db, keys.clone())
            && keys
                .filter_map(|key| coordinator.window(self.view, slot_of(key)))
                .min()
                .is_none_or(|max| locked.stamp_until(max))
    }

    /// Whether other replicas have to confirm what a command has read: after a strict one that might have written and did
    /// not, too, for its reply says what it found. Ask before its writes are replicated.
    #[inline]
    pub fn must_verify(&self, command: &Command, keys: &Keyspace<'_>) -> bool {
        let has_read = command.has(flag::READONLY) || self.quorum.strict && keys.effects().deltas.is_empty();
        !self.view.is_solo && has_read && self.quorum.read > 1
    }
}
