//! `rondo cluster status` and `rondo cluster nodes`: the cluster as tables or JSON, asked of any node's admin-port.
//!
//! Exit codes, for scripts: 0 healthy, 1 nobody answered, 3 something is wrong (it is printed, with what to do).
//! `nodes` lists and does not judge: 0 when it was answered.

use std::io::Write;
use std::process::ExitCode;

use super::Failure;
use super::ask::{ADDRESS, Address, Asker, argument};
use super::units::{bytes, micros, number, percent, seconds};
use crate::server::admin::status::{ClusterStatus, Member, NodeFigures};
use clap::{Arg, ArgMatches, Command};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

/// The exit code for a cluster that is not healthy.
const NOT_HEALTHY: u8 = 3;
/// Characters of an id that tell nodes apart.
const ID_CHARS: usize = 8;

const AFTER: &str = "\
Any node knows the whole cluster: give the address of one that answers.

Exit codes: 0 healthy, 1 nobody answered, 2 wrong usage, 3 something is wrong.

Examples:
  rondo cluster status
  rondo cluster status 10.0.0.2:9379 -o json | jq .advice
  rondo cluster nodes";

/// The command.
pub fn command() -> Command {
    Command::new("cluster")
        .about("Show a running cluster: its nodes, how they are, and what to do when something is wrong")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .global(true)
                .value_name("FORMAT")
                .value_parser(["table", "json"])
                .default_value("table")
                .help("table for people, json for programs (the shape of /status)"),
        )
        .subcommand(Command::new("status").about("Health, and each node's load").arg(argument()))
        .subcommand(
            Command::new("nodes").about("Each node's addresses, zone, weight, version and slots").arg(argument()),
        )
        .after_help(AFTER)
}

/// Runs it. `mistakes` were found in the command line before.
pub fn run(matches: &ArgMatches, mistakes: Vec<String>) -> Result<ExitCode, Failure> {
    if !mistakes.is_empty() {
        return Err(Failure::Usage(mistakes));
    }
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Failure::Usage(vec!["no such command".into()]));
    };
    let Some(address) = matches.get_one::<Address>(ADDRESS) else {
        return Err(Failure::Usage(vec!["an address is missing".into()]));
    };
    let mut asker = Asker::new(address.clone()).map_err(|error| Failure::Failed(error.to_string()))?;
    let status = asker.status().map_err(Failure::Failed)?;
    let text = match (matches.get_one::<String>("output").map(String::as_str), name) {
        (Some("json"), "nodes") => json(&status.nodes),
        (Some("json"), _) => json(&status),
        (_, "nodes") => nodes(&status),
        _ => health(&status) + &load(&status) + &advice(&status),
    };
    // A reader that has gone away (`| head`) has seen what it wanted.
    _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(if status.healthy || name == "nodes" { ExitCode::SUCCESS } else { ExitCode::from(NOT_HEALTHY) })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn health(status: &ClusterStatus) -> String {
    let ring = &status.ring;
    let verdict = if status.healthy { "healthy" } else { "not healthy" };
    if ring.members == 0 {
        return format!("cluster {}: {verdict}, not a member of a cluster yet\n", status.cluster);
    }
    let agreed = if ring.agreed { "agreed" } else { "NOT AGREED" };
    let digest: String = ring.digest.chars().take(ID_CHARS).collect();
    format!(
        "cluster {}: {verdict}, {} of {} nodes up\nring {digest} {agreed}; N={} W={} R={} {}; {} of 16384 slots served\n",
        status.cluster,
        ring.up,
        ring.members,
        ring.replicas,
        ring.write_quorum,
        ring.read_quorum,
        ring.quorum_mode,
        16_384 - ring.slots_unserved.min(16_384),
    )
}

