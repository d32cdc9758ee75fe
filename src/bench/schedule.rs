//! When a connection's operations are meant to start: pure arithmetic, no clock of its own.
//!
//! **Open loop.** The whole load starts operation `k` at `k / rate` seconds, whatever the server does; connection `c`
//! of `n` gets operations `c`, `c + n`, `c + 2n` ... Latency is counted from that intended start, so a server that
//! stalls is charged for every operation that should have run meanwhile (Tene, "How NOT to Measure Latency", 2013:
//! coordinated omission). A connection holds at most a pipeline of unanswered operations; what is due beyond that waits
//! in the schedule, and its waiting counts.
//!
//! **Closed loop.** Send a pipeline, wait for all its replies, send the next: the server sets the pace, and the
//! latency is that of the pipeline.
//!
//! In both, an operation that was not run where it was sent may be sent again ([`Flow::send_again`]): before all
//! others, and counted from its first start.
//!
//! Times are nanoseconds since the load began.

use std::collections::VecDeque;

const SECOND_NS: u128 = 1_000_000_000;

/// The intended starts of one connection's operations in an open loop.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Schedule {
    /// Operations per 1,000 seconds of the whole load, so that slow rates need no fractions.
    rate_per_1000_s: u128,
    connection: u128,
    connections: u128,
}

impl Schedule {
    /// The share of connection `connection` (0-based) of `connections` in a load of `rate` operations a second.
    pub fn new(rate: f64, connection: usize, connections: usize) -> Schedule {
        Schedule {
            rate_per_1000_s: ((rate * 1_000.0) as u128).max(1),
            connection: connection as u128,
            connections: connections.max(1) as u128,
        }
    }

    /// When this connection's operation number `operation` should start.
    pub fn start_ns(&self, operation: u64) -> u64 {
        let of_load = self.connection + u128::from(operation) * self.connections;
        u64::try_from(of_load * SECOND_NS * 1_000 / self.rate_per_1000_s).unwrap_or(u64::MAX)
    }

    /// How many of this connection's operations should have started by `now_ns`.
    pub fn due(&self, now_ns: u64) -> u64 {
        // Operation k of the load starts at floor(k * 10^12 / rate), so it has started when k < (now + 1) * rate /
        // 10^12.
        let of_load = ((u128::from(now_ns) + 1) * self.rate_per_1000_s).div_ceil(SECOND_NS * 1_000);
        let of_connection = (of_load.saturating_sub(self.connection)).div_ceil(self.connections);
        u64::try_from(of_connection).unwrap_or(u64::MAX)
    }
}

/// What one connection has sent and what has been answered, and so what it may send now.
#[derive(Clone, Debug)]
pub struct Flow {
    schedule: Option<Schedule>,
    pipeline: usize,
    /// Operations of the schedule that were sent, or given up.
    begun: u64,
    /// When those that wait for their replies should have started, the oldest first; a pipeline at most.
    unanswered: VecDeque<u64>,
    /// When those that are to be sent again should have started; a pipeline at most.
    again: VecDeque<u64>,
    waiting_since_ns: u64,
}

impl Flow {
    /// An open loop with a schedule, a closed one without.
    pub fn new(schedule: Option<Schedule>, pipeline: usize) -> Flow {
        let (unanswered, again) = (VecDeque::new(), VecDeque::new());
        Flow { schedule, pipeline: pipeline.max(1), begun: 0, unanswered, again, waiting_since_ns: 0 }
    }

    /// How many operations to send at `now_ns`, those again that have to be among them.
    pub fn sendable(&self, now_ns: u64) -> usize {
        let room = self.pipeline.saturating_sub(self.unanswered());
        match &self.schedule {
            None if self.unanswered() > 0 => 0,
            None => self.pipeline,
            Some(_) => usize::try_from(self.owed(now_ns)).map_or(room, |owed| owed.min(room)),
        }
    }

    /// How many operations wait to be sent again.
    pub fn to_send_again(&self) -> usize {
        self.again.len()
    }

    /// When the next operation will be due, if time is what it waits for.
    pub fn next_start_ns(&self) -> Option<u64> {
        let schedule = self.schedule.filter(|_| self.unanswered() < self.pipeline)?;
        Some(self.again.front().copied().unwrap_or_else(|| schedule.start_ns(self.begun)))
    }

    /// Notes that `count` operations were sent at `now_ns`.
    pub fn sent(&mut self, count: usize, now_ns: u64) {
        if self.unanswered.is_empty() {
            self.waiting_since_ns = now_ns;
        }
        for _ in 0..count {
            let start_ns = self.again.pop_front().unwrap_or_else(|| self.begin(now_ns));
            self.unanswered.push_back(start_ns);
        }
    }

    /// Begins the next operation: when it should have started.
    fn begin(&mut self, now_ns: u64) -> u64 {
        self.begun += 1;
        self.schedule.map_or(now_ns, |schedule| schedule.start_ns(self.begun - 1))
    }

