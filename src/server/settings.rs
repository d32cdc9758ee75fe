//! What a batch is run under: quorums and limits by the options and by what the connection asked for, and the time.

use crate::base::config::{QuorumMode, Settings};
use crate::commands::spec::CommandLimits;
use crate::protocol::{Limits, Proto};
use crate::replication::coordinator::View;
use crate::replication::routing::Quorum;
use crate::server::forward::ask;

/// What a connection has told us about consistency: RONDO.CONSISTENCY.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Consistency {
    /// W, if it asked for one.
    pub write: Option<usize>,
    /// R, if it asked for one.
    pub read: Option<usize>,
    /// Strict or sloppy, if it asked for either.
    pub strict: Option<bool>,
}

/// The limits of the scanner by the options.
pub fn scan_limits(settings: &Settings, authenticated: bool) -> Limits {
    Limits {
        bulk_bytes_max: settings.proto_max_bulk_len as usize,
        request_bytes_max: settings.client_query_buffer_limit as usize,
        authenticated,
        ..Limits::default()
    }
}

/// The limits of commands by the options.
pub fn command_limits(settings: &Settings) -> CommandLimits {
    CommandLimits {
        string_bytes_max: settings.proto_max_bulk_len as usize,
        databases: u8::try_from(settings.databases).unwrap_or(u8::MAX),
    }
}

/// W and R of a connection: what it asked for, or the options, capped by how many replicas there are; a majority at
/// least in strict mode.
pub fn quorum_of(settings: &Settings, wish: Consistency, view: &View) -> Quorum {
    let replicas = view.replicas.max(1);
    let capped = |wanted: Option<usize>, option: usize| wanted.unwrap_or(option).clamp(1, replicas);
    let (write, read) = (capped(wish.write, settings.write_quorum), capped(wish.read, settings.read_quorum));
    let quorum = Quorum { write, read, strict: false };
    let strict = wish.strict.unwrap_or(settings.quorum_mode == QuorumMode::Strict);
    if strict { quorum.strict(replicas) } else { quorum }
}

/// The wall clock in microseconds since 1970.
pub fn wall_us() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_micros() as u64
}

/// The protocol version that a question asks for.
pub fn proto_of(flags: u8) -> Proto {
    if flags & ask::RESP3 != 0 { Proto::Resp3 } else { Proto::Resp2 }
}
