//! A real redis-server, on a port and a Unix socket of its own, without persistence.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::client::Client;
use super::ports::free_port;
use super::process::Process;
use super::skipped;

/// How long it may take until it answers; generous, since the machine may be busy.
const START: Duration = Duration::from_secs(60);

pub struct Redis {
    pub port: u16,
    pub process: Process,
    options: Vec<String>,
    dir: tempfile::TempDir,
}

impl Redis {
    /// Starts one with these options besides, or fails the test.
    pub fn start(options: &[&str]) -> Redis {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = spawn(port, &dir, &options);
        Redis { port, process, options, dir }
    }

    /// Starts one, or skips the test where there is none of version 7.0.
    pub fn start_if_there(options: &[&str]) -> Option<Redis> {
        let version = Command::new("redis-server").arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if !version.contains(" v=7.0.") {
            skipped(&format!("it needs redis-server 7.0, and found {version:?}"));
            return None;
        }
        Some(Redis::start(options))
    }

    /// Starts it again after it was killed, empty, at the same port.
    pub fn restart(&mut self) {
        self.process = spawn(self.port, &self.dir, &self.options);
    }

    /// Its Unix socket: there a connection that it closes is not reset before its last words are read.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub fn client(&self) -> Client {
        Client::to(self.port)
    }
}

fn spawn(port: u16, dir: &tempfile::TempDir, options: &[String]) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
    command.arg("--unixsocket").arg(dir.path().join("socket")).arg("--dir").arg(dir.path()).args(options);
    let mut process = Process::start("redis-server", command, &dir.path().join("log"));
    process.must("answering", START, || answers(port));
    process
}

/// That it wants a password is an answer too.
fn answers(port: u16) -> bool {
    let client = Client::connect(port, Duration::from_secs(2));
    let reply = client.ok().and_then(|mut client| client.try_call(&["PING"]).ok()?.text());
    reply.is_some_and(|text| !text.starts_with("LOADING"))
}
