//! One child process of `rondo dev`: starting it, asking whether it is ready, reading its last words, stopping it.
//!
//! A child's standard input is a pipe that only `rondo dev` holds. When `rondo dev` ends, however it ends, the pipe
//! closes and the child stops itself (`--stop-with-parent`), so that even `kill -9` leaves nothing behind. A child is
//! in a process group of its own: Ctrl-C in the terminal reaches `rondo dev` alone, which then stops the children in
//! order.

use super::plan::NodePlan;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;

/// How long a node may take to answer one question.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// More than any answer of `/warmz`.
const PROBE_BYTES_MAX: u64 = 4 * 1024;
/// How much of a log is looked through for its last lines.
const LOG_TAIL_BYTES: i64 = 8 * 1024;

/// A node that was started.
#[derive(Debug)]
pub struct Node {
    /// What it is.
    pub plan: NodePlan,
    /// Its process id.
    pub pid: u32,
    /// Whether it has not been reported as ended.
    pub running: bool,
    /// Held only to be dropped.
    _stdin: Option<ChildStdin>,
}

/// A child has ended: number of the node, and how.
pub type Ended = (u16, io::Result<ExitStatus>);

impl Node {
    /// Starts a child. Its output goes to `log`; its end is told to `ended`.
    pub fn start(
        plan: &NodePlan,
        arguments: &[String],
        secret: &str,
        log: &Path,
        ended: mpsc::UnboundedSender<Ended>,
    ) -> io::Result<Node> {
        let output = OpenOptions::new().append(true).create(true).open(log)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env("RONDO_CLUSTER_SECRET", secret)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the child ended at once"))?;
        let stdin = child.stdin.take();
        let number = plan.number;
        tokio::spawn(async move {
            let status = child.wait().await;
            // Nobody listens any more once dev is ending.
            _ = ended.send((number, status));
        });
        Ok(Node { plan: plan.clone(), pid, running: true, _stdin: stdin })
    }

    /// Sends a signal, unless the node has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| self.running);
        if let Some(pid) = pid {
            // Fails when it ended a moment ago: then there is nothing left to tell it.
            _ = kill_process(pid, signal);
        }
    }

    /// Whether the node says that it is ready and warm; else why not.
    pub async fn ready(&self, host: IpAddr) -> Result<(), String> {
        let address = SocketAddr::new(host, self.plan.ports.admin);
        match tokio::time::timeout(PROBE_TIMEOUT, ask_ready(address)).await {
            Err(_) => Err(format!("no answer from http://{address}/warmz")),
            Ok(Err(error)) => Err(format!("http://{address}/warmz: {error}")),
            Ok(Ok(reply)) => {
                let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
                let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
                if status == "200" { Ok(()) } else { Err(body.trim().to_owned()) }
            }
        }
    }
}

async fn ask_ready(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /warmz HTTP/1.0\r\n\r\n").await?;
    let mut reply = Vec::new();
    stream.take(PROBE_BYTES_MAX).read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// The last lines of a log, or a line that says why there are none.
pub fn last_lines(log: &PathBuf, count: usize) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let end = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-end.min(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Err(error) => format!("  (no log: {error})"),
        Ok(text) if text.trim().is_empty() => "  (its log is empty)".to_owned(),
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(count));
            last.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
        }
    }
}
