//! Keyspace events on the request path: when they are published, and when which are wanted.
//!
//! Commands note events while their slots are locked, and only when somebody could hear them; they are published when
//! the locks are gone.

use crate::protocol::Args;
use crate::server::request::run::Run;
use crate::store::Effects;

impl Run<'_> {
    /// Publishes what commands have noted about their keys; call it when no slot is locked.
    #[inline]
    pub fn publish_events(&self, effects: &mut Effects) {
        if !effects.events.is_empty() {
            self.worker.shared.node.pubsub.publish_events(&effects.events);
            effects.events.clear();
        }
    }
}

/// Whether a request is CONFIG SET of an option that other nodes act on too.
pub fn sets_events(args: Args<'_>) -> bool {
    let is = |at: usize, word: &[u8]| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    is(1, b"set") && (2..args.len()).any(|at| is(at, b"notify-keyspace-events"))
}
