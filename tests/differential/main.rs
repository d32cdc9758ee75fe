//! rondo beside redis-server: the same long random sequence of commands to both, every reply compared byte for byte.
//!
//! The sequence comes from a table of all command forms (`table.rs`) and a seed; `compare.rs` lists what may differ and
//! why. Sent over one connection to one node, over several, and over one to each node of a cluster, which take turns. A
//! mismatch is reduced to the few steps that still show it.
//!
//! Environment: `RONDO_DIFF_COMMANDS` (how many replies to compare), `RONDO_DIFF_SEED`, `RONDO_DIFF_MISMATCHES` (how
//! many different ones to look for before giving up; 1), `RONDO_DIFF_PORTS` (compare servers that already run).

mod compare;
mod generate;
mod grammar;
mod pauses;
mod shrink;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod values;
mod world;

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use generate::{Action, Generator, Step};
use pauses::{Pauses, is_excused};
use support::client::Client;
use support::cluster::Cluster;
use support::env_number;
use support::redis::Redis;
use world::{Mismatch, World};

const COMMANDS_DEFAULT: u64 = 60_000;

/// Steps remembered for the reduction; older ones are rarely needed, since keys are few and often cleared.
const REMEMBERED: usize = 30_000;

fn compare_with_redis(our_ports: &[u16], in_cluster: bool) {
    compare_during(our_ports, in_cluster, given_seed(), None);
}

fn given_seed() -> u64 {
    match env_number("RONDO_DIFF_SEED", 0) {
        0 => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64,
        seed => seed,
    }
}

fn compare_during(our_ports: &[u16], in_cluster: bool, seed: u64, pauses: Option<&Pauses<'_>>) {
    let redis = Redis::start(&[]);
    let commands = env_number("RONDO_DIFF_COMMANDS", COMMANDS_DEFAULT);
    let mismatches_max = env_number("RONDO_DIFF_MISMATCHES", 1) as usize;
    println!("RONDO_DIFF_SEED={seed} RONDO_DIFF_COMMANDS={commands} over {} connections", our_ports.len());
    let started = Instant::now();
    let mut reports = BTreeSet::new();
    let (mut compared, mut round, mut forgiven, mut excused) = (0, 0, 0, 0);
    while compared < commands && reports.len() < mismatches_max {
        let mut generator = Generator::new(seed.wrapping_add(round), our_ports.len(), in_cluster);
        let mut world = match pauses {
            Some(pauses) => pauses.rest(|| World::new(our_ports, redis.port)),
            None => World::new(our_ports, redis.port),
        };
        let mut history: Vec<Step> = Vec::new();
        round += 1;
        while compared + world.compared < commands {
            let batch = generator.batch();
            let outcome = world.run(&batch);
            if history.len() > REMEMBERED {
                history.drain(..REMEMBERED / 2);
            }
            if let Err(mismatch) = outcome {
                history.extend_from_slice(&batch[..=mismatch.step]);
                let name = mismatch_name(&history, &mismatch);
                if mismatch.forgiven {
                    forgiven += 1;
                } else if pauses.is_some() && is_excused(batch[mismatch.step].args(), &mismatch.ours) {
                    excused += 1;
                } else if reports.insert(name.clone()) {
                    let told = match pauses {
                        // It would hardly fail in the same way again.
                        Some(_) => {
                            let told = told(history.iter().rev().take(60).rev(), &mismatch);
                            format!("{told}\n{}", evidence(&history, our_ports))
                        }
                        None => report(&history, &mismatch, our_ports, redis.port),
                    };
                    println!("--- {name}\n{told}");
                }
                break;
            }
            history.extend(batch);
        }
        compared += world.compared;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{compared} replies compared in {seconds:.1} s, seed {seed}; {forgiven} times WATCH saw nothing to abort for, \
         {excused} times a node that stood still was felt"
    );
    assert!(forgiven <= 5 + compared / 5_000, "WATCH misses more than what was as before");
    assert!(reports.is_empty(), "{} replies differ from redis-server's (seed {seed}): {reports:#?}", reports.len());
}

/// Mismatches of one name are taken for one fault.
fn mismatch_name(history: &[Step], mismatch: &Mismatch) -> String {
    let args = history.last().map(Step::args).unwrap_or_default();
    let name = String::from_utf8_lossy(args.first().map(Vec::as_slice).unwrap_or_default()).to_uppercase();
    let kind = |reply: &str| reply.chars().take(12).take_while(|c| !c.is_ascii_digit()).collect::<String>();
    format!("{name} {} / {}", kind(&mismatch.ours), kind(&mismatch.theirs))
}

