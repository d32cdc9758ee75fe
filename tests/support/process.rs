//! One real process: started with its output in a file, stopped, paused and killed by its id, gone when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait_for;

/// How many lines of its log a process shows when the test that owns it fails.
const LOG_LINES_SHOWN: usize = 40;

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its output is appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Process {
        let out = File::options().create(true).append(true).open(log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}: {command:?}"));
        Process { name: name.to_owned(), child, log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True when the process has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it ended with; `None` while it runs, and when a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// SIGTERM; true when it ended by itself in time.
    pub fn terminate(&mut self, within: Duration) -> bool {
        self.signal(libc::SIGTERM);
        wait_for(within, || self.has_ended().then_some(())).is_some()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: `kill` takes two integers and touches no memory of ours; the child is not yet reaped, so the id is
        // its.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    /// How many lines that it printed hold these words.
    pub fn count_in_log(&self, words: &str) -> usize {
        self.log_text().lines().filter(|line| line.contains(words)).count()
    }

    /// All that it printed.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of what it printed.
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Fails the test with the log when the process does not come up.
    pub fn must(&mut self, what: &str, within: Duration, mut ready: impl FnMut() -> bool) {
        let mut ended = false;
        let up = wait_for(within, || {
            ended = self.has_ended();
            (ended || ready()).then_some(())
        });
        if ended || up.is_none() {
            let how = if ended { "ended" } else { "is late" };
            panic!("{} {how} before {what}; its log:\n{}", self.name, self.log_tail());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {}:\n{}\n---", self.name, self.log_tail());
        }
    }
}
