//! What the nodes log, with the simulated time and the address of who says it, when `RONDO_SIMULATION_TRACE` names a
//! level.

use std::fmt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::os;
use crate::base::net::simulated;

struct Timer;

impl FormatTime for Timer {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", stamp())
    }
}

fn stamp() -> String {
    let who = simulated::here().map_or("world".to_owned(), |ip| ip.to_string());
    format!("{:>10.6} {who}", os::now_us() as f64 / 1e6)
}

/// From now on the current process writes what its nodes log to standard error.
pub fn start() {
    if let Ok(level) = std::env::var("RONDO_SIMULATION_TRACE") {
        let to_stderr = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_timer(Timer);
        to_stderr.with_env_filter(EnvFilter::new(level)).init();
    }
}
