//! What a node does for its clients: connections, batches of requests, what is asked of other nodes, publish and
//! subscribe, and the HTTP side.
//!
//! | file | what it is |
//! |---|---|
//! | `error` | what clients read when a request could not be run |
//! | `figures` | what a node knows of itself in figures |
//! | `pubsub` | publish and subscribe over the whole cluster, and keyspace events |
//! | `session` | what a connection has agreed on with its client |
//! | `state` | what all connections of a node share |
//! | `commands` | commands that need the server rather than keys |
//! | `forward` | asking another node |
//! | `batch` | the replies to all requests of one read |
//! | `spares` | the memory of batches that are over, for the next |
//! | `worker` | one thread, its share of the connections, what they work with |
//! | `share` | a node's share of commands about the whole keyspace |
//! | `request` | one request, from its row to its reply |
//! | `transaction` | what of a transaction runs as one |
//! | `job` | requests that must be alone and may wait |
//! | `connection` | bytes in, batches, bytes out |
//! | `admin` | the HTTP side of a node |
//!
//! A request comes in by `connection` and goes down: what cannot be answered without waiting to `job`, everything else
//! to `request`, at once; that runs it on the store, or leaves it in its `batch` to be asked of another node by
//! `forward`. Its reply stands in the batch until all that it depends on is known, and goes out by the connection. Each
//! of these imports only those above it here (`tests/tidy` proves it).

pub mod error;
pub mod figures;
pub mod pubsub;
pub mod session;
pub mod state;
pub mod commands;
pub mod forward;
pub mod batch;
pub mod spares;
pub mod worker;
pub mod share;
pub mod request;
pub mod transaction;
pub mod job;
pub mod connection;
pub mod admin;
