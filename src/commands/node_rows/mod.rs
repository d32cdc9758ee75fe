//! Rows of the commands that the server runs: a file for each chapter of the manual, no function among them.
//!
//! They stand in the same table as every other command, so that COMMAND, arity checks, ACL categories and metrics need
//! no second list. Each names a `NodeCommand`; what it does is written in the server.

pub mod cluster;
pub mod connection;
pub mod keyspace;
pub mod pubsub;
pub mod server;
pub mod transactions;
