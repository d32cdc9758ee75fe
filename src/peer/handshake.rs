//! Who is there: the first words on a connection between nodes, in both directions.
//!
//! The acceptor speaks first, with a nonce. The dialler answers with its [`Hello`], a nonce of its own and a proof: an
//! HMAC-SHA256 of both nonces and the hello under the cluster's secret. The acceptor answers with its own hello and
//! proof, and only then either of them judges what the other says, so both know why they part. A hello says for whom it
//! is: an address may have passed to another node, which must not take a lane for its own. Neither learns more than
//! that the other knows the secret, and a recorded answer is worth nothing later. Without a secret the key is empty;
//! then the peer port is bound to loopback only (the options see to it).
//!
//! Data is not encrypted by this handshake.

use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};

use hkdf::hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::base::ids::{ActorId, NodeId};
use crate::base::net::TcpStream;
use crate::base::wire::{Reader, WireError, put_bytes, put_u64};

const MAGIC: [u8; 4] = *b"RNDO";
/// Version of everything that nodes say to each other. Nodes of different versions do not talk.
pub const WIRE_VERSION: u8 = 14;
const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;
const HELLO_BYTES_MAX: usize = 512;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkKind {
    /// Numbered frames about slots whose number modulo the sender's lanes is this.
    Replica {
        /// Which of the sender's lanes.
        lane: u8,
    },
    /// Clients' requests.
    Forward,
    /// Rows and slot contents.
    Control,
    /// Messages for subscribers, and who subscribes to what.
    PubSub,
}

/// How a node introduces itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The cluster's name: two clusters never talk by accident.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// Its present life.
    pub generation: u64,
    /// What the connection is for; the acceptor repeats the dialler's.
    pub kind: LinkKind,
}

impl Hello {
    /// The author of the versions that this node makes.
    pub fn actor(&self) -> ActorId {
        ActorId { node: self.node.short(), generation: self.generation }
    }

    /// As it is said to `listener`, or to whoever listens.
    fn encode(&self, listener: Option<NodeId>) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, self.cluster.as_bytes());
        out.extend_from_slice(self.node.as_bytes());
        put_u64(&mut out, self.generation);
        let (kind, lane) = match self.kind {
            LinkKind::Replica { lane } => (0, lane),
            LinkKind::Forward => (1, 0),
            LinkKind::Control => (2, 0),
            LinkKind::PubSub => (3, 0),
        };
        out.extend_from_slice(&[kind, lane, u8::from(listener.is_some())]);
        if let Some(listener) = listener {
            out.extend_from_slice(listener.as_bytes());
        }
        out
    }

    /// A hello, and whom it is for.
    fn decode(bytes: &[u8]) -> Result<(Hello, Option<NodeId>), WireError> {
        let mut reader = Reader::new(bytes);
        let cluster = String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| WireError)?;
        let node = NodeId::from_bytes(reader.array()?);
        let generation = reader.u64()?;
        let kind = match (reader.u8()?, reader.u8()?) {
            (0, lane) => LinkKind::Replica { lane },
            (1, _) => LinkKind::Forward,
            (2, _) => LinkKind::Control,
            (3, _) => LinkKind::PubSub,
            _ => return Err(WireError),
        };
        let listener = match reader.u8()? {
            0 => None,
            _ => Some(NodeId::from_bytes(reader.array()?)),
        };
        Ok((Hello { cluster, node, generation, kind }, listener))
    }
}

/// Why a handshake failed. Nothing changed; the connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The other side does not speak our protocol, or another version of it.
    #[error("the other side is not a rondo node of this version")]
    NotRondo,
    /// The other side does not know the cluster's secret.
    #[error("the other side does not know the cluster-secret")]
    WrongSecret,
    /// The other side has closed the connection when it had our proof.
    #[error("it hung up: it has another cluster-secret, or is about to end")]
    HungUp,
    /// The other side belongs to another cluster.
    #[error("the other side belongs to cluster {0:?}")]
    WrongCluster(String),
    /// We dialled ourselves.
    #[error("the address is this node's own")]
    Ourselves,
    /// The other side is another process with our id.
    #[error("the other side is another process that runs under this node's id: do two nodes share a node-name?")]
    Twin {
        /// When it started, as [`Hello::generation`].
        generation: u64,
    },
    /// Another node than the one that was dialled listens at the address.
    #[error("node {wanted} was dialled and {found} listens there")]
    OtherNode {
        /// Who was dialled.
        wanted: NodeId,
        /// Who listens.
        found: NodeId,
    },
}

