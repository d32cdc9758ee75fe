//! One HTTP GET with a deadline and a limit: how nodes ask each other for figures, and how the command line asks a
//! node.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::HOST;
use axum::http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of an answer that are taken.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Why there is no answer. Nothing was changed anywhere; it may be asked again.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody listens there, or the connection broke.
    #[error("{}", in_words(.0))]
    Io(#[from] std::io::Error),
    /// Nothing came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// Whoever listens there does not speak HTTP, as on the ports for clients.
    #[error("what listens there is no admin-port ({0})")]
    NotHttp(hyper::Error),
    /// It answered, but not with what was asked for.
    #[error("answered with {0}")]
    Status(StatusCode),
    /// The answer is too long, or ended early.
    #[error("{0}")]
    Body(axum::Error),
}

/// The body of `http://host:port/path`.
pub async fn fetch(host: &str, port: u16, path: &str, within: Duration) -> Result<Vec<u8>, FetchError> {
    let answer = tokio::time::timeout(within, ask(host, port, path));
    answer.await.unwrap_or(Err(FetchError::TimedOut(within)))
}

async fn ask(host: &str, port: u16, path: &str) -> Result<Vec<u8>, FetchError> {
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::NotHttp)?;
    let talk = async move {
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let request = Request::get(path).header(HOST, authority).body(Body::empty()).map_err(invalid)?;
        let response = sender.send_request(request).await.map_err(FetchError::NotHttp)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
        body.map(Vec::from).map_err(FetchError::Body)
    };
    // The connection moves the bytes while the talk waits for them; when the talk is over it is dropped.
    tokio::pin!(talk);
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        ended = connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(FetchError::NotHttp(error)),
        },
    }
}

/// The system's words without its number, as a part of a sentence.
fn in_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error ").next().unwrap_or_default();
    let mut chars = words.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn invalid(error: axum::http::Error) -> FetchError {
    FetchError::Io(std::io::Error::new(std::io::ErrorKind::InvalidInput, error))
}
