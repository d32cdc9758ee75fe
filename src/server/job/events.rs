//! CONFIG SET of which keyspace events are wanted, which other nodes act on too.

use crate::base::clock::wall_us;
use crate::commands::CommandError;
use crate::commands::spec::{Command, NodeCommand};
use crate::protocol::{Args, Reply};
use crate::server::commands;
use crate::server::job::Job;

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
