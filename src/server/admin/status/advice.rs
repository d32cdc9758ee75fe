//! What is wrong with a cluster, and what to do about it. Pure: a function of the figures.
//!
//! Each rule looks for one thing and names one next step. The alert rules in `grafana/alerts.yml` watch the same things
//! over time; here only the moment counts, and the last ten seconds.

use std::collections::BTreeMap;

use super::local::SLOW_US;
use super::{Advice, ClusterStatus, Condition, Member, NodeFigures, Placing, Severity};
use crate::base::clock::SKEW_MS_MAX;
use crate::cluster::set_back::SetBack;

/// Share of a limit from which on it is worth saying.
const NEAR: f64 = 0.9;
/// Clocks further apart than this are wrong, in milliseconds.
const CLOCKS_APART_MS: f64 = 250.0;
/// Gossip is never silent for so long between members that reach each other, in seconds.
const GOSSIP_SILENCE_S: u64 = 15;
/// So many slow commands in ten seconds are not just one that was large.
const SLOW_MIN: u64 = 10;
/// So many writes of unknown outcome in ten seconds are not just those that a node took along when it died.
const UNKNOWN_MIN: u64 = 10;

/// Everything that is wrong, worst first.
pub fn of(status: &ClusterStatus) -> Vec<Advice> {
    let mut found = Vec::new();
    let is_one_down = status.nodes.iter().any(|member| member.condition == Condition::Down);
    ring(status, &mut found);
    options(status, &mut found);
    for member in &status.nodes {
        condition(member, &mut found);
        if let Some(figures) = &member.figures {
            let mut note = |severity, problem: String, next_step: &str| {
                found.push(Advice { severity, node: Some(member.name.clone()), problem, next_step: next_step.into() });
            };
            // Before what follows from it.
            clock(figures, &mut note);
            serving(figures, is_one_down, &mut note);
            limits(figures, &mut note);
            data_dir(figures, &mut note);
            strangers(figures, &mut note);
            gossip(figures, &mut note);
            placing(member, figures, &mut note);
        }
    }
    found.sort_by_key(|advice| std::cmp::Reverse(advice.severity));
    found
}

fn ring(status: &ClusterStatus, found: &mut Vec<Advice>) {
    let ring = &status.ring;
    let mut note = |severity, problem: String, next_step: &str| {
        found.push(Advice { severity, node: None, problem, next_step: next_step.into() });
    };
    if ring.members == 0 {
        let waits = ring.waiting.as_ref().map(|waits| format!(": {waits}")).unwrap_or_default();
        let problem = format!("The node that was asked is not a member of a cluster yet{waits}.");
        let next_step = "Start the nodes that it waits for and check that they answer on their peer-port. If they will not come \
                         back, RONDO.FOUND, sent to this node, begins a new, empty cluster without them.";
        note(Severity::Critical, problem, next_step);
    }
    if ring.members > 0 && ring.slots_unserved > 0 {
        let problem = format!("{} of 16384 slots have no node that can run their commands.", ring.slots_unserved);
        let next_step = "Start the nodes that are down again. To go on without them, at the price that the next failure loses \
                         writes: CONFIG SET write-quorum 1 read-quorum 1 on the nodes that are left.";
        note(Severity::Critical, problem, next_step);
    }
    if !ring.agreed {
        let next_step = "Wait half a minute; if it goes on, check that every node reaches every other's peer-port.";
        note(Severity::Warning, "Nodes do not agree on who owns which slots.".into(), next_step);
    }
    if ring.members > 1 && ring.members < ring.replicas {
        let problem = format!(
            "Each key has {} copies and not the {} of `replicas`: there are too few nodes.",
            ring.members, ring.replicas
        );
        note(Severity::Info, problem, "Start further nodes with `join`.");
    }
}

/// CONFIG SET is of one node, and so are files: options that concern all are easily forgotten on one.
fn options(status: &ClusterStatus, found: &mut Vec<Advice>) {
    let mut values: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (member, figures) in status.nodes.iter().filter_map(|member| Some((member, member.figures.as_ref()?))) {
        for (option, value) in &figures.common_options {
            values.entry(option).or_default().entry(value).or_default().push(&member.name);
        }
    }
    for (option, nodes_of) in values.into_iter().filter(|(_, nodes_of)| nodes_of.len() > 1) {
        let told: Vec<String> =
            nodes_of.iter().map(|(value, nodes)| format!("{value} on {}", nodes.join(", "))).collect();
        let next_step = match option {
            "replicas" => {
                "Restart those that differ with the same value: before that nodes do not agree on who holds what."
            }
            _ => "Set it alike: CONFIG SET, and CONFIG REWRITE or the file, on each node that differs.",
        };
        let problem = format!("Nodes differ in `{option}`: {}.", told.join("; "));
        found.push(Advice { severity: Severity::Warning, node: None, problem, next_step: next_step.into() });
    }
}

