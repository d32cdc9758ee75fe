//! MONITOR: connections that are shown what clients ask of this node, as it is asked.
//!
//! Form and rules are those of Redis: a command is shown once it was run or handed to the node that runs it, those of a
//! transaction when EXEC has run them; what was refused before it ran, what administers the node, and passwords are not
//! shown. As on a node of Redis Cluster it is this node's own clients that are shown, on either face, and neither what
//! other nodes ask of this one nor what clients send to them.
//!
//! While nobody watches, a batch pays one load. A line goes into the watcher's mailbox, so one that reads too slowly is
//! cut by the limit that holds for subscribers; that for other clients, 1 GB, would let it take too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::base::clock::wall_us;
use crate::base::config::BufferLimit;
use crate::commands::spec::{Command, flag};
use crate::commands::subcommands;
use crate::protocol::Args;
use crate::server::figures::slow_log::is_secret;
use crate::server::pubsub::Mailbox;
use crate::server::state::NodeState;
use crate::server::state::client::Client;

/// Who watches.
#[derive(Default, Debug)]
pub struct Monitors {
    is_watched: AtomicBool,
    mailboxes: Mutex<Vec<Arc<Mailbox>>>,
}

impl Monitors {
    /// Whether anybody watches.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Shows a connection what clients ask from now on.
    pub fn join(&self, mailbox: &Arc<Mailbox>) {
        mailbox.activate();
        let mut mailboxes = self.mailboxes.lock();
        mailboxes.push(mailbox.clone());
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Shows a connection no more.
    pub fn leave(&self, id: u64) {
        let mut mailboxes = self.mailboxes.lock();
        mailboxes.retain(|mailbox| mailbox.id != id);
        self.is_watched.store(!mailboxes.is_empty(), Ordering::Relaxed);
    }

    fn tell(&self, line: &[u8], limit: BufferLimit) {
        let now_ms = wall_us() / 1_000;
        self.mailboxes.lock().iter().for_each(|mailbox| mailbox.put(line, limit, now_ms));
    }
}

impl NodeState {
    /// Shows a request of `client`, which was run with this database, to all who watch.
    pub fn show(&self, client: &Client, db: u8, command: &'static Command, args: Args<'_>) {
        let row = match subcommands::of(command.name) {
            [] => Some(command),
            _ => subcommands::checked(command, args).ok(),
        };
        if row.is_some_and(|row| row.flags & (flag::ADMIN | flag::SKIP_MONITOR) == 0) {
            let limit = self.config.settings().client_output_buffer_limit.pubsub;
            self.monitors.tell(&line(wall_us(), db, client, args), limit);
        }
    }
}

/// The line that shows a request: when, the database, whose, and the arguments in quotes.
fn line(now_us: u64, db: u8, client: &Client, args: Args<'_>) -> Vec<u8> {
    let mut line = format!("+{}.{:06} [{db} {}]", now_us / 1_000_000, now_us % 1_000_000, client.addr).into_bytes();
    for (at, arg) in args.iter().enumerate() {
        line.extend_from_slice(b" \"");
        quote(&mut line, if is_secret(args, at) { b"(redacted)" } else { arg });
        line.push(b'"');
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Writes an argument so that its bytes can be told from the line around them.
fn quote(line: &mut Vec<u8>, arg: &[u8]) {
    for byte in arg {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', *byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x07 => line.extend_from_slice(b"\\a"),
            0x08 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(*byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_written_as_redis_writes_them() {
        let mut line = Vec::new();
        quote(&mut line, b"a \"\\\n\r\t\x07\x08\x00\x7f\xff");
        assert_eq!(line, br#"a \"\\\n\r\t\a\b\x00\x7f\xff"#);
    }

    #[test]
    fn a_watcher_is_told_until_it_leaves_or_is_too_slow() {
        let (monitors, limit) = (Monitors::default(), BufferLimit { hard_bytes: 8, soft_bytes: 0, soft_seconds: 0 });
        let [one, two] = [1, 2].map(|id| Arc::new(Mailbox::new(id)));
        assert!(!monitors.is_watched());
        monitors.join(&one);
        monitors.join(&two);
        monitors.tell(b"+first", limit);
        monitors.leave(2);
        assert!(monitors.is_watched());
        monitors.tell(b"+next", limit);
        assert_eq!((one.len_bytes(), two.len_bytes()), (0, 6), "one has more waiting than it may");
        monitors.leave(1);
        assert!(!monitors.is_watched());
    }
}
