//! What the clients of a test saw: each acknowledged or uncertain write, and each read, with its times.
//!
//! Times are nanoseconds since the start of the test, from one monotonic clock, so that "acknowledged before the read
//! began" is a comparison of numbers. Nothing here judges; `checkers.rs` does.

use std::collections::BTreeMap;
use std::time::Duration;

/// One attempt to SET `key` to `seq`. Each key has one writer, and each attempt a higher number than the one before.
#[derive(Clone, Debug)]
pub struct Write {
    pub key: usize,
    pub seq: u64,
    pub invoked: u64,
    /// When it was acknowledged; `None` when its outcome is unknown (an error, or no reply).
    pub acked: Option<u64>,
}

/// One GET that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    pub key: usize,
    /// `None` for nil.
    pub seq: Option<u64>,
    pub invoked: u64,
    pub returned: u64,
    pub node: String,
}

/// Increments of one counter by 1.
#[derive(Clone, Copy, Default, Debug)]
pub struct Count {
    pub acked: u64,
    pub unknown: u64,
}

/// Elements put into sets (or fields into hashes), each once, by the name of the collection.
#[derive(Clone, Default, Debug)]
pub struct Added {
    pub acked: Vec<(String, String)>,
    pub unknown: Vec<(String, String)>,
}

/// How long a key could not be used.
#[derive(Clone, Default, Debug)]
pub struct Pause {
    pub took: Duration,
    /// When it was over, since the start of the load.
    pub over_at: Duration,
    pub key: String,
}

/// Everything that some clients did.
#[derive(Clone, Default, Debug)]
pub struct History {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    pub counters: BTreeMap<String, Count>,
    pub added: Added,
    /// Error text -> how often.
    pub errors: BTreeMap<String, u64>,
    /// Class of commands -> the longest time from the first attempt on a key to its success.
    pub pauses: BTreeMap<&'static str, Pause>,
}

impl History {
    pub fn error(&mut self, node: &str, text: &str) {
        *self.errors.entry(format!("{node}: {text}")).or_default() += 1;
    }

    pub fn pause(&mut self, class: &'static str, pause: Pause) {
        let longest = self.pauses.entry(class).or_default();
        if pause.took > longest.took {
            *longest = pause;
        }
    }

    pub fn merge(&mut self, other: History) {
        self.writes.extend(other.writes);
        self.reads.extend(other.reads);
        for (key, count) in other.counters {
            let sum = self.counters.entry(key).or_default();
            sum.acked += count.acked;
            sum.unknown += count.unknown;
        }
        self.added.acked.extend(other.added.acked);
        self.added.unknown.extend(other.added.unknown);
        for (text, count) in other.errors {
            *self.errors.entry(text).or_default() += count;
        }
        for (class, pause) in other.pauses {
            self.pause(class, pause);
        }
    }

    /// A few lines for the test's output.
    pub fn summary(&self) -> String {
        let acked = self.writes.iter().filter(|write| write.acked.is_some()).count();
        let increments: u64 = self.counters.values().map(|count| count.acked).sum();
        let unknown = self.writes.len() - acked
            + self.counters.values().map(|count| count.unknown as usize).sum::<usize>()
            + self.added.unknown.len();
        let mut lines = vec![format!(
            "{acked} SETs, {increments} INCRs, {} SADDs and HSETs acknowledged, {unknown} writes unknown, {} reads",
            self.added.acked.len(),
            self.reads.len()
        )];
        for (class, Pause { took, over_at, key }) in &self.pauses {
            let (ms, s) = (took.as_secs_f64() * 1e3, over_at.as_secs_f64());
            lines.push(format!("longest pause of {class}: {ms:.1} ms ({key}, over at {s:.2} s)"));
        }
        lines.extend(self.errors.iter().take(12).map(|(text, count)| format!("{count} x {text}")));
        lines.join("\n  ")
    }
}
