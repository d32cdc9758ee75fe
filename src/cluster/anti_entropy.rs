//! Anti-entropy: what keeps replicas equal when nobody asks for their keys.
//!
//! Now and then this node compares, with each other home replica in turn, the slots that both hold (`reconcile`), mends
//! what differs, forgets what is everywhere (`stability`: deletions, and the names of old writes), and takes home what
//! it holds of slots that are not its own (`shed`). A slot that differs is looked at twice before its keys are: under
//! load most differences are writes on their way.
//!
//! Bounded: one peer at a time, [`MENDS_MAX`] slots a peer and round, a share of one core at most (`pacer`). Keys that
//! were evicted are not brought back into a node that is close to its limit. Nothing here is on any client's path.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info};

use crate::base::clock::SKEW_MS_MAX;
use crate::base::ids::{NodeId, Slot};
use crate::base::metrics::Count;
use crate::cluster::Cluster;
use crate::cluster::pacer::Pacer;
use crate::cluster::reconcile::{Take, ask};
use crate::cluster::stability::{Finding, Stability, Terms};
use crate::membership::Liveness;
use crate::peer::compare::{Compare, CompareAnswer};
use crate::peer::control::ControlError;
use crate::ring::{Ring, Row};

/// Most slots mended with one peer in one round.
const MENDS_MAX: usize = 256;
/// In so many parts is the pause between two rounds cut: after a disturbance the next round begins after one of them.
const RESTS: u32 = 4;
/// Between two looks at a slot that differs.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// Between two looks at the option while it is off.
const OFF_PAUSE: Duration = Duration::from_secs(1);
/// Slots looked at for tombstones before others get their turn.
const SLOTS_PER_TURN: usize = 256;

/// Who takes part in a round, as it was when the round began.
struct Plan {
    me: NodeId,
    ring: Arc<Ring>,
    /// Other members that live and are warm.
    present: Vec<Row>,
    /// Other members that are down, or filling up.
    absent: Vec<NodeId>,
    /// Members that have been down for so long that nobody waits for them.
    left_out: Vec<NodeId>,
}

impl Plan {
    /// The slots that both this node and that one hold.
    fn shared_slots(&self, peer: &NodeId) -> Vec<Slot> {
        let (Some(ours), Some(theirs)) = (self.ring.index_of(&self.me), self.ring.index_of(peer)) else {
            return Vec::new();
        };
        let both = |slot: &Slot| self.ring.homes(*slot).contains(&ours) && self.ring.homes(*slot).contains(&theirs);
        Slot::all().filter(both).collect()
    }

    /// The other home replicas of a slot with their lives; `None` when this node is none, or one of them is absent.
    fn other_homes(&self, slot: Slot) -> Option<Vec<(NodeId, u64)>> {
        let ids = || self.ring.homes(slot).iter().filter_map(|at| self.ring.members().get(usize::from(*at)));
        if !ids().any(|member| member.id == self.me) {
            return None;
        }
        let others = ids().map(|member| member.id).filter(|id| *id != self.me && !self.left_out.contains(id));
        others.map(|id| self.present.iter().find(|row| row.id == id).map(|row| (id, row.generation))).collect()
    }
}

impl Cluster {
    /// Runs round after round, for ever.
    pub(super) async fn anti_entropy(&self) {
        let mut stability = Stability::default();
        loop {
            let interval = Duration::from_millis(self.config.settings().anti_entropy_interval_ms);
            if interval.is_zero() {
                sleep(OFF_PAUSE).await;
                continue;
            }
            self.rest(interval).await;
            let Some(plan) = self.plan_round(&mut stability) else { continue };
            self.round(&plan, &mut stability).await;
            self.metrics.count(Count::AntiEntropyRounds, 1);
        }
    }

    /// The pause between two rounds: shorter when there is something to find out that others wait for.
    async fn rest(&self, interval: Duration) {
        for _ in 0..RESTS {
            sleep((interval / RESTS).mul_f64(rand::random_range(0.75..1.25))).await;
            if self.calm.awaits_round() {
                return;
            }
        }
    }

    /// Who takes part; `None` when this node has nothing to compare.
    fn plan_round(&self, stability: &mut Stability) -> Option<Plan> {
        let topology = self.topology();
        if !topology.is_warm() {
            return None;
        }
        let members: Vec<&Row> = topology.others().collect();
        let is_down = |row: &Row| topology.liveness(&row.id) == Liveness::Down;
        let overdue = self.absence.lock().to_leave_out();
        let left_out: Vec<NodeId> =
            members.iter().filter(|row| is_down(row) && overdue.contains(&row.id)).map(|row| row.id).collect();
        let is_present = |row: &&Row| !is_down(row) && row.warm && self.is_warm_for(&row.id);
        let (present, absent): (Vec<&Row>, Vec<&Row>) = members.into_iter().partition(is_present);
        stability.retain(|id, life| present.iter().any(|row| (row.id, row.generation) == (id, life)));
        let absent = absent.iter().map(|row| row.id).filter(|id| !left_out.contains(id)).collect();
        let present: Vec<Row> = present.into_iter().cloned().collect();
        (!present.is_empty()).then(|| Plan { me: topology.me, ring: topology.ring.clone(), present, absent, left_out })
    }

