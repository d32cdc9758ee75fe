//! The replicated map that rings are computed from: one [`Row`] for each node, written by that node alone.
//!
//! Merging keeps, for each id, the greatest row: `Gone` above all else and for ever, then the higher generation (one
//! for each boot), then the higher version (one for each change), and for equal ones that differ, which only a faulty
//! peer makes, the greater content. That is a maximum over a total order, so [`Rows::merge`] is commutative,
//! associative and idempotent, and nodes that have heard the same rows hold the same map.
//!
//! Bounds: at most [`ROWS_MAX`] rows, gone ones included. Of more, those with the lowest ids stay (still a merge);
//! a node must not join when [`Rows::is_full`]. What comes off the wire is bounded and checked before it is believed.
//!
//! Does not spread rows, nor decide who may write which: that is for the parts that talk.

use super::member::{Member, WEIGHT_MAX, WEIGHT_MIN};
use super::placement::DIGEST_SEED;
#[cfg(test)]
use super::placement::Ring;
use crate::base::config::is_name;
use crate::base::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Most rows in the map.
pub const ROWS_MAX: usize = 1_024;
/// Most bytes of an encoded map; a full map of the longest rows fits.
pub const ROWS_BYTES_MAX: usize = 1 << 20;

/// First byte of an encoded map.
const WIRE_VERSION: u8 = 2;

/// Where a node stands between coming and going.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RowState {
    /// Fetching its future slots; owns nothing yet.
    Joining,
    /// Owns its slots.
    Normal,
    /// Owns its slots and is handing them over.
    Leaving,
    /// Owns nothing. The node has handed over and may come back, as a newcomer, under a higher generation.
    Left,
    /// Owns nothing, for ever. A node that comes back must take a new id.
    Gone,
}

impl RowState {
    /// True for a node that takes part: it owns slots, or is about to.
    pub fn is_member(self) -> bool {
        matches!(self, RowState::Joining | RowState::Normal | RowState::Leaving)
    }
}

/// All that the cluster knows of one node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Who it is.
    pub id: NodeId,
    /// Where it stands.
    pub state: RowState,
    /// Where other nodes reach it: TCP for data, UDP for gossip.
    pub peer_addr: SocketAddr,
    /// Its `node-name`, empty when it has none; see [`Row::shown_name`].
    pub name: String,
    /// The host that clients are told to connect to: a name or an address.
    pub host: String,
    /// Port of the standalone face.
    pub port: u16,
    /// Port of the cluster face.
    pub cluster_port: u16,
    /// Port of the HTTP pages.
    pub admin_port: u16,
    /// Failure domain.
    pub zone: String,
    /// Share of the data, relative to the others.
    pub weight: f64,
    /// False while a node that restarted empty fetches its slots again: it must not answer reads.
    pub warm: bool,
    /// Grows with every boot of the node.
    pub generation: u64,
    /// Grows with every change that the node makes to its row, within a generation.
    pub version: u64,
}

/// Why a map was refused. The sender's fault; nothing changed; the same bytes will be refused again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RowsError {
    /// Not this encoding, cut short, or followed by something else.
    #[error("the rows are malformed")]
    Malformed,
    /// An encoding of a newer rondo.
    #[error("the rows are in format {0}, which this version does not know")]
    WireVersion(u8),
    /// More than [`ROWS_BYTES_MAX`] bytes or [`ROWS_MAX`] rows.
    #[error("too many rows")]
    TooLarge,
    /// A row that no honest node sends.
    #[error("the row of {id} has a bad {field}")]
    BadRow {
        /// Whose row.
        id: NodeId,
        /// Which field.
        field: &'static str,
    },
}

/// The map, in order of id.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rows {
    rows: BTreeMap<NodeId, Row>,
}

impl Rows {
    /// A map that knows nobody.
    pub fn new() -> Rows {
        Rows::default()
    }

    /// Takes in a row, the node's own or one that was heard; true when the map is now another.
    pub fn merge(&mut self, row: Row) -> bool {
        let id = row.id;
        match self.rows.get_mut(&id) {
            Some(known) if row.rank(known) != Ordering::Greater => return false,
            Some(known) => *known = row,
            None => {
                self.rows.insert(id, row);
            }
        }
        if self.rows.len() > ROWS_MAX {
            return self.rows.pop_last().is_some_and(|(dropped, _)| dropped != id);
        }
        true
    }

