//! An option's value in force, and who set it.

use super::kind::Value;
use std::fmt;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The table.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// The command line.
    Flag,
    /// CONFIG SET.
    Runtime,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(variable) => write!(f, "environment variable {variable}"),
            Origin::Flag => f.write_str("command line"),
            Origin::Runtime => f.write_str("CONFIG SET"),
        }
    }
}

/// The value in force of one option.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// Who set it.
    pub origin: Origin,
}
