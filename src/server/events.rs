//! Keyspace events on the request path: when they are published, and when which are wanted.
//!
//! Commands note events while their slots are locked, and only when somebody could hear them; they are published when
//! the locks are gone.

use crate::base::clock::wall_us;
use crate::commands::CommandError;
use crate::commands::spec::{Command, NodeCommand};
use crate::protocol::{Args, Reply};
use crate::server::commands;
use crate::server::dispatch::Run;
use crate::server::job::Job;
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

impl Job {
    /// CONFIG SET of what other nodes act on too: answers when they know.
    pub(super) async fn set_events(
        &mut self,
        command: &'static Command,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        let node = self.worker.shared.node.clone();
        let (session, client) = (&mut self.talk.session, &*self.client);
        let mut reply = Reply::new(out, session.proto);
        let mut cx = commands::Cx { args, node: &node, session, client, now_us: wall_us() };
        commands::run(command, NodeCommand::Config, &mut cx, &mut reply)?;
        node.pubsub.announced().await;
        Ok(())
    }
}

/// Whether a request is CONFIG SET of an option that other nodes act on too.
pub fn sets_events(args: Args<'_>) -> bool {
    let is = |at: usize, word: &[u8]| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    is(1, b"set") && (2..args.len()).any(|at| is(at, b"notify-keyspace-events"))
}
