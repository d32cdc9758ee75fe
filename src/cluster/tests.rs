//! Whole nodes of this part in one process, talking over loopback TCP and UDP: forming, joining, refilling, leaving.

use super::*;
use crate::base::clock::Hlc;
use crate::base::ids::{SLOT_COUNT, Slot, slot_of};
use crate::base::net::TcpListener;
use crate::cluster::testing::config;
use crate::membership::{MembershipConfig, NeverAtWork};
use crate::peer::handshake;
use crate::ring::{Row, RowState};
use crate::store::mutation::Mutation;
use crate::store::name::Name;
use crate::store::{Effects, Store};
use tokio::task::JoinHandle;

/// How long anything may take in a test on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node whose end is silence, like a crash's.
pub struct Node {
    pub cluster: Arc<Cluster>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // The driver of membership ends with the last handle on it.
        self.cluster.presence.take_membership();
    }
}

/// Starts the node whose peer port is this, with the nodes at these peer ports to join.
async fn start(port: u16, join: &[u16]) -> Node {
    start_with(port, join, &[("anti-entropy-interval-ms", "0")]).await
}

/// As [`start`], with these options.
pub async fn start_with(port: u16, join: &[u16], options: &[(&str, &str)]) -> Node {
    start_as(port, join, options, None).await
}

/// As [`start_with`], in the life of this generation instead of what the clock says.
async fn start_as(port: u16, join: &[u16], options: &[(&str, &str)], generation: Option<u64>) -> Node {
    let join: Vec<String> = join.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let (own, join) = (port.to_string(), join.join(","));
    // The other ports stand in the row only: nothing listens there.
    let mut all = vec![("port", "1"), ("peer-port", &own), ("join", &join), ("cluster-secret", "of the tests")];
    all.extend(options);
    let config = config(&all);
    let derived = load_or_derive(&config.settings()).expect("an identity");
    let identity = Identity { generation: generation.unwrap_or(derived.generation), ..derived };
    let memory = Memory::load(&config.settings()).expect("a memory");
    let store = Arc::new(Store::new(identity.actor()));
    let settings = MembershipConfig {
        id: identity.id,
        generation: identity.generation,
        bind: identity.peer_addr,
        advertised: identity.peer_addr,
        cluster: "rondo".to_owned(),
        secret: Some("of the tests".to_owned()),
        probe_period_ms: MembershipConfig::PROBE_PERIOD_MS,
    };
    // An earlier life's sockets are closed when its tasks are next looked at.
    let (listener, membership) = loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let Ok(listener) = TcpListener::bind(identity.peer_addr).await else { continue };
        if let Ok(membership) = Membership::spawn(settings.clone(), NeverAtWork) {
            break (listener, membership);
        }
    };
    let (metrics, peers) = (Arc::new(Registry::new(Vec::new())), Arc::new(Peers::new(1, 1 << 20)));
    let intake = Intake::new(store, metrics, |portion| portion.merge());
    let cluster = Cluster::new(config, identity, memory, intake, membership, peers);
    let serving = cluster.clone();
    let tasks = vec![
        tokio::spawn(cluster.clone().run()),
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let serving = serving.clone();
                connections.spawn(async move {
                    if let Ok(hello) = handshake::accept(&mut stream, serving.links.hello(), b"of the tests").await {
                        serving.serve_control(stream, hello).await;
                    }
                });
            }
        }),
    ];
    Node { cluster, tasks }
}

pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// Every node is warm and all see the same so many members alive.
pub async fn formed(nodes: &[&Node], members: usize) {
    until("the nodes form one cluster", || {
        let digest = nodes[0].cluster.topology().digest;
        nodes.iter().all(|node| {
            let topology = node.cluster.topology();
            let owners = topology.ring.members().iter().filter_map(|member| topology.rows.get(&member.id));
            let alive = owners.filter(|row| topology.liveness(&row.id) == Liveness::Alive && row.warm);
            topology.digest == digest && topology.is_warm() && alive.count() == members
        })
    })
    .await;
}

/// Writes so many keys on this node alone; gives them.
fn write(node: &Node, count: usize) -> Vec<Vec<u8>> {
    let keys: Vec<Vec<u8>> = (0..count).map(|n| format!("key:{n}").into_bytes()).collect();
    keys.iter().for_each(|key| put(node, key));
    keys
}

