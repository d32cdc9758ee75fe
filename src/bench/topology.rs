//! Who owns which hash slot, as a Redis Cluster (or rondo's cluster face) tells it.
//!
//! A [`SlotMap`] is one answer to CLUSTER SLOTS. The [`Directory`] holds the newest one for all connections: any of
//! them may ask for a refresh (a MOVED came, a connection broke), one task asks the known nodes in turn, at most every
//! [`REFRESH_MS_MIN`], and publishes a map under a new epoch only if it differs. Connections compare epochs between two
//! batches and move when theirs is old.
//!
//! Replicas are not read from: a key's requests go to the first address of its slot's row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::link::{LinkError, Login, ask, connect};
use crate::base::ids::{SLOT_COUNT, Slot};
use crate::protocol::client::Value;

/// The shortest time between two refreshes, in milliseconds.
const REFRESH_MS_MIN: u64 = 20;
const NOBODY: u16 = u16::MAX;

/// The owner of every slot.
#[derive(Debug)]
pub struct SlotMap {
    epoch: u64,
    addresses: Vec<String>,
    /// Per slot an index into `addresses`, or [`NOBODY`].
    owners: Vec<u16>,
}

impl SlotMap {
    /// The map in which the slots from the first to the last number of each range belong to the range's address.
    pub fn from_ranges(epoch: u64, ranges: impl IntoIterator<Item = (u16, u16, String)>) -> SlotMap {
        let mut map = SlotMap { epoch, addresses: Vec::new(), owners: vec![NOBODY; SLOT_COUNT] };
        for (first, last, address) in ranges {
            let known = map.addresses.iter().position(|other| *other == address);
            let node = known.unwrap_or_else(|| {
                map.addresses.push(address);
                map.addresses.len() - 1
            });
            let node = u16::try_from(node).unwrap_or(NOBODY);
            let range = map.owners.iter_mut().take(usize::from(last) + 1).skip(usize::from(first));
            range.for_each(|owner| *owner = node);
        }
        map
    }

    /// Counts the maps that were published; a later one is newer.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The nodes that own slots, as host:port.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Who owns a slot, as an index into [`addresses`](SlotMap::addresses).
    pub fn owner(&self, slot: Slot) -> Option<u16> {
        self.owners.get(slot.index()).copied().filter(|owner| *owner != NOBODY)
    }
}

/// Reads a reply to CLUSTER SLOTS: an array of `[first, last, [host, port, id, ..], replicas ..]`. A host that is null
/// or empty means the host that was asked.
fn read_slots(reply: &Value, asked: &str) -> Option<Vec<(u16, u16, String)>> {
    let Value::Array(rows) = reply else { return None };
    let read_row = |row: &Value| {
        let Value::Array(row) = row else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(node), ..] = row.as_slice() else {
            return None;
        };
        let [host, Value::Int(port), ..] = node.as_slice() else { return None };
        let host = match host {
            Value::Bulk(host) if !host.is_empty() => std::str::from_utf8(host).ok()?,
            Value::Bulk(_) | Value::Null => asked.rsplit_once(':')?.0,
            _ => return None,
        };
        let bracketed =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_string() };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        (first <= last && usize::from(last) < SLOT_COUNT).then(|| (first, last, format!("{bracketed}:{port}")))
    };
    rows.iter().map(read_row).collect()
}

/// The newest map, shared by all connections of a load.
#[derive(Debug)]
pub struct Directory {
    seeds: Vec<String>,
    login: Login,
    map: ArcSwap<SlotMap>,
    epoch: AtomicU64,
    refresh: Notify,
}

impl Directory {
    /// Asks the seeds in turn until one has a map.
    pub async fn open(seeds: &[String], login: &Login) -> Result<Directory, LinkError> {
        // A map is read in RESP2, whatever the load speaks.
        let login = Login { resp3: false, ..login.clone() };
        let ranges = fetch(seeds, &login).await?;
        Ok(Directory {
            seeds: seeds.to_vec(),
            login,
            map: ArcSwap::from_pointee(SlotMap::from_ranges(1, ranges)),
            epoch: AtomicU64::new(1),
            refresh: Notify::new(),
        })
    }

    /// The newest map.
    pub fn map(&self) -> Arc<SlotMap> {
        self.map.load_full()
    }

    /// The epoch of the newest map.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Says that the map looks wrong.
    pub fn want_refresh(&self) {
        self.refresh.notify_one();
    }

    /// Serves the wishes for a refresh, for ever.
    pub async fn keep_fresh(&self) {
        loop {
            self.refresh.notified().await;
            let known = self.map();
            let nodes: Vec<String> = known.addresses().iter().chain(&self.seeds).cloned().collect();
            if let Ok(ranges) = fetch(&nodes, &self.login).await {
                let fresh = SlotMap::from_ranges(known.epoch() + 1, ranges);
                if fresh.owners != known.owners || fresh.addresses != known.addresses {
                    self.map.store(Arc::new(fresh));
                    self.epoch.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(REFRESH_MS_MIN)).await;
        }
    }
}

/// The first usable answer to CLUSTER SLOTS from `nodes`, or the last failure.
async fn fetch(nodes: &[String], login: &Login) -> Result<Vec<(u16, u16, String)>, LinkError> {
    let nonsense = |address: &str, reason: &str| LinkError::Nonsense { address: address.into(), reason: reason.into() };
    let mut failure = nonsense("(none)", "no address was given");
    for address in nodes {
        let answer = async {
            let mut stream = connect(address, login).await?;
            let reply = ask(&mut stream, address, login, &["CLUSTER", "SLOTS"]).await?;
            let ranges = read_slots(&reply, address).filter(|ranges| !ranges.is_empty());
            ranges.ok_or_else(|| nonsense(address, "CLUSTER SLOTS names no owner of any slot"))
        };
        match answer.await {
            Ok(ranges) => return Ok(ranges),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::slot_of;
    use crate::protocol::client::ReplyDecoder;

    fn reply_of(text: &str) -> Value {
        ReplyDecoder::default().decode(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_reply_to_cluster_slots_becomes_a_map() {
        let reply = reply_of(
            "*3\r\n*4\r\n:0\r\n:5460\r\n*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$2\r\nid\r\n*2\r\n$1\r\nr\r\n:1\r\n\
             *3\r\n:5461\r\n:10922\r\n*2\r\n$0\r\n\r\n:7001\r\n*3\r\n:10923\r\n:16383\r\n*2\r\n$3\r\n::1\r\n:7002\r\n",
        );
        let map = SlotMap::from_ranges(1, read_slots(&reply, "10.0.0.7:6379").unwrap());
        assert_eq!(map.addresses(), ["127.0.0.1:7000", "10.0.0.7:7001", "[::1]:7002"]);
        // 12182 by CLUSTER KEYSLOT.
        assert_eq!(map.owner(slot_of(b"foo")), Some(2));
        assert_eq!(map.owner(Slot::new(0).unwrap()), Some(0));
        assert_eq!(map.owner(Slot::new(5_461).unwrap()), Some(1));
        assert_eq!(map.owner(Slot::new(16_383).unwrap()), Some(2));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for text in [
            "+OK\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:1\r\n",
            "*1\r\n*2\r\n:0\r\n:1\r\n",
        ] {
            assert_eq!(read_slots(&reply_of(text), "h:1"), None, "{text}");
        }
    }
}
