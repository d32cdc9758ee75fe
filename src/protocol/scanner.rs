//! Finds requests in the bytes that a client sends.
//!
//! A request is RESP (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or an inline line. The scanner is given the connection's
//! buffer, which always starts with the current request's first byte, and notes where each argument lies; nothing is
//! copied but the words of an inline request, whose quotes must be undone. What has been understood is remembered, so
//! that a request that arrives in a thousand reads is looked at once and not a thousand times.
//!
//! Invariants: outcomes depend on the bytes alone, not on how they were split into reads; no range reaches past the
//! buffer; memory grows with the arguments that have arrived, never with a number that the client announced; there is
//! no recursion, and a request may cost no more than [`Limits`] says.
//!
//! Two habits of Redis 7.0.15 are kept because clients can see them: the bytes behind a `\r` and behind an argument are
//! skipped unread, and a NUL before the end of a line hides that end. What a request means is not known here.

use memchr::memchr2;
use smallvec::SmallVec;

use super::limits::{Limits, ProtocolError};
use super::number::{parse_i64, short_header};
use crate::base::words::{self, UnbalancedQuotes};

/// An argument's place: its first byte and one past the last.
pub type Range = (u32, u32);

/// What the scanner found at the start of the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// The request goes on behind the buffer's end: read more, keep what is there, scan again.
    Incomplete,
    /// A request of this many bytes; [`Scanner::args`] has it until the next scan.
    Request {
        /// Bytes to drop from the buffer's start before the next scan.
        consumed: usize,
    },
    /// A blank line or an array of no elements: nothing to run and nothing to reply.
    Empty {
        /// Bytes to drop from the buffer's start before the next scan.
        consumed: usize,
    },
}

/// The arguments of one request, the command's name first. Borrowed from the buffer and the scanner.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range],
}

impl<'a> Args<'a> {
    /// The arguments that lie in these places of a request's `bytes`, as an earlier scan found them.
    #[inline]
    pub fn at(bytes: &'a [u8], ranges: &'a [Range]) -> Args<'a> {
        Args { bytes, ranges }
    }

    /// Where they lie in the request's bytes; means nothing for an inline request.
    #[inline]
    pub fn ranges(self) -> &'a [Range] {
        self.ranges
    }

    /// How many there are; at least 1 after [`Scan::Request`].
    #[inline]
    pub fn len(self) -> usize {
        self.ranges.len()
    }

    /// True only before the first request.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.ranges.is_empty()
    }

    /// The `index`th argument; the command's name is the 0th.
    #[inline]
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        let (start, end) = *self.ranges.get(index)?;
        self.bytes.get(start as usize..end as usize)
    }

    /// The command's name as it was sent; empty if there is none.
    #[inline]
    pub fn name(self) -> &'a [u8] {
        self.get(0).unwrap_or_default()
    }

    /// All arguments in order, the name first.
    #[inline]
    pub fn iter(self) -> ArgsIter<'a> {
        ArgsIter { bytes: self.bytes, ranges: self.ranges.iter() }
    }

    /// Whether this is a line of an HTTP request: a web page is making its reader's browser talk to us (cross-protocol
    /// scripting). The connection must be closed at once, without a reply, as Redis does.
    #[inline]
    pub fn is_http(self) -> bool {
        let name = self.name();
        matches!(name.len(), 4 | 5) && (name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:"))
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = &'a [u8];
    type IntoIter = ArgsIter<'a>;

    fn into_iter(self) -> ArgsIter<'a> {
        self.iter()
    }
}

/// Walks the arguments of one request.
#[derive(Clone, Debug)]
pub struct ArgsIter<'a> {
    bytes: &'a [u8],
    ranges: std::slice::Iter<'a, Range>,
}

impl<'a> Iterator for ArgsIter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (start, end) = *self.ranges.next()?;
        self.bytes.get(start as usize..end as usize)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranges.size_hint()
    }
}

impl ExactSizeIterator for ArgsIter<'_> {}

/// Where the scanner stands in the current request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// At a request's first byte, or just behind the last request.
    #[default]
    Start,
    /// In the line that announces how many arguments follow.
    Count,
    /// At the line that announces the next argument's length.
    Length,
    /// In an argument of this many bytes.
    Bulk(usize),
    /// In an inline request.
    Line,
}

/// One connection's request scanner.
#[derive(Debug, Default)]
pub struct Scanner {
    stage: Stage,
    /// The arguments found so far.
    ranges: SmallVec<[Range; 8]>,
    /// Whether `ranges` point into `unquoted` (an inline request) instead of the connection's buffer.
    is_inline: bool,
    unquoted: Vec<u8>,
    /// Everything before this offset is understood.
    position: usize,
    /// No line ends between `position` and this offset.
    searched: usize,
    /// Arguments yet to come.
    args_left: usize,
    /// See [`Scanner::missing_bytes`].
    missing: usize,
}

