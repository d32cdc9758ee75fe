//! Who does what for a slot at this moment: a pure function of the ring, of who answers, and of N, W and R.
//!
//! The *active* nodes of a slot are the first N usable nodes of its preference list: its home replicas, with the next
//! nodes standing in for those that are down (sloppy quorum; DeCandia et al., "Dynamo", 2007, 4.6). In strict mode
//! nobody stands in. The coordinator is the first of them that is fit.
//!
//! Slots with the same roles share a [`SlotRoles`], so the table is one number a slot.
//!
//! Knows no socket: whether a node is usable is told by who calls.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use crate::base::ids::{NodeId, SLOT_COUNT, Slot};
use crate::replication::ballot::Electorate;
use crate::ring::{Member, Ring};
use crate::store::prefetch::prefetch;

/// What is known of a member of the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// It answers: its lanes are open, or it is this node.
    pub usable: bool,
    /// It may coordinate and confirm: it is filled, nothing that it missed is owed to it, and if it is this node, no
    /// other doubts it (`peer::trust`).
    pub fit: bool,
}

impl Standing {
    /// It is both.
    pub fn serves(&self) -> bool {
        self.usable && self.fit
    }
}

/// How many nodes must hold a write and confirm a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quorum {
    /// W.
    pub write: usize,
    /// R.
    pub read: usize,
    /// Only home replicas count.
    pub strict: bool,
}

/// What a slot's commands need. Members are named by their place in the ring's list.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct SlotRoles {
    /// Who runs the slot's commands; `None` when nobody can.
    pub coordinator: Option<u16>,
    /// Active nodes other than this one: they get every delta and count for W.
    pub targets: Vec<u16>,
    /// Nodes that may soon take the slot over: they get every delta, and a write waits for them beside its quorum.
    pub pending: Vec<u16>,
    /// Home replicas, and nodes that may soon be, that are down: what they miss is noted.
    pub missing: Vec<u16>,
    /// Active nodes that are fit, other than this one: they may confirm a read.
    pub confirmers: Vec<u16>,
    /// This node is one of the active ones, and so holds a copy itself.
    pub is_active: bool,
    /// And is fit: it counts for R, whoever coordinates.
    pub is_fit: bool,
    /// How many of `targets` are home replicas: the first ones.
    pub home_targets: usize,
    /// How many of `confirmers` are home replicas: the first ones.
    pub home_confirmers: usize,
    /// This node is a home replica.
    pub is_home: bool,
    /// The home replicas under each ring that somebody may go by; today's first.
    pub electorates: Vec<Electorate>,
    /// All others in `electorates` that answer.
    pub voters: Vec<u16>,
}

/// The rings that roles are made of.
#[derive(Clone, Copy)]
pub struct Rings<'a> {
    /// Today's.
    pub ring: &'a Ring,
    /// Every one that may be today's next, this one first (`ring::steps`).
    pub coming: &'a [Arc<Ring>],
    /// Those are all that somebody may go by. If not, nobody votes.
    pub are_all: bool,
}

impl SlotRoles {
    /// Home replicas other than this node that get deltas.
    pub fn homes(&self) -> &[u16] {
        self.targets.get(..self.home_targets).unwrap_or_default()
    }

    /// Who may confirm what this node has read, where `need` have to: the active nodes that are fit. In a slot that is
    /// not settled only home replicas, as far as there are so many: what this node may lack, a stand-in may lack as
    /// well.
    #[inline]
    pub fn confirmers_of(&self, is_settled: bool, need: usize) -> &[u16] {
        let count = if is_settled { self.confirmers.len() } else { self.home_confirmers.max(need) };
        self.confirmers.get(..count).unwrap_or(&self.confirmers)
    }

    /// Whether those who may confirm a read know what there is of a key. What stand-ins hold is what was written since
    /// the home replicas were lost: that a key is not there, or all that there is of it, they cannot say. With
    /// R=1 the client has accepted that.
    pub fn knows_enough(&self, need: usize) -> bool {
        need <= 1 || self.is_home || self.home_confirmers > 0
    }

    /// Home replicas other than this node that may confirm.
    pub fn confirming_homes(&self) -> &[u16] {
        self.confirmers.get(..self.home_confirmers).unwrap_or_default()
    }
}

/// The roles of every slot, seen from one node.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Different roles, each once: many slots share theirs.
    pub distinct: Vec<SlotRoles>,
    of_slot: Vec<u16>,
}

