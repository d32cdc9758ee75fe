//! Open files: room for `maxclients` beside what the node needs itself.
//!
//! At the start the soft limit (`ulimit -n`) is raised so far that clients, other nodes, admin requests and files fit;
//! where the hard limit does not allow it, `maxclients` is lowered, and the log says so, as redis-server does. CONFIG
//! SET of a larger `maxclients` raises the limit again, or is refused. So clients alone can never use up what other
//! nodes and the admin port need: they are refused at `maxclients`.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::config::{Config, Settings, Value};
use crate::node::listen::HANDSHAKES_MAX;
use crate::server::admin::CONNECTIONS_MAX;

/// Listeners, event loops, the log, clients that are just being refused, admin requests, and strangers.
const OWN_FILES: u64 = 64 + CONNECTIONS_MAX as u64 + HANDSHAKES_MAX as u64;
/// Of a worker's event loop.
const FILES_PER_WORKER: u64 = 4;
/// As many other nodes are reckoned with.
const PEERS: u64 = 16;

/// Raises the limit for the options in force, or lowers `maxclients`, and has CONFIG SET do the like.
pub fn make_room(config: &Arc<Config>) {
    let settings = config.settings();
    let needed = Needed::of(&settings);
    let limit = raise_to(needed.total());
    if limit < needed.total() {
        let clients = needed.clients_within(limit);
        tracing::warn!(
            requested = needed.clients,
            maxclients = clients,
            needed = needed.total(),
            limit,
            "maxclients has been reduced to compensate for a low limit of open files: to serve more, raise 'ulimit -n' \
             (LimitNOFILE of a systemd unit)"
        );
        config.correct("maxclients", Value::Int(i64::try_from(clients).unwrap_or(i64::MAX)));
    }
    config.on_check("maxclients", |settings| {
        let needed = Needed::of(settings);
        needed.check(raise_to(needed.total()))
    });
}

/// What has to fit.
#[derive(Clone, Copy, Debug)]
struct Needed {
    clients: u64,
    reserve: u64,
}

impl Needed {
    fn of(settings: &Settings) -> Needed {
        let workers = settings.workers as u64;
        // Each of two nodes has a lane and a forward link a worker to the other, one for control and one to publish.
        let per_peer = 2 * (2 * workers + 2);
        let reserve = OWN_FILES + FILES_PER_WORKER * workers + PEERS * per_peer;
        Needed { clients: settings.maxclients as u64, reserve }
    }

    fn total(&self) -> u64 {
        self.clients.saturating_add(self.reserve)
    }

    /// How many clients fit: the node itself takes no more than half of a limit, so that some always do.
    fn clients_within(&self, limit: u64) -> u64 {
        (limit - self.reserve.min(limit / 2)).clamp(1, self.clients)
    }

    /// Whether all fit within `limit`; Redis's words if not.
    fn check(&self, limit: u64) -> Result<(), String> {
        let clients = self.clients_within(limit);
        if clients == self.clients {
            return Ok(());
        }
        Err(format!("The operating system is not able to handle the specified number of clients, try with {clients}"))
    }
}

/// Raises the limit of open files to `wanted`, or as far as the hard limit lets it; what it is then.
fn raise_to(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let soft = now.current.unwrap_or(u64::MAX);
    let within = now.maximum.map_or(wanted, |hard| hard.min(wanted));
    if soft >= within {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(within), maximum: now.maximum }) {
        Ok(()) => within,
        Err(error) => {
            tracing::warn!(%error, wanted = within, "the limit of open files cannot be raised");
            soft
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_reserve_leaves_of_the_limit() {
        let needed = Needed { clients: 10_000, reserve: 300 };
        assert_eq!(needed.total(), 10_300);
        assert_eq!(
            [10_300, 20_000, 1_024, 400, 1].map(|limit| needed.clients_within(limit)),
            [10_000, 10_000, 724, 200, 1]
        );
        let text = "The operating system is not able to handle the specified number of clients, try with 724";
        assert_eq!(needed.check(1_024), Err(text.to_owned()));
        assert_eq!(needed.check(10_300), Ok(()));
        // What was lowered once may be set again.
        assert_eq!(Needed { clients: 724, ..needed }.check(1_024), Ok(()));
    }
}
