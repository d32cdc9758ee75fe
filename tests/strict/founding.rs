//! The node that began the cluster, which has no list to join, comes back by the same command.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::wait_for;
use crate::{AT_ALL, addrs, alone, must_serve, rounds};

#[test]
fn the_first_node_that_comes_back_gives_nothing_away_twice() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start_placed(3, &["--quorum-mode", "strict"], |_, node| {
        node.add_options(&["--data-dir", &dir.path().join(&node.name).display().to_string()]);
    });
    let nodes = addrs(&cluster);
    must_serve(&nodes);
    for round in 0..rounds() {
        cluster.nodes[0].kill();
        let key = format!("lock:{round}");
        let won = wait_for(AT_ALL, || {
            let reply = cluster.nodes[1].client().call(&["SET", &key, "first", "NX"]);
            // One of unknown outcome may have been taken.
            let held = || cluster.nodes[1].client().call(&["GET", &key]).text().as_deref() == Some("first");
            (reply.text().as_deref() == Some("OK") || held()).then_some(())
        });
        assert!(won.is_some(), "nobody is served");
        cluster.nodes[0].start(&[]);
        let seen = wait_for(AT_ALL, || {
            let mut client = Client::connect_to(nodes[0], Duration::from_secs(5)).ok()?;
            let reply = client.try_call(&["SET", &key, "second", "NX"]).ok()?.text();
            assert_ne!(reply.as_deref(), Some("OK"), "{key} is given away twice");
            let found = client.try_call(&["GET", &key]).ok()?;
            assert!(!found.is_null(), "{key} is said not to exist");
            (found.text().as_deref() == Some("first")).then_some(())
        });
        assert!(seen.is_some(), "{key} is never read through the first node");
        must_serve(&nodes);
        cluster.must_settle();
    }
}
