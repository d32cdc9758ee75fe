//! What the coordinator does when a replica contradicts it: takes in what that one knows of the key, the clears that
//! its slot has been through first, and sends back what the key then is.

use crate::base::metrics::Count;
use crate::base::wire::{Reader, WireError, put_u64};
use crate::peer::entries::{KeyState, Known};
use crate::peer::frame::{KeyRef, Kind, MismatchCause};
use crate::peer::registry::Peer;
use crate::replication::coordinator::Coordinator;
use crate::store::incoming::Applied;
use crate::store::name::Name;

impl Coordinator {
    /// Takes in that a replica holds something else of a key, and sends what the two come to: read repair, or what a
    /// delta builds on. Frame numbers in the answer are those of its connection, which began behind `base`.
    pub(super) fn contradicted(
        &self,
        peer: &Peer,
        lane: usize,
        base: u64,
        body: &[u8],
        now_ms: u64,
    ) -> Result<(), WireError> {
        let Some(own) = peer.lanes.get(lane) else { return Ok(()) };
        let mut reader = Reader::new(body);
        let (number, cause) = (reader.u64()?, MismatchCause::read(&mut reader)?);
        let name = KeyRef::read(&mut reader)?;
        let known = Known::read(&mut reader, &self.store.actors)?;
        let conflicts = self.merge_known(name, known, now_ms)?;
        if cause == MismatchCause::Delta && conflicts {
            own.note_conflict(base.saturating_add(number));
        }
        if cause == MismatchCause::Verify {
            own.note_mismatch(base.saturating_add(number));
        }
        if cause != MismatchCause::Delta {
            self.metrics.count(Count::ReadRepairs, 1);
        }
        self.send_state(peer, lane, number, name);
        Ok(())
    }

    /// Sends a key's whole state, as it is here now, to one peer, in answer to frame `resolves` of its lane.
    fn send_state(&self, peer: &Peer, lane: usize, resolves: u64, name: KeyRef<'_>) {
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
    /// node has written, nor this node that, and may say otherwise than this node's replies.
    fn merge_known(&self, name: KeyRef<'_>, mut known: Known, now_ms: u64) -> Result<bool, WireError> {
        let mut states = known.take_states(name, &self.store.actors);
        states.try_fold(false, |conflicts, state| Ok(conflicts | self.merge(state?, now_ms)?))
    }

    /// Takes in what a replica holds of a key, or a clear of a slot; gives whether it conflicts with what is here. A
    /// deletion that was forgotten here conflicts with nothing that this node has said of a key which was begun since.
    /// What has expired here is gone, though the replica has not looked for it yet.
    fn merge(&self, theirs: KeyState<'_>, now_ms: u64) -> Result<bool, WireError> {
        if !theirs.is_named() {
            return Err(WireError);
        }
        if self.store.clock.observe(theirs.state.version.latest(), now_ms).is_err() {
            self.metrics.count(Count::ClockRefusals, 1);
            return Ok(false);
        }
        let (slot, name) = (theirs.slot, theirs.name());
        let theirs = KeyState { state: theirs.state.swept(now_ms), ..theirs };
        let mut table = self.store.table(slot);
        let ours = table.find(name).filter(|entry| !entry.is_tombstone());
        let is_old = ours.is_some_and(|entry| theirs.state.is_over_before(entry.meta().created_s));
        let applied = theirs.merge_into(&mut table, &self.store, now_ms, &self.metrics);
        // Where strict writes are made, none but a holder's may bear a late stamp.
        if applied == Applied::Conflict
            && self.ballots.is_free(slot)
            && let Some(stamp) = table.restamp(name)
        {
            // Given to no write of this node; neither side's was refused, so this one is not.
            let _ = self.store.clock.observe(stamp, now_ms);
        }
        Ok(applied == Applied::Conflict && !is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ActorId, slot_of};
    use crate::base::wire::Reader;
    use crate::replication::test_support::coordinator;
    use crate::store::mutation::Mutation;
    use crate::store::{Effects, Store, ValueRef};

    const KEY: &[u8] = b"k";

    fn write(store: &Store, now_ms: u64, mutation: Mutation<'_>) {
        store.set_replicated(true);
        store.lock(slot_of(KEY), 0, now_ms, &mut Effects::default()).write(KEY, mutation);
    }

    /// Has a coordinator take in what a replica holds that has made these changes; gives whether they conflict.
    fn contradict(here: &Coordinator, changes: &[(u64, Mutation<'_>)], now_ms: u64) -> bool {
        let (there, slot) = (Store::new(ActorId { node: 2, generation: 1 }), slot_of(KEY));
        changes.iter().for_each(|(at_ms, mutation)| write(&there, *at_ms, *mutation));
        let mut bytes = Vec::new();
        Known::of(&there.table(slot), slot, Name::of(0, KEY), &there.actors).put(&mut bytes, &there.actors);
        let known = Known::read(&mut Reader::new(&bytes), &here.store.actors).expect("own bytes");
        here.merge_known(KeyRef { slot, db: 0, key: KEY }, known, now_ms).expect("a state")
    }

    fn read<T>(here: &Coordinator, now_ms: u64, look: impl FnOnce(Option<ValueRef<'_>>) -> T) -> T {
        look(here.store.lock(slot_of(KEY), 0, now_ms, &mut Effects::default()).read(KEY))
    }

    #[test]
    fn what_was_begun_after_a_deletion_that_is_forgotten_here_stays_and_was_no_lie() {
        let made = [(500, Mutation::Assign { value: b"57", deadline_ms: 0 }), (600, Mutation::Delete)];
        for (began_ms, conflicts) in [(70_000, false), (700, true)] {
            let here = coordinator();
            write(&here.store, began_ms, Mutation::Add { by: 1 });
            write(&here.store, began_ms, Mutation::Expire { deadline_ms: 90_000 });
            assert_eq!(contradict(&here, &made, began_ms), conflicts, "within a second nobody can tell");
            assert!(read(&here, began_ms, |value| matches!(value, Some(ValueRef::Number(1)))), "no addition is lost");
            assert!(read(&here, 90_001, |value| value.is_none()), "nor its deadline");
        }
        let here = coordinator();
        write(&here.store, 400, Mutation::Add { by: 1 });
        assert!(contradict(&here, &made, 700), "it was deleted since");
        assert!(read(&here, 700, |value| value.is_none()));
    }

    #[test]
    fn what_has_expired_here_does_not_come_back_from_where_it_is_not_swept_yet() {
        let deadline_ms = 2_000;
        let made = [(500, Mutation::AddMember { member: b"old" }), (600, Mutation::Expire { deadline_ms })];
        for (now_ms, left) in [(2_500, vec!["new"]), (1_500, vec!["new", "old"])] {
            let here = coordinator();
            write(&here.store, now_ms, Mutation::AddMember { member: b"new" });
            write(&here.store, now_ms, Mutation::Expire { deadline_ms: 90_000 });
            contradict(&here, &made, now_ms);
            let mut members = read(&here, now_ms, |value| match value {
                Some(ValueRef::Set(set)) => {
                    let text = |member: &[u8]| String::from_utf8_lossy(member).into_owned();
                    set.members.iter().map(|member| text(member.member)).collect::<Vec<_>>()
                }
                _ => Vec::new(),
            });
            members.sort();
            assert_eq!(members, left);
        }
    }
}
