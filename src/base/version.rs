//! Versions: which write of a key is newer, and which writes did not know of each other.
//!
//! Every key carries a *dotted version vector* (Preguiça, Baquero et al., "Dotted Version Vectors", 2010): the
//! [`Dot`] of its last write, and a context that names the last writes of other actors that this write has seen.
//! One writer is the usual case: then the context is empty and a version is ten bytes.
//!
//! A dot is (actor, stamp). One actor's stamps only grow, so the pair (actor, stamp) covers every earlier write of
//! that actor to the same key: that is what lets a context be one stamp an actor.
//!
//! Invariants: a context never names its own dot's actor, names no actor twice, and is sorted by actor.
//!
//! Actors are 16 bytes ([`ActorId`]); in memory they are interned to two ([`Actor`]) by an [`ActorTable`] that each
//! node fills on its own, so an [`Actor`] never travels. Entry 0 is this node's present life.
//!
//! A context would grow by a dot with each life of a node that ever writes the key. Where every copy there is is known
//! to have seen all writes up to some stamp (they are *causally stable*; Baquero et al., "Making operation-based CRDTs
//! operation-based", 2014), the next version says that stamp in place of the dots before it: its *floor*
//! ([`Version::floored`]).
//!
//! A context may also bear a *mark* ([`Version::marked`]): no write, but what tells apart two results of the same
//! writes. Floor and mark stand in it as dots of nobody, count wherever versions are compared, and never are a
//! version's own.

use std::cmp::Ordering;

use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::base::ids::ActorId;

/// How many actors a context may name. Beyond it the oldest is forgotten: for a string that can only turn a settled
/// conflict into one that is counted again.
pub const CONTEXT_DOTS_MAX: usize = 64;

/// An interned [`ActorId`]; means something only together with the [`ActorTable`] that gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Actor(pub u16);

impl Actor {
    /// This node, in its present life.
    pub const SELF: Actor = Actor(0);
    /// Nobody: the author of marks, see [`Version::marked`].
    pub const MARK: Actor = Actor(u16::MAX);
    /// Nobody: the author of floors, see [`Version::floored`].
    pub const FLOOR: Actor = Actor(u16::MAX - 1);

    /// True for who can have written something.
    fn is_author(self) -> bool {
        self < Actor::FLOOR
    }
}

/// One write: who made it, and when.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Dot {
    /// When, by the author's hybrid logical clock.
    pub hlc: Hlc,
    /// Who.
    pub actor: Actor,
}

impl Dot {
    /// True when both are writes of one actor, and this is the earlier.
    #[inline]
    pub fn precedes(self, other: Dot) -> bool {
        self.actor == other.actor && self.hlc < other.hlc
    }
}

/// The other actors' last writes that a version has seen.
pub type Context = SmallVec<[Dot; 1]>;

/// A dotted version vector.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Version {
    /// The last write.
    pub dot: Dot,
    /// What the last write had seen of other actors.
    pub context: Context,
}

impl Clone for Version {
    /// Every confirmed read makes a copy, nearly always of a stamp alone: then nothing else is looked at.
    #[inline]
    fn clone(&self) -> Version {
        let context = if self.context.is_empty() { Context::new() } else { self.context.clone() };
        Version { dot: self.dot, context }
    }
}

/// How one version stands to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// The same write.
    Equal,
    /// The other has seen this one.
    Older,
    /// This one has seen the other.
    Newer,
    /// Neither has seen the other: a conflict.
    Concurrent,
}

impl Version {
    /// The first write of a key.
    pub fn first(dot: Dot) -> Version {
        Version { dot, context: Context::new() }
    }

    /// True when this version's author knew of `dot`.
    pub fn covers(&self, dot: Dot) -> bool {
        let stands_for = |seen: &Dot| seen.actor == dot.actor || seen.actor == Actor::FLOOR && dot.actor.is_author();
        self.context.iter().chain([&self.dot]).any(|seen| stands_for(seen) && dot.hlc <= seen.hlc)
    }