fn condition(member: &Member, found: &mut Vec<Advice>) {
    let (severity, problem, next_step) = match (member.condition, &member.silent) {
        (Condition::Down, _) if member.given_up => (
            Severity::Info,
            "It is down, and being given up.".into(),
            "Wait: it is gone when the others hold what it held.".into(),
        ),
        (Condition::Down, reason) => {
            let since = member.down_s.map(|down_s| format!(" for {}", for_people(down_s))).unwrap_or_default();
            let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let next_step = format!(
                "Start it again at {} with the same data-dir and cluster-secret, and end it before if its process is there and \
                 hangs; the others stand in for it as far as they reach W and R. If it will not come back, give it up: \
                 RONDO.FORGET {}",
                member.peer_addr, member.id
            );
            (Severity::Warning, format!("It has not answered{since}{why}."), next_step)
        }
        (_, Some(reason)) => (
            Severity::Info,
            format!("It serves, but its figures could not be asked for: {reason}."),
            format!("Make port {} of {} reachable from the other nodes.", member.admin_port, member.host),
        ),
        (Condition::Filling, None) => (
            Severity::Info,
            "It came back empty and fetches its keys from the others.".into(),
            "Wait: it answers no read for a slot before it has it.".into(),
        ),
        (Condition::Catching, None) => (
            Severity::Info,
            "It is being handed the writes that it missed.".into(),
            "Wait: nothing is read from it before it has them.".into(),
        ),
        (Condition::Joining | Condition::Leaving, None) => (
            Severity::Info,
            format!("It is {}: slots are changing hands.", member.condition.word()),
            "Wait, and change no other node meanwhile.".into(),
        ),
        (Condition::Up, None) => return,
    };
    found.push(Advice { severity, node: Some(member.name.clone()), problem, next_step });
}

