//! The HTTP side of a node: `/metrics`, `/livez`, `/readyz`, and an index at `/`.
//!
//! It runs on a thread and event loop of its own: a scrape never delays a client, and a node whose loops are stuck can
//! still say so.
//!
//! - `/livez` is 200 while every worker's loop turns, else 503 with the names of those that do not: restart the process.
//! - `/readyz` is 200 when this node's slots can reach their quorums, else 503 with the reason: send clients elsewhere.
//!
//! Limits: so many connections at once (more wait in the kernel's queue), so many bytes of request head, so long for
//! it to arrive, so long for a connection's life. Request bodies are never read. Nothing here changes the node, so there
//! is no password; the listeners are bound where `bind` says.

use super::pulse::{Pulse, SILENCE_MAX};
use crate::base::config::Config;
use crate::base::metrics::Registry;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Connections served at once, over all addresses.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Time for a request's head to arrive, from the end of the request before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Life of a connection: one that does not read its reply ends too.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause after a failed accept, so that running out of descriptors is not an endless loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What only the whole node knows about its state.
pub trait Health: Send + Sync + 'static {
    /// Whether this node's slots can reach their quorums; the error is a sentence for the operator.
    fn ready(&self) -> Result<(), String>;
}

/// What the pages are made of.
pub struct Admin {
    /// The counters and gauges.
    pub metrics: Arc<Registry>,
    /// The workers' loops.
    pub pulse: Arc<Pulse>,
    /// Readiness.
    pub health: Arc<dyn Health>,
    /// Whether to add the `redis_*` names.
    pub config: Arc<Config>,
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
    let router = router(Arc::new(admin));
    let listeners = {
        let _entered = runtime.enter();
        let to_tokio = |listener: std::net::TcpListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        listeners.into_iter().map(to_tokio).collect::<io::Result<Vec<_>>>()?
    };
    let serve = async move {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        for listener in listeners {
            tokio::spawn(accept(listener, router.clone(), slots.clone()));
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

async fn accept(listener: TcpListener, router: Router, slots: Arc<Semaphore>) {
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => _ = tokio::spawn(serve(stream, router.clone(), slot)),
            Err(error) => {
                tracing::warn!(%error, "admin port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, router: Router, slot: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        tracing::debug!(%error, "admin connection ended");
    }
    drop(slot);
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(admin)
}

async fn index() -> &'static str {
    concat!(
        "rondo ",
        env!("CARGO_PKG_VERSION"),
        "\n\n/metrics  counters, gauges and latencies for Prometheus\n/livez    200 while the process works\n/readyz   \
         200 while this node's slots can reach their quorums\n"
    )
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let page = admin.metrics.render(admin.config.settings().metrics_redis_compat);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn livez(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    let stalled = admin.pulse.stalled(SILENCE_MAX);
    if stalled.is_empty() {
        return (StatusCode::OK, "live\n".into());
    }
    let line = |(worker, silence): (usize, Duration)| format!("worker {worker} is stuck for {} s\n", silence.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, stalled.into_iter().map(line).collect())
}

async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    match admin.health.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Sources, load};
    use crate::base::metrics::Count;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Switch(AtomicBool);

    impl Health for Arc<Switch> {
        fn ready(&self) -> Result<(), String> {
            self.0.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "no quorum for 3 slots".into())
        }
    }

    fn start(workers: usize) -> (AdminThread, SocketAddr, Arc<Switch>) {
        let switch = Arc::new(Switch(AtomicBool::new(true)));
        let metrics = Arc::new(Registry::new(vec![]));
        metrics.count(Count::Conflicts, 7);
        let loaded = load(&Sources::default(), &|_| unreachable!("no file is given")).unwrap();
        let admin = Admin {
            metrics,
            pulse: Arc::new(Pulse::new(workers)),
            health: Arc::new(switch.clone()),
            config: Arc::new(Config::new(loaded).unwrap()),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (spawn(vec![listener], admin).unwrap(), address, switch)
    }

    fn ask(address: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    #[test]
    fn pages_say_what_the_node_says() {
        let (_thread, address, switch) = start(1);
        assert!(get(address, "/").contains("/metrics"));
        let metrics = get(address, "/metrics");
        assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.contains("\nrondo_conflicts_total 7\n") && metrics.contains("\nredis_up 1\n"), "{metrics}");
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
        switch.0.store(false, Ordering::Relaxed);
        let refused = get(address, "/readyz");
        assert!(refused.starts_with("HTTP/1.1 503") && refused.ends_with("no quorum for 3 slots\n"), "{refused}");
        assert!(get(address, "/nothing").starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 405"));
    }

    #[test]
    fn a_head_above_the_limit_is_refused_and_one_below_is_not() {
        let (_thread, address, _) = start(0);
        let with_header = |length: usize| {
            let filler = "x".repeat(length);
            ask(address, &format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nFiller: {filler}\r\n\r\n"))
        };
        assert!(with_header(HEAD_BYTES_MAX / 2).starts_with("HTTP/1.1 200"));
        assert!(with_header(HEAD_BYTES_MAX + 1).starts_with("HTTP/1.1 431"));
    }

    #[test]
    fn connections_above_the_limit_wait_their_turn() {
        let (_thread, address, _) = start(0);
        let held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        let late = std::thread::spawn(move || get(address, "/livez"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!late.is_finished());
        drop(held);
        assert!(late.join().unwrap().starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn dropping_the_handle_frees_the_port() {
        let (thread, address, _) = start(0);
        let open = TcpStream::connect(address).unwrap();
        drop(thread);
        drop(open);
        assert!(TcpStream::connect(address).is_err());
    }
}