    /// How this version stands to `other`. Two may share the last write and differ in what was merged into them, so
    /// everything that either has seen is compared.
    pub fn relation(&self, other: &Version) -> Relation {
        match (other.covers_all(self), self.covers_all(other)) {
            // Below a floor the same merge may have named different writes: one of the names has to be everybody's.
            (true, true) if self.dot.hlc != other.dot.hlc => match self.dot.hlc < other.dot.hlc {
                true => Relation::Older,
                false => Relation::Newer,
            },
            (true, true) => Relation::Equal,
            (true, false) => Relation::Older,
            (false, true) => Relation::Newer,
            (false, false) => Relation::Concurrent,
        }
    }

    /// True when this version has seen `other`, if there was any, and nothing beyond it but writes of `actor`.
    pub fn only_adds_of(&self, actor: Actor, other: Option<&Version>) -> bool {
        let is_known = |dot: &Dot| {
            dot.actor == actor || dot.actor == Actor::FLOOR || other.is_some_and(|other| other.covers(*dot))
        };
        other.is_none_or(|other| self.covers_all(other)) && self.context.iter().chain([&self.dot]).all(is_known)
    }

    /// The latest write of `actor` that this version has seen; zero for none.
    pub fn latest_of(&self, actor: Actor) -> Hlc {
        let dots = self.context.iter().chain([&self.dot]);
        dots.filter(|dot| dot.actor == actor).map(|dot| dot.hlc).max().unwrap_or_default()
    }

    /// The latest write that this version has seen, whoever made it. After a merge that need not be its dot.
    #[inline]
    pub fn latest(&self) -> Hlc {
        self.context.iter().fold(self.dot.hlc, |latest, dot| latest.max(dot.hlc))
    }

    fn covers_all(&self, other: &Version) -> bool {
        self.covers(other.dot) && other.context.iter().all(|dot| self.covers(*dot))
    }

    /// The version of a write with stamp `dot` that was made on top of this one.
    pub fn advanced(&self, dot: Dot) -> Version {
        let mut context = self.context.clone();
        see(&mut context, self.dot);
        context.retain(|seen| seen.actor != dot.actor);
        bound(&mut context);
        Version { dot, context }
    }

    /// The floor that may take the place of the other actors' writes up to `stable` that it names; `None` when it names
    /// none of them.
    pub fn floor_for(&self, stable: Hlc) -> Option<Hlc> {
        let named = self.context.iter().filter(|dot| dot.actor.is_author() && dot.hlc <= stable);
        named.map(|dot| dot.hlc).max()
    }

    /// Up to where it has seen every write, whoever made it; zero for nowhere.
    pub fn floor(&self) -> Hlc {
        self.latest_of(Actor::FLOOR)
    }

    /// This version, which says to have seen every write up to `floor`, where it has any, instead of naming some of
    /// them.
    pub fn floored(mut self, floor: Hlc) -> Version {
        if floor <= self.floor() {
            return self;
        }
        see(&mut self.context, Dot { hlc: floor, actor: Actor::FLOOR });
        bound(&mut self.context);
        self
    }

    /// The version of what two conflicting versions merge to: all that either has seen, under the dot of the write that
    /// won.
    ///
    /// Takes no stamp of its own, so every replica that merges the same two gets the same version.
    pub fn joined(&self, other: &Version, winner: Dot) -> Version {
        let mut context = self.context.clone();
        see(&mut context, self.dot);
        see(&mut context, winner);
        other.context.iter().chain([&other.dot]).for_each(|dot| see(&mut context, *dot));
        // What has been seen of the winner's author is never given up, even should that be a later write of its.
        let latest = context.iter().find(|seen| seen.actor == winner.actor).copied().unwrap_or(winner);
        context.retain(|seen| seen.actor != winner.actor);
        bound(&mut context);
        Version { dot: latest, context }
    }

    /// The mark that it bears; zero for none.
    pub fn mark(&self) -> Hlc {
        self.latest_of(Actor::MARK)
    }

