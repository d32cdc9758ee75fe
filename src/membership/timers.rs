//! Deadlines in order, and the rule for a node that slept through them.
//!
//! SWIM turns silence into blame: when a deadline passes without an answer, somebody is suspected. But a process that
//! was stopped (SIGSTOP, a paused machine, a starved core) finds all its deadlines passed and the answers unread. So
//! time in which this node did not run does not count: [`Timers::forgive`] moves every deadline by as much as the
//! earliest was missed by, and a little more to read what has arrived. This is what Lifeguard (Dadgar, Phillips,
//! Currey, 2018) calls local health, in its simplest form.
//!
//! Holds no clock: the time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Events that wait for their time; those of one moment come in the order in which they were pushed.
#[derive(Debug)]
pub(super) struct Timers<E> {
    /// By deadline, then by number.
    events: BTreeMap<(Instant, u64), E>,
    pushed: u64,
}

impl<E> Timers<E> {
    /// No events.
    pub(super) fn new() -> Timers<E> {
        Timers { events: BTreeMap::new(), pushed: 0 }
    }

    /// Adds an event that is due at `deadline`.
    pub(super) fn push(&mut self, deadline: Instant, event: E) {
        self.pushed += 1;
        self.events.insert((deadline, self.pushed), event);
    }

    /// When the next event is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// The next event, if it is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<E> {
        if self.next_deadline()? > now {
            return None;
        }
        self.events.pop_first().map(|(_, event)| event)
    }

    /// By how much the earliest deadline has been missed.
    pub(super) fn late(&self, now: Instant) -> Duration {
        self.next_deadline().map_or(Duration::ZERO, |deadline| now.saturating_duration_since(deadline))
    }

    /// Moves every deadline, so that the earliest is due `grace` from now.
    pub(super) fn forgive(&mut self, now: Instant, grace: Duration) {
        let by = self.late(now) + grace;
        let events = std::mem::take(&mut self.events);
        self.events = events.into_iter().map(|((deadline, turn), event)| ((deadline + by, turn), event)).collect();
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_deadline_and_then_by_turn() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new();
        for (deadline, event) in [(20, 'c'), (10, 'a'), (10, 'b'), (30, 'd')] {
            timers.push(ms(deadline), event);
        }
        assert_eq!(timers.pop(ms(9)), None);
        let due: Vec<char> = std::iter::from_fn(|| timers.pop(ms(25))).collect();
        assert_eq!((due, timers.len()), (vec!['a', 'b', 'c'], 1));
    }

    #[test]
    fn time_asleep_does_not_count() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new();
        timers.push(ms(100), "answer");
        timers.push(ms(2_000), "verdict");
        // Asleep from 50 to 30,000 ms.
        assert_eq!(timers.late(ms(30_000)), Duration::from_millis(29_900));
        timers.forgive(ms(30_000), Duration::from_millis(500));
        assert_eq!(timers.pop(ms(30_499)), None);
        assert_eq!(timers.pop(ms(30_500)), Some("answer"));
        timers.push(ms(30_600), "next");
        assert_eq!(timers.pop(ms(30_600)), Some("next"));
        assert_eq!(timers.next_deadline(), Some(ms(32_400)));
    }
}
