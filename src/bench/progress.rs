//! The progress line of a load, on standard error, and only if that is a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::options::Limit;

const DRAW_MS: u64 = 200;

/// A progress line, or nothing.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    by_time: bool,
    drawn: Instant,
    drawn_count: u64,
}

impl Progress {
    /// A line that is full at `end`.
    pub fn new(end: Limit) -> Progress {
        let (length, by_time) = match end {
            Limit::Time(time) => (time.as_millis() as u64, true),
            Limit::Operations(count) => (count, false),
        };
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}");
        let bar = style.ok().filter(|_| std::io::stderr().is_terminal()).map(|style| {
            let bar = ProgressBar::new(length);
            bar.set_style(style);
            bar
        });
        Progress { bar, by_time, drawn: Instant::now(), drawn_count: 0 }
    }

    /// Shows that `count` operations were settled after `elapsed`.
    pub fn draw(&mut self, count: u64, elapsed: Duration) {
        let since = self.drawn.elapsed();
        let Some(bar) = self.bar.as_ref().filter(|_| since >= Duration::from_millis(DRAW_MS)) else { return };
        let rate = (count - self.drawn_count) as f64 / since.as_secs_f64();
        bar.set_position(if self.by_time { elapsed.as_millis() as u64 } else { count });
        bar.set_message(format!("{rate:.0} operations/s"));
        (self.drawn, self.drawn_count) = (Instant::now(), count);
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
