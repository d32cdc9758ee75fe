//! The laws of clearing: whatever order replicas hear of things in, they end up alike, nothing that was written before
//! a clear is there, and everything that was written after it is.
//!
//! Three replicas of a slot write and clear on their own, with clocks that disagree; some deltas are lost; now and then
//! one takes in all that another holds. A model of single writes says what must be left: it knows nothing of merging.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::deltas::{Chain, chains};
use super::incoming::Applied;
use super::merge_tests::{Shown, show};
use super::mutation::Mutation;
use super::name::Name;
use super::scope::{Scope, is_clear};
use super::state::{Content, State};
use super::value::Value;
use super::{Effects, Store, ValueRef, siblings};
use crate::base::clock::Hlc;
use crate::base::ids::{ActorId, Slot, slot_of};
use crate::base::version::Actor;
use crate::base::wire::Reader;

const STRING: &[u8] = b"{t}string";
const COUNTER: &[u8] = b"{t}counter";
const HASH: &[u8] = b"{t}hash";
const SET: &[u8] = b"{t}set";

/// Far behind every history.
const DEADLINE_MS: u64 = 9_000_000_000;

fn slot() -> Slot {
    slot_of(STRING)
}

struct Replica {
    store: Store,
    effects: Effects,
    skew_ms: u64,
}

type Sent = Vec<(u8, Vec<u8>, Vec<u8>)>;

/// A stamp with the node that gave it.
type Stamp = (Hlc, u64);

impl Replica {
    fn new(node: u64, skew_ms: u8) -> Replica {
        let store = Store::new(ActorId { node, generation: 1 });
        store.set_replicated(true);
        Replica { store, effects: Effects::default(), skew_ms: u64::from(skew_ms) }
    }

    fn three(skews: [u8; 3]) -> [Replica; 3] {
        let mut node = 0;
        skews.map(|skew| {
            node += 1;
            Replica::new(node, skew)
        })
    }

