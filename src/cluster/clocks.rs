//! How far the other nodes' clocks are from this one's, and how long a message takes there and back.
//!
//! As NTP does (Mills, RFC 5905): ask for the time, take the middle of the round trip for the moment of the answer, and
//! of the last few answers believe the one with the shortest round trip, because it can be wrong by the least. Answers
//! that the newest contradicts by more than either can be wrong are from before one of the two clocks was set, and are
//! forgotten.
//!
//! Measured, shown, and allowed for where other nodes' stamps are compared with our clock (`stability`, `shed`). What
//! refuses a stamp is the stamp itself (`base::clock`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::clock::wall_us;
use crate::base::ids::NodeId;
use crate::cluster::Cluster;
use crate::cluster::stability::lead_ms;
use crate::membership::Liveness;
use crate::peer::control::{ControlError, ControlLink, Request, Response};

/// Between two questions to one node.
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(2);
/// Answers that are remembered.
const SAMPLES: usize = 8;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// So far two clocks drift apart, and are slewed, while answers are remembered, and far more.
const DRIFT_US_MAX: u64 = 50_000;

/// What one answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerClock {
    /// How long the question and its answer took.
    pub round_trip: Duration,
    /// How far the other clock is ahead, in microseconds; negative when behind. Wrong by half the round trip at most.
    pub ahead_us: i64,
}

/// The last answers of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(VecDeque<PeerClock>);

impl Samples {
    fn note(&mut self, sample: PeerClock) {
        self.0.retain(|before| before.agrees_with(&sample));
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    pub(super) fn best(&self) -> Option<PeerClock> {
        self.0.iter().min_by_key(|sample| sample.round_trip).copied()
    }
}

impl PeerClock {
    /// The answer `theirs_us` to a question sent at `sent_us`, which took `round_trip`.
    fn of(sent_us: u64, round_trip: Duration, theirs_us: u64) -> PeerClock {
        let middle_us = sent_us.saturating_add(round_trip.as_micros() as u64 / 2);
        PeerClock { round_trip, ahead_us: theirs_us.wrapping_sub(middle_us).cast_signed() }
    }

    /// Whether both can be right of two clocks that nobody has set in between.
    fn agrees_with(&self, other: &PeerClock) -> bool {
        let wrong_by = (self.round_trip + other.round_trip).as_micros() as u64 / 2;
        self.ahead_us.abs_diff(other.ahead_us) <= wrong_by.saturating_add(DRIFT_US_MAX)
    }
}

impl Cluster {
    /// How far our clock is ahead of the one that is furthest behind, of the members that are there, in milliseconds. A
    /// clock that is further behind than deletions are remembered does not count: nothing could be forgotten for its
    /// sake.
    pub(super) fn lead_ms(&self) -> u64 {
        let topology = self.topology();
        let is_there = |id: &NodeId| topology.liveness(id) != Liveness::Down;
        let clocks = self.clocks.lock();
        let lead_ms = lead_ms(clocks.iter().filter(|(id, _)| is_there(id)).map(|(_, clock)| clock.ahead_us));
        lead_ms.min(self.tombstone_horizon().as_millis() as u64)
    }

    /// Asks one node for its time and remembers the answer.
    pub(super) async fn ask_time(&self, link: &ControlLink, samples: &mut Samples) -> Result<(), ControlError> {
        let (sent_us, sent) = (wall_us(), Instant::now());
        match link.ask(&Request::Time, ANSWER_TIMEOUT).await? {
            Response::Time(theirs_us) => samples.note(PeerClock::of(sent_us, sent.elapsed(), theirs_us)),
            _ => return Err(crate::base::wire::WireError.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_trip_of_the_last_few_is_believed() {
        let mut samples = Samples::default();
        assert_eq!(samples.best(), None);
        let exact = PeerClock::of(1_000_000, Duration::from_micros(200), 1_000_600);
        assert_eq!(exact.ahead_us, 500);
        samples.note(exact);
        samples.note(PeerClock::of(2_000_000, Duration::from_millis(900), 2_899_000));
        assert_eq!(samples.best(), Some(exact));
        let drifted = PeerClock::of(5_000_000, Duration::from_micros(300), 4_980_000);
        assert_eq!(drifted.ahead_us, -20_150);
        (1..SAMPLES).for_each(|_| samples.note(drifted));
        assert_eq!(samples.best(), Some(drifted), "what is old is forgotten");
    }

    #[test]
    fn what_was_measured_before_a_clock_was_set_is_forgotten_at_once() {
        let mut samples = Samples::default();
        samples.note(PeerClock::of(1_000_000, Duration::from_micros(200), 6_000_600));
        let rough = PeerClock::of(2_000_000, Duration::from_millis(900), 7_800_000);
        samples.note(rough);
        assert_eq!(samples.best().map(|clock| clock.ahead_us), Some(5_000_500), "it may be as wrong as that");
        let set = PeerClock::of(3_000_000, Duration::from_millis(10), 3_005_000);
        samples.note(set);
        assert_eq!(samples.best(), Some(set));
        (0..SAMPLES).for_each(|_| samples.note(PeerClock { ahead_us: 60_000_000, ..set }));
        samples.note(set);
        assert_eq!(samples.best(), Some(set), "and set back");
    }
}
