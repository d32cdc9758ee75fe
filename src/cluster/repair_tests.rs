//! Whole nodes of this part in one process: replicas that differ become equal, deletions are forgotten, strays go home,
//! dead nodes are given up.

use super::tests::{Node, dot_of, formed, put, start_with, until};
use super::*;
use crate::base::ids::slot_of;
use crate::base::metrics::Count;
use crate::cluster::transfer::PIECE_TIMEOUT;
use crate::peer::compare::Compare;
use crate::peer::control::{ControlError, Request};
use crate::peer::refusal::Refusal;
use crate::ring::{Row, RowState};
use crate::store::Effects;
use crate::store::mutation::Mutation;

const FAST: &[(&str, &str)] = &[("anti-entropy-interval-ms", "50"), ("tombstone-age-min-ms", "0")];

fn delete(node: &Node, key: &[u8]) {
    let store = &node.cluster.store;
    let mut effects = Effects::default();
    store.lock(slot_of(key), 0, store.clock.now_ms(), &mut effects).write(key, Mutation::Delete);
}

fn counted(node: &Node, count: Count) -> u64 {
    node.cluster.metrics.totals().count(count)
}

async fn cluster(ports: &[u16], options: &[(&str, &str)]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for port in ports {
        nodes.push(start_with(*port, ports, options).await);
    }
    formed(&nodes.iter().collect::<Vec<_>>(), nodes.len()).await;
    nodes
}

/// Every node that is a home replica of the key has the same version of it, and no other node has any.
fn at_home(nodes: &[&Node], key: &[u8]) -> bool {
    let held: Vec<_> = nodes.iter().map(|it| (it.cluster.topology().is_home(slot_of(key)), dot_of(it, key))).collect();
    let first = held.iter().find(|(is_home, _)| *is_home).and_then(|(_, dot)| *dot);
    first.is_some() && held.iter().all(|(is_home, dot)| *dot == first.filter(|_| *is_home))
}

#[tokio::test]
async fn what_one_replica_missed_comes_to_it_and_a_deletion_is_forgotten_when_all_hold_it() {
    let nodes = cluster(&[21_731, 21_732, 21_733], FAST).await;
    let [one, two, three] = &nodes[..] else { panic!("three") };
    // Each node alone was told of some keys, and one of them of deletions: nobody handed anything over.
    for n in 0..300 {
        put([one, two, three][n % 3], format!("key:{n}").as_bytes());
    }
    // More keys than one look takes, in one slot, so that its buckets are compared.
    for n in 0..2_000 {
        put(one, format!("{{big}}:{n}").as_bytes());
    }
    let everybody = [one, two, three];
    until("all hold all", || {
        (0..300).all(|n| at_home(&everybody, format!("key:{n}").as_bytes()))
            && (0..2_000).all(|n| at_home(&everybody, format!("{{big}}:{n}").as_bytes()))
    })
    .await;
    assert!(nodes.iter().map(|it| counted(it, Count::AntiEntropyRepairs)).sum::<u64>() >= 2_300);
    for n in 0..100 {
        delete(two, format!("key:{n}").as_bytes());
    }
    until("no trace is left of what was deleted", || {
        nodes.iter().all(|it| (0..100).all(|n| dot_of(it, format!("key:{n}").as_bytes()).is_none()))
    })
    .await;
    assert!(counted(two, Count::TombstonesCollected) >= 100);
    assert!((100..300).all(|n| at_home(&everybody, format!("key:{n}").as_bytes())));
}

#[tokio::test]
async fn who_may_lack_a_write_may_hold_an_older_copy_until_all_is_compared() {
    let nodes = cluster(&[21_736, 21_737], FAST).await;
    let [one, two] = &nodes[..] else { panic!("two") };
    let (peer, _) = one.cluster.peers.get_or_add(two.cluster.id(), ([127, 0, 0, 1], 21_737).into());
    for lane in &peer.lanes {
        lane.open();
    }
    let hides = || {
        // As a link does.
        peer.lanes.iter().for_each(|lane| lane.look_at_lag(std::time::Instant::now()));
        (one.cluster.older_copies_possible(), one.cluster.knows_of_older_copies())
    };
    until("it hides nothing as far as is known here", || hides() == (true, false)).await;
    peer.lanes.iter().for_each(|lane| lane.hear(false));
    until("nobody may hold older copies", || hides() == (false, false)).await;
    peer.lacks.note_declined();
    assert!(hides().0 && !two.cluster.older_copies_possible());
    until("they have compared", || hides() == (false, false)).await;
    peer.losses.note();
    assert!(hides().0);
    until("they have compared again", || hides() == (false, false)).await;
    peer.lanes.iter().for_each(|lane| lane.hear(true));
    assert!(hides().0, "it says so");
    until("that is no knowledge of ours", || hides() == (true, false)).await;
    peer.lanes.iter().for_each(|lane| lane.hear(false));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(one.cluster.older_copies_possible() && one.cluster.knows_of_older_copies(), "nobody has looked for long");
}

