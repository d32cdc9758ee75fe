//! Who is there: what membership believes, and of nodes that it has not heard of, who has spoken to this one lately.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::ids::NodeId;
use crate::membership::{Liveness, MemberList, Membership, MembershipStats};

/// A node that membership has not heard of counts as alive for so long after it was spoken to.
const CONTACT_GRACE: Duration = Duration::from_secs(3);

/// See the head of the file.
pub(super) struct Presence {
    /// `None` once this node has left.
    membership: Mutex<Option<Membership>>,
    members: watch::Receiver<Arc<MemberList>>,
    contacts: Mutex<BTreeMap<NodeId, Instant>>,
    started: Instant,
}

impl Presence {
    /// Nobody has spoken yet.
    pub fn new(membership: Membership) -> Presence {
        let members = membership.view();
        Presence {
            membership: Mutex::new(Some(membership)),
            members,
            contacts: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// What membership believes, as it changes.
    pub fn members(&self) -> watch::Receiver<Arc<MemberList>> {
        self.members.clone()
    }

    /// Does something with membership, unless this node has left.
    pub fn with_membership<T>(&self, act: impl FnOnce(&Membership) -> T) -> Option<T> {
        self.membership.lock().as_ref().map(act)
    }

    /// Takes membership, to end it.
    pub fn take_membership(&self) -> Option<Membership> {
        self.membership.lock().take()
    }

    /// What gossip has counted since the start; nothing any more once this node has left.
    pub fn gossip_stats(&self) -> MembershipStats {
        self.with_membership(Membership::stats).unwrap_or_default()
    }

    /// How long gossip has brought nothing that was understood; nothing any more once this node has left.
    pub fn gossip_silence(&self) -> Duration {
        self.with_membership(Membership::silence).unwrap_or_default()
    }

    /// For how long this node has looked who is there.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is believed of another node: membership's word, or for one it has not heard of, whether it spoke lately.
    pub fn liveness(&self, id: &NodeId) -> Liveness {
        let known = self.members.borrow().get(id).map(|peer| peer.liveness);
        known.unwrap_or_else(|| if self.spoke_lately(id) { Liveness::Alive } else { Liveness::Down })
    }

    /// As [`liveness`](Presence::liveness), but in doubt soon after our start, when nobody has been heard of, yes.
    pub fn may_live(&self, id: &NodeId) -> bool {
        let is_unheard = self.members.borrow().get(id).is_none();
        self.liveness(id) != Liveness::Down || (is_unheard && self.age() < CONTACT_GRACE)
    }

    fn spoke_lately(&self, id: &NodeId) -> bool {
        self.contacts.lock().get(id).is_some_and(|at| at.elapsed() < CONTACT_GRACE)
    }

    /// Notes that a node has spoken; true when it had not lately.
    pub fn note_contact(&self, id: NodeId) -> bool {
        let mut contacts = self.contacts.lock();
        contacts.retain(|_, at| at.elapsed() < CONTACT_GRACE);
        contacts.insert(id, Instant::now()).is_none()
    }
}
