//! Commands that need the server rather than keys: connections, figures, diagnosis.
//!
//! Each is a function of the request, of the part of the server it is about, and of the time; it writes its reply, or
//! returns an error having written none. None of them waits. Their rows are in `commands::node_rows`, those of their
//! subcommands in `commands::subcommands`.

pub mod client;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod info;
pub mod latency;
pub mod memory;
pub mod sentinel;
pub mod slowlog;
