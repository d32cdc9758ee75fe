//! A blocking client: sends bytes, reads whole replies. One connection each.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::resp::{self, Value};

/// Why a command has no reply.
#[derive(Debug)]
pub enum Failure {
    /// The request was never sent whole: it cannot have happened.
    NotSent(String),
    /// The request was sent; what became of it is unknown.
    Unknown(String),
}

pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    at: usize,
}

/// The bytes of one request.
pub fn encode(out: &mut Vec<u8>, args: &[impl AsRef<[u8]>]) {
    let _ = write!(out, "*{}\r\n", args.len());
    for arg in args {
        let arg = arg.as_ref();
        let _ = write!(out, "${}\r\n", arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

impl Client {
    /// Connects to a port of this machine; waits for a reply at most `timeout`.
    pub fn connect(port: u16, timeout: Duration) -> std::io::Result<Client> {
        Client::connect_to(SocketAddr::from(([127, 0, 0, 1], port)), timeout)
    }

    pub fn connect_to(addr: SocketAddr, timeout: Duration) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&addr, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Client { stream, received: Vec::new(), at: 0 })
    }

    /// A second handle of the same connection: one may send while the other receives.
    pub fn try_clone(&self) -> std::io::Result<Client> {
        Ok(Client { stream: self.stream.try_clone()?, received: Vec::new(), at: 0 })
    }

    /// Connects or fails the test.
    pub fn to(port: u16) -> Client {
        Client::connect(port, Duration::from_secs(20)).unwrap_or_else(|e| panic!("no connection to port {port}: {e}"))
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(|e| Failure::NotSent(e.to_string()))
    }

    /// Sends no more; replies still come.
    pub fn close_own_side(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Ends the connection as one that breaks: at once, and what is under way is lost.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    }

    /// The next whole reply.
    pub fn receive(&mut self) -> Result<Value, Failure> {
        loop {
            match resp::decode(&self.received[self.at..]) {
                Ok(Some((value, len))) => {
                    self.at += len;
                    if self.at == self.received.len() {
                        self.received.clear();
                        self.at = 0;
                    }
                    return Ok(value);
                }
                Ok(None) => self.fill()?,
                Err(broken) => return Err(Failure::Unknown(format!("a broken reply: {}", broken.0))),
            }
        }
    }

    /// The next reply, if it comes within this time.
    pub fn receive_within(&mut self, time: Duration) -> Option<Value> {
        let timeout = self.stream.read_timeout().unwrap_or_default();
        let _ = self.stream.set_read_timeout(Some(time));
        let reply = self.receive().ok();
        let _ = self.stream.set_read_timeout(timeout);
        reply
    }

    fn fill(&mut self) -> Result<(), Failure> {
        let mut chunk = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Failure::Unknown("the server closed the connection".to_owned())),
                Ok(n) => {
                    self.received.extend_from_slice(&chunk[..n]);
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Failure::Unknown(e.to_string())),
            }
        }
    }

    /// What arrives within `for_how_long`, or until the server closes; undecoded.
    pub fn drain(&mut self, for_how_long: Duration) -> Vec<u8> {
        let end = Instant::now() + for_how_long;
        let timeout = self.stream.read_timeout().unwrap_or_default();
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let _ = self.stream.set_read_timeout(Some(left));
            if self.fill().is_err() {
                break;
            }
        }
        let _ = self.stream.set_read_timeout(timeout);
        let found = self.received.split_off(self.at);
        self.received.clear();
        self.at = 0;
        found
    }

    /// One command and its reply.
    pub fn try_call(&mut self, args: &[impl AsRef<[u8]>]) -> Result<Value, Failure> {
        let mut request = Vec::new();
        encode(&mut request, args);
        self.send(&request)?;
        self.receive()
    }

    /// One command and its reply, or the test fails.
    pub fn call(&mut self, args: &[impl AsRef<[u8]>]) -> Value {
        self.try_call(args).unwrap_or_else(|failure| panic!("{:?}: {failure:?}", args[0].as_ref().escape_ascii()))
    }

    /// A command written with spaces between its words.
    pub fn run(&mut self, line: &str) -> Value {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.try_call(&words).unwrap_or_else(|failure| panic!("{line}: {failure:?}"))
    }
}

/// The status code of `GET path` on a port of this machine, and the body.
pub fn http_get(port: u16, path: &str) -> Option<(u16, String)> {
    http_get_from(SocketAddr::from(([127, 0, 0, 1], port)), path)
}

pub fn http_get_from(addr: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
