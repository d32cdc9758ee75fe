//! What happens to a cluster in the simulation of a seed, and what has to be true in the end.
//!
//! A cluster forms, clients begin, and one trouble after the other comes: with one node at a time, and not before
//! everybody has recovered from the one before, because that is what sloppy mode promises; in a wild story with several
//! at a time, where only strict mode promises what clients read. In some stories nodes join and leave beside all that.
//! In the end nothing goes wrong any more, and within a while all nodes must have found together: every home replica of
//! a key holds the same version of it, and the same value.

use std::rc::Rc;

use rand::RngExt as _;

use super::client::{self, Load};
use super::os;
use super::world::{World, ip_of};
use crate::base::config::QuorumMode;
use crate::base::ids::Slot;
use crate::base::net::simulated::{self, Weather};
use crate::base::wire::Reader;
use crate::node::Node;
use crate::store::name::Name;
use crate::store::state::{Content, State};
use crate::store::value::Value;

const SECOND_US: u64 = 1_000_000;
/// How long a cluster may take to form, to recover, or to become equal.
const PATIENCE_US: u64 = 60 * SECOND_US;
/// Between two looks at what is waited for.
const LOOK_US: u64 = 50_000;
const CLIENTS: u64 = 4;

/// What became of a seed.
pub struct Told {
    /// One line.
    pub summary: String,
    /// What should not have happened.
    pub wrongs: Vec<String>,
}

