//! Nodes, lanes and clocks of the model, and what one slot's coordinators and replicas do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::change::{Row, configuration, possible, today};
use super::{Cast, Rules};
use crate::base::clock::Hlc;
use crate::replication::ballot::{Electorate, Holder, Lease, Promise, window};
use crate::ring::steps::majority;

const LEASE: u64 = 300;

#[derive(Clone, Debug)]
enum Frame {
    Ask { is_fresh: bool, until: Hlc, wants: bool, epoch: u64, configuration: Vec<(u32, u64)> },
    Write { op: usize, state: (Hlc, u64) },
    Confirm { tenure: u64 },
    Push { state: (Hlc, u64) },
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Promised { granted: bool, until: Hlc, floor: Option<Hlc>, epoch: u64 },
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
pub struct Peer {
    pub has: bool,
    until: Hlc,
    pub is_stale: bool,
    pub asking: bool,
}

pub struct Node {
    generation: u64,
    skew: i64,
    clock: Hlc,
    pub state: (Hlc, u64),
    pub promise: Promise,
    pub leases: BTreeMap<Holder, Lease>,
    holders: BTreeMap<(usize, u64), Holder>,
    pub fetched: BTreeSet<usize>,
    pub is_whole: bool,
    /// It has lost its memory and is nobody's source.
    pub is_refilling: bool,
    names: usize,
    pub is_paused: bool,
    pub peers: Vec<Peer>,
    tenure: u64,
    confirmed: BTreeSet<usize>,
    pub rows: Vec<Row>,
    /// Grows whenever it goes by other rows.
    pub epoch: u64,
    /// Who acts on its rows as they are, and has said so.
    pub adopters: BTreeSet<usize>,
    /// Who has said that it has taken what this one leaves.
    pub taken_by: BTreeSet<usize>,
    /// An earlier life may have come, and come further.
    pub has_come_before: bool,
}

struct Op {
    by: usize,
    generation: u64,
    value: u64,
    began: u64,
    electorates: Vec<Electorate>,
    accepted: BTreeSet<usize>,
    acknowledged: Option<u64>,
}

pub struct World {
    pub cast: Cast,
    pub rules: Rules,
    random: u64,
    now: u64,
    pub nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), Link>,
    ops: Vec<Op>,
    /// How often somebody has come or gone.
    pub second_steps: usize,
}

impl World {
    pub fn new(cast: Cast, rules: Rules, seed: u64) -> World {
        let count = cast.nodes;
        let row = |at: usize| if at < cast.members { Row { life: 1, step: 2 } } else { Row::default() };
        let rows: Vec<Row> = (0..count).map(row).collect();
        let homes = today(&rows, cast.copies);
        let node = |at: usize| Node {
            generation: 0,
            skew: at as i64 * 7 - 10,
            clock: Hlc(0),
            state: (Hlc(0), 0),
            promise: Promise::default(),
            leases: BTreeMap::new(),
            holders: BTreeMap::new(),
            fetched: BTreeSet::new(),
            is_whole: homes.contains(&at),
            is_refilling: false,
            names: 0,
            is_paused: false,
            peers: vec![Peer::default(); count],
            tenure: 0,
            confirmed: BTreeSet::new(),
            rows: rows.clone(),
            epoch: 0,
            adopters: BTreeSet::new(),
            taken_by: BTreeSet::new(),
            has_come_before: false,
        };
        let pairs = (0..count).flat_map(|a| (0..count).filter(move |b| *b != a).map(move |b| (a, b)));
        let links = pairs.map(|pair| (pair, Link::default())).collect();
        let random = seed.wrapping_mul(2) + 1;
        let nodes = (0..count).map(node).collect();
        World { cast, rules, random, now: 1_000, nodes, links, ops: Vec::new(), second_steps: 0 }
    }

    /// A number below `bound` (SplitMix64).
    pub fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub fn clock(&mut self, at: usize) -> Hlc {
        let wall = self.now.saturating_add_signed(self.nodes[at].skew);
        let node = &mut self.nodes[at];
        node.clock = node.clock.max(Hlc(wall));
        node.clock
    }

