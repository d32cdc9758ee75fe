//! What a connection asks for by RONDO.CONSISTENCY holds whichever node runs its commands.

use crate::support::cluster::Cluster;
use crate::support::wait_for;
use crate::{AT_ALL, alone};

const KEYS: usize = 60;

#[test]
fn a_sloppy_connection_of_a_strict_cluster_asks_nobody_for_a_promise() {
    let _alone = alone();
    let cluster = Cluster::start(3, &["--quorum-mode", "strict"]);
    let promises = || -> f64 {
        cluster.nodes.iter().map(|node| node.metric("rondo_ballot_promises_total").expect("metrics")).sum()
    };
    let mut client = cluster.nodes[0].client();
    client.call(&["RONDO.CONSISTENCY", "SLOPPY"]);
    (0..KEYS).for_each(|n| assert_eq!(client.call(&["INCR", &format!("key:{n}")]).int(), Some(1)));
    assert_eq!(promises(), 0.0, "some node took a sloppy command for a strict one");
    client.call(&["RONDO.CONSISTENCY", "STRICT"]);
    let served = wait_for(AT_ALL, || client.call(&["INCR", "key:0"]).int());
    assert_eq!((served, promises() > 0.0), (Some(2), true));
}

#[test]
fn more_replicas_than_there_are_is_refused_through_every_coordinator() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    cluster.nodes[2].kill();
    let mut client = cluster.nodes[0].client();
    let served = wait_for(AT_ALL, || {
        let all_well = (0..KEYS).all(|n| !client.call(&["SET", &format!("key:{n}"), "1"]).is_error());
        all_well.then_some(())
    });
    assert!(served.is_some(), "two nodes of three do not serve");
    client.call(&["RONDO.CONSISTENCY", "W", "3"]);
    for n in (0..KEYS).step_by(5) {
        let reply = client.call(&["SET", &format!("key:{n}"), "2"]);
        assert!(reply.is_error(), "key:{n} was written with W = 3 on two nodes: {reply:?}");
    }
}