/// Nodes that stay at least: with fewer, a fault beside a move leaves too few.
const MEMBERS_MIN: usize = 3;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A node gets no turn, as by SIGSTOP.
    Freeze(usize),
    /// A node's process ends, as by kill -9, and another begins with nothing in its memory.
    Kill(usize),
    /// A node's machine is gone, and says nothing; as with `Kill` another life begins.
    Unplug(usize),
    /// A node is cut off: both ways, or one of them.
    Isolate(usize, Ways),
    /// Two nodes cannot reach each other.
    Cut(usize, usize, Ways),
    /// Connections between two nodes break.
    Reset(usize, usize),
    /// What a node sends and receives takes longer, in microseconds.
    Slow(usize, u64),
    /// A node's clock is set, in microseconds.
    Set(usize, i64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ways {
    Both,
    To,
    From,
}

/// Hash tables in whose order something may be done are seeded alike in every process.
struct Fixed;

impl ahash::random_state::RandomSource for Fixed {
    fn gen_hasher_seed(&self) -> usize {
        0
    }
}

/// Tells the story of a seed, on the current thread, which simulates from then on; once a process.
pub fn run(seed: u64) -> Told {
    ahash::random_state::set_random_source(Fixed).expect("no hash table before the first seed");
    os::begin(seed);
    let mut story = Story::begin(seed);
    if story.wait("form", healthy) {
        story.go_wrong();
        story.end();
    }
    story.told(seed)
}

struct Story {
    world: World,
    load: Rc<Load>,
    is_strict: bool,
    /// Things go wrong with several nodes at a time.
    is_wild: bool,
    /// Nodes join and leave.
    moves: bool,
    /// Between two troubles there is time for what is over to be forgotten.
    forgets: bool,
    /// Troubles last longer than a member that is away is waited for.
    leaves_out: bool,
    wrongs: Vec<String>,
    faults: Vec<String>,
}

impl Story {
    fn begin(seed: u64) -> Story {
        let mut draws = World::draws_of(seed);
        let nodes = [3, 3, 3, 4, 5][draws.random_range(0..5)];
        let is_strict = draws.random_range(0..4) == 0;
        let mode = if is_strict { "strict" } else { "sloppy" };
        let interval_ms = ["1000", "1000", "12000"][draws.random_range(0..3)];
        // In others nothing that is over is forgotten before the end.
        let forgets = draws.random_range(0..3) == 0;
        let (interval_ms, age_ms) = if forgets { ("200", "100") } else { (interval_ms, "60000") };
        // In half of these nobody is waited for, however long it is away.
        let leaves_out = forgets && seed.is_multiple_of(2);
        let horizon_ms = if leaves_out { "2000" } else { "86400000" };
        let options = [
            ("anti-entropy-interval-ms", interval_ms),
            ("quorum-mode", mode),
            ("tombstone-age-min-ms", age_ms),
            ("tombstone-horizon-ms", horizon_ms),
        ];
        let moves = draws.random_range(0..2) == 0;
        let others = if moves { draws.random_range(0..=2) } else { 0 };
        let mut world = World::new(draws, seed, nodes + others, &options);
        for node in 0..nodes {
            let ahead_us = world.draws.random_range(-100_000..=100_000);
            world.set_ahead(node, ahead_us);
            world.start_node(node);
        }
        let is_wild = world.draws.random_range(0..4) == 0;
        let load: Rc<Load> = Rc::default();
        load.choice
            .flushes
            .set(world.draws.random_range(0..3) == 0 && std::env::var_os("RONDO_SIMULATION_FLUSHALL").is_some());
        load.choice.is_noisy.set(world.draws.random_range(0..3) == 0);
        Story { world, load, is_strict, is_wild, moves, forgets, leaves_out, wrongs: Vec::new(), faults: Vec::new() }
    }

    /// Runs on until this is so for all nodes; notes it as wrong when that takes too long.
    fn wait(&mut self, what: &str, is_done: fn(&World) -> Result<(), String>) -> bool {
        let until_us = self.world.now_us() + PATIENCE_US;
        loop {
            self.world.run_until(self.world.now_us() + LOOK_US);
            match is_done(&self.world) {
                Ok(()) => return true,
                Err(why) if self.world.now_us() >= until_us => {
                    self.wrongs.push(format!("the cluster did not {what} in time: {why}"));
                    return false;
                }
                Err(_) => {}
            }
        }
    }

    fn go_wrong(&mut self) {
        let (load, seed, nodes) = (self.load.clone(), self.world.draws.random(), self.world.nodes());
        self.world.start_clients(async move {
            for number in 0..CLIENTS {
                tokio::task::spawn_local(client::run(load.clone(), number, seed, nodes));
            }
        });
        let weather = Weather {
            delay_us: (40, self.world.draws.random_range(100..1_500)),
            late: (self.world.draws.random_range(0..60), self.world.draws.random_range(1_000..80_000)),
            chop: self.world.draws.random_range(0..200),
            loss: self.world.draws.random_range(0..20),
        };
        simulated::with(|network| network.weather = weather);
        // Somebody is often further away: what others agree about has not got there yet.
        if self.world.draws.random_range(0..3) > 0 {
            let (far, us) = (self.draw_node(), self.world.draws.random_range(2_000..50_000));
            for other in (0..self.world.nodes()).filter(|other| *other != far) {
                simulated::with(|network| network.set_distance(ip_of(other), ip_of(far), us));
            }
        }
        for _ in 0..self.world.draws.random_range(2..6) {
            let calm_us = self.world.draws.random_range(0..SECOND_US);
            let forget_us = if self.forgets { 2 * SECOND_US } else { 0 };
            self.world.run_until(self.world.now_us() + calm_us + forget_us);
            if self.moves {
                self.begin_move();
            }
            self.trouble();
            if !self.wait("recover", healthy) {
                return;
            }
        }
    }

    /// Has a node begin to join, or to leave, and gives it some time, if there is one that may.
    fn begin_move(&mut self) {
        let members = self.world.members();
        let away = (0..self.world.nodes()).find(|node| !members.contains(node));
        let leaves = members.len() > MEMBERS_MIN && (away.is_none() || self.world.draws.random_range(0..2) == 0);
        // Who is cut off until it has left stays a member that is down, which an operator has to give up.
        let leaves = leaves && !self.leaves_out;
        let (what, node) = match away {
            _ if leaves => ("leaves", self.draw_node()),
            Some(node) => ("joins", node),
            None => return,
        };
        self.faults.push(format!("{node} {what} at {:.3}", self.world.now_us() as f64 / 1e6));
        tracing::info!(node, what, "begins to move");
        if leaves {
            self.world.leave(node);
        } else {
            self.world.start_node(node);
        }
        let longest_us = [30_000, 800_000][self.world.draws.random_range(0..2)];
        let us = self.world.draws.random_range(0..longest_us);
        self.world.run_until(self.world.now_us() + us);
    }

    /// Some things go wrong, one after the other or together, with no time to recover between them: all with one node,
    /// or when it is a wild story with any.
    fn trouble(&mut self) {
        let node = self.draw_node();
        for round in 0..self.world.draws.random_range(1..4) {
            if round > 0 {
                let pause_us = self.world.draws.random_range(0..400_000);
                self.world.run_until(self.world.now_us() + pause_us);
            }
            let count =
                if self.is_wild { self.world.draws.random_range(1..4) } else { self.world.draws.random_range(1..3) };
            let faults = (0..count).map(|_| {
                let node = if self.is_wild { self.draw_node() } else { node };
                self.draw_fault(node)
            });
            let faults: Vec<Fault> = faults.collect();
            self.suffer(&faults);
        }
    }

    fn draw_node(&mut self) -> usize {
        let members = self.world.members();
        members[self.world.draws.random_range(0..members.len())]
    }

    fn draw_fault(&mut self, node: usize) -> Fault {
        let (nodes, draws) = (self.world.nodes(), &mut self.world.draws);
        let other = (node + draws.random_range(1..nodes)) % nodes;
        let ways = [Ways::Both, Ways::Both, Ways::To, Ways::From][draws.random_range(0..4)];
        // In sloppy mode, two nodes that cannot reach each other but a third, or take each other for stopped and are
        // not, may both coordinate. What a majority was told must not be forgotten by so many that it is none: a wild
        // story loses no memory.
        let (least, most) = if self.is_wild {
            (30, 100)
        } else if self.is_strict {
            (0, 100)
        } else {
            (0, 84)
        };
        match draws.random_range(least..most) {
            0..20 => Fault::Kill(node),
            20..30 => Fault::Unplug(node),
            30..55 => Fault::Freeze(node),
            55..70 => Fault::Isolate(node, ways),
            70..80 => Fault::Reset(node, other),
            80..84 => Fault::Set(node, draws.random_range(-150_000..=150_000)),
            84..92 => Fault::Cut(node, other, ways),
            _ => Fault::Slow(node, draws.random_range(5_000..300_000)),
        }
    }

    /// Has all of these go wrong for a while.
    fn suffer(&mut self, faults: &[Fault]) {
        let longest_us = [100_000, 300_000, SECOND_US, 6 * SECOND_US][self.world.draws.random_range(0..4)];
        let range_us = if self.leaves_out { longest_us..2 * longest_us + SECOND_US } else { 5_000..longest_us };
        let us = self.world.draws.random_range(range_us);
        self.faults.push(format!("{faults:?} at {:.3} for {:.3}", self.world.now_us() as f64 / 1e6, us as f64 / 1e6));
        tracing::info!(?faults, ms = us / 1_000, "goes wrong");
        faults.iter().for_each(|fault| self.begin_fault(*fault));
        self.world.run_until(self.world.now_us() + us);
        faults.iter().for_each(|fault| self.end_fault(*fault));
        simulated::with(|network| network.heal());
        tracing::info!("is over");
    }

    fn begin_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Freeze(node) => self.world.freeze(node, true),
            Fault::Kill(node) => self.world.kill(node),
            Fault::Unplug(node) => {
                isolate(&self.world, node, Ways::Both, true);
                self.world.kill(node);
            }
            Fault::Isolate(node, ways) => {
                let with_clients = self.world.draws.random_range(0..2) == 0;
                isolate(&self.world, node, ways, with_clients);
            }
            Fault::Cut(node, other, ways) => cut(node, other, ways),
            Fault::Reset(node, other) => simulated::with(|network| network.reset(ip_of(node), ip_of(other))),
            Fault::Slow(node, by_us) => {
                for other in 0..=self.world.nodes() {
                    simulated::with(|network| network.slow_down(ip_of(node), ip_of(other), by_us));
                    simulated::with(|network| network.slow_down(ip_of(other), ip_of(node), by_us));
                }
            }
            Fault::Set(node, ahead_us) => self.world.set_ahead(node, ahead_us),
        }
    }

    fn end_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Freeze(node) => self.world.freeze(node, false),
            Fault::Kill(node) | Fault::Unplug(node) if self.world.node(node).is_none() => self.world.start_node(node),
            _ => {}
        }
    }

    /// Nothing goes wrong any more, and nobody writes.
    fn end(&mut self) {
        simulated::with(|network| network.weather = Weather::CALM);
        self.load.goes_on.set(false);
        self.wait_for_clients(CLIENTS as usize);
        if self.wait("recover in the end", healthy) && self.wait("become equal", equal) {
            let host = self.world.nodes();
            for node in self.world.members() {
                self.world.kill(host);
                self.load.ended.set(0);
                self.world.start_clients(client::read_all(self.load.clone(), node));
                self.wait_for_clients(1);
            }
        }
    }

    fn wait_for_clients(&mut self, count: usize) {
        let until_us = self.world.now_us() + PATIENCE_US;
        while self.load.ended.get() < count {
            if self.world.now_us() >= until_us {
                return self.wrongs.push("clients were not answered in time".to_owned());
            }
            self.world.run_until(self.world.now_us() + LOOK_US);
        }
    }

    fn told(mut self, seed: u64) -> Told {
        let history = self.load.history.borrow();
        let (asked, done) = history.counts();
        let mode = if self.is_strict { "strict" } else { "sloppy" };
        let manner = if self.is_wild { ", wild" } else { "" };
        let flushes = if self.load.choice.flushes.get() { ", flushes" } else { "" };
        let noisy = if self.load.choice.is_noisy.get() { ", noisy" } else { "" };
        let summary = format!(
            "seed {seed}: {} nodes, {mode}{manner}{flushes}{noisy}, {:.1} s, {} turns, {asked} requests, {done} done, {:016x}; {}",
            self.world.nodes(),
            self.world.now_us() as f64 / 1e6,
            self.world.turns(),
            history.digest(),
            self.faults.join(", "),
        );
        // What sloppy mode gives up when several nodes are in trouble is what clients read meanwhile.
        if self.is_strict || !self.is_wild {
            self.wrongs.extend(history.judge(self.is_strict));
        }
        drop(history);
        Told { summary, wrongs: self.wrongs }
    }
}

