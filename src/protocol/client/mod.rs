//! The client's side of RESP2 and RESP3: writes commands, reads replies. For the load generator, the tools, links to
//! other servers and tests.
//!
//! | file | what it is |
//! |---|---|
//! | `scan` | finds where a reply ends |
//! | `token` | the smallest readable piece: a scalar, or an aggregate's announcement |
//! | `value` | replies as owned values |
//!
//! [`ReplyScanner`] finds where a reply ends, and no more; that is all a load generator needs. [`ReplyDecoder`] makes a
//! [`Value`] of it. Both take a buffer that starts with the current reply's first byte and remember how far they got.
//!
//! A server is not trusted: depth, lengths and the whole reply are bounded by [`ReplyLimits`], what a server announces
//! allocates nothing, and the line ends that Redis promises are checked. Attributes are read past and dropped. RESP3's
//! streamed strings and aggregates (`$?`, `*?`) are refused: Redis 7.0.15 never sends them.
//!
//! Not built on redis-protocol's decoder, which has none of those bounds, loses the order of maps and sets, takes
//! RESP2's null for the start of a stream, and refuses errors that are not UTF-8 (Redis quotes what clients sent). The
//! tests compare the two wherever both apply.

mod token;
mod scan;
mod value;

pub use scan::{ReplyKind, ReplyScanner, ScannedReply};
pub use value::{ReplyDecoder, Value};

/// Appends the request that `args` make, the command's name first.
pub fn encode_command<A: AsRef<[u8]>>(buf: &mut Vec<u8>, args: &[A]) {
    let mut reply = super::Reply::new(buf, super::Proto::Resp2);
    reply.array(args.len());
    for arg in args {
        reply.bulk(arg.as_ref());
    }
}

/// The bounds of one reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyLimits {
    /// Longest line, in bytes: simple texts, errors, numbers.
    pub line_bytes_max: usize,
    /// Longest bulk, in bytes.
    pub bulk_bytes_max: usize,
    /// Most elements of one aggregate; a map's pairs count as two.
    pub elements_max: usize,
    /// Longest whole reply, in bytes.
    pub reply_bytes_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> ReplyLimits {
        ReplyLimits {
            line_bytes_max: 1024 * 1024,
            bulk_bytes_max: 512 * 1024 * 1024,
            elements_max: 1 << 28,
            reply_bytes_max: 2 * 1024 * 1024 * 1024,
        }
    }
}

impl ReplyLimits {
    /// For a reply that all has arrived, under other bounds: nothing is left to be bounded but its depth.
    pub fn arrived() -> ReplyLimits {
        let max = usize::MAX;
        ReplyLimits { line_bytes_max: max, bulk_bytes_max: max, elements_max: max, reply_bytes_max: max }
    }
}

/// How deeply aggregates may lie in each other.
pub const DEPTH_MAX: usize = 32;

/// The server's reply cannot be read: the server's fault, or it is no RESP server. The connection is of no further use;
/// whether the commands without a reply ran is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplyError {
    /// No type of reply starts with this byte.
    #[error("no reply starts with the byte 0x{0:02x}")]
    UnknownType(u8),
    /// The named part of a reply is not what its type asks for.
    #[error("malformed reply: {0}")]
    Malformed(&'static str),
    /// More than [`DEPTH_MAX`] aggregates in each other.
    #[error("reply nested too deeply")]
    TooDeep,
    /// Longer than [`ReplyLimits`] allow.
    #[error("reply too long")]
    TooLong,
}

#[cfg(test)]
mod tests;
