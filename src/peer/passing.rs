//! A view on its way to all workers, and what peers are told when it is there (`told`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::peer::registry::Peer;

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