    /// Takes in every row of another map; true when this one is now another.
    pub fn merge_all(&mut self, other: &Rows) -> bool {
        let mut changed = false;
        for row in other.iter() {
            changed |= self.merge(row.clone());
        }
        changed
    }

    /// Declares a node gone for ever, as an operator may for one that is dead; false when unknown or gone already.
    pub fn mark_gone(&mut self, id: &NodeId) -> bool {
        match self.rows.get_mut(id) {
            Some(row) if row.state != RowState::Gone => {
                row.state = RowState::Gone;
                true
            }
            _ => false,
        }
    }

    /// The row of this node.
    pub fn get(&self, id: &NodeId) -> Option<&Row> {
        self.rows.get(id)
    }

    /// Every row, gone ones too, in order of id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.rows.values()
    }

    /// How many rows there are, gone ones too.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when nobody is known.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// True when no further node may join.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= ROWS_MAX
    }

    /// Today's owners: normal and leaving nodes.
    pub fn owners(&self) -> Vec<Member> {
        self.members(|row| matches!(row.state, RowState::Normal | RowState::Leaving))
    }

    /// The owners once every change under way is done: normal and joining nodes.
    pub fn next_owners(&self) -> Vec<Member> {
        self.members(|row| matches!(row.state, RowState::Normal | RowState::Joining))
    }

    /// What a ring needs to know of the nodes that own slots in it.
    pub fn members(&self, owns: impl Fn(&Row) -> bool) -> Vec<Member> {
        let rows = self.rows.values().filter(|row| owns(row));
        rows.map(|row| Member { id: row.id, zone: row.zone.clone(), weight: row.weight }).collect()
    }

    /// The ring of today's owners. The node itself takes it from `cluster::topology`, which keeps rings.
    #[cfg(test)]
    pub fn ring(&self, replicas: usize) -> Ring {
        Ring::build(&self.owners(), replicas)
    }

    /// The ring of the owners once every change under way is done.
    #[cfg(test)]
    pub fn next_ring(&self, replicas: usize) -> Ring {
        Ring::build(&self.next_owners(), replicas)
    }

    /// Equal for maps under which votes of a majority mean the same: who takes part, where each stands, and which life
    /// of a node that does not simply own its slots; of all nodes while one is on its way. A map may have the same
    /// again after another: when a node that is being given up takes its row back.
    pub fn configuration(&self) -> u64 {
        let is_moving = self.rows.values().any(|row| matches!(row.state, RowState::Joining | RowState::Leaving));
        let generation = |row: &Row| if is_moving || row.state != RowState::Normal { row.generation } else { 0 };
        let of_row = |row: &Row| (row.id, row.state, generation(row), row.zone.clone(), row.weight.to_bits());
        let all: Vec<_> = self.rows.values().map(of_row).collect();
        xxh3_64_with_seed(&postcard::to_extend(&all, Vec::new()).unwrap_or_default(), DIGEST_SEED)
    }

    /// Equal for equal maps; two nodes whose digests differ have something to tell each other.
    pub fn digest(&self) -> u64 {
        xxh3_64_with_seed(&self.encode(), DIGEST_SEED)
    }

    /// The map as bytes, at most [`ROWS_BYTES_MAX`] of them when every row passes [`Row::check`].
    pub fn encode(&self) -> Vec<u8> {
        let rows: Vec<&Row> = self.rows.values().collect();
        // Serialising plain fields into a growing vector has no way to fail.
        postcard::to_extend(&rows, vec![WIRE_VERSION]).unwrap_or_default()
    }

    /// Reads what [`Rows::encode`] wrote, and believes nothing about it.
    pub fn decode(bytes: &[u8]) -> Result<Rows, RowsError> {
        if bytes.len() > ROWS_BYTES_MAX {
            return Err(RowsError::TooLarge);
        }
        let (&version, body) = bytes.split_first().ok_or(RowsError::Malformed)?;
        if version != WIRE_VERSION {
            return Err(RowsError::WireVersion(version));
        }
        let (list, rest) = postcard::take_from_bytes::<Vec<Row>>(body).map_err(|_| RowsError::Malformed)?;
        if !rest.is_empty() {
            return Err(RowsError::Malformed);
        }
        if list.len() > ROWS_MAX {
            return Err(RowsError::TooLarge);
        }
        let mut rows = Rows::new();
        for row in list {
            row.check()?;
            rows.merge(row);
        }
        Ok(rows)
    }
}

impl Row {
    /// What people call the node: its name, or where clients reach it.
    pub fn shown_name(&self) -> String {
        match self.name.is_empty() {
            true => format!("{}:{}", self.host, self.port),
            false => self.name.clone(),
        }
    }