/// Cuts a node off from all others.
pub(super) fn isolate(world: &World, node: usize, ways: Ways, with_clients: bool) {
    let others = world.nodes() + usize::from(with_clients);
    (0..others).filter(|other| *other != node).for_each(|other| cut(node, other, ways));
}

fn cut(node: usize, other: usize, ways: Ways) {
    simulated::with(|network| {
        if ways != Ways::From {
            network.cut(ip_of(other), ip_of(node));
        }
        if ways != Ways::To {
            network.cut(ip_of(node), ip_of(other));
        }
    });
}

/// All nodes live, agree about the ring, reach each other, and none has missed anything or is unsure of what it holds.
pub(super) fn healthy(world: &World) -> Result<(), String> {
    let members = world.members();
    for &at in &members {
        let node = world.node(at).ok_or("a node is dead")?;
        is_healthy(node, members.len()).map_err(|why| format!("node {} {why}", at + 1))?;
    }
    let digests = members.iter().filter_map(|at| Some(world.node(*at)?.cluster.topology().digest));
    let digests: std::collections::BTreeSet<u64> = digests.collect();
    if digests.len() == 1 { Ok(()) } else { Err("the nodes know of different rows".to_owned()) }
}

fn is_healthy(node: &Node, nodes: usize) -> Result<(), String> {
    let view = node.shared.view.load();
    let members = node.cluster.topology().ring.members().len();
    if members != nodes || view.is_moving {
        return Err(format!("sees {members} members, or some that move"));
    }
    if !node.cluster.is_warm() {
        return Err("is not warm".to_owned());
    }
    if view.roles.distinct.iter().any(|roles| roles.coordinator.is_none()) {
        return Err("knows slots without a coordinator".to_owned());
    }
    if let Some(peer) = node.peers.all().iter().find(|peer| !peer.has_caught_up()) {
        return Err(format!("does not reach {}, or owes it something", peer.addr));
    }
    if let Some(peer) = node.peers.all().iter().find(|peer| node.peers.word_of(&peer.id, u64::MAX) != Some(true)) {
        return Err(format!("is not taken for fit by {}", peer.addr));
    }
    if node.config.settings().quorum_mode == QuorumMode::Strict {
        let topology = node.cluster.topology();
        if let Some(slot) = Slot::all().find(|slot| topology.is_home(*slot) && !node.cluster.is_whole(*slot)) {
            return Err(format!("does not hold slot {} whole", slot.number()));
        }
    }
    match node.shared.coordinator.ballots.unsettled_count() {
        0 => Ok(()),
        count => Err(format!("has {count} slots that are not settled")),
    }
}

