//! Coordinator, replicas, quorums, hints and repair.
//!
//! | file | what it is |
//! |---|---|
//! | `routing` | pure: who coordinates a slot now, who gets its deltas, who may confirm a read |
//! | `coordinator` | the coordinator's side: deltas and verifies onto lanes, what to wait for, answers merged |
//! | `replica` | the other side: applies deltas, confirms or contradicts verifies |
//!
//! A request never waits on its own: the commands of a batch append frames, and the batch's replies are held until the
//! lanes' acknowledgements have passed the last of them ([`coordinator::Wait`]).

pub mod coordinator;
pub mod replica;
pub mod routing;
