//! What a worker's thread is given to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::ids::Slot;
use crate::base::net::DetachedTcpStream;
use crate::peer::handshake::Hello;
use crate::peer::passing::Passing;
use crate::peer::registry::Peer;
use crate::replication::replica::Host;
use crate::server::state::clients::Registration;
use crate::store::entry::Entry;

/// What a worker may be given.
pub enum Work {
    /// A client on one of the faces.
    Client { stream: DetachedTcpStream, registration: Registration, cluster_face: bool, load: Load },
    /// A peer's replica lane.
    Replica { stream: DetachedTcpStream, hello: Hello, host: Arc<dyn Host> },
    /// A peer's forward link.
    Forward { stream: DetachedTcpStream, hello: Hello, registration: Registration, load: Load },
    /// A lane of ours to keep open.
    Lane { peer: Arc<Peer>, index: usize },
    /// The view has changed: go by it, and open links that are missing.
    View(Arc<Handout>),
    /// Entries that have left the store: their memory is to be given back.
    Free(Vec<Entry>),
    /// What was freed is to be given back to the system (`memory`).
    Trim,
    /// What is freed of the memory that the worker has allocated is to be had by others (`memory`).
    HandOn,
}

/// A view on its way to all workers, and what follows when all have it.
pub struct Handout {
    /// Who has it.
    pub passing: Passing,
    /// Slots that are settled by then, since other nodes coordinate them.
    pub left: Vec<(Slot, u32)>,
}

/// A connection that counts for its worker until this is dropped.
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// One more for the worker that counts so.
    pub fn on(count: &Arc<AtomicUsize>) -> Load {
        count.fetch_add(1, Ordering::Relaxed);
        Load(count.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
