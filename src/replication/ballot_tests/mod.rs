//! Ballots under random schedules: nodes that promise, write, pause, are cut off, forget everything and come back,
//! while others come and go.
//!
//! | file | what it is |
//! |---|---|
//! | `change` | how nodes come and go, and what that means for one slot |
//! | `world` | nodes, lanes and clocks of the model |
//!
//! A model of one slot with one key, a number that is only ever made one larger. It uses the rules of `ballot` as they
//! are; lanes, views, clocks and rows (`world`, `change`) are made up, and wrong in every way that they can be. What
//! must hold: no number is acknowledged twice, and who begins after an acknowledgement gets a larger one. Each rule is
//! also left out once, to see that then it does not hold. A failure prints its seed.

mod change;
mod world;

use world::World;

/// For each node.
const STEPS: usize = 2_000;

/// Which rules hold.
#[derive(Clone, Copy)]
struct Rules {
    /// Replicas decline what is not promised to the sender.
    decline: bool,
    /// A new promise makes a slot unsettled.
    unsettle: bool,
    /// A new holder stamps later than the leases before it.
    floor: bool,
    /// Who has lost its memory, or has just come, is no home replica that counts before it has fetched.
    whole: bool,
    /// A majority of every ring that somebody may go by is needed, not of today's alone.
    joint: bool,
    /// Who goes by other rows withdraws what it has promised.
    withdraw: bool,
    /// The second step of coming or going waits for those who matter to act on the first.
    adopt: bool,
    /// What is fetched counts only from those who act on the row of who fetches.
    confirmed: bool,
}

const ALL: Rules = Rules {
    decline: true,
    unsettle: true,
    floor: true,
    whole: true,
    joint: true,
    withdraw: true,
    adopt: true,
    confirmed: true,
};

/// Who takes part in a run.
#[derive(Clone, Copy)]
struct Cast {
    /// Nodes there are.
    nodes: usize,
    /// Those that own the slot's ring at the beginning.
    members: usize,
    /// N.
    copies: usize,
    /// Nodes come and go.
    changes: bool,
}

/// Runs one schedule: how many operations were acknowledged, how many steps of coming or going were made, and what
/// contradicts what.
fn run(cast: Cast, rules: Rules, seed: u64) -> (usize, usize, Option<String>) {
    let mut world = World::new(cast, rules, seed);
    (0..STEPS * cast.nodes).for_each(|_| world.step());
    (world.acknowledged(), world.second_steps, world.contradiction())
}

fn still(nodes: usize) -> Cast {
    Cast { nodes, members: nodes, copies: nodes, changes: false }
}

const CHANGING: [Cast; 4] = [
    Cast { nodes: 5, members: 3, copies: 3, changes: true },
    Cast { nodes: 6, members: 4, copies: 3, changes: true },
    Cast { nodes: 4, members: 2, copies: 3, changes: true },
    Cast { nodes: 3, members: 1, copies: 2, changes: true },
];

#[test]
fn no_number_is_acknowledged_twice() {
    for count in 1..=5 {
        let mut done = 0;
        for seed in 0..200 {
            let (acknowledged, _, contradiction) = run(still(count), ALL, seed);
            assert_eq!(contradiction, None, "{count} nodes, seed {seed}");
            done += acknowledged;
        }
        assert!(done > 1_000, "{count} nodes acknowledged only {done}: nothing was tried");
    }
}

#[test]
fn no_number_is_acknowledged_twice_while_nodes_come_and_go() {
    let seeds = std::env::var("RONDO_BALLOT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for (at, cast) in CHANGING.into_iter().enumerate() {
        let (mut done, mut steps) = (0, 0);
        for seed in 0..seeds {
            let (acknowledged, second_steps, contradiction) = run(cast, ALL, seed);
            assert_eq!(contradiction, None, "cast {at}, seed {seed}");
            done += acknowledged;
            steps += second_steps;
        }
        println!("cast {at}: {done} acknowledged, {steps} times somebody had come or gone");
        assert!(done > 500 && steps > 50, "cast {at}: {done} acknowledged, {steps} steps: nothing was tried");
    }
}

#[test]
fn without_any_one_of_the_rules_numbers_are_acknowledged_twice() {
    let still_casts = [still(3), still(4), still(5)];
    let without: [(&str, Rules, &[Cast]); 8] = [
        ("declining", Rules { decline: false, ..ALL }, &still_casts),
        ("unsettling", Rules { unsettle: false, ..ALL }, &still_casts),
        ("floors", Rules { floor: false, ..ALL }, &still_casts),
        ("fetching first", Rules { whole: false, ..ALL }, &still_casts),
        ("majorities of all rings", Rules { joint: false, ..ALL }, &CHANGING),
        ("withdrawing", Rules { withdraw: false, ..ALL }, &CHANGING),
        ("waiting for others to act on a step", Rules { adopt: false, ..ALL }, &CHANGING),
        ("fetching from those who do", Rules { confirmed: false, ..ALL }, &CHANGING),
    ];
    for (what, rules, casts) in without {
        let found = (0..3_000).any(|seed| casts.iter().any(|cast| run(*cast, rules, seed).2.is_some()));
        assert!(found, "{what} makes no difference");
    }
}