    /// Whether an honest node could have written this row: texts short and printable, weight within bounds.
    pub fn check(&self) -> Result<(), RowsError> {
        let bad = |field| Err(RowsError::BadRow { id: self.id, field });
        if self.host.is_empty() || !is_name(&self.host) {
            return bad("host");
        }
        if !is_name(&self.name) {
            return bad("name");
        }
        if !is_name(&self.zone) {
            return bad("zone");
        }
        if !(WEIGHT_MIN..=WEIGHT_MAX).contains(&self.weight) {
            return bad("weight");
        }
        Ok(())
    }

    /// Which of two rows of one node stands: a total order, equal only for equal rows.
    fn rank(&self, other: &Row) -> Ordering {
        let key = |row: &Row| (row.state == RowState::Gone, row.generation, row.version, row.state, row.warm);
        let ports = |row: &Row| (row.port, row.cluster_port, row.admin_port, row.weight.to_bits());
        key(self)
            .cmp(&key(other))
            .then_with(|| self.peer_addr.cmp(&other.peer_addr))
            .then_with(|| ports(self).cmp(&ports(other)))
            .then_with(|| self.host.cmp(&other.host))
            .then_with(|| (&self.zone, &self.name).cmp(&(&other.zone, &other.name)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::config::NAME_BYTES_MAX;
    use proptest::prelude::*;

    /// A warm owner of this number.
    pub fn row(node: u8) -> Row {
        Row {
            id: NodeId::from_bytes([node; 20]),
            state: RowState::Normal,
            peer_addr: SocketAddr::from(([127, 0, 0, 1], 16_379)),
            name: "n1".to_string(),
            host: "cache-1.example".to_string(),
            port: 6_379,
            cluster_port: 7_379,
            admin_port: 9_379,
            zone: "z1".to_string(),
            weight: 1.0,
            warm: true,
            generation: 1,
            version: 1,
        }
    }

    /// Rows of few nodes with few generations and versions, so that they meet, and differ where honest ones would not.
    fn any_row() -> impl Strategy<Value = Row> {
        let states = [RowState::Joining, RowState::Normal, RowState::Leaving, RowState::Left, RowState::Gone];
        (0u8..4, prop::sample::select(states.to_vec()), 0u64..3, 0u64..3, any::<bool>(), 6_379u16..6_381).prop_map(
            |(node, state, generation, version, warm, port)| Row {
                state,
                generation,
                version,
                warm,
                port,
                ..row(node)
            },
        )
    }

    fn merged<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Rows {
        let mut map = Rows::new();
        for row in rows {
            map.merge(row.clone());
        }
        map
    }

    proptest! {
        #[test]
        fn merging_ignores_order_grouping_and_repetition(
            (rows, shuffled) in prop::collection::vec(any_row(), 0..12).prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
            cut in 0usize..12,
        ) {
            let whole = merged(&rows);
            prop_assert_eq!(&whole, &merged(&shuffled));
            let (left, right) = rows.split_at(cut.min(rows.len()));
            let mut grouped = merged(left);
            grouped.merge_all(&merged(right));
            prop_assert_eq!(&whole, &grouped);
            prop_assert!(!grouped.merge_all(&whole));
            prop_assert_eq!(whole.digest(), grouped.digest());
            prop_assert_eq!(Rows::decode(&whole.encode()), Ok(whole));
        }

        #[test]
        fn merge_says_whether_the_map_changed(rows in prop::collection::vec(any_row(), 0..12)) {
            let mut map = Rows::new();
            for row in rows {
                let before = map.clone();
                prop_assert_eq!(map.merge(row), map != before);
                prop_assert_eq!(map.digest() == before.digest(), map == before);
            }
        }

        #[test]
        fn decoding_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let _ = Rows::decode(&bytes);
            let mut flipped = merged([&row(1), &row(2)]).encode();
            *at.get_mut(&mut flipped) ^= 1 << bit;
            if let Ok(rows) = Rows::decode(&flipped) {
                prop_assert!(rows.iter().all(|row| row.check().is_ok()));
            }
        }
    }

    #[test]
    fn who_has_no_name_is_called_by_its_address() {
        assert_eq!(row(1).shown_name(), "n1");
        assert_eq!(Row { name: String::new(), ..row(1) }.shown_name(), "cache-1.example:6379");
    }

    #[test]
    fn gone_is_for_ever() {
        let mut rows = merged([&row(1), &row(2)]);
        assert!(rows.mark_gone(&row(1).id) && !rows.mark_gone(&row(1).id) && !rows.mark_gone(&row(9).id));
        assert!(!rows.merge(Row { generation: 99, ..row(1) }));
        assert_eq!(rows.ring(3).members().len(), 1);
    }

    #[test]
    fn a_configuration_tells_steps_and_lives_apart() {
        let leaving = Row { state: RowState::Leaving, ..row(2) };
        let left = |generation| Row { state: RowState::Left, generation, ..row(2) };
        let of = |rows: &[Row]| merged(rows).configuration();
        assert_eq!(of(&[row(1)]), of(&[Row { generation: 9, version: 7, warm: false, ..row(1) }]));
        let different = [
            of(&[row(1)]),
            of(&[row(1), row(2)]),
            of(&[row(1), leaving.clone()]),
            of(&[row(1), left(1)]),
            of(&[row(1), left(2)]),
            of(&[Row { generation: 9, ..row(1) }, leaving]),
        ];
        assert_eq!(different.iter().collect::<std::collections::BTreeSet<_>>().len(), different.len());
    }

    #[test]
    fn who_left_may_come_back_in_its_next_life() {
        let mut rows = merged([&row(1), &Row { state: RowState::Left, version: 2, ..row(1) }]);
        assert!(rows.ring(3).members().is_empty() && rows.next_ring(3).members().is_empty());
        assert!(!rows.merge(Row { version: 1, ..row(1) }));
        assert!(rows.merge(Row { state: RowState::Joining, generation: 2, ..row(1) }));
    }

    #[test]
    fn rings_follow_the_states() {
        let in_state = |node, state| Row { state, ..row(node) };
        let rows = merged([
            &in_state(1, RowState::Joining),
            &in_state(2, RowState::Normal),
            &in_state(3, RowState::Leaving),
            &in_state(4, RowState::Gone),
            &in_state(5, RowState::Left),
        ]);
        let owners = |ring: Ring| ring.members().iter().map(|member| member.id).collect::<Vec<_>>();
        assert_eq!(owners(rows.ring(2)), [row(2).id, row(3).id]);
        assert_eq!(owners(rows.next_ring(2)), [row(1).id, row(2).id]);
    }

    #[test]
    fn a_full_map_of_the_longest_rows_fits_and_no_more() {
        let text = "é".repeat(NAME_BYTES_MAX / 2);
        let longest = |node: u16| {
            let mut id = [0xff; 20];
            id[..2].copy_from_slice(&node.to_be_bytes());
            let addr = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
            let (name, host, zone) = (text.clone(), text.clone(), text.clone());
            let (generation, version) = (u64::MAX, u64::MAX);
            Row { id: NodeId::from_bytes(id), peer_addr: addr, name, host, zone, generation, version, ..row(0) }
        };
        let all: Vec<Row> = (0..ROWS_MAX as u16 + 9).map(longest).collect();
        let (forwards, backwards) = (merged(&all), merged(all.iter().rev()));
        assert_eq!(forwards, backwards);
        assert!(forwards.is_full() && forwards.len() == ROWS_MAX);
        assert_eq!(Rows::decode(&forwards.encode()), Ok(forwards));
        assert_eq!(Rows::decode(&vec![WIRE_VERSION; ROWS_BYTES_MAX + 1]), Err(RowsError::TooLarge));
    }

    #[test]
    fn bad_rows_are_refused_by_name() {
        let refused = |row: Row| match Rows::decode(&merged([&row]).encode()) {
            Err(RowsError::BadRow { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(Row { host: "a\nb".to_string(), ..row(1) }), "host");
        assert_eq!(refused(Row { host: String::new(), ..row(1) }), "host");
        assert_eq!(refused(Row { name: "a b".to_string(), ..row(1) }), "name");
        assert_eq!(refused(Row { zone: "z".repeat(256), ..row(1) }), "zone");
        assert_eq!(refused(Row { weight: f64::NAN, ..row(1) }), "weight");
        assert_eq!(refused(Row { weight: 0.0, ..row(1) }), "weight");
        assert_eq!(Rows::decode(&[WIRE_VERSION + 1]), Err(RowsError::WireVersion(WIRE_VERSION + 1)));
        assert_eq!(Rows::decode(&[WIRE_VERSION, 0, 0]), Err(RowsError::Malformed));
        assert_eq!(Rows::decode(&[]), Err(RowsError::Malformed));
    }
}