    async fn round(&self, plan: &Plan, stability: &mut Stability) {
        let began_ms = self.store.clock.now_ms();
        if plan.absent.is_empty() && self.owes_nobody() && self.all_calm(plan).await {
            self.calm.note_calm(began_ms);
        }
        for row in &plan.present {
            if let Err(error) = self.compare_with(plan, row, stability).await {
                stability.retract(row.id, row.generation);
                debug!(peer = %row.id, %error, "not compared to the end");
            }
        }
        self.collect(plan, stability).await;
        self.return_strays().await;
    }

    /// Asks everybody whether they owe anybody anything.
    async fn all_calm(&self, plan: &Plan) -> bool {
        for row in &plan.present {
            if !matches!(ask(&self.links.new_to(row), Compare::Calm).await, Ok(CompareAnswer::Calm(true))) {
                return false;
            }
        }
        true
    }

    /// Compares all that this node and that one share, and mends some of what differs.
    async fn compare_with(&self, plan: &Plan, row: &Row, stability: &mut Stability) -> Result<(), ControlError> {
        let (link, slots, mut pace) = (self.links.new_to(row), plan.shared_slots(&row.id), Pacer::begin());
        let (began_ms, horizon_ms) = (self.store.clock.now_ms(), self.horizon_ms());
        let noted = self.peers.get(&row.id).map(|peer| (peer.lacks.noted(), peer));
        let mut differing = self.differing(&link, horizon_ms, &slots, &mut pace).await?;
        if !differing.is_empty() {
            sleep(SECOND_LOOK).await;
            differing = self.differing(&link, horizon_ms, &differing, &mut pace).await?;
        }
        let differs: HashSet<Slot> = differing.iter().copied().collect();
        for slot in &slots {
            let finding = if differs.contains(slot) { Finding::Unlike } else { Finding::Same };
            stability.note(row.id, row.generation, *slot, finding, began_ms);
        }
        self.metrics.count(Count::AntiEntropySlots, differing.len() as u64);
        // Not always the same ones first, should there be more than one round can mend.
        let first = rand::random_range(0..differing.len().max(1));
        differing.rotate_left(first);
        let mut keys = 0;
        for slot in differing.iter().take(MENDS_MAX) {
            let mended = self.mend(&link, horizon_ms, *slot, Take::Both).await?;
            keys += mended.keys;
            self.metrics.count(Count::AntiEntropyRepairs, mended.keys);
            if mended.is_buried {
                stability.note(row.id, row.generation, *slot, Finding::Buried, began_ms);
            }
            pace.rest().await;
        }
        if let Some((noted, peer)) = noted.filter(|_| differing.len() <= MENDS_MAX) {
            peer.lacks.make_up(noted, horizon_ms + SKEW_MS_MAX);
        }
        if keys > 0 {
            info!(name = row.shown_name(), peer = %row.id, slots = differing.len(), keys, "mended what differed");
        }
        Ok(())
    }

    /// Forgets deletions that everybody has confirmed, and notes up to where writes are stable.
    async fn collect(&self, plan: &Plan, stability: &Stability) {
        let age_min_ms = self.config.settings().tombstone_age_min_ms.saturating_add(self.lead_ms());
        let (mut total, mut pace) = (0, Pacer::begin());
        for (at, slot) in Slot::all().enumerate() {
            if at % SLOTS_PER_TURN == 0 {
                pace.rest().await;
            }
            let (keys, tombstones) = {
                let table = self.store.table(slot);
                (table.len(), table.tombstones())
            };
            if keys + tombstones == 0 {
                continue;
            }
            let Some(homes) = plan.other_homes(slot) else { continue };
            let terms = Terms { homes: &homes, calm_ms: self.calm.calm_ms(), age_min_ms };
            if let Some(stable) = stability.stable(slot, terms) {
                self.store.table(slot).note_stable(stable);
            }
            if let Some(bound) = stability.forgettable(slot, terms).filter(|_| tombstones > 0) {
                let collected = self.store.collect_tombstones(slot, bound);
                self.metrics.count(Count::TombstonesCollected, collected as u64);
                total += collected;
            }
        }
        if total > 0 {
            debug!(tombstones = total, "forgot deletions that every replica holds");
        }
    }

    /// What this node says when `asker` asks whether it owes anybody anything: a node that may itself start over does
    /// not know.
    pub(super) fn is_calm(&self, asker: &NodeId) -> bool {
        self.is_warm_for(asker) && self.owes_nobody()
    }

    /// True when nothing is kept here for any node, those left out apart.
    fn owes_nobody(&self) -> bool {
        let left_out = self.absence.lock().to_leave_out();
        let owed = |peer: &crate::peer::registry::Peer| !peer.hints.is_empty() && !left_out.contains(&peer.id);
        !self.peers.all().iter().any(|peer| owed(peer)) && self.strays().is_empty()
    }
}
