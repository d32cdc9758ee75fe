//! Settling: a coordinator makes sure that it holds what others have acknowledged before it builds on it.
//!
//! Whoever becomes a slot's coordinator, or gains a promise for it, may lack acknowledged writes. Until the slot is
//! settled, each key is *confirmed* before a command that may write, or a strict one, looks at it: R home replicas, a
//! majority in strict mode, are asked for its version, and what they hold is merged. A sloppy read runs at once: R
//! replicas have to agree on what it has found in any case, and until the slot is settled only home replicas count
//! ([`Coordinator::confirmers`]). Meanwhile the slot is compared as a whole: a digest of its keys travels on the slot's
//! lane, behind every delta sent before, so a replica that finds the same digest holds the same keys. From one that
//! does not, the slot is fetched (by whoever calls [`Coordinator::compare`]). Then the slot is settled.
//!
//! With fewer home replicas there than needed, those that are there are asked, in sloppy mode; a strict command waits.
//!
//! A command that waits for a confirmation is put off and asked for again; nothing is held for it here but the
//! confirmation, and those are bounded.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::ids::{Slot, slot_of};
use crate::peer::ballot::DigestRequest;
use crate::peer::frame::{KeyRef, Kind, Verify};
use crate::peer::lane::{Fate, Lane};
use crate::peer::registry::Peer;
use crate::replication::ballots::{CONFIRMS_MAX, Confirm};
use crate::replication::coordinator::{Coordinator, seen_of};
use crate::replication::routing::Quorum;
use crate::replication::view::View;
use crate::ring::steps::majority;
use crate::store::Store;
use crate::store::digest::{Mark, Measure};
use crate::store::name::Name;
use crate::store::slot::SlotTable;

/// The seed of slot digests, which travel between nodes.
const DIGEST_SEED: u64 = 0x726f_6e64_6f00_5107;

/// Frames and the peers that they went to.
type Asked = SmallVec<[(Arc<Peer>, u64); 4]>;

/// A slot that is being compared with its other home replicas.
#[derive(Debug)]
pub struct Comparison {
    /// The slot.
    pub slot: Slot,
    /// The tenure that would be settled.
    pub tenure: u32,
    /// How many others have to agree, or to be fetched from.
    pub need: usize,
    /// Only replicas that have promised count.
    pub strict: bool,
    asked: Asked,
}

/// With whom a slot would be compared.
struct Comparers<'v> {
    peers: SmallVec<[&'v Arc<Peer>; 4]>,
    need: usize,
    strict: bool,
}

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Compared {
    /// How many hold the same.
    pub agreeing: usize,
    /// Those that do not, or could not say.
    pub differing: Vec<Arc<Peer>>,
}

impl Comparison {
    /// True when nobody has still to answer.
    pub fn is_over(&self) -> bool {
        self.asked.iter().all(|(peer, number)| fate(peer, self.slot, *number) != Fate::Open)
    }

    /// What came of it, as far as it is known.
    pub fn compared(&self) -> Compared {
        let mut compared = Compared::default();
        for (peer, number) in &self.asked {
            match fate(peer, self.slot, *number) {
                Fate::Held => compared.agreeing += 1,
                Fate::Open | Fate::Lost | Fate::Forgotten => compared.differing.push(peer.clone()),
            }
        }
        compared
    }

    /// Whether what was fetched from a peer after the comparison counts.
    pub fn counts(&self, peer: &Peer) -> bool {
        !self.strict || peer.granted.has(self.slot)
    }
}

