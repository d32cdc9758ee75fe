//! Ballots under random schedules: nodes that promise, write, pause, are cut off, forget everything and come back.
//!
//! A model of one slot with one key, a number that is only ever made one larger. It uses the rules of `ballot` as they
//! are; lanes, pictures and clocks are made up, and wrong in every way that they can be. What must hold: no number is
//! acknowledged twice, and who begins after an acknowledgement gets a larger one. Each rule is also left out once, to see
//! that then it does not hold. A failure prints its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ballot::{Holder, Lease, Promise, majority, window};
use crate::base::clock::Hlc;

/// For each node.
const STEPS: usize = 2_000;
const LEASE: u64 = 300;

/// Which rules hold.
#[derive(Clone, Copy)]
struct Rules {
    /// Replicas decline what is not promised to the sender.
    decline: bool,
    /// A new promise makes a slot unsettled.
    unsettle: bool,
    /// A new holder stamps later than the leases before it.
    floor: bool,
    /// Who has lost its memory promises nothing before it has fetched from all others.
    whole: bool,
}

const ALL: Rules = Rules { decline: true, unsettle: true, floor: true, whole: true };

#[derive(Clone, Copy, Debug)]
enum Frame {
    Ask { is_fresh: bool, until: Hlc, wants: bool },
    Write { op: usize, state: (Hlc, u64) },
    Confirm { tenure: u64 },
    Push { state: (Hlc, u64) },
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Promised { granted: bool, until: Hlc, floor: Option<Hlc> },
    Accepted { op: usize },
    Confirmed { tenure: u64, state: (Hlc, u64) },
    Declined,
}

/// The connection from one node to another.
#[derive(Default)]
struct Link {
    frames: VecDeque<Frame>,
    answers: VecDeque<Answer>,
    is_cut: bool,
}

/// What a coordinator knows of one other node.
#[derive(Clone, Copy, Default)]
struct Peer {
    has: bool,
    until: Hlc,
    is_stale: bool,
    asking: bool,
}

struct Node {
    boot: u64,
    skew: i64,
    clock: Hlc,
    state: (Hlc, u64),
    promise: Promise,
    leases: BTreeMap<Holder, Lease>,
    holders: BTreeMap<(usize, u64), Holder>,
    fetched: BTreeSet<usize>,
    is_whole: bool,
    names: usize,
    is_paused: bool,
    peers: Vec<Peer>,
    tenure: u64,
    confirmed: BTreeSet<usize>,
}

struct Op {
    by: usize,
    boot: u64,
    value: u64,
    began: u64,
    accepted: BTreeSet<usize>,
    acknowledged: Option<u64>,
}

struct World {
    rules: Rules,
    random: u64,
    now: u64,
    nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), Link>,
    ops: Vec<Op>,
}

impl World {
    fn new(count: usize, rules: Rules, seed: u64) -> World {
        let node = |at: usize| Node {
            boot: 0,
            skew: at as i64 * 7 - 10,
            clock: Hlc(0),
            state: (Hlc(0), 0),
            promise: Promise::default(),
            leases: BTreeMap::new(),
            holders: BTreeMap::new(),
            fetched: BTreeSet::new(),
            is_whole: true,
            names: 0,
            is_paused: false,
            peers: vec![Peer::default(); count],
            tenure: 0,
            confirmed: BTreeSet::new(),
        };
        let pairs = (0..count).flat_map(|a| (0..count).filter(move |b| *b != a).map(move |b| (a, b)));
        let links = pairs.map(|pair| (pair, Link::default())).collect();
        let random = seed.wrapping_mul(2) + 1;
        World { rules, random, now: 1_000, nodes: (0..count).map(node).collect(), links, ops: Vec::new() }
    }

    /// A number below `bound` (SplitMix64).
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn clock(&mut self, at: usize) -> Hlc {
        let wall = self.now.saturating_add_signed(self.nodes[at].skew);
        let node = &mut self.nodes[at];
        node.clock = node.clock.max(Hlc(wall));
        node.clock
    }

