//! Replies of other nodes as values.

use crate::commands::CommandError;
use crate::protocol::client::{ReplyDecoder, ReplyLimits, Value};

/// The value of one reply.
pub(super) fn decoded(reply: &[u8]) -> Result<Value, CommandError> {
    let decoded = ReplyDecoder::new(ReplyLimits::arrived()).decode(reply);
    decoded.ok().flatten().map(|(value, _)| value).ok_or_else(garbled)
}

/// A number; 0 for anything else.
pub(super) fn as_int(value: &Value) -> i64 {
    if let Value::Int(number) = value { *number } else { 0 }
}

/// The strings of an array or a set.
pub(super) fn as_bulks(value: &Value) -> Vec<&[u8]> {
    match value {
        Value::Array(items) | Value::Set(items) => items
            .iter()
            .filter_map(|item| if let Value::Bulk(bytes) = item { Some(&bytes[..]) } else { None })
            .collect(),
        _ => Vec::new(),
    }
}

/// The values of replies that stand one behind the other.
pub(super) fn values_of(replies: &[u8]) -> Result<Vec<Value>, CommandError> {
    let (mut rest, mut values) = (replies, Vec::new());
    while let Some((value, len)) = ReplyDecoder::new(ReplyLimits::arrived()).decode(rest).map_err(|_| garbled())? {
        values.push(value);
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(values)
}

/// The error that another node has answered with, to be answered in turn.
pub(super) fn refused(text: &[u8]) -> CommandError {
    CommandError::said(text)
}

/// What a client reads when another node does not speak as we do.
pub(super) fn garbled() -> CommandError {
    CommandError::text("ERR another node gave an answer that makes no sense")
}
