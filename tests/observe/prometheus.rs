//! Debian's Prometheus as a process of the test: it scrapes once a second and evaluates the alert rules.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rondo::server::admin::fetch::fetch;
use serde_json::Value;

use crate::support::client::http_get;
use crate::support::ports::free_port;
use crate::support::process::Process;

const START: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(20);

pub struct Prometheus {
    port: u16,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that scrapes these admin ports.
    pub fn start(targets: &[String]) -> Prometheus {
        let dir = tempfile::tempdir().unwrap();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/alerts.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: rondo\n    static_configs: [{{ targets: {targets:?} }}]\n",
            rules.display()
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let port = free_port();
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(dir.path().join("prometheus.yml"));
        command.arg("--storage.tsdb.path").arg(dir.path().join("data"));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::start("prometheus", command, &dir.path().join("log"));
        process.must("answering", START, || http_get(port, "/-/ready").is_some_and(|(status, _)| status == 200));
        Prometheus { port, _process: process, _dir: dir }
    }

    /// Whether an expression has an answer that is a number, not empty and not only NaN, and has these labels.
    pub fn has_data(&self, expression: &str, labels: &[String]) -> bool {
        let answer = self.ask(&format!("/api/v1/query?query={}", encoded(expression)));
        let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        let is_number = |series: &Value| series["value"][1].as_str().is_some_and(|value| value != "NaN");
        let is_labelled = |series: &Value| labels.iter().all(|label| series["metric"][label].is_string());
        series.iter().any(|series| is_number(series) && is_labelled(series))
    }

    /// The names of alerts that fire.
    pub fn firing(&self) -> Vec<String> {
        let answer = self.ask("/api/v1/alerts");
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    fn ask(&self, path: &str) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body = runtime.block_on(fetch("127.0.0.1", self.port, path, ANSWER));
        let body = body.unwrap_or_else(|error| panic!("Prometheus does not answer to {path}: {error}"));
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
