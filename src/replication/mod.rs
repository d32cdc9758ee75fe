//! Coordinator, replicas, quorums, hints and repair.
//!
//! | file | what it is |
//! |---|---|
//! | `routing` | pure: who coordinates a slot now, who gets its deltas, who may confirm a read |
//! | `view` | what a batch goes by: who does what, and the peers |
//! | `wait` | what a batch waits for |
//! | `quorum` | what a command asks of replicas: that W hold its deltas, that R agree with what it has read |
//! | `coordinator` | frames onto lanes, and what becomes of replicas' answers |
//! | `repair` | what the coordinator does when a replica contradicts it |
//! | `replica` | the other side: applies deltas, confirms or contradicts verifies, promises slots |
//! | `ballot` | pure: the rules of promises, by which strict writes have one author at a time; their proof |
//! | `ballots` | what this node has promised, and which of its slots are not settled |
//! | `campaign` | asking for promises |
//! | `settle` | confirming keys and comparing slots before a new coordinator builds on what it holds |
//! | `strict` | strict commands at the coordinator |
//! | `view_change` | turning to a new view: promises given under other rings are withdrawn |
//! | `test_support` | for tests: a coordinator that holds nothing, and views of three nodes |
//!
//! A request never waits on its own: the commands of a batch append frames, and the batch's replies wait until the
//! lanes' acknowledgements have passed the last of them ([`wait::Wait`]).

pub mod ballot;
pub mod ballots;
pub mod routing;
pub mod wait;
pub mod view;
pub mod coordinator;
mod campaign;
mod repair;
mod strict;
pub mod settle;
pub mod replica;
mod quorum;
mod view_change;

#[cfg(test)]
mod ballot_tests;
#[cfg(test)]
pub mod test_support;
