//! Copies of slots that are not this node's own go home: what their home replicas lack is given to them, and then
//! dropped here.
//!
//! A node comes to hold such copies by standing in for one that was down, and by losing a slot to a node that joined.
//! Kept for ever they would cost memory and, should this node hold the slot again, bring deleted keys back. Dropped on
//! a timer they could be the last copies of writes that were acknowledged under an older ring. So they are compared
//! with every home replica of their slot (`reconcile`), and only what all of them hold, or had seen, goes.
//!
//! What was written since the comparison began stays: this node then stands in for somebody. It is told by its stamp,
//! so what is stamped shortly before stays as well, for as much as our clock may be ahead of whoever stamped it.

use std::collections::BTreeMap;

use tokio::task::yield_now;
use tracing::{debug, info};

use crate::base::clock::Hlc;
use crate::base::ids::{NodeId, Slot};
use crate::cluster::Cluster;
use crate::cluster::pacer::Pacer;
use crate::cluster::reconcile::Take;
use crate::cluster::topology::Topology;
use crate::peer::control::ControlError;
use crate::ring::Row;
use crate::store::name::Name;
use crate::store::slot::SlotTable;

/// How much older than its arrival a stamp may be if all clocks agree: its batch has read the clock before, and it has
/// travelled.
const STAMP_MARGIN_MS: u64 = 2_000;

impl Cluster {
    /// Slots that this node holds something of and that are not its own.
    pub(super) fn strays(&self) -> Vec<Slot> {
        let topology = self.topology();
        Slot::all().filter(|slot| !topology.is_home(*slot) && self.store.table(*slot).iter().next().is_some()).collect()
    }

    /// Gives strays to their home replicas and drops them, if everybody is there to take them.
    pub(super) async fn return_strays(&self) {
        if !may_shed(&self.topology()) {
            return;
        }
        let margin_ms = STAMP_MARGIN_MS + self.lead_ms();
        let (began, strays) = (Hlc::at_ms(self.store.clock.now_ms().saturating_sub(margin_ms)), self.strays());
        if strays.is_empty() {
            return;
        }
        let mut open: BTreeMap<Slot, Vec<NodeId>> = BTreeMap::new();
        let (rows, ring) = {
            let topology = self.topology();
            (topology.rows.clone(), topology.ring.clone())
        };
        for slot in &strays {
            let homes = ring.homes(*slot).iter().filter_map(|at| ring.members().get(usize::from(*at)));
            open.insert(*slot, homes.map(|member| member.id).collect());
        }
        for row in rows.iter() {
            let slots: Vec<Slot> = open.iter().filter(|(_, homes)| homes.contains(&row.id)).map(|it| *it.0).collect();
            if slots.is_empty() {
                continue;
            }
            match self.bring_home(row, &slots).await {
                Ok(keys) => {
                    open.values_mut().for_each(|homes| homes.retain(|id| *id != row.id));
                    if keys > 0 {
                        info!(name = row.shown_name(), peer = %row.id, keys, "gave back what was kept for this node");
                    }
                }
                Err(error) => debug!(peer = %row.id, %error, "cannot give back what was kept for this node"),
            }
        }
        let mut dropped = 0;
        for (slot, _) in open.iter().filter(|(_, homes)| homes.is_empty()) {
            if !self.topology().is_home(*slot) {
                dropped += drop_before(&mut self.store.table(*slot), began);
            }
            yield_now().await;
        }
        if dropped > 0 {
            info!(slots = strays.len(), keys = dropped, "dropped what others hold now");
        }
    }

    /// Makes sure that this node holds all that is here of these slots, or something newer; gives how many keys
    /// travelled.
    async fn bring_home(&self, row: &Row, slots: &[Slot]) -> Result<u64, ControlError> {
        let (link, horizon_ms, mut pace) = (self.links.new_to(row), self.horizon_ms(), Pacer::begin());
        let mut keys = 0;
        for slot in self.differing(&link, horizon_ms, slots, &mut pace).await? {
            keys += self.mend(&link, horizon_ms, slot, Take::Ours).await?.keys;
            pace.rest().await;
        }
        Ok(keys)
    }
}

