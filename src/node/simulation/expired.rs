//! Single stories: a key that has expired is read by nobody again, also when whoever has shortened its life dies before
//! all replicas know of that.
//!
//! Node 0 coordinates; what it sends to node 1 is held up, so node 2 alone has heard of the deadlines when node 0 dies
//! and what was on its way is lost. Node 1 still holds the values for good, and nobody compares in time.

use super::single::{NODES, ask, begin, held, must_be_gone, run, simulate, until, written};
use super::story::healthy;
use super::world::{World, ip_of};
use crate::base::net::simulated;
use crate::protocol::client::Value;

/// Nobody compares in time.
const OPTIONS: [(&str, &str); 1] = [("anti-entropy-interval-ms", "600000")];

/// Has these keys expire after so many milliseconds.
fn expire(world: &mut World, keys: &[String], ms: &str) {
    let expires: Vec<Vec<&str>> = keys.iter().map(|key| vec!["PEXPIRE", key, ms]).collect();
    assert!(ask(world, 0, &expires).iter().all(|it| *it == Value::Int(1)));
}

/// The same, as two of three know.
fn shorten(world: &mut World, keys: &[String], ms: &str) {
    simulated::with(|network| network.cut(ip_of(0), ip_of(1)));
    expire(world, keys, ms);
}

/// Node 0 dies, and what it had on the way to node 1 with it.
fn die(world: &mut World) {
    simulated::with(|network| network.reset(ip_of(0), ip_of(1)));
    world.kill(0);
    simulated::with(|network| network.heal());
}

#[test]
fn a_key_stays_expired_when_who_knew_that_a_replica_had_not_heard_of_its_deadline_dies() {
    simulate(|| {
        let mut world = begin(&OPTIONS);
        let keys = written(&mut world);
        shorten(&mut world, &keys, "100");
        until(&mut world, "they expire on node 2", |world| held(world, 2, &keys).0 == 0);
        let [teller, hearer] = [0, 2].map(|node| world.node(node).expect("it lives"));
        let said = hearer.peers.get(&teller.cluster.id()).map(|peer| peer.knows_of_older());
        assert_eq!(said, Some(true), "node 0 has told node 2 of node 1");
        assert!(held(&world, 1, &keys).0 > 0, "node 1 has not heard of all");
        die(&mut world);
        run(&mut world, 2_000);
        [1, 2].into_iter().for_each(|node| must_be_gone(&mut world, node, &keys));
    });
}

#[test]
fn a_key_expires_for_good_when_who_had_told_one_replica_of_its_deadline_has_died_before() {
    simulate(|| {
        let mut world = begin(&OPTIONS);
        let keys = written(&mut world);
        shorten(&mut world, &keys, "8000");
        die(&mut world);
        run(&mut world, 500);
        world.start_node(0);
        until(&mut world, "recover", |world| healthy(world).is_ok());
        run(&mut world, 9_000);
        (0..NODES).for_each(|node| must_be_gone(&mut world, node, &keys));
    });
}

#[test]
fn keys_that_expire_while_all_is_well_leave_nothing() {
    simulate(|| {
        let mut world = begin(&OPTIONS);
        let keys = written(&mut world);
        expire(&mut world, &keys, "100");
        run(&mut world, 2_000);
        assert_eq!([0, 1, 2].map(|node| held(&world, node, &keys)), [(0, 0); NODES]);
    });
}