    /// This version under a mark that is later than any it bears, so that it has seen what was made of the same writes
    /// without that; `sum` keeps apart what was made of them in different ways.
    pub fn marked(mut self, sum: u32) -> Version {
        let step = (self.mark().0 >> u32::BITS) + 1;
        // Far below the stamps of writes, so it never is the latest of what a version has seen.
        see(&mut self.context, Dot { hlc: Hlc(step << u32::BITS | u64::from(sum)), actor: Actor::MARK });
        bound(&mut self.context);
        self
    }
}

/// A context of these dots, as somebody else has named them; `None` when they cannot be one.
pub fn context_of(mut dots: Context) -> Option<Context> {
    // Interned numbers differ from node to node, and a context is sorted by them.
    dots.sort_unstable_by_key(|dot| dot.actor);
    let is_double = |pair: &[Dot]| matches!(pair, [one, other] if one.actor == other.actor);
    (dots.len() <= CONTEXT_DOTS_MAX && !dots.windows(2).any(is_double)).then_some(dots)
}

fn see(context: &mut Context, dot: Dot) {
    match context.binary_search_by_key(&dot.actor, |seen| seen.actor) {
        Ok(at) => {
            if let Some(seen) = context.get_mut(at) {
                seen.hlc = seen.hlc.max(dot.hlc);
            }
        }
        Err(at) => context.insert(at, dot),
    }
}

/// Leaves out what a context's floor says besides, and the oldest writes beyond [`CONTEXT_DOTS_MAX`].
fn bound(context: &mut Context) {
    if let Ok(at) = context.binary_search_by_key(&Actor::FLOOR, |seen| seen.actor) {
        let floor = context.get(at).map_or(Hlc(0), |seen| seen.hlc);
        context.retain(|seen| !seen.actor.is_author() || seen.hlc > floor);
    }
    while context.len() > CONTEXT_DOTS_MAX {
        let writes = context.iter().enumerate().filter(|(_, dot)| dot.actor.is_author());
        let oldest = writes.min_by_key(|(_, dot)| dot.hlc).map(|(at, _)| at);
        context.remove(oldest.unwrap_or_default());
    }
}

/// The long forms of those who are nobody, which no node has.
const NOBODIES: [(Actor, ActorId); 2] =
    [(Actor::MARK, ActorId { node: 0, generation: 0 }), (Actor::FLOOR, ActorId { node: 0, generation: u64::MAX })];

/// The long form of `actor`, where `ids` are those of authors; an unknown one, which no caller can make, has that of
/// the first.
pub fn long_form(actor: Actor, ids: &[ActorId]) -> ActorId {
    let nobody = NOBODIES.iter().find(|(nobody, _)| *nobody == actor).map(|(_, id)| *id);
    let author = || ids.get(usize::from(actor.0)).or(ids.first()).copied();
    nobody.or_else(author).unwrap_or(ActorId { node: 0, generation: 0 })
}

/// No more actors fit. This node has met 65,534 lives of nodes; a restart forgets them. Nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the table of actors is full")]
pub struct ActorTableFull;

/// The actors that this node has met. Grows by one for each start of any node in the cluster.
#[derive(Debug)]
pub struct ActorTable {
    ids: RwLock<Vec<ActorId>>,
}

impl ActorTable {
    /// A table in which `this` is [`Actor::SELF`].
    pub fn new(this: ActorId) -> ActorTable {
        ActorTable { ids: RwLock::new(vec![this]) }
    }

    /// The short form of `id`, entered if it is new.
    pub fn intern(&self, id: ActorId) -> Result<Actor, ActorTableFull> {
        if let Some((nobody, _)) = NOBODIES.iter().find(|(_, known)| *known == id) {
            return Ok(*nobody);
        }
        if let Some(actor) = find(&self.ids.read(), id) {
            return Ok(actor);
        }
        let mut ids = self.ids.write();
        if let Some(actor) = find(&ids, id) {
            return Ok(actor);
        }
        let actor = u16::try_from(ids.len()).map(Actor).ok().filter(|actor| actor.is_author()).ok_or(ActorTableFull)?;
        ids.push(id);
        Ok(actor)
    }

