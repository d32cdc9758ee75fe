//! Listeners, connections, the batch, dispatch, the two faces, and the HTTP side.

pub mod across;
pub mod admin;
pub mod batch;
pub mod clients;
pub mod connection;
pub mod commands;
pub mod dispatch;
pub mod events;
pub mod exec;
pub mod figures;
pub mod forward;
pub mod forwarded;
pub mod gather;
pub mod held;
pub mod meta;
pub mod process;
pub mod pubsub;
pub mod pulse;
pub mod recent;
pub mod share;
pub mod state;
pub mod subscribe;
pub mod topology;
pub mod transaction;
pub mod wait;
pub mod worker;
