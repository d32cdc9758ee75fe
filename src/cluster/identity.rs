//! Who this node is: its id, which of its lives this one is, and where other nodes reach it.
//!
//! With a data directory the id stands in a small file there, `node.meta`, made at the first start. Without one it is
//! derived from the cluster's name and the node's name or peer address, so that a node that restarts empty at the same
//! place is the same node in its next life rather than a stranger who would move everybody's slots.
//!
//! The generation is the start's wall clock in milliseconds, and above the stored one whatever the clock says.
//!
//! Does not check that nobody else has the same id: that takes the others (`cluster::ending`).

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::base::clock::wall_us;
use crate::base::config::Settings;
use crate::base::ids::{ActorId, NodeId};

/// The file in the data directory.
const FILE_NAME: &str = "node.meta";
/// A longer file is not ours.
const FILE_BYTES_MAX: usize = 4_096;

/// One life of this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Who it is.
    pub id: NodeId,
    /// Which life: milliseconds since 1970 at the start, or one more than the stored one.
    pub generation: u64,
    /// Where other nodes reach it.
    pub peer_addr: SocketAddr,
}

impl Identity {
    /// The author of the versions that this life makes.
    pub fn actor(&self) -> ActorId {
        ActorId { node: self.id.short(), generation: self.generation }
    }
}

/// A node could not find out who it is. The operator's to mend; nothing was started.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum IdentityError {
    #[error("cannot read or write {path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path} does not say who this node is: mend or remove it")]
    Damaged { path: String },
    #[error("advertise-host {host:?} has no address: {reason}")]
    NoAddress { host: String, reason: String },
}

/// The identity of this start, stored for the next one when there is a data directory.
pub fn load_or_derive(settings: &Settings) -> Result<Identity, IdentityError> {
    let peer_addr = advertised_addr(settings)?;
    let now_ms = wall_us() / 1_000;
    let derived = derive(settings, peer_addr);
    if settings.data_dir.is_empty() {
        return Ok(Identity { id: derived, generation: now_ms, peer_addr });
    }
    let path = Path::new(&settings.data_dir).join(FILE_NAME);
    let failed = |source| IdentityError::File { path: path.display().to_string(), source };
    let (id, generation) = match std::fs::read(&path) {
        Ok(bytes) => {
            let damaged = || IdentityError::Damaged { path: path.display().to_string() };
            let (id, last) = parse(&bytes).ok_or_else(damaged)?;
            (id, now_ms.max(last.saturating_add(1)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (derived, now_ms),
        Err(error) => return Err(failed(error)),
    };
    replace_file(&path, &format!("id {id}\ngeneration {generation}\n")).map_err(failed)?;
    Ok(Identity { id, generation, peer_addr })
}

/// The first 20 bytes of SHA-256 over the cluster's name and what tells this node from others.
fn derive(settings: &Settings, peer_addr: SocketAddr) -> NodeId {
    let own = match settings.node_name.is_empty() {
        true => peer_addr.to_string(),
        false => settings.node_name.clone(),
    };
    let mut hash = Sha256::new();
    // A name cannot contain the separator, so no two pairs give the same bytes.
    hash.update(settings.cluster_name.as_bytes());
    hash.update([0]);
    hash.update(own.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 20];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    NodeId::from_bytes(id)
}

fn parse(bytes: &[u8]) -> Option<(NodeId, u64)> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= FILE_BYTES_MAX)?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Some((field("id")?.parse().ok()?, field("generation")?.parse().ok()?))
}

/// Writes beside the file and moves it into place, so that a crash leaves the old one or the new one.
pub(super) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

/// Where others reach the peer port: `advertise-host`, else the first address bound, one that other machines reach if
/// there is any, else the one that this machine uses towards the nodes to join, or towards others at all.
fn advertised_addr(settings: &Settings) -> Result<SocketAddr, IdentityError> {
    let port = settings.ports.peer;
    let host = &settings.advertise_host;
    if !host.is_empty() {
        let failed = |reason: String| IdentityError::NoAddress { host: host.clone(), reason };
        let mut found = (host.as_str(), port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        return found.next().ok_or_else(|| failed("the name resolves to nothing".to_owned()));
    }
    let bound: Vec<IpAddr> =
        settings.peer_bind().iter().map(|bind| bind.ip).filter(|ip| !ip.is_unspecified()).collect();
    let bound = bound.iter().find(|ip| !ip.is_loopback()).or(bound.first()).copied();
    Ok(SocketAddr::new(bound.or_else(|| outward_ip(settings)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port))
}

/// An address that is nobody's (TEST-NET-1, RFC 5737): what leads there is the way to other machines.
const ELSEWHERE: (&str, u16) = ("192.0.2.1", 9);

/// The address that packets to the nodes to join would come from, or to any other machine when there is none to join.
/// Connecting a datagram socket sends nothing.
fn outward_ip(settings: &Settings) -> Option<IpAddr> {
    let towards = |to: (&str, u16)| {
        let to = to.to_socket_addrs().ok()?.find(SocketAddr::is_ipv4)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip())
    };
    let places = settings.join.iter().map(|peer| (peer.host.as_str(), peer.port)).chain([ELSEWHERE]);
    places.filter_map(towards).find(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::settings;

    #[test]
    fn the_same_place_is_the_same_node_in_a_later_life() {
        let here = |name: &str| load_or_derive(&settings(&[("port", "4000"), ("node-name", name)])).expect("derived");
        assert_eq!(here("").id, here("").id);
        assert_ne!(here("").id, here("other").id);
        assert_eq!(here("").peer_addr, "127.0.0.1:14000".parse().expect("an address"));
        let elsewhere = load_or_derive(&settings(&[("port", "4000"), ("cluster-name", "other")])).expect("derived");
        assert_ne!(elsewhere.id, here("").id);
    }

    #[test]
    fn of_several_addresses_that_is_told_which_other_machines_reach() {
        let told = |bind: &str, secret: &str| {
            let settings = settings(&[("port", "4000"), ("bind", bind), ("cluster-secret", secret)]);
            load_or_derive(&settings).expect("derived").peer_addr.ip().to_string()
        };
        assert_eq!(told("127.0.0.1 10.0.0.5", "s3cret"), "10.0.0.5");
        assert_eq!(told("127.0.0.1 -::1", "s3cret"), "127.0.0.1");
        assert_eq!(told("0.0.0.0", ""), "127.0.0.1");
        let outward = outward_ip(&settings(&[])).map_or("127.0.0.1".to_owned(), |ip| ip.to_string());
        assert_eq!(told("0.0.0.0", "s3cret"), outward);
    }

    #[test]
    fn a_stored_id_outlives_a_move_and_its_generation_only_grows() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("plain");
        let first = load_or_derive(&settings(&[("port", "4000"), ("data-dir", path)])).expect("made");
        let moved = load_or_derive(&settings(&[("port", "4001"), ("data-dir", path)])).expect("read");
        assert!(moved.id == first.id && moved.generation > first.generation);
        std::fs::write(folder.path().join(FILE_NAME), format!("id {}\ngeneration {}\n", first.id, 1u64 << 60)).unwrap();
        let later = load_or_derive(&settings(&[("data-dir", path)])).expect("read");
        assert_eq!(later.generation, (1 << 60) + 1);
        std::fs::write(folder.path().join(FILE_NAME), "id 12\n").unwrap();
        assert!(matches!(load_or_derive(&settings(&[("data-dir", path)])), Err(IdentityError::Damaged { .. })));
    }
}
