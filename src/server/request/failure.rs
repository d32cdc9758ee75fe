//! Errors as replies: all go out by one door, so that all are counted alike.

use crate::commands::CommandError;
use crate::commands::table::CommandIndex;
use crate::protocol::REPLY_BYTES_MAX;
use crate::server::request::run::Run;

impl Run<'_> {
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
