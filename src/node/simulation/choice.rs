//! What clients ask for: which requests, of which keys, as random numbers have it.
//!
//! Half of all pipelines come back to one register, counter and set again and again, so that a client's requests behind
//! one another concern one key, alone or together with others. What is copied or renamed comes from a source that
//! nobody else knows, written just before on the same connection: so it is known what its command must have found
//! there, if commands take effect in their order.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::history::{Asked, GUARDED, HASHES, LOCKS, Manner, PAIRS, SOURCES, TARGETS, What};
use super::noise::noise;
use crate::protocol::client::Value;

/// The first registers are written for good, the others for a while.
const LASTING: u64 = 5;
const REGISTERS: u64 = 8;
const COUNTERS: u64 = 3;
/// Sets and hashes.
const SETS: u64 = 4;
const LOCKS_COUNT: u64 = 2;
const PAIRS_COUNT: u64 = 2;
const GUARDED_COUNT: u64 = 2;
/// Registers of one request, at most.
const TOGETHER_MAX: usize = 3;
/// Of so many requests one is a FLUSHALL, where there are any.
const FLUSH_ONE_IN: u32 = 150;

/// Commands of one transaction, at most.
const QUEUED_MAX: usize = 4;

/// One request, which is a command or a transaction, and what it asks of each of its keys.
pub struct Request {
    pub commands: Vec<Vec<String>>,
    pub asked: Vec<Asked>,
}

impl Request {
    fn new(words: &[&str], asked: Vec<Asked>) -> Request {
        Request { commands: vec![words.iter().map(|word| (*word).to_owned()).collect()], asked }
    }

    /// All of these as one transaction.
    fn transaction(asked: Vec<Asked>) -> Request {
        let frame = |word: &str| vec![vec![word.to_owned()]];
        let queued = asked.iter().flat_map(|asked| Request::one(*asked).commands);
        let commands = frame("MULTI").into_iter().chain(queued).chain(frame("EXEC")).collect();
        Request { commands, asked }
    }

    /// A register is watched and read, and given this value if nobody has written it since.
    fn guarded(of: u64, value: u64) -> Request {
        let asked = vec![Asked { what: What::Get, of }, Asked { what: What::Swap(value), of }];
        let key = asked[0].key();
        let watch = vec!["WATCH".to_owned(), key];
        let read = Request::one(asked[0]).commands;
        let write = Request::transaction(vec![asked[1]]).commands;
        Request { commands: [vec![watch], read, write].concat(), asked }
    }

    /// The request that asks this of one key.
    fn one(asked: Asked) -> Request {
        let key = asked.key();
        let is_hash = asked.of >= HASHES;
        let words: &[&str] = match asked.what {
            What::Set(value) | What::Swap(value) => &["SET", &key, &value.to_string()],
            What::SetNew(value) => &["SET", &key, &value.to_string(), "NX"],
            What::SetFor(value, ms) => &["SET", &key, &value.to_string(), "PX", &ms.to_string()],
            What::Copy(value) => &["COPY", &source(value).key(), &key, "REPLACE"],
            What::Rename(value) => &["RENAME", &source(value).key(), &key],
            What::Expire(ms) => &["PEXPIRE", &key, &ms.to_string()],
            What::GetFor(ms) => &["GETEX", &key, "PX", &ms.to_string()],
            What::Persist => &["PERSIST", &key],
            What::Flush => &["FLUSHALL"],
            What::Delete => &["DEL", &key],
            What::Get | What::Count => &["GET", &key],
            What::Increment => &["INCR", &key],
            What::Add(field) if is_hash => &["HSET", &key, &field.to_string(), &field.to_string()],
            What::Remove(field) if is_hash => &["HDEL", &key, &field.to_string()],
            What::Members if is_hash => &["HKEYS", &key],
            What::Add(member) => &["SADD", &key, &member.to_string()],
            What::Remove(member) => &["SREM", &key, &member.to_string()],
            What::Members => &["SMEMBERS", &key],
        };
        Request::new(words, vec![asked])
    }

