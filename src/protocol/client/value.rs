//! Replies as owned values.
//!
//! A reply is first measured by [`ReplyScanner`], which also bounds its depth; only then is it built, so building may
//! recurse and may trust that announced elements have arrived.

use super::scan::{ReplyScanner, ScannedReply};
use super::token::{self, Aggregate, Token};
use super::{DEPTH_MAX, ReplyError, ReplyLimits};

/// One reply of any type. Texts are bytes, as they came; maps and sets keep the server's order.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `+`: a short text.
    Simple(Vec<u8>),
    /// `-` and `!`: an error, its code included.
    Error(Vec<u8>),
    /// `:`: a whole number.
    Int(i64),
    /// `$`: a byte string.
    Bulk(Vec<u8>),
    /// `_`, and RESP2's `$-1` and `*-1`: no value.
    Null,
    /// `*`: elements in order.
    Array(Vec<Value>),
    /// `%`: pairs of key and value.
    Map(Vec<(Value, Value)>),
    /// `~`: elements without order.
    Set(Vec<Value>),
    /// `>`: a message that answers no request.
    Push(Vec<Value>),
    /// `,`: a floating-point number.
    Double(f64),
    /// `#`: yes or no.
    Bool(bool),
    /// `(`: a whole number of any size, in decimal.
    BigNumber(Vec<u8>),
    /// `=`: a text for people.
    Verbatim {
        /// `txt` or `mkd`.
        format: [u8; 3],
        /// The text itself.
        text: Vec<u8>,
    },
}

/// One connection's reply reader.
#[derive(Debug, Default)]
pub struct ReplyDecoder {
    scanner: ReplyScanner,
    limits: ReplyLimits,
}

impl ReplyDecoder {
    /// A decoder at the start of a connection's first reply.
    pub fn new(limits: ReplyLimits) -> ReplyDecoder {
        ReplyDecoder { scanner: ReplyScanner::new(limits), limits }
    }

    /// The reply at the start of `buf` and its length in bytes; `None` if it goes on behind the end.
    ///
    /// After `None` call again with the same bytes and more behind them; after a reply with what follows it.
    pub fn decode(&mut self, buf: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
        let Some(ScannedReply { consumed, .. }) = self.scanner.scan(buf)? else { return Ok(None) };
        let reply = buf.get(..consumed).unwrap_or_default();
        let value = Builder { reply, position: 0, limits: &self.limits }.value(0)?;
        Ok(Some((value, consumed)))
    }
}

/// Walks a reply that is known to be whole.
struct Builder<'a> {
    reply: &'a [u8],
    position: usize,
    limits: &'a ReplyLimits,
}

impl<'a> Builder<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, ReplyError> {
        if depth > DEPTH_MAX {
            return Err(ReplyError::TooDeep);
        }
        loop {
            return Ok(match self.token()? {
                Token::Simple(text) => Value::Simple(text.to_vec()),
                Token::Error(text) => Value::Error(text.to_vec()),
                Token::Int(value) => Value::Int(value),
                Token::Bulk(text) => Value::Bulk(text.to_vec()),
                Token::Null => Value::Null,
                Token::Double(value) => Value::Double(value),
                Token::Bool(value) => Value::Bool(value),
                Token::BigNumber(digits) => Value::BigNumber(digits.to_vec()),
                Token::Verbatim(format, text) => Value::Verbatim { format, text: text.to_vec() },
                Token::Aggregate(Aggregate::Array, len) => Value::Array(self.values(len, depth)?),
                Token::Aggregate(Aggregate::Set, len) => Value::Set(self.values(len, depth)?),
                Token::Aggregate(Aggregate::Push, len) => Value::Push(self.values(len, depth)?),
                Token::Aggregate(Aggregate::Map, len) => Value::Map(self.pairs(len / 2, depth)?),
                Token::Aggregate(Aggregate::Attribute, len) => {
                    self.values(len, depth)?;
                    continue;
                }
            });
        }
    }

    fn values(&mut self, len: usize, depth: usize) -> Result<Vec<Value>, ReplyError> {
        (0..len).map(|_| self.value(depth + 1)).collect()
    }

    fn pairs(&mut self, len: usize, depth: usize) -> Result<Vec<(Value, Value)>, ReplyError> {
        (0..len).map(|_| Ok((self.value(depth + 1)?, self.value(depth + 1)?))).collect()
    }

    fn token(&mut self) -> Result<Token<'a>, ReplyError> {
        let token = token::read(self.reply, self.position, &mut 0, self.limits)?;
        // The scanner has seen the whole reply, so this cannot be missing.
        let (token, next) = token.ok_or(ReplyError::Malformed("reply"))?;
        self.position = next;
        Ok(token)
    }
}
