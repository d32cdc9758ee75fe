//! A single story: a node is cut off, and its keys are deleted meanwhile. There is no room for those deletions, so that
//! they are forgotten without it, and it forgets what it held when it is back.

use super::single::{NODES, ask, begin, held, must_be_gone, run, simulate, until, written};
use super::story::{Ways, healthy, isolate};
use super::world::World;
use crate::base::net::simulated;
use crate::membership::Liveness;
use crate::protocol::client::Value;

/// Who is cut off.
const AWAY: usize = 2;

/// The cluster, a node of which has not heard that these keys are deleted.
fn deleted() -> (World, Vec<String>) {
    let options =
        [("anti-entropy-interval-ms", "20000"), ("tombstone-age-min-ms", "100"), ("tombstone-bytes-max", "1")];
    let mut world = begin(&options);
    let keys = written(&mut world);
    isolate(&world, AWAY, Ways::Both, true);
    until(&mut world, "it is missed", |world| {
        let [one, away] = [0, AWAY].map(|node| world.node(node).expect("it lives"));
        one.cluster.topology().liveness(&away.cluster.id()) == Liveness::Down
    });
    let deletes: Vec<Vec<&str>> = keys.iter().map(|key| vec!["DEL", key]).collect();
    assert!(ask(&mut world, 0, &deletes).iter().all(|it| *it == Value::Int(1)));
    (world, keys)
}

fn generation(world: &World) -> u64 {
    world.node(AWAY).expect("it lives").cluster.topology().own_row().expect("it is a member").generation
}

#[test]
fn without_room_for_deletions_they_are_forgotten_without_a_node_that_is_away_for_five_minutes() {
    simulate(|| {
        let (mut world, keys) = deleted();
        run(&mut world, 250_000);
        assert_eq!([0, 1].map(|node| held(&world, node, &keys)), [(0, keys.len()); 2], "not before that");
        run(&mut world, 100_000);
        assert_eq!([0, 1].map(|node| held(&world, node, &keys)), [(0, 0); 2]);
        assert_eq!(held(&world, AWAY, &keys), (keys.len(), 0), "it has not heard of the deletions");
        let before = generation(&world);
        simulated::with(|network| network.heal());
        until(&mut world, "it starts over", |world| generation(world) > before);
        until(&mut world, "recover", |world| healthy(world).is_ok());
        (0..NODES).for_each(|node| must_be_gone(&mut world, node, &keys));
        assert_eq!([0, 1, AWAY].map(|node| held(&world, node, &keys)), [(0, 0); 3], "no trace is left");
    });
}
