//! What of a transaction runs as one. Who is to run each group is asked by `job::exec`.
//!
//! | file | what it is |
//! |---|---|
//! | `queued` | the requests, cut apart and looked up once |
//! | `runner` | who runs one request, or what depends on watched keys |
//! | `groups` | who runs what: requests that one node runs as a whole |
//! | `replies` | what has come of each request, group by group |
//! | `together` | runs requests under the locks of all their slots |

pub mod queued;
pub mod runner;
pub mod groups;
pub mod replies;
pub mod together;

use crate::server::transaction::queued::{Queued, only_read};

/// Why requests that were to run as one have no replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoReplies {
    /// A watched key has changed; nothing was done.
    Changed,
    /// Nothing was done: they may not be run where they were to run, or not yet.
    NotRun,
    /// They may have run: their node did not answer.
    Unknown,
}

/// How requests were run, which says what may be run again when a read of theirs turns out not to stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ran {
    /// Each for itself.
    Apart,
    /// As one: none of them may run again alone, since it would show what was written after the others had run.
    Together,
    /// As one that only read: all of them may run again, but none alone.
    TogetherReading,
}

impl Ran {
    /// For requests that ran as one.
    pub fn as_one(requests: &[Queued<'_>]) -> Ran {
        if only_read(requests) { Ran::TogetherReading } else { Ran::Together }
    }
}
