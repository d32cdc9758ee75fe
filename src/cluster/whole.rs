//! Which slots this node holds *whole*: fetched, in this life, from all their other home replicas
//! ([`rules::sources_needed`]).
//!
//! A node that lost its memory must not promise a slot to anybody before that: what an earlier life had accepted could
//! be overlooked by a majority that counts on it. Nor must one that gained the slot and does not hold what a majority
//! of the earlier home replicas held. Filling up and taking over nearly always fetch that much at once, and count when
//! enough others acted on the change of the ring before (`ring::steps`). Else the rest is fetched here, as soon as the
//! ring stands still and the others are there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::base::ids::{NodeId, Slot};
use crate::cluster::Cluster;
use crate::cluster::barrier::COMING_PATIENCE;
use crate::cluster::rules::{self, PulledFrom};
use crate::cluster::topology::Topology;
use crate::ring::steps::{enough_stay, majority};

/// Between two looks at what is missing.
const MISSING_INTERVAL: Duration = Duration::from_secs(1);
/// After a change of the rings: by then coordinators send us what is written to our slots.
const CHANGE_DELAY: Duration = Duration::from_secs(2);
/// The write quorum by which a slot is fetched that is not whole: as if a write were held by one home replica alone, so
/// that all of them are asked. A node that may have joined in an earlier life needs all, also of a slot that it only
/// gains; with fewer it would never be whole, and who leaves would wait for it.
const HELD_BY_ONE: usize = 1;

impl Cluster {
    /// Notes the slots that were taken from enough others, those not counted that had not confirmed that they act on
    /// the row of whoever comes or goes. Who gains a slot needs those that every majority meets; who had it before
    /// needs all, because a write that it accepted may be on its way to the others still.
    pub(super) fn note_whole(&self, taken: &PulledFrom, unconfirmed: &BTreeSet<NodeId>) {
        let topology = self.topology();
        let me = topology.ring.index_of(&topology.me);
        for slot in Slot::all().filter(|slot| topology.is_home(*slot)) {
            let homes = if topology.ring.members().is_empty() { &[][..] } else { topology.ring.homes(slot) };
            let others = homes.iter().filter(|home| Some(**home) != me).count();
            let counts = |id: &&NodeId| !unconfirmed.contains(*id);
            let have = taken.get(&slot).map_or(0, |from| from.iter().filter(counts).count());
            let needed = match others == homes.len() && !self.may_have_joined() {
                true => homes.len() + 1 - majority(homes.len()).min(homes.len()),
                false => rules::sources_needed(homes.len() + usize::from(others == homes.len())).min(others),
            };
            if have >= needed {
                self.holdings.whole.insert(slot);
            }
        }
    }

    /// See [`Holdings::may_have_joined`](super::holdings::Holdings::may_have_joined).
    pub fn may_have_joined(&self) -> bool {
        self.holdings.may_have_joined()
    }

    /// How many slots this node has to hold whole before it may own them, and does not.
    pub(super) fn lacking_slots(&self) -> usize {
        let topology = self.topology();
        let may_come_later = |slot: &Slot| {
            self.may_have_joined() && topology.coming_rings.iter().all(|ring| enough_stay(&topology.ring, ring, *slot))
        };
        let lacking = topology.own_slots().into_iter().filter(|slot| !self.holdings.whole.contains(*slot));
        lacking.filter(|slot| !may_come_later(slot)).count()
    }

    /// Fetches what is missing, for ever.
    pub(super) async fn fetch_until_whole(self: &Arc<Self>) {
        let mut taken = PulledFrom::new();
        let (mut era, mut since) = (self.topology().era, Instant::now());
        loop {
            sleep(MISSING_INTERVAL).await;
            let topology = self.topology();
            if era != topology.era {
                (era, since) = (topology.era, Instant::now());
                taken.clear();
            }
            if !topology.is_warm() || topology.is_moving() || since.elapsed() < CHANGE_DELAY {
                continue;
            }
            let is_whole = self.is_all_whole(&topology);
            drop(topology);
            if is_whole {
                continue;
            }
            let unconfirmed = self.spread(&self.identity.id, COMING_PATIENCE).await;
            self.fetch_missing(era, &mut taken, &unconfirmed).await;
        }
    }

    /// True when this node holds every slot whole that it is a home replica of, today or maybe soon.
    pub(super) fn is_all_whole(&self, topology: &Topology) -> bool {
        Slot::all().all(|slot| self.holdings.whole.contains(slot) || !topology.is_home(slot))
    }

    /// Fetches what is missing of slots that are not whole, as far as there is somebody who has it; `taken` is what has
    /// been fetched in this era.
    pub(super) async fn fetch_missing(
        self: &Arc<Self>,
        era: u64,
        taken: &mut PulledFrom,
        unconfirmed: &BTreeSet<NodeId>,
    ) {
        let is_missing = |slot: &Slot| !self.holdings.whole.contains(*slot);
        let missing = |topology: &Topology| topology.own_slots().into_iter().filter(is_missing).collect();
        let plan = self.plan_pulls(missing, unconfirmed, taken, HELD_BY_ONE);
        if !plan.from.is_empty() {
            self.pull_round(plan, taken).await;
        }
        if self.topology().era == era {
            self.note_whole(taken, unconfirmed);
        }
    }
}
