//! Datagrams as they are on the wire, and why one is believed.
//!
//! ```text
//! version 1 | kind 1 | sender 8 | generation 8 | sequence 8 | body | proof      (numbers big-endian)
//! ```
//! - Kind 1, with a secret: the body is encrypted with ChaCha20-Poly1305 (RFC 8439) and the proof is its 16-byte tag
//!   over body, header and cluster. The key comes from HKDF-SHA256 (RFC 5869) of the secret, salted with the cluster's
//!   name, for this sender and generation; the nonce is the sequence number. Sequence numbers start at the microseconds
//!   since 1970 and grow by one, so that no nonce repeats even if a generation did.
//! - Kind 0, without one: the body is plain and the proof an 8-byte checksum. It keeps out accidents, not attackers,
//!   which is why it is for loopback only. A node speaks one kind and hears only that.
//!
//! A datagram opens once: of each sender the newest generation counts, and of it a window of 64 sequence numbers (as in
//! RFC 4303). Nothing is remembered of a datagram that did not open. After our own restart the windows are empty, so a
//! recorded datagram may be believed once more; foca's own numbers bound what that can do.

use super::MEMBERS_MAX;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Most bytes of a datagram: what fits every network's frame with room for tunnels.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1_400;
/// Bytes of a datagram that are not its body.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

const WIRE_VERSION: u8 = 1;
const KIND_PLAIN: u8 = 0;
const KIND_SEALED: u8 = 1;
const HEADER_BYTES: usize = 26;
const TAG_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// What the keys are for; part of their derivation.
const KEY_PURPOSE: &[u8] = b"rondo gossip 1";
/// Seed of the hash that makes a number of a cluster's name. Never changes.
const CLUSTER_SEED: u64 = 0x726f_6e64_6f2d_636c;

/// Why a datagram was dropped. The sender's fault, or nobody's; nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("not a datagram of ours")]
    Malformed,
    #[error("forged, damaged, of another cluster, or under another secret")]
    Unproven,
    #[error("heard before, or from an earlier generation")]
    Replayed,
    #[error("our own")]
    Echo,
}

/// The number that stands for a cluster's name.
pub(super) fn cluster_number(name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), CLUSTER_SEED)
}

/// What proves datagrams of one cluster.
#[derive(Clone)]
enum Proof {
    Sealed(Hkdf<Sha256>),
    Plain,
}

/// The cluster that datagrams belong to, and its secret if it has one.
#[derive(Clone)]
pub(super) struct Keyring {
    cluster: u64,
    proof: Proof,
}

impl Keyring {
    /// The keys of the cluster of this name; an empty secret is none.
    pub(super) fn new(cluster: &str, secret: Option<&str>) -> Keyring {
        let derive = |secret: &str| Hkdf::new(Some(cluster.as_bytes()), secret.as_bytes());
        let proof = secret.filter(|secret| !secret.is_empty()).map(derive).map_or(Proof::Plain, Proof::Sealed);
        Keyring { cluster: cluster_number(cluster), proof }
    }

    fn cipher(&self, sender: u64, generation: u64) -> Cipher {
        let Proof::Sealed(root) = &self.proof else {
            return Cipher::Plain { cluster: self.cluster };
        };
        let mut key = Key::default();
        let info = [KEY_PURPOSE, &sender.to_be_bytes(), &generation.to_be_bytes()];
        // 32 bytes are far below the 8,160 that HKDF-SHA256 can give.
        let derived = root.expand_multi_info(&info, &mut key);
        debug_assert!(derived.is_ok());
        Cipher::Sealed { cluster: self.cluster, cipher: Box::new(ChaCha20Poly1305::new(&key)) }
    }
}

/// The cipher of one life of one sender.
enum Cipher {
    Sealed { cluster: u64, cipher: Box<ChaCha20Poly1305> },
    Plain { cluster: u64 },
}

impl Cipher {
    fn kind(&self) -> u8 {
        match self {
            Cipher::Sealed { .. } => KIND_SEALED,
            Cipher::Plain { .. } => KIND_PLAIN,
        }
    }

