//! What a smart client is told on the cluster face, where and when Redis Cluster tells it: that its keys have several
//! slots, or that another node coordinates theirs.
//!
//! A request that is queued for EXEC is judged as it comes, and all that were queued together once more by EXEC.

use crate::base::ids::Slot;
use crate::commands::CommandError;
use crate::commands::spec::{Command, slots_of};
use crate::protocol::Args;
use crate::server::error::RequestError;
use crate::server::request::run::Run;

pub(super) const CROSS_SLOT: CommandError = CommandError::text("CROSSSLOT Keys in request don't hash to the same slot");

impl Run<'_> {
    /// Why a request with keys in these slots is not for this node, if it came on the cluster face.
    pub(super) fn redirection(&self, slots: &[Slot]) -> Option<CommandError> {
        let first = slots.first().filter(|_| self.session.cluster_face)?;
        if is_spread(slots) {
            return Some(CROSS_SLOT);
        }
        (!self.view.is_coordinator(*first)).then(|| self.moved(*first))
    }

    /// Where the coordinator of a slot is to be asked.
    pub(super) fn moved(&self, slot: Slot) -> CommandError {
        let peer = self.view.coordinator_of(slot).and_then(|at| self.view.peer(at));
        match peer.and_then(|peer| self.worker.cluster_addr(&peer.id)) {
            Some(addr) => CommandError::said(format!("MOVED {slot} {addr}")),
            None => RequestError::NotServed.refusal(),
        }
    }

    /// Whether the keys of a request that came on the cluster face have several slots.
    pub(super) fn crosses_slots(&self, command: &Command, args: Args<'_>) -> bool {
        self.session.cluster_face && is_spread(&slots_of(command, args))
    }
}

/// Whether these are not all the same.
#[inline]
pub(super) fn is_spread(slots: &[Slot]) -> bool {
    slots.windows(2).any(|pair| matches!(pair, [one, other] if one != other))
}