    pub fn step(&mut self) {
        self.now += self.below(3) as u64;
        let count = self.nodes.len();
        let (a, b) = (self.below(count), self.below(count));
        match self.below(1_000) {
            0..=1 => self.nodes[a].is_paused = true,
            2..=3 if a != b => self.cut(a, b),
            4..=14 => self.heal(),
            15..=16 => self.restart(a),
            17..=19 => self.nodes[a].names = b,
            // Views agree most of the time.
            20..=24 => {
                let homes = today(&self.nodes[a].rows, self.cast.copies);
                let named = homes.get(b % homes.len().max(1)).copied().unwrap_or(b);
                self.nodes.iter_mut().for_each(|node| node.names = named);
            }
            25..=27 if self.cast.changes => self.take_step(a),
            28..=90 if a != b && self.cast.changes => self.gossip(a, b),
            28..=45 if a != b => self.gossip(a, b),
            91..=100 => self.tell_taken(a, b),
            101..=135 => self.fetch(a, b),
            136..=140 if a != b => {
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
        let count = self.nodes.len();
        let copies = self.cast.copies;
        let is_kept = |node: &Node, other: usize| node.is_whole || !today(&node.rows, copies).contains(&other);
        let is_alone = self.nodes.iter().enumerate().all(|(other, node)| other == at || is_kept(node, other));
        let heard: BTreeSet<usize> = (0..count)
            .filter(|other| *other != at && !self.nodes[*other].is_paused && !self.is_cut(at, *other))
            .collect();
        // What the only home replica holds is gone with it, also when it is about to be the only one.
        let is_only = self.nodes.iter().any(|node| possible(&node.rows, copies).contains(&vec![at]));
        if !is_alone || is_only || heard.is_empty() {
            return;
        }
        for other in (0..count).filter(|other| *other != at) {
            self.cut(at, other);
            self.cut(other, at);
        }
        let (rows, has_come_before) = self.rows_of_a_new_life(at, &heard);
        let is_home = today(&rows, copies).contains(&at);
        let floor = Hlc(self.clock(at).0 + 2 * LEASE);
        let is_whole = !self.rules.whole && is_home;
        let node = &mut self.nodes[at];
        *node = Node {
            generation: node.generation + 1,
            skew: node.skew,
            clock: Hlc(0),
            state: (Hlc(0), 0),
            promise: Promise { floor, ..Promise::default() },
            leases: BTreeMap::new(),
            holders: BTreeMap::new(),
            fetched: BTreeSet::new(),
            is_whole,
            is_refilling: is_home && !is_whole,
            names: node.names,
            is_paused: false,
            peers: vec![Peer { is_stale: true, ..Peer::default() }; node.peers.len()],
            tenure: node.tenure,
            confirmed: BTreeSet::new(),
            rows,
            epoch: node.epoch + 1,
            adopters: BTreeSet::new(),
            taken_by: BTreeSet::new(),
            has_come_before,
        };
    }

    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        a != b && (self.links[&(a, b)].is_cut || self.links[&(b, a)].is_cut)
    }

    pub fn acknowledged(&self) -> usize {
        self.ops.iter().filter(|op| op.acknowledged.is_some()).count()
    }

    /// What node `at` needs a majority of.
    fn electorates(&self, at: usize) -> Vec<Electorate> {
        let mut rings = possible(&self.nodes[at].rows, self.cast.copies);
        if !self.rules.joint {
            rings.truncate(1);
        }
        let of_ring = |homes: Vec<usize>| Electorate {
            has_me: homes.contains(&at),
            others: homes.into_iter().filter(|other| *other != at).map(|other| other as u16).collect(),
        };
        rings.into_iter().map(of_ring).collect()
    }

    pub fn merge(&mut self, at: usize, state: (Hlc, u64)) {
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
        let electorates = self.electorates(at);
        let copies = self.cast.copies;
        let node = &mut self.nodes[at];
        if !today(&node.rows, copies).contains(&at) {
            return;
        }
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
        let voters: Vec<usize> = electorates.iter().flat_map(|it| &it.others).map(|to| usize::from(*to)).collect();
        if voters.is_empty() {
            return;
        }
        let to = voters[self.below(voters.len())];
        let until = Hlc(self.clock(at).0 + LEASE);
        let node = &mut self.nodes[at];
        let (epoch, configuration, peer) = (node.epoch, configuration(&node.rows), &mut node.peers[to]);
        if !peer.asking {
            peer.asking = true;
            let (is_fresh, wants) = (peer.is_stale, !peer.has);
            self.send(at, to, Frame::Ask { is_fresh, until, wants, epoch, configuration });
        }
    }

    /// A coordinator confirms what it holds, or makes the number larger.
    fn work(&mut self, at: usize) {
        let count = self.nodes.len();
        let clock = self.clock(at);
        let electorates = self.electorates(at);
        let node = &self.nodes[at];
        let homes = today(&node.rows, self.cast.copies);
        if node.promise.holder != Holder::SELF || !homes.contains(&at) {
            return;
        }
        let is_voter = |to: &usize| electorates.iter().any(|it| it.others.contains(&(*to as u16)));
        let with_promise: Vec<usize> = (0..count).filter(|to| node.peers[*to].has).filter(is_voter).collect();
        if with_promise.iter().any(|to| self.links[&(at, *to)].frames.len() > 2) {
            return;
        }
        if node.confirmed.iter().filter(|to| homes.contains(to)).count() + 1 < majority(homes.len()) {
            let tenure = node.tenure;
            let asked = with_promise.into_iter().filter(|to| homes.contains(to));
            asked.for_each(|to| self.send(at, to, Frame::Confirm { tenure }));
            return;
        }
        let stamp = Hlc(clock.0 + 1);
        let lease = |to: u16| Some(node.peers[usize::from(to)]).filter(|peer| peer.has).map(|peer| peer.until);
        match window(&electorates, lease) {
            Some(max) if stamp <= max || !self.rules.floor => {}
            _ => return,
        }
        let (generation, value) = (node.generation, node.state.1 + 1);
        let op = self.ops.len();
        let (began, accepted) = (self.now, BTreeSet::new());
        self.ops.push(Op { by: at, generation, value, began, electorates, accepted, acknowledged: None });
        self.nodes[at].clock = stamp;
        self.nodes[at].state = (stamp, value);
        with_promise.into_iter().for_each(|to| self.send(at, to, Frame::Write { op, state: (stamp, value) }));
        self.note_accepted(op);
    }

    fn note_accepted(&mut self, op: usize) {
        let op = &mut self.ops[op];
        let accepted = |it: &Electorate| it.others.iter().filter(|to| op.accepted.contains(&usize::from(**to))).count();
        let by_all = op.electorates.iter().all(|it| accepted(it) >= it.needed(1));
        if by_all && op.acknowledged.is_none() {
            op.acknowledged = Some(self.now);
        }
    }

    /// The next frame from `from` reaches `at`.
    fn deliver(&mut self, from: usize, at: usize) {
        let Some(frame) = self.links.get_mut(&(from, at)).expect("a pair").frames.pop_front() else { return };
        let generation = self.nodes[from].generation;
        let clock = self.clock(at);
        let (rules, copies, node) = (self.rules, self.cast.copies, &mut self.nodes[at]);
        let next = Holder(node.holders.len() as u16 + 2);
        let holder = *node.holders.entry((from, generation)).or_insert(next);
        let accepts = node.promise.holder == holder || !rules.decline;
        let answer = match frame {
            Frame::Ask { is_fresh, until, wants, epoch, configuration: of_asker } => {
                let granted = node.leases.entry(holder).or_default().renew(until, is_fresh);
                let may = node.may_vote(at, copies) && configuration(&node.rows) == of_asker;
                let promises = granted && wants && node.names == from && may;
                let before = node.promise.holder;
                let floor = promises.then(|| match before == holder {
                    true => node.promise.give(holder, None, clock),
                    false => node.promise.give(holder, node.leases.get_mut(&before), clock),
                });
                Some(Answer::Promised { granted, until, floor, epoch })
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
            // What was asked for by other rows is not noted.
            Answer::Promised { epoch, .. } if epoch != self.nodes[at].epoch => {}
            Answer::Promised { granted, until, floor, .. } => {
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
                if self.ops[op].generation == self.nodes[at].generation && self.ops[op].by == at {
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
    pub fn contradiction(&self) -> Option<String> {
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
