//! Rows of the commands that the server runs: a file for each chapter of the manual, no function among them.
//!
//! | file | what it is |
//! |---|---|
//! | `cluster` | the cluster, for smart clients and those that ask a Sentinel |
//! | `connection` | connections: who is talking, in which protocol, to which database |
//! | `keyspace` | the whole keyspace, whichever nodes hold it |
//! | `pubsub` | publish and subscribe |
//! | `server` | the node: options, figures, diagnosis, shutdown |
//! | `transactions` | MULTI and its family |
//!
//! They stand in the same table as every other command, so that COMMAND, arity checks, ACL categories and metrics need
//! no second list. Each names a `NodeCommand`; what it does is written in the server.

pub mod cluster;
pub mod connection;
pub mod keyspace;
pub mod pubsub;
pub mod server;
pub mod transactions;
