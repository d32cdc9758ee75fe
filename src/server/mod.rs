//! What a node does for its clients: connections, batches of requests, what is asked of other nodes, publish and
//! subscribe, and the HTTP side.
//!
//! A request comes in by `connection` and goes down: what cannot be answered without waiting to `job`, everything else
//! to `request`, at once; that runs it on the store, or leaves it in its `batch` to be asked of another node by
//! `forward`. Its reply stands in the batch until all that it depends on is known, and goes out by the connection. Each
//! of these imports only those above it here (`tests/tidy` proves it).

pub mod figures;
pub mod pubsub;
pub mod session;
pub mod state;
pub mod commands;
pub mod forward;
pub mod batch;
pub mod worker;
pub mod share;
pub mod request;
pub mod transaction;
pub mod job;
pub mod connection;
pub mod admin;
