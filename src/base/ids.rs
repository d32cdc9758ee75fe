//! The names of things: hash slots, nodes and actors.
//!
//! - A [`Slot`] is one of Redis Cluster's 16,384 hash slots: CRC16 (XMODEM) of the key, or of its hash tag, modulo
//!   16,384.
//! - A [`NodeId`] is 20 bytes, written as 40 hexadecimal characters, because every Redis Cluster client and tool
//!   expects ids of that shape. They are made of the node's name or address (`cluster::identity`), and kept in its data
//!   directory if it has one.
//! - An [`ActorId`] is one *life* of a node. A node that lost its memory must never reuse a version stamp that an
//!   earlier life gave out (Riak's kv679), so each generation is an actor of its own.
//!
//! Nothing here knows who owns a slot or who is alive.

use std::fmt;
use std::str::FromStr;

/// Most databases that a node may have.
pub const DATABASES_MAX: u8 = 16;

/// How many hash slots there are: Redis Cluster's number, so that smart clients agree with us.
pub const SLOT_COUNT: usize = 16_384;

/// A hash slot, always below [`SLOT_COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, or `None` from [`SLOT_COUNT`] on.
    #[inline]
    pub fn new(number: u16) -> Option<Slot> {
        (usize::from(number) < SLOT_COUNT).then_some(Slot(number))
    }

    /// Every slot in ascending order.
    pub fn all() -> impl DoubleEndedIterator<Item = Slot> + ExactSizeIterator {
        (0..SLOT_COUNT as u16).map(Slot)
    }

    /// The slot as a number on the wire.
    #[inline]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The slot as an index into an array of [`SLOT_COUNT`] things.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slot that a key lives in (Redis Cluster specification, "Hash tags").
#[inline]
pub fn slot_of(key: &[u8]) -> Slot {
    Slot(crc16(hash_tag(key).unwrap_or(key)) % SLOT_COUNT as u16)
}

/// What stands between the first `{` and the first `}` behind it, if that is anything.
#[inline]
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    if !has_brace(key) {
        return None;
    }
    let behind = key.get(memchr::memchr(b'{', key)? + 1..)?;
    behind.get(..memchr::memchr(b'}', behind)?).filter(|tag| !tag.is_empty())
}

/// Whether there is a `{`, eight bytes a step (Mycroft's test): for keys, which are short, quicker than a search made
/// for texts.
#[inline]
fn has_brace(key: &[u8]) -> bool {
    const LOW_BITS: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    let (chunks, rest) = key.as_chunks::<8>();
    let is_in = |chunk: &[u8; 8]| {
        let differing = u64::from_le_bytes(*chunk) ^ u64::from_le_bytes([b'{'; 8]);
        differing.wrapping_sub(LOW_BITS) & !differing & HIGH_BITS != 0
    };
    chunks.iter().any(is_in) || rest.contains(&b'{')
}

/// CRC16 (XMODEM: polynomial 0x1021, no reflection), eight bytes a step (Kounavis and Berry, "Novel Table Lookup-Based
/// Algorithms for High-Performance CRC Generation", 2008), because every request pays for it.
fn crc16(bytes: &[u8]) -> u16 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &CRC_TABLES;
    let at = |table: &[u16; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
    let (chunks, rest) = bytes.as_chunks::<8>();
    let crc = chunks.iter().fold(0u16, |crc, &[a, b, c, d, e, f, g, h]| {
        let [high, low] = crc.to_be_bytes();
        at(t7, a ^ high) ^ at(t6, b ^ low) ^ at(t5, c) ^ at(t4, d) ^ at(t3, e) ^ at(t2, f) ^ at(t1, g) ^ at(t0, h)
    });
    rest.iter().fold(crc, |crc, byte| crc << 8 ^ at(t0, (crc >> 8) as u8 ^ byte))
}

/// Table `n` says what a byte adds that is followed by `n` more.
static CRC_TABLES: [[u16; 256]; 8] = crc_tables();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse an index out of bounds")]
const fn crc_tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut behind = 1;
    while behind < 8 {
        byte = 0;
        while byte < 256 {
            let crc = tables[behind - 1][byte];
            tables[behind][byte] = crc << 8 ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        behind += 1;
    }
    tables
}

/// A node's name, the same in all its lives; see the head of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct NodeId([u8; 20]);

impl NodeId {
    /// A name that nobody else has, for tests: no node has one by chance.
    pub fn random() -> NodeId {
        NodeId(rand::random())
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 20]) -> NodeId {
        NodeId(bytes)
    }

    /// The id as it travels between nodes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The first eight bytes: the node's share of its [`ActorId`]s.
    pub fn short(&self) -> u64 {
        let mut head = [0; 8];
        for (to, from) in head.iter_mut().zip(self.0) {
            *to = from;
        }
        u64::from_be_bytes(head)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// The text is not 40 hexadecimal characters. The giver's fault; nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a node id is 40 hexadecimal characters")]
pub struct NodeIdError;

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<NodeId, NodeIdError> {
        if text.len() != 40 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(NodeIdError);
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| NodeIdError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NodeIdError)?;
        }
        Ok(NodeId(bytes))
    }
}

/// One life of one node: the author of version stamps.
///
/// Its generation grows with every start (milliseconds since 1970, or one more than the last one known).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ActorId {
    /// [`NodeId::short`] of the node.
    pub node: u64,
    /// Which life of the node: `Row::generation`.
    pub generation: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slots_are_those_that_clients_compute(key in "[a-c{}]{0,40}") {
            prop_assert_eq!(slot_of(key.as_bytes()).number(), redis_protocol::redis_keyslot(key.as_bytes()));
        }

        #[test]
        fn and_for_any_bytes(key: Vec<u8>) {
            prop_assert_eq!(slot_of(&key).number(), redis_protocol::redis_keyslot(&key));
        }
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // CLUSTER KEYSLOT on redis-server 7.0.15.
        assert_eq!(slot_of(b"foo").number(), 12_182);
        assert_eq!(slot_of(b"somekey").number(), 11_058);
        assert_eq!(slot_of(b"foo{hash_tag}"), slot_of(b"hash_tag"));
        assert_eq!(slot_of(b"").number(), 0);
        assert_eq!(Slot::new(16_384), None);
    }

    #[test]
    fn a_node_id_reads_back_what_it_writes() {
        let id = NodeId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("00".parse::<NodeId>(), Err(NodeIdError));
        assert_eq!("é".repeat(20).parse::<NodeId>(), Err(NodeIdError));
    }
}
