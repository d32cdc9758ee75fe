//! The ring: each hash slot's preference list, computed from the members alone.
//!
//! How it works, in four steps, each a file or a function of its own:
//! 1. `walk`: every member puts [`VNODES`](super::walk::VNODES) virtual nodes on a circle of 2^32 points (Karger et
//!    al., "Consistent hashing and random trees", 1997). A slot meets the members in the order of their nearest virtual
//!    nodes.
//! 2. Weights: a member's distance is divided by its *rate*, at first its weight (the linear method of Schindelhauer
//!    and Schomaker, "Weighted distributed hash tables", 2005), so a weight may be any fraction and only ratios matter.
//! 3. `rates`: chance leaves some members with too much and others with too little. Rates outside the tolerance are
//!    nudged, and only those, until every load is in bounds. This is the bargain of Mirrokni et al., "Consistent
//!    hashing with bounded loads" (2018): a little more movement for a promised balance.
//! 4. The first member of each list, the usual coordinator, is chosen among the home replicas in the same way, so that
//!    coordination is balanced without moving a copy.
//!
//! What a member is *due* is its weight's share, except that nobody holds two copies of a slot and zones come first
//! (`share`). Promises, tested for 3 to 30 members with weights from 1/2 to 2:
//! - each member's slot copies, and its first places, are within 10 % of its due, whatever the zones;
//! - with one zone, a newcomer to n members moves at most 1.2/(n + 1) of all copies, or 1.2 times its due when that is
//!   more. On lopsided zones, where it changes what every zone is due, up to twice its due was seen.
//!
//! A ring of 30 members took 13 to 50 ms to build on one core: build it where nobody waits.
//!
//! With wilder weights the same procedure gets as near as its rounds allow. Distinct nodes and zones hold always.

use std::sync::Arc;

use super::member::{Member, WEIGHT_MAX, WEIGHT_MIN};
use super::rates::balance;
use super::share::due;
use super::walk::Walk;
use crate::base::ids::{NodeId, SLOT_COUNT, Slot};
use xxhash_rust::xxh3::Xxh3;

/// Grows whenever equal members would give another ring than before. Part of every digest.
pub const ALGORITHM_VERSION: u32 = 1;
/// Members beyond this many, by id, are left out: the bound of every table here.
pub const MEMBERS_MAX: usize = 1_024;
/// The largest N; more counts as this.
pub const REPLICAS_MAX: usize = 32;
/// Seed of the digests of this part. Never changes.
pub(super) const DIGEST_SEED: u64 = 0x726f_6e64_6f2d_6469;

/// Who holds what: an immutable table, two bytes for each slot and member.
#[derive(Clone, PartialEq, Debug)]
pub struct Ring {
    members: Vec<Member>,
    replicas: usize,
    /// `SLOT_COUNT` lists of `members.len()` indexes each.
    preference: Vec<u16>,
    digest: u64,
}

impl Ring {
    /// Computes the ring of these members; `replicas` is N, from 1 to [`REPLICAS_MAX`].
    ///
    /// The order of `members` does not matter; of two with the same id, one is kept, the same one always.
    pub fn build(members: &[Member], replicas: usize) -> Ring {
        let members = normalized(members);
        let replicas = replicas.clamp(1, REPLICAS_MAX);
        let preference = if members.is_empty() { Vec::new() } else { preference_lists(&members, replicas) };
        let digest = digest_of(&members, replicas);
        Ring { members, replicas, preference, digest }
    }

    /// As [`Ring::build`], but one of `known` where that is the same: building one takes milliseconds.
    pub fn known_or_built(members: &[Member], replicas: usize, known: &[Arc<Ring>]) -> Arc<Ring> {
        let (members, replicas) = (normalized(members), replicas.clamp(1, REPLICAS_MAX));
        let same = known.iter().find(|ring| ring.replicas == replicas && ring.members == members);
        same.cloned().unwrap_or_else(|| Arc::new(Ring::build(&members, replicas)))
    }

    /// The members in ascending order of id; preference lists are indexes into this.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Every member, distinct, in the order in which they serve `slot`: first the home replicas, then the stand-ins.
    pub fn preference(&self, slot: Slot) -> &[u16] {
        let len = self.members.len();
        let start = slot.index() * len;
        &self.preference[start..start + len]
    }

    /// The slot's home replicas: the first `min(N, members)` of its preference list.
    pub fn homes(&self, slot: Slot) -> &[u16] {
        let list = self.preference(slot);
        &list[..self.replicas.min(list.len())]
    }

    /// Where this node is in [`members`](Ring::members).
    pub fn index_of(&self, id: &NodeId) -> Option<u16> {
        self.members.binary_search_by(|member| member.id.cmp(id)).ok().map(|index| index as u16)
    }

    /// N as asked for, which may be more than there are members.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// Equal for equal rings: a hash of the algorithm, N and the members.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What each member's weight and zone are due, by index: the target that the tests hold the lists against.
    #[cfg(test)]
    pub(super) fn due(&self) -> super::share::Due {
        due(&self.members, self.replicas)
    }
}

/// Sorted by id, each id once, weights clamped, at most [`MEMBERS_MAX`].
fn normalized(members: &[Member]) -> Vec<Member> {
    let clamp = |weight: f64| if weight.is_nan() { WEIGHT_MIN } else { weight.clamp(WEIGHT_MIN, WEIGHT_MAX) };
    let mut members: Vec<Member> =
        members.iter().map(|member| Member { weight: clamp(member.weight), ..member.clone() }).collect();
    members
        .sort_by(|a, b| a.id.cmp(&b.id).then_with(|| a.zone.cmp(&b.zone)).then_with(|| a.weight.total_cmp(&b.weight)));
    members.dedup_by(|a, b| a.id == b.id);
    members.truncate(MEMBERS_MAX);
    members
}

fn preference_lists(members: &[Member], replicas: usize) -> Vec<u16> {
    let copies = replicas.min(members.len());
    let walk = Walk::new(members);
    let due = due(members, copies);
    let weights: Vec<f64> = members.iter().map(|member| member.weight).collect();

    let mut homes = vec![0u16; SLOT_COUNT * copies];
    let home_rates = balance(&weights, &due.copies, |rates| {
        walk.choose_homes(rates, copies, &mut homes);
        count(&homes, members.len())
    });
    let mut firsts = vec![0u16; SLOT_COUNT];
    balance(&weights, &due.firsts, |rates| {
        walk.choose_firsts(rates, &homes, copies, &mut firsts);
        count(&firsts, members.len())
    });
    walk.lists(&home_rates, &firsts)
}

fn count(places: &[u16], members: usize) -> Vec<u32> {
    let mut counts = vec![0; members];
    for &index in places {
        counts[usize::from(index)] += 1;
    }
    counts
}

fn digest_of(members: &[Member], replicas: usize) -> u64 {
    let mut hash = Xxh3::with_seed(DIGEST_SEED);
    hash.update(&ALGORITHM_VERSION.to_le_bytes());
    hash.update(&(replicas as u64).to_le_bytes());
    for member in members {
        hash.update(member.id.as_bytes());
        hash.update(&(member.zone.len() as u64).to_le_bytes());
        hash.update(member.zone.as_bytes());
        hash.update(&member.weight.to_bits().to_le_bytes());
    }
    hash.digest()
}
