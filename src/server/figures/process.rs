//! What the operating system says of this process and machine. Linux's `/proc`; elsewhere the figures are 0.

use std::fs;

/// Bytes of `/proc` figures that are given in kB.
const KB: u64 = 1_024;

/// Clock ticks of `/proc/self/stat` per second: fixed at 100 for user space on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// What does not change while the process runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// The process's number.
    pub pid: u32,
    /// The file that is running.
    pub executable: String,
    /// System, its version, and the kind of processor.
    pub os: String,
    /// Memory of the machine, in bytes.
    pub machine_bytes: u64,
    /// Its resident memory when this was read, before there was any data, in bytes.
    pub startup_bytes: u64,
    /// When this was read, near enough to when the process began, in milliseconds since 1970.
    pub started_ms: u64,
    /// 40 hexadecimal digits, new at every start.
    pub run_id: String,
}

impl Process {
    /// Reads it, at `now_ms`.
    pub fn read(run_id: String, now_ms: u64) -> Process {
        let kernel = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        let (system, version) = (kernel("ostype"), kernel("osrelease"));
        let executable = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        Process {
            pid: std::process::id(),
            executable,
            os: format!("{} {} {}", system.trim(), version.trim(), std::env::consts::ARCH),
            machine_bytes: kb_field("/proc/meminfo", "MemTotal:"),
            startup_bytes: resident_bytes(),
            started_ms: now_ms,
            run_id,
        }
    }
}

/// Resident memory, in bytes.
pub fn resident_bytes() -> u64 {
    kb_field("/proc/self/status", "VmRSS:")
}

/// Processor time used by all threads: seconds in user mode and in the kernel.
pub fn cpu_seconds() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the process, in parentheses, may hold anything; the state is the first field behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let seconds = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / TICKS_PER_S;
    (seconds(11), seconds(12))
}

/// The value of `name` in a file of lines `name value kB`, in bytes.
fn kb_field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kb: u64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
    kb * KB
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_a_running_process() {
        let process = Process::read("0".repeat(40), 5);
        assert!(process.pid > 0 && process.os.starts_with("Linux ") && process.machine_bytes > 1 << 20);
        assert!(resident_bytes() > 1 << 20 && resident_bytes() < process.machine_bytes);
        let begin = cpu_seconds();
        let until = std::time::Instant::now() + std::time::Duration::from_millis(50);
        while std::time::Instant::now() < until {
            std::hint::black_box(0);
        }
        let end = cpu_seconds();
        assert!(end.0 + end.1 >= begin.0 + begin.1 && end.0 + end.1 < 100_000.0);
    }
}
