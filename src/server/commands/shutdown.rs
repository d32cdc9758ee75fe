//! SHUTDOWN: what SIGTERM does.
//!
//! The node hands over its slots within `shutdown-timeout` and ends; there is no reply, the connection closes. NOW and
//! FORCE are accepted: there is no snapshot that could fail, and no replica of Redis's kind to wait for. SAVE is
//! refused, and so is ABORT, because a node that has begun to leave does not come back.

use tokio::sync::Notify;

use crate::commands::CommandError;
use crate::protocol::Args;

/// Tells the node to stop, or refuses.
pub fn run(args: Args<'_>, stop: &Notify) -> Result<(), CommandError> {
    let (mut saves, mut other, mut aborts) = (None, false, false);
    for word in args.iter().skip(1) {
        match word.to_ascii_uppercase().as_slice() {
            b"NOSAVE" if saves != Some(true) => saves = Some(false),
            b"SAVE" if saves != Some(false) => saves = Some(true),
            b"NOW" | b"FORCE" => other = true,
            b"ABORT" => aborts = true,
            _ => return Err(CommandError::Syntax),
        }
    }
    if aborts && (other || saves.is_some()) {
        return Err(CommandError::Syntax);
    }
    if aborts {
        return Err(CommandError::text("ERR No shutdown in progress."));
    }
    if saves == Some(true) {
        return Err(CommandError::text(
            "ERR SHUTDOWN SAVE is not supported: rondo keeps data in memory and on other nodes, not in files",
        ));
    }
    stop.notify_one();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Limits, Scanner};

    fn ask(line: &str) -> Option<String> {
        let (buf, mut scanner, stop) = (format!("{line}\r\n"), Scanner::new(), Notify::new());
        scanner.scan(buf.as_bytes(), &Limits::default()).expect("a request");
        run(scanner.args(buf.as_bytes()), &stop).err().map(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_done_is_refused_in_words() {
        for line in ["SHUTDOWN", "SHUTDOWN nosave", "SHUTDOWN NOSAVE NOW FORCE"] {
            assert_eq!(ask(line), None, "{line}");
        }
        for line in ["SHUTDOWN x", "SHUTDOWN NOSAVE SAVE", "SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT NOW"] {
            assert_eq!(ask(line).as_deref(), Some("ERR syntax error"), "{line}");
        }
        assert_eq!(ask("SHUTDOWN ABORT").as_deref(), Some("ERR No shutdown in progress."));
        assert!(ask("SHUTDOWN SAVE").is_some_and(|text| text.starts_with("ERR SHUTDOWN SAVE is not supported")));
    }
}
