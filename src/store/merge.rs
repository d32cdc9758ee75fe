//! Merging two replicas' states of one key: the one operation behind replication, repair, handoff and healing.
//!
//! A state that has seen the other simply replaces it. Of two that have not seen each other:
//! - registers (strings, counters, tombstones): the later base wins; counters on the same base add up, and what was
//!   begun to be added on an earlier base after the later one was set is added to that. A string's base is the write
//!   that it is of ([`State::written`]): no EXPIRE since brings an older or a deleted one back;
//! - hashes and sets: a write of an element survives unless the other side saw it and no longer has it (add wins;
//!   Bieniusa et al., "An optimized conflict-free replicated set", 2012); `siblings` says how several are kept;
//! - different types: a set beats a hash beats a register, so that every node picks alike, as long as the
//!   collection keeps an element that the other side had not seen;
//! - the deadline is settled apart (`date`); the key is as old as the older of the two, of which a deletion has no age.
//!
//! The merge of given states takes no stamp and asks no clock, and is commutative, associative and idempotent for
//! states of one type, deleted ones included; the property tests in `merge_tests` show it. Where several types met
//! within one conflict only the first and the last hold; of marked ones that all replicas come to the same in the end.
//!
//! Equal versions mean equal contents, but for one thing: a tombstone that expiry alone has left (`has_expired`) stands
//! at the version of the value that had expired, which others may still hold. A merge with it lacks what another merge
//! of the same two versions has; and so it is with a deadline where a deletion is among the writes, which depends on
//! what was merged first. What comes of such a merge bears a mark (`Version::marked`): by that it has seen whatever
//! else was made of the same writes, and takes its place (`mark` says which of two). So does what comes of two that
//! are marked differently. A key that has expired and is still there is merged as it is, with its deadline, but where a
//! coordinator is contradicted by one (`replication::repair`).
//!
//! The version of a merged register names as its dot the last write of the side that won, or of what was added to that,
//! or what else is known of that one's author, if that is later.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::base::version::{ActorTable, Dot, Relation};
use crate::store::counter::Counter;
use crate::store::date::Date;
use crate::store::elements::PackLimits;
use crate::store::hash;
use crate::store::mark::sum_of;
use crate::store::parts::earlier;
use crate::store::siblings::{self, Side};
use crate::store::state::{Content, State};
use crate::store::value::{Set, Value};

/// What came of a merge.
#[derive(Clone, PartialEq, Debug)]
pub enum Merged {
    /// Ours is the same write, or has seen theirs: nothing to do.
    Ours,
    /// Theirs has seen ours, or is ours under the name that counts: it takes its place.
    Theirs,
    /// A conflict, settled: this takes the place of both.
    Both(Box<State>),
}

/// Decides between our state and theirs.
pub fn merge(ours: &State, theirs: &State, actors: &ActorTable) -> Merged {
    match ours.version.relation(&theirs.version) {
        // Clears of two nodes may bear one stamp, and each have seen the other's: one of the names has to be
        // everybody's.
        Relation::Equal if actors.compare(ours.version.dot, theirs.version.dot).is_lt() => Merged::Theirs,
        Relation::Equal | Relation::Newer => Merged::Ours,
        Relation::Older => Merged::Theirs,
        Relation::Concurrent => Merged::Both(Box::new(merge_concurrent(ours, theirs, actors))),
    }
}

/// What two states are together, as if neither had seen the other.
pub(super) fn merge_concurrent(a: &State, b: &State, actors: &ActorTable) -> State {
    let content = settle_sets(a, b, actors).or_else(|| settle_hashes(a, b, actors));
    let Settled { winner, dated, last, content } = match content {
        Some(content) => Settled::to(later(a, b, actors), content),
        None => settle_registers(a, b, actors),
    };
    let date = match dated {
        Some(dated) => Date::outliving(dated, winner),
        None => Date::settle(a, b, winner, &content, actors),
    };
    let version = a.version.joined(&b.version, last);
    let created_s = earlier(a.created_s.into(), b.created_s.into()) as u32;
    let rest = if matches!(content, Content::Value(_)) { date.dot } else { winner.written() };
    let (deadline_ms, has_expired) = (date.deadline_ms, false);
    let merged = State { version, deadline_ms, created_s, content, rest: None, has_expired }.with_rest(Some(rest));
    if date.is_told && is_told_by_versions(a, b) {
        return merged;
    }
    let sum = sum_of(&merged, actors);
    State { version: merged.version.marked(sum), ..merged }
}

/// False if others may hold something else at the versions of these two, or at what they are merged from.
fn is_told_by_versions(a: &State, b: &State) -> bool {
    !a.has_expired && !b.has_expired && a.version.mark() == b.version.mark()
}

/// The state of the later write; of one and the same, the one whose value is still there.
fn later<'s>(a: &'s State, b: &'s State, actors: &ActorTable) -> &'s State {
    let order = actors.compare(a.version.dot, b.version.dot).then(b.has_expired.cmp(&a.has_expired));
    if order.is_lt() { b } else { a }
}

