//! A real redis-server 7.0, started for a test and stopped after it, to compare with.
//!
//! It listens on a Unix socket in a directory of its own and keeps nothing. Without a redis-server 7.0 on the path
//! [`Oracle::start`] says so and gives none; the tests then pass without having compared anything, unless
//! `RONDO_REQUIRED` is set.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use crate::protocol::client::{ReplyDecoder, ReplyLimits, Value, encode_command};

/// How long redis-server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A redis-server on a Unix socket of its own, with one connection to it; it dies with this value.
pub struct Oracle {
    server: Child,
    client: UnixStream,
    decoder: ReplyDecoder,
    unread: Vec<u8>,
    pushes: Vec<Vec<Value>>,
    _dir: tempfile::TempDir,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to stop.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Oracle {
    /// `None` without a redis-server 7.0 on this machine.
    pub fn start() -> Option<Oracle> {
        let version = Process::new("redis-server").arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if !version.contains(" v=7.0.") {
            assert!(std::env::var_os("RONDO_REQUIRED").is_none(), "needs redis-server 7.0, found {version:?}");
            eprintln!("SKIPPED: needs redis-server 7.0, found {version:?}");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("socket");
        let mut command = Process::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket);
        let server = command.current_dir(dir.path()).stdout(Stdio::null()).spawn().expect("redis-server starts");
        let deadline = Instant::now() + PATIENCE;
        let client = loop {
            match UnixStream::connect(&socket) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not listen: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let decoder = ReplyDecoder::new(ReplyLimits::default());
        Some(Oracle { server, client, decoder, unread: Vec::new(), pushes: Vec::new(), _dir: dir })
    }

    /// Runs one command. Messages that come meanwhile are kept for [`Oracle::take_pushes`].
    pub fn run<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send(args);
        loop {
            match self.receive() {
                Value::Push(message) => self.pushes.push(message),
                reply => return reply,
            }
        }
    }

    /// Subscribes this RESP3 connection to the channels that match.
    pub fn subscribe(&mut self, pattern: &str) {
        self.send(&["PSUBSCRIBE", pattern]);
        assert!(matches!(self.receive(), Value::Push(_)));
    }

    /// The messages that came since the last call.
    pub fn take_pushes(&mut self) -> Vec<Vec<Value>> {
        std::mem::take(&mut self.pushes)
    }

    fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        let mut request = Vec::new();
        encode_command(&mut request, args);
        self.client.write_all(&request).expect("sends");
    }

    fn receive(&mut self) -> Value {
        let mut piece = [0; 65_536];
        loop {
            if let Some((value, len)) = self.decoder.decode(&self.unread).expect("a reply") {
                self.unread.drain(..len);
                return value;
            }
            let len = self.client.read(&mut piece).expect("answers");
            self.unread.extend_from_slice(&piece[..len]);
        }
    }
}