impl Coordinator {
    /// Whether a command may look at its keys in these databases, which this node coordinates: their slots are settled
    /// or the keys confirmed, and for a strict command a majority has promised. If not, it is to be put off; what is
    /// missing has been asked for.
    pub fn is_ready<'k>(
        &self,
        view: &View,
        keys: impl Iterator<Item = (u8, &'k [u8])>,
        quorum: Quorum,
        now_ms: u64,
    ) -> bool {
        if quorum.strict {
            self.ballots.want(now_ms);
        }
        let mut ready = true;
        for (db, key) in keys {
            let slot = slot_of(key);
            ready &= !quorum.strict || self.window(view, slot).is_some_and(|max| max > self.store.clock.latest(now_ms));
            if let Some(tenure) = self.ballots.unsettled_tenure(slot) {
                ready &= self.is_confirmed(view, KeyRef { slot, db, key }, tenure, quorum, now_ms);
            }
        }
        ready
    }

    /// Whether a strict command may run on slots that are locked: asked for once more, because only now nothing can
    /// change.
    pub fn may_run<'k>(&self, view: &View, mut keys: impl Iterator<Item = (u8, &'k [u8])>) -> bool {
        keys.all(|(db, key)| {
            let slot = slot_of(key);
            self.ballots.unsettled_tenure(slot).is_none_or(|tenure| {
                let name = (slot, db, key.into());
                self.ballots.with_confirms(|all| {
                    all.get(&name).is_some_and(|it| it.tenure == tenure && it.strict && it.asked.is_empty())
                })
            }) && self.window(view, slot).is_some()
        })
    }

    /// Whether a key is confirmed; if it is not, somebody has been asked.
    fn is_confirmed(&self, view: &View, key: KeyRef<'_>, tenure: u32, quorum: Quorum, now_ms: u64) -> bool {
        let name = (key.slot, key.db, key.key.into());
        let wanted = quorum.read.saturating_sub(1);
        let known = self.ballots.with_confirms(|all| {
            // Who has asked for fewer has not asked for this one too.
            let fits = |it: &Confirm| it.tenure == tenure && it.strict >= quorum.strict && it.wanted >= wanted;
            let confirm = all.get_mut(&name).filter(|it| fits(it))?;
            let is_confirmed = confirm.look(key.slot);
            if is_confirmed == Some(false) {
                // With nobody left to answer it would pass for confirmed.
                all.remove(&name);
            }
            Some(is_confirmed)
        });
        match known {
            Some(Some(true)) => return true,
            Some(None) => return false,
            Some(Some(false)) | None => {}
        }
        // Confirmations are not locked meanwhile: who runs a command looks at them with its slots locked.
        let confirm = self.begin_confirm(view, key, tenure, quorum, now_ms);
        let is_confirmed = confirm.need == 0;
        if confirm.asked.len() >= confirm.need {
            self.ballots.with_confirms(|all| {
                if all.len() >= CONFIRMS_MAX {
                    all.clear();
                }
                all.insert(name, confirm);
            });
        }
        is_confirmed
    }

    fn begin_confirm(&self, view: &View, name: KeyRef<'_>, tenure: u32, quorum: Quorum, now_ms: u64) -> Confirm {
        let slot = name.slot;
        let homes = view.roles.of(slot).map_or(&[][..], |roles| roles.confirming_homes());
        let strict = quorum.strict;
        let kind = if strict { Kind::StrictVerify } else { Kind::Verify };
        let table = self.store.table(slot);
        let entry = table.find(Name::of(name.db, name.key));
        let is_live = entry.is_some_and(|entry| !entry.is_tombstone() && !entry.is_expired(now_ms));
        let seen = entry.map(|entry| entry.version()).unwrap_or_default();
        let verify = Verify { name, seen: seen_of(seen, is_live), is_repeated: false, is_exact: false };
        let peers = view.peers_at(homes).filter(|peer| !strict || peer.granted.has(slot));
        let mut asked = Asked::new();
        for peer in peers {
            let lane = peer.lane_of(slot);
            if let Some((lane, number)) =
                lane.and_then(|lane| Some((lane, lane.append(kind, |out| verify.put(out, &self.store.actors))?)))
            {
                lane.flush();
                asked.push((peer.clone(), number));
            }
        }
        let wanted = quorum.read.saturating_sub(1);
        let need = if strict { wanted } else { wanted.min(asked.len()) };
        Confirm { tenure, strict, wanted, need, asked }
    }

    /// This process has slept for so long that others may have coordinated its slots.
    pub fn unsettle_coordinated_slots(&self, view: &View) {
        Slot::all()
            .filter(|slot| !view.is_solo && view.is_coordinator(*slot))
            .for_each(|slot| self.ballots.unsettle(slot));
    }

    /// Whether a slot that is not settled can be compared with as many other home replicas as it takes to settle it.
    pub fn can_compare(&self, view: &View, slot: Slot, read_quorum: usize) -> bool {
        self.comparers(view, slot, read_quorum).is_some()
    }

    fn comparers<'v>(&self, view: &'v View, slot: Slot, read_quorum: usize) -> Option<Comparers<'v>> {
        let roles = view.roles.of(slot)?;
        let majority = majority(view.replicas);
        let strict = self.ballots.is_own(slot) && view.promised(slot, roles.confirming_homes()).count() + 1 >= majority;
        // Connections may ask for more than the node does, and go by what is settled too.
        let need = read_quorum.max(majority).min(view.replicas).saturating_sub(1);
        let peers: SmallVec<_> = view
            .peers_at(roles.confirming_homes())
            .filter(|peer| (!strict || peer.granted.has(slot)) && peer.lane_of(slot).is_some_and(Lane::is_open))
            .collect();
        (peers.len() >= need).then_some(Comparers { peers, need, strict })
    }

    /// Begins to compare a slot that is not settled with its other home replicas; `None` when too few are there.
    pub fn compare(&self, view: &View, slot: Slot, tenure: u32, read_quorum: usize, now_ms: u64) -> Option<Comparison> {
        // Before all that the slot holds is looked at, here and there, for nothing.
        let Comparers { peers, need, strict } = self.comparers(view, slot, read_quorum)?;
        let table = self.store.table(slot);
        // Nothing that is still alive may be left out, were it about to expire: it may be a lock.
        let digest = slot_digest(&self.store, &table, now_ms);
        let request = DigestRequest { slot, strict, horizon_ms: now_ms, digest };
        let mut asked = Asked::new();
        for peer in peers {
            let number = peer.lane_of(slot).and_then(|lane| lane.append(Kind::Digest, |out| request.put(out)));
            asked.extend(number.map(|number| (peer.clone(), number)));
        }
        (asked.len() >= need).then_some(Comparison { slot, tenure, need, strict, asked })
    }
}