impl Roles {
    /// The roles of all slots, seen from member `me` of today's ring. Nodes that are only in others are named by their
    /// place behind its members by `place_of`.
    pub fn plan(
        rings: Rings<'_>,
        place_of: impl Fn(&NodeId) -> Option<u16>,
        me: u16,
        standing: &[Standing],
        strict: bool,
    ) -> Roles {
        let mut roles = Roles { distinct: Vec::new(), of_slot: Vec::with_capacity(SLOT_COUNT) };
        let mut known: HashMap<SlotRoles, u16, RandomState> = HashMap::default();
        // Most slots share their lists with others: what was made of them is remembered.
        let mut of_lists: HashMap<Vec<u16>, u16, RandomState> = HashMap::default();
        let mut lists = Lists::new(rings, place_of);
        for slot in Slot::all() {
            lists.read(slot, standing, strict);
            let number = of_lists.get(lists.places.as_slice()).copied().unwrap_or_else(|| {
                let count = known.len() as u16;
                let number = *known.entry(lists.roles(me, standing)).or_insert_with_key(|planned| {
                    roles.distinct.push(planned.clone());
                    count
                });
                of_lists.insert(lists.places.clone(), number);
                number
            });
            roles.of_slot.push(number);
        }
        roles
    }

    /// The number of what holds for a slot, in `distinct`.
    #[inline]
    pub fn number_of(&self, slot: Slot) -> u16 {
        self.of_slot.get(slot.index()).copied().unwrap_or_default()
    }

    /// Has memory fetched that [`Roles::of`] will need. The table is as large as the innermost cache.
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        prefetch(self.of_slot.as_ptr().wrapping_add(slot.index()));
    }

    /// A slot's roles; `None` only when no plan was made.
    #[inline]
    pub fn of(&self, slot: Slot) -> Option<&SlotRoles> {
        self.distinct.get(usize::from(self.number_of(slot)))
    }
}

/// Who decides the roles of a slot: its home replicas under every ring, and who stands in for those that are down.
/// Slots are read one after the other into the same memory.
struct Lists<'a> {
    rings: Rings<'a>,
    /// The place of each member of each ring behind today's, whose own members are at their places. Nobody has the last
    /// place; it counts, and never votes.
    places_of: Vec<Vec<u16>>,
    /// Of the slot that was read: its home replicas under each of those rings, sorted, then those of today's ring and,
    /// last, the stand-ins, in the order in which they serve it. Slots with the same have the same roles.
    places: Vec<u16>,
    /// Where each of these lists begins in it, and where the last ends.
    bounds: Vec<usize>,
}

