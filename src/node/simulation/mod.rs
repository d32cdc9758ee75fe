//! Whole clusters in one thread, on a made-up network and in made-up time, from a seed.
//!
//! | file | what it is |
//! |---|---|
//! | `os` | time, randomness and sleep of a thread that simulates |
//! | `world` | hosts, and the time that they live in |
//! | `story` | what happens to a cluster, and what holds in the end |
//! | `choice`, `noise` | what clients ask for, and what nobody judges of it |
//! | `client` | clients that note what they were answered |
//! | `history` | what clients asked and were answered |
//! | `judge`, `deadlines` | what a history must be like; when values must be gone |
//! | `single` | single stories: what they share |
//! | `expired`, `left_out`, `forgotten` | of expired keys, of a node cut off, of deletions that are being forgotten |
//! | `trace` | what the nodes log, with the simulated time |
//!
//! Each node is all that `node::run` starts (gossip, links, lanes, workers, settling, handing over, anti-entropy ...),
//! in a runtime of its own that is run in turns (`world`), with the system's clocks and random numbers replaced (`os`)
//! and with sockets in memory (`base::net::simulated`). A seed draws the options, the network's delays, what goes wrong
//! when (`story`), and what clients ask (`choice`, `client`). What they were answered (`history`) is judged by `judge`,
//! and what the nodes hold in the end by `story`.
//!
//! What must hold is written in `judge`. Each seed runs in a process of its own, because much that decides the order of
//! things is global to a process; so a seed that fails does the same again:
//!
//! ```text
//! RONDO_SIMULATION_SEED=17 RONDO_SIMULATION_TRACE=info cargo test --lib simulation
//! RONDO_SIMULATION_SEEDS=5000 cargo test --lib simulation
//! ```
//!
//! FLUSHALL is asked for, in a third of the seeds, only where `RONDO_SIMULATION_FLUSHALL` is set: what is to be
//! expected of increments near a node that fills up again while everything is flushed is not settled.
//!
//! Not simulated: several workers a node, the admin port, signals, the time that work takes.

mod history;
mod noise;
mod choice;
mod deadlines;
mod judge;
mod os;
mod trace;
mod world;
mod client;
mod story;
mod single;
mod expired;
mod left_out;
mod forgotten;

use std::collections::VecDeque;
use std::process::{Child, Command, Stdio};

/// Seeds that are run when nobody says how many.
const SEEDS: u64 = 4;
/// Processes at a time.
const PROCESSES: usize = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Runs the seed that the environment names, in this process; see `seeds`.
#[test]
#[ignore = "run by the test `seeds`, in a process of its own"]
fn one_seed() {
    let seed = number("RONDO_SIMULATION_SEED").expect("RONDO_SIMULATION_SEED says which");
    // Before the thread that simulates, whose random numbers it must not use.
    trace::start();
    let told = std::thread::spawn(move || story::run(seed)).join().expect("a seed's story");
    println!("{}", told.summary);
    assert!(told.wrongs.is_empty(), "seed {seed}:\n{}", told.wrongs.join("\n"));
}

fn start(seed: u64) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "node::simulation::one_seed", "--ignored", "--nocapture", "--test-threads", "1"])
        .env("RONDO_SIMULATION_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process for a seed")
}

/// Which seeds, by the environment.
fn wanted() -> std::ops::Range<u64> {
    match number("RONDO_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("RONDO_SIMULATION_FIRST").unwrap_or_default();
            first..first + number("RONDO_SIMULATION_SEEDS").unwrap_or(SEEDS)
        }
    }
}

#[test]
fn seeds() {
    let (mut running, mut failed) = (VecDeque::new(), Vec::new());
    let mut finish = |(seed, child): (u64, Child)| {
        let output = child.wait_with_output().expect("what the seed's process said");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        if !output.status.success() {
            println!(
                "seed {seed} failed; RONDO_SIMULATION_SEED={seed} cargo test --lib simulation runs it again\n{text}"
            );
            failed.push(seed);
        } else if number("RONDO_SIMULATION_SEED").is_some() {
            println!("{text}");
        }
    };
    for seed in wanted() {
        running.push_back((seed, start(seed)));
        if running.len() == PROCESSES
            && let Some(first) = running.pop_front()
        {
            finish(first);
        }
    }
    running.into_iter().for_each(&mut finish);
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

/// What a seed does is the same each time; without that a failure could not be looked into.
#[test]
fn a_seed_does_the_same_again() {
    let summary = |child: Child| {
        let output = child.wait_with_output().expect("what the seed's process said");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| line.contains(" turns, ")).expect("a summary").to_owned()
    };
    let (one, other) = (start(10), start(10));
    assert_eq!(summary(one), summary(other));
}
