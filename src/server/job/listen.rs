//! SUBSCRIBE, UNSUBSCRIBE and MONITOR: a connection begins or ends to listen (`request::listening`, `state::monitors`);
//! and what those that watch are shown of requests that have run alone.

use crate::commands::spec::Command;
use crate::commands::{CommandError, table};
use crate::protocol::{Args, Reply};
use crate::server::batch::scanned::scanned;
use crate::server::job::Job;
use crate::server::pubsub::Mailbox;
use crate::server::request::listening::change;
use crate::server::state::client::state;
use crate::server::transaction::runner::selected;

impl Job {
    /// Begins or ends subscriptions, and answers when the other nodes know.
    pub(super) async fn subscribe(
        &mut self,
        command: &Command,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        self.client.admits_names(command, args)?;
        let hub = self.worker.shared.node.pubsub.clone();
        let hand_over = |mailbox: &Mailbox, out: &mut Vec<u8>| _ = mailbox.take(out, None);
        change(&hub, &self.client, command, args, self.talk.session.proto, out, hand_over);
        if self.client.is_in(state::SUBSCRIBED) {
            hub.announced().await;
        }
        Ok(())
    }

    /// Begins to watch. As in Redis, who watches already gets no reply.
    pub(super) fn monitor(&self, out: &mut Vec<u8>) {
        if !self.client.is_in(state::MONITOR) {
            self.client.set_state(state::MONITOR, true);
            self.worker.shared.node.monitors.join(&self.client.mailbox);
            Reply::new(out, self.talk.session.proto).ok();
        }
    }

    /// Shows requests that have been run one behind the other, the first of them with this database.
    pub(super) fn show<'r>(&self, requests: impl IntoIterator<Item = &'r [u8]>, mut db: u8) {
        let node = &self.worker.shared.node;
        if !node.monitors.is_watched() {
            return;
        }
        for request in requests {
            let Ok(scanner) = scanned(request) else { continue };
            let args = scanner.args(request);
            let Some((_, command)) = table::find(args.name()) else { continue };
            db = selected(command, args).unwrap_or(db);
            node.show(&self.client, db, command, args);
        }
    }
}
