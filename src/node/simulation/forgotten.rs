//! Single stories: what is begun anew while a deletion is being forgotten stays.
//!
//! Each node forgets deletions in a round of its own. So for a while the coordinator of a key holds nothing of it where
//! a replica still remembers that it was deleted, by somebody in an earlier life: neither has seen what the other says.

use super::single::{NODES, ask, begin, run, simulate, until};
use super::story::healthy;
use super::world::World;
use crate::protocol::client::Value;

/// Deletions are forgotten soon, by each node when it is its turn.
const OPTIONS: [(&str, &str); 2] = [("tombstone-age-min-ms", "2000"), ("anti-entropy-interval-ms", "2000")];
const MODES: [&str; 2] = ["sloppy", "strict"];
const KEYS: usize = 600;
/// Asked for at a time, and how long until the next.
const PART: usize = 6;
const PART_MS: u64 = 100;

fn asked(world: &mut World, node: usize, command: &str, keys: &[String]) -> Vec<Value> {
    let commands: Vec<Vec<&str>> = keys.iter().map(|key| vec![command, key]).collect();
    ask(world, node, &commands)
}

#[test]
fn an_increment_is_not_lost_to_a_deletion_that_its_coordinator_has_forgotten() {
    MODES.into_iter().for_each(|mode| simulate(move || increment_what_was_deleted(mode)));
}

fn increment_what_was_deleted(mode: &str) {
    let mut world = begin(&[OPTIONS[0], OPTIONS[1], ("quorum-mode", mode)]);
    let keys: Vec<String> = (0..KEYS).map(|n| format!("counter:{n}")).collect();
    for command in ["INCR", "DEL"] {
        assert!(asked(&mut world, 1, command, &keys).iter().all(|it| *it == Value::Int(1)), "{command}");
    }
    world.kill(0);
    run(&mut world, 500);
    world.start_node(0);
    until(&mut world, "recover", |world| healthy(world).is_ok());
    let mut counted = Vec::new();
    for part in keys.chunks(PART) {
        let answers = asked(&mut world, 1, "INCR", part);
        let acknowledged = part.iter().zip(answers).filter(|(_, it)| *it == Value::Int(1));
        counted.extend(acknowledged.map(|(key, _)| key.clone()));
        run(&mut world, PART_MS);
    }
    assert!(counted.len() > KEYS * 9 / 10, "{mode}: {} of {KEYS} were acknowledged", counted.len());
    run(&mut world, 5_000);
    for node in 0..NODES {
        let answers = asked(&mut world, node, "GET", &counted);
        let is_one = |value: &Value| matches!(value, Value::Bulk(text) if text == b"1");
        let lost = answers.iter().filter(|value| !is_one(value)).count();
        assert_eq!(lost, 0, "{mode}: of {} increments, through node {node}", counted.len());
    }
}