impl Confirm {
    /// Whether the key is confirmed; `None` while that is open.
    fn look(&mut self, slot: Slot) -> Option<bool> {
        if self.asked.is_empty() {
            return Some(true);
        }
        let (mut held, mut open) = (0, 0);
        for (peer, number) in &self.asked {
            match fate(peer, slot, *number) {
                Fate::Held => held += 1,
                Fate::Open => open += 1,
                Fate::Lost | Fate::Forgotten => {}
            }
        }
        if held < self.need && held + open >= self.need {
            return None;
        }
        for (peer, number) in self.asked.drain(..) {
            // A contradiction has been merged by now.
            peer.lane_of(slot).map(|lane| lane.take_mismatch(number));
        }
        Some(held >= self.need)
    }
}

fn fate(peer: &Peer, slot: Slot, number: u64) -> Fate {
    peer.lane_of(slot).map_or(Fate::Lost, |lane| lane.fate(number))
}

/// The digest of a locked slot, all at one moment; `store::digest` has those of moments that do not matter.
pub fn slot_digest(store: &Store, table: &SlotTable, horizon_ms: u64) -> u64 {
    let (measure, ids) = (Measure { seed: DIGEST_SEED, horizon_ms }, store.actors.ids());
    let marks = table.iter().map(|entry| Mark::of(entry, measure, &ids));
    marks.filter(|mark| !mark.fades).fold(0, |digest, mark| digest ^ mark.mixed(DIGEST_SEED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::test_support::{coordinator, view_of};

    const QUORUM: Quorum = Quorum { read: 2, write: 2, strict: false };

    /// Makes every lane of a peer give up what it carries, and stay closed.
    fn cut_off(view: &View, at: u16) {
        view.peer(at).expect("a peer").lanes.iter().for_each(|lane| lane.close(|_| {}));
    }

    #[test]
    fn a_confirmation_that_was_lost_confirms_nothing() {
        let (coordinator, view, slot) = (coordinator(), view_of(true), slot_of(b"key"));
        coordinator.ballots.unsettle(slot);
        let tenure = coordinator.ballots.unsettled_tenure(slot).expect("unsettled");
        view.peers.iter().flatten().for_each(|peer| peer.granted.note(slot));
        let all = Quorum { read: 3, strict: true, ..QUORUM };
        let is_confirmed = || coordinator.is_confirmed(&view, KeyRef { slot, db: 0, key: b"key" }, tenure, all, 1);
        assert!(!is_confirmed(), "both are asked");
        cut_off(&view, 2);
        acknowledge(&view, 1, slot);
        for _ in 0..3 {
            assert!(!is_confirmed(), "one has answered, and the other cannot be asked");
        }
    }

    fn acknowledge(view: &View, at: u16, slot: Slot) {
        let lane = view.peer(at).and_then(|peer| peer.lane_of(slot)).expect("a lane");
        lane.write_with(|bytes| Ok(bytes.len())).expect("written");
        lane.ack(lane.last());
    }

    #[test]
    fn who_wants_more_replicas_to_confirm_does_not_go_by_what_fewer_have() {
        let (coordinator, view, slot) = (coordinator(), view_of(true), slot_of(b"key"));
        coordinator.ballots.unsettle(slot);
        let tenure = coordinator.ballots.unsettled_tenure(slot).expect("unsettled");
        let key = KeyRef { slot, db: 0, key: b"key" };
        let is_confirmed = |read| coordinator.is_confirmed(&view, key, tenure, Quorum { read, ..QUORUM }, 1);
        assert!(is_confirmed(1), "nobody has to be asked");
        assert!(!is_confirmed(2));
        acknowledge(&view, 1, slot);
        assert!(is_confirmed(2) && is_confirmed(1) && !is_confirmed(3));
        acknowledge(&view, 1, slot);
        assert!(!is_confirmed(3));
        acknowledge(&view, 2, slot);
        assert!(is_confirmed(3));
        let comparison = coordinator.compare(&view, slot, tenure, 1, 1).expect("all are there");
        assert_eq!(comparison.need, 1, "a slot is not settled without anybody");
    }

    #[test]
    fn a_key_is_confirmed_in_its_own_database() {
        let (coordinator, view) = (coordinator(), view_of(true));
        coordinator.ballots.unsettle(slot_of(b"key"));
        let is_ready = |db| coordinator.is_ready(&view, [(db, &b"key"[..])].into_iter(), QUORUM, 1);
        assert!(!is_ready(0));
        [1, 2].into_iter().for_each(|at| acknowledge(&view, at, slot_of(b"key")));
        assert!(is_ready(0) && !is_ready(1));
    }

    #[test]
    fn nobody_is_asked_to_compare_when_too_few_can_be() {
        let (coordinator, view) = (coordinator(), view_of(true));
        let slot = Slot::all().next().expect("a slot");
        coordinator.ballots.unsettle(slot);
        let tenure = coordinator.ballots.unsettled_tenure(slot).expect("unsettled");
        cut_off(&view, 2);
        assert!(!coordinator.can_compare(&view, slot, 3) && coordinator.can_compare(&view, slot, 2));
        assert!(coordinator.compare(&view, slot, tenure, 3, 1).is_none());
        assert_eq!(
            view.peer(1).and_then(|peer| peer.lane_of(slot)).map(Lane::last),
            Some(0),
            "its answer is of no use"
        );
        assert!(coordinator.compare(&view, slot, tenure, 2, 1).is_some());
    }
}
