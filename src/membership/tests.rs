//! Members that talk: detectors in a made-up network and time, and whole members over loopback UDP.

use super::detector::Detector;
use super::seal::{Keyring, Sealer};
use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// How long anything may take in a test on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret of the tests";

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn config(node: u8, generation: u64, addr: SocketAddr) -> MembershipConfig {
    MembershipConfig {
        id: NodeId::from_bytes([node; 20]),
        generation,
        bind: addr,
        advertised: addr,
        cluster: "tests".to_string(),
        secret: Some(SECRET.to_string()),
        probe_period_ms: MembershipConfig::PROBE_PERIOD_MS,
    }
}

/// Detectors under one made-up clock. Datagrams take a millisecond, and wait for a node that is stopped.
struct World {
    now: Instant,
    nodes: BTreeMap<u16, Detector>,
    stopped: Option<u16>,
    inboxes: BTreeMap<u16, VecDeque<Vec<u8>>>,
    stalls: usize,
    /// Every body that was sent, and by whom.
    sent: Vec<(u16, Vec<u8>)>,
    /// Everything that a node believed of another, but that it lives.
    blamed: Vec<(u16, NodeId, Liveness)>,
}

impl World {
    fn new(nodes: u16, seed: u64) -> World {
        let now = Instant::now();
        let detector =
            |node: u16| (node, Detector::new(now, &config(node as u8, 1, loopback(node)), seed + u64::from(node)));
        let mut world = World {
            now,
            nodes: (1..=nodes).map(detector).collect(),
            stopped: None,
            inboxes: BTreeMap::new(),
            stalls: 0,
            sent: Vec::new(),
            blamed: Vec::new(),
        };
        world.nodes.values_mut().for_each(|detector| detector.announce(now, loopback(1)));
        world
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(1);
            for (&node, detector) in self.nodes.iter_mut().filter(|&(&node, _)| Some(node) != self.stopped) {
                let arrived: Vec<Vec<u8>> = self.inboxes.entry(node).or_default().drain(..).collect();
                for body in arrived {
                    detector.on_packet(self.now, &body).unwrap();
                }
                if detector.next_deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.stalls += usize::from(detector.on_due(self.now).is_some());
                }
                for peer in detector.view().peers().iter().filter(|peer| peer.liveness != Liveness::Alive) {
                    let blame = (node, peer.id, peer.liveness);
                    if !self.blamed.contains(&blame) {
                        self.blamed.push(blame);
                    }
                }
            }
            for (&node, detector) in &mut self.nodes {
                while let Some((to, body)) = detector.next_send() {
                    self.inboxes.entry(to.port()).or_default().push_back(body.to_vec());
                    self.sent.push((node, body.to_vec()));
                }
            }
        }
    }

    fn all_alive(&self) -> bool {
        let alive = |view: MemberList| view.peers().iter().filter(|peer| peer.liveness == Liveness::Alive).count();
        self.nodes.values().all(|detector| alive(detector.view()) == self.nodes.len())
    }
}

#[test]
fn a_stopped_node_is_down_and_comes_back_blaming_nobody() {
    for seed in [1, 20, 300] {
        let mut world = World::new(5, seed);
        world.run(Duration::from_secs(10));
        assert!(world.all_alive() && world.blamed.is_empty(), "{:?}", world.blamed);

        world.stopped = Some(3);
        world.run(Duration::from_secs(30));
        let three = NodeId::from_bytes([3; 20]);
        for watcher in [1, 2, 4, 5] {
            assert!(world.blamed.contains(&(watcher, three, Liveness::Down)));
            assert_eq!(world.nodes[&watcher].view().liveness(&three), Liveness::Down);
        }
        assert!(world.blamed.iter().all(|&(_, id, _)| id == three));

        world.stopped = None;
        world.run(Duration::from_secs(20));
        assert!(world.all_alive());
        assert!(world.blamed.iter().all(|&(watcher, id, _)| watcher != 3 && id == three), "{:?}", world.blamed);
        assert!(world.nodes[&3].rejoins() > 0);
        assert_eq!(world.stalls, 1);
        assert!(world.nodes[&1].view().get(&three).unwrap().generation > 1);
    }
}