/// Introduces `ours` to the node that we have dialled, `wanted` if it is to be that one, and returns who it is.
pub async fn dial(
    stream: &mut TcpStream,
    ours: &Hello,
    wanted: Option<NodeId>,
    secret: &[u8],
) -> Result<Hello, HandshakeError> {
    let mut head = [0; 5 + NONCE_BYTES];
    stream.read_exact(&mut head).await?;
    let (magic, their_nonce) = head.split_at(5);
    if magic != greeting() {
        return Err(HandshakeError::NotRondo);
    }
    let our_nonce: [u8; NONCE_BYTES] = rand::random();
    let hello = ours.encode(wanted);
    let mut out = greeting().to_vec();
    out.extend_from_slice(&our_nonce);
    put_hello(&mut out, &hello, &proof(secret, b"dial", their_nonce, &our_nonce, &hello));
    stream.write_all(&out).await?;
    let (body, their_proof) = read_hello(stream).await.map_err(|error| match error {
        HandshakeError::Io(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset) => HandshakeError::HungUp,
        other => other,
    })?;
    if !proves(secret, b"accept", &our_nonce, their_nonce, &body, &their_proof) {
        return Err(HandshakeError::WrongSecret);
    }
    let (theirs, _) = Hello::decode(&body).map_err(|_| HandshakeError::NotRondo)?;
    check(&theirs, ours)?;
    check_listener(wanted, theirs.node)?;
    Ok(theirs)
}

/// Answers whoever has dialled us and returns who it is. Refuses one that has dialled another node.
pub async fn accept(stream: &mut TcpStream, ours: &Hello, secret: &[u8]) -> Result<Hello, HandshakeError> {
    let our_nonce: [u8; NONCE_BYTES] = rand::random();
    let mut out = greeting().to_vec();
    out.extend_from_slice(&our_nonce);
    stream.write_all(&out).await?;
    let mut head = [0; 5 + NONCE_BYTES];
    stream.read_exact(&mut head).await?;
    let (magic, their_nonce) = head.split_at(5);
    if magic != greeting() {
        return Err(HandshakeError::NotRondo);
    }
    let (body, their_proof) = read_hello(stream).await?;
    if !proves(secret, b"dial", &our_nonce, their_nonce, &body, &their_proof) {
        return Err(HandshakeError::WrongSecret);
    }
    let (theirs, wanted) = Hello::decode(&body).map_err(|_| HandshakeError::NotRondo)?;
    let hello = Hello { kind: theirs.kind, ..ours.clone() }.encode(Some(theirs.node));
    let mut out = Vec::new();
    put_hello(&mut out, &hello, &proof(secret, b"accept", their_nonce, &our_nonce, &hello));
    stream.write_all(&out).await?;
    check(&theirs, ours)?;
    check_listener(wanted, ours.node)?;
    Ok(theirs)
}

fn greeting() -> [u8; 5] {
    let [a, b, c, d] = MAGIC;
    [a, b, c, d, WIRE_VERSION]
}

fn check(theirs: &Hello, ours: &Hello) -> Result<(), HandshakeError> {
    if theirs.cluster != ours.cluster {
        return Err(HandshakeError::WrongCluster(theirs.cluster.clone()));
    }
    match theirs.node == ours.node {
        true if theirs.generation == ours.generation => Err(HandshakeError::Ourselves),
        true => Err(HandshakeError::Twin { generation: theirs.generation }),
        false => Ok(()),
    }
}

fn check_listener(wanted: Option<NodeId>, found: NodeId) -> Result<(), HandshakeError> {
    match wanted {
        Some(wanted) if wanted != found => Err(HandshakeError::OtherNode { wanted, found }),
        _ => Ok(()),
    }
}

fn put_hello(out: &mut Vec<u8>, hello: &[u8], proof: &[u8; PROOF_BYTES]) {
    out.extend_from_slice(&(hello.len() as u16).to_le_bytes());
    out.extend_from_slice(hello);
    out.extend_from_slice(proof);
}

/// A hello that nobody has decoded yet, and what is to prove it.
async fn read_hello(stream: &mut TcpStream) -> Result<(Vec<u8>, [u8; PROOF_BYTES]), HandshakeError> {
    let len = usize::from(stream.read_u16_le().await?);
    if len > HELLO_BYTES_MAX {
        return Err(HandshakeError::NotRondo);
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).await?;
    Ok((body, proof))
}

fn mac(secret: &[u8], role: &[u8], listener_nonce: &[u8], speaker_nonce: &[u8], hello: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    [role, listener_nonce, speaker_nonce, hello].iter().for_each(|part| mac.update(part));
    Some(mac)
}

