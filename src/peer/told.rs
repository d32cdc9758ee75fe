//! What a peer is told of its being fit to coordinate (`trust`), and when.
//!
//! That it is not, it is told at once. That it is, only behind all deltas that were sent by views in which it was
//! not: whoever stands in for it still does so in batches that began before the view changed. Batches do not wait
//! for anything, and each worker runs one at a time, so one that takes up other work ([`Passing::pass`]) has none of an
//! earlier view left. When all workers have, the word goes onto the lanes.
//!
//! Invariant: no worker puts a delta behind the word by a view in which the peer was not fit, because a view
//! older than the first of those in a row that take it for fit is with no worker any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::peer::registry::Peer;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Told {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last word on the connections that stand.
    word: Option<bool>,
    /// The first of the views in a row, up to the latest, that take the peer for fit.
    fit_since: Option<u64>,
}

impl Told {
    /// View `view` says whether the peer is fit; has `say` tell it so if it is not and does not know. `say` is
    /// false when there is no connection to say it on.
    pub fn judge(&self, is_fit: bool, view: u64, say: impl FnOnce(bool) -> bool) {
        let mut state = self.state.lock();
        state.fit_since = is_fit.then(|| state.fit_since.unwrap_or(view));
        if !is_fit && state.word != Some(false) {
            state.word = say(false).then_some(false);
        }
    }

    /// No worker goes by a view before `view` any more: has `say` tell the peer that it is fit, if it is since
    /// then and does not know.
    pub fn pass(&self, view: u64, say: impl FnOnce(bool) -> bool) {
        let mut state = self.state.lock();
        if state.fit_since.is_some_and(|since| since <= view) && state.word != Some(true) {
            state.word = say(true).then_some(true);
        }
    }

    /// A connection is made anew: the peer has been told nothing on it, and may have missed something.
    pub fn forget(&self) {
        *self.state.lock() = State::default();
    }
}

/// A view on its way to all workers.
#[derive(Debug)]
pub struct Passing {
    view: u64,
    /// Workers that may still go by an earlier one.
    workers: AtomicUsize,
    peers: Vec<Arc<Peer>>,
}

impl Passing {
    /// Of this view, which has taken the place of the one before, to so many workers.
    pub fn new(view: u64, workers: usize, peers: Vec<Arc<Peer>>) -> Passing {
        Passing { view, workers: AtomicUsize::new(workers), peers }
    }

    /// A worker is between two batches. To be called once by each, for one view after the other. True for the last
    /// one: nobody goes by an earlier view any more.
    pub fn pass(&self) -> bool {
        let is_last = self.workers.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last {
            self.peers.iter().for_each(|peer| peer.tell_fit(self.view));
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::peer::frame::Kind;
    use crate::peer::registry::Peers;

    fn peer_of(workers: usize) -> Arc<Peer> {
        let (peer, _) = Peers::new(workers, 1 << 20).get_or_add(NodeId::random(), ([127, 0, 0, 1], 1).into());
        peer.lanes.iter().for_each(|lane| assert_eq!(lane.open(), 0));
        peer
    }

    /// What is on a peer's lane.
    fn kinds_on(peer: &Peer, lane: usize) -> Vec<Kind> {
        let mut kinds = Vec::new();
        peer.lanes[lane].close(|frame| kinds.push(frame.kind));
        kinds
    }

    #[test]
    fn no_worker_sends_deltas_of_the_old_picture_behind_the_word() {
        let peer = peer_of(2);
        let passing = |view| Passing::new(view, 2, vec![peer.clone()]);
        peer.judge_fit(false, 1);
        let (first, second) = (passing(1), passing(2));
        peer.judge_fit(true, 2);
        assert_eq!([first.pass(), first.pass()], [false, true]);
        second.pass();
        // The other worker is in the middle of a batch by the first view.
        peer.lanes.iter().for_each(|lane| assert!(lane.append(Kind::Delta, |_| {}).is_some()));
        second.pass();
        for lane in 0..2 {
            assert_eq!(kinds_on(&peer, lane), [Kind::Trust, Kind::Delta, Kind::Trust]);
        }
    }

    #[test]
    fn a_word_that_was_overtaken_by_another_picture_or_connection_is_not_said() {
        let peer = peer_of(1);
        let passing = |view| Passing::new(view, 1, vec![peer.clone()]);
        peer.judge_fit(true, 1);
        peer.judge_fit(false, 2);
        passing(1).pass();
        peer.judge_fit(true, 3);
        passing(2).pass();
        assert_eq!(kinds_on(&peer, 0), [Kind::Trust], "it is not fit, and that was all");
        peer.forget_told();
        peer.lanes[0].open();
        passing(3).pass();
        assert_eq!(kinds_on(&peer, 0), [], "what the connection lost was not looked at yet");
    }

    #[test]
    fn nothing_is_said_twice_but_what_was_not_heard() {
        let peer = peer_of(1);
        let say = |view| {
            peer.judge_fit(true, view);
            Passing::new(view, 1, vec![peer.clone()]).pass();
        };
        say(1);
        say(2);
        assert_eq!(kinds_on(&peer, 0), [Kind::Trust]);
        peer.forget_told();
        say(3);
        peer.lanes[0].open();
        say(4);
        assert_eq!(kinds_on(&peer, 0), [Kind::Trust]);
    }
}