    fn step(&mut self) {
        self.now += self.below(3) as u64;
        let count = self.nodes.len();
        let (a, b) = (self.below(count), self.below(count));
        match self.below(1_000) {
            0..=1 => self.nodes[a].is_paused = true,
            2..=3 if a != b => self.cut(a, b),
            4..=14 => self.heal(),
            15..=16 => self.restart(a),
            17..=19 => self.nodes[a].names = b,
            // Pictures agree most of the time.
            20..=24 => self.nodes.iter_mut().for_each(|node| node.names = b),
            25..=120 => self.fetch(a, b),
            121..=140 if a != b => {
                let state = self.nodes[a].state;
                self.send(a, b, Frame::Push { state });
            }
            141..=250 if !self.nodes[a].is_paused => self.campaign(a),
            251..=400 if !self.nodes[a].is_paused => self.work(a),
            401..=999 => self.talk(),
            _ => {}
        }
    }

    /// Some frames and answers arrive: the more nodes the more.
    fn talk(&mut self) {
        let count = self.nodes.len();
        for _ in 1..count {
            let (a, b) = (self.below(count), self.below(count));
            if a != b && !self.nodes[b].is_paused && self.below(2) == 0 {
                self.deliver(a, b);
            } else if a != b && !self.nodes[a].is_paused {
                self.take_answer(a, b);
            }
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        // What is on its way may still arrive, in part.
        for _ in 0..self.below(3) {
            if !self.nodes[b].is_paused {
                self.deliver(a, b);
            }
        }
        let is_cut = self.below(2) == 0;
        let link = self.links.get_mut(&(a, b)).expect("a pair");
        *link = Link { is_cut, ..Link::default() };
        self.nodes[a].peers[b] = Peer { is_stale: true, until: self.nodes[a].peers[b].until, ..Peer::default() };
    }

    fn heal(&mut self) {
        let cut: Vec<(usize, usize)> = self.links.iter().filter(|(_, it)| it.is_cut).map(|(pair, _)| *pair).collect();
        for (a, b) in cut {
            self.cut(a, b);
            self.links.get_mut(&(a, b)).expect("a pair").is_cut = false;
        }
        self.nodes.iter_mut().for_each(|node| node.is_paused = false);
    }

    /// A node ends and begins again with nothing. One at a time: of two, what only they held would be forgotten.
    fn restart(&mut self, at: usize) {
        let is_alone = self.nodes.iter().enumerate().all(|(other, node)| other == at || node.is_whole);
        if !is_alone || self.nodes.len() == 1 {
            return;
        }
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            self.cut(at, other);
            self.cut(other, at);
        }
        let floor = Hlc(self.clock(at).0 + 2 * LEASE);
        let is_whole = !self.rules.whole;
        let node = &mut self.nodes[at];
        *node = Node {
            boot: node.boot + 1,
            skew: node.skew,
            clock: Hlc(0),
            state: (Hlc(0), 0),
            promise: Promise { floor, ..Promise::default() },
            leases: BTreeMap::new(),
            holders: BTreeMap::new(),
            fetched: BTreeSet::new(),
            is_whole,
            names: node.names,
            is_paused: false,
            peers: vec![Peer { is_stale: true, ..Peer::default() }; node.peers.len()],
            tenure: node.tenure,
            confirmed: BTreeSet::new(),
        };
    }

    /// A node that has forgotten everything takes what another holds.
    fn fetch(&mut self, at: usize, from: usize) {
        let source = &self.nodes[from];
        if at == from || self.nodes[at].is_whole || source.is_paused {
            return;
        }
        let state = source.state;
        self.merge(at, state);
        self.nodes[at].fetched.insert(from);
        self.nodes[at].is_whole = self.nodes[at].fetched.len() == self.nodes.len() - 1;
    }

    fn merge(&mut self, at: usize, state: (Hlc, u64)) {
        let clock = self.clock(at);
        let node = &mut self.nodes[at];
        node.state = node.state.max(state);
        node.clock = clock.max(state.0);
    }