/// Writes one key on this node alone.
pub fn put(node: &Node, key: &[u8]) {
    let store = &node.cluster.store;
    let assign = Mutation::Assign { value: key, deadline_ms: 0 };
    store.lock(slot_of(key), 0, store.clock.now_ms(), &mut Effects::default()).write(key, assign);
}

pub fn dot_of(node: &Node, key: &[u8]) -> Option<(Hlc, crate::base::ids::ActorId)> {
    let store = &node.cluster.store;
    let table = store.table(slot_of(key));
    let entry = table.find(Name::of(0, key))?;
    Some((entry.dot().hlc, store.actors.id(entry.dot().actor)))
}

fn total(node: &Node) -> usize {
    Slot::all().map(|slot| node.cluster.store.table(slot).iter().count()).sum()
}

#[tokio::test]
async fn three_start_at_once_a_fourth_takes_its_slots_and_one_that_forgot_gets_its_back() {
    let list = [21_701, 21_702, 21_703];
    // In the wrong order: those that wait for the founder come first.
    let (three, two) = (start(21_703, &list).await, start(21_702, &list).await);
    let one = start(21_701, &list).await;
    formed(&[&one, &two, &three], 3).await;
    assert_eq!(three.cluster.warm_slots(), SLOT_COUNT);

    // What a quorum of two would have left: every key on two of three nodes, and a deleted one among them.
    let keys = write(&one, 5_000);
    let mut effects = Effects::default();
    one.cluster.store.lock(slot_of(b"key:7"), 0, 0, &mut effects).write(b"key:7", Mutation::Delete);
    let everything: Vec<Slot> = Slot::all().collect();
    let sent = one.cluster.push_slots(two.cluster.id(), &mut everything.clone(), Hlc(0)).await.expect("pushed");
    assert_eq!((sent, total(&two), total(&three)), (5_000, 5_000, 0));
    assert!(keys.iter().all(|key| dot_of(&one, key) == dot_of(&two, key)));
    let late = one.cluster.push_slots(two.cluster.id(), &mut everything.clone(), Hlc(u64::MAX)).await.expect("pushed");
    assert_eq!(late, 0);

    let four = start(21_704, &[21_702, 21_703]).await;
    formed(&[&one, &two, &three, &four], 4).await;
    let topology = four.cluster.topology();
    let held: Vec<&Vec<u8>> = keys.iter().filter(|key| topology.is_home(slot_of(key))).collect();
    assert_eq!(total(&four), held.len());
    assert!(held.iter().all(|key| dot_of(&four, key) == dot_of(&one, key)));
    assert!(held.len() > 3_000 && four.cluster.warm_slots() == topology.own_slots().len());

    let (id, before) = (two.cluster.id(), two.cluster.identity.generation);
    drop(two);
    until("the silence is noticed", || one.cluster.topology().liveness(&id) == Liveness::Down).await;
    let two = start(21_702, &list).await;
    formed(&[&one, &two, &three, &four], 4).await;
    assert!(two.cluster.id() == id && two.cluster.identity.generation > before);
    let topology = two.cluster.topology();
    let homes: Vec<&Vec<u8>> = keys.iter().filter(|key| topology.is_home(slot_of(key))).collect();
    let held = homes.iter().filter(|key| dot_of(&two, key) == dot_of(&one, key)).count();
    assert_eq!((total(&two), held), (homes.len(), homes.len()));
}

/// Nodes at these ports, each of which joins through all of them, once they are one cluster.
async fn together(list: &[u16]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for port in list {
        nodes.push(start(*port, list).await);
    }
    formed(&nodes.iter().collect::<Vec<_>>(), list.len()).await;
    nodes
}

async fn leave(node: &Node) {
    tokio::time::timeout(PATIENCE, node.cluster.hand_over()).await.expect("left");
    node.cluster.say_goodbye().await;
}

