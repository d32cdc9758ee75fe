//! The laws of merging, on states that random histories of three replicas really produce.
//!
//! Three replicas of one key write on their own, now and then one takes in another's whole state, and their clocks
//! disagree. States travel as on the wire, so each replica has its own short names for actors. What is compared is the
//! [`Shown`] form, in which actors have their full names and nothing depends on the order of insertion.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::base::clock::Hlc;
use crate::base::ids::{ActorId, slot_of};
use crate::base::version::{Actor, ActorTable, Dot, Version};
use crate::base::wire::Reader;
use crate::store::deltas::{Chain, chains};
use crate::store::expiry::{Sweep, SweepRules};
use crate::store::hash;
use crate::store::incoming::Applied;
use crate::store::merge::{Merged, merge};
use crate::store::mutation::Mutation;
use crate::store::name::Name;
use crate::store::siblings;
use crate::store::state::{Content, State};
use crate::store::value::Value;
use crate::store::{Effects, Store, ValueRef};

mod deadlines;
mod expiry;
mod floors;

const KEY: &[u8] = b"key";

/// Far behind every history.
const DEADLINE_MS: u64 = 9_000_000_000;

/// A dot under its author's full name.
type Named = (u64, u64);

/// A state in a form that is the same on every replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    dot: Named,
    seen: BTreeSet<Named>,
    deadline_ms: u64,
    /// The write that the rest is of, where it is named.
    rest: Option<Named>,
    content: Shape,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Shape {
    Deleted,
    Text(Vec<u8>),
    Sum(i64, Named, BTreeSet<(Named, i64)>),
    Elements(BTreeMap<Vec<u8>, (Vec<u8>, BTreeSet<Named>)>),
}

pub(super) fn show(state: &State, actors: &ActorTable) -> Shown {
    let named = |dot: Dot| match dot == Dot::default() {
        true => (0, 0),
        false => (dot.hlc.0, actors.id(dot.actor).node),
    };
    let elements = |elements: &crate::store::elements::Elements, is_hash: bool| {
        let shown = elements.iter().map(|element| {
            let text = if is_hash { hash::field(element.payload).text().into_owned() } else { Vec::new() };
            let dots = siblings::writes(element).iter().map(|(dot, _)| named(*dot)).collect();
            (element.member.to_vec(), (text, dots))
        });
        Shape::Elements(shown.collect())
    };
    let content = match &state.content {
        Content::Tombstone => Shape::Deleted,
        Content::String(bytes) => Shape::Text(bytes.clone()),
        Content::Value(value) => match &**value {
            Value::Counter(counter) => {
                let addends = counter.addends.iter().map(|share| (named(share.dot), share.sum)).collect();
                Shape::Sum(counter.base, named(counter.base_dot), addends)
            }
            Value::Hash(fields) => elements(fields, true),
            Value::Set(set) => elements(&set.members, false),
        },
    };
    let seen = state.version.context.iter().map(|dot| named(*dot)).collect();
    let rest = state.rest.map(named);
    Shown { dot: named(state.version.dot), seen, deadline_ms: state.deadline_ms, rest, content }
}

struct Replica {
    store: Store,
    effects: Effects,
    skew_ms: u64,
}

impl Replica {
    fn new(node: u64, skew_ms: u64) -> Replica {
        let store = Store::new(ActorId { node, generation: 1 });
        store.set_replicated(true);
        Replica { store, effects: Effects::default(), skew_ms }
    }

    /// Begins the node's next life, with what it held.
    fn live_again(&mut self) {
        let (id, sent) = (self.store.actors.id(Actor::SELF), self.sent());
        self.store = Store::new(ActorId { generation: id.generation + 1, ..id });
        self.store.set_replicated(true);
        self.effects = Effects::default();
        self.receive(sent);
    }

    fn three(skews: [u8; 3]) -> [Replica; 3] {
        let mut node = 0;
        skews.map(|skew| {
            node += 1;
            Replica::new(node, u64::from(skew))
        })
    }

    fn now_ms(&self, step: usize) -> u64 {
        1_000 + step as u64 + self.skew_ms
    }

