//! Whether a request may run, and what its client reads if not.
//!
//! Everything that is said here is said before anything is done, in the order in which Redis looks.

use crate::commands::spec::{Command, flag};
use crate::commands::{CommandError, subcommands};
use crate::protocol::Args;
use crate::server::request::run::{Origin, Run};
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
        // A part of a request was admitted with it; its transaction may have subscribed since.
        if self.origin == Origin::Client && self.client.is_in(state::SUBSCRIBED | state::MONITOR) {
            self.admit_listening(named)?;
        }
        // What is queued takes memory, whatever it is.
        let takes_memory = command.has(flag::DENYOOM) || self.transaction.queues(command);
        if takes_memory && self.worker.shared.node.store.is_over_limit() {
            self.make_room()?;
        }
        Ok(())
    }
}