#[tokio::test]
async fn a_deletion_is_kept_while_a_replica_is_away_and_its_old_copy_does_not_come_back() {
    let mut nodes = cluster(&[21_741, 21_742, 21_743], FAST).await;
    let key = b"key";
    put(&nodes[0], key);
    until("all hold it", || at_home(&nodes.iter().collect::<Vec<_>>(), key)).await;
    // The third stops talking, its memory as it is.
    let away = nodes.pop().expect("three");
    let memory = away.cluster.store.clone();
    let id = away.cluster.id();
    drop(away);
    until("it is missed", || nodes.iter().all(|it| it.cluster.topology().liveness(&id) == Liveness::Down)).await;
    delete(&nodes[0], key);
    let rounds = counted(&nodes[0], Count::AntiEntropyRounds);
    until("several rounds", || counted(&nodes[0], Count::AntiEntropyRounds) > rounds + 5).await;
    assert!(nodes.iter().all(|it| dot_of(it, key).is_some()), "the tombstone is needed");
    assert!(memory.table(slot_of(key)).iter().all(|entry| !entry.is_tombstone()));

    // Somebody who had been its like is there again, and learns of the deletion instead of bringing the key back.
    nodes.push(start_with(21_743, &[21_741, 21_742, 21_743], FAST).await);
    formed(&nodes.iter().collect::<Vec<_>>(), 3).await;
    until("nobody has any trace of it", || nodes.iter().all(|it| dot_of(it, key).is_none())).await;
}

#[tokio::test]
async fn after_the_horizon_deletions_are_forgotten_without_a_node_that_is_away() {
    let options = [FAST, &[("tombstone-horizon-ms", "1500")]].concat();
    let mut nodes = cluster(&[21_751, 21_752, 21_753], &options).await;
    let away = nodes.pop().expect("three");
    let id = away.cluster.id();
    drop(away);
    until("it is missed", || nodes.iter().all(|it| it.cluster.topology().liveness(&id) == Liveness::Down)).await;
    put(&nodes[0], b"key");
    delete(&nodes[0], b"key");
    until("forgotten", || nodes.iter().all(|it| dot_of(it, b"key").is_none())).await;
    assert!(nodes.iter().all(|it| it.cluster.is_warm()), "two of three are a majority");
}

#[tokio::test]
async fn what_a_stranger_holds_goes_home_before_it_is_dropped() {
    let nodes = cluster(&(21_761..=21_764).collect::<Vec<_>>(), FAST).await;
    // As after standing in: the only copies of these writes are where they do not belong.
    let keys: Vec<Vec<u8>> = (0..400).map(|n| format!("key:{n}").into_bytes()).collect();
    for key in &keys {
        let stranger = nodes.iter().find(|it| !it.cluster.topology().is_home(slot_of(key))).expect("one of four");
        put(stranger, key);
    }
    let everybody: Vec<&Node> = nodes.iter().collect();
    until("every key is at home and nowhere else", || keys.iter().all(|key| at_home(&everybody, key))).await;
}

#[tokio::test]
async fn a_dead_node_is_given_up_and_its_keys_have_all_their_copies_again() {
    let ports: Vec<u16> = (21_771..=21_774).collect();
    let mut nodes = cluster(&ports, &[("anti-entropy-interval-ms", "0")]).await;
    let keys: Vec<Vec<u8>> = (0..2_000).map(|n| format!("key:{n}").into_bytes()).collect();
    for key in &keys {
        // One write, at every home replica.
        let home = nodes.iter().position(|it| it.cluster.topology().is_home(slot_of(key))).expect("a home");
        put(&nodes[home], key);
        let mut others = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            if at != home && node.cluster.topology().is_home(slot_of(key)) {
                others.push(node.cluster.id());
            }
        }
        for other in others {
            nodes[home]
                .cluster
                .push_slots(other, &mut vec![slot_of(key)], crate::base::clock::Hlc(0))
                .await
                .expect("pushed");
        }
    }
    let living: Vec<crate::base::ids::NodeId> = nodes.iter().map(|it| it.cluster.id()).collect();
    assert_eq!(nodes[0].cluster.forget(&living[3]), Err(ForgetError::Alive(living[3])));
    assert_eq!(nodes[0].cluster.forget(&living[0]), Err(ForgetError::Ourselves));
    let nobody = crate::base::ids::NodeId::from_bytes([9; 20]);
    assert_eq!(nodes[0].cluster.forget(&nobody), Err(ForgetError::Unknown(nobody)));

    let dead = nodes.pop().expect("four");
    let id = dead.cluster.id();
    drop(dead);
    until("it is missed", || nodes.iter().all(|it| it.cluster.topology().liveness(&id) == Liveness::Down)).await;
    {
        // Rings are being built: no worker waits for that.
        let _book = nodes[0].cluster.book.lock();
        assert_eq!(nodes[0].cluster.forget(&id), Ok(()));
    }
    until("it is gone", || {
        let gone = |it: &Node| it.cluster.topology().rows.get(&id).map(|row| row.state) == Some(RowState::Gone);
        nodes.iter().all(gone)
    })
    .await;
    assert_eq!(nodes[0].cluster.forget(&id), Err(ForgetError::Unknown(id)));
    // Three nodes hold everything now, and no comparison ran that could have helped.
    for key in &keys {
        assert!(nodes.iter().all(|it| dot_of(it, key) == dot_of(&nodes[0], key) && dot_of(it, key).is_some()));
    }
}