/// Memory kept for the next request; what a larger one needed is given back.
const RANGES_KEPT_MAX: usize = 256;
const UNQUOTED_BYTES_KEPT_MAX: usize = 4096;

impl Scanner {
    /// A scanner at the start of a connection's first request.
    pub fn new() -> Scanner {
        Scanner::default()
    }

    /// Looks for a whole request at the start of `buf`.
    ///
    /// After [`Scan::Incomplete`] call again with the same bytes and more behind them; after anything else with what
    /// follows the consumed ones. After an error the connection is of no further use.
    #[inline]
    pub fn scan(&mut self, buf: &[u8], limits: &Limits) -> Result<Scan, ProtocolError> {
        // Clipped, so that every position of a complete request fits 32 bits and `incomplete` alone judges the length.
        let buf = buf.get(..limits.request_bytes()).unwrap_or(buf);
        match self.stage {
            Stage::Start => self.scan_start(buf, limits),
            Stage::Length | Stage::Bulk(_) => self.scan_args(buf, limits),
            Stage::Count => self.scan_count(buf, limits),
            Stage::Line => self.scan_line(buf, limits),
        }
    }

    /// The request that the last scan found in `buf`, which must still be the same bytes.
    #[inline]
    pub fn args<'a>(&'a self, buf: &'a [u8]) -> Args<'a> {
        Args { bytes: if self.is_inline { &self.unquoted } else { buf }, ranges: &self.ranges }
    }

    /// Whether the last request was an inline one, whose arguments are kept here and not in the buffer.
    #[inline]
    pub fn is_inline(&self) -> bool {
        self.is_inline
    }

    /// Forgets what was understood of a request that has not all arrived: the next scan starts at its first byte.
    pub fn restart(&mut self) {
        self.stage = Stage::Start;
        self.missing = 0;
    }

    /// After [`Scan::Incomplete`]: how many more bytes the request has at the very least. A hint for sizing the next
    /// read; the client has merely announced them, so nothing may be allocated for more than a bounded part of it.
    pub fn missing_bytes(&self) -> usize {
        self.missing
    }

    #[inline]
    fn scan_start(&mut self, buf: &[u8], limits: &Limits) -> Result<Scan, ProtocolError> {
        self.ranges.clear();
        self.is_inline = false;
        self.position = 0;
        self.searched = 0;
        if let Some((count, next)) = short_header(buf, 0, b'*')
            && count > 0
            && count <= limits.args_allowed()
        {
            self.args_left = count;
            self.position = next;
            return self.scan_args(buf, limits);
        }
        self.scan_unusual_start(buf, limits)
    }

    #[cold]
    fn scan_unusual_start(&mut self, buf: &[u8], limits: &Limits) -> Result<Scan, ProtocolError> {
        if self.ranges.capacity() > RANGES_KEPT_MAX {
            self.ranges = SmallVec::new();
        }
        self.unquoted.clear();
        self.unquoted.shrink_to(UNQUOTED_BYTES_KEPT_MAX);
        match buf.first() {
            None => self.incomplete(buf, limits, 1),
            Some(b'*') => self.scan_count(buf, limits),
            Some(_) => self.scan_line(buf, limits),
        }
    }

    fn scan_count(&mut self, buf: &[u8], limits: &Limits) -> Result<Scan, ProtocolError> {
        self.stage = Stage::Count;
        let Some(line) = self.header_line(buf, limits, ProtocolError::TooBigCountLine)? else {
            return self.incomplete(buf, limits, buf.len() + 1);
        };
        let count = parse_i64(line.get(1..).unwrap_or_default()).ok_or(ProtocolError::InvalidMultibulkLength)?;
        self.args_left = limits.check_count(count)?;
        if self.args_left == 0 {
            self.stage = Stage::Start;
            return Ok(Scan::Empty { consumed: self.position });
        }
        self.scan_args(buf, limits)
    }

    #[inline]
    fn scan_args(&mut self, buf: &[u8], limits: &Limits) -> Result<Scan, ProtocolError> {
        loop {
            self.take_short_args(buf, limits.bulk_bytes_allowed());
            if self.args_left == 0 {
                self.stage = Stage::Start;
                return Ok(Scan::Request { consumed: self.position });
            }
            if !self.take_arg(buf, limits)? {
                return Ok(Scan::Incomplete);
            }
        }
    }