    /// Makes a change as a command would: nothing is removed that is not there.
    fn write(&mut self, step: usize, mutation: Mutation<'_>) {
        let now_ms = self.now_ms(step);
        let mut keys = self.store.lock(slot_of(KEY), 0, now_ms, &mut self.effects);
        let makes_sense = match (mutation, keys.read(KEY)) {
            (Mutation::RemoveField { field }, Some(ValueRef::Hash(fields))) => fields.get(field).is_some(),
            (Mutation::RemoveMember { member }, Some(ValueRef::Set(set))) => set.members.get(member).is_some(),
            (Mutation::RemoveField { .. } | Mutation::RemoveMember { .. }, _) => false,
            (Mutation::Expire { .. } | Mutation::Delete, view) => view.is_some(),
            _ => true,
        };
        if makes_sense {
            keys.write(KEY, mutation);
        }
    }

    fn state(&self) -> Option<State> {
        self.store.table(slot_of(KEY)).find(name()).map(State::of)
    }

    fn shown(&self) -> Option<Shown> {
        self.state().map(|state| show(&state, &self.store.actors))
    }

    fn sent(&self) -> Option<Vec<u8>> {
        let state = self.state()?;
        let mut out = Vec::new();
        state.encode(&mut out, &self.store.actors);
        Some(out)
    }

    fn receive(&mut self, sent: Option<Vec<u8>>) {
        let Some(sent) = sent else { return };
        let state = State::decode(&mut Reader::new(&sent), &self.store.actors).expect("a state");
        // A write on top of another has the later stamp; a node sees to it with everything that it takes in.
        self.store.clock.observe(state.version.dot.hlc, 2_000).expect("not ahead");
        let rules = self.store.rules(1_000);
        self.store.table(slot_of(KEY)).merge(name(), state, &rules, &self.store.actors);
    }

    /// Applies the deltas that `from` has recorded, if `keep` says so, or takes in its state where it cannot.
    fn follow(&mut self, from: &mut Replica, keep: bool) {
        let deltas = from.effects.deltas.take();
        let sender = self.store.actors.intern(from.store.actors.id(Actor::SELF)).expect("room");
        if !keep {
            return;
        }
        let read = chains(&deltas).flat_map(|chain| Chain::new(chain, sender, &self.store.actors));
        for delta in read.collect::<Result<Vec<_>, _>>().expect("deltas") {
            self.store.clock.observe(delta.version.dot.hlc, 2_000).expect("not ahead");
            let rules = self.store.rules(1_000);
            let applied = self.store.table(slot_of(KEY)).apply_delta(name(), &delta, &rules, &self.store.actors);
            if applied == Applied::NeedsState {
                self.receive(from.sent());
            }
        }
    }
}

fn name() -> Name<'static> {
    Name::of(0, KEY)
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Assign(u8),
    Patch(u8),
    Add(i8),
    Put(u8, u8),
    AddField(u8, i8),
    RemoveField(u8),
    AddMember(u8),
    RemoveMember(u8),
    Expire(u8),
    Delete,
    /// Sets a deadline that passes within the history.
    ExpireSoon(u8),
    /// Looks for what has expired by its clock.
    Sweep,
    /// Takes in the state of another replica.
    Sync(usize),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Register,
    Hash,
    Set,
}

fn step(kind: Kind) -> BoxedStrategy<Step> {
    let own = match kind {
        Kind::Register => prop_oneof![
            any::<u8>().prop_map(Step::Assign),
            (0u8..3).prop_map(Step::Patch),
            any::<i8>().prop_map(Step::Add),
            any::<i8>().prop_map(Step::Add),
            any::<u8>().prop_map(Step::Expire),
        ]
        .boxed(),
        Kind::Hash => prop_oneof![
            (0u8..3, any::<u8>()).prop_map(|(field, value)| Step::Put(field, value)),
            (0u8..3, any::<i8>()).prop_map(|(field, by)| Step::AddField(field, by)),
            (0u8..3).prop_map(Step::RemoveField),
        ]
        .boxed(),
        Kind::Set => prop_oneof![(0u8..3).prop_map(Step::AddMember), (0u8..3).prop_map(Step::RemoveMember),].boxed(),
    };
    prop_oneof![6 => own, 1 => Just(Step::Delete), 3 => (0usize..3).prop_map(Step::Sync)].boxed()
}

/// Who does what, one step after the other.
fn history() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let of_kind = |kind| prop::collection::vec((0usize..3, step(kind)), 1..30);
    prop_oneof![of_kind(Kind::Register), of_kind(Kind::Hash), of_kind(Kind::Set)]
}

/// The same with deadlines that are moved, whatever the key is.
fn dated_history() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let of_kind = |kind| {
        let next = prop_oneof![5 => step(kind), 1 => any::<u8>().prop_map(Step::Expire)];
        prop::collection::vec((0usize..3, next), 1..30)
    };
    prop_oneof![of_kind(Kind::Register), of_kind(Kind::Hash), of_kind(Kind::Set)]
}

