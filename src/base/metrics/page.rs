//! The table as a page for people: `METRICS.md`, which rustdoc shows with this module.
//!
//! A test compares the file with [`markdown`], so the page cannot fall behind the table.

use super::table::{COMMAND_LATENCY, COMMANDS, COUNTS, GAUGES, KEPT, Metric, REDIS_NAMES};

const INTRODUCTION: &str = "# Metrics

`GET /metrics` on `admin-port` gives all of them in Prometheus's text format. `scripts/test observe` asks a real
Prometheus for every one that the dashboards and alerts in `grafana/` read.

Counters only grow until the process ends: look at them with `rate()`. CONFIG RESETSTAT changes what INFO shows and
not these, but for `rondo_errors_total`. Commands that never ran have no series. Times that the histogram shows include
waiting for other nodes; `rondo_commands_duration_seconds_total` does not.
";

const REDIS_INTRODUCTION: &str = "
## The names of redis_exporter

Dashboards and alerts made for redis_exporter find their names here too, without an exporter, unless
`metrics-redis-compat no` is set. `redis_instance_info` is left out: alerts count its masters, and here every node is one.

";

/// The page.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    table(&mut page, "Counters", COUNTS.iter().chain(&COMMANDS).chain(&KEPT));
    table(&mut page, "Latencies", [&COMMAND_LATENCY].into_iter());
    table(&mut page, "Gauges", GAUGES.iter());
    page += REDIS_INTRODUCTION;
    for (name, _) in REDIS_NAMES {
        page += &format!("- `{name}`\n");
    }
    page
}

/// One line a family: rows of one family stand beside each other and differ in the values of their labels.
fn table<'m>(page: &mut String, title: &str, metrics: impl Iterator<Item = &'m Metric>) {
    *page += &format!("\n## {title}\n\n| metric | unit | labels | |\n|---|---|---|---|\n");
    let mut metrics = metrics.peekable();
    while let Some(metric) = metrics.next() {
        let mut labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        for (label, value) in metric.fixed_labels {
            let mut values = vec![*value];
            while let Some(other) = metrics.next_if(|other| other.name == metric.name) {
                values.extend(other.fixed_labels.iter().filter(|(name, _)| name == label).map(|(_, value)| *value));
            }
            labels.push(format!("`{label}` ({})", values.join(", ")));
        }
        let (name, unit, labels, help) = (metric.name, metric.unit(), labels.join(", "), metric.help);
        *page += &format!("| `rondo_{name}` | {unit} | {labels} | {help} |\n");
    }
}
