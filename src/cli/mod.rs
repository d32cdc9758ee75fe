//! The command line: what was asked for and who does it.