#[tokio::test]
async fn who_holds_the_last_copies_keeps_them_however_long_it_was_alone() {
    let options = [FAST, &[("tombstone-horizon-ms", "1500")]].concat();
    let ports = [21_781, 21_782];
    let mut nodes = cluster(&ports, &options).await;
    let keys: Vec<Vec<u8>> = (0..300).map(|n| format!("key:{n}").into_bytes()).collect();
    keys.iter().for_each(|key| put(&nodes[0], key));
    let dead = nodes.pop().expect("two");
    let last = &nodes[0];
    let (link, id) = (dead.cluster.links.to_addr(last.cluster.identity.peer_addr), dead.cluster.id());
    drop(dead);
    until("it was alone for too long", || last.cluster.is_outdated.load(Ordering::Acquire)).await;
    assert!(last.cluster.is_warm() && !last.cluster.is_warm_for(&id));
    // Before it is known what the other has forgotten, it is given nothing.
    let slots = vec![slot_of(b"key:7")];
    let digests = vec![(slot_of(b"key:7"), 0)];
    let compared = Request::Compare(Compare::Slots { horizon_ms: 0, digests });
    for request in [Request::GetSlots { slots, cursor: 0 }, compared] {
        let answer = link.ask(&request, PIECE_TIMEOUT).await;
        assert!(matches!(answer, Err(ControlError::Refused(Refusal::Warming))), "{answer:?}");
    }
    // Empty, as after a crash.
    nodes.push(start_with(ports[1], &ports, &options).await);
    formed(&nodes.iter().collect::<Vec<_>>(), 2).await;
    let everybody: Vec<&Node> = nodes.iter().collect();
    until("both hold all", || keys.iter().all(|key| at_home(&everybody, key))).await;
}

/// Little room for what a node holds: nothing evicts here.
fn make_nearly_full(node: &Node) {
    node.cluster.store.eviction.set_policy(crate::base::config::MaxmemoryPolicy::AllkeysLru);
    node.cluster.store.eviction.bytes_max.store(1, Ordering::Relaxed);
    assert!(node.cluster.store.is_nearly_full());
}

#[tokio::test]
async fn what_it_missed_is_taken_by_a_node_that_is_nearly_full_and_what_it_gave_up_is_not_brought_back() {
    let nodes = cluster(&[21_796, 21_797], &[("anti-entropy-interval-ms", "0")]).await;
    let [giver, full] = &nodes[..] else { panic!("two") };
    let (given_up, missed) = (&b"{t}given up"[..], &b"{t}missed"[..]);
    put(full, b"something to evict");
    make_nearly_full(full);
    put(giver, given_up);
    let clock = &giver.cluster.store.clock;
    let since = clock.tick(clock.now_ms());
    put(giver, missed);
    let mut slots = vec![slot_of(missed)];
    assert_eq!(giver.cluster.reconcile(full.cluster.id(), &mut slots, since).await.expect("compared"), 1);
    assert_eq!((dot_of(full, missed), dot_of(full, given_up)), (dot_of(giver, missed), None));
    assert!(slots.is_empty() && dot_of(full, missed).is_some());
}

#[tokio::test]
async fn what_a_stranger_holds_is_taken_home_by_nodes_that_are_nearly_full() {
    let nodes = cluster(&(21_786..=21_789).collect::<Vec<_>>(), FAST).await;
    for (at, node) in nodes.iter().enumerate() {
        // Something to evict.
        let own =
            (0..).map(|n| format!("own:{at}:{n}")).find(|key| node.cluster.topology().is_home(slot_of(key.as_bytes())));
        put(node, own.expect("some key").as_bytes());
        make_nearly_full(node);
    }
    let stranger = nodes.iter().find(|it| !it.cluster.topology().is_home(slot_of(b"key"))).expect("one of four");
    put(stranger, b"key");
    let everybody: Vec<&Node> = nodes.iter().collect();
    until("it is at home and nowhere else", || at_home(&everybody, b"key")).await;
}

#[tokio::test]
async fn a_node_that_is_back_before_it_is_given_up_stays() {
    let nodes = cluster(&[21_791, 21_792, 21_793], &[("anti-entropy-interval-ms", "0")]).await;
    let id = nodes[2].cluster.id();
    // As if it had been down when the operator said so.
    nodes[0].cluster.update(|book| {
        let row = book.rows.get(&id).cloned().expect("a row");
        book.forgetting.insert(id, row.generation);
        book.rows.merge(Row { state: RowState::Leaving, version: row.version + 1, ..row })
    });
    until("nobody is about to give it up", || nodes[0].cluster.book.lock().forgetting.is_empty()).await;
    let state = |it: &Node| it.cluster.topology().rows.get(&id).map(|row| row.state);
    until("all know that it stays", || nodes.iter().all(|it| state(it) == Some(RowState::Normal))).await;
    formed(&nodes.iter().collect::<Vec<_>>(), 3).await;
}