#[test]
fn a_node_that_slept_through_the_answers_asks_again() {
    let mut world = World::new(5, 77);
    world.run(Duration::from_secs(10));
    for _ in 0..20 {
        // Stopped right after it asked something.
        world.sent.clear();
        while !world.sent.iter().any(|&(from, _)| from == 3) {
            world.run(Duration::from_millis(1));
        }
        world.stopped = Some(3);
        world.run(Duration::from_millis(1_200));
        // The system kept nothing of what came meanwhile, as when a buffer is full.
        world.inboxes.clear();
        world.stopped = None;
        world.run(Duration::from_millis(2_037));
    }
    world.run(Duration::from_secs(10));
    assert!(world.all_alive());
    assert!(world.blamed.iter().all(|&(watcher, _, _)| watcher != 3), "{:?}", world.blamed);
    assert_eq!(world.stalls, 20);
}

#[test]
fn two_nodes_that_lost_each_other_find_each_other_again() {
    let mut world = World::new(2, 9);
    world.run(Duration::from_secs(5));
    assert!(world.all_alive());
    let (one, two) = (NodeId::from_bytes([1; 20]), NodeId::from_bytes([2; 20]));
    world.stopped = Some(2);
    world.run(Duration::from_secs(10));
    // The other half of a partition: nothing of what was sent meanwhile arrives, and each has given the other up.
    world.inboxes.clear();
    world.stopped = Some(1);
    world.run(Duration::from_secs(10));
    world.inboxes.clear();
    assert_eq!(world.nodes[&1].view().liveness(&two), Liveness::Down);
    assert_eq!(world.nodes[&2].view().liveness(&one), Liveness::Down);
    world.stopped = None;
    world.run(Duration::from_secs(10));
    assert!(world.all_alive());
}

#[test]
fn gossip_without_a_secret_stays_at_home() {
    let any: IpAddr = "0.0.0.0".parse().unwrap();
    assert!(check_bind(any, Some("secret")).is_ok() && check_bind("::1".parse().unwrap(), None).is_ok());
    assert!(matches!(check_bind(any, None), Err(MembershipError::Unprotected(_))));
    assert!(matches!(check_bind(any, Some("")), Err(MembershipError::Unprotected(_))));
}

/// A real member on a port of the system's choice, four times as fast as usual.
fn spawn(node: u8, generation: u64, port: u16, secret: Option<&str>) -> Membership {
    let usual = config(node, generation, loopback(port));
    Membership::spawn(
        MembershipConfig { secret: secret.map(str::to_string), probe_period_ms: 125, ..usual },
        NeverAtWork,
    )
    .unwrap()
}

async fn until(membership: &Membership, what: &str, reached: impl Fn(&MemberList) -> bool) {
    let mut view = membership.view();
    let waited = tokio::time::timeout(PATIENCE, view.wait_for(|view| reached(view))).await;
    assert!(waited.is_ok_and(|held| held.is_ok()), "{what}: {:?}", membership.view().borrow());
}

fn alive(view: &MemberList) -> Vec<u8> {
    let living = view.peers().iter().filter(|peer| peer.liveness == Liveness::Alive);
    living.filter_map(|peer| peer.id.as_bytes().first().copied()).collect()
}

#[tokio::test]
async fn members_meet_vanish_leave_and_return() {
    for secret in [Some(SECRET), None] {
        let members: Vec<Membership> = (1..=4).map(|node| spawn(node, 100, 0, secret)).collect();
        let [one, two, three, four] = members.try_into().unwrap();
        for member in [&two, &three, &four] {
            member.announce(one.addr());
        }
        for member in [&one, &two, &three, &four] {
            until(member, "all meet", |view| alive(view) == [1, 2, 3, 4]).await;
        }

        let id = |node| NodeId::from_bytes([node; 20]);
        let four_addr = four.addr();
        drop(four);
        for member in [&one, &two, &three] {
            until(member, "a crash shows", |view| view.liveness(&id(4)) == Liveness::Down).await;
        }
        three.leave().await;
        for member in [&one, &two] {
            until(member, "a goodbye is heard", |view| view.liveness(&id(3)) == Liveness::Down).await;
        }

        // The same id at the same address, one boot later; and a node that lost its memory, under a new id.
        let four = spawn(4, 10_000, four_addr.port(), secret);
        four.announce(two.addr());
        let five = spawn(5, 20_000, 0, secret);
        five.announce(four_addr);
        for member in [&one, &two, &four, &five] {
            until(member, "who returns is welcome", |view| alive(view) == [1, 2, 4, 5]).await;
            assert!(member.view().borrow().get(&id(4)).is_some_and(|peer| peer.generation >= 10_000));
        }
        assert!(one.stats().packets_received > 0 && one.stats().packets_refused == 0);
    }
}

