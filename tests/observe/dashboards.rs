//! What Grafana would stumble over in a dashboard, found without it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::expressions::DASHBOARDS;
use crate::read;

const UNITS: [&str; 6] = ["short", "percentunit", "cps", "s", "bytes", "Bps"];

fn load(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list<'v>(value: &'v Value, key: &str) -> &'v Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key} in {value}"))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().filter(|text| !text.is_empty()).unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

#[test]
fn dashboards_are_well_formed() {
    let mut uids = BTreeSet::new();
    for path in DASHBOARDS {
        let dashboard = load(path);
        assert!(uids.insert(text(&dashboard, "uid").to_owned()));
        assert!(number(&dashboard, "schemaVersion") >= 36, "{path}");
        text(&dashboard, "title");
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard, "panels") {
            assert!(ids.insert(number(panel, "id")), "{path}: two panels have one id: {panel}");
            let title = text(panel, "title");
            if text(panel, "type") == "row" {
                continue;
            }
            assert!(["stat", "timeseries"].contains(&text(panel, "type")), "{title}");
            assert!(text(panel, "description").ends_with('.'), "{title}");
            assert!(UNITS.contains(&text(&panel["fieldConfig"]["defaults"], "unit")), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            let mut letters = BTreeSet::new();
            for target in list(panel, "targets") {
                assert!(letters.insert(text(target, "refId").to_owned()), "{title}");
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
                text(target, "expr");
            }
            assert!(!letters.is_empty(), "{title} asks nothing");
        }
    }
    for path in DASHBOARDS {
        for link in list(&load(path), "links") {
            let url = text(link, "url");
            let target = url.trim_start_matches("/d/").split('?').next().unwrap_or_default();
            assert!(uids.contains(target), "{path} links to {url}, which is no dashboard");
        }
    }
}

#[test]
fn panels_lie_beside_each_other_within_the_width() {
    for path in DASHBOARDS {
        let mut taken = BTreeSet::new();
        for panel in list(&load(path), "panels") {
            let grid = &panel["gridPos"];
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| number(grid, key));
            assert!(w > 0 && h > 0 && x + w <= 24, "{path}: {grid}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{path}: {} lies on another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn every_variable_that_is_used_is_declared_and_the_other_way_round() {
    for path in DASHBOARDS {
        let dashboard = load(path);
        let declared: Vec<&str> =
            list(&dashboard["templating"], "list").iter().map(|variable| text(variable, "name")).collect();
        assert_eq!(declared, ["datasource", "cluster", "instance"], "{path}");
        let whole = dashboard.to_string();
        for name in declared {
            let used = whole.contains(&format!("${name}")) || whole.contains(&format!("${{{name}"));
            assert!(used, "{path} never uses ${name}");
        }
        for panel in list(&dashboard, "panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                assert!(
                    text(target, "expr").contains("$instance"),
                    "{path}: {} asks every node there is",
                    panel["title"]
                );
            }
        }
    }
}