    /// Appends body and proof to `datagram`, which holds the header.
    fn close(&self, header: &Header, body: &[u8], datagram: &mut Vec<u8>) {
        match self {
            Cipher::Sealed { cluster, cipher } => {
                let aad = header.with_cluster(*cluster);
                // Fails for bodies of 256 GiB only.
                if let Ok(sealed) = cipher.encrypt(&header.nonce(), Payload { msg: body, aad: &aad }) {
                    datagram.extend_from_slice(&sealed);
                }
            }
            Cipher::Plain { cluster } => {
                datagram.extend_from_slice(body);
                let checksum = xxh3_64_with_seed(datagram, *cluster);
                datagram.extend_from_slice(&checksum.to_be_bytes());
            }
        }
    }

    /// The body of a datagram, if the proof holds.
    fn open(&self, header: &Header, datagram: &[u8]) -> Option<Vec<u8>> {
        match self {
            Cipher::Sealed { cluster, cipher } => {
                let aad = header.with_cluster(*cluster);
                cipher.decrypt(&header.nonce(), Payload { msg: datagram.get(HEADER_BYTES..)?, aad: &aad }).ok()
            }
            Cipher::Plain { cluster } => {
                let (proven, checksum) = datagram.split_last_chunk::<CHECKSUM_BYTES>()?;
                let holds = xxh3_64_with_seed(proven, *cluster) == u64::from_be_bytes(*checksum);
                holds.then(|| proven.get(HEADER_BYTES..).map(<[u8]>::to_vec)).flatten()
            }
        }
    }
}

struct Header {
    kind: u8,
    sender: u64,
    generation: u64,
    sequence: u64,
}

impl Header {
    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = WIRE_VERSION;
        bytes[1] = self.kind;
        bytes[2..10].copy_from_slice(&self.sender.to_be_bytes());
        bytes[10..18].copy_from_slice(&self.generation.to_be_bytes());
        bytes[18..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    fn read(datagram: &[u8]) -> Option<Header> {
        let (version, rest) = datagram.split_first()?;
        let (&kind, rest) = rest.split_first()?;
        let (sender, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (sequence, _) = rest.split_first_chunk()?;
        let number = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
        (*version == WIRE_VERSION && datagram.len() <= DATAGRAM_BYTES_MAX).then(|| Header {
            kind,
            sender: number(sender),
            generation: number(generation),
            sequence: number(sequence),
        })
    }

    fn nonce(&self) -> Nonce {
        let mut nonce = Nonce::default();
        nonce[4..].copy_from_slice(&self.sequence.to_be_bytes());
        nonce
    }

    fn with_cluster(&self, cluster: u64) -> [u8; HEADER_BYTES + 8] {
        let mut bytes = [0; HEADER_BYTES + 8];
        bytes[..HEADER_BYTES].copy_from_slice(&self.bytes());
        bytes[HEADER_BYTES..].copy_from_slice(&cluster.to_be_bytes());
        bytes
    }
}

/// Seals what we send.
pub(super) struct Sealer {
    cipher: Cipher,
    sender: u64,
    generation: u64,
    sequence: u64,
}

impl Sealer {
    /// For this life of ours; `first_sequence` must be above all that were used under the same generation.
    pub(super) fn new(keyring: &Keyring, sender: u64, generation: u64, first_sequence: u64) -> Sealer {
        Sealer { cipher: keyring.cipher(sender, generation), sender, generation, sequence: first_sequence }
    }

    /// The datagram for this body, of at most `DATAGRAM_BYTES_MAX - OVERHEAD_BYTES` bytes.
    pub(super) fn seal(&mut self, body: &[u8]) -> Vec<u8> {
        let (kind, sender, generation) = (self.cipher.kind(), self.sender, self.generation);
        let header = Header { kind, sender, generation, sequence: self.sequence };
        self.sequence += 1;
        let mut datagram = Vec::with_capacity(body.len() + OVERHEAD_BYTES);
        datagram.extend_from_slice(&header.bytes());
        self.cipher.close(&header, body, &mut datagram);
        datagram
    }
}

/// Opens what we hear.
pub(super) struct Opener {
    keyring: Keyring,
    kind: u8,
    ourselves: u64,
    senders: HashMap<u64, Sender>,
    /// Grows with every datagram, opened or not.
    turn: u64,
}

/// What is remembered of a sender.
struct Sender {
    generation: u64,
    cipher: Cipher,
    window: SequenceWindow,
    /// The value of [`Opener::turn`] when it was last heard.
    heard: u64,
}

impl Opener {
    /// Hears everybody in the cluster but `ourselves`.
    pub(super) fn new(keyring: &Keyring, ourselves: u64) -> Opener {
        let kind = keyring.cipher(ourselves, 0).kind();
        Opener { keyring: keyring.clone(), kind, ourselves, senders: HashMap::new(), turn: 0 }
    }

    /// The body of a datagram that proves to come from a member and was not heard before.
    pub(super) fn open(&mut self, datagram: &[u8]) -> Result<Vec<u8>, Refusal> {
        let header = Header::read(datagram).filter(|header| header.kind == self.kind).ok_or(Refusal::Malformed)?;
        if header.sender == self.ourselves {
            return Err(Refusal::Echo);
        }
        self.turn += 1;
        if let Some(sender) = self.senders.get_mut(&header.sender)
            && sender.generation >= header.generation
        {
            if sender.generation > header.generation || !sender.window.is_new(header.sequence) {
                return Err(Refusal::Replayed);
            }
            let body = sender.cipher.open(&header, datagram).ok_or(Refusal::Unproven)?;
            sender.window.mark(header.sequence);
            sender.heard = self.turn;
            return Ok(body);
        }
        let cipher = self.keyring.cipher(header.sender, header.generation);
        let body = cipher.open(&header, datagram).ok_or(Refusal::Unproven)?;
        self.make_room();
        let window = SequenceWindow::starting_with(header.sequence);
        let sender = Sender { generation: header.generation, cipher, window, heard: self.turn };
        self.senders.insert(header.sender, sender);
        Ok(body)
    }

    /// Forgets who has been silent for longest when there are too many.
    fn make_room(&mut self) {
        if self.senders.len() >= MEMBERS_MAX {
            let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.heard).map(|(&id, _)| id);
            oldest.and_then(|id| self.senders.remove(&id));
        }
    }
}

/// Which of the latest 64 sequence numbers were heard.
struct SequenceWindow {
    highest: u64,
    /// Bit n: `highest - n` was heard.
    heard: u64,
}

impl SequenceWindow {
    fn starting_with(sequence: u64) -> SequenceWindow {
        SequenceWindow { highest: sequence, heard: 1 }
    }

