//! Why a command was refused, in Redis's words.
//!
//! Every one of these is the client's fault or the data's. No key was changed, but for `ReplyTooLarge`: that command
//! has run, and only its reply was lost. The connection goes on. What a client reads, without the leading `-`, is
//! [`CommandError::bytes`]: Redis quotes what clients sent, which need not be text, and so do we. The `Display` is for
//! logs and people.

use std::borrow::Cow;

use crate::base::words::until_nul;

/// A refusal; see the head of the file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// Options that make no sense.
    #[error("ERR syntax error")]
    Syntax,
    /// Not a whole number of 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// Not a number.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// The command needs an existing key.
    #[error("ERR no such key")]
    NoSuchKey,
    /// INCR and its family would leave 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// Too few or too many arguments; holds the command's name, `parent|child` for subcommands.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(Cow<'static, str>),
    /// A deadline out of range; holds the command's name.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// A string would exceed `proto-max-bulk-len`.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// The reply would be larger than what may be kept for a client.
    #[error("ERR the reply is larger than client-output-buffer-limit or rondo allows")]
    ReplyTooLarge,
    /// The key would hold more than is put in place of another value at once.
    #[error("ERR the value is larger than the 2 GB that rondo puts in place at once")]
    WholeTooLarge,
    /// Anything else, with all that the client reads, the error code included.
    #[error("{}", String::from_utf8_lossy(.0))]
    Said(Cow<'static, [u8]>),
}

impl CommandError {
    /// An error with a fixed text, the code included.
    pub const fn text(text: &'static str) -> CommandError {
        CommandError::Said(Cow::Borrowed(text.as_bytes()))
    }

    /// An error with a text that was put together, the code included.
    pub fn said(text: impl Into<Vec<u8>>) -> CommandError {
        CommandError::Said(Cow::Owned(text.into()))
    }

    /// An error that quotes what a client sent, until its first NUL, between two texts.
    pub fn quoting(before: &str, quoted: &[u8], behind: &str) -> CommandError {
        CommandError::said([before.as_bytes(), until_nul(quoted), behind.as_bytes()].concat())
    }

    /// What the client reads, without the leading `-`.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            CommandError::Said(bytes) => Cow::Borrowed(bytes),
            other => Cow::Owned(other.to_string().into_bytes()),
        }
    }
}

/// As much of a name as Redis prints.
pub fn printed_name(bytes: &[u8]) -> &[u8] {
    let name = until_nul(bytes);
    name.get(..NAME_BYTES_SHOWN).unwrap_or(name)
}

/// Most bytes of a name, and of all arguments together, that are quoted of a request for what does not exist.
pub const NAME_BYTES_SHOWN: usize = 128;