/// Every home replica of a key holds the same of it.
fn equal(world: &World) -> Result<(), String> {
    let nodes: Vec<&std::sync::Arc<Node>> = (0..world.nodes()).filter_map(|node| world.node(node)).collect();
    let topology = nodes.first().ok_or("nobody lives")?.cluster.topology();
    for slot in Slot::all() {
        let homes: Vec<&Node> = topology
            .homes(slot)
            .filter_map(|id| nodes.iter().find(|node| node.cluster.id() == id))
            .map(|node| &***node)
            .collect();
        for one in &homes {
            for (db, key) in keys_of(one, slot) {
                let name = Name::of(db, &key);
                homes.iter().try_for_each(|other| is_equal(one, other, slot, name))?;
            }
        }
    }
    Ok(())
}

/// The live keys of a slot.
fn keys_of(node: &Node, slot: Slot) -> Vec<(u8, Vec<u8>)> {
    let table = node.shared.node.store.table(slot);
    let now_ms = node.shared.node.store.clock.now_ms();
    let live = table.iter().filter(|entry| !entry.is_tombstone() && !entry.is_expired(now_ms));
    live.map(|entry| (entry.db(), entry.key().to_vec())).collect()
}

fn is_equal(one: &Node, other: &Node, slot: Slot, name: Name<'_>) -> Result<(), String> {
    let (ours, theirs) = (state_of(one, one, slot, name), state_of(other, one, slot, name));
    let is_equal = match (&ours, &theirs) {
        (Some(ours), Some(theirs)) => {
            ours.version == theirs.version && ours.deadline_ms == theirs.deadline_ms && ours.content == theirs.content
        }
        _ => false,
    };
    let (here, there) = (one.cluster.id(), other.cluster.id());
    let key = String::from_utf8_lossy(name.key);
    if is_equal { Ok(()) } else { Err(format!("{key} is {ours:?} at {here} and {theirs:?} at {there}")) }
}

/// What one node holds, its authors named as the other names them.
fn state_of(node: &Node, named_by: &Node, slot: Slot, name: Name<'_>) -> Option<State> {
    let (mut bytes, store) = (Vec::new(), &node.shared.node.store);
    let state = State::of(store.table(slot).find(name)?);
    state.encode(&mut bytes, &store.actors);
    let mut state = State::decode(&mut Reader::new(&bytes), &named_by.shared.node.store.actors).ok()?;
    // What is no part of the value: the order of addends, and what OBJECT ENCODING says.
    if let Content::Value(value) = &mut state.content {
        match &mut **value {
            Value::Counter(counter) => counter.addends.sort_unstable_by_key(|addend| (addend.dot.hlc, addend.sum)),
            Value::Set(set) => set.intset = false,
            Value::Hash(_) => {}
        }
    }
    Some(state)
}
