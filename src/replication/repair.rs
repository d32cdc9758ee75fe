//! What the coordinator does when a replica contradicts it: takes in what that one knows of the key, the clears that
//! its slot has been through first, and sends back what the key then is.

use crate::base::metrics::Count;
use crate::base::wire::{WireError, put_u64};
use crate::peer::entries::{KeyState, Known};
use crate::peer::frame::{KeyRef, Kind};
use crate::peer::registry::Peer;
use crate::replication::coordinator::Coordinator;
use crate::store::incoming::Applied;
use crate::store::name::Name;

impl Coordinator {
    /// Sends a key's whole state, as it is here now, to one peer, in answer to frame `resolves` of its lane.
    pub(super) fn send_state(&self, peer: &Peer, lane: usize, resolves: u64, name: KeyRef<'_>) {
        let Some(lane) = peer.lanes.get(lane) else { return };
        // Under the slot's lock, so that the state covers every delta that stands before it on the lane.
        let table = self.store.table(name.slot);
        let named = Name::of(name.db, name.key);
        let known = Known::of(&table, name.slot, named, &self.store.actors);
        lane.append(Kind::State, |out| {
            put_u64(out, resolves);
            name.put(out);
            known.put(out, &self.store.actors);
        });
        drop(table);
        lane.flush();
    }

    /// Takes in what a replica knows of a key; gives whether that was written by somebody who had not seen what this
    /// node has written, nor this node that.
    pub(super) fn merge_known(&self, name: KeyRef<'_>, mut known: Known, now_ms: u64) -> Result<bool, WireError> {
        let mut states = known.take_states(name, &self.store.actors);
        states.try_fold(false, |conflicts, state| Ok(conflicts | self.merge(state?, now_ms)?))
    }

    /// Takes in what a replica holds of a key, or a clear of a slot; gives whether it conflicts with what is here.
    fn merge(&self, theirs: KeyState<'_>, now_ms: u64) -> Result<bool, WireError> {
        if !theirs.is_named() {
            return Err(WireError);
        }
        if self.store.clock.observe(theirs.state.version.dot.hlc, now_ms).is_err() {
            self.metrics.count(Count::ClockRefusals, 1);
            return Ok(false);
        }
        let (slot, name) = (theirs.slot, theirs.name());
        let mut table = self.store.table(slot);
        let applied = theirs.merge_into(&mut table, &self.store, now_ms, &self.metrics);
        // Where strict writes are made, none but a holder's may bear a late stamp.
        if applied == Applied::Conflict
            && self.ballots.is_free(slot)
            && let Some(stamp) = table.restamp(name)
        {
            // Given to no write of this node; neither side's was refused, so this one is not.
            let _ = self.store.clock.observe(stamp, now_ms);
        }
        Ok(applied == Applied::Conflict)
    }
}