fn play(replicas: &mut [Replica; 3], at: usize, who: usize, step: &Step) {
    let number = |value: &u8| value.to_string().into_bytes();
    let replica = &mut replicas[who];
    match step {
        Step::Sync(from) => {
            let sent = replicas[*from].sent();
            replicas[who].receive(sent);
        }
        Step::Assign(value) => replica.write(at, Mutation::Assign { value: &number(value), deadline_ms: 0 }),
        Step::Patch(offset) => replica.write(at, Mutation::Patch { offset: u64::from(*offset), bytes: b"7" }),
        Step::Add(by) => replica.write(at, Mutation::Add { by: i64::from(*by) }),
        Step::Put(field, value) => {
            replica.write(at, Mutation::PutField { field: &number(field), value: &number(value) });
        }
        Step::AddField(field, by) => {
            replica.write(at, Mutation::AddField { field: &number(field), by: i64::from(*by) });
        }
        Step::RemoveField(field) => replica.write(at, Mutation::RemoveField { field: &number(field) }),
        Step::AddMember(member) => replica.write(at, Mutation::AddMember { member: &number(member) }),
        Step::RemoveMember(member) => replica.write(at, Mutation::RemoveMember { member: &number(member) }),
        Step::Expire(ms) => replica.write(at, Mutation::Expire { deadline_ms: DEADLINE_MS + u64::from(*ms) }),
        Step::Delete => replica.write(at, Mutation::Delete),
        Step::ExpireSoon(ms) => {
            let deadline_ms = replica.now_ms(at) + u64::from(*ms);
            replica.write(at, Mutation::Expire { deadline_ms });
        }
        Step::Sweep => {
            let rules = SweepRules { before_ms: replica.now_ms(at), keep_tombstones: true };
            replica.store.table(slot_of(KEY)).sweep(Sweep::default(), rules, |_| {});
        }
    }
}

fn join(a: &State, b: &State, actors: &ActorTable) -> State {
    match merge(a, b, actors) {
        Merged::Ours => a.clone(),
        Merged::Theirs => b.clone(),
        Merged::Both(state) => *state,
    }
}

/// The states of three replicas after a history, under one table of actors.
fn states_after(history: &[(usize, Step)], skews: [u8; 3]) -> (Vec<State>, ActorTable) {
    let mut replicas = Replica::three(skews);
    for (at, (who, step)) in history.iter().enumerate() {
        play(&mut replicas, at, *who, step);
    }
    let actors = ActorTable::new(ActorId { node: 9, generation: 1 });
    let sent = replicas.iter().filter_map(Replica::sent);
    let states = sent.map(|sent| State::decode(&mut Reader::new(&sent), &actors).expect("a state")).collect();
    (states, actors)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_commutative_associative_and_idempotent(history in history(), skews: [u8; 3]) {
        let (states, actors) = states_after(&history, skews);
        let join = |a: &State, b: &State| join(a, b, &actors);
        for a in &states {
            prop_assert_eq!(show(&join(a, a), &actors), show(a, &actors));
            for b in &states {
                let ab = join(a, b);
                prop_assert_eq!(show(&ab, &actors), show(&join(b, a), &actors), "a b, b a");
                prop_assert_eq!(show(&join(&ab, b), &actors), show(&ab, &actors), "(a b) b");
                prop_assert_eq!(show(&join(a, &ab), &actors), show(&ab, &actors), "a (a b)");
                for c in &states {
                    let (left, right) = (join(&ab, c), join(a, &join(b, c)));
                    let [one, other] = [&left, &right].map(|state| show(state, &actors));
                    if left.version.mark() == right.version.mark() {
                        prop_assert_eq!(one, other, "(a b) c, a (b c)");
                    } else {
                        // What depends on what was merged first is marked, and takes the place of what is not.
                        let later = if left.version.mark() < right.version.mark() { other } else { one };
                        let met = [join(&left, &right), join(&right, &left)].map(|met| show(&met, &actors));
                        prop_assert_eq!(met, [later.clone(), later]);
                    }
                }
            }
        }
    }

    #[test]
    fn replicas_that_have_met_are_equal(history in dated_history(), skews: [u8; 3]) {
        let mut replicas = Replica::three(skews);
        for (at, (who, step)) in history.iter().enumerate() {
            play(&mut replicas, at, *who, step);
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0), (2, 1)] {
            let sent = replicas[from].sent();
            replicas[to].receive(sent);
        }
        prop_assert_eq!(replicas[0].shown(), replicas[1].shown());
        prop_assert_eq!(replicas[1].shown(), replicas[2].shown());
    }

    #[test]
    fn following_by_deltas_is_the_same_as_merging_states(
        history in dated_history(), skews: [u8; 3], kept in prop::collection::vec(prop::bool::weighted(0.8), 30),
    ) {
        let mut replicas = Replica::three(skews);
        let mut follower = Replica::new(4, 0);
        for (at, (who, step)) in history.iter().enumerate() {
            play(&mut replicas, at, *who, step);
            let keep = kept.get(at).copied().unwrap_or(true);
            follower.follow(&mut replicas[0], keep);
        }
        // The last delta may have been lost, and a state taken in makes none: what is then owed is the state.
        let (followed, leader) = (follower.state(), replicas[0].state());
        follower.receive(replicas[0].sent());
        let held_all = followed.is_some() && follower.shown() == replicas[0].shown();
        prop_assert!(held_all || leader.is_none() || follower.shown() == replicas[0].shown());
        if let (Some(before), Some(after)) = (followed, follower.state()) {
            // Claiming a version means holding what it says.
            if before.version == after.version {
                let actors = &follower.store.actors;
                prop_assert_eq!(show(&before, actors), show(&after, actors));
                prop_assert_eq!(Some(show(&before, actors)), replicas[0].shown());
            }
        }
    }
}

