//! The other nodes as this one reaches them: lanes, whether they answer, and what they have missed.
//!
//! A [`Peer`] outlives its connections. It is *usable* while all its lanes are open and none is stalled: a reset or
//! refused connection, or one on which nothing is acknowledged in time, makes it unusable at once, long before gossip
//! says anything (a circuit breaker). While it is only stalled its lanes keep what it is to be told, for as long as
//! they have room. What is written while it is not connected is left for it as hints ([`Hints`]).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::ids::{NodeId, Slot};
use crate::peer::frame::Kind;
use crate::peer::granted::Granted;
use crate::peer::hints::Hints;
use crate::peer::lacks::{Lacks, Losses};
use crate::peer::lane::{Lane, lane_index};
use crate::peer::told::Told;
use crate::peer::trust::{Doubt, Opinion, Speaker, Trust, Word};

/// Another node.
#[derive(Debug)]
pub struct Peer {
    /// Who it is.
    pub id: NodeId,
    /// Where its peer port is.
    pub addr: SocketAddr,
    /// The latest generation in which it has answered on a lane.
    pub generation: AtomicU64,
    /// What logs call it.
    name: Mutex<String>,
    /// Its replica lanes, one a worker of ours.
    pub lanes: Vec<Lane>,
    /// What it has missed.
    pub hints: Hints,
    /// Whether it may lack what nobody is about to tell it.
    pub lacks: Lacks,
    /// As in [`Peers`].
    pub losses: Losses,
    /// What it has promised.
    pub granted: Granted,
    /// Whether it was told that it is fit.
    told: Told,
    /// As in [`Peers`].
    doubts: Arc<AtomicU64>,
    /// When it has said last that it is at work.
    at_work: Mutex<Option<std::time::Instant>>,
    /// Told when the peer becomes usable or stops being so.
    changed: Arc<Notify>,
    is_retired: AtomicBool,
    has_left: AtomicBool,
}

impl Peer {
    /// What logs call it; empty before its row is known.
    pub fn name(&self) -> String {
        self.name.lock().clone()
    }

    /// Logs call it so from now on.
    pub fn call(&self, name: String) {
        *self.name.lock() = name;
    }

    /// True when nobody will talk to the peer any more: its lanes are to end.
    pub fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// True when the peer takes no part any more: others have taken its slots over.
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    fn retire(&self) {
        // What it says is not asked for any more.
        self.losses.note();
        self.is_retired.store(true, Ordering::Release);
        self.lanes.iter().for_each(Lane::fail);
    }

    /// True while every lane is open and none is stalled.
    pub fn is_usable(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_open() && !lane.is_stalled())
    }

    /// True while every lane is open.
    pub fn is_connected(&self) -> bool {
        self.lanes.iter().all(Lane::is_open)
    }

    /// True when the peer answers and has been given everything that it had missed.
    pub fn has_caught_up(&self) -> bool {
        self.is_usable() && self.hints.is_empty()
    }

    /// True while the lane of a slot is open.
    pub fn is_reached_for(&self, slot: Slot) -> bool {
        self.lane_of(slot).is_some_and(Lane::is_open)
    }

    /// The peer says that it is at work, though its lanes may be silent.
    pub fn hear_at_work(&self, now: std::time::Instant) {
        *self.at_work.lock() = Some(now);
    }

    /// When it has said so last.
    pub fn at_work(&self) -> Option<std::time::Instant> {
        *self.at_work.lock()
    }

    /// How far the peer is behind: no frame on any of its lanes waits for longer.
    pub fn lag(&self, now: std::time::Instant) -> Duration {
        self.lanes.iter().map(|lane| lane.lag(now)).max().unwrap_or_default()
    }

    /// Whether the peer knows of somebody who may hold older copies than it, as it has said last.
    pub fn knows_of_older(&self) -> bool {
        self.lanes.iter().any(Lane::knows_of_older)
    }

    /// The lane that a slot's traffic takes.
    #[inline]
    pub fn lane_of(&self, slot: Slot) -> Option<&Lane> {
        self.lanes.get(lane_index(slot, self.lanes.len()))
    }

    /// By this view, one after the one before, this node takes the peer for fit to coordinate, or not.
    pub fn judge_fit(&self, is_fit: bool, view: u64) {
        self.told.judge(is_fit, view, |word| self.say(word));
    }

    /// All workers go by this view or a later one.
    pub fn tell_fit(&self, view: u64) {
        self.told.pass(view, |word| self.say(word));
    }

    /// Says on every lane whether the peer is fit; false when one is closed.
    fn say(&self, is_fit: bool) -> bool {
        let lanes = u8::try_from(self.lanes.len()).unwrap_or(u8::MAX);
        let mut is_said = true;
        for lane in &self.lanes {
            is_said &= lane.append(Kind::Trust, |out| Word { is_fit, lanes }.put(out)).is_some();
            lane.flush();
        }
        is_said
    }

    /// Connects anew: the peer has been told nothing. To be called before the lane is open.
    pub fn forget_told(&self) {
        self.told.forget();
    }

    /// How often this node has been called unfit to coordinate, by whomever.
    #[inline]
    pub fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    /// Bytes kept for the peer on all lanes.
    pub fn queued_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::queued_bytes).sum()
    }

    /// Bytes sent to the peer on all lanes.
    pub fn sent_bytes(&self) -> u64 {
        self.lanes.iter().map(Lane::sent_bytes).sum()
    }

    /// How often a lane's connection was lost.
    pub fn breaks(&self) -> u64 {
        self.lanes.iter().map(Lane::breaks).sum()
    }

    /// Says that a lane has opened or closed.
    pub fn note_change(&self) {
        self.changed.notify_one();
    }
}

