//! Counts replies in what was read, keeping no more of it than the start of a reply whose end is still to come.
//!
//! All connections of a thread read into one shared buffer. Where a read ends inside a reply, [`Replies`] keeps that
//! part, and puts it back in front of the next read, so a reply is always scanned in one piece. What a reply says is
//! not decoded; of an error the text is shown.
//!
//! Invariant: neither the kept part nor the buffer grows beyond what [`LIMITS`] allow one reply.

use crate::protocol::client::{ReplyError, ReplyKind, ReplyLimits, ReplyScanner, ScannedReply};

/// What a server may answer to one GET or SET.
const LIMITS: ReplyLimits = ReplyLimits {
    line_bytes_max: 64 * 1024,
    bulk_bytes_max: 512 * 1024 * 1024,
    elements_max: 1024,
    reply_bytes_max: 513 * 1024 * 1024,
};

/// What a reply was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// `+OK`, or anything else that is neither a string, nor null, nor an error.
    Done,
    /// A string: what a GET was for.
    Hit,
    /// No value.
    Miss,
    /// An error, with its text.
    Error(&'a [u8]),
}

/// The replies of one connection.
#[derive(Debug)]
pub struct Replies {
    scanner: ReplyScanner,
    /// The start of a reply.
    begun: Vec<u8>,
}

impl Replies {
    /// A connection that has answered nothing.
    pub fn new() -> Replies {
        Replies { scanner: ReplyScanner::new(LIMITS), begun: Vec::new() }
    }

    /// Puts the part of a reply that came earlier at the start of `buffer` and returns how long it is: what is read
    /// next belongs behind it. The buffer grows when less than half of it would be left.
    pub fn restore(&mut self, buffer: &mut Vec<u8>) -> usize {
        let length = self.begun.len();
        if length > buffer.len() / 2 {
            buffer.resize(length * 2, 0);
        }
        buffer.iter_mut().zip(&self.begun).for_each(|(to, from)| *to = *from);
        length
    }

    /// Calls `seen` for each reply that ends in `bytes`: the restored part and what was read behind it.
    pub fn take(&mut self, bytes: &[u8], mut seen: impl FnMut(Answer<'_>)) -> Result<(), ReplyError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(ScannedReply { consumed, kind }) = self.scanner.scan(rest)? else { break };
            let (reply, behind) = rest.split_at_checked(consumed).unwrap_or((rest, &[]));
            match kind {
                ReplyKind::Value if reply.first() == Some(&b'$') => seen(Answer::Hit),
                ReplyKind::Value => seen(Answer::Done),
                ReplyKind::Null => seen(Answer::Miss),
                ReplyKind::Error => seen(Answer::Error(text_of(reply))),
                ReplyKind::Push => {}
            }
            rest = behind;
        }
        self.begun.clear();
        self.begun.extend_from_slice(rest);
        Ok(())
    }
}

/// The text of `-text` or of `!length`, a line end and the text.
fn text_of(error: &[u8]) -> &[u8] {
    let text = match error.split_first() {
        Some((b'!', rest)) => rest.splitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default(),
        Some((_, rest)) => rest,
        None => error,
    };
    text.strip_suffix(b"\r\n").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a stream in reads of `step` bytes.
    fn count(stream: &[u8], step: usize, buffer: &mut Vec<u8>) -> Result<Vec<String>, ReplyError> {
        let (mut replies, mut seen) = (Replies::new(), Vec::new());
        for part in stream.chunks(step) {
            let start = replies.restore(buffer);
            buffer[start..start + part.len()].copy_from_slice(part);
            replies.take(&buffer[..start + part.len()], |reply| {
                seen.push(match reply {
                    Answer::Error(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                });
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn replies_are_counted_wherever_the_stream_is_cut() {
        let stream = b"+OK\r\n$3\r\na\nb\r\n$0\r\n\r\n$-1\r\n_\r\n-MOVED 1 h:2\r\n>2\r\n+invalidate\r\n*0\r\n\
            !5\r\nERR x\r\n:1\r\n$40\r\n0123456789012345678901234567890123456789\r\n";
        let seen = ["Done", "Hit", "Hit", "Miss", "Miss", "MOVED 1 h:2", "ERR x", "Done", "Hit"];
        for step in 1..stream.len() {
            let mut buffer = vec![0; 2 * step];
            assert_eq!(count(stream, step, &mut buffer).unwrap(), seen, "step {step}");
            assert!(buffer.len() <= stream.len() * 2, "it grows to twice a reply at most");
        }
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        for stream in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"*99999\r\n", b"$999999999\r\n"] {
            assert!(count(stream, 3, &mut vec![0; 64]).is_err(), "{:?}", String::from_utf8_lossy(stream));
        }
    }
}