impl<'a> Lists<'a> {
    fn new(rings: Rings<'a>, place_of: impl Fn(&NodeId) -> Option<u16>) -> Lists<'a> {
        let place = |member: &Member| place_of(&member.id).unwrap_or(u16::MAX);
        let places_of = rings.coming.iter().skip(1).map(|ring| ring.members().iter().map(place).collect()).collect();
        Lists { rings, places_of, places: Vec::new(), bounds: Vec::new() }
    }

    fn read(&mut self, slot: Slot, standing: &[Standing], strict: bool) {
        self.places.clear();
        self.bounds.clear();
        for (ring, place_of) in self.rings.coming.iter().skip(1).zip(&self.places_of) {
            let start = self.places.len();
            self.bounds.push(start);
            self.places.extend(ring.homes(slot).iter().filter_map(|at| place_of.get(usize::from(*at))));
            self.places.get_mut(start..).unwrap_or_default().sort_unstable();
        }
        let homes = self.rings.ring.homes(slot);
        self.bounds.push(self.places.len());
        self.places.extend_from_slice(homes);
        self.bounds.push(self.places.len());
        let rest = self.rings.ring.preference(slot).get(homes.len()..).unwrap_or_default();
        self.places.extend(stand_ins(homes, rest, standing, strict));
        self.bounds.push(self.places.len());
    }

    /// The home replicas under each ring, today's last, and the stand-ins.
    fn split(&self) -> impl DoubleEndedIterator<Item = &[u16]> {
        let (starts, ends) = (self.bounds.iter(), self.bounds.get(1..).unwrap_or_default());
        starts.zip(ends).filter_map(|(start, end)| self.places.get(*start..*end))
    }

    /// The roles of the slot that was read.
    fn roles(&self, me: u16, standing: &[Standing]) -> SlotRoles {
        let mut lists = self.split();
        let (stand_ins, homes) = (lists.next_back().unwrap_or_default(), lists.next_back().unwrap_or_default());
        let others: Vec<&[u16]> = lists.collect();
        let mut planned = slot_roles(homes, stand_ins, me, standing);
        let is_other = |at: &u16| *at != me && is_usable(standing, *at);
        let may_gain = |at: &u16| *at != me && usize::from(*at) < standing.len() && !homes.contains(at);
        let gaining = distinct(others.iter().copied().flatten().copied().filter(may_gain));
        let missing;
        (planned.pending, missing) = gaining.into_iter().partition(is_other);
        planned.missing.extend(missing);
        if self.rings.are_all {
            planned.electorates = electorates([homes].into_iter().chain(others), me);
        }
        let voting = planned.electorates.iter().flat_map(|it| &it.others).copied();
        planned.voters = distinct(voting.filter(is_other));
        planned
    }
}

/// Each of these once, in ascending order.
fn distinct(places: impl Iterator<Item = u16>) -> Vec<u16> {
    let mut places: Vec<u16> = places.collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// Distinct electorates made of lists of places, in their order.
fn electorates<'l>(lists: impl Iterator<Item = &'l [u16]>, me: u16) -> Vec<Electorate> {
    let mut electorates = Vec::new();
    for list in lists {
        let mut others: Vec<u16> = list.iter().copied().filter(|at| *at != me).collect();
        others.sort_unstable();
        let electorate = Electorate { others, has_me: list.contains(&me) };
        if !electorates.contains(&electorate) {
            electorates.push(electorate);
        }
    }
    electorates
}

fn is_usable(standing: &[Standing], at: u16) -> bool {
    standing.get(usize::from(at)).is_some_and(|it| it.usable)
}

/// Who stands in for the home replicas that are down: as many of `rest` that answer. In strict mode nobody does.
fn stand_ins(homes: &[u16], rest: &[u16], standing: &[Standing], strict: bool) -> impl Iterator<Item = u16> {
    let down = homes.iter().filter(|at| !is_usable(standing, **at)).count();
    let wanted = if strict { 0 } else { down };
    rest.iter().copied().filter(|at| is_usable(standing, *at)).take(wanted)
}

fn slot_roles(homes: &[u16], stand_ins: &[u16], me: u16, standing: &[Standing]) -> SlotRoles {
    let up = |at: &&u16| is_usable(standing, **at);
    let is_fit = |at: &&u16| standing.get(usize::from(**at)).is_some_and(Standing::serves);
    let active: Vec<u16> = homes.iter().filter(up).chain(stand_ins).copied().collect();
    // A stand-in coordinates only when no home replica can: it may lack what they hold.
    let coordinator = homes.iter().find(is_fit).or_else(|| active.iter().find(is_fit)).copied();
    let others = || active.iter().filter(|at| **at != me);
    let other_homes = || homes.iter().filter(up).filter(|at| **at != me);
    SlotRoles {
        home_targets: other_homes().count(),
        home_confirmers: other_homes().filter(is_fit).count(),
        is_home: homes.contains(&me),
        coordinator,
        targets: others().copied().collect(),
        pending: Vec::new(),
        missing: homes.iter().filter(|at| !is_usable(standing, **at) && **at != me).copied().collect(),
        confirmers: others().filter(is_fit).copied().collect(),
        is_active: active.contains(&me),
        is_fit: active.iter().filter(is_fit).any(|at| *at == me),
        electorates: Vec::new(),
        voters: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Standing = Standing { usable: true, fit: true };
    const DOWN: Standing = Standing { usable: false, fit: true };
    const UNFIT: Standing = Standing { usable: true, fit: false };

    /// The roles of a slot with this preference list and so many home replicas.
    fn roles_of(preference: &[u16], replicas: usize, me: u16, standing: &[Standing], strict: bool) -> SlotRoles {
        let (homes, rest) = preference.split_at(replicas);
        let stand_ins: Vec<u16> = stand_ins(homes, rest, standing, strict).collect();
        slot_roles(homes, &stand_ins, me, standing)
    }

    #[test]
    fn with_everybody_up_the_first_home_coordinates() {
        let roles = roles_of(&[2, 0, 1, 3], 3, 0, &[UP; 4], false);
        assert_eq!(roles.coordinator, Some(2));
        assert_eq!((roles.targets, roles.missing), (vec![2, 1], vec![]));
        assert!(roles.is_active);
    }

    #[test]
    fn a_dead_home_is_stood_in_for_unless_strict() {
        let standing = [UP, UP, DOWN, UP];
        let roles = roles_of(&[2, 0, 1, 3], 3, 0, &standing, false);
        assert_eq!((roles.homes(), roles.confirming_homes(), roles.is_home), (&[1][..], &[1][..], true));
        assert_eq!((roles.coordinator, roles.targets, roles.missing), (Some(0), vec![1, 3], vec![2]));
        let roles = roles_of(&[2, 0, 1, 3], 3, 0, &standing, true);
        assert_eq!((roles.targets, roles.missing), (vec![1], vec![2]));
    }

    #[test]
    fn a_stand_in_confirms_no_read_of_a_slot_that_is_not_settled_while_home_replicas_can() {
        let roles = roles_of(&[2, 0, 1, 3], 3, 0, &[UP, UP, DOWN, UP], false);
        assert_eq!((roles.confirmers_of(true, 1), roles.confirmers_of(false, 1)), (&[1, 3][..], &[1][..]));
        assert_eq!(roles.confirmers_of(false, 2), [1, 3], "R=3");
        assert_eq!(roles.confirmers_of(false, 3), [1, 3], "too few are there");
        let alone = roles_of(&[2, 0, 1, 3], 3, 0, &[UP, DOWN, DOWN, UP], false);
        assert_eq!(alone.confirmers_of(false, 1), [3], "no other home replica is there");
    }

    #[test]
    fn a_refilling_node_gets_writes_but_neither_coordinates_nor_confirms() {
        let roles = roles_of(&[2, 0, 1], 3, 0, &[UP, UP, UNFIT], false);
        assert_eq!((roles.homes(), roles.confirming_homes()), (&[2, 1][..], &[1][..]));
        assert_eq!((roles.coordinator, roles.targets, roles.confirmers), (Some(0), vec![2, 1], vec![1]));
        let own = roles_of(&[2, 0, 1], 3, 2, &[UP, UP, UNFIT], false);
        assert_eq!((own.coordinator, own.confirmers, own.is_active, own.is_fit), (Some(0), vec![0, 1], true, false));
    }

    #[test]
    fn equal_home_replicas_are_one_electorate() {
        let lists: [&[u16]; 4] = [&[2, 0, 1], &[1, 2, 0], &[1, 3, 2], &[u16::MAX, 1, 2]];
        let found = electorates(lists.into_iter(), 0);
        let of = |others: &[u16], has_me| Electorate { others: others.to_vec(), has_me };
        assert_eq!(found, [of(&[1, 2], true), of(&[1, 2, 3], false), of(&[1, 2, u16::MAX], false)]);
    }

    #[test]
    fn whoever_may_own_a_slot_next_gets_its_deltas_whichever_of_two_comes_first() {
        let member = |number: u8| Member { id: NodeId::from_bytes([number; 20]), zone: String::new(), weight: 1.0 };
        let ring = |numbers: &[u8]| Arc::new(Ring::build(&numbers.iter().map(|it| member(*it)).collect::<Vec<_>>(), 3));
        let coming = [ring(&[0, 1, 2]), ring(&[0, 1, 2, 3]), ring(&[0, 1, 2, 4]), ring(&[0, 1, 2, 3, 4])];
        let rings = Rings { ring: &coming[0], coming: &coming, are_all: true };
        let roles = Roles::plan(rings, |id| Some(u16::from(id.as_bytes()[0])), 0, &[UP; 5], false);
        let gains = |ring: &Ring, number: u16, slot| {
            let owns = |at: &u16| ring.members()[usize::from(*at)].id == member(number as u8).id;
            ring.homes(slot).iter().any(owns)
        };
        let pending = |slot| roles.of(slot).expect("roles").pending.clone();
        for slot in Slot::all() {
            let expected = [3, 4].into_iter().filter(|it| coming.iter().any(|ring| gains(ring, *it, slot)));
            assert_eq!(pending(slot), expected.collect::<Vec<_>>(), "{slot}");
        }
        assert!(Slot::all().any(|slot| gains(&coming[1], 3, slot) && !gains(&coming[3], 3, slot)));
        let standing = [UP, UP, UP, DOWN, UP];
        let cut_off = Roles::plan(rings, |id| Some(u16::from(id.as_bytes()[0])), 0, &standing, false);
        for slot in Slot::all() {
            let roles = cut_off.of(slot).expect("roles");
            let (missing, reached) = pending(slot).into_iter().partition(|at| *at == 3);
            assert_eq!((&roles.missing, &roles.pending), (&missing, &reached), "{slot}: what it misses is noted");
        }
    }

    #[test]
    fn with_nobody_fit_nobody_coordinates() {
        assert_eq!(roles_of(&[0], 1, 0, &[UNFIT], false).coordinator, None);
    }
}