    fn send(&mut self, from: usize, to: usize, frame: Frame) {
        let link = self.links.get_mut(&(from, to)).expect("a pair");
        if !link.is_cut && link.frames.len() < 8 {
            link.frames.push_back(frame);
        } else if link.frames.len() >= 8 {
            // Frames are never left out: a lane that is full breaks.
            self.cut(from, to);
        }
    }

    fn new_tenure(&mut self, at: usize) {
        if self.rules.unsettle {
            self.nodes[at].tenure += 1;
            self.nodes[at].confirmed.clear();
        }
    }

    fn campaign(&mut self, at: usize) {
        let clock = self.clock(at);
        let node = &mut self.nodes[at];
        if node.names != at && node.promise.holder != Holder::SELF {
            return;
        }
        if node.promise.holder != Holder::SELF {
            if !node.is_whole {
                return;
            }
            let holder = node.promise.holder;
            let floor = node.promise.give(Holder::SELF, node.leases.get_mut(&holder), clock);
            if self.rules.floor {
                node.clock = node.clock.max(floor);
            }
            node.tenure += 1;
            node.confirmed.clear();
        }
        let to = self.below(self.nodes.len());
        let until = Hlc(self.clock(at).0 + LEASE);
        let peer = &mut self.nodes[at].peers[to];
        if to != at && !peer.asking {
            peer.asking = true;
            let (is_fresh, wants) = (peer.is_stale, !peer.has);
            self.send(at, to, Frame::Ask { is_fresh, until, wants });
        }
    }

    /// A coordinator confirms what it holds, or makes the number larger.
    fn work(&mut self, at: usize) {
        let count = self.nodes.len();
        let clock = self.clock(at);
        let node = &self.nodes[at];
        if node.promise.holder != Holder::SELF {
            return;
        }
        let with_promise: Vec<usize> = (0..count).filter(|to| node.peers[*to].has).collect();
        if with_promise.iter().any(|to| self.links[&(at, *to)].frames.len() > 2) {
            return;
        }
        if node.confirmed.len() + 1 < majority(count) {
            let tenure = node.tenure;
            with_promise.into_iter().for_each(|to| self.send(at, to, Frame::Confirm { tenure }));
            return;
        }
        let stamp = Hlc(clock.0 + 1);
        match window(count, with_promise.iter().map(|to| node.peers[*to].until)) {
            Some(max) if stamp <= max || !self.rules.floor => {}
            _ => return,
        }
        let (boot, value) = (node.boot, node.state.1 + 1);
        let op = self.ops.len();
        self.ops.push(Op { by: at, boot, value, began: self.now, accepted: BTreeSet::new(), acknowledged: None });
        self.nodes[at].clock = stamp;
        self.nodes[at].state = (stamp, value);
        with_promise.into_iter().for_each(|to| self.send(at, to, Frame::Write { op, state: (stamp, value) }));
        self.note_accepted(op);
    }

    fn note_accepted(&mut self, op: usize) {
        let needed = majority(self.nodes.len()) - 1;
        let op = &mut self.ops[op];
        if op.accepted.len() >= needed && op.acknowledged.is_none() {
            op.acknowledged = Some(self.now);
        }
    }

    /// The next frame from `from` reaches `at`.
    fn deliver(&mut self, from: usize, at: usize) {
        let Some(frame) = self.links.get_mut(&(from, at)).expect("a pair").frames.pop_front() else { return };
        let boot = self.nodes[from].boot;
        let clock = self.clock(at);
        let (rules, node) = (self.rules, &mut self.nodes[at]);
        let next = Holder(node.holders.len() as u16 + 2);
        let holder = *node.holders.entry((from, boot)).or_insert(next);
        let accepts = node.promise.holder == holder || !rules.decline;
        let answer = match frame {
            Frame::Ask { is_fresh, until, wants } => {
                let granted = node.leases.entry(holder).or_default().renew(until, is_fresh);
                let promises = granted && wants && node.names == from && node.is_whole;
                let before = node.promise.holder;
                let floor = promises.then(|| match before == holder {
                    true => node.promise.give(holder, None, clock),
                    false => node.promise.give(holder, node.leases.get_mut(&before), clock),
                });
                Some(Answer::Promised { granted, until, floor })
            }
            Frame::Write { op, state } if accepts => {
                self.merge(at, state);
                Some(Answer::Accepted { op })
            }
            Frame::Confirm { tenure } if accepts => Some(Answer::Confirmed { tenure, state: node.state }),
            Frame::Write { .. } | Frame::Confirm { .. } => Some(Answer::Declined),
            Frame::Push { state } => {
                self.merge(at, state);
                None
            }
        };
        self.links.get_mut(&(from, at)).expect("a pair").answers.extend(answer);
    }

