//! Two processes under one `node-name`: one of them ends and says why, and a node that has moved is taken for itself.

use crate::support::cluster::{Cluster, Node};
use crate::{alone, must, must_end_saying};

const WHY: &str = "runs under this node's id";
const NAME: [&str; 2] = ["--node-name", "one-of-two"];

/// Two nodes, the second of which has the name.
fn two_nodes() -> Cluster {
    Cluster::start_placed(2, &[], |i, node| {
        if i == 1 {
            node.add_options(&NAME);
        }
    })
}

/// Another process of the same name, at other ports, that joins through these.
fn start_twin(cluster: &Cluster, through: &[usize]) -> Node {
    let addr = |at: &usize| cluster.nodes[*at].addr(cluster.nodes[*at].peer_port).to_string();
    cluster.start_beside("twin", &NAME, &through.iter().map(addr).collect::<Vec<_>>())
}

#[test]
fn a_second_node_of_a_name_does_not_start_while_the_first_answers() {
    let _alone = alone();
    let cluster = two_nodes();
    for through in [&[0][..], &[1], &[0, 1]] {
        must_end_saying(&mut start_twin(&cluster, through), WHY);
    }
    cluster.must_settle();
    assert!(cluster.nodes[1].process().count_in_log("refused a connection to the peer-port") > 0);
    // Nobody has taken one that had to end for the next life of the first, which would then not be heard any more.
    assert_eq!(cluster.nodes[0].process().count_in_log("member up"), 1);
    assert_eq!(cluster.nodes[1].process().count_in_log("member up"), 1);
    assert_eq!(cluster.nodes[1].client().run("SET a 1").text().as_deref(), Some("OK"));
}

#[test]
fn a_node_that_crashed_comes_back_at_another_address() {
    let _alone = alone();
    let mut cluster = two_nodes();
    cluster.nodes[0].client().run("SET a 1");
    cluster.nodes[1].kill();
    cluster.nodes[1] = start_twin(&cluster, &[0]);
    cluster.nodes[1].must_be_ready();
    cluster.must_settle();
    assert_eq!(cluster.nodes[1].client().run("GET a").text().as_deref(), Some("1"));
}

#[test]
fn of_two_that_meet_the_one_that_started_later_ends() {
    let _alone = alone();
    let cluster = two_nodes();
    cluster.nodes[1].process().pause();
    let mut twin = start_twin(&cluster, &[0]);
    twin.must_be_ready();
    cluster.nodes[1].process().resume();
    must_end_saying(&mut twin, WHY);
    must("the first goes on", || cluster.nodes[1].is_ready());
    cluster.must_settle();
    assert_eq!(cluster.nodes[1].client().run("SET a 1").text().as_deref(), Some("OK"));
}