#[tokio::test]
async fn strangers_are_not_heard() {
    let ours = spawn(1, 100, 0, Some(SECRET));
    let other_secret = spawn(2, 100, 0, Some("another secret"));
    let other_cluster = {
        let usual = config(3, 100, loopback(0));
        Membership::spawn(MembershipConfig { cluster: "others".to_string(), ..usual }, NeverAtWork).unwrap()
    };
    other_secret.announce(ours.addr());
    other_cluster.announce(ours.addr());
    tokio::time::timeout(PATIENCE, async {
        while ours.stats().packets_refused < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(alive(&ours.view().borrow()), [1]);
    assert_eq!(ours.stats().packets_received, 0);
}

#[tokio::test]
async fn a_hundred_thousand_forgeries_change_nothing() {
    let (one, two) = (spawn(1, 100, 0, Some(SECRET)), spawn(2, 100, 0, Some(SECRET)));
    two.announce(one.addr());
    until(&one, "both meet", |view| alive(view) == [1, 2]).await;
    let before = one.view().borrow().clone();

    let mut dice = StdRng::seed_from_u64(7);
    let socket = tokio::net::UdpSocket::bind(loopback(0)).await.unwrap();
    // With the right form and sender, but a guessed secret.
    let mut forger = Sealer::new(&Keyring::new("tests", Some("guess")), before.peers()[1].id.short(), 100, 1 << 60);
    for round in 0..100_000 {
        let mut datagram: Vec<u8> = (0..dice.random_range(0..200)).map(|_| dice.random()).collect();
        if round % 2 == 0 {
            datagram = forger.seal(&datagram);
        }
        socket.send_to(&datagram, one.addr()).await.unwrap();
        if round % 64 == 0 {
            // Lets the member read, or the system would drop most of them.
            tokio::task::yield_now().await;
        }
    }
    until(&one, "still there", |view| alive(view) == [1, 2]).await;
    until(&two, "still there", |view| alive(view) == [1, 2]).await;
    let ids = |view: &MemberList| view.peers().iter().map(|peer| (peer.id, peer.addr)).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&one.view().borrow()));
    assert!(one.stats().packets_refused > 1_000, "{:?}", one.stats());
}

#[test]
fn a_hundred_thousand_senseless_bodies_change_nothing() {
    // As if the forger held the secret but knew no better: straight into the detector, past the seal.
    let mut world = World::new(2, 4);
    world.run(Duration::from_secs(2));
    let detector = world.nodes.get_mut(&1).unwrap();
    let (before, now, mut dice) = (detector.view(), world.now, StdRng::seed_from_u64(8));
    for _ in 0..100_000 {
        let body: Vec<u8> = (0..dice.random_range(0..300)).map(|_| dice.random()).collect();
        assert!(detector.on_packet(now, &body).is_err());
    }
    assert_eq!(detector.view(), before);
}

#[test]
fn damaged_bodies_from_a_member_panic_nothing() {
    let mut dice = StdRng::seed_from_u64(9);
    let mut world = World::new(3, 5);
    world.run(Duration::from_secs(5));
    let (now, samples) = (world.now, std::mem::take(&mut world.sent));
    for round in 0..60_000 {
        let mut body = samples[dice.random_range(0..samples.len())].1.clone();
        for _ in 0..dice.random_range(1..4) {
            let at = dice.random_range(0..body.len());
            body[at] ^= 1 << dice.random_range(0..8);
        }
        let _ = world.nodes.get_mut(&(1 + round % 3)).unwrap().on_packet(now, &body);
        if round % 1_000 == 0 {
            world.nodes.values_mut().for_each(|detector| while detector.next_send().is_some() {});
        }
    }
    assert!(world.nodes[&1].view().peers().len() <= MEMBERS_MAX);
}

/// At work at every look, and tells who else is.
struct Busy(mpsc::UnboundedSender<NodeId>);

impl AtWork for Busy {
    fn is_to_be_said(&self) -> bool {
        true
    }

    fn hear(&self, id: NodeId) {
        let _ = self.0.send(id);
    }
}

#[tokio::test]
async fn who_is_at_work_is_heard_by_everybody_it_knows() {
    let heard = [1, 2].map(|node| {
        let (heard, hears) = mpsc::unbounded_channel();
        (Membership::spawn(config(node, 1, loopback(0)), Busy(heard)).unwrap(), hears)
    });
    let [(one, mut one_hears), (two, mut two_hears)] = heard;
    two.announce(one.addr());
    let both = async { (one_hears.recv().await, two_hears.recv().await) };
    let heard = tokio::time::timeout(PATIENCE, both).await.expect("they know each other");
    assert_eq!(heard, (Some(NodeId::from_bytes([2; 20])), Some(NodeId::from_bytes([1; 20]))));
    assert_eq!((one.stats().packets_senseless, two.stats().packets_senseless), (0, 0));
}
