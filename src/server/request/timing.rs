//! Timing on the request path: see `tally` for what is timed apart, and `slow_log` for what is kept of it.

use std::time::{Duration, Instant};

use crate::base::clock::wall_us;
use crate::commands::spec::{Command, flag};
use crate::protocol::Args;
use crate::server::batch::scanned::scanned;
use crate::server::figures::slow_log::{Sender, SlowLog};
use crate::server::figures::tally::is_apart;
use crate::server::request::run::{Origin, Run};
use crate::server::state::client::Client;
use crate::server::worker::Worker;

/// What takes as long holds up the requests behind it: peers' patience is several times that.
const HELD_UP_MIN: Duration = Duration::from_millis(5);

impl Run<'_> {
    /// Looks at the clock if the command has to be timed apart.
    #[inline]
    pub fn timer(&self, command: usize, request_bytes: usize) -> Option<Instant> {
        is_apart(command, request_bytes, self.worker.shared.node.slow_log.limit_us()).then(Instant::now)
    }

    /// Counts a command that has run; `began` is what its timer said. One that runs again is counted already, but may
    /// take long only now.
    #[inline]
    pub fn count_run(&self, index: usize, command: &Command, args: Args<'_>, began: Option<Instant>) {
        match began {
            None if self.origin == Origin::Again => {}
            None => self.worker.tally.count(index),
            Some(began) => self.count_apart(index, command, args, began.elapsed()),
        }
    }

    fn count_apart(&self, index: usize, command: &Command, args: Args<'_>, took: Duration) {
        let runs = u64::from(self.origin != Origin::Again);
        self.worker.tally.count_apart(index, runs, took, &self.worker.metrics);
        if took >= HELD_UP_MIN {
            self.worker.held_up.set(true);
        }
        let (log, us) = (&self.worker.shared.node.slow_log, took.as_micros() as u64);
        if log.is_slow(us) && !command.has(flag::SKIP_SLOWLOG) {
            note(log, args, 0, us, self.now_us / 1_000, self.client);
        }
    }
}

/// Counts a batch of requests that `took` so long. If those that were not timed apart took long together, the first of
/// them is noted, and how many more there were.
pub fn end_turn(worker: &Worker, input: &[u8], took: Duration, client: &Client) {
    let (share, log) = (worker.count_turn(took), &worker.shared.node.slow_log);
    if share.commands != 0
        && log.is_slow(share.us)
        && let Ok(scanner) = scanned(input)
    {
        note(log, scanner.args(input), share.commands - 1, share.us, wall_us() / 1_000, client);
    }
}

fn note(log: &SlowLog, args: Args<'_>, more: u64, us: u64, now_ms: u64, client: &Client) {
    let names = client.names();
    log.note(args, more, us, now_ms, Sender { addr: client.addr, name: &names.name });
}