fn report(history: &[Step], mismatch: &Mismatch, our_ports: &[u16], their_port: u16) -> String {
    let mut last = mismatch.clone();
    let short = shrink::shrink(history, |steps| {
        let mut world = World::new(our_ports, their_port);
        match world.run(steps) {
            Err(mismatch) if mismatch.step + 1 == steps.len() => {
                last = mismatch;
                true
            }
            _ => false,
        }
    });
    match &short {
        Some(steps) => told(steps.iter(), &last),
        None => {
            let steps = &history[history.len().saturating_sub(40)..];
            format!("  (does not fail again; the last steps were)\n{}", told(steps.iter(), &last))
        }
    }
}

fn told<'s>(steps: impl Iterator<Item = &'s Step>, last: &Mismatch) -> String {
    let lines: Vec<String> = steps.map(|step| format!("  {}> {}", step.connection, line(step))).collect();
    format!("{}\n  rondo: {}\n  redis: {}", lines.join("\n"), last.ours, last.theirs)
}

/// The last steps that named the first key of the last one, or cleared everything, and what each node says of that key.
fn evidence(history: &[Step], our_ports: &[u16]) -> String {
    let Some(key) = history.last().and_then(|step| step.args().get(1)) else { return String::new() };
    let clears = |step: &Step| step.args().first().is_some_and(|name| name.to_ascii_uppercase().starts_with(b"FLUSH"));
    let met = history.iter().rev().enumerate().filter(|(_, step)| step.args().contains(key) || clears(step)).take(20);
    let steps = met.map(|(ago, step)| format!("  {ago} steps ago: {}> {}", step.connection, line(step)));
    let nodes = our_ports.iter().map(|port| match Client::to(*port).try_call(&[b"RONDO.META", key.as_slice()]) {
        Ok(meta) => format!("  {port} says: {meta:?}"),
        Err(failure) => format!("  {port} does not say: {failure:?}"),
    });
    steps.chain(nodes).collect::<Vec<_>>().join("\n")
}

fn line(step: &Step) -> String {
    let quoted = |arg: &Vec<u8>| {
        let plain = !arg.is_empty() && arg.iter().all(|b| b.is_ascii_graphic() && *b != b'"');
        let shown = &arg[..arg.len().min(80)];
        if plain { shown.escape_ascii().to_string() } else { format!("\"{}\"", shown.escape_ascii()) }
    };
    let words: Vec<String> = step.args().iter().map(quoted).collect();
    match step.action {
        Action::Pause => "(pause)".to_owned(),
        Action::ScanAll(_) => format!("{} (to the end)", words.join(" ")),
        Action::Command(_) => words.join(" "),
    }
}

/// Ports given by `RONDO_DIFF_PORTS`, separated by commas.
fn given_ports() -> Option<Vec<u16>> {
    let ports = std::env::var("RONDO_DIFF_PORTS").ok()?;
    Some(ports.split(',').map(|port| port.parse().expect("RONDO_DIFF_PORTS holds port numbers")).collect())
}

#[test]
fn one_node_replies_as_redis_does() {
    match given_ports() {
        Some(ports) => compare_with_redis(&ports[..1], false),
        None => compare_with_redis(&Cluster::start(1, &[]).ports(), false),
    }
}

#[test]
fn several_connections_to_one_node_reply_as_redis_does() {
    let cluster = given_ports().is_none().then(|| Cluster::start(1, &[]));
    let port = given_ports().map_or_else(|| cluster.as_ref().unwrap().nodes[0].port, |ports| ports[0]);
    compare_with_redis(&[port; 3], false);
}

#[test]
fn any_node_of_three_replies_as_redis_does() {
    match given_ports() {
        Some(ports) => compare_with_redis(&ports, true),
        None => compare_with_redis(&Cluster::start(3, &[]).ports(), true),
    }
}

/// A node that goes on after it was stopped holds what it held, believes what it believed, and has requests before it
/// that others have dealt with meanwhile.
#[test]
fn any_node_of_three_replies_as_redis_does_while_nodes_stand_still() {
    let (cluster, seed) = (Cluster::start(3, &[]), given_seed());
    Pauses::during(&cluster, seed, |pauses| compare_during(&cluster.ports(), true, seed, Some(pauses)));
}
