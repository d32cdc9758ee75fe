//! A Redis-protocol distributed cache without a leader: the library behind the `rondo` program.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod base;
pub mod protocol;
pub mod store;
pub mod ring;
pub mod membership;
pub mod commands;
pub mod peer;
pub mod cluster;
pub mod replication;
pub mod server;
pub mod node;
pub mod bench;
pub mod cli;
