//! `rondo dev` end to end: three nodes that serve clients, a node that dies, and nothing left behind however it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Time for anything to happen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Dev {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: u16,
    pids: Vec<u32>,
    /// Where the nodes' logs are.
    logs: PathBuf,
}

impl Dev {
    /// Starts three nodes on ports that are free, and waits for the end of what is printed once they are ready.
    fn start(options: &[&str]) -> Dev {
        Dev::start_in(&[], options)
    }

    /// As `start`, with these variables in the environment.
    fn start_in(environment: &[(&str, &str)], options: &[&str]) -> Dev {
        loop {
            let port = rand::random_range(20_000..40_000u16);
            let mut child = Command::new(env!("CARGO_BIN_EXE_rondo"))
                .args(["dev", "--port", &port.to_string()])
                .args(options)
                .envs(environment.iter().copied())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap());
            let mut dev = Dev { lines, child, port, pids: Vec::new(), logs: PathBuf::new() };
            if let Some(table) = dev.lines_until("Ctrl-C stops") {
                let cells = |line: &String| line.split('┆').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
                dev.pids = table.iter().map(cells).filter_map(|cells| cells.get(4)?.parse().ok()).collect();
                assert_eq!(dev.pids.len(), 3, "{table:?}");
                let logs = table.iter().find_map(|line| line.split_once("logs in "));
                dev.logs = logs.map(|(_, path)| path.trim_end().into()).unwrap();
                assert!(dev.logs.join("node-1.log").exists(), "{table:?}");
                return dev;
            }
            assert_eq!(dev.child.wait().unwrap().code(), Some(1), "only a taken port may end it");
        }
    }

    /// The lines up to one that contains `end`; `None` when there is none.
    fn lines_until(&mut self, end: &str) -> Option<Vec<String>> {
        let mut seen = Vec::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            seen.push(line);
            if seen.last().is_some_and(|line| line.contains(end)) {
                return Some(seen);
            }
        }
    }

    /// One inline command to one node; its one-line reply. Given once more where the machine is so busy that it is
    /// refused.
    fn ask(&self, node: u16, command: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.ask_once(node, command);
            if !reply.starts_with("-CLUSTERDOWN") || Instant::now() >= deadline {
                return reply;
            }
        }
    }

    fn ask_once(&self, node: u16, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port + node)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.strip_suffix("+OK\r\n").unwrap_or(&reply).to_owned()
    }

    /// The process id of a node that is started again, once it listens.
    fn pid_of_restarted(&mut self, node: u16) -> u32 {
        let report = self.lines_until("started again").unwrap().pop().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port + node)).is_err() {
            assert!(Instant::now() < deadline, "the node does not listen again");
            std::thread::sleep(Duration::from_millis(20));
        }
        report.trim_end().rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: &str) -> u32 {
        send(signal, self.child.id());
        self.child.id()
    }
}

impl Drop for Dev {
    /// A failed test leaves nothing running either: the nodes end with the process that started them.
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Running, and not merely waiting for its parent to take notice.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
    state.is_some_and(|state| state != "Z" && state != "X")
}

fn wait_until_gone(pids: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    while pids.iter().any(|pid| is_running(*pid)) {
        assert!(Instant::now() < deadline, "still running: {pids:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dead_node_is_reported_and_a_signal_stops_the_rest() {
    let mut dev = Dev::start(&[]);
    assert_eq!(dev.ask(0, "SET greeting hello"), "+OK\r\n");
    assert_eq!(dev.ask(2, "GET greeting"), "$5\r\nhello\r\n");
    send("-KILL", dev.pids[1]);
    let report = dev.lines_until("left").unwrap().pop().unwrap();
    let expected = format!(
        "node 2 (port {}, pid {}) was killed (SIGKILL); 2 of 3 left; to start it again: kill -USR1 {}\n",
        dev.port + 1,
        dev.pids[1],
        dev.child.id()
    );
    assert_eq!(report, expected);
    assert_eq!(dev.ask(0, "GET greeting"), "$5\r\nhello\r\n");
    dev.signal("-USR1");
    dev.pids[1] = dev.pid_of_restarted(1);
    // It fills up first, and may refuse until then.
    let deadline = Instant::now() + PATIENCE;
    while dev.ask(1, "GET greeting") != "$5\r\nhello\r\n" {
        assert!(Instant::now() < deadline, "the node that was started again does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    // As when the terminal is closed.
    dev.signal("-HUP");
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
    assert!(!dev.pids.iter().any(|pid| is_running(*pid)), "a node outlived rondo dev");
    assert!(!dev.logs.exists(), "{} is left", dev.logs.display());
}

#[test]
fn nothing_is_left_of_a_cluster_that_was_stopped() {
    let mut dev = Dev::start_in(&[("RONDO_WORKERS", "2"), ("RONDO_SHUTDOWN_TIMEOUT", "3")], &["--timeout", "77"]);
    for (option, value) in [("shutdown-timeout", "3"), ("timeout", "77")] {
        let lengths = [option, value].map(str::len);
        let expected = format!("*2\r\n${}\r\n{option}\r\n${}\r\n{value}\r\n", lengths[0], lengths[1]);
        assert_eq!(dev.ask(1, &format!("CONFIG GET {option}")), expected);
    }
    assert!(dev.ask(0, "INFO server").contains("\r\nworkers:2\r\n"), "the environment says so");
    // The second one as from a program between the terminal and this one: not for want of patience.
    dev.signal("-INT");
    dev.signal("-INT");
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
    assert!(!dev.pids.iter().any(|pid| is_running(*pid)), "a node outlived rondo dev");
    assert!(!dev.logs.exists(), "{} is left", dev.logs.display());
}

#[test]
fn a_restarted_node_answers_with_what_it_has_lost() {
    let mut dev = Dev::start(&["--restart"]);
    assert_eq!(dev.ask(2, "SET greeting hello"), "+OK\r\n");
    send("-USR1", dev.pids[2]);
    dev.pids[2] = dev.pid_of_restarted(2);
    assert_eq!(dev.ask(2, "GET greeting"), "$5\r\nhello\r\n");
    dev.signal("-INT");
    // Not by a signal that people end processes with: its log may be wanted.
    let kept = dev.lines_until("logs").unwrap().pop().unwrap();
    assert_eq!(kept, format!("the logs are in {}\n", dev.logs.display()));
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
    assert!(!dev.pids.iter().any(|pid| is_running(*pid)), "a node outlived rondo dev");
    std::fs::remove_dir_all(&dev.logs).unwrap();
}

#[test]
fn nothing_is_left_when_dev_itself_is_killed() {
    let mut dev = Dev::start(&[]);
    dev.signal("-KILL");
    dev.child.wait().unwrap();
    wait_until_gone(&dev.pids);
    let mut next = Dev::start(&[]);
    assert!(!dev.logs.exists(), "{} is left", dev.logs.display());
    next.signal("-TERM");
    assert_eq!(next.child.wait().unwrap().code(), Some(0));
    assert!(!next.logs.exists(), "{} is left", next.logs.display());
}