    /// How many operations wait for their replies.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// How many operations should have started by `now_ns` and are not sent; in a closed loop those to be sent again.
    pub fn owed(&self, now_ns: u64) -> u64 {
        let due = self.schedule.map_or(0, |schedule| schedule.due(now_ns).saturating_sub(self.begun));
        due + self.again.len() as u64
    }

    /// Settles the oldest unanswered operation, by a reply or by giving it up: when it should have started.
    /// `None` when nothing is unanswered.
    pub fn settle(&mut self) -> Option<u64> {
        self.unanswered.pop_front()
    }

    /// Has an operation that was just settled, and not run, be sent once more.
    pub fn send_again(&mut self, start_ns: u64) {
        self.again.push_back(start_ns);
    }

    /// Gives up the oldest operation that is owed but was never run: when it should have started.
    pub fn settle_owed(&mut self, now_ns: u64) -> Option<u64> {
        if !self.unanswered.is_empty() || self.owed(now_ns) == 0 {
            return None;
        }
        Some(self.again.pop_front().unwrap_or_else(|| self.begin(now_ns)))
    }

    /// Since when there has always been an unanswered operation.
    pub fn waiting_since_ns(&self) -> u64 {
        self.waiting_since_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_exactly_from_their_start() {
        for (rate, connections) in [(1.0, 1), (3.0, 2), (333.0, 7), (99_999.5, 50), (7e6, 3)] {
            for connection in 0..connections {
                let schedule = Schedule::new(rate, connection, connections);
                for operation in [0, 1, 2, 1_000, 123_457] {
                    let start = schedule.start_ns(operation);
                    assert!(schedule.due(start) > operation, "{rate} {connection} {operation}");
                    assert!(start == 0 || schedule.due(start - 1) <= operation, "{rate} {connection} {operation}");
                }
            }
        }
    }

    #[test]
    fn connections_share_the_rate_and_take_turns() {
        let due: u64 = (0..50).map(|connection| Schedule::new(1_000.0, connection, 50).due(999_999_999)).sum();
        assert_eq!(due, 1_000);
        assert_eq!(Schedule::new(1_000.0, 3, 50).start_ns(0), 3_000_000);
        assert_eq!(Schedule::new(1_000.0, 3, 50).start_ns(1), 53_000_000);
    }

    #[test]
    fn an_open_loop_goes_on_while_the_server_is_silent() {
        let mut flow = Flow::new(Some(Schedule::new(1_000.0, 0, 1)), 4);
        assert_eq!(flow.sendable(0), 1);
        flow.sent(1, 0);
        assert_eq!((flow.sendable(500_000), flow.next_start_ns()), (0, Some(1_000_000)));
        assert_eq!(flow.sendable(200_000_000), 3, "a pipeline at most");
        flow.sent(3, 200_000_000);
        assert_eq!((flow.sendable(200_000_000), flow.next_start_ns()), (0, None));
        let starts: Vec<_> = std::iter::from_fn(|| flow.settle()).collect();
        assert_eq!(starts, [0, 1_000_000, 2_000_000, 3_000_000], "counted from the intended start");
        assert_eq!(flow.sendable(200_000_000), 4, "the backlog is still owed");
        assert_eq!((flow.owed(200_000_000), flow.owed(3_000_000)), (197, 0));
        assert_eq!(flow.settle_owed(200_000_000), Some(4_000_000));
        assert_eq!((flow.owed(200_000_000), flow.unanswered()), (196, 0));
    }

    #[test]
    fn a_closed_loop_waits_for_the_whole_pipeline() {
        let mut flow = Flow::new(None, 3);
        assert_eq!(flow.sendable(5), 3);
        flow.sent(3, 5);
        for _ in 0..3 {
            assert_eq!((flow.sendable(9), flow.next_start_ns()), (0, None));
            assert_eq!(flow.settle(), Some(5));
        }
        assert_eq!((flow.settle(), flow.sendable(9)), (None, 3));
    }

    #[test]
    fn what_was_not_run_is_sent_first_and_counted_from_its_first_start() {
        let mut flow = Flow::new(Some(Schedule::new(1_000.0, 0, 1)), 4);
        flow.sent(2, 1_000_000);
        let first = flow.settle().unwrap();
        flow.send_again(first);
        assert_eq!((flow.sendable(1_000_000), flow.next_start_ns(), flow.to_send_again()), (1, Some(0), 1));
        flow.sent(2, 2_000_000);
        assert_eq!(std::iter::from_fn(|| flow.settle()).collect::<Vec<_>>(), [1_000_000, 0, 2_000_000]);
        flow.send_again(0);
        assert_eq!((flow.owed(2_000_000), flow.settle_owed(2_000_000)), (1, Some(0)));
        assert_eq!(flow.settle_owed(2_000_000), None);

        let mut flow = Flow::new(None, 2);
        flow.sent(2, 5);
        let starts = [flow.settle(), flow.settle()];
        flow.send_again(starts[0].unwrap());
        assert_eq!((flow.sendable(9), flow.owed(9)), (2, 1));
        flow.sent(2, 9);
        assert_eq!([flow.settle(), flow.settle()], [Some(5), Some(9)]);
    }
}
