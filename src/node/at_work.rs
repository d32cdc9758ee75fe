//! Workers that are at work for long: a transaction of a million requests, a value of many megabytes. They acknowledge
//! nothing meanwhile, and peers would take the node for stopped and its slots over. So gossip says for them that they
//! are, and their lanes' judges are told what peers say.
//!
//! Gossip has a thread of its own, which waits for no slot that a worker has locked, as the main thread may have to. It
//! is silent itself when the process is stopped. How long it speaks for a worker is for `Pulse` to say.

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::{Builder, Handle};

use crate::base::ids::NodeId;
use crate::membership::AtWork;
use crate::peer::registry::Peers;
use crate::server::worker::Shared;

/// What gossip is told, and tells.
pub struct Signs {
    /// The workers.
    pub shared: Arc<Shared>,
    /// Who else may be at work.
    pub peers: Arc<Peers>,
}

impl AtWork for Signs {
    fn is_to_be_said(&self) -> bool {
        let is_to_be_said = self.shared.pulse.is_to_be_said();
        if is_to_be_said {
            self.shared.pulse.note_said();
        }
        is_to_be_said
    }

    fn hear(&self, id: NodeId) {
        if let Some(peer) = self.peers.get(&id) {
            peer.hear_at_work(Instant::now());
        }
    }
}

/// Starts the thread of gossip.
pub fn start_thread() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let forever = std::future::pending::<()>();
    std::thread::Builder::new().name("gossip".to_owned()).spawn(move || runtime.block_on(forever))?;
    Ok(handle)
}