/// All peers of this node, by id.
#[derive(Debug)]
pub struct Peers {
    known: Mutex<HashMap<NodeId, Arc<Peer>>>,
    lanes: usize,
    lane_bytes_max: usize,
    trust: Trust,
    doubt: Mutex<Doubt>,
    views: AtomicU64,
    /// How often one that knows what it holds has called this node unfit to coordinate: others may coordinate what it
    /// does.
    doubts: Arc<AtomicU64>,
    /// How often somebody was lost who may not have told everybody what it told this node.
    losses: Losses,
    changed: Arc<Notify>,
}

impl Peers {
    /// No peers yet; each will have this many lanes with this many bytes each.
    pub fn new(lanes: usize, lane_bytes_max: usize) -> Peers {
        Peers {
            known: Mutex::default(),
            lanes,
            lane_bytes_max,
            trust: Trust::default(),
            doubt: Mutex::default(),
            views: AtomicU64::new(0),
            doubts: Arc::default(),
            losses: Losses::default(),
            changed: Arc::new(Notify::new()),
        }
    }

    /// The peer called so at this address; true when it is new and its lanes need their tasks. A peer that has moved is
    /// a new one.
    pub fn get_or_add(&self, id: NodeId, addr: SocketAddr) -> (Arc<Peer>, bool) {
        let mut known = self.known.lock();
        if let Some(peer) = known.get(&id).filter(|peer| peer.addr == addr) {
            return (peer.clone(), false);
        }
        let lanes = (0..self.lanes).map(|_| Lane::new(self.lane_bytes_max)).collect();
        let (hints, losses, granted) = (Hints::default(), self.losses.clone(), Granted::new(self.lanes));
        let (changed, is_retired) = (self.changed.clone(), AtomicBool::new(false));
        let lacks = Lacks::new(losses.clone());
        let told = Told::default();
        let (doubts, name) = (self.doubts.clone(), Mutex::default());
        let peer = Arc::new(Peer {
            id,
            addr,
            generation: AtomicU64::new(0),
            name,
            lanes,
            hints,
            lacks,
            losses,
            granted,
            told,
            doubts,
            at_work: Mutex::default(),
            changed,
            is_retired,
            has_left: AtomicBool::new(false),
        });
        if let Some(moved) = known.insert(id, peer.clone()) {
            moved.retire();
        }
        (peer, true)
    }

    /// Lets go of peers that take no part any more, with what was kept for them.
    pub fn retain(&self, takes_part: impl Fn(&NodeId) -> bool) {
        self.known.lock().retain(|id, peer| {
            let keep = takes_part(id);
            if !keep {
                peer.has_left.store(true, Ordering::Release);
                peer.retire();
            }
            keep
        });
    }

