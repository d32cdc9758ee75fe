//! What a batch is run under: quorums and limits by the options and by what the connection asked for.

use crate::base::config::{QuorumMode, Settings};
use crate::base::wire::{Reader, WireError};
use crate::commands::spec::{CommandLimits, WHOLE_BYTES_MAX};
use crate::protocol::{Limits, REPLY_BYTES_MAX};
use crate::replication::routing::Quorum;
use crate::replication::view::View;

/// What a connection has told us about how its requests are to be run: RONDO.CONSISTENCY, and beside that CLIENT
/// NO-TOUCH.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Consistency {
    /// W, if it asked for one.
    pub write: Option<usize>,
    /// R, if it asked for one.
    pub read: Option<usize>,
    /// Strict or sloppy, if it asked for either.
    pub strict: Option<bool>,
    /// What it asks is no use of a key.
    pub no_touch: bool,
}

/// In the first byte of a [`Consistency`] on its way.
const NO_TOUCH: u8 = 4;

impl Consistency {
    /// Appends it as it travels with a forwarded request, in three bytes; 0 where the connection asked for nothing.
    pub fn put(self, out: &mut Vec<u8>) {
        let byte = |number: Option<usize>| number.map_or(0, |number| u8::try_from(number).unwrap_or(u8::MAX));
        out.extend_from_slice(&[
            self.strict.map_or(0, |strict| 1 + u8::from(strict)) | if self.no_touch { NO_TOUCH } else { 0 },
            byte(self.write),
            byte(self.read),
        ]);
    }

    /// Reads what [`Consistency::put`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Consistency, WireError> {
        let first = reader.u8()?;
        let no_touch = first & NO_TOUCH != 0;
        let strict = match first & !NO_TOUCH {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            _ => return Err(WireError),
        };
        let mut number = || reader.u8().map(|number| (number != 0).then_some(usize::from(number)));
        Ok(Consistency { strict, write: number()?, read: number()?, no_touch })
    }
}

/// The limits of the scanner by the options.
pub fn scan_limits(settings: &Settings, authenticated: bool) -> Limits {
    Limits {
        bulk_bytes_max: settings.proto_max_bulk_len as usize,
        // Whatever is in one request can be told to other nodes in one frame.
        request_bytes_max: (settings.client_query_buffer_limit as usize).min(WHOLE_BYTES_MAX),
        authenticated,
        ..Limits::default()
    }
}

/// The limits of commands by the options and by the face that is asked.
pub fn command_limits(settings: &Settings, cluster_face: bool) -> CommandLimits {
    CommandLimits {
        // None that could not be read again.
        string_bytes_max: (settings.proto_max_bulk_len as usize).min(REPLY_BYTES_MAX),
        databases: u8::try_from(settings.databases).unwrap_or(u8::MAX),
        cluster_face,
        reply_bytes_max: REPLY_BYTES_MAX,
        whole_bytes_max: WHOLE_BYTES_MAX,
    }
}

/// Most bytes of replies that are kept for a client, if it is not for what it listens to: the hard
/// `client-output-buffer-limit`.
pub fn output_bytes_max(settings: &Settings) -> Option<usize> {
    usize::try_from(settings.client_output_buffer_limit.normal.hard_bytes).ok().filter(|bytes| *bytes != 0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Config, Sources, load};

    #[test]
    fn no_option_lets_a_command_make_a_string_that_no_reply_holds() {
        for (text, bytes_max) in [("1mb", 1 << 20), ("8gb", REPLY_BYTES_MAX)] {
            let flags = vec![("proto-max-bulk-len".to_owned(), vec![text.to_owned()])];
            let sources = Sources { flags, ..Sources::default() };
            let loaded = load(&sources, &|_| unreachable!("no file is given")).expect("good options");
            let config = Config::new(loaded).expect("good options");
            assert_eq!(command_limits(&config.settings(), false).string_bytes_max, bytes_max);
        }
    }

    #[test]
    fn what_a_connection_asked_for_travels_whole() {
        let (some, most) = (Some(2), Some(255));
        for (strict, no_touch) in [None, Some(false), Some(true)].into_iter().flat_map(|it| [(it, false), (it, true)]) {
            for (write, read) in [(None, None), (some, None), (None, some), (most, some)] {
                let (wish, mut bytes) = (Consistency { write, read, strict, no_touch }, Vec::new());
                wish.put(&mut bytes);
                assert_eq!((bytes.len(), Consistency::read(&mut Reader::new(&bytes))), (3, Ok(wish)));
            }
        }
        let mut bytes = Vec::new();
        Consistency { write: Some(1 << 20), ..Consistency::default() }.put(&mut bytes);
        assert_eq!(
            Consistency::read(&mut Reader::new(&bytes)).map(|it| it.write),
            Ok(most),
            "more than any cluster has"
        );
        assert!(Consistency::read(&mut Reader::new(&[3, 0, 0])).is_err());
        assert!(Consistency::read(&mut Reader::new(&[1, 0])).is_err());
    }
}
