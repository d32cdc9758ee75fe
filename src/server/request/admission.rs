//! Whether a request may run, and what its client reads if not.
//!
//! Everything that is said here is said before anything is done, in the order in which Redis looks. Errors of commands
//! that ran go out by the same door ([`Run::fail`]), so that all are counted alike.

use crate::commands::spec::{Command, flag};
use crate::commands::table::CommandIndex;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, REPLY_BYTES_MAX};
use crate::server::request::run::Run;
use crate::server::state::client::state;

impl Run<'_> {
    /// Whether a request may run now, or be queued: the error is the answer if not.
    #[inline]
    pub(super) fn admit(&self, command: &'static Command, args: Args<'_>) -> Result<(), CommandError> {
        if !command.accepts(args.len()) {
            return Err(CommandError::Arity(command.name.into()));
        }
        if self.transaction.is_open() && command.has(flag::NO_MULTI) {
            return Err(CommandError::text("ERR Command not allowed inside a transaction"));
        }
        let is_family = command.may_be_family() && args.len() > 1 && !subcommands::of(command.name).is_empty();
        let named = if is_family { subcommands::checked(command, args)? } else { command };
        self.session.admits(command)?;
        if self.client.is_in(state::SUBSCRIBED | state::MONITOR) {
            self.admit_listening(named)?;
        }
        // What is queued takes memory, whatever it is.
        let takes_memory = command.has(flag::DENYOOM) || self.transaction.queues(command);
        if takes_memory && self.worker.shared.node.store.is_over_limit() {
            self.make_room()?;
        }
        Ok(())
    }

    /// Writes an error reply and counts it.
    pub fn fail(&mut self, text: impl AsRef<[u8]>) {
        self.worker.count_error(text.as_ref());
        self.reply().error(text);
    }

    /// As [`Run::fail`]. A client whose replies have outgrown `client-output-buffer-limit` is closed.
    pub fn fail_with(&mut self, error: &CommandError) {
        if self.limits.reply_bytes_max < REPLY_BYTES_MAX && matches!(error, CommandError::ReplyTooLarge) {
            self.worker.cut_off(self.client);
            return self.batch.out.clear();
        }
        self.fail(error.bytes());
    }

    /// As [`Run::fail_with`], for a command that has run, in place of what it has answered from `from` on.
    pub fn fail_run(&mut self, index: CommandIndex, from: usize, error: &CommandError) {
        self.batch.out.truncate(from);
        self.worker.metrics.failed(index);
        self.fail_with(error);
    }
}
