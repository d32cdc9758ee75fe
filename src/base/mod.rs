//! What every other part may use: ids, sets of slots, time, versions, limits, options and metric names.
//!
//! The lowest layer. It imports nothing of ours, opens no socket and starts no task.

pub mod clock;
pub mod config;
pub mod glob;
pub mod ids;
pub mod metrics;
pub mod slots;
pub mod version;
pub mod wire;
pub mod words;
