//! Why a command was refused, in Redis's words.
//!
//! Every one of these is the client's fault or the data's. Nothing was changed, but after `ReplyTooLarge`: that command has
//! run, and only its reply was lost. The connection goes on. The `Display` of an error is the reply's text without the leading `-`.

use std::borrow::Cow;

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
    /// Anything else, with its whole text, the error code included.
    #[error("{0}")]
    Text(Cow<'static, str>),
}

impl CommandError {
    /// An error with a fixed text, the code included.
    pub const fn text(text: &'static str) -> CommandError {
        CommandError::Text(Cow::Borrowed(text))
    }
}
