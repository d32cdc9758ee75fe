//! The pace of background work: a share of one core at most, and less while others are kept waiting.
//!
//! Foreground work is felt by how late a sleep ends: whoever wakes long after the time that was asked for shares the
//! processor with somebody who needs it more.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Rest for each unit of work: a tenth of one core at most.
const REST_FACTOR: u32 = 9;
/// Rest for each unit of work while others are kept waiting.
const REST_FACTOR_LATE: u32 = 49;
/// A sleep that ends so much later than asked for tells of others who wait.
const LATE: Duration = Duration::from_millis(8);
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(500);

/// How long to rest after having worked for so long, the last rest having ended so late.
fn rest_after(worked: Duration, late: Duration) -> Duration {
    let factor = if late > LATE { REST_FACTOR_LATE } else { REST_FACTOR };
    (worked * factor).clamp(REST_MIN, REST_MAX)
}

/// One strand of background work.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    late: Duration,
}

impl Pace {
    /// Work begins now.
    pub fn begin() -> Pace {
        Pace { since: Instant::now(), late: Duration::ZERO }
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
        let rest = rest_after(worked, self.late);
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
        assert_eq!(rest_after(ms(2), ms(0)), ms(18));
        assert_eq!(rest_after(ms(2), ms(20)), ms(98));
        assert_eq!((rest_after(ms(0), ms(0)), rest_after(ms(900), ms(0))), (REST_MIN, REST_MAX));
    }
}
