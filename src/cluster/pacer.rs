//! The pace of work beside that for clients: a share of one core at most, and less while others are kept waiting.
//!
//! Foreground work is felt by how late a sleep ends: whoever wakes long after the time that was asked for shares the
//! processor with somebody who needs it more.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How much rest a kind of work takes, for each unit of work.
#[derive(Debug)]
struct Share {
    rest: u32,
    /// While others are kept waiting.
    rest_late: u32,
    /// A sleep that ends so much later than asked for tells of others who wait.
    late: Duration,
}

/// What nobody waits for: a tenth of one core at most.
const BACKGROUND: Share = Share { rest: 9, rest_late: 49, late: Duration::from_millis(8) };
/// What another node waits for, to be whole again: as fast as it goes while nobody else is kept waiting.
const TRANSFER: Share = Share { rest: 0, rest_late: 9, late: Duration::from_millis(3) };
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(500);

impl Share {
    /// How long to rest after having worked for so long, the last rest having ended so late.
    fn rest_after(&self, worked: Duration, late: Duration) -> Duration {
        let factor = if late > self.late { self.rest_late } else { self.rest };
        (worked * factor).clamp(REST_MIN, REST_MAX)
    }
}

/// One strand of work beside that for clients.
#[derive(Debug)]
pub struct Pacer {
    share: &'static Share,
    since: Instant,
    late: Duration,
}

impl Pacer {
    /// Work that nobody waits for begins now.
    pub fn begin() -> Pacer {
        Pacer { share: &BACKGROUND, since: Instant::now(), late: Duration::ZERO }
    }

    /// Giving another node what it lacks begins now.
    pub fn of_transfer() -> Pacer {
        Pacer { share: &TRANSFER, ..Pacer::begin() }
    }

    /// How long has been worked since the last rest. Time spent waiting for another node is no work: note it before.
    pub fn worked(&self) -> Duration {
        self.since.elapsed()
    }

    /// Rests as the work since the last rest asks for.
    pub async fn rest(&mut self) {
        self.rest_for(self.worked()).await;
    }

    /// Rests as so much work asks for.
    pub async fn rest_for(&mut self, worked: Duration) {
        let rest = self.share.rest_after(worked, self.late);
        let began = Instant::now();
        sleep(rest).await;
        self.late = began.elapsed().saturating_sub(rest);
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_in_proportion_bounded_and_longer_when_others_wait() {
        let ms = Duration::from_millis;
        assert_eq!((BACKGROUND.rest_after(ms(2), ms(0)), BACKGROUND.rest_after(ms(2), ms(20))), (ms(18), ms(98)));
        assert_eq!((TRANSFER.rest_after(ms(2), ms(0)), TRANSFER.rest_after(ms(2), ms(20))), (REST_MIN, ms(18)));
        assert_eq!((BACKGROUND.rest_after(ms(0), ms(0)), BACKGROUND.rest_after(ms(900), ms(0))), (REST_MIN, REST_MAX));
    }
}
