//! The HTTP side of a node: `/metrics`, `/livez`, `/readyz`, `/warmz`, `/status` (its shape is in `status`), and the
//! live page at `/`.
//!
//! | file | what it is |
//! |---|---|
//! | `fetch` | one HTTP GET with a deadline and a limit |
//! | `page` | the live page at `/` |
//! | `status` | the whole cluster as JSON |
//!
//! It runs on a thread and event loop of its own: a scrape never delays a client, and a node whose loops are stuck can
//! still say so.
//!
//! - `/livez` is 200 while every worker's loop turns, else 503 with the names of those that do not: restart the
//!   process.
//! - `/readyz` is 200 when this node's slots can reach their quorums, else 503 with the reason: send clients elsewhere.
//! - `/warmz` is 200 when it also holds all that its slots hold, else 503 with the reason: end no other node yet.
//!
//! Limits: so many connections at once (beyond it the oldest ends: `/livez` is to answer whoever else holds
//! connections), so many bytes of request head, so long for it to arrive, so long for a connection's life. A connection
//! is for one request: kept alive it would count among those that say nothing, and would have to be ended at a time at
//! which the next request may be on its way. Request bodies are never read. Nothing here changes the node, so there is
//! no password; the listeners are bound where `bind` says.

pub mod fetch;
mod page;
pub mod status;

use crate::base::crowd::Crowd;
use crate::base::throttle::Throttle;
use crate::server::figures::pulse::SILENCE_MAX;
use crate::server::worker::Shared;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Connections served at once, over all addresses.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Life of a connection: one that does not read its reply ends too. Longer than a scrape, which Prometheus gives up
/// after ten seconds.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, so that running out of descriptors is not an endless loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines of the log about such connections.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// What only the whole node knows about its state.
pub trait Health: Send + Sync + 'static {
    /// Whether this node's slots can reach their quorums; the error is a sentence for the operator.
    fn ready(&self) -> Result<(), String>;
    /// Whether this node is ready, and holds all that its slots hold.
    fn warm(&self) -> Result<(), String>;
}

/// What the pages are made of.
pub struct Admin {
    /// The node.
    pub shared: Arc<Shared>,
    /// Readiness.
    pub health: Arc<dyn Health>,
}

/// What the pages share.
struct Pages {
    admin: Admin,
    gatherer: status::Gatherer,
}

/// The running HTTP side; ends when dropped.
#[derive(Debug)]
pub struct AdminThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves on listeners that are already bound. Fails when the thread or its event loop cannot be made.
pub fn spawn(listeners: Vec<std::net::TcpListener>, admin: Admin) -> io::Result<AdminThread> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let router = router(Arc::new(Pages { admin, gatherer: status::Gatherer::default() }));
    let listeners = {
        let _entered = runtime.enter();
        let to_tokio = |listener: std::net::TcpListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        listeners.into_iter().map(to_tokio).collect::<io::Result<Vec<_>>>()?
    };
    let serve = async move {
        let crowd = Arc::new(Mutex::new(Crowd::new(CONNECTIONS_MAX)));
        for listener in listeners {
            tokio::spawn(accept(listener, router.clone(), crowd.clone()));
        }
        // Told to stop, or the handle is gone: dropping the runtime ends every task.
        _ = stopped.await;
    };
    let thread = std::thread::Builder::new().name("admin".into()).spawn(move || runtime.block_on(serve))?;
    Ok(AdminThread { stop: Some(stop), thread: Some(thread) })
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, router: Router, crowd: Arc<Mutex<Crowd>>) {
    let mut told = Throttle::new(TELL_INTERVAL);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = tokio::spawn(serve(stream, router.clone()));
                crowd.lock().add(connection.abort_handle());
            }
            Err(error) => {
                if let Some(untold) = told.pass(Instant::now()) {
                    tracing::warn!(%error, untold, "the admin-port cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        tracing::debug!(%error, "admin connection ended");
    }
}

fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/warmz", get(warmz))
        .route("/status", get(cluster_status))
        .route("/status/node", get(node_status))
        .route("/status/slots", get(slot_status))
        .with_state(pages)
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    let node = &pages.admin.shared.node;
    let page = node.metrics.render(node.config.settings().metrics_redis_compat);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn livez(State(pages): State<Arc<Pages>>) -> (StatusCode, String) {
    let stalled = pages.admin.shared.pulse.stalled(SILENCE_MAX);
    if stalled.is_empty() {
        return (StatusCode::OK, "live\n".into());
    }
    let line = |(worker, silence): (usize, Duration)| format!("worker {worker} is stuck for {} s\n", silence.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, stalled.into_iter().map(line).collect())
}

async fn readyz(State(pages): State<Arc<Pages>>) -> (StatusCode, String) {
    probed(pages.admin.health.ready(), "ready\n")
}

async fn warmz(State(pages): State<Arc<Pages>>) -> (StatusCode, String) {
    probed(pages.admin.health.warm(), "warm\n")
}

fn probed(answer: Result<(), String>, word: &str) -> (StatusCode, String) {
    match answer {
        Ok(()) => (StatusCode::OK, word.into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn cluster_status(State(pages): State<Arc<Pages>>) -> Response {
    Json(&*pages.gatherer.status(&pages.admin).await).into_response()
}

async fn node_status(State(pages): State<Arc<Pages>>) -> Response {
    Json(status::figures(&pages.admin)).into_response()
}

async fn slot_status(State(pages): State<Arc<Pages>>) -> Response {
    Json(status::slots(&pages.admin)).into_response()
}

#[cfg(test)]
mod tests;
