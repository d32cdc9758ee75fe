//! What is asked of Prometheus: the expressions of dashboards, rules and redis_exporter's dashboard.

use serde_json::Value;

use crate::read;

/// The dashboards.
pub const DASHBOARDS: [&str; 2] = ["grafana/dashboards/overview.json", "grafana/dashboards/node.json"];

/// One rule.
#[derive(Debug, Default)]
pub struct Rule {
    /// The alert's name; none for a recorded series.
    pub alert: Option<String>,
    pub expression: String,
    pub has_runbook: bool,
}

/// One expression.
#[derive(Debug)]
pub struct Asked {
    /// Where it stands.
    pub place: String,
    pub expression: String,
    /// The labels that the legend shows, which the answer must have.
    pub labels: Vec<String>,
}

impl Asked {
    fn new(place: impl Into<String>, expression: impl Into<String>) -> Asked {
        Asked { place: place.into(), expression: expression.into(), labels: Vec::new() }
    }
}

/// Every expression.
pub fn all() -> Vec<Asked> {
    let mut all = Vec::new();
    for path in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(&read(path)).unwrap();
        collect(&dashboard, path, &mut all);
    }
    for rule in rules(&read("grafana/alerts.yml")) {
        all.push(Asked::new(format!("alerts.yml {}", rule.alert.unwrap_or_default()), rule.expression));
    }
    let exporter = read("tests/observe/redis_exporter.txt");
    let lines = exporter.lines().filter(|line| !line.starts_with('#'));
    all.extend(lines.map(|line| Asked::new("redis_exporter.txt", line)));
    all
}

/// The `expr` fields of panels; those of annotations mark events that a quiet cluster does not have.
fn collect(value: &Value, place: &str, all: &mut Vec<Asked>) {
    for panel in value["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let place = format!("{place}: {}", panel["title"].as_str().unwrap());
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let labels =
                legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).map(str::to_owned).collect();
            all.push(Asked { labels, ..Asked::new(place, target["expr"].as_str().unwrap()) });
        }
    }
}

/// The rules of a file that has one key a line and folded expressions (`>-`), as ours does.
pub fn rules(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut folded = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("- alert: ") {
            rules.push(Rule { alert: Some(name.to_owned()), ..Rule::default() });
        } else if trimmed.starts_with("- record: ") {
            rules.push(Rule::default());
        } else if let Some(expression) = trimmed.strip_prefix("expr: ") {
            folded = expression == ">-";
            rules.last_mut().unwrap().expression = if folded { String::new() } else { expression.to_owned() };
            continue;
        } else if trimmed.strip_prefix("runbook: ").is_some_and(|text| text.len() > 20) {
            rules.last_mut().unwrap().has_runbook = true;
        } else if folded && line.starts_with("          ") {
            let expression = &mut rules.last_mut().unwrap().expression;
            expression.push_str(trimmed);
            expression.push(' ');
            continue;
        }
        folded = false;
    }
    rules
}

/// The series that an expression reads: each name with the labels behind it.
pub fn selectors(expression: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let (mut rest, mut quoted) = (expression, false);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end == 0 || quoted {
            quoted ^= first == '"';
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, tail) = rest.split_at(end);
        let is_metric = word.starts_with("rondo") || word.starts_with("redis_") || word == "up";
        let labels = if tail.starts_with('{') { &tail[..=tail.find('}').unwrap()] } else { "" };
        if is_metric {
            found.push(format!("{word}{labels}"));
        }
        rest = if is_metric { &tail[labels.len()..] } else { tail };
    }
    found
}

/// The expression as Grafana would send it, with windows that fit a test.
pub fn filled_in(expression: &str) -> String {
    let windows = ["$__rate_interval", "$__interval", "5m", "10m", "1h", "1d", "30m"];
    let mut filled = expression.replace("$instance", ".+");
    for window in windows {
        filled = filled.replace(&format!("[{window}]"), "[20s]");
    }
    assert!(!filled.contains('$'), "{filled} has a variable that nobody fills in");
    filled
}

#[test]
fn selectors_are_found_with_their_labels() {
    let expression = r#"sum by (rondo_x) (rate(rondo_a_total{c="rondo_no",d=~"x|y"}[5m])) / up > 0.9 and rondo:r"#;
    assert_eq!(selectors(expression), ["rondo_x", r#"rondo_a_total{c="rondo_no",d=~"x|y"}"#, "up", "rondo:r"]);
}

#[test]
fn rules_are_read_with_folded_expressions() {
    let text =
        "rules:\n  - alert: A\n    expr: >-\n          up\n          > 0\n    for: 1m\n  - record: r\n    expr: up\n";
    let rules = rules(text);
    assert_eq!((rules[0].expression.as_str(), rules[1].expression.as_str()), ("up > 0 ", "up"));
    assert!(rules[1].alert.is_none() && !rules[0].has_runbook);
}
