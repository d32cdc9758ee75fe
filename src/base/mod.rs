//! What every other part may use: ids, sets of slots, time, versions, limits, options, metric names and sockets.
//!
//! The lowest layer. It imports nothing of ours, opens no socket unasked and starts no task.

pub mod clock;
pub mod config;
pub mod glob;
pub mod ids;
pub mod metrics;
pub mod net;
pub mod slots;
pub mod throttle;
pub mod version;
pub mod wire;
pub mod words;
