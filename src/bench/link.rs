//! Connections to servers: connecting, logging in, and asking one question.
//!
//! Every connection of a load is opened here, and the few commands that are not load (AUTH, HELLO, CLUSTER SLOTS) are
//! spoken here, one at a time, each with a deadline. Invariant: no reply grows beyond [`LIMITS`].
//!
//! It does not retry: who calls decides whether a failure is fatal (at the start) or counted (during the load).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::protocol::client::{ReplyDecoder, ReplyLimits, Value, encode_command};

/// What a server may answer to AUTH, HELLO, PING and CLUSTER SLOTS.
const LIMITS: ReplyLimits = ReplyLimits {
    line_bytes_max: 64 * 1024,
    bulk_bytes_max: 64 * 1024,
    elements_max: 64 * 1024,
    reply_bytes_max: 16 * 1024 * 1024,
};

/// How a connection introduces itself.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The ACL user; `None` is the default user.
    pub user: Option<String>,
    /// The password; `None` sends no AUTH.
    pub password: Option<String>,
    /// Speak RESP3.
    pub resp3: bool,
    /// How long connecting, and then each answer, may take.
    pub timeout: Duration,
}

/// A server could not be reached or would not talk. May be retried, but for `Denied`, where an option is wrong.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection, or it broke.
    #[error("{address}: {}", reason_of(.source))]
    Io {
        /// Whom we talked to.
        address: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The server answered with an error.
    #[error("{address}: {text}")]
    Denied {
        /// Whom we talked to.
        address: String,
        /// The server's words.
        text: String,
    },
    /// The server answered with something that was not asked for.
    #[error("{address}: {reason}")]
    Nonsense {
        /// Whom we talked to.
        address: String,
        /// What is odd about the answer.
        reason: String,
    },
}

impl LinkError {
    /// One or two words to count this failure under.
    pub fn label(&self) -> &str {
        match self {
            LinkError::Io { source, .. } => label_of(source),
            LinkError::Denied { text, .. } => text.split(' ').next().unwrap_or("ERR"),
            LinkError::Nonsense { .. } => "not RESP",
        }
    }
}

/// One or two words to count an I/O error under.
pub fn label_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset",
        io::ErrorKind::UnexpectedEof => "connection closed",
        io::ErrorKind::TimedOut => "timed out",
        io::ErrorKind::InvalidData => "not RESP",
        _ => "connection failed",
    }
}

fn reason_of(error: &io::Error) -> String {
    match label_of(error) {
        label @ ("connection failed" | "not RESP") => format!("{label}: {error}"),
        label => label.to_string(),
    }
}

/// Connects to `address` (host:port) and logs in.
pub async fn connect(address: &str, login: &Login) -> Result<TcpStream, LinkError> {
    let io_error = |source| LinkError::Io { address: address.to_string(), source };
    let connecting = tokio::time::timeout(login.timeout, TcpStream::connect(address));
    let mut stream = connecting.await.unwrap_or_else(|late| Err(late.into())).map_err(io_error)?;
    stream.set_nodelay(true).map_err(io_error)?;
    if let Some(password) = &login.password {
        let args: Vec<&str> = ["AUTH"].into_iter().chain(login.user.as_deref()).chain([password.as_str()]).collect();
        ask(&mut stream, address, login, &args).await?;
    }
    if login.resp3 {
        ask(&mut stream, address, login, &["HELLO", "3"]).await?;
    }
    Ok(stream)
}

/// Sends one command on a connection that waits for nothing else, and waits for its reply. An error reply is an `Err`.
pub async fn ask(stream: &mut TcpStream, address: &str, login: &Login, args: &[&str]) -> Result<Value, LinkError> {
    let address = || address.to_string();
    match tokio::time::timeout(login.timeout, exchange(stream, args)).await.unwrap_or_else(|late| Err(late.into())) {
        Ok(Value::Error(text)) => {
            Err(LinkError::Denied { address: address(), text: String::from_utf8_lossy(&text).into_owned() })
        }
        Ok(value) => Ok(value),
        Err(source) => Err(LinkError::Io { address: address(), source }),
    }
}

async fn exchange(stream: &mut TcpStream, args: &[&str]) -> io::Result<Value> {
    let mut request = Vec::new();
    encode_command(&mut request, args);
    stream.write_all(&request).await?;
    let (mut decoder, mut reply) = (ReplyDecoder::new(LIMITS), Vec::new());
    loop {
        if stream.read_buf(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let decoded = decoder.decode(&reply).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some((value, _)) = decoded {
            return Ok(value);
        }
    }
}