    /// Makes a change, and gives its stamp with the node, which decides between equal ones.
    fn change(&mut self, step: usize, db: u8, change: impl FnOnce(&mut super::Keyspace<'_>)) -> (Hlc, u64) {
        let now_ms = 1_000 + step as u64 + self.skew_ms;
        let mut keys = self.store.lock(slot(), db, now_ms, &mut self.effects);
        change(&mut keys);
        drop(keys);
        (self.effects.seen.hlc, self.store.actors.id(Actor::SELF).node)
    }

    fn write(&mut self, step: usize, db: u8, key: &[u8], mutation: Mutation<'_>) -> (Hlc, u64) {
        self.change(step, db, |keys| keys.write(key, mutation))
    }

    /// Moves the string's deadline, if it is there.
    fn touch(&mut self, step: usize, db: u8) -> (Hlc, u64) {
        let deadline_ms = DEADLINE_MS + step as u64;
        self.change(step, db, |keys| {
            if keys.read(STRING).is_some() {
                keys.write(STRING, Mutation::Expire { deadline_ms });
            }
        })
    }

    fn clear(&mut self, step: usize, scope: Scope) -> (Hlc, u64) {
        self.change(step, 0, |keys| keys.clear(scope))
    }

    /// All that is here, as it travels.
    fn sent(&self) -> Sent {
        let table = self.store.table(slot());
        let state = |entry: &super::entry::Entry| {
            let mut out = Vec::new();
            State::of(entry).encode(&mut out, &self.store.actors);
            (entry.db(), entry.key().to_vec(), out)
        };
        table.iter().map(state).collect()
    }

    fn receive(&mut self, sent: &Sent, backwards: bool) {
        let mut order: Vec<usize> = (0..sent.len()).collect();
        if backwards {
            order.reverse();
        }
        for (db, key, bytes) in order.into_iter().map(|at| &sent[at]) {
            let state = State::decode(&mut Reader::new(bytes), &self.store.actors).expect("a state");
            self.store.clock.observe(state.version.dot.hlc, 9_000).expect("not ahead");
            let name = Name::of(*db, key);
            let rules = self.store.rules(1_000);
            self.store.table(slot()).merge(name, state, &rules, &self.store.actors);
        }
    }

    /// Takes in the deltas that `from` has recorded, or, where it cannot, all that `from` holds, having told it what it
    /// holds itself: as a replica and a coordinator do.
    fn follow(&mut self, from: &mut Replica, deltas: &[u8]) {
        let sender = self.store.actors.intern(from.store.actors.id(Actor::SELF)).expect("room");
        let read = chains(deltas).flat_map(|chain| Chain::new(chain, sender, &self.store.actors));
        for delta in read.collect::<Result<Vec<_>, _>>().expect("deltas") {
            self.store.clock.observe(delta.version.dot.hlc, 9_000).expect("not ahead");
            let name = Name::of(delta.db, delta.key);
            let rules = self.store.rules(1_000);
            let applied = self.store.table(slot()).apply_delta(name, &delta, &rules, &self.store.actors);
            if applied == Applied::NeedsState {
                from.receive(&self.sent(), false);
                self.receive(&from.sent(), false);
            }
        }
    }

    fn shown(&self) -> BTreeMap<(u8, Vec<u8>), Shown> {
        let table = self.store.table(slot());
        let entry = |entry: &super::entry::Entry| {
            ((entry.db(), entry.key().to_vec()), show(&State::of(entry), &self.store.actors))
        };
        table.iter().map(entry).collect()
    }

    fn live(&mut self, db: u8) -> Vec<(Vec<u8>, Vec<String>)> {
        let mut found = Vec::new();
        for key in [STRING, COUNTER, HASH, SET] {
            let mut keys = self.store.lock(slot(), db, 9_000, &mut self.effects);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let parts: Vec<String> = match keys.read(key) {
                None => continue,
                Some(ValueRef::String(bytes)) => vec![text(bytes)],
                Some(ValueRef::Number(number)) => vec![number.to_string()],
                Some(ValueRef::Hash(fields)) => fields.iter().map(|field| text(field.member)).collect(),
                Some(ValueRef::Set(set)) => set.members.iter().map(|member| text(member.member)).collect(),
            };
            found.push((
                key.to_vec(),
                parts.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect(),
            ));
        }
        found
    }

    /// Whether something is here that a clear, also here, takes away.
    fn holds_what_is_cleared(&self) -> bool {
        let table = self.store.table(slot());
        table.iter().filter(|entry| !is_clear(entry.db()) && !entry.is_tombstone()).any(|entry| {
            let Some(clear) = table.cleared(entry.db()) else { return false };
            match State::of(entry).content {
                Content::String(_) | Content::Tombstone => entry.written().hlc <= clear.hlc,
                Content::Value(value) => {
                    let elements = match &*value {
                        Value::Counter(_) => return entry.dot().hlc <= clear.hlc,
                        Value::Hash(fields) => fields,
                        Value::Set(set) => &set.members,
                    };
                    let mut writes = elements.iter().flat_map(siblings::writes);
                    writes.any(|(dot, _)| dot.hlc <= clear.hlc)
                }
            }
        })
    }
}

fn meet(replicas: &mut [Replica; 3], backwards: bool) {
    for _ in 0..3 {
        for (from, to) in [(0, 1), (1, 2), (2, 0), (2, 1), (1, 0), (0, 2)] {
            let sent = replicas[from].sent();
            replicas[to].receive(&sent, backwards);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Assign(u8, u8),
    /// Moves the string's deadline.
    Touch(u8),
    Add(u8),
    Put(u8, u8),
    AddMember(u8, u8),
    Clear(Scope),
    Take(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let scope = prop_oneof![Just(Scope::All), (0u8..2).prop_map(Scope::Database)];
    prop_oneof![
        2 => (0u8..2, any::<u8>()).prop_map(|(db, value)| Step::Assign(db, value)),
        2 => (0u8..2).prop_map(Step::Touch),
        2 => (0u8..2).prop_map(Step::Add),
        3 => (0u8..2, 0u8..4).prop_map(|(db, field)| Step::Put(db, field)),
        3 => (0u8..2, 0u8..4).prop_map(|(db, member)| Step::AddMember(db, member)),
        2 => scope.prop_map(Step::Clear),
        2 => (0usize..3, any::<bool>()).prop_map(|(from, backwards)| Step::Take(from, backwards)),
    ]
}

/// What single writes and clears leave, by their stamps alone.
#[derive(Default)]
struct Model {
    /// By database, key and part (the value of a string, the name of a field or member): the latest write.
    writes: BTreeMap<(u8, Vec<u8>, String), Stamp>,
    clears: Vec<(Scope, Hlc)>,
}

impl Model {
    fn left(&self, db: u8) -> Vec<(Vec<u8>, Vec<String>)> {
        let cleared = self.clears.iter().filter(|(scope, _)| scope.includes(db)).map(|(_, stamp)| *stamp).max();
        let mut found: BTreeMap<Vec<u8>, Vec<(String, Stamp)>> = BTreeMap::new();
        for ((of, key, part), stamp) in &self.writes {
            if *of == db && Some(stamp.0) > cleared {
                found.entry(key.clone()).or_default().push((part.clone(), *stamp));
            }
        }
        // Of a string there is only the last value.
        if let Some(values) = found.get_mut(STRING) {
            let last = values.iter().max_by_key(|(_, stamp)| *stamp).cloned();
            *values = last.into_iter().collect();
        }
        let order = [STRING, COUNTER, HASH, SET];
        let parts = |key: &[u8]| Some((key.to_vec(), found.get(key)?.iter().map(|it| it.0.clone()).collect()));
        order.into_iter().filter_map(parts).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn replicas_agree_and_hold_what_was_written_after_the_last_clear(
        history in prop::collection::vec((0usize..3, step(), 0u8..4), 1..40), skews: [u8; 3], backwards: bool,
    ) {
        let (mut replicas, mut model) = (Replica::three(skews), Model::default());
        for (at, (who, step, reaches)) in history.into_iter().enumerate() {
            let replica = &mut replicas[who];
            let (db, key, part, stamp) = match step {
                Step::Assign(db, value) => {
                    let text = format!("{value} at {at}");
                    let value = Mutation::Assign { value: text.as_bytes(), deadline_ms: 0 };
                    let stamp = replica.write(at, db, STRING, value);
                    (db, STRING, text, stamp)
                }
                Step::Touch(db) => (db, &b""[..], String::new(), replica.touch(at, db)),
                Step::Add(db) => {
                    replica.write(at, db, COUNTER, Mutation::Add { by: 1 });
                    continue;
                }
                Step::Put(db, field) => {
                    let name = field.to_string();
                    let put = Mutation::PutField { field: name.as_bytes(), value: b"v" };
                    let stamp = replica.write(at, db, HASH, put);
                    (db, HASH, name, stamp)
                }
                Step::AddMember(db, member) => {
                    let name = member.to_string();
                    let stamp = replica.write(at, db, SET, Mutation::AddMember { member: name.as_bytes() });
                    (db, SET, name, stamp)
                }
                Step::Clear(scope) => {
                    let stamp = replica.clear(at, scope);
                    model.clears.push((scope, stamp.0));
                    (0, &b""[..], String::new(), stamp)
                }
                Step::Take(from, backwards) => {
                    let sent = replicas[from].sent();
                    replicas[who].receive(&sent, backwards);
                    continue;
                }
            };
            if !key.is_empty() {
                let latest = model.writes.entry((db, key.to_vec(), part)).or_default();
                *latest = stamp.max(*latest);
            }
            let deltas = replicas[who].effects.deltas.take();
            for other in (0..3).filter(|other| *other != who && reaches >> (other % 2) & 1 == 1) {
                let (low, high) = replicas.split_at_mut(who.max(other));
                let (one, two) = (&mut low[who.min(other)], &mut high[0]);
                let (from, to) = if who < other { (one, two) } else { (two, one) };
                to.follow(from, &deltas);
            }
            for replica in &replicas {
                prop_assert!(!replica.holds_what_is_cleared());
            }
        }
        meet(&mut replicas, backwards);
        prop_assert_eq!(replicas[0].shown(), replicas[1].shown());
        prop_assert_eq!(replicas[1].shown(), replicas[2].shown());
        for db in 0..2 {
            let without_counters = |found: Vec<(Vec<u8>, Vec<String>)>| {
                found.into_iter().filter(|(key, _)| key != COUNTER).collect::<Vec<_>>()
            };
            prop_assert_eq!(without_counters(replicas[0].live(db)), model.left(db));
        }
    }
}

#[test]
fn a_replica_that_was_away_brings_nothing_back_whichever_hears_first() {
    for (first, backwards) in [(0, false), (0, true), (1, false), (1, true)] {
        let [mut one, mut away, _] = Replica::three([0, 7, 0]);
        for key in [STRING, COUNTER, HASH, SET] {
            match key {
                STRING => one.write(1, 0, key, Mutation::Assign { value: b"old", deadline_ms: 0 }),
                COUNTER => one.write(1, 0, key, Mutation::Add { by: 100 }),
                HASH => one.write(1, 0, key, Mutation::PutField { field: b"old", value: b"v" }),
                _ => one.write(1, 0, key, Mutation::AddMember { member: b"old" }),
            };
        }
        away.receive(&one.sent(), false);
        away.write(2, 0, SET, Mutation::AddMember { member: b"old too" });
        one.clear(20, Scope::All);
        assert_eq!(one.store.table(slot()).tombstones(), 1, "one trace, however many keys");
        one.write(21, 0, COUNTER, Mutation::Add { by: 1 });
        one.write(21, 0, SET, Mutation::AddMember { member: b"new" });
        for _ in 0..2 {
            if first == 0 {
                away.receive(&one.sent(), backwards);
                one.receive(&away.sent(), backwards);
            } else {
                one.receive(&away.sent(), backwards);
                away.receive(&one.sent(), backwards);
            }
        }
        let left = vec![(COUNTER.to_vec(), vec!["1".to_owned()]), (SET.to_vec(), vec!["new".to_owned()])];
        assert_eq!((one.live(0), away.live(0)), (left.clone(), left));
        assert_eq!(one.shown(), away.shown());
    }
}

#[test]
fn a_counter_that_begins_anew_wins_over_a_deletion_from_before() {
    let [mut one, mut away, _] = Replica::three([0, 0, 0]);
    one.write(1, 0, COUNTER, Mutation::Add { by: 5 });
    away.receive(&one.sent(), false);
    away.write(2, 0, COUNTER, Mutation::Delete);
    one.clear(10, Scope::Database(0));
    one.write(11, 0, COUNTER, Mutation::Add { by: 1 });
    away.receive(&one.sent(), true);
    one.receive(&away.sent(), false);
    assert_eq!((one.live(0), away.live(0)), (vec![(COUNTER.to_vec(), vec!["1".to_owned()])], one.live(0)));
}

#[test]
fn a_clear_is_forgotten_like_a_deletion_and_does_no_harm_when_it_comes_back() {
    let [mut one, mut two, _] = Replica::three([0, 0, 0]);
    one.write(1, 3, STRING, Mutation::Assign { value: b"old", deadline_ms: 0 });
    one.clear(2, Scope::Database(3));
    two.receive(&one.sent(), false);
    assert_eq!(one.store.collect_tombstones(slot(), Hlc::at_ms(1_001)), 0);
    assert!(one.store.table(slot()).cleared(3).is_some() && one.store.table(slot()).cleared(2).is_none());
    assert_eq!(one.store.collect_tombstones(slot(), Hlc::at_ms(1_002)), 1);
    assert_eq!((one.store.table(slot()).cleared(3), one.store.used_bytes()), (None, 0));
    one.write(3, 3, COUNTER, Mutation::Add { by: 1 });
    one.receive(&two.sent(), false);
    assert_eq!(one.live(3), vec![(COUNTER.to_vec(), vec!["1".to_owned()])]);
}

#[test]
fn a_clear_of_everything_leaves_one_trace_and_one_of_a_database_spares_the_others() {
    let mut one = Replica::new(1, 0);
    for db in 0..3 {
        one.write(1, db, STRING, Mutation::Assign { value: b"v", deadline_ms: 0 });
        one.clear(2, Scope::Database(db % 2));
    }
    assert_eq!((one.live(2).len(), one.store.table(slot()).tombstones()), (1, 2));
    one.clear(3, Scope::All);
    assert_eq!((one.live(2).len(), one.store.table(slot()).tombstones()), (0, 1));
    let alone = Store::new(ActorId { node: 1, generation: 1 });
    let mut effects = Effects::default();
    let mut keys = alone.lock(slot(), 0, 1_000, &mut effects);
    keys.write(STRING, Mutation::Assign { value: b"v", deadline_ms: 0 });
    keys.clear(Scope::All);
    drop(keys);
    assert_eq!(
        (alone.used_bytes(), effects.writes, effects.deltas.is_empty()),
        (0, 2, true),
        "alone nobody has to be told"
    );
}