/// A time in its largest unit.
fn for_people(seconds: u64) -> String {
    match seconds {
        0 => "a moment".into(),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

type Note<'a> = &'a mut dyn FnMut(Severity, String, &str);

fn serving(figures: &NodeFigures, is_one_down: bool, note: Note<'_>) {
    if figures.workers_stuck > 0 {
        let problem = format!("{} of its {} workers are stuck.", figures.workers_stuck, figures.workers);
        note(Severity::Critical, problem, "Read its log, then restart it; send the log with a report.");
    }
    if let Some(reason) = &figures.not_ready {
        let problem = format!("It is not ready: {reason}.");
        note(Severity::Critical, problem, "Start the nodes that are down; check its peer-port if none is.");
    }
    if figures.recent.quorum_failures > 0 {
        let refused = match figures.recent.quorum_failures {
            1 => "a command".into(),
            many => format!("{many} commands"),
        };
        let problem = format!("It refused {refused} in the last ten seconds for want of a quorum.");
        let next_step = match is_one_down {
            true => {
                "Start the nodes that are down, or give up for ever with RONDO.FORGET those that will not come back."
            }
            false => "No node is down: look at the CPU of their machines and at the links between them.",
        };
        note(Severity::Critical, problem, next_step);
    }
    if figures.recent.unknown_outcomes > 0 {
        let (problem, severity) = match figures.recent.unknown_outcomes {
            1 => ("The outcome of one write is not known.".into(), Severity::Info),
            few @ ..UNKNOWN_MIN => (format!("The outcome of {few} writes is not known."), Severity::Info),
            many => (format!("The outcome of {many} writes is not known."), Severity::Warning),
        };
        note(severity, problem, "Look for a node that is down or slow; clients must look before they repeat.");
    }
    let slowest = figures.latency.read.p99_us.max(figures.latency.write.p99_us);
    if slowest > SLOW_US && figures.slow_commands >= SLOW_MIN {
        let problem = format!("One command in a hundred takes up to {} ms.", slowest / 1_000);
        note(Severity::Warning, problem, "Look at SLOWLOG, at the machine's CPU and at the links to the other nodes.");
    }
}

fn limits(figures: &NodeFigures, note: Note<'_>) {
    let memory = &figures.memory;
    let counted_bytes = memory.used_bytes.saturating_sub(memory.tombstone_bytes);
    if memory.max_bytes > 0 && counted_bytes as f64 > memory.max_bytes as f64 * NEAR {
        let what = match memory.policy.as_str() {
            "noeviction" => (Severity::Critical, "writes are about to be refused"),
            // What a cache is made for; any other loses what somebody has given a lifetime.
            policy if figures.recent.evicted_keys > 0 && policy.starts_with("allkeys") => {
                (Severity::Info, "keys are being evicted")
            }
            _ if figures.recent.evicted_keys > 0 => (Severity::Warning, "keys are being evicted"),
            _ => (Severity::Info, "keys will be evicted"),
        };
        let problem = format!("Its memory is nearly used up: {}.", what.1);
        note(what.0, problem, "Raise maxmemory, give keys a TTL, or add a node.");
    }
    if memory.max_bytes > 0 && memory.tombstone_bytes > memory.max_bytes / 4 {
        let took_mb = memory.tombstone_bytes >> 20;
        let problem = format!("Deletions that it remembers take {took_mb} MB, beside what maxmemory counts.");
        let action = "They go when all replicas have them. Start nodes that are down, or give them up (RONDO.FORGET); \
                      tombstone-horizon-ms and tombstone-bytes-max say for how long one is waited for.";
        note(Severity::Warning, problem, action);
    }
    if figures.clients_max > 0 && figures.clients as f64 > figures.clients_max as f64 * NEAR {
        let problem = format!("{} of at most {} clients are connected.", figures.clients, figures.clients_max);
        note(Severity::Warning, problem, "Raise maxclients, or let clients keep smaller pools.");
    }
    if figures.recent.hints_dropped > 0 {
        let problem = format!(
            "A node was away for longer than hint-age-max-ms: {} writes that it missed reached it by comparing whole slots.",
            figures.recent.hints_dropped
        );
        note(
            Severity::Info,
            problem,
            "Nothing is lost; raise hint-age-max-ms to have such writes handed over instead.",
        );
    }
}

/// A row takes effect only when those who act on it have it on disk.
fn data_dir(figures: &NodeFigures, note: Note<'_>) {
    if let Some(why) = &figures.members_unwritten {
        let problem = format!("It cannot write into its data-dir ({why}): nodes that join or leave wait for it.");
        note(Severity::Warning, problem, "Make room there, or make it writable: it tries again every second.");
    }
}

fn strangers(figures: &NodeFigures, note: Note<'_>) {
    if figures.recent.peers_refused > 0 {
        let problem = format!(
            "Its peer-port refused {} connections in the last ten seconds: another cluster-secret, cluster-name \
             or version, or this node's own node-name.",
            figures.recent.peers_refused
        );
        note(Severity::Info, problem, "Its log says from where they came, and what to do.");
    }
}

/// Members ping each other twice a second: where links are open and no ping comes, something lets TCP through and UDP
/// not.
fn gossip(figures: &NodeFigures, note: Note<'_>) {
    if figures.gossip_silence_s >= GOSSIP_SILENCE_S && figures.links.iter().any(|link| link.open) {
        let problem = format!("Gossip has brought it nothing for {}.", for_people(figures.gossip_silence_s));
        note(Severity::Warning, problem, "Let UDP through on the peer-port as well as TCP, both ways.");
    }
}

/// Only a clock that is ahead is told, so that each pair of nodes is told of once.
fn clock(figures: &NodeFigures, note: Note<'_>) {
    let behind = |link: &super::Link| link.clock_ahead_ms.map_or(0.0, |ahead_ms| -ahead_ms);
    let apart_ms = figures.links.iter().map(behind).fold(0.0, f64::max);
    if apart_ms > CLOCKS_APART_MS {
        let problem = format!("Its clock is {apart_ms:.0} ms ahead of another node's.");
        let severity = if apart_ms > SKEW_MS_MAX as f64 { Severity::Critical } else { Severity::Warning };
        note(severity, problem, "Set the clocks by NTP: beyond 500 ms the others refuse its writes.");
    }
    if let Some(set_back) = SetBack::of(figures.stamps_ahead_ms).filter(|_| !figures.links.is_empty()) {
        let ahead = for_people(figures.stamps_ahead_ms / 1_000);
        let problem =
            format!("Its clock was set back by {ahead}: the others refuse its writes until time has caught up.");
        let (severity, next_step) = match set_back {
            SetBack::Little => (Severity::Warning, "Wait until it has, and let NTP slew clocks."),
            SetBack::Far => (
                Severity::Critical,
                "Where keys have more than one copy it ends when all other nodes are there, filled up, and were not set back too: \
                 start it again then, and it fills up. Else wait, or set its clock forward again and back in small steps.",
            ),
        };
        note(severity, problem, next_step);
    }
}

/// A node that comes back without having left keeps what its slots are placed by.
fn placing(member: &Member, figures: &NodeFigures, note: Note<'_>) {
    let is_other = |options: &&Placing| options.zone != member.zone || options.weight != member.weight;
    if let Some(options) = figures.placing_options.as_ref().filter(is_other) {
        let problem = format!(
            "Its options say zone \"{}\" and weight {}; in force are zone \"{}\" and weight {}.",
            options.zone, options.weight, member.zone, member.weight
        );
        note(
            Severity::Info,
            problem,
            "Stop it with SIGTERM, so that it leaves, and start it again: then they take effect.",
        );
    }
}

#[cfg(test)]
mod tests;
