//! How the result of a load is shown: a few lines for people, or one JSON object for scripts.
//!
//! JSON fields never change their meaning: rates are per second, latencies are milliseconds, counts are counts.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::ledger::Verdict;
use super::options::Options;
use super::phase::Phase;
use super::tally::Tally;
use super::timeline::Timeline;

/// The result of one phase.
#[derive(Debug)]
pub struct Report {
    /// `fill` or the load proper.
    pub name: &'static str,
    /// How it was run.
    pub options: Options,
    /// The nodes that keys were sent to by their slots; 0 when they were not.
    pub nodes: usize,
    /// When measuring began, in milliseconds since 1970.
    pub began_unix_ms: Option<u64>,
    /// What was measured.
    pub tally: Tally,
    /// What reading back has shown, if that was wanted.
    pub verdict: Option<Verdict>,
}

impl Report {
    /// The report of a phase that is over.
    pub fn of(name: &'static str, phase: &Phase, nodes: usize, tally: Tally) -> Report {
        let (options, began_unix_ms) = (phase.options.clone(), phase.began_unix_ms());
        Report { name, options, nodes, began_unix_ms, tally, verdict: None }
    }

    /// How long was measured: from the end of the warm-up to the last reply.
    fn seconds(&self) -> f64 {
        Duration::from_nanos(self.tally.last_ns).saturating_sub(self.options.warmup).as_secs_f64()
    }

    fn throughput(&self) -> f64 {
        if self.seconds() > 0.0 { self.tally.operations as f64 / self.seconds() } else { 0.0 }
    }