    /// The peer called so.
    pub fn get(&self, id: &NodeId) -> Option<Arc<Peer>> {
        self.known.lock().get(id).cloned()
    }

    /// Everybody.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.known.lock().values().cloned().collect()
    }

    /// The number of the next view: greater than that of any before, and than 0, which no view that is shown has.
    pub fn next_view_number(&self) -> u64 {
        self.views.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A node's lane has connected, and will say what the node takes this one for.
    pub fn meet(&self, node: NodeId, generation: u64, lane: u8) -> Speaker {
        let speaker = self.trust.meet(node, generation, lane);
        // What an earlier generation has said is over.
        self.changed.notify_one();
        speaker
    }

    /// Notes what a node says that it takes this one for, `None` when the connection has ended. Its word counts if it
    /// knows what it holds (`is_warm`).
    pub fn hear_trust(&self, speaker: Speaker, word: Option<Word>, is_warm: bool) {
        match word {
            Some(word) => self.trust.hear(speaker, word),
            None => {
                self.losses.note();
                self.trust.forget(speaker);
            }
        }
        // Behind the word: who collects words now either finds it or has its judgement undone.
        if is_warm && word.is_some_and(|word| !word.is_fit) {
            self.doubts.fetch_add(1, Ordering::Relaxed);
            self.doubt.lock().open();
        }
        self.changed.notify_one();
    }

    /// What that node says of this one: that it is fit to coordinate, that it is not, or nothing; `generation` is that
    /// of its row.
    pub fn word_of(&self, node: &NodeId, generation: u64) -> Option<bool> {
        self.trust.word_of(node, generation)
    }

    /// True when this node may coordinate, which is `able` to as far as it knows, by what those say that it reaches.
    /// They are asked while nobody else can open the doubt.
    pub fn may_coordinate(&self, me: NodeId, able: bool, opinions: impl FnOnce() -> Vec<Opinion>) -> bool {
        let mut doubt = self.doubt.lock();
        doubt.may_coordinate(me, able, &opinions(), Instant::now())
    }

    /// How often this node has been called unfit to coordinate, by whomever.
    pub fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    /// When this node stops waiting for others to say so, if it waits.
    pub fn waits_until(&self) -> Option<Instant> {
        self.doubt.lock().waits_until(Instant::now())
    }

    /// Resolves when some peer has become usable or stopped being so, or has said what it takes this node for.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
impl Peer {
    /// For tests: peers with one lane each, which is open.
    pub fn reached<const N: usize>() -> [Arc<Peer>; N] {
        Peers::new(1, 1 << 20).reach()
    }
}

#[cfg(test)]
impl Peers {
    /// For tests: so many new peers, whose first lanes are open.
    pub fn reach<const N: usize>(&self) -> [Arc<Peer>; N] {
        std::array::from_fn(|at| {
            let (peer, _) = self.get_or_add(NodeId::random(), ([127, 0, 0, 1], at as u16 + 1).into());
            peer.lanes[0].open();
            peer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_ends_leaves_all_peers_lacking_what_came_by_it() {
        let peers = Peers::new(1, 1 << 20);
        let ids = [NodeId::random(), NodeId::random()];
        let all = ids.map(|id| peers.get_or_add(id, ([127, 0, 0, 1], 1).into()).0);
        let lack = || all.each_ref().map(|peer| peer.lacks.may_lack(1));
        let compare = || all.iter().for_each(|peer| peer.lacks.make_up(peer.lacks.noted(), 0));
        let speaker = peers.meet(ids[0], 1, 0);
        peers.hear_trust(speaker, Some(Word { is_fit: true, lanes: 1 }), true);
        assert_eq!(lack(), [false; 2]);
        peers.hear_trust(speaker, None, true);
        assert_eq!(lack(), [true; 2]);
        compare();
        assert_eq!(lack(), [false; 2]);
        peers.retain(|id| *id == ids[1]);
        assert_eq!(lack(), [true; 2], "nobody asks any more what it says");
        compare();
        peers.get_or_add(ids[1], ([127, 0, 0, 1], 2).into());
        assert_eq!(lack(), [true; 2], "it has moved");
    }
}