    /// Whether this number was not heard, as far as the window reaches; older ones count as heard.
    fn is_new(&self, sequence: u64) -> bool {
        match self.highest.checked_sub(sequence) {
            None => true,
            Some(age @ 0..64) => self.heard & (1 << age) == 0,
            Some(_) => false,
        }
    }

    fn mark(&mut self, sequence: u64) {
        match self.highest.checked_sub(sequence) {
            Some(age) => self.heard |= 1u64.checked_shl(age.min(64) as u32).unwrap_or(0),
            None => {
                let ahead = sequence - self.highest;
                self.heard = self.heard.checked_shl(ahead.min(64) as u32).unwrap_or(0) | 1;
                self.highest = sequence;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(secret: Option<&str>) -> (Sealer, Opener) {
        let keyring = Keyring::new("main", secret);
        (Sealer::new(&keyring, 1, 10, 500), Opener::new(&keyring, 2))
    }

    #[test]
    fn what_was_sealed_opens_once() {
        for secret in [None, Some("s3cret")] {
            let (mut sealer, mut opener) = pair(secret);
            let datagram = sealer.seal(b"hello");
            assert!(datagram.len() <= b"hello".len() + OVERHEAD_BYTES);
            assert_eq!(opener.open(&datagram), Ok(b"hello".to_vec()));
            assert_eq!(opener.open(&datagram), Err(Refusal::Replayed));
            assert_eq!(opener.open(&sealer.seal(b"")), Ok(Vec::new()));
        }
    }

    #[test]
    fn a_sealed_body_is_hidden_and_a_plain_one_is_not() {
        let holds = |datagram: Vec<u8>| datagram.windows(5).any(|part| part == b"hello");
        assert!(!holds(pair(Some("s3cret")).0.seal(b"hello")));
        assert!(holds(pair(None).0.seal(b"hello")));
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_costs_nothing() {
        for secret in [None, Some("s3cret")] {
            let (mut sealer, mut opener) = pair(secret);
            opener.open(&sealer.seal(b"first")).unwrap();
            let datagram = sealer.seal(b"hello");
            for bit in 0..datagram.len() * 8 {
                let mut flipped = datagram.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(opener.open(&flipped).is_err(), "bit {bit}");
            }
            assert_eq!(opener.open(&datagram), Ok(b"hello".to_vec()));
        }
    }

    #[test]
    fn other_clusters_secrets_and_kinds_are_strangers() {
        let open = |keyring: Keyring| Opener::new(&keyring, 2).open(&pair(Some("s3cret")).0.seal(b"hello"));
        assert_eq!(open(Keyring::new("main", Some("s3cret"))), Ok(b"hello".to_vec()));
        assert_eq!(open(Keyring::new("other", Some("s3cret"))), Err(Refusal::Unproven));
        assert_eq!(open(Keyring::new("main", Some("guess"))), Err(Refusal::Unproven));
        assert_eq!(open(Keyring::new("main", None)), Err(Refusal::Malformed));
        let (mut sealer, _) = pair(None);
        assert_eq!(Opener::new(&Keyring::new("other", None), 2).open(&sealer.seal(b"hello")), Err(Refusal::Unproven));
        assert_eq!(Opener::new(&Keyring::new("main", None), 1).open(&sealer.seal(b"hello")), Err(Refusal::Echo));
    }

    #[test]
    fn an_earlier_boot_is_not_heard_after_a_later_one() {
        let keyring = Keyring::new("main", Some("s3cret"));
        let mut opener = Opener::new(&keyring, 2);
        let mut old = Sealer::new(&keyring, 1, 10, 500);
        assert!(opener.open(&old.seal(b"a")).is_ok());
        assert!(opener.open(&Sealer::new(&keyring, 1, 11, 3).seal(b"b")).is_ok());
        assert_eq!(opener.open(&old.seal(b"c")), Err(Refusal::Replayed));
    }

    #[test]
    fn senders_are_bounded_and_the_silent_go_first() {
        let keyring = Keyring::new("main", None);
        let mut opener = Opener::new(&keyring, 0);
        let mut first = Sealer::new(&keyring, 1, 1, 1);
        for sender in 1..=MEMBERS_MAX as u64 + 50 {
            assert!(opener.open(&Sealer::new(&keyring, sender, 1, 1).seal(b"x")).is_ok());
            first.sequence = sender + 1;
            assert!(opener.open(&first.seal(b"still here")).is_ok());
        }
        assert_eq!(opener.senders.len(), MEMBERS_MAX);
        assert!(opener.senders.contains_key(&1) && !opener.senders.contains_key(&2));
    }

    proptest! {
        #[test]
        fn the_window_accepts_each_number_once(numbers in prop::collection::vec(0u64..200, 1..300)) {
            let (mut heard, mut highest) = (std::collections::HashSet::from([100]), 100);
            let mut window = SequenceWindow::starting_with(100);
            for number in numbers {
                let new = number + 64 > highest && !heard.contains(&number);
                prop_assert_eq!(window.is_new(number), new, "{} with {} highest", number, highest);
                if new {
                    window.mark(number);
                    heard.insert(number);
                    highest = highest.max(number);
                }
            }
        }

        #[test]
        fn noise_opens_nothing(noise in prop::collection::vec(any::<u8>(), 0..1_500), secret in any::<bool>(), valid_head in any::<bool>()) {
            let (mut sealer, mut opener) = pair(secret.then_some("s3cret"));
            let mut noise = noise;
            if valid_head {
                noise.splice(0..noise.len().min(HEADER_BYTES), sealer.seal(b"").drain(..HEADER_BYTES));
            }
            prop_assert!(opener.open(&noise).is_err());
            prop_assert!(opener.senders.is_empty());
        }
    }
}
