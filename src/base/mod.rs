//! What every other part may use: ids, time, versions, limits, options and metric names.
//!
//! The lowest layer. It imports nothing of ours, opens no socket and starts no task.

pub mod clock;
pub mod config;
pub mod glob;
pub mod ids;
pub mod metrics;
pub mod version;
pub mod wire;
