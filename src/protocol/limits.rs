//! What a request may not exceed, and what is said to a client that breaks the protocol.
//!
//! Texts and their order are those of Redis 7.0.15. Three limits are ours: an argument count above `args_max` (Redis
//! 7.0 takes 2,147,483,647, Redis 6 took 1,048,576), `request_bytes_max` (Redis holds its buffer to
//! `client-query-buffer-limit`, but lets big arguments bypass it), and the length of a line, which is held exactly,
//! where Redis lets a longer one through when its end happens to arrive in the same read.

use super::reply::Reply;

/// The longest argument count and bulk length taken from a client that has not authenticated (CVE-2021-32675).
const UNAUTHENTICATED_ARGS_MAX: usize = 10;
const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;
const UNAUTHENTICATED_REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// The bounds of one request. Checked before the bytes they bound have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most arguments of one request, the command's name included.
    pub args_max: usize,
    /// Longest single argument, in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Longest inline request, and longest line that announces a count or a length, in bytes.
    pub inline_bytes_max: usize,
    /// Longest whole request, in bytes (`client-query-buffer-limit`); never more than 4 GiB counts.
    pub request_bytes_max: usize,
    /// Whether the client has authenticated or need not. If not, the small bounds hold on top of the others.
    pub authenticated: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            args_max: 1_048_576,
            bulk_bytes_max: 512 * 1024 * 1024,
            inline_bytes_max: 64 * 1024,
            request_bytes_max: 1024 * 1024 * 1024,
            authenticated: true,
        }
    }
}

impl Limits {
    /// The default bounds for a client that has yet to authenticate: 10 arguments of 16 KiB, 1 MiB in all.
    pub fn unauthenticated() -> Limits {
        Limits { request_bytes_max: UNAUTHENTICATED_REQUEST_BYTES_MAX, authenticated: false, ..Limits::default() }
    }

    /// For a request that all has arrived and was judged before, by this node or another: nothing is judged again but
    /// whether it fits the scanner.
    pub fn judged() -> Limits {
        let max = usize::MAX;
        Limits {
            args_max: max,
            bulk_bytes_max: max,
            inline_bytes_max: max,
            request_bytes_max: max,
            authenticated: true,
        }
    }

    /// Judges an announced number of arguments, which may be zero or negative: such a request is empty.
    pub(super) fn check_count(&self, count: i64) -> Result<usize, ProtocolError> {
        let count = usize::try_from(count.max(0)).map_err(|_| ProtocolError::InvalidMultibulkLength)?;
        if count > i32::MAX as usize {
            Err(ProtocolError::InvalidMultibulkLength)
        } else if !self.authenticated && count > UNAUTHENTICATED_ARGS_MAX {
            Err(ProtocolError::UnauthenticatedMultibulkLength)
        } else if count > self.args_max {
            Err(ProtocolError::InvalidMultibulkLength)
        } else {
            Ok(count)
        }
    }

    /// Judges an announced argument length.
    pub(super) fn check_bulk(&self, len: i64) -> Result<usize, ProtocolError> {
        let len = usize::try_from(len).map_err(|_| ProtocolError::InvalidBulkLength)?;
        if len > self.bulk_bytes_max {
            Err(ProtocolError::InvalidBulkLength)
        } else if !self.authenticated && len > UNAUTHENTICATED_BULK_BYTES_MAX {
            Err(ProtocolError::UnauthenticatedBulkLength)
        } else {
            Ok(len)
        }
    }

    /// The most arguments that [`Limits::check_count`] lets pass.
    pub(super) fn args_allowed(&self) -> usize {
        if self.authenticated { self.args_max } else { self.args_max.min(UNAUTHENTICATED_ARGS_MAX) }
    }

    /// The longest argument that [`Limits::check_bulk`] lets pass.
    pub(super) fn bulk_bytes_allowed(&self) -> usize {
        if self.authenticated { self.bulk_bytes_max } else { self.bulk_bytes_max.min(UNAUTHENTICATED_BULK_BYTES_MAX) }
    }

    /// The longest request whose positions fit the scanner's 32-bit ranges.
    pub(super) fn request_bytes(&self) -> usize {
        self.request_bytes_max.min(u32::MAX as usize)
    }
}

/// A client broke the protocol: its fault. No command of the request ran; the requests before it stand. The connection
/// writes the text after the replies it already owes, and closes: where the next request starts is no longer known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The number after `*` is no number, or too big.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// More arguments than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// The line after `*` does not end.
    #[error("Protocol error: too big mbulk count string")]
    TooBigCountLine,
    /// An argument starts with this byte.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// The number after `$` is no number, negative or too big.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// A longer argument than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// The line after `$` does not end.
    #[error("Protocol error: too big bulk count string")]
    TooBigBulkLine,
    /// An inline request does not end.
    #[error("Protocol error: too big inline request")]
    TooBigInline,
    /// An inline request has an open quote, or text right behind a closing one.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The request as a whole is longer than `request_bytes_max`.
    #[error("Protocol error: too big request")]
    TooBigRequest,
}

impl ProtocolError {
    /// Writes the error as Redis words it, the offending byte as it came (a line break as a space).
    pub fn write(&self, reply: &mut Reply<'_>) {
        match self {
            ProtocolError::ExpectedBulk(byte) => {
                let mut text = *b"ERR Protocol error: expected '$', got '?'";
                let [.., place, _quote] = &mut text;
                *place = *byte;
                reply.error(text);
            }
            other => reply.error(format!("ERR {other}")),
        }
    }
}
