//! What a client reads when its request could not be run, or not be known to be, as the cluster stands.
//!
//! These are no command's own errors (`commands::error`): the same request may succeed a moment later, or have
//! succeeded. All their texts stand here, with what follows from them. To another node an error is its text, so
//! [`RequestError::of`] tells which one a text is, and nothing else looks into texts.
//!
//! Whose fault: nobody's, or the operator's. State: unchanged, but for [`RequestError::UnknownOutcome`] and
//! [`RequestError::PartlyDone`]; of a FLUSHALL, some slots may be cleared. Retry: as [`RequestError::may_retry`] says.

use crate::commands::CommandError;
use crate::replication::view::{QuorumError, Unserved};

/// See the head of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// This node belongs to no cluster yet.
    NotJoined,
    /// Nobody is known who serves the slot, on the cluster face.
    NotServed,
    /// The slot has no coordinator, or that one reaches too few replicas.
    Unserved(Unserved),
    /// Too few replicas were found for so long that they are not asked any more.
    NobodyInTime,
    /// A node that has a part in it did not answer.
    NodeSilent,
    /// None of a slot's replicas answers.
    NoReplica,
    /// Some slots were not flushed.
    NotCleared,
    /// In strict mode: this node may not know yet what a majority holds.
    NotConfirmed,
    /// A write reached its coordinator and may or may not have reached enough replicas.
    UnknownOutcome,
    /// Some keys of a command that each coordinator runs for its own keys were changed, and some were not.
    PartlyDone,
    /// `maxmemory` is reached, and nothing may be evicted.
    OutOfMemory,
}

impl RequestError {
    const ALL: [RequestError; 14] = [
        RequestError::NotJoined,
        RequestError::NotServed,
        RequestError::Unserved(Unserved::Waiting),
        RequestError::Unserved(Unserved::NoCoordinator),
        RequestError::Unserved(Unserved::Quorum(QuorumError::Write)),
        RequestError::Unserved(Unserved::Quorum(QuorumError::Read)),
        RequestError::NobodyInTime,
        RequestError::NodeSilent,
        RequestError::NoReplica,
        RequestError::NotCleared,
        RequestError::NotConfirmed,
        RequestError::UnknownOutcome,
        RequestError::PartlyDone,
        RequestError::OutOfMemory,
    ];

    /// What the client reads, without the leading `-`.
    pub const fn text(self) -> &'static str {
        match self {
            RequestError::NotJoined => "CLUSTERDOWN Hash slot not served: this node has not joined its cluster yet",
            RequestError::NotServed => "CLUSTERDOWN Hash slot not served",
            RequestError::Unserved(error) => error.text(),
            RequestError::NobodyInTime => "CLUSTERDOWN too few replicas of this hash slot answered in time",
            RequestError::NodeSilent => "CLUSTERDOWN a node that coordinates some of the keys did not answer",
            RequestError::NoReplica => "CLUSTERDOWN no replica of this hash slot answers",
            RequestError::NotCleared => {
                "CLUSTERDOWN some hash slots could not be cleared: too few of their replicas are reachable"
            }
            RequestError::NotConfirmed => {
                "CLUSTERDOWN some hash slots may lack what others hold: too few of their replicas have answered yet"
            }
            RequestError::UnknownOutcome => {
                "TIMEOUT the write's outcome is unknown: too few replicas confirmed it, or another node ran its key's commands meanwhile"
            }
            RequestError::PartlyDone => {
                "TIMEOUT some of the keys were changed and others were not: too few replicas answered for those, or memory is full"
            }
            RequestError::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        }
    }

    /// Which of these a text is that a node answered; `None` for an error of the command itself.
    pub fn of(text: &[u8]) -> Option<RequestError> {
        RequestError::ALL.into_iter().find(|error| error.text().as_bytes() == text)
    }

    /// Whether a text that a node answered is one of these after which the same request may succeed a moment later.
    pub fn is_passing(text: &[u8]) -> bool {
        RequestError::of(text).is_some_and(RequestError::may_retry)
    }

    /// This error as the answer of a command.
    pub const fn refusal(self) -> CommandError {
        CommandError::text(self.text())
    }

    /// Whether nothing has happened that a second time would not do as well, and the same request may succeed a moment
    /// later.
    pub fn may_retry(self) -> bool {
        !matches!(self, RequestError::UnknownOutcome | RequestError::PartlyDone | RequestError::OutOfMemory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_tells_which_error_it_is_and_its_code_whether_to_ask_again() {
        for error in RequestError::ALL {
            assert_eq!(RequestError::of(error.text().as_bytes()), Some(error));
            assert_eq!(error.may_retry(), error.text().starts_with("CLUSTERDOWN "), "{error:?}");
        }
        assert_eq!(RequestError::of(b"WRONGTYPE Operation against a key holding the wrong kind of value"), None);
        assert_eq!(RequestError::of(b"CLUSTERDOWN"), None);
    }
}
