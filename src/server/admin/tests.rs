//! The pages over real connections: what they say, and where their limits are.

use super::status::{ClusterStatus, Condition, NodeFigures, Severity, SlotStatus};
use super::*;
use crate::base::ids::SLOT_COUNT;
use crate::base::metrics::Count;
use crate::replication::view::View;
use crate::server::worker::tests::shared;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the node is ready, and whether it is warm.
struct Switch(AtomicBool, AtomicBool);

impl Health for Arc<Switch> {
    fn ready(&self) -> Result<(), String> {
        self.0.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "no quorum for 3 slots".into())
    }

    fn warm(&self) -> Result<(), String> {
        self.1.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "it fills up".into())
    }
}

fn start(workers: usize) -> (AdminThread, SocketAddr, Arc<Switch>) {
    let switch = Arc::new(Switch(AtomicBool::new(true), AtomicBool::new(true)));
    let admin = Admin { shared: shared(workers, View::default()), health: Arc::new(switch.clone()) };
    admin.shared.node.metrics.count(Count::Conflicts, 7);
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
    assert!(get(address, "/warmz").starts_with("HTTP/1.1 200"));
    switch.1.store(false, Ordering::Relaxed);
    let cold = get(address, "/warmz");
    assert!(cold.starts_with("HTTP/1.1 503") && cold.ends_with("it fills up\n"), "{cold}");
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
fn whoever_asks_gets_through_a_crowd_that_says_nothing() {
    let (_thread, address, _) = start(0);
    let mut crowd = Vec::new();
    for count in [CONNECTIONS_MAX, 200] {
        crowd.resize_with(count, || TcpStream::connect(address).unwrap());
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200"), "beside {count} silent connections");
    }
    let mut oldest = crowd.swap_remove(0);
    oldest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(oldest.read(&mut [0]).unwrap(), 0, "the oldest has made room");
}

#[test]
fn a_connection_is_for_one_request() {
    let (_thread, address, _) = start(0);
    let reply = ask(address, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
    assert!(reply.starts_with("HTTP/1.1 200") && reply.to_ascii_lowercase().contains("connection: close"), "{reply}");
}

#[test]
fn dropping_the_handle_frees_the_port() {
    let (thread, address, _) = start(0);
    let open = TcpStream::connect(address).unwrap();
    drop(thread);
    drop(open);
    assert!(TcpStream::connect(address).is_err());
}

/// The body of a page, through the client that nodes and the command line use.
fn fetched<T: serde::de::DeserializeOwned>(address: SocketAddr, path: &str) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = fetch::fetch("127.0.0.1", address.port(), path, Duration::from_secs(10));
    serde_json::from_slice(&runtime.block_on(body).unwrap()).unwrap()
}

#[test]
fn a_node_tells_of_itself_and_of_members_that_are_silent() {
    let (_thread, address, switch) = start(1);
    let node: NodeFigures = fetched(address, "/status/node");
    assert_eq!((node.name.as_str(), node.ready, node.totals.conflicts, node.workers_stuck), ("n1", true, 7, 0));
    switch.0.store(false, Ordering::Relaxed);
    let status: ClusterStatus = fetched(address, "/status");
    assert_eq!((status.ring.members, status.ring.up, status.ring.agreed, status.healthy), (3, 1, true, false));
    let own = status.nodes.iter().find(|it| it.id == status.seen_from).unwrap();
    assert_eq!((own.condition, own.slots_held, own.slots_coordinated), (Condition::Up, SLOT_COUNT, SLOT_COUNT));
    assert_eq!(own.figures.as_ref().unwrap().not_ready.as_deref(), Some("no quorum for 3 slots"));
    let silent = status.nodes.iter().filter(|it| it.condition == Condition::Down && it.silent.is_some());
    assert_eq!(silent.count(), 2);
    let names: Vec<&str> = status.nodes.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n3"], "those that never answered are called as in their rows");
    assert_eq!(status.advice[0].severity, Severity::Critical);
    let slots: SlotStatus = fetched(address, "/status/slots");
    assert_eq!((slots.digest, slots.nodes.len()), (status.ring.digest, 3));
    let count: usize = slots.runs.iter().map(|(first, last, _)| usize::from(last - first) + 1).sum();
    assert_eq!(count, SLOT_COUNT);
}

#[test]
fn whoever_is_no_admin_port_is_told_apart() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |port, within| runtime.block_on(fetch::fetch("127.0.0.1", port, "/status", within)).unwrap_err();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(matches!(ask(port, Duration::from_millis(50)), fetch::FetchError::TimedOut(_)));
    let resp = std::thread::spawn(move || {
        let _silent = listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"-ERR wrong number of arguments for 'get' command\r\n").unwrap();
        _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(matches!(ask(port, Duration::from_secs(10)), fetch::FetchError::NotHttp(_)));
    resp.join().unwrap();
    assert!(matches!(ask(port, Duration::from_secs(10)), fetch::FetchError::Io(_)));
    let (_thread, address, _) = start(0);
    let missing = runtime.block_on(fetch::fetch("127.0.0.1", address.port(), "/nothing", Duration::from_secs(10)));
    assert!(matches!(missing, Err(fetch::FetchError::Status(status)) if status == 404));
}
