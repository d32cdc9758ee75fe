//! Single requests as they came: scanned alone, apart from any [`Window`](super::window::Window).

use crate::commands::spec::{Command, flag};
use crate::commands::{CommandError, subcommands, table};
use crate::protocol::{Limits, Scan, Scanner};

/// A scanner that holds one whole request.
pub fn scanned(request: &[u8]) -> Result<Scanner, CommandError> {
    let mut scanner = Scanner::new();
    match scanner.scan(request, &Limits::judged()) {
        Ok(Scan::Request { .. }) => Ok(scanner),
        _ => Err(CommandError::Syntax),
    }
}

/// What one whole request asks for by its first word.
pub fn command_of(request: &[u8]) -> Option<&'static Command> {
    let scanner = scanned(request).ok()?;
    table::find(scanner.args(request).name()).map(|(_, command)| command)
}

/// Whether one whole request may write.
pub fn writes(request: &[u8]) -> bool {
    command_of(request).is_some_and(|command| command.has(flag::WRITE))
}

/// Whether `holds` of some key of one whole request.
pub fn has_key(request: &[u8], holds: impl FnMut(&[u8]) -> bool) -> bool {
    let Ok(scanner) = scanned(request) else { return false };
    let args = scanner.args(request);
    let Some((_, command)) = table::find(args.name()) else { return false };
    subcommands::running(command, args).key_positions(args).filter_map(|at| args.get(at)).any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_request_are_looked_at_and_nothing_else() {
        let keys = |request: &[u8]| {
            let mut keys = Vec::new();
            has_key(request, |key| {
                keys.push(String::from_utf8_lossy(key).into_owned());
                false
            });
            keys
        };
        assert_eq!(keys(b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n"), ["a", "b"]);
        assert_eq!(keys(b"*3\r\n$6\r\nOBJECT\r\n$8\r\nENCODING\r\n$1\r\na\r\n"), ["a"]);
        assert!(keys(b"*1\r\n$4\r\nPING\r\n").is_empty() && keys(b"*1\r\n$4\r\nNONE\r\n").is_empty());
    }
}