/// Two replicas that hold the same after `before`, each make their own changes and then take in the other's state.
fn partitioned(before: &[Step], left: &[Step], right: &[Step]) -> Shape {
    let mut replicas = Replica::three([0, 3, 0]);
    let mut at = 0;
    let mut run = |replicas: &mut [Replica; 3], who: usize, steps: &[Step]| {
        for step in steps {
            at += 1;
            play(replicas, at, who, step);
        }
    };
    run(&mut replicas, 0, before);
    run(&mut replicas, 1, &[Step::Sync(0)]);
    run(&mut replicas, 0, left);
    run(&mut replicas, 1, right);
    run(&mut replicas, 0, &[Step::Sync(1)]);
    run(&mut replicas, 1, &[Step::Sync(0)]);
    assert_eq!(replicas[0].shown(), replicas[1].shown());
    replicas[0].shown().expect("a state").content
}

#[test]
fn a_settled_conflict_is_told_from_its_sides_by_its_dot() {
    let mut replicas = Replica::three([0, 0, 0]);
    play(&mut replicas, 1, 0, &Step::AddMember(0));
    play(&mut replicas, 2, 1, &Step::Sync(0));
    play(&mut replicas, 3, 2, &Step::Sync(0));
    play(&mut replicas, 4, 1, &Step::AddMember(1));
    play(&mut replicas, 9, 0, &Step::AddMember(2));
    play(&mut replicas, 10, 2, &Step::Sync(0));
    let one_side = replicas[2].shown().expect("a state");
    play(&mut replicas, 11, 0, &Step::Sync(1));
    assert_eq!(replicas[0].shown().map(|state| state.dot), Some(one_side.dot), "settled, the later write's dot stays");
    replicas[0].store.table(slot_of(KEY)).restamp(name());
    assert_ne!(replicas[0].shown().map(|state| state.dot), Some(one_side.dot));
    for who in [1, 2] {
        play(&mut replicas, 12, who, &Step::Sync(0));
        assert_eq!(replicas[who].shown(), replicas[0].shown());
    }
    assert_eq!(elements(&replicas[2].shown().expect("a state").content), pairs(&[("0", ""), ("1", ""), ("2", "")]));
}

#[test]
fn what_another_node_has_written_since_wins_over_a_conflict_that_is_settled_later() {
    let mut replicas = Replica::three([0, 0, 0]);
    play(&mut replicas, 1, 0, &Step::Assign(1));
    play(&mut replicas, 2, 1, &Step::Assign(2));
    play(&mut replicas, 3, 2, &Step::Sync(1));
    play(&mut replicas, 5, 2, &Step::Assign(3));
    play(&mut replicas, 50, 0, &Step::Sync(1));
    let stamp = replicas[0].store.table(slot_of(KEY)).restamp(name()).expect("a key");
    assert_eq!(replicas[0].shown().map(|state| state.dot.0), Some(stamp.0));
    for (who, from) in [(0, 2), (2, 0)] {
        play(&mut replicas, 60, who, &Step::Sync(from));
        assert_eq!(replicas[who].shown().map(|state| state.content), Some(Shape::Text(b"3".to_vec())));
    }
    assert_eq!(replicas[0].shown(), replicas[2].shown());
}