    /// The long form of `actor`.
    pub fn id(&self, actor: Actor) -> ActorId {
        long_form(actor, &self.ids.read())
    }

    /// Every author's long form, for [`long_form`].
    pub fn ids(&self) -> Vec<ActorId> {
        self.ids.read().clone()
    }

    /// Last writer wins: by stamp, then by actor, so that every node picks the same one.
    pub fn compare(&self, a: Dot, b: Dot) -> Ordering {
        a.hlc.cmp(&b.hlc).then_with(|| match a.actor == b.actor {
            true => Ordering::Equal,
            false => self.id(a.actor).cmp(&self.id(b.actor)),
        })
    }
}

fn find(ids: &[ActorId], id: ActorId) -> Option<Actor> {
    // Newest first: the living are at the end.
    ids.iter().rposition(|known| *known == id).map(|at| Actor(at as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(actor: u16, ms: u64) -> Dot {
        Dot { hlc: Hlc(ms), actor: Actor(actor) }
    }

    fn table() -> ActorTable {
        let actors = ActorTable::new(ActorId { node: 0, generation: 1 });
        for node in 1..8 {
            actors.intern(ActorId { node, generation: 1 }).expect("room");
        }
        actors
    }

    #[test]
    fn what_others_name_is_a_context_only_if_it_keeps_the_rules() {
        let dots = |actors: &[u16]| actors.iter().map(|actor| dot(*actor, 9)).collect::<Context>();
        assert_eq!(context_of(dots(&[3, 1, 2])), Some(dots(&[1, 2, 3])));
        assert_eq!(context_of(dots(&[1, 2, 1])), None, "an actor twice");
        let most: Vec<u16> = (0..CONTEXT_DOTS_MAX as u16).collect();
        assert!(context_of(dots(&most)).is_some() && context_of(dots(&[&most[..], &[99]].concat())).is_none());
    }

    #[test]
    fn the_latest_write_may_be_another_than_the_dots() {
        let (early, late) = (Version::first(dot(0, 5)), Version::first(dot(1, 9)));
        assert_eq!(early.joined(&late, dot(0, 5)).dot, dot(0, 5));
        assert_eq!((early.joined(&late, dot(0, 5)).latest(), late.latest()), (Hlc(9), Hlc(9)));
    }

    #[test]
    fn one_writer_needs_no_context() {
        let first = Version::first(dot(0, 1));
        let second = first.advanced(dot(0, 2));
        assert!(second.context.is_empty());
        assert_eq!(first.relation(&second), Relation::Older);
        assert_eq!(second.relation(&first), Relation::Newer);
    }

    #[test]
    fn a_second_writer_remembers_the_first() {
        let first = Version::first(dot(0, 1));
        let taken_over = first.advanced(dot(1, 5));
        assert_eq!(taken_over.context.as_slice(), [dot(0, 1)]);
        let unaware = first.advanced(dot(0, 9));
        assert_eq!(taken_over.relation(&unaware), Relation::Concurrent);
        let merged = taken_over.joined(&unaware, unaware.dot);
        assert_eq!(merged.dot, dot(0, 9));
        assert_eq!(merged.context.as_slice(), [dot(1, 5)]);
        assert_eq!(taken_over.relation(&merged), Relation::Older);
        assert_eq!(unaware.relation(&merged), Relation::Older, "the same dot, but less seen");
        assert_eq!(merged.relation(&unaware), Relation::Newer);
        assert_eq!(merged, unaware.joined(&taken_over, unaware.dot));
    }

    #[test]
    fn a_context_has_a_bound_and_forgets_the_oldest() {
        let mut version = Version::first(dot(0, 1));
        for actor in 1..=(CONTEXT_DOTS_MAX as u16 + 10) {
            version = version.advanced(dot(actor, u64::from(actor) + 1));
        }
        assert_eq!(version.context.len(), CONTEXT_DOTS_MAX);
        assert!(!version.covers(dot(0, 1)) && version.covers(dot(CONTEXT_DOTS_MAX as u16, 2)));
    }

    #[test]
    fn a_mark_has_seen_those_before_it_and_is_not_forgotten_for_its_age() {
        let now = 1 << 50;
        let plain = Version::first(dot(0, now)).advanced(dot(1, now + 1));
        let [one, two] = [8, 7].map(|sum| plain.clone().marked(sum));
        assert_eq!((plain.relation(&one), one.relation(&two)), (Relation::Older, Relation::Newer), "the sum decides");
        let later = two.clone().marked(1);
        assert_eq!((one.relation(&later), later.relation(&one)), (Relation::Older, Relation::Newer));
        assert_eq!((later.latest(), later.dot), (Hlc(now + 1), plain.dot), "it is no write");
        let lives = 2..CONTEXT_DOTS_MAX as u16 + 10;
        let long_after = lives.fold(later.clone(), |version, actor| version.advanced(dot(actor, now + 9)));
        assert_eq!((long_after.context.len(), long_after.mark()), (CONTEXT_DOTS_MAX, later.mark()));
        let actors = table();
        for (nobody, id) in NOBODIES {
            assert_eq!((actors.intern(id), actors.id(nobody)), (Ok(nobody), id));
        }
    }

    #[test]
    fn a_floor_stands_for_the_writes_that_it_takes_the_place_of_and_for_no_others() {
        let named = [(1, 5), (2, 7), (3, 90)]
            .into_iter()
            .fold(Version::first(dot(0, 3)), |version, (actor, at)| version.advanced(dot(actor, at)));
        assert_eq!((named.floor_for(Hlc(2)), named.floor_for(Hlc(50))), (None, Some(Hlc(7))), "only what it names");
        let next = named.advanced(dot(4, 99)).floored(Hlc(7));
        assert_eq!(next.context.as_slice(), [dot(3, 90), Dot { hlc: Hlc(7), actor: Actor::FLOOR }]);
        assert_eq!((next.floor(), next.floor_for(Hlc(50)), next.floor_for(Hlc(90))), (Hlc(7), None, Some(Hlc(90))));
        assert!([dot(0, 3), dot(2, 7), dot(5, 6), dot(3, 90)].into_iter().all(|seen| next.covers(seen)));
        assert!(![dot(2, 8), dot(5, 50), dot(3, 91)].into_iter().any(|unseen| next.covers(unseen)));
        assert_eq!((named.relation(&next), next.relation(&named)), (Relation::Older, Relation::Newer));
        let marked = named.clone().marked(1);
        assert_eq!(next.relation(&marked), Relation::Concurrent, "a mark is no write");
        // Who has not heard of it writes on; what both make of it names nothing below the floor.
        let aside = named.advanced(dot(2, 98));
        let both = [next.joined(&aside, next.dot), aside.joined(&next, next.dot)];
        assert_eq!((both[0].context.as_slice(), both[0].floor()), (both[1].context.as_slice(), Hlc(7)));
        assert_eq!(both[0].context.iter().map(|seen| seen.actor.0).collect::<Vec<_>>(), [2, 3, Actor::FLOOR.0]);
        assert!([&next, &aside].into_iter().all(|side| side.relation(&both[0]) == Relation::Older));
    }

    #[test]
    fn interning_is_stable_and_ties_break_alike_everywhere() {
        let actors = table();
        let id = ActorId { node: 3, generation: 1 };
        assert_eq!(actors.intern(id), Ok(Actor(3)));
        assert_eq!(actors.id(Actor(3)), id);
        assert_eq!(actors.compare(dot(2, 7), dot(3, 7)), Ordering::Less);
        assert_eq!(actors.compare(dot(3, 6), dot(2, 7)), Ordering::Less);
    }
}
