//! Nodes that remember their cluster: one that restarts never begins a second beside it, and when all have lost their
//! memory together, those of a majority begin it anew.

use std::thread::sleep;
use std::time::Duration;

use crate::support::client::{Client, http_get_from};
use crate::support::cluster::{Cluster, Node};
use crate::{alone, must, must_end_saying};

/// Longer than a node without memory waits for those that do not answer.
const LONG: Duration = Duration::from_secs(13);

/// Three nodes that remember, and where.
struct Three {
    cluster: Cluster,
    dir: tempfile::TempDir,
}

impl Three {
    fn start() -> Three {
        let dir = tempfile::tempdir().expect("a folder");
        let cluster = Cluster::start_placed(3, &[], |_, node| {
            let path = dir.path().join(&node.name).display().to_string();
            node.add_options(&["--data-dir", &path, "--node-name", &node.name.clone()]);
        });
        Three { cluster, dir }
    }

    /// Starts a node again with the addresses of all, as each has them.
    fn start_again(&mut self, at: usize) -> &mut Node {
        let all: Vec<String> = self.cluster.nodes.iter().map(|node| node.addr(node.peer_port).to_string()).collect();
        let node = &mut self.cluster.nodes[at];
        node.start(&all);
        node
    }

    /// How often nodes have begun a cluster, the first time included.
    fn begun(&self) -> usize {
        self.cluster.nodes.iter().map(|node| node.process().count_in_log("founded the cluster")).sum()
    }

    fn kill_all(&mut self) {
        self.cluster.nodes.iter_mut().for_each(Node::kill);
    }
}

/// What is wrong with a node that belongs to no cluster, once it knows.
fn must_say_for_whom_it_waits(node: &Node, names: &[&str]) {
    must("it says for whom it waits", || {
        let page = http_get_from(node.addr(node.admin_port), "/status").map(|(_, page)| page).unwrap_or_default();
        names.iter().chain(&["RONDO.FOUND"]).all(|word| page.contains(word)) && !node.is_ready()
    });
}

#[test]
fn who_is_cut_off_from_its_cluster_waits_for_it_however_long() {
    let _alone = alone();
    let mut three = Three::start();
    must("a write is taken", || !three.cluster.nodes[1].client().run("SET a 1").is_error());
    three.cluster.nodes[0].kill();
    three.cluster.nodes[1..].iter().for_each(|node| node.process().pause());
    let first = three.start_again(0);
    must_say_for_whom_it_waits(first, &["node1", "node2"]);
    sleep(LONG);
    for line in ["GET a", "SET a 2 NX", "DBSIZE", "KEYS a*", "SCAN 0", "RANDOMKEY", "FLUSHALL", "FLUSHDB ASYNC"] {
        assert!(first.client().run(line).is_error(), "{line}");
    }
    let mut on_cluster_face = Client::to(first.cluster_port);
    for line in ["GET a", "DBSIZE", "KEYS a*", "SCAN 0", "FLUSHALL"] {
        assert!(on_cluster_face.run(line).is_error(), "{line}");
    }
    three.cluster.nodes[1..].iter().for_each(|node| node.process().resume());
    three.cluster.nodes[0].must_be_ready();
    three.cluster.must_settle();
    assert_eq!((three.cluster.nodes[0].client().run("GET a").text().as_deref(), three.begun()), (Some("1"), 1));
}

#[test]
fn after_the_loss_of_all_two_begin_without_the_first_which_joins_them() {
    let _alone = alone();
    let mut three = Three::start();
    three.kill_all();
    three.start_again(2);
    must_say_for_whom_it_waits(&three.cluster.nodes[2], &["node0", "node1"]);
    three.start_again(1);
    three.cluster.nodes[1..].iter_mut().for_each(Node::must_be_ready);
    three.cluster.must_settle();
    assert_eq!(three.cluster.nodes[1].client().run("SET a 1").text().as_deref(), Some("OK"));
    three.start_again(0).must_be_ready();
    three.cluster.must_settle();
    assert_eq!((three.cluster.nodes[0].client().run("GET a").text().as_deref(), three.begun()), (Some("1"), 2));
}

#[test]
fn all_start_again_together_and_are_one_cluster() {
    let _alone = alone();
    let mut three = Three::start();
    three.kill_all();
    for at in 0..3 {
        three.start_again(at);
    }
    three.cluster.nodes.iter_mut().for_each(Node::must_be_ready);
    three.cluster.must_settle();
    assert_eq!(three.begun(), 2);
}

#[test]
fn an_operators_word_begins_a_new_cluster_that_the_others_join() {
    let _alone = alone();
    let mut three = Three::start();
    let refused = three.cluster.nodes[2].client().run("RONDO.FOUND").text();
    assert_eq!(refused.as_deref(), Some("ERR This node belongs to a cluster already"));
    three.kill_all();
    let last = three.start_again(2);
    must_say_for_whom_it_waits(last, &["node0", "node1"]);
    assert_eq!(last.client().run("RONDO.FOUND").text().as_deref(), Some("OK"));
    last.must_be_ready();
    must("a write is taken", || !last.client().run("SET a 1").is_error());
    for at in [0, 1] {
        three.start_again(at).must_be_ready();
    }
    three.cluster.must_settle();
    assert_eq!(three.cluster.nodes[0].client().run("GET a").text().as_deref(), Some("1"));
}

/// Nobody joins meanwhile, and status says because of whom.
#[test]
fn a_node_that_cannot_write_down_who_joins_is_told_of_until_it_can() {
    let _alone = alone();
    let three = Three::start();
    let (place, away) = (three.dir.path().join("node2"), three.dir.path().join("away"));
    std::fs::rename(&place, &away).expect("renamed");
    std::fs::write(&place, "").expect("a file in place of the directory");
    let joining = three.cluster.nodes[0].addr(three.cluster.nodes[0].peer_port).to_string();
    let mut fourth = three.cluster.start_beside("node3", &[], &[joining]);
    let page = |node: &Node| http_get_from(node.addr(node.admin_port), "/status").map(|(_, page)| page);
    let first = &three.cluster.nodes[0];
    must("status says that it cannot write", || {
        page(first).is_some_and(|page| page.contains("cannot write into its data-dir ("))
    });
    assert!(!page(first).is_some_and(|page| page.contains("\"healthy\":true")));
    std::fs::remove_file(&place).expect("removed");
    std::fs::rename(&away, &place).expect("renamed");
    fourth.must_be_ready();
    must("status says no more of it", || {
        page(first).is_some_and(|page| !page.contains("cannot write into its data-dir"))
    });
    let process = three.cluster.nodes[2].process();
    assert_eq!(process.count_in_log("cannot write the file members"), 1);
    assert_eq!(process.count_in_log("is written again"), 1);
}

#[test]
fn a_node_that_cannot_read_whom_it_remembers_does_not_start() {
    let _alone = alone();
    let mut three = Three::start();
    three.cluster.nodes[2].kill();
    let file = three.dir.path().join("node2/members");
    let text = std::fs::read_to_string(&file).expect("its memory");
    assert!(["node0", "node1", "node2"].iter().all(|name| text.contains(name)), "{text}");
    std::fs::write(&file, text.replace("node1", "node7")).expect("written");
    must_end_saying(three.start_again(2), "members is damaged");
    std::fs::remove_file(&file).expect("removed");
    three.start_again(2).must_be_ready();
    three.cluster.must_settle();
}