    /// What the replies to its commands say of each key. That of a transaction is the last.
    pub fn answers(&self, mut replies: Vec<Value>) -> Vec<Value> {
        let first = replies.first().cloned();
        match (self.name(), replies.pop()) {
            ("WATCH", Some(last)) => {
                // Of a register that could not be watched it is not known what it was.
                let read = first.filter(|it| matches!(it, Value::Error(_))).or_else(|| replies.into_iter().nth(1));
                let swap = if let Value::Array(items) = last { items } else { vec![last] };
                read.into_iter().chain(swap).collect()
            }
            ("MGET" | "MULTI", Some(Value::Array(items))) => items,
            (_, reply) => vec![reply.unwrap_or(Value::Null); self.asked.len()],
        }
    }

    /// How its keys are asked about.
    pub fn manner(&self) -> Manner {
        match self.name() {
            "MULTI" | "WATCH" => Manner::Queued,
            _ if self.asked.len() > 1 => Manner::Together,
            _ => Manner::Alone,
        }
    }

    fn name(&self) -> &str {
        &self.commands[0][0]
    }
}

/// What gives the source of a copy its value.
fn source(value: u64) -> Asked {
    Asked { what: What::Set(value), of: SOURCES + value }
}

/// What choices depend on beside chance.
pub struct Choice {
    /// Somebody empties all databases now and then.
    pub flushes: Cell<bool>,
    /// Half of what is asked is about keys that nobody judges.
    pub is_noisy: Cell<bool>,
    /// Members added and not removed, by set: a client takes one that it removes.
    members: RefCell<BTreeMap<u64, Vec<u64>>>,
    next_value: Cell<u64>,
}

impl Default for Choice {
    fn default() -> Choice {
        Choice {
            flushes: Cell::new(false),
            is_noisy: Cell::new(false),
            members: RefCell::default(),
            next_value: Cell::new(1),
        }
    }
}

impl Choice {
    /// A number that was never given.
    pub fn number(&self) -> u64 {
        self.next_value.replace(self.next_value.get() + 1)
    }

    /// Notes that a set has a member, which may be removed from now on.
    pub fn is_added(&self, set: u64, member: u64) {
        self.members.borrow_mut().entry(set).or_default().push(member);
    }

    /// Requests to be sent in one go: so many steps, some of which are several requests.
    pub fn pipeline(&self, steps: usize, draws: &mut SmallRng) -> Vec<Request> {
        let near = (draws.random_range(0..2) == 0).then(|| draws.random_range(0..REGISTERS));
        (0..steps).flat_map(|_| self.step(near, draws)).collect()
    }

    fn step(&self, near: Option<u64>, draws: &mut SmallRng) -> Vec<Request> {
        if self.flushes.get() && draws.random_range(0..FLUSH_ONE_IN) == 0 {
            return vec![Request::one(Asked { what: What::Flush, of: 0 })];
        }
        if self.is_noisy.get() && draws.random_range(0..2) == 0 {
            return vec![Request { commands: vec![noise(draws)], asked: Vec::new() }];
        }
        let near = near.filter(|_| draws.random_range(0..4) > 0);
        match draws.random_range(0..121) {
            0..5 => vec![self.together(near, true, draws)],
            5..9 => vec![self.together(near, false, draws)],
            9..12 => self.copy(near, draws),
            12..14 => self.rename(),
            14..21 => vec![Request::one(self.lock(draws))],
            21..26 => vec![Request::transaction(self.pair(draws))],
            26..30 => {
                let count = draws.random_range(1..=QUEUED_MAX);
                vec![Request::transaction((0..count).map(|_| self.single(near, draws)).collect())]
            }
            30..35 => vec![Request::guarded(GUARDED + draws.random_range(0..GUARDED_COUNT), self.number())],
            _ => vec![Request::one(self.single(near, draws))],
        }
    }

    /// One command about one key.
    fn single(&self, near: Option<u64>, draws: &mut SmallRng) -> Asked {
        let kind = draws.random_range(14..100);
        let register = near.unwrap_or_else(|| match kind {
            40..62 => draws.random_range(LASTING..REGISTERS),
            _ => draws.random_range(0..LASTING),
        });
        let counter = near.map_or_else(|| draws.random_range(0..COUNTERS), |near| near % COUNTERS);
        let set = near.map_or_else(|| draws.random_range(0..SETS), |near| near % SETS);
        let (what, of) = match kind {
            ..62 if register >= LASTING => (self.passing(draws), register),
            ..32 => (What::Set(self.number()), register),
            32..36 => (What::Delete, register),
            36..62 => (What::Get, register),
            62..71 => (What::Increment, counter),
            71..78 => (What::Count, counter),
            78..87 => (What::Add(self.number()), set),
            87..90 => {
                let member = self.members.borrow_mut().get_mut(&set).and_then(Vec::pop);
                (member.map_or(What::Members, What::Remove), set)
            }
            _ => (What::Members, set),
        };
        Asked { what, of }
    }

