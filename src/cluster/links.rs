//! This node's control connections to others (`peer::control`): one that is kept for each, and new ones for what would
//! hold that up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::config::Settings;
use crate::base::ids::NodeId;
use crate::cluster::identity::Identity;
use crate::peer::control::ControlLink;
use crate::peer::handshake::{Hello, LinkKind};
use crate::ring::Row;

/// See the head of the file.
pub(super) struct Links {
    hello: Hello,
    secret: Arc<[u8]>,
    kept: Mutex<BTreeMap<NodeId, Arc<ControlLink>>>,
}

impl Links {
    /// None yet, of a node with these options.
    pub fn new(settings: &Settings, identity: &Identity) -> Links {
        let (cluster, kind) = (settings.cluster_name.clone(), LinkKind::Control);
        Links {
            hello: Hello { cluster, node: identity.id, generation: identity.generation, kind },
            secret: settings.cluster_secret.as_bytes().into(),
            kept: Mutex::default(),
        }
    }

    /// How this node introduces itself.
    #[cfg(test)]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// A connection to whoever listens there.
    pub fn to_addr(&self, addr: SocketAddr) -> ControlLink {
        ControlLink::new(addr, None, self.hello.clone(), self.secret.clone())
    }

    /// A new connection to this node, for what would hold up the one that is kept.
    pub fn new_to(&self, row: &Row) -> ControlLink {
        ControlLink::new(row.peer_addr, Some(row.id), self.hello.clone(), self.secret.clone())
    }

    /// The connection on which rows and barriers are talked over with this node.
    pub fn kept_to(&self, row: &Row) -> Arc<ControlLink> {
        let mut kept = self.kept.lock();
        match kept.get(&row.id).filter(|link| link.addr() == row.peer_addr) {
            Some(link) => link.clone(),
            None => {
                let link = Arc::new(self.new_to(row));
                kept.insert(row.id, link.clone());
                link
            }
        }
    }

    /// Forgets the connections to nodes other than these.
    pub fn retain(&self, is_known: impl Fn(&NodeId) -> bool) {
        self.kept.lock().retain(|id, _| is_known(id));
    }
}
