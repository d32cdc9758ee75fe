//! What a load has measured so far: counts, errors by name, and the latency histogram.
//!
//! Latency is kept in nanoseconds in an HDR histogram with three significant digits, up to an hour. An operation that
//! was never answered is an error, and still counts in the histogram with the time it had waited when it was given up,
//! so that an outage cannot look fast. An operation that was answered with an error counts only as that error.
//!
//! Bounded: at most [`LABELS_MAX`] different errors are told apart; the rest is counted as one.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::replies::Answer;
use super::timeline::Timeline;

/// How many different errors are told apart.
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 32;
const EXAMPLE_BYTES_MAX: usize = 200;
const LATENCY_NS_MAX: u64 = 3_600 * 1_000_000_000;

/// One kind of error.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ErrorCount {
    /// How often.
    pub count: u64,
    /// The text of the first one.
    pub example: String,
}

/// The results of one thread, or of all.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Operations that were answered without an error.
    pub operations: u64,
    /// Values that came back.
    pub hits: u64,
    /// Nulls that came back.
    pub misses: u64,
    /// Connections that broke and were opened anew.
    pub reconnects: u64,
    /// Operations that were told that their key is elsewhere (MOVED).
    pub moved: u64,
    /// Errors by their first word.
    pub errors: BTreeMap<String, ErrorCount>,
    /// Nanoseconds from when an operation should have started to its reply.
    pub latency: Histogram<u64>,
    /// When the last reply came, in nanoseconds since the load began.
    pub last_ns: u64,
    /// How it went over time, if that is wanted; counts from the beginning of measuring.
    pub timeline: Option<Timeline>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Result<Tally, hdrhistogram::CreationError> {
        Ok(Tally {
            operations: 0,
            hits: 0,
            misses: 0,
            reconnects: 0,
            moved: 0,
            errors: BTreeMap::new(),
            latency: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?,
            last_ns: 0,
            timeline: None,
        })
    }

    /// Counts what one reply was; its latency is recorded apart, because a batch has one.
    pub fn reply(&mut self, reply: Answer<'_>) {
        match reply {
            Answer::Done => self.operations += 1,
            Answer::Hit => {
                self.operations += 1;
                self.hits += 1;
            }
            Answer::Miss => {
                self.operations += 1;
                self.misses += 1;
            }
            Answer::Error(text) => {
                let text = String::from_utf8_lossy(text.get(..EXAMPLE_BYTES_MAX).unwrap_or(text)).into_owned();
                let label = text.split(' ').next().unwrap_or_default().to_string();
                self.error(&label, 1, &text);
            }
        }
    }

    /// Counts one reply to an operation that was due at `due_ns`, and places it in the timeline.
    pub fn settled(&mut self, reply: Answer<'_>, due_ns: u64, latency_ns: u64) {
        self.reply(reply);
        if let Some(timeline) = &mut self.timeline {
            match reply {
                Answer::Error(_) => timeline.refused(due_ns),
                _ => timeline.answered(due_ns, latency_ns, reply == Answer::Miss),
            }
        }
    }

    /// Counts an operation that was due at `due_ns` and given up without an answer after `waited_ns`.
    pub fn given_up(&mut self, due_ns: u64, waited_ns: u64, label: &str, reason: &str) {
        self.error(label, 1, reason);
        self.latency(waited_ns, 1);
        self.timeline.iter_mut().for_each(|timeline| timeline.refused(due_ns));
    }

    /// Records `count` operations that took `latency_ns` each.
    pub fn latency(&mut self, latency_ns: u64, count: u64) {
        self.latency.saturating_record_n(latency_ns.max(1), count);
    }

    /// Counts errors that the server has not put in words itself.
    pub fn error(&mut self, label: &str, count: u64, example: &str) {
        let label: String = label.chars().take(LABEL_BYTES_MAX).collect();
        let known = self.errors.len() < LABELS_MAX || self.errors.contains_key(&label);
        let entry = self.errors.entry(if known { label } else { "others".to_string() }).or_default();
        if entry.count == 0 {
            entry.example = example.to_string();
        }
        entry.count += count;
    }

    /// Adds another thread's results.
    pub fn merge(&mut self, other: &Tally) {
        self.operations += other.operations;
        self.hits += other.hits;
        self.misses += other.misses;
        self.reconnects += other.reconnects;
        self.moved += other.moved;
        self.last_ns = self.last_ns.max(other.last_ns);
        for (label, error) in &other.errors {
            self.error(label, error.count, &error.example);
        }
        // Both histograms have the same bounds, so there is nothing that could not be added.
        self.latency += &other.latency;
        match (&mut self.timeline, &other.timeline) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours, theirs) => *ours = ours.take().or_else(|| theirs.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_count(tally: &Tally) -> u64 {
        tally.errors.values().map(|error| error.count).sum()
    }

    #[test]
    fn replies_are_counted_by_what_they_were() {
        let mut tally = Tally::new().unwrap();
        for reply in [Answer::Done, Answer::Hit, Answer::Hit, Answer::Miss, Answer::Error(b"MOVED 1 a:1")] {
            tally.reply(reply);
        }
        tally.reply(Answer::Error(b"MOVED 2 b:1"));
        assert_eq!((tally.operations, tally.hits, tally.misses, error_count(&tally)), (4, 2, 1, 2));
        assert_eq!(tally.errors["MOVED"], ErrorCount { count: 2, example: "MOVED 1 a:1".into() });
    }

    #[test]
    fn a_server_that_invents_errors_does_not_fill_memory() {
        let mut tally = Tally::new().unwrap();
        for number in 0..1_000 {
            tally.reply(Answer::Error(format!("{number:0>300}").as_bytes()));
            tally.reply(Answer::Error(format!("E{number} x").as_bytes()));
        }
        assert!(tally.errors.len() <= LABELS_MAX + 1);
        assert_eq!(error_count(&tally), 2_000);
    }

    #[test]
    fn merging_adds() {
        let (mut one, mut two) = (Tally::new().unwrap(), Tally::new().unwrap());
        one.latency(1_000_000, 99);
        two.latency(90_000_000, 1);
        two.error("timed out", 3, "");
        one.merge(&two);
        assert_eq!((one.latency.len(), error_count(&one)), (100, 3));
        assert!(one.latency.value_at_quantile(0.5) < 1_001_000 && one.latency.max() >= 90_000_000);
    }
}
