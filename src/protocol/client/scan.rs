//! Finds where a reply ends.
//!
//! Aggregates are followed with a stack of counters and no recursion. Only the position and those counters are kept
//! between calls, so a reply of a million elements that arrives in a thousand reads is walked once.

use super::token::{self, Aggregate, Token};
use super::{DEPTH_MAX, ReplyError, ReplyLimits};

/// What a reply is at its outermost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyKind {
    /// An answer with a value.
    Value,
    /// An answer that there is no value.
    Null,
    /// An answer that something failed.
    Error,
    /// Not an answer: a message that the server sent of its own accord.
    Push,
}

/// A whole reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScannedReply {
    /// Its length: bytes to drop from the buffer's start before the next scan.
    pub consumed: usize,
    /// Its outermost type.
    pub kind: ReplyKind,
}

/// An aggregate whose elements have not all been seen.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    /// How many replies are still to come; never zero.
    lacking: usize,
    /// Whether it describes the next reply instead of being one.
    is_attribute: bool,
}

/// One connection's reply scanner.
#[derive(Debug)]
pub struct ReplyScanner {
    limits: ReplyLimits,
    /// Everything before this offset is understood.
    position: usize,
    /// No line that starts at `position` ends before this offset.
    searched: usize,
    kind: ReplyKind,
    /// The aggregates that are open, the outermost first; `depth` of them are in use.
    open: [Open; DEPTH_MAX],
    depth: usize,
}

impl Default for ReplyScanner {
    fn default() -> ReplyScanner {
        ReplyScanner::new(ReplyLimits::default())
    }
}

impl ReplyScanner {
    /// A scanner at the start of a connection's first reply.
    pub fn new(limits: ReplyLimits) -> ReplyScanner {
        ReplyScanner {
            limits,
            position: 0,
            searched: 0,
            kind: ReplyKind::Value,
            open: [Open::default(); DEPTH_MAX],
            depth: 0,
        }
    }

    /// Looks for a whole reply at the start of `buf`; `None` if it goes on behind the end.
    ///
    /// After `None` call again with the same bytes and more behind them; after a reply with what follows it. After an
    /// error the connection is of no further use.
    #[inline]
    pub fn scan(&mut self, buf: &[u8]) -> Result<Option<ScannedReply>, ReplyError> {
        let buf = buf.get(..self.limits.reply_bytes_max).unwrap_or(buf);
        loop {
            let Some((token, next)) = token::read(buf, self.position, &mut self.searched, &self.limits)? else {
                let is_full = buf.len() >= self.limits.reply_bytes_max;
                return if is_full { Err(ReplyError::TooLong) } else { Ok(None) };
            };
            if self.depth == 0 {
                self.kind = kind_of(token);
            }
            let is_whole = self.take(token)?;
            (self.position, self.searched) = if is_whole { (0, 0) } else { (next, next) };
            if is_whole {
                return Ok(Some(ScannedReply { consumed: next, kind: self.kind }));
            }
        }
    }

    /// Counts a token; true if the outermost reply is now whole.
    #[inline]
    fn take(&mut self, token: Token<'_>) -> Result<bool, ReplyError> {
        match token {
            Token::Aggregate(Aggregate::Attribute, 0) => return Ok(false),
            Token::Aggregate(kind, lacking) if lacking > 0 => {
                let place = self.open.get_mut(self.depth).ok_or(ReplyError::TooDeep)?;
                *place = Open { lacking, is_attribute: kind == Aggregate::Attribute };
                self.depth += 1;
                return Ok(false);
            }
            _ => {}
        }
        // A reply is whole, and with it every aggregate whose last element it was.
        while let Some(innermost) = self.depth.checked_sub(1).and_then(|last| self.open.get_mut(last)) {
            innermost.lacking -= 1;
            if innermost.lacking > 0 {
                return Ok(false);
            }
            self.depth -= 1;
            if innermost.is_attribute {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn kind_of(token: Token<'_>) -> ReplyKind {
    match token {
        Token::Null => ReplyKind::Null,
        Token::Error(_) => ReplyKind::Error,
        Token::Aggregate(Aggregate::Push, _) => ReplyKind::Push,
        _ => ReplyKind::Value,
    }
}