fn settle_sets(a: &State, b: &State, actors: &ActorTable) -> Option<Content> {
    let (ours, theirs) = (a.set(), b.set());
    let side_a = Side { elements: ours.map(|set| &set.members), seen: &a.version };
    let side_b = Side { elements: theirs.map(|set| &set.members), seen: &b.version };
    let members = siblings::merge(side_a, side_b, PackLimits::SET, actors, |_| Cow::Borrowed(&[]));
    if members.is_empty() {
        return None;
    }
    let intset = ours.is_none_or(|set| set.intset) && theirs.is_none_or(|set| set.intset);
    Some(Content::Value(Box::new(Value::Set(Set { members, intset }))))
}

fn settle_hashes(a: &State, b: &State, actors: &ActorTable) -> Option<Content> {
    let side_a = Side { elements: a.fields(), seen: &a.version };
    let side_b = Side { elements: b.fields(), seen: &b.version };
    let fields =
        siblings::merge(side_a, side_b, PackLimits::TRANSFER_HASH, actors, |writes| hash::winner(writes, actors));
    (!fields.is_empty()).then(|| Content::Value(Box::new(Value::Hash(fields))))
}

/// True for what leaves nothing behind when it meets its like: a deleted key, or a collection without elements.
fn is_nothing(state: &State) -> bool {
    state.content == Content::Tombstone || state.is_collection()
}

/// What two registers, or what is left of collections, are together.
struct Settled<'s> {
    /// Whose value it is, or on whose base; it says the deadline, unless another does.
    winner: &'s State,
    /// Whose deadline outlives that base.
    dated: Option<&'s State>,
    /// The last write of what is kept, which the merged version names.
    last: Dot,
    content: Content,
}

impl<'s> Settled<'s> {
    fn to(winner: &'s State, content: Content) -> Settled<'s> {
        Settled { winner, dated: None, last: winner.version.dot, content }
    }
}

fn settle_registers<'s>(a: &'s State, b: &'s State, actors: &ActorTable) -> Settled<'s> {
    if is_nothing(a) && is_nothing(b) {
        return Settled::to(later(a, b, actors), Content::Tombstone);
    }
    // A collection counts as nothing: it lost its elements to the other side's deletions.
    let [base_a, base_b] = [a, b].map(|state| state.base().unwrap_or_default());
    let winner = match (actors.compare(base_a, base_b), a.counter(), b.counter()) {
        (Ordering::Less, ..) => return settle_bases(b, base_b, a, actors),
        (Ordering::Greater, ..) => return settle_bases(a, base_a, b, actors),
        (Ordering::Equal, Some(one), Some(other)) => {
            let mut sum = one.clone();
            sum.merge(other, actors);
            return Settled::to(later(a, b, actors), counted(sum));
        }
        // A string, and the same string added to since.
        (Ordering::Equal, Some(_), None) => a,
        (Ordering::Equal, None, Some(_)) => b,
        (Ordering::Equal, None, None) => later(a, b, actors),
    };
    Settled::to(winner, winner.content.clone())
}

/// The later of two bases, with what was begun to be added to the earlier one after it.
fn settle_bases<'s>(winner: &'s State, base: Dot, loser: &'s State, actors: &ActorTable) -> Settled<'s> {
    let outliving = || loser.counter().into_iter().flat_map(|counter| counter.outliving(base));
    // As `Version::joined` will name it: by what else is known of its author.
    let latest_of = |actor| loser.version.latest_of(actor).max(winner.version.latest_of(actor));
    let latest = outliving().map(|addend| Dot { hlc: latest_of(addend.dot.actor), ..addend.dot });
    let last = latest.max_by(|one, other| actors.compare(*one, *other));
    let dated = outlives(loser, winner, base, actors).then_some(loser);
    let Some(last) = last else {
        let dated = dated.filter(|_| winner.counter().is_some());
        return Settled { dated, ..Settled::to(winner, winner.content.clone()) };
    };
    let mut sum = match (winner.counter(), &winner.content) {
        (Some(counter), _) => counter.clone(),
        (None, Content::String(text)) => Counter::on_text(text, base),
        (None, _) => Counter::on_base(0, base),
    };
    sum.take_in(outliving());
    // Of a string and what was added to it the latter is named, whatever was done to the deadline.
    let of_winner = winner.counter().map(|_| winner.version.dot);
    let last = of_winner.filter(|dot| actors.compare(*dot, last).is_gt()).unwrap_or(last);
    Settled { winner, dated, last, content: counted(sum) }
}

/// Whether a number's deadline outlives a later base, if anything is left to have one: what was given since does, as
/// additions do, and beside a deletion whatever the number has.
fn outlives(loser: &State, winner: &State, base: Dot, actors: &ActorTable) -> bool {
    let date = loser.dated();
    let is_given_since = || date.hlc > base.hlc && actors.compare(date, winner.dated()).is_gt();
    loser.counter().is_some() && (winner.content == Content::Tombstone || is_given_since())
}

fn counted(mut counter: Counter) -> Content {
    counter.addends.sort_unstable_by_key(|addend| addend.dot.actor);
    Content::Value(Box::new(Value::Counter(counter)))
}
