//! What `rondo dev` prints: the table of nodes, lines to paste, and how a node ended.

use super::node::Node;
use super::plan;
use crate::base::config::Settings;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// Prints the running cluster.
pub fn cluster(nodes: &[Node], settings: &Settings, host: IpAddr, dir: &Path) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["node", "port", "cluster-port", "peer-port", "pid", "live page"]);
    for node in nodes {
        let ports = node.plan.ports;
        let page = format!("http://{}/", SocketAddr::new(host, ports.admin));
        let [number, port, cluster, peer] = [node.plan.number, ports.port, ports.cluster, ports.peer];
        table.add_row([&number, &port, &cluster, &peer, &node.pid as &dyn ToString, &page].map(ToString::to_string));
    }
    let quorum = |given: usize| given.min(nodes.len());
    say(&table.to_string());
    say(&format!(
        "{}, {} of each key, write quorum {}, read quorum {}; data in memory only; logs in {}\n",
        count(nodes.len(), "node", "nodes"),
        count(quorum(settings.replicas), "copy", "copies"),
        quorum(settings.write_quorum),
        quorum(settings.read_quorum),
        dir.display()
    ));
    if let (Some(first), Some(last)) = (nodes.first(), nodes.last()) {
        say(&lines_to_paste(first, last, plan::after_a_death(nodes.len(), settings), settings, host));
    }
    say(&format!("Ctrl-C stops {}.", if nodes.len() == 1 { "it" } else { "them all" }));
}

/// So many of something.
pub fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// Prints a line. A reader that has gone away (`rondo dev | head`) must not end the cluster.
pub fn say(line: &str) {
    _ = writeln!(io::stdout(), "{line}");
}

fn lines_to_paste(first: &Node, last: &Node, death: &'static str, settings: &Settings, host: IpAddr) -> String {
    let (port, other_port, cluster_port) = (first.plan.ports.port, last.plan.ports.port, first.plan.ports.cluster);
    let to = if host.is_ipv4() && host.is_loopback() { String::new() } else { format!(" -h {host}") };
    let (auth, python_auth) = match settings.requirepass.is_empty() {
        true => ("", ""),
        false => (" --askpass", ", password=input('password: ')"),
    };
    let mut lines = vec![
        (format!("redis-cli{to} -p {port}{auth} set greeting hello"), "any client, any node"),
        (format!("redis-cli{to} -p {other_port}{auth} get greeting"), "one keyspace"),
        (format!("redis-cli{to} -c -p {cluster_port}{auth}"), "a Redis Cluster client"),
        (
            format!(
                "python3 -c \"import redis; print(redis.Redis('{host}', {other_port}{python_auth}).get('greeting'))\""
            ),
            "",
        ),
    ];
    let admin = SocketAddr::new(host, first.plan.ports.admin);
    lines.push((format!("curl http://{admin}/metrics"), "metrics for Prometheus"));
    if first.pid != last.pid {
        lines.push((format!("kill -9 {}", last.pid), death));
    }
    let width = lines.iter().filter(|(_, why)| !why.is_empty()).map(|(line, _)| line.len()).max().unwrap_or(0);
    let with_reason = |(line, why): (String, &str)| match why {
        "" => format!("  {line}\n"),
        why => format!("  {line:width$}   # {why}\n"),
    };
    lines.into_iter().map(with_reason).collect()
}

/// How a process ended, as the end of a sentence about it.
pub fn ending(status: &io::Result<ExitStatus>) -> String {
    match status {
        Err(error) => format!("is lost: {error}"),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(9)) => "was killed (SIGKILL)".to_owned(),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
    }
}

/// Whether it was ended by a signal that people send: SIGINT, SIGKILL or SIGTERM.
pub fn was_told_to_end(status: &io::Result<ExitStatus>) -> bool {
    status.as_ref().is_ok_and(|status| matches!(status.signal(), Some(2 | 9 | 15)))
}