fn table(header: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn load(status: &ClusterStatus) -> String {
    let header =
        ["node", "state", "slots", "keys", "memory", "clients", "ops/s", "hit %", "read p99", "write p99", "hints"];
    let mut table = table(&header, 2);
    for member in &status.nodes {
        let of = |show: &dyn Fn(&NodeFigures) -> String| member.figures.as_ref().map_or("-".into(), show);
        table.add_row([
            member.name.clone(),
            member.condition.word().into(),
            member.slots_coordinated.to_string(),
            of(&|it| number(it.keys as f64)),
            of(&|it| memory(it)),
            of(&|it| it.clients.to_string()),
            of(&|it| number(it.rates.commands)),
            of(&|it| percent(it.rates.hit_ratio)),
            of(&|it| micros(it.latency.read.p99_us)),
            of(&|it| micros(it.latency.write.p99_us)),
            hints_for(status, member).to_string(),
        ]);
    }
    format!("{table}\n")
}

/// Memory, of how much when there is a limit.
pub fn memory(figures: &NodeFigures) -> String {
    match figures.memory.max_bytes {
        0 => bytes(figures.memory.used_bytes),
        max => format!("{} / {}", bytes(figures.memory.used_bytes), bytes(max)),
    }
}

/// Writes that the others keep for a member.
pub fn hints_for(status: &ClusterStatus, member: &Member) -> u64 {
    let links = status.nodes.iter().filter_map(|it| it.figures.as_ref()).flat_map(|it| &it.links);
    links.filter(|link| link.peer == member.id).map(|link| link.hints).sum()
}

fn advice(status: &ClusterStatus) -> String {
    let line = |advice: &crate::server::admin::status::Advice| {
        let about = advice.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
        format!("\n{:?}: {about}{}\n  -> {}\n", advice.severity, advice.problem, advice.next_step)
    };
    status.advice.iter().map(line).collect()
}

fn nodes(status: &ClusterStatus) -> String {
    let header = [
        "node",
        "id",
        "state",
        "clients at",
        "cluster",
        "peer",
        "admin",
        "zone",
        "weight",
        "version",
        "up",
        "held",
        "runs",
    ];
    let mut table = table(&header, 12);
    for member in &status.nodes {
        let figures = member.figures.as_ref();
        let up = match (member.down_s, figures) {
            (Some(down_s), _) => format!("down {}", seconds(down_s)),
            (None, Some(figures)) => seconds(figures.uptime_s),
            (None, None) => "-".into(),
        };
        table.add_row([
            member.name.clone(),
            member.id.chars().take(ID_CHARS).collect(),
            member.condition.word().into(),
            format!("{}:{}", member.host, member.port),
            member.cluster_port.to_string(),
            member.peer_addr.clone(),
            member.admin_port.to_string(),
            if member.zone.is_empty() { "-".into() } else { member.zone.clone() },
            member.weight.to_string(),
            figures.map_or("-".into(), |it| it.version.clone()),
            up,
            member.slots_held.to_string(),
            member.slots_coordinated.to_string(),
        ]);
    }
    format!("{table}\nheld: slots that it has a copy of; runs: slots whose commands it runs now\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::admin::status::RingStatus;

    #[test]
    fn the_first_lines_say_how_much_is_served_and_by_whom() {
        let ring = RingStatus { agreed: true, members: 3, up: 1, slots_unserved: 16_384, ..RingStatus::default() };
        let mut status = ClusterStatus {
            cluster: "c".into(),
            seen_from: "a".into(),
            time_ms: 0,
            healthy: false,
            advice: Vec::new(),
            ring,
            nodes: Vec::new(),
        };
        let text = health(&status);
        assert!(text.starts_with("cluster c: not healthy, 1 of 3 nodes up\n"), "{text}");
        assert!(text.ends_with("; 0 of 16384 slots served\n"), "{text}");
        (status.ring.members, status.ring.up) = (0, 0);
        assert_eq!(health(&status), "cluster c: not healthy, not a member of a cluster yet\n");
    }
}
