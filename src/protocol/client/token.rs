//! The smallest readable piece of a reply: one scalar, or the announcement of an aggregate.
//!
//! A token is read again and again until it has all arrived, which is cheap: only a line's end must be searched for,
//! and how far that search got is kept by the caller.

use memchr::memchr;

use super::super::number::{parse_i64, short_header};
use super::{ReplyError, ReplyLimits};

/// The types of reply that hold other replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aggregate {
    Array,
    Map,
    Set,
    Push,
    /// Pairs that describe the reply behind them and are no part of it.
    Attribute,
}

/// One piece of a reply.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Token<'a> {
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Int(i64),
    Bulk(&'a [u8]),
    Null,
    Double(f64),
    Bool(bool),
    BigNumber(&'a [u8]),
    Verbatim([u8; 3], &'a [u8]),
    /// This many replies follow and belong to it; a map's pairs count as two.
    Aggregate(Aggregate, usize),
}

/// Reads the token at `at`: it and the offset behind it, or `None` if it has not all arrived.
///
/// `searched` is an offset before which no line that starts at `at` ends; it is moved on.
#[inline]
pub(super) fn read<'a>(
    buf: &'a [u8],
    at: usize,
    searched: &mut usize,
    limits: &ReplyLimits,
) -> Result<Option<(Token<'a>, usize)>, ReplyError> {
    // The everyday reply: a bulk with a short length.
    if let Some((len, start)) = short_header(buf, at, b'$') {
        return Ok(bulk(buf, start, len, limits)?.map(|(bulk, next)| (Token::Bulk(bulk), next)));
    }
    let Some(marker) = buf.get(at) else { return Ok(None) };
    let Some((line, next)) = line(buf, at + 1, searched, limits)? else { return Ok(None) };
    let token = match marker {
        b'+' => Token::Simple(line),
        b'-' => Token::Error(line),
        b':' => Token::Int(parse_i64(line).ok_or(ReplyError::Malformed("integer"))?),
        b'_' if line.is_empty() => Token::Null,
        b',' => Token::Double(double(line).ok_or(ReplyError::Malformed("double"))?),
        b'#' => Token::Bool(boolean(line).ok_or(ReplyError::Malformed("boolean"))?),
        b'(' if is_decimal(line) => Token::BigNumber(line),
        b'$' | b'!' | b'=' => return counted(buf, *marker, line, next, limits),
        b'*' if line == b"-1" => Token::Null,
        b'*' => aggregate(Aggregate::Array, line, limits)?,
        b'~' => aggregate(Aggregate::Set, line, limits)?,
        b'>' => aggregate(Aggregate::Push, line, limits)?,
        b'%' => aggregate(Aggregate::Map, line, limits)?,
        b'|' => aggregate(Aggregate::Attribute, line, limits)?,
        b'_' => return Err(ReplyError::Malformed("null")),
        b'(' => return Err(ReplyError::Malformed("big number")),
        other => return Err(ReplyError::UnknownType(*other)),
    };
    Ok(Some((token, next)))
}

/// The types whose line announces how many bytes follow it.
fn counted<'a>(
    buf: &'a [u8],
    marker: u8,
    line: &[u8],
    start: usize,
    limits: &ReplyLimits,
) -> Result<Option<(Token<'a>, usize)>, ReplyError> {
    if marker == b'$' && line == b"-1" {
        return Ok(Some((Token::Null, start)));
    }
    let len = length(line).ok_or(ReplyError::Malformed("bulk length"))?;
    let Some((text, next)) = bulk(buf, start, len, limits)? else { return Ok(None) };
    let token = match (marker, text) {
        (b'$', _) => Token::Bulk(text),
        (b'!', _) => Token::Error(text),
        (_, [a, b, c, b':', text @ ..]) => Token::Verbatim([*a, *b, *c], text),
        _ => return Err(ReplyError::Malformed("verbatim text")),
    };
    Ok(Some((token, next)))
}

/// The line that starts at `start` and the offset behind it.
#[inline]
fn line<'a>(
    buf: &'a [u8],
    start: usize,
    searched: &mut usize,
    limits: &ReplyLimits,
) -> Result<Option<(&'a [u8], usize)>, ReplyError> {
    let from = start.max(*searched);
    let unseen = buf.get(from..).unwrap_or_default();
    let end = from + memchr(b'\r', unseen).unwrap_or(unseen.len());
    *searched = end;
    if end.saturating_sub(start) > limits.line_bytes_max {
        return Err(ReplyError::TooLong);
    }
    match buf.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((buf.get(start..end).unwrap_or_default(), end + 2))),
        Some(_) => Err(ReplyError::Malformed("line end")),
    }
}

/// The `len` bytes at `start` and the offset behind them and their line end.
#[inline]
fn bulk<'a>(
    buf: &'a [u8],
    start: usize,
    len: usize,
    limits: &ReplyLimits,
) -> Result<Option<(&'a [u8], usize)>, ReplyError> {
    if len > limits.bulk_bytes_max {
        return Err(ReplyError::TooLong);
    }
    let end = start + len;
    match buf.get(end..end + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some((buf.get(start..end).unwrap_or_default(), end + 2))),
        Some(_) => Err(ReplyError::Malformed("bulk end")),
    }
}

fn aggregate(kind: Aggregate, line: &[u8], limits: &ReplyLimits) -> Result<Token<'static>, ReplyError> {
    let len = length(line).ok_or(ReplyError::Malformed("aggregate length"))?;
    let replies = match kind {
        Aggregate::Map | Aggregate::Attribute => len.saturating_mul(2),
        _ => len,
    };
    if replies > limits.elements_max { Err(ReplyError::TooLong) } else { Ok(Token::Aggregate(kind, replies)) }
}

fn length(line: &[u8]) -> Option<usize> {
    usize::try_from(parse_i64(line)?).ok()
}

fn double(line: &[u8]) -> Option<f64> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn boolean(line: &[u8]) -> Option<bool> {
    match line {
        b"t" => Some(true),
        b"f" => Some(false),
        _ => None,
    }
}

fn is_decimal(line: &[u8]) -> bool {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
