//! Single requests as they came: scanned alone, apart from any [`Window`](super::window::Window).

use crate::commands::spec::flag;
use crate::commands::{CommandError, table};
use crate::protocol::{Limits, Scan, Scanner};

/// A scanner that holds one whole request.
pub fn scanned(request: &[u8]) -> Result<Scanner, CommandError> {
    let mut scanner = Scanner::new();
    match scanner.scan(request, &Limits::judged()) {
        Ok(Scan::Request { .. }) => Ok(scanner),
        _ => Err(CommandError::Syntax),
    }
}

/// Whether one whole request may write.
pub fn writes(request: &[u8]) -> bool {
    let row = scanned(request).ok().and_then(|scanner| table::find(scanner.args(request).name()));
    row.is_some_and(|(_, command)| command.has(flag::WRITE))
}