#[tokio::test]
async fn who_leaves_hands_over_first_and_may_come_back() {
    let list: Vec<u16> = (21_711..=21_714).collect();
    let mut nodes = together(&list).await;
    let gone = nodes.pop().expect("four");
    let keys = write(&gone, 2_000);
    let old = gone.cluster.topology();
    let ours: Vec<&Vec<u8>> = keys.iter().filter(|key| old.is_home(slot_of(key))).collect();
    leave(&gone).await;
    drop(gone);
    formed(&nodes.iter().collect::<Vec<_>>(), 3).await;
    // Three hold everything now, so each key that the fourth owned has gone to the one that did not own it.
    for key in &ours {
        let holders = nodes.iter().filter(|node| dot_of(node, key).is_some()).count();
        assert_eq!(holders, 1, "{}", String::from_utf8_lossy(key));
    }
    nodes.push(start(21_714, &list).await);
    formed(&nodes.iter().collect::<Vec<_>>(), 4).await;

    // One that turns back on the doorstep never owned anything.
    let fifth = start(21_715, &list).await;
    until("it is joining", || fifth.cluster.topology().is_formed()).await;
    leave(&fifth).await;
    assert!(!fifth.cluster.is_warm());
    let id = fifth.cluster.id();
    drop(fifth);
    formed(&nodes.iter().collect::<Vec<_>>(), 4).await;
    assert_eq!(nodes[0].cluster.topology().rows.get(&id).map(|row| row.state), Some(RowState::Left));
}

/// Simulated: sources were silent just when the others took over, and who had not fetched enough never did: the node
/// that left waited for it until its patience was over.
#[tokio::test]
async fn who_leaves_waits_for_one_that_has_not_enough_which_fetches_it_meanwhile() {
    let list: Vec<u16> = (21_716..=21_719).collect();
    let mut nodes = together(&list).await;
    let gone = nodes.pop().expect("four");
    nodes.iter().for_each(|node| node.cluster.holdings.whole.clear());
    leave(&gone).await;
    drop(gone);
    formed(&nodes.iter().collect::<Vec<_>>(), 3).await;
    assert!(nodes.iter().all(|node| node.cluster.is_all_whole(&node.cluster.topology())));
}

#[tokio::test]
async fn a_founder_that_was_known_before_fills_up_instead_of_answering_nothing() {
    let one = start(21_721, &[]).await;
    let two = start(21_722, &[21_721]).await;
    formed(&[&one, &two], 2).await;
    write(&two, 500);
    let id = one.cluster.id();
    drop(one);
    until("the silence is noticed", || two.cluster.topology().liveness(&id) == Liveness::Down).await;
    // With nobody to ask it founds a cluster of its own, until the old one finds it.
    let one = start(21_721, &[]).await;
    until("it has its keys back", || total(&one) == 500).await;
    formed(&[&one, &two], 2).await;
}

/// As when one of them knocks at the other.
async fn meet(node: &Node, other: &Node) {
    let rows = node.cluster.topology().rows.clone();
    let link = node.cluster.links.to_addr(other.cluster.identity.peer_addr);
    node.cluster.exchange_rows(&link, &rows).await.expect("an answer");
}

#[tokio::test]
async fn a_founder_that_nobody_knew_joins_the_cluster_that_it_meets_and_fetches_what_it_is_to_own() {
    let (lone, one) = (start(21_801, &[]).await, start(21_802, &[]).await);
    let two = start(21_803, &[21_802]).await;
    until("it has founded", || lone.cluster.is_warm()).await;
    formed(&[&one, &two], 2).await;
    let keys = write(&one, 1_000);
    let mut everything: Vec<Slot> = Slot::all().collect();
    one.cluster.push_slots(two.cluster.id(), &mut everything, Hlc(0)).await.expect("pushed");
    put(&lone, b"its own");
    meet(&lone, &one).await;
    assert_eq!(lone.cluster.topology().own_row().map(|row| row.state), Some(RowState::Joining));
    assert!(one.cluster.topology().rows.get(&lone.cluster.id()).is_none_or(|row| row.state == RowState::Joining));
    formed(&[&lone, &one, &two], 3).await;
    // Nothing is compared here, and nothing handed over: what it has, it has fetched.
    assert!(keys.iter().all(|key| dot_of(&lone, key) == dot_of(&one, key)), "all three hold everything");
    assert!(dot_of(&lone, b"its own").is_some());
}