/// Whether the ring stands still and all its members hold what is theirs.
fn may_shed(topology: &Topology) -> bool {
    !topology.is_moving() && topology.is_warm() && topology.all_are_warm()
}

/// Forgets entries that have seen no write since; gives how many there were. Where a conflict was settled the dot may
/// be of an earlier write than another that the entry has seen, and this copy may be the only one that has: so every
/// write counts, as it does for what others are given (`transfer`, `reconcile`).
pub(super) fn drop_before(table: &mut SlotTable, since: Hlc) -> usize {
    let old: Vec<(u8, Vec<u8>)> =
        table.iter().filter(|entry| entry.latest() < since).map(|entry| (entry.db(), entry.key().to_vec())).collect();
    for (db, key) in &old {
        table.forget(Name::of(*db, key));
    }
    if table.iter().next().is_none() {
        // An empty table of the old size would keep its memory.
        table.reset();
    }
    old.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::base::metrics::Registry;
    use crate::cluster::testing::row;
    use crate::membership::Liveness;
    use crate::peer::entries::Entries;
    use crate::ring::{Row, RowState, Rows};
    use crate::store::mutation::Mutation;
    use crate::store::{Effects, Store};

    #[test]
    fn what_was_written_after_the_change_stays() {
        let store = Store::new(ActorId { node: 1, generation: 1 });
        let slot = slot_of(b"{a}");
        let mut effects = Effects::default();
        for (key, now_ms) in [(&b"{a}old"[..], 1_000), (b"{a}older", 900), (b"{a}new", 3_000)] {
            store.lock(slot, 2, now_ms, &mut effects).write(key, Mutation::Assign { value: b"v", deadline_ms: 0 });
        }
        assert_eq!(drop_before(&mut store.table(slot), Hlc::at_ms(2_000)), 2);
        assert_eq!(store.table(slot).iter().map(|entry| entry.key().to_vec()).collect::<Vec<_>>(), [b"{a}new"]);
        assert_eq!(drop_before(&mut store.table(slot), Hlc::at_ms(9_000)), 1);
        assert_eq!((store.table(slot).footprint_bytes(), store.used_bytes()), (0, 0));
    }

    /// The later SET stays, and with it that somebody has moved the deadline of the earlier one since.
    #[test]
    fn what_has_seen_a_write_after_the_change_stays() {
        let [store, other] = [1, 2].map(|node| Store::new(ActorId { node, generation: 1 }));
        let slot = slot_of(b"k");
        let mut effects = Effects::default();
        let mut write = |store: &Store, now_ms: u64, mutation: Mutation<'_>| {
            store.lock(slot, 0, now_ms, &mut effects).write(b"k", mutation);
        };
        write(&store, 1_000, Mutation::Assign { value: b"v", deadline_ms: 0 });
        write(&store, 5_000, Mutation::Expire { deadline_ms: 9_000 });
        write(&other, 2_000, Mutation::Assign { value: b"w", deadline_ms: 0 });
        let mut entries = Entries::default();
        other.table(slot).iter().for_each(|entry| entries.push(slot, entry, &other.actors));
        let theirs = entries.iter(&store.actors).next().expect("one").expect("whole");
        theirs.merge_into(&mut store.table(slot), &store, 5_000, &Registry::new(Vec::new()));
        assert_eq!(store.table(slot).iter().map(|entry| entry.dot().hlc.ms()).collect::<Vec<_>>(), [2_000]);
        assert_eq!(drop_before(&mut store.table(slot), Hlc::at_ms(3_000)), 0);
        assert_eq!(drop_before(&mut store.table(slot), Hlc::at_ms(6_000)), 1);
    }

    #[test]
    fn nothing_is_dropped_while_anybody_is_on_the_way() {
        let may = |third: Row| {
            let mut rows = Rows::new();
            for row in [row(1, RowState::Normal), row(2, RowState::Normal), third] {
                rows.merge(row);
            }
            may_shed(&Topology::new(rows, row(1, RowState::Normal).id, 2, None, |_| Liveness::Alive))
        };
        assert!(may(row(3, RowState::Normal)) && may(row(3, RowState::Left)));
        assert!(!may(row(3, RowState::Joining)) && !may(row(3, RowState::Leaving)));
        assert!(!may(Row { warm: false, ..row(3, RowState::Normal) }));
    }
}
