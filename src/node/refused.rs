//! Peers that were refused, told to whoever reads the log: seldom, since a wrong node dials again and again, for ever.
//!
//! Told is what somebody has to mend: another secret, another cluster, another version, this node's own id. Connections
//! that break or say nothing (probes of ports) and dialled addresses that have passed to another node are not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::metrics::{Count, Registry};
use crate::base::throttle::Throttle;
use crate::peer::handshake::HandshakeError;

/// Between two lines.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// What is written of them.
#[derive(Debug)]
pub struct Refused(Mutex<Throttle>);

impl Default for Refused {
    fn default() -> Refused {
        Refused(Mutex::new(Throttle::new(TELL_INTERVAL)))
    }
}

impl Refused {
    /// Counts the refusal of whoever came from `addr`, and tells of it if nothing was told lately.
    pub fn note(&self, addr: Option<SocketAddr>, error: &HandshakeError, metrics: &Registry) {
        let Some(advice) = advice(error) else {
            tracing::debug!(%error, "a connection to the peer port was refused");
            return;
        };
        metrics.count(Count::PeersRefused, 1);
        let passes = self.0.lock().pass(Instant::now());
        if let Some(untold) = passes {
            // With its port, by which the process at its other end can be found.
            let from = addr.map(|addr| addr.to_string()).unwrap_or_default();
            tracing::warn!(from, reason = %error, untold, advice, "refused a connection to the peer-port");
        }
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