    /// What is asked of a lock.
    fn lock(&self, draws: &mut SmallRng) -> Asked {
        let what = match draws.random_range(0..10) {
            0..5 => What::SetNew(self.number()),
            5..8 => What::Delete,
            _ => What::Get,
        };
        Asked { what, of: LOCKS + draws.random_range(0..LOCKS_COUNT) }
    }

    /// What is asked of both registers of a pair.
    fn pair(&self, draws: &mut SmallRng) -> Vec<Asked> {
        let first = PAIRS + 2 * draws.random_range(0..PAIRS_COUNT);
        let what = match draws.random_range(0..10) {
            0..5 => What::Set(self.number()),
            5 => What::Delete,
            _ => What::Get,
        };
        [first, first + 1].map(|of| Asked { what, of }).into()
    }

    /// What is asked of a register that is written for a while.
    fn passing(&self, draws: &mut SmallRng) -> What {
        let ms = draws.random_range(200..2_500);
        match draws.random_range(0..24) {
            0..7 => What::SetFor(self.number(), ms),
            7 => What::Set(self.number()),
            8 => What::Delete,
            9..12 => What::Expire(ms),
            12..14 => What::Persist,
            14..16 => What::GetFor(ms),
            _ => What::Get,
        }
    }

    /// MSET or MGET of this register, or any, and others.
    fn together(&self, near: Option<u64>, writes: bool, draws: &mut SmallRng) -> Request {
        let mut registers = vec![near.unwrap_or_else(|| draws.random_range(0..LASTING))];
        for _ in 1..draws.random_range(2..=TOGETHER_MAX) {
            let other = draws.random_range(0..REGISTERS);
            if !registers.contains(&other) {
                registers.push(other);
            }
        }
        let what = || if writes { What::Set(self.number()) } else { What::Get };
        let asked: Vec<Asked> = registers.into_iter().map(|of| Asked { what: what(), of }).collect();
        let mut words = vec![if writes { "MSET" } else { "MGET" }.to_owned()];
        for asked in &asked {
            words.push(asked.key());
            words.extend(asked.value().map(|value| value.to_string()));
        }
        Request { commands: vec![words], asked }
    }

    /// COPY to this register, or any; what is behind it on the source must not be copied.
    fn copy(&self, near: Option<u64>, draws: &mut SmallRng) -> Vec<Request> {
        let (value, of) = (self.number(), near.unwrap_or_else(|| draws.random_range(0..LASTING)));
        let (source, copy) = (source(value), Asked { what: What::Copy(value), of });
        let again = Asked { what: What::Set(self.number()), of: source.of };
        let behind = if draws.random_range(0..2) == 0 { vec![again] } else { Vec::new() };
        let delete = Asked { what: What::Delete, of: source.of };
        [source, copy].into_iter().chain(behind).chain([delete]).map(Request::one).collect()
    }

    /// RENAME to a name that nobody else knows: others may see it done by half, and undone.
    fn rename(&self) -> Vec<Request> {
        let value = self.number();
        let (source, of) = (source(value), TARGETS + value);
        let rename = Asked { what: What::Rename(value), of };
        let moved = Asked { what: What::Delete, of: source.of };
        let mut all = vec![Request::one(source), Request { asked: vec![rename, moved], ..Request::one(rename) }];
        let rest = [(What::Get, of), (What::Get, source.of), (What::Delete, of)];
        all.extend(rest.map(|(what, of)| Request::one(Asked { what, of })));
        all
    }
}

/// Every key read once.
pub fn all_reads() -> Vec<Request> {
    let registers = (0..REGISTERS).map(|of| Asked { what: What::Get, of });
    let counters = (0..COUNTERS).map(|of| Asked { what: What::Count, of });
    let sets = (0..SETS).map(|of| Asked { what: What::Members, of });
    let others =
        (LOCKS..LOCKS + LOCKS_COUNT).chain(PAIRS..PAIRS + 2 * PAIRS_COUNT).chain(GUARDED..GUARDED + GUARDED_COUNT);
    let others = others.map(|of| Asked { what: What::Get, of });
    registers.chain(counters).chain(sets).chain(others).map(Request::one).collect()
}