/// Members, or fields with their values.
fn elements(shape: &Shape) -> Vec<(String, String)> {
    let Shape::Elements(elements) = shape else { panic!("no collection: {shape:?}") };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    elements.iter().map(|(member, (value, _))| (text(member), text(value))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(member, value)| ((*member).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn counters_add_up_after_a_partition() {
    use Step::{Add, Assign};
    for before in [vec![], vec![Assign(100)], vec![Add(100)]] {
        let expected = if before.is_empty() { 12 } else { 112 };
        let merged = partitioned(&before, &[Add(5), Add(-2)], &[Add(9)]);
        let Shape::Sum(base, _, addends) = merged else { panic!("{merged:?}") };
        assert_eq!(base + addends.iter().map(|(_, sum)| sum).sum::<i64>(), expected, "{before:?}");
    }
    let reset = partitioned(&[Add(100)], &[Add(1)], &[Assign(7), Add(1)]);
    assert!(matches!(&reset, Shape::Sum(7, _, addends) if addends.len() == 1), "a new base ends the old: {reset:?}");
}

#[test]
fn fields_and_members_of_both_sides_survive() {
    use Step::{AddField, AddMember, Delete, Put, RemoveField, RemoveMember};
    let merged = partitioned(&[Put(0, 1), Put(1, 1)], &[Put(2, 5), RemoveField(0)], &[Put(3, 6), Put(1, 7)]);
    assert_eq!(elements(&merged), pairs(&[("1", "7"), ("2", "5"), ("3", "6")]));
    let merged = partitioned(&[AddField(0, 10)], &[AddField(0, 1)], &[AddField(0, 2)]);
    assert_eq!(elements(&merged), pairs(&[("0", "13")]));
    let merged = partitioned(&[AddMember(0), AddMember(1)], &[AddMember(2)], &[RemoveMember(0), AddMember(3)]);
    assert_eq!(elements(&merged), pairs(&[("1", ""), ("2", ""), ("3", "")]));
    let merged = partitioned(&[AddMember(0)], &[AddMember(0)], &[RemoveMember(0)]);
    assert_eq!(elements(&merged), pairs(&[("0", "")]), "an addition that the removal had not seen wins");
    let merged = partitioned(&[AddMember(0), AddMember(1)], &[Delete], &[AddMember(2)]);
    assert_eq!(elements(&merged), pairs(&[("2", "")]), "a delete removes what it had seen");
    assert_eq!(partitioned(&[Put(0, 1)], &[Delete], &[]), Shape::Deleted);
}

#[test]
fn the_later_string_wins_and_deletes_are_remembered() {
    use Step::{Assign, Delete};
    assert_eq!(partitioned(&[Assign(1)], &[Assign(2)], &[Assign(3)]), Shape::Text(b"3".to_vec()));
    assert_eq!(partitioned(&[Assign(1)], &[Assign(2), Delete], &[]), Shape::Deleted);
}

#[test]
fn a_settled_conflict_is_as_old_as_the_older_side_and_deletions_have_no_age() {
    let actors = ActorTable::new(ActorId { node: 9, generation: 1 });
    let state = |node: u64, created_s: u32, text: Option<&[u8]>| {
        let actor = actors.intern(ActorId { node, generation: 1 }).expect("room");
        let version = Version::first(Dot { hlc: Hlc(node), actor });
        let content = text.map_or(Content::Tombstone, |text| Content::String(text.to_vec()));
        State { version, deadline_ms: 0, created_s, content, rest: None, has_expired: text.is_none() }
    };
    let sides = [state(1, 0, None), state(2, 70, Some(b"a")), state(3, 50, Some(b"b")), state(4, 0, None)];
    for a in &sides {
        for b in &sides {
            let ab = join(a, b, &actors);
            let wanted = if a.created_s == 0 || b.created_s == 0 { a.created_s.max(b.created_s) } else { 50 };
            let wanted = if a == b { a.created_s } else { wanted };
            assert_eq!((ab.created_s, join(b, a, &actors).created_s), (wanted, wanted));
            for c in &sides {
                let (left, right) = (join(&ab, c, &actors), join(a, &join(b, c, &actors), &actors));
                assert_eq!(left.created_s, right.created_s);
            }
        }
    }
}
