//! Who a member is on the wire, and which news is let in.
//!
//! A member is an address, a node id, a generation and a cluster. foca keeps one member for each address: of two claims
//! to it the higher generation stands, so a restarted node, with its old id or a new one, replaces what was there at
//! once. A node that finds itself declared down comes back as the next generation.
//!
//! [`GuardedCodec`] is postcard plus what must hold before foca sees a message: our cluster, an address that can be
//! answered, and room for it (foca itself has no bound).

use super::MEMBERS_MAX;
use crate::base::ids::NodeId;
use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, PostcardCodec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// One life of one node at one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Where it is reached.
    pub(super) addr: SocketAddr,
    /// Who it is.
    pub(super) id: NodeId,
    /// Grows with each boot, and each time that it was declared down.
    pub(super) generation: u64,
    /// The hash of its cluster's name.
    pub(super) cluster: u64,
}

impl Identity {
    /// A stand-in for whoever is at `addr`: good for announcing only.
    pub(super) fn anybody_at(addr: SocketAddr, cluster: u64) -> Identity {
        Identity { addr, id: NodeId::from_bytes([0; 20]), generation: 0, cluster }
    }
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Identity> {
        Some(Identity { generation: self.generation.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Identity) -> bool {
        (self.generation, self.id) > (adversary.generation, adversary.id)
    }
}

/// The addresses that foca may know of; the detector resets it to those that foca does know.
pub(super) type KnownAddrs = Arc<Mutex<BTreeSet<SocketAddr>>>;

/// Why a message is senseless. The sender's fault; nothing changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error(transparent)]
    Encoding(#[from] postcard::Error),
    #[error("the message is of another cluster")]
    OtherCluster,
    #[error("the message names an address that cannot be answered")]
    BadAddr,
    #[error("too many members are known")]
    Full,
}

/// Postcard for members of one cluster.
#[derive(Debug)]
pub(super) struct GuardedCodec {
    /// Where we are reached, whatever others call it.
    pub(super) own_addr: SocketAddr,
    /// The hash of our cluster's name.
    pub(super) cluster: u64,
    /// See [`KnownAddrs`].
    pub(super) known: KnownAddrs,
}

impl GuardedCodec {
    fn admit(&self, identity: &Identity) -> Result<(), CodecError> {
        if identity.cluster != self.cluster {
            return Err(CodecError::OtherCluster);
        }
        if identity.addr.port() == 0 || identity.addr.ip().is_unspecified() || identity.addr.ip().is_multicast() {
            return Err(CodecError::BadAddr);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MEMBERS_MAX && !known.contains(&identity.addr) {
            return Err(CodecError::Full);
        }
        known.insert(identity.addr);
        Ok(())
    }
}

impl Codec<Identity> for GuardedCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), CodecError> {
        Ok(PostcardCodec.encode_header(header, buf)?)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        let mut header: Header<Identity> = PostcardCodec.decode_header(buf)?;
        if header.message == Message::Announce {
            // Whoever knocks may know us by a name that resolves to another address of ours.
            header.dst.addr = self.own_addr;
        }
        self.admit(&header.src)?;
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<(), CodecError> {
        Ok(PostcardCodec.encode_member(member, buf)?)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        let member: Member<Identity> = PostcardCodec.decode_member(buf)?;
        self.admit(member.id())?;
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity as _;

    fn at(port: u16, generation: u64) -> Identity {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Identity { addr, id: NodeId::from_bytes([1; 20]), generation, cluster: 5 }
    }

    #[test]
    fn the_next_life_wins_and_there_is_none_after_the_last() {
        let first = at(1, 7);
        let next = first.renew().unwrap();
        assert!(next.win_addr_conflict(&first) && !first.win_addr_conflict(&next) && !first.win_addr_conflict(&first));
        assert_eq!(at(1, u64::MAX).renew(), None);
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let codec = GuardedCodec { own_addr: at(1, 0).addr, cluster: 5, known: KnownAddrs::default() };
        let refused = (1..=MEMBERS_MAX as u16 + 10).filter(|&port| codec.admit(&at(port, 0)).is_err()).count();
        assert_eq!(refused, 10);
        assert!(codec.admit(&at(1, 99)).is_ok());
        assert!(matches!(codec.admit(&Identity { cluster: 6, ..at(1, 0) }), Err(CodecError::OtherCluster)));
        assert!(matches!(codec.admit(&at(0, 0)), Err(CodecError::BadAddr)));
    }
}