    /// The next answer of `from` reaches `at`.
    fn take_answer(&mut self, at: usize, from: usize) {
        let Some(answer) = self.links.get_mut(&(at, from)).expect("a pair").answers.pop_front() else { return };
        match answer {
            Answer::Promised { granted, until, floor } => {
                let peer = &mut self.nodes[at].peers[from];
                peer.asking = false;
                peer.is_stale = !granted;
                if !granted {
                    peer.has = false;
                    return;
                }
                peer.until = peer.until.max(until);
                if let Some(floor) = floor.filter(|_| !peer.has) {
                    peer.has = true;
                    if self.rules.floor {
                        let clock = self.clock(at);
                        self.nodes[at].clock = clock.max(floor);
                    }
                    self.new_tenure(at);
                }
            }
            Answer::Accepted { op } => {
                if self.ops[op].boot == self.nodes[at].boot && self.ops[op].by == at {
                    self.ops[op].accepted.insert(from);
                    self.note_accepted(op);
                }
            }
            Answer::Confirmed { tenure, state } => {
                self.merge(at, state);
                if tenure == self.nodes[at].tenure {
                    self.nodes[at].confirmed.insert(from);
                }
            }
            Answer::Declined => self.nodes[at].peers[from].has = false,
        }
    }

    /// Two operations that contradict each other, if there are any.
    fn contradiction(&self) -> Option<String> {
        let mut done: Vec<(u64, u64, u64)> =
            self.ops.iter().filter_map(|op| Some((op.acknowledged?, op.began, op.value))).collect();
        done.sort_unstable();
        for (at, (_, began, value)) in done.iter().enumerate() {
            let before = &done[..at];
            if let Some((ended, _, other)) =
                before.iter().find(|(ended, _, other)| other == value || ended < began && other > value)
            {
                return Some(format!("{value}, begun at {began}, after {other}, acknowledged at {ended}"));
            }
        }
        None
    }
}

/// Runs one schedule: how many operations were acknowledged, and what contradicts what.
fn run(count: usize, rules: Rules, seed: u64) -> (usize, Option<String>) {
    let mut world = World::new(count, rules, seed);
    (0..STEPS * count).for_each(|_| world.step());
    let done = world.ops.iter().filter(|op| op.acknowledged.is_some()).count();
    (done, world.contradiction())
}

#[test]
fn no_number_is_acknowledged_twice() {
    for count in 1..=5 {
        let mut done = 0;
        for seed in 0..250 {
            let (acknowledged, contradiction) = run(count, ALL, seed);
            assert_eq!(contradiction, None, "{count} nodes, seed {seed}");
            done += acknowledged;
        }
        assert!(done > 1_000, "{count} nodes acknowledged only {done}: nothing was tried");
    }
}

#[test]
fn without_any_one_of_the_rules_numbers_are_acknowledged_twice() {
    let without = [
        ("declining", Rules { decline: false, ..ALL }),
        ("unsettling", Rules { unsettle: false, ..ALL }),
        ("floors", Rules { floor: false, ..ALL }),
        ("fetching first", Rules { whole: false, ..ALL }),
    ];
    for (what, rules) in without {
        let found = (0..3_000).any(|seed| (3..=5).any(|count| run(count, rules, seed).1.is_some()));
        assert!(found, "{what} makes no difference");
    }
}
