//! Keys of slots that have gone to other nodes are dropped, a while after the ring changed.
//!
//! Kept for ever they would cost memory and, should the slot come back, bring deleted keys back with it. They stay
//! until every member is warm, because until then they may be somebody's source. What was written after the change is
//! kept: this node then stands in for somebody.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::base::clock::Hlc;
use crate::base::ids::Slot;
use crate::cluster::{Cluster, Topology};
use crate::ring::{Ring, transfer};
use crate::store::hash_name;
use crate::store::slot::{Name, SlotTable};

/// After a change of the ring: what was begun under the old one has long ended.
const SHED_DELAY: Duration = Duration::from_secs(10);

/// Slots lost by one change of the ring.
struct Loss {
    due: Instant,
    /// What was written before this goes.
    before: Hlc,
    slots: Vec<Slot>,
}

impl Cluster {
    /// Drops what is no longer this node's, for ever.
    pub(super) async fn shed(self: &Arc<Self>) {
        let mut changes = self.changes();
        let mut ring = self.topology().ring.clone();
        let mut losses: Vec<Loss> = Vec::new();
        loop {
            let due = losses.first().map_or_else(|| Instant::now() + SHED_DELAY, |loss| loss.due);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep_until(due), if !losses.is_empty() => {
                    let mut loss = losses.remove(0);
                    if may_shed(&self.topology()) {
                        self.drop_slots(&loss).await;
                    } else {
                        loss.due = Instant::now() + SHED_DELAY;
                        losses.push(loss);
                    }
                }
            }
            let next = self.topology().ring.clone();
            if !Arc::ptr_eq(&ring, &next) {
                losses.extend(self.loss_between(&ring, &next));
                ring = next;
            }
        }
    }

    fn loss_between(&self, old: &Ring, new: &Ring) -> Option<Loss> {
        let slots = transfer::plan(old, new).remove(&self.identity.id)?.losses;
        let before = Hlc::at_ms(self.store.clock.now_ms());
        (!slots.is_empty()).then(|| Loss { due: Instant::now() + SHED_DELAY, before, slots })
    }

    async fn drop_slots(&self, loss: &Loss) {
        let mut dropped = 0;
        for slot in &loss.slots {
            if !self.topology().is_home(*slot) {
                dropped += drop_before(&mut self.store.table(*slot), loss.before);
            }
            yield_now().await;
        }
        info!(slots = loss.slots.len(), keys = dropped, "dropped what others hold now");
    }
}

/// Whether what this node has lost is held by all who are to hold it.
fn may_shed(topology: &Topology) -> bool {
    let settled = Arc::ptr_eq(&topology.ring, &topology.next_ring);
    settled && topology.is_warm() && topology.members.iter().all(|member| member.warm)
}

/// Forgets entries last written before this; gives how many there were.
fn drop_before(table: &mut SlotTable, before: Hlc) -> usize {
    let old: Vec<(u8, Vec<u8>)> =
        table.iter().filter(|entry| entry.dot().hlc < before).map(|entry| (entry.db(), entry.key().to_vec())).collect();
    for (db, key) in &old {
        table.forget(Name { db: *db, key, hash: hash_name(*db, key) });
    }
    if table.iter().next().is_none() {
        // An empty table of the old size would keep its memory.
        *table = SlotTable::default();
    }
    old.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::cluster::testing::row;
    use crate::membership::Liveness;
    use crate::ring::{Row, RowState, Rows};
    use crate::store::mutation::Mutation;
    use crate::store::{Effects, Store};

    #[test]
    fn what_was_written_after_the_change_stays() {
        let store = Store::new(ActorId { node: 1, boot: 1 });
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
