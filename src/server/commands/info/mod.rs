//! INFO: the node's figures as text, in Redis's sections, names and order, and in two sections of our own.
//!
//! | file | what it is |
//! |---|---|
//! | `sections` | the sections of INFO, one function each, and their order |
//!
//! Tools find fields by searching the text for their names, so the order is Redis 7.0.15's: a name must not come
//! before a longer one that ends alike. Fields of what rondo does not have (snapshots, a replication backlog, scripts)
//! are there with the value that a Redis shows which does not use it, because tools stumble over missing ones.
//! `# Ring` and `# Quorum` come last.

use crate::base::config::Settings;
use crate::base::metrics::{Gauges, Totals};
use crate::protocol::{Args, Reply};
use crate::server::figures::Rates;
use crate::server::figures::memory::MemoryFigures;
use crate::server::figures::process::Process;
use crate::server::state::snapshot::RingFigures;

mod sections;

/// The Redis whose commands and replies these are; clients choose what to send by it.
pub const REDIS_VERSION: &str = "7.0.15";

/// Everything that INFO tells, read at one time.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The options in force.
    pub settings: &'a Settings,
    /// The file they came from, or nothing.
    pub config_file: &'a str,
    /// The process.
    pub process: &'a Process,
    /// What was counted since CONFIG RESETSTAT.
    pub totals: &'a Totals,
    /// The states.
    pub gauges: &'a Gauges,
    /// How fast things go.
    pub rates: Rates,
    /// Error replies by code.
    pub errors: &'a [(String, u64)],
    /// Memory.
    pub memory: MemoryFigures,
    /// Keys by database.
    pub databases: &'a [Database],
    /// Changes of keys since the start.
    pub changes: u64,
    /// Clients, and what they listen to.
    pub clients: ClientFigures,
    /// The face that is asked.
    pub face: Face,
    /// This node in the ring.
    pub ring: &'a RingFigures,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

/// One database that is not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Database {
    /// Its number.
    pub db: u8,
    /// Keys in it.
    pub keys: u64,
    /// Those with a deadline.
    pub expires: u64,
}

/// Clients in figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientFigures {
    /// Connected now.
    pub connected: usize,
    /// Those whose command waits.
    pub blocked: usize,
    /// The most bytes of requests that wait on one connection.
    pub input_bytes_max: usize,
    /// The most bytes of replies that wait on one connection.
    pub output_bytes_max: usize,
    /// Channels, patterns and shard channels that anybody is subscribed to.
    pub subscribed: [usize; 3],
}

/// The face of the node that a client is connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Face {
    /// Its port.
    pub port: u16,
    /// It behaves as a node of a Redis Cluster.
    pub cluster: bool,
}

/// Answers INFO, with or without names of sections.
pub fn run(args: Args<'_>, facts: &Facts<'_>, out: &mut Reply<'_>) {
    out.verbatim(b"txt", text(&args.iter().skip(1).collect::<Vec<_>>(), facts).as_bytes());
}

/// The text of these sections, or of those that are shown by default.
pub fn text(wanted: &[&[u8]], facts: &Facts<'_>) -> String {
    let names =
        |names: &[&str]| wanted.iter().any(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes())));
    let everything = names(&["all", "everything"]);
    let default = wanted.is_empty() || names(&["default"]);
    let mut text = String::new();
    for section in sections::ALL {
        let named = names(&[section.name]);
        if named || everything || (default && section.default) {
            if !text.is_empty() {
                text += "\r\n";
            }
            text += &format!("# {}\r\n", section.title);
            (section.write)(&mut sections::Lines(&mut text), facts);
        }
    }
    text
}

#[cfg(test)]
mod tests;
