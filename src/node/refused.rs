//! Peers that were refused, told to whoever reads the log: seldom, since a wrong node dials again and again, for ever.
//!
//! Told is what somebody has to mend: another secret, another cluster, another version, this node's own id. Connections that
//! break or say nothing (probes of ports) and dialled addresses that have passed to another node are not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::metrics::{Count, Registry};
use crate::peer::handshake::HandshakeError;

/// Between two lines.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// When the last line was written, and how many refusals none was written of since.
#[derive(Debug, Default)]
pub struct Refused(Mutex<(Option<Instant>, u64)>);

impl Refused {
    /// Counts the refusal of whoever came from `addr`, and tells of it if nothing was told lately.
    pub fn note(&self, addr: Option<SocketAddr>, error: &HandshakeError, metrics: &Registry) {
        let Some(advice) = advice(error) else {
            tracing::debug!(%error, "a connection to the peer port was refused");
            return;
        };
        metrics.count(Count::PeersRefused, 1);
        if let Some(untold) = self.tells(Instant::now()) {
            let from = addr.map(|addr| addr.ip().to_string()).unwrap_or_default();
            tracing::warn!(from, reason = %error, untold, advice, "refused a connection to the peer-port");
        }
    }

    /// How many refusals are untold, when it is time to tell of one.
    fn tells(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.0.is_some_and(|told| now.duration_since(told) < TELL_INTERVAL) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

/// What to do about a refusal; none for one that nobody has to do anything about.
fn advice(error: &HandshakeError) -> Option<&'static str> {
    match error {
        HandshakeError::WrongSecret => Some("if it belongs here, give it this cluster's cluster-secret"),
        HandshakeError::WrongCluster(_) => Some("if it belongs here, give it this cluster's cluster-name"),
        HandshakeError::NotRondo => Some("if it is a node, run one version on all; clients go to port or cluster-port"),
        HandshakeError::Twin { .. } => Some("give each node a node-name and a data-dir of its own"),
        HandshakeError::Io(_)
        | HandshakeError::HungUp
        | HandshakeError::Ourselves
        | HandshakeError::OtherNode { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_in_ten_seconds_is_told_and_the_others_are_counted() {
        let (refused, start) = (Refused::default(), Instant::now());
        let told = |seconds| refused.tells(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 9, 10, 11, 25].map(told), [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
