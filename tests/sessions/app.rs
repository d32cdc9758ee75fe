//! One instance of an application under test: its process, and a browser's side of HTTP with a cookie for each user.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::ports::free_port;
use crate::support::process::Process;

const START: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

/// A running instance, gone when dropped.
pub struct App {
    port: u16,
    _process: Process,
}

/// What the application answered: the status, and the body of a page that is one line of text.
pub type Answer = (u16, String);

/// A user with the session cookie that the application gave.
pub struct User {
    pub name: String,
    cookie: Option<String>,
}

impl App {
    /// Starts the program that `command` makes for an HTTP port, and waits until it listens.
    pub fn start(name: &str, dir: &Path, command: impl FnOnce(u16) -> Command) -> App {
        let port = free_port();
        let mut command = command(port);
        command.env("PORT", port.to_string());
        let mut process = Process::start(name, command, &dir.join(format!("{name}.log")));
        process.must("listening", START, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        App { port, _process: process }
    }
}

impl User {
    pub fn new(name: &str) -> User {
        User { name: name.to_owned(), cookie: None }
    }

    pub fn post(&mut self, app: &App, path: &str) -> Answer {
        self.ask(app, "POST", path)
    }

    pub fn get(&mut self, app: &App, path: &str) -> Answer {
        self.ask(app, "GET", path)
    }

    /// One request on a connection of its own; a cookie that comes back replaces the user's.
    fn ask(&mut self, app: &App, method: &str, path: &str) -> Answer {
        let cookie = self.cookie.as_ref().map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n"));
        let request = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n{cookie}\r\n");
        let mut stream = TcpStream::connect(("127.0.0.1", app.port)).expect("the application listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).expect("the application takes a request");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("the application answers in text");
        let (head, body) = reply.split_once("\r\n\r\n").expect("an HTTP reply");
        for line in head.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if name.eq_ignore_ascii_case("set-cookie") {
                self.cookie = value.trim().split(';').next().map(str::to_owned);
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.trim().to_owned())
    }
}
