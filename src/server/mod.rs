//! What a node does for its clients: connections, batches of requests, what is asked of other nodes, publish and subscribe,
//! and the HTTP side.

pub mod across;
pub mod admin;
pub mod again;
pub mod ages;
pub mod batch;
pub mod connection;
pub mod commands;
pub mod events;
pub mod exec;
pub mod figures;
pub mod forward;
pub mod forwarded;
pub mod gather;
mod input;
pub mod job;
pub mod meta;
pub mod monitor;
pub mod pause;
pub mod pubsub;
pub mod share;
pub mod request;
pub mod session;
pub mod state;
pub mod transaction;
pub mod wait;
pub mod walk;
pub mod watch;
pub mod worker;
