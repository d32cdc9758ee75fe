//! A node joins and leaves while clients race in strict mode, and at the same time another one is paused or killed.

use std::net::SocketAddr;
use std::thread::sleep;

use crate::load::Load;
use crate::support::cluster::Cluster;
use crate::{AT_ALL, STRETCH, addrs, alone, insist, must_serve, rounds, seed};

/// What happens to another node while one is on its way.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Nothing,
    Paused,
    Killed,
}

impl Fault {
    /// Lets it happen to `node`, and be over.
    fn strike(self, cluster: &mut Cluster, node: usize) {
        match self {
            Fault::Nothing => sleep(STRETCH),
            Fault::Paused => {
                cluster.nodes[node].process().pause();
                sleep(STRETCH);
                cluster.nodes[node].process().resume();
            }
            Fault::Killed => {
                cluster.nodes[node].kill();
                sleep(STRETCH / 2);
                cluster.restart(node);
            }
        }
    }
}

/// A fourth node joins, and leaves again, a few times.
fn come_and_go(what: &str, fault: Fault) {
    // Long enough for a machine that is busy: a node that may not hand over in time counts as dead.
    let mut cluster = Cluster::start(3, &["--shutdown-timeout", "80"]);
    let nodes: Vec<SocketAddr> = addrs(&cluster);
    must_serve(&nodes);
    let load = Load::start(seed(), &nodes, 2, true);
    let mut new = None;
    for round in 0..rounds() {
        sleep(STRETCH);
        match new {
            None => new = Some(cluster.add()),
            Some(known) => cluster.restart(known),
        }
        let fourth = new.expect("added");
        fault.strike(&mut cluster, round % 3);
        cluster.nodes.iter_mut().for_each(crate::support::cluster::Node::must_be_ready);
        cluster.must_settle();
        must_serve(&addrs(&cluster));
        sleep(STRETCH);
        // It begins to go, and while it does so the other is struck.
        cluster.nodes[fourth].process().signal(libc::SIGTERM);
        fault.strike(&mut cluster, (round + 1) % 3);
        let left = cluster.nodes[fourth].process.as_mut().expect("a started node").terminate(AT_ALL);
        assert!(left, "{what}: the leaving node does not end");
        cluster.nodes[fourth].kill();
        cluster.nodes.iter_mut().take(3).for_each(crate::support::cluster::Node::must_be_ready);
        must_serve(&nodes);
    }
    sleep(STRETCH);
    insist(what, &load.finish(), &nodes);
}

#[test]
fn a_node_that_comes_and_goes_lets_nothing_be_won_twice() {
    let _alone = alone();
    come_and_go("one comes and goes", Fault::Nothing);
}

#[test]
fn a_node_that_comes_and_goes_while_another_is_paused_lets_nothing_be_won_twice() {
    let _alone = alone();
    come_and_go("one comes and goes, another is paused", Fault::Paused);
}

#[test]
fn a_node_that_comes_and_goes_while_another_is_killed_lets_nothing_be_won_twice() {
    let _alone = alone();
    come_and_go("one comes and goes, another is killed", Fault::Killed);
}