fn proof(secret: &[u8], role: &[u8], listener: &[u8], speaker: &[u8], hello: &[u8]) -> [u8; PROOF_BYTES] {
    // HMAC takes keys of any length, so there always is one.
    mac(secret, role, listener, speaker, hello).map_or([0; PROOF_BYTES], |mac| mac.finalize().into_bytes().into())
}

fn proves(secret: &[u8], role: &[u8], listener: &[u8], speaker: &[u8], hello: &[u8], proof: &[u8]) -> bool {
    mac(secret, role, listener, speaker, hello).is_some_and(|mac| mac.verify_slice(proof).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::net::TcpListener;

    fn hello(cluster: &str) -> Hello {
        Hello { cluster: cluster.into(), node: NodeId::random(), generation: 7, kind: LinkKind::Replica { lane: 3 } }
    }

    async fn meet(
        (dialler, wanted): (&Hello, Option<NodeId>),
        acceptor: &Hello,
        secrets: (&'static [u8], &'static [u8]),
    ) -> (Result<Hello, HandshakeError>, Result<Hello, HandshakeError>) {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let accepting = async {
            let (mut stream, _) = listener.accept().await?;
            accept(&mut stream, acceptor, secrets.1).await
        };
        let dialling = async {
            let mut stream = TcpStream::connect(addr).await?;
            dial(&mut stream, dialler, wanted, secrets.0).await
        };
        tokio::join!(dialling, accepting)
    }

    #[tokio::test]
    async fn nodes_of_one_cluster_meet() {
        let (one, other) = (hello("c"), hello("c"));
        for wanted in [None, Some(other.node)] {
            let (dialled, accepted) = meet((&one, wanted), &other, (b"s", b"s")).await;
            assert_eq!(dialled.expect("met").node, other.node);
            assert_eq!(accepted.expect("met"), one);
        }
    }

    #[tokio::test]
    async fn strangers_do_not_and_both_know_why() {
        let (dialled, accepted) = meet((&hello("c"), None), &hello("c"), (b"wrong", b"s")).await;
        assert!(matches!(accepted, Err(HandshakeError::WrongSecret)));
        assert!(matches!(dialled, Err(HandshakeError::HungUp)), "who does not know the secret is told nothing");
        let (dialled, accepted) = meet((&hello("x"), None), &hello("c"), (b"s", b"s")).await;
        assert!(matches!(accepted, Err(HandshakeError::WrongCluster(name)) if name == "x"));
        assert!(matches!(dialled, Err(HandshakeError::WrongCluster(name)) if name == "c"));
        let same = hello("c");
        let (dialled, accepted) = meet((&same, None), &same, (b"s", b"s")).await;
        assert!(matches!(accepted, Err(HandshakeError::Ourselves)));
        assert!(matches!(dialled, Err(HandshakeError::Ourselves)));
        let later = Hello { generation: 8, ..same.clone() };
        let (dialled, accepted) = meet((&later, None), &same, (b"s", b"s")).await;
        assert!(matches!(accepted, Err(HandshakeError::Twin { generation: 8 })));
        assert!(matches!(dialled, Err(HandshakeError::Twin { generation: 7 })));
    }

    #[tokio::test]
    async fn who_has_dialled_another_node_is_refused_on_both_sides() {
        let (acceptor, wanted) = (hello("c"), NodeId::random());
        let (dialled, accepted) = meet((&hello("c"), Some(wanted)), &acceptor, (b"s", b"s")).await;
        for refused in [dialled, accepted] {
            let Err(HandshakeError::OtherNode { wanted: told, found }) = refused else { panic!("{refused:?}") };
            assert_eq!((told, found), (wanted, acceptor.node));
        }
    }

    #[tokio::test]
    async fn an_echo_of_our_own_hello_is_not_taken_for_ourselves() {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let echoing = async {
            let (mut stream, _) = listener.accept().await?;
            let mut head = greeting().to_vec();
            head.extend_from_slice(&[0; NONCE_BYTES]);
            stream.write_all(&head).await?;
            stream.read_exact(&mut head).await?;
            let (body, proof) = read_hello(&mut stream).await?;
            let mut out = Vec::new();
            put_hello(&mut out, &body, &proof);
            stream.write_all(&out).await?;
            Ok::<(), HandshakeError>(())
        };
        let dialling = async {
            let mut stream = TcpStream::connect(addr).await?;
            dial(&mut stream, &hello("c"), None, b"s").await
        };
        let (echoed, dialled) = tokio::join!(echoing, dialling);
        assert!(echoed.is_ok() && matches!(dialled, Err(HandshakeError::WrongSecret)));
    }
}
