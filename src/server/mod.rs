//! Listeners, connections, the batch, dispatch, the two faces, and the HTTP side.

pub mod admin;
pub mod clients;
pub mod commands;
pub mod figures;
pub mod process;
pub mod pulse;
pub mod state;
pub mod topology;