    fn latency_ms(&self, quantile: f64) -> f64 {
        self.tally.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    /// For people: several lines, each ended.
    pub fn text(&self) -> String {
        let tally = &self.tally;
        let mut text = format!("{}: {}\n", self.name, self.describe());
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<12}{value}");
        };
        let (operations, seconds) = (with_commas(tally.operations), self.seconds());
        line(
            "throughput",
            format!("{} operations/s ({operations} in {seconds:.2} s)", with_commas(self.throughput() as u64)),
        );
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| self.latency_ms(quantile));
        let max = tally.latency.max() as f64 / 1e6;
        line("latency", format!("p50 {p50:.3} ms   p99 {p99:.3} ms   p99.9 {p999:.3} ms   max {max:.3} ms"));
        let reads = tally.hits + tally.misses;
        if reads > 0 {
            let percent = tally.hits as f64 * 100.0 / reads as f64;
            line(
                "reads",
                format!("{} hits, {} misses ({percent:.2} % hits)", with_commas(tally.hits), with_commas(tally.misses)),
            );
        }
        if tally.reconnects > 0 {
            line("reconnects", with_commas(tally.reconnects));
        }
        if tally.moved > 0 {
            line("moved", format!("{} times a key had gone to another node", with_commas(tally.moved)));
        }
        if let Some(verdict) = &self.verdict {
            let Verdict { keys, acknowledged, unknown, lost, absent, unreadable, .. } = verdict;
            let [keys, acknowledged, unknown] = [keys, acknowledged, unknown].map(|count| with_commas(*count));
            line(
                "read back",
                format!(
                    "{lost} of {acknowledged} acknowledged writes lost ({unknown} of unknown outcome); \
                     {keys} keys: {absent} absent, {unreadable} unreadable"
                ),
            );
        }
        for (label, error) in &tally.errors {
            line("errors", format!("{} x {label} (\"{}\")", with_commas(error.count), error.example));
        }
        if tally.errors.contains_key("MOVED") {
            line("hint", "keys live on other nodes: --cluster goes to them".to_owned());
        }
        if tally.misses > tally.hits && !self.options.fill {
            let what = "most reads found no key, which costs a server less than a hit";
            line("hint", format!("{what}: --fill loads all keys first"));
        }
        text
    }

    fn describe(&self) -> String {
        let (options, mix) = (&self.options, &self.options.mix);
        let what = match (mix.gets, mix.sets) {
            (_, 0) => "GET".to_string(),
            (0, _) => "SET".to_string(),
            (gets, sets) => format!("{gets} GET : {sets} SET"),
        };
        let ttl = mix.ttl_seconds.map_or(String::new(), |seconds| format!(", ttl {seconds} s"));
        let keys = with_commas(options.key_count);
        let skew = if options.skew > 0.0 { format!(" (zipf {})", options.skew) } else { String::new() };
        let pace = options.rate.map_or("closed loop".to_string(), |rate| format!("open loop at {rate}/s"));
        let target = match self.nodes {
            0 => options.addresses.join(","),
            nodes => format!("{} (cluster of {nodes})", options.addresses.join(",")),
        };
        let (bytes, connections, pipeline) = (mix.value_bytes, options.connections, options.pipeline);
        format!(
            "{what}, {bytes}-byte values{ttl}, {keys} keys{skew}; {target}, {connections} connections x {pipeline}, {pace}"
        )
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let (options, tally) = (&self.options, &self.tally);
        let errors: Map<String, Value> = tally
            .errors
            .iter()
            .map(|(label, error)| (label.clone(), json!({ "count": error.count, "example": error.example })))
            .collect();
        json!({
            "name": self.name,
            "addresses": options.addresses,
            "nodes": self.nodes,
            "connections": options.connections,
            "threads": options.threads,
            "pipeline": options.pipeline,
            "gets": options.mix.gets,
            "sets": options.mix.sets,
            "value_bytes": options.mix.value_bytes,
            "ttl_seconds": options.mix.ttl_seconds,
            "keys": options.key_count,
            "zipf": options.skew,
            "rate": options.rate,
            "seconds": self.seconds(),
            "operations": tally.operations,
            "operations_per_second": self.throughput(),
            "latency_ms": {
                "mean": tally.latency.mean() / 1e6,
                "p50": self.latency_ms(0.5),
                "p99": self.latency_ms(0.99),
                "p99_9": self.latency_ms(0.999),
                "max": tally.latency.max() as f64 / 1e6,
            },
            "hits": tally.hits,
            "misses": tally.misses,
            "reconnects": tally.reconnects,
            "moved": tally.moved,
            "errors": errors,
            "began_unix_ms": self.began_unix_ms,
            "timeline": tally.timeline.as_ref().map(Timeline::json),
            "read_back": self.verdict.as_ref().map(Verdict::json),
        })
    }
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_done_and_found() {
        let options = Options::of_line("-h a,b --warmup 1 --zipf 0.9 --rate 500").unwrap();
        let mut tally = Tally::new().unwrap();
        (tally.operations, tally.hits, tally.misses, tally.last_ns) = (1_234_567, 3, 1, 3_000_000_000);
        tally.latency(2_000_000, 10);
        tally.error("CLUSTERDOWN", 1_000, "CLUSTERDOWN why");
        tally.moved = 2_000;
        let verdict = Verdict { keys: 9, acknowledged: 1_000, lost: 2, ..Verdict::default() };
        let report =
            Report { name: "session", options, nodes: 0, began_unix_ms: Some(5), tally, verdict: Some(verdict) };
        let text = report.text();
        for part in [
            "session: 5 GET : 1 SET, 2048-byte values, ttl 1800 s, 100,000 keys (zipf 0.9); a:6379,b:6379, 50 connections",
            "open loop at 500/s",
            "617,283 operations/s (1,234,567 in 2.00 s)",
            "p50 2.0",
            "3 hits, 1 misses (75.00 % hits)",
            "1,000 x CLUSTERDOWN (\"CLUSTERDOWN why\")",
            "2,000 times a key had gone to another node",
            "2 of 1,000 acknowledged writes lost (0 of unknown outcome); 9 keys: 0 absent, 0 unreadable",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let json = report.json();
        assert_eq!(json["operations_per_second"], 617_283.5);
        assert_eq!((&json["errors"]["CLUSTERDOWN"]["count"], &json["moved"]), (&1_000.into(), &2_000.into()));
    }

    #[test]
    fn who_reads_what_was_never_written_is_told() {
        let text = |line: &str, hits, misses| {
            let (options, mut tally) = (Options::of_line(line).unwrap(), Tally::new().unwrap());
            (tally.operations, tally.hits, tally.misses) = (hits + misses, hits, misses);
            Report { name: "get", options, nodes: 0, began_unix_ms: None, tally, verdict: None }.text()
        };
        assert!(text("", 1, 2).contains("--fill loads all keys first"));
        assert!(!text("", 2, 1).contains("--fill") && !text("--fill", 1, 2).contains("loads all keys"));
    }

    #[test]
    fn nothing_measured_is_no_division_by_zero() {
        let (options, tally) = (Options::of_line("").unwrap(), Tally::new().unwrap());
        let report = Report { name: "get", options, nodes: 3, began_unix_ms: None, tally, verdict: None };
        assert!(report.text().contains("0 operations/s (0 in 0.00 s)"));
        assert_eq!(report.json()["operations"], 0);
    }
}
