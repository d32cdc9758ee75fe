//! Totals and gauges as Prometheus's text (exposition format 0.0.4).
//!
//! A recorder is made for each scrape and thrown away, so a series whose source is gone (a peer that left) ends instead
//! of staying at its last value. A scrape happens every few seconds and the whole page is some hundred lines.
//!
//! Commands that never ran have no series.

use super::latency::LatencyTotals;
use super::registry::{CommandTotals, Gauges, Registry, Series, Totals};
use super::table::{COMMAND_LATENCY, COMMANDS, COUNTS, Class, Compat, Count, Gauge, Kept, Kind, Metric, REDIS_NAMES};
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use std::fmt::Write;

const PREFIX: &str = "rondo_";
static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

impl Registry {
    /// Everything in Prometheus's text format; with `redis_names`, also under the names of redis_exporter.
    pub fn render(&self, redis_names: bool) -> String {
        render(&self.totals(), &self.gauges(), redis_names)
    }
}

/// The page.
fn render(totals: &Totals, gauges: &Gauges, redis_names: bool) -> String {
    let mut page = Page { recorder: PrometheusBuilder::new().build_recorder(), behind: String::new() };
    for (metric, value) in COUNTS.iter().zip(totals.counts()) {
        page.counter(&own(metric.name), metric.help, labels(metric.fixed_labels), value);
    }
    for series in gauges.series.iter().filter(|series| series.metric.kind == Kind::Gauge) {
        let metric = series.metric;
        page.gauge(&own(metric.name), metric.help, pairs(metric.labels, &series.labels), series.value);
    }
    for kept in Kept::all() {
        page.kept(&own(kept.metric().name), kept.metric().help, gauges.of(kept.metric()), true);
    }
    for (i, metric) in COMMANDS.iter().enumerate() {
        page.commands(&own(metric.name), metric.help, "command", &totals.commands, i);
    }
    page.histogram(&COMMAND_LATENCY, totals);
    if redis_names {
        REDIS_NAMES.iter().for_each(|(name, from)| page.compat(name, *from, totals, gauges));
    }
    page.recorder.handle().render() + &page.behind
}

fn own(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn labels(fixed: &[(&'static str, &'static str)]) -> Vec<Label> {
    fixed.iter().map(|(key, value)| Label::new(*key, *value)).collect()
}

fn pairs(names: &[&'static str], values: &[String]) -> Vec<Label> {
    names.iter().zip(values).map(|(name, value)| Label::new(*name, value.clone())).collect()
}

/// The text under construction: what the recorder holds, and what is written behind it.
struct Page {
    recorder: PrometheusRecorder,
    behind: String,
}

impl Page {
    fn counter(&mut self, name: &str, help: &str, labels: Vec<Label>, value: u64) {
        self.recorder.describe_counter(KeyName::from(name.to_owned()), None, SharedString::from(help.to_owned()));
        self.recorder.register_counter(&Key::from_parts(name.to_owned(), labels), &METADATA).absolute(value);
    }

    fn gauge(&mut self, name: &str, help: &str, labels: Vec<Label>, value: f64) {
        self.recorder.describe_gauge(KeyName::from(name.to_owned()), None, SharedString::from(help.to_owned()));
        self.recorder.register_gauge(&Key::from_parts(name.to_owned(), labels), &METADATA).set(value);
    }

    /// The family of [`COMMANDS`] with this index.
    fn commands(&mut self, name: &str, help: &str, label: &'static str, commands: &[CommandTotals], family: usize) {
        let value = |command: &CommandTotals| match family {
            0 => command.calls,
            2 => command.rejected,
            _ => command.failed,
        };
        let seen = commands.iter().filter(|command| command.calls + command.rejected + command.failed > 0);
        if family != 1 {
            for command in seen {
                self.counter(name, help, vec![Label::new(label, command.name)], value(command));
            }
            return;
        }
        // Seconds have fractions, and the recorder's counters are whole numbers.
        self.head(name, help, Kind::Counter);
        for command in seen {
            let seconds = command.us as f64 / 1e6;
            _ = writeln!(self.behind, "{name}{{{label}=\"{}\"}} {seconds}", command.name);
        }
    }

    /// Counters with fractions, with their labels or as one series without.
    fn kept<'s>(&mut self, name: &str, help: &str, all: impl Iterator<Item = &'s Series>, labelled: bool) {
        let mut all = all.peekable();
        if all.peek().is_some() {
            self.head(name, help, Kind::Counter);
        }
        for series in all {
            let names = series.metric.labels.iter().zip(&series.labels).filter(|_| labelled);
            let labels: Vec<String> = names.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            _ = writeln!(self.behind, "{name}{labels} {}", series.value);
        }
    }

    fn histogram(&mut self, metric: &Metric, totals: &Totals) {
        let name = own(metric.name);
        self.head(&name, metric.help, metric.kind);
        for class in Class::ALL {
            let label = format!("class=\"{}\"", class.name());
            let latency: &LatencyTotals = totals.latency(class);
            for (bound_us, seen) in latency.cumulated() {
                let bound = bound_us as f64 / 1e6;
                _ = writeln!(self.behind, "{name}_bucket{{{label},le=\"{bound}\"}} {seen}");
            }
            let count = latency.count();
            _ = writeln!(self.behind, "{name}_bucket{{{label},le=\"+Inf\"}} {count}");
            _ = writeln!(self.behind, "{name}_sum{{{label}}} {}", latency.sum_us as f64 / 1e6);
            _ = writeln!(self.behind, "{name}_count{{{label}}} {count}");
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        _ = writeln!(self.behind, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn compat(&mut self, name: &str, from: Compat, totals: &Totals, gauges: &Gauges) {
        const HELP: &str = "For dashboards made for redis_exporter.";
        match from {
            Compat::Count(count) => self.counter(name, HELP, Vec::new(), totals.count(count)),
            Compat::Constant(value) => self.gauge(name, HELP, Vec::new(), value),
            Compat::AllCommands => {
                let calls = totals.commands.iter().map(|command| command.calls).sum();
                self.counter(name, HELP, Vec::new(), calls);
            }
            Compat::Command(family) => self.commands(name, HELP, "cmd", &totals.commands, family),
            Compat::Gauge(gauge) => {
                for series in gauges.of(gauge.metric()) {
                    self.gauge(name, HELP, redis_labels(gauge, &series.labels), series.value);
                }
            }
            Compat::Kept(kept, label) => {
                let all = gauges.of(kept.metric()).filter(|series| series.labels.iter().any(|it| it == label));
                self.kept(name, HELP, all, false);
            }
        }
    }
}

/// A label's value as the text format writes it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Redis calls its databases `db0`, `db1` ..., we show the number.
fn redis_labels(gauge: Gauge, values: &[String]) -> Vec<Label> {
    match gauge {
        Gauge::Keys | Gauge::KeysExpiring => values.iter().map(|db| Label::new("db", format!("db{db}"))).collect(),
        _ => pairs(gauge.metric().labels, values),
    }
}

impl Totals {
    /// The counters in the order of their rows.
    fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        Count::all().map(|count| self.count(count))
    }
}
