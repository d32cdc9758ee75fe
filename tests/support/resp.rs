//! Replies, decoded without losing anything: two replies are equal exactly when their bytes are.
//!
//! A decoder of its own, because `redis-protocol` folds several spellings into one (all kinds of null, doubles), and a
//! comparison byte for byte must not.

use std::fmt;

/// Deeper replies than this are taken for a broken stream.
const DEPTH_MAX: usize = 16;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Null(&'static str),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    /// Spelled as sent.
    Double(Vec<u8>),
    Bool(bool),
    Verbatim(Vec<u8>),
    BigNumber(Vec<u8>),
}

/// The bytes are no reply.
#[derive(Debug)]
pub struct Broken(pub String);

impl Value {
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null(_))
    }

    /// The text of a simple or bulk string, an error or a number; `None` for the rest.
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Simple(b) | Value::Error(b) | Value::Bulk(b) | Value::Double(b) | Value::BigNumber(b) => {
                Some(String::from_utf8_lossy(b).into_owned())
            }
            Value::Verbatim(b) => Some(String::from_utf8_lossy(b.get(4..).unwrap_or_default()).into_owned()),
            Value::Int(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// A number, spelled as an integer or as a string.
    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Bulk(b) | Value::Simple(b) => std::str::from_utf8(b).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }

    /// What stands behind this name in a map that is written as an array.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let pair = self.items()?.chunks(2).find(|pair| pair[0].text().as_deref() == Some(name))?;
        pair.get(1)
    }
}

/// One reply at the start of `bytes` and its length, or `None` when it is not yet complete.
pub fn decode(bytes: &[u8]) -> Result<Option<(Value, usize)>, Broken> {
    let mut at = 0;
    Ok(value(bytes, &mut at, 0)?.map(|value| (value, at)))
}

fn value(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Value>, Broken> {
    if depth > DEPTH_MAX {
        return Err(Broken("nested too deeply".to_owned()));
    }
    let Some(line) = line(bytes, at) else { return Ok(None) };
    let (kind, rest) = line.split_first().ok_or_else(|| Broken("an empty line".to_owned()))?;
    let text = || rest.to_vec();
    Ok(Some(match kind {
        b'+' => Value::Simple(text()),
        b'-' => Value::Error(text()),
        b':' => Value::Int(number(rest)?),
        b',' => Value::Double(text()),
        b'(' => Value::BigNumber(text()),
        b'#' if rest == b"t" => Value::Bool(true),
        b'#' if rest == b"f" => Value::Bool(false),
        b'_' if rest.is_empty() => Value::Null("_"),
        b'$' if rest == b"-1" => Value::Null("$-1"),
        b'*' if rest == b"-1" => Value::Null("*-1"),
        b'$' | b'=' => match blob(bytes, at, number(rest)?)? {
            Some(blob) if *kind == b'$' => Value::Bulk(blob),
            Some(blob) => Value::Verbatim(blob),
            None => return Ok(None),
        },
        b'*' | b'~' | b'>' | b'%' => {
            let count = number(rest)? * if *kind == b'%' { 2 } else { 1 };
            let mut items = Vec::new();
            for _ in 0..count {
                match value(bytes, at, depth + 1)? {
                    Some(item) => items.push(item),
                    None => return Ok(None),
                }
            }
            match kind {
                b'*' => Value::Array(items),
                b'~' => Value::Set(items),
                b'>' => Value::Push(items),
                _ => Value::Map(pairs(items)),
            }
        }
        _ => return Err(Broken(format!("a reply that starts with {:?}", String::from_utf8_lossy(line)))),
    }))
}

fn pairs(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
}

fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = &bytes[*at..];
    let end = memchr::memchr(b'\r', rest)?;
    if rest.get(end + 1) != Some(&b'\n') {
        return None;
    }
    *at += end + 2;
    Some(&rest[..end])
}

fn number(text: &[u8]) -> Result<i64, Broken> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Broken(format!("{:?} is no number", String::from_utf8_lossy(text))))
}

fn blob(bytes: &[u8], at: &mut usize, len: i64) -> Result<Option<Vec<u8>>, Broken> {
    let len = usize::try_from(len).map_err(|_| Broken("a negative length".to_owned()))?;
    let Some(found) = bytes.get(*at..*at + len + 2) else { return Ok(None) };
    if !found.ends_with(b"\r\n") {
        return Err(Broken("a blob without its line end".to_owned()));
    }
    *at += len + 2;
    Ok(Some(found[..len].to_vec()))
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |b: &[u8]| {
            let shown = &b[..b.len().min(200)];
            format!("{}{}", shown.escape_ascii(), if b.len() > shown.len() { "..." } else { "" })
        };
        match self {
            Value::Simple(b) => write!(f, "+{}", text(b)),
            Value::Error(b) => write!(f, "-{}", text(b)),
            Value::Int(n) => write!(f, ":{n}"),
            Value::Bulk(b) => write!(f, "\"{}\"", text(b)),
            Value::Null(kind) => write!(f, "null({kind})"),
            Value::Array(items) => f.debug_list().entries(items).finish(),
            Value::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
            Value::Set(items) => write!(f, "~").and_then(|()| f.debug_list().entries(items).finish()),
            Value::Push(items) => write!(f, ">").and_then(|()| f.debug_list().entries(items).finish()),
            Value::Double(b) => write!(f, ",{}", text(b)),
            Value::Bool(b) => write!(f, "#{b}"),
            Value::Verbatim(b) => write!(f, "={}", text(b)),
            Value::BigNumber(b) => write!(f, "({}", text(b)),
        }
    }
}