    /// The hot loop: takes arguments as long as their length lines are short and their bytes have all arrived.
    #[inline]
    fn take_short_args(&mut self, buf: &[u8], bulk_bytes_allowed: usize) {
        if let Stage::Bulk(_) = self.stage {
            return;
        }
        let (mut position, mut left) = (self.position, self.args_left);
        while left > 0 {
            let Some((len, start)) = short_header(buf, position, b'$') else { break };
            let end = start + len;
            if end + 2 > buf.len() || len > bulk_bytes_allowed {
                break;
            }
            self.ranges.push((start as u32, end as u32));
            position = end + 2;
            left -= 1;
        }
        (self.position, self.args_left) = (position, left);
    }

    /// Takes one argument of any kind; false if it has not all arrived.
    #[cold]
    fn take_arg(&mut self, buf: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        let len = match self.stage {
            Stage::Bulk(len) => len,
            _ => match self.take_length(buf, limits)? {
                Some(len) => len,
                None => return self.incomplete(buf, limits, buf.len() + 1).map(|_| false),
            },
        };
        let end = self.position + len;
        if end + 2 > buf.len() {
            self.stage = Stage::Bulk(len);
            return self.incomplete(buf, limits, end + 2).map(|_| false);
        }
        self.ranges.push((self.position as u32, end as u32));
        self.position = end + 2;
        self.args_left -= 1;
        self.stage = Stage::Length;
        Ok(true)
    }

    /// The next argument's length, the position moved behind its line; `None` if the line has not all arrived.
    fn take_length(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        self.stage = Stage::Length;
        let Some(line) = self.header_line(buf, limits, ProtocolError::TooBigBulkLine)? else {
            return Ok(None);
        };
        match line {
            [b'$', digits @ ..] => {
                limits.check_bulk(parse_i64(digits).ok_or(ProtocolError::InvalidBulkLength)?).map(Some)
            }
            // The line may be empty: its carriage return is then the byte that came instead.
            other => Err(ProtocolError::ExpectedBulk(other.first().copied().unwrap_or(b'\r'))),
        }
    }

    fn scan_line(&mut self, buf: &[u8], limits: &Limits) -> Result<Scan, ProtocolError> {
        self.stage = Stage::Line;
        let Some(end) = self.line_end(buf, b'\n', limits, ProtocolError::TooBigInline)? else {
            return self.incomplete(buf, limits, buf.len() + 1);
        };
        let line = buf.get(..end).unwrap_or_default();
        let Scanner { unquoted, ranges, .. } = self;
        words::split(line, unquoted, |from, to| ranges.push((from as u32, to as u32)))
            .map_err(|UnbalancedQuotes| ProtocolError::UnbalancedQuotes)?;
        self.is_inline = true;
        self.stage = Stage::Start;
        let consumed = end + 1;
        Ok(if self.ranges.is_empty() { Scan::Empty { consumed } } else { Scan::Request { consumed } })
    }

    /// The line that starts at the position, without its end; the position moves behind it. `None` if it has not all
    /// arrived. The byte behind the carriage return must have, but may be anything.
    fn header_line<'b>(
        &mut self,
        buf: &'b [u8],
        limits: &Limits,
        too_big: ProtocolError,
    ) -> Result<Option<&'b [u8]>, ProtocolError> {
        let start = self.position;
        match self.line_end(buf, b'\r', limits, too_big)? {
            Some(end) if end + 2 <= buf.len() => {
                self.position = end + 2;
                Ok(buf.get(start..end))
            }
            _ => Ok(None),
        }
    }

    /// Where the first `ending` at or behind the position is. A NUL before it hides it for good.
    fn line_end(
        &mut self,
        buf: &[u8],
        ending: u8,
        limits: &Limits,
        too_big: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched.max(self.position);
        let unseen = buf.get(from..).unwrap_or_default();
        let found = memchr2(ending, 0, unseen);
        self.searched = from + found.unwrap_or(unseen.len());
        let end = (buf.get(self.searched) == Some(&ending)).then_some(self.searched);
        let line_bytes = end.unwrap_or(buf.len()).saturating_sub(self.position);
        if line_bytes > limits.inline_bytes_max { Err(too_big) } else { Ok(end) }
    }

    /// Notes that the request reaches at least to `end`.
    fn incomplete(&mut self, buf: &[u8], limits: &Limits, end: usize) -> Result<Scan, ProtocolError> {
        if end > limits.request_bytes() {
            return Err(ProtocolError::TooBigRequest);
        }
        self.missing = end.saturating_sub(buf.len());
        Ok(Scan::Incomplete)
    }
}

#[cfg(test)]
mod tests;
