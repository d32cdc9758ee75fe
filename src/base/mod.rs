//! What every other part may use: ids, sets of slots, time, versions, limits, options, metric names and sockets.
//!
//! | file | what it is |
//! |---|---|
//! | `ids`, `slots` | the names of hash slots, nodes and actors; a set of slots |
//! | `clock` | the wall clock, and the hybrid logical clock that stamps writes |
//! | `version` | dotted version vectors: which write of a key is newer |
//! | `wire`, `framing` | the fields of messages between nodes; messages one behind the other |
//! | `net` | tokio's sockets; in unit tests also those of a network in memory |
//! | `glob`, `words` | Redis's glob over bytes; a line cut into words, quotes understood |
//! | `throttle` | what would fill a log is let through seldom |
//! | `crowd` | connections that anybody may open: at most so many, and the oldest goes |
//! | `config` | every option of a node, from one table |
//! | `metrics` | what a node counts, from one table |
//!
//! The lowest layer. It imports nothing of ours, opens no socket unasked and starts no task.

pub mod clock;
pub mod glob;
pub mod ids;
pub mod metrics;
pub mod net;
pub mod slots;
pub mod throttle;
pub mod version;
pub mod wire;
pub mod framing;
pub mod words;
pub mod crowd;
pub mod config;