#[tokio::test]
async fn two_founders_that_meet_are_one_cluster() {
    let one = start(21_806, &[]).await;
    let two = start(21_807, &[]).await;
    until("both have founded", || one.cluster.is_warm() && two.cluster.is_warm()).await;
    let keys = write(&one, 300);
    meet(&one, &two).await;
    meet(&two, &one).await;
    formed(&[&one, &two], 2).await;
    assert!(keys.iter().all(|key| dot_of(&two, key) == dot_of(&one, key)), "the one that began later has fetched them");
}

#[tokio::test]
async fn a_node_whose_clock_has_gone_back_since_its_last_start_is_believed_to_live() {
    let options = [("anti-entropy-interval-ms", "0")];
    let one = start(21_811, &[]).await;
    let two = start(21_812, &[21_811]).await;
    formed(&[&one, &two], 2).await;
    let (id, life) = (two.cluster.id(), two.cluster.identity.generation);
    drop(two);
    until("the silence is noticed", || one.cluster.topology().liveness(&id) == Liveness::Down).await;
    let two = start_as(21_812, &[21_811], &options, Some(life - 3_600_000)).await;
    formed(&[&one, &two], 2).await;
    // Not for having spoken lately alone.
    until("membership says so", || one.cluster.presence.members().borrow().liveness(&id) == Liveness::Alive).await;
}

#[tokio::test]
async fn a_node_that_lives_takes_its_row_back_when_somebody_gives_it_up() {
    let one = start(21_816, &[]).await;
    let two = start(21_817, &[21_816]).await;
    formed(&[&one, &two], 2).await;
    let mut rows = one.cluster.topology().rows.clone();
    let own = rows.get(&two.cluster.id()).cloned().expect("a row");
    rows.merge(Row { state: RowState::Leaving, version: own.version + 1, ..own.clone() });
    two.cluster.merge_rows(&rows);
    let now = two.cluster.topology().own_row().cloned().expect("a row");
    assert_eq!((now.state, now.warm, now.version), (RowState::Normal, true, own.version + 2));
    formed(&[&one, &two], 2).await;
}

/// Another zone or weight would change the ring at once, and others would own what they have not fetched.
#[tokio::test]
async fn who_restarts_with_another_zone_or_weight_keeps_what_it_has_until_it_leaves() {
    let placed = |zone, weight| [("anti-entropy-interval-ms", "0"), ("zone", zone), ("weight", weight)];
    let is_down = |of: &Node, id| of.cluster.topology().liveness(&id) == Liveness::Down;
    let placing_of = |of: &Node, id| {
        let row = of.cluster.topology().rows.get(&id).cloned().expect("a row");
        (row.zone, row.weight.to_string())
    };
    let kept = (String::from("a"), String::from("2"));
    let one = start_with(21_831, &[], &placed("a", "2")).await;
    let two = start_with(21_832, &[21_831], &placed("a", "2")).await;
    formed(&[&one, &two], 2).await;
    let ring = one.cluster.topology().ring.digest();

    let id = two.cluster.id();
    drop(two);
    until("the silence is noticed", || is_down(&one, id)).await;
    let two = start_with(21_832, &[21_831], &placed("b", "3")).await;
    formed(&[&one, &two], 2).await;
    assert_eq!((placing_of(&one, id), one.cluster.topology().ring.digest()), (kept.clone(), ring));

    // With nobody to ask it founds a cluster of its own, until the old one finds it.
    let founder = one.cluster.id();
    drop(one);
    until("the silence is noticed", || is_down(&two, founder)).await;
    let one = start_with(21_831, &[], &placed("b", "3")).await;
    formed(&[&one, &two], 2).await;
    assert_eq!((placing_of(&two, founder), two.cluster.topology().ring.digest()), (kept, ring));

    leave(&two).await;
    drop(two);
    let two = start_with(21_832, &[21_831], &placed("b", "3")).await;
    formed(&[&one, &two], 2).await;
    assert_eq!(placing_of(&one, two.cluster.id()), ("b".into(), "3".into()));
}

/// Who had taken over from a node that was given up, and gave that back when the node took its row back, took it for
/// done when the node was given up again.
#[tokio::test]
async fn who_is_given_up_twice_is_taken_over_from_twice() {
    let list: Vec<u16> = (21_826..=21_829).collect();
    let mut nodes = together(&list).await;
    let (away, dead) = (nodes.pop().expect("four"), nodes.pop().expect("three"));
    let dead_row = dead.cluster.topology().own_row().cloned().expect("a row");
    let [one, two] = &nodes[..] else { panic!("two are left") };
    let topology = one.cluster.topology();
    let key = (0..)
        .map(|n| format!("key:{n}").into_bytes())
        .find(|key| topology.homes(slot_of(key)).all(|home| home != two.cluster.id()));
    let key = key.expect("a key that is at the three others");
    put(one, &key);
    // The one that is only away has not said that it has taken over: nobody is gone before.
    let gone = [dead.cluster.id(), away.cluster.id()];
    drop((dead, away));
    let is_noticed =
        || nodes.iter().all(|node| gone.iter().all(|id| node.cluster.topology().liveness(id) == Liveness::Down));
    until("the silence is noticed", is_noticed).await;
    let has_taken_over = || two.cluster.has_taken_over(&dead_row.id, dead_row.generation);

    one.cluster.forget(&dead_row.id).expect("it is dead");
    until("it is taken over from", has_taken_over).await;
    assert_eq!(dot_of(two, &key), dot_of(one, &key));
    // It goes on, and what it holds again is given back to it.
    let mut rows = one.cluster.topology().rows.clone();
    rows.merge(Row { version: dead_row.version + 2, ..dead_row.clone() });
    nodes.iter().for_each(|node| node.cluster.merge_rows(&rows));
    until("it is not given up", || one.cluster.book.lock().forgetting.is_empty()).await;
    shed::drop_before(&mut two.cluster.store.table(slot_of(&key)), Hlc(u64::MAX));
    assert_eq!(dot_of(two, &key), None);

    one.cluster.forget(&dead_row.id).expect("it is dead");
    until("it is taken over from again", has_taken_over).await;
    assert!(dot_of(two, &key).is_some(), "it was given back, and is fetched anew");
}

#[tokio::test]
async fn a_node_whose_clock_was_set_back_ends_and_the_others_do_not() {
    let one = start(21_823, &[]).await;
    until("the first has founded", || one.cluster.is_warm()).await;
    let two = start(21_824, &[21_823]).await;
    formed(&[&one, &two], 2).await;
    let was_ms = two.cluster.store.clock.now_ms() + 3_600_000;
    two.cluster.store.clock.observe(Hlc::at_ms(was_ms), was_ms).expect("by the clock of then");
    let ended = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            why = two.cluster.ended() => why,
            why = one.cluster.ended() => panic!("the other ended: {why}"),
        }
    });
    assert!(matches!(ended.await, Ok(Ending::SetBack { stamps_ahead_ms: 3_500_000.. })));
}

/// Whoever publishes waits for those who read what changed, and holds what these may be about to ask for.
#[tokio::test]
async fn publishing_and_waiting_for_what_was_published_never_wait_for_each_other() {
    let node = start(21_821, &[]).await;
    until("it has founded", || node.cluster.is_warm()).await;
    // From here on nobody but these two, who would hold up this thread, too.
    node.tasks.iter().for_each(JoinHandle::abort);
    until("its tasks have ended", || node.tasks.iter().all(JoinHandle::is_finished)).await;
    let (publisher, waiter) = (node.cluster.clone(), node.cluster.clone());
    let (done, ends) = std::sync::mpsc::channel();
    let also_done = done.clone();
    std::thread::spawn(move || {
        (0..2_000).for_each(|_| publisher.update(|_| true));
        done.send(())
    });
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        // Looked at once: it begins each time anew.
        (0..20_000).for_each(|_| {
            runtime.block_on(async { drop(tokio::time::timeout(Duration::ZERO, waiter.quiesce()).await) });
        });
        also_done.send(())
    });
    let both = tokio::task::spawn_blocking(move || (0..2).all(|_| ends.recv_timeout(PATIENCE).is_ok()));
    assert!(both.await.expect("waited"), "they wait for each other");
}
