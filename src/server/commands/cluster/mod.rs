//! CLUSTER on the cluster face: what Redis Cluster clients ask before they go straight to a key's coordinator.
//!
//! Every node is a master of the slots that it coordinates at the moment, and has no replicas: CLUSTER NODES, SLOTS and
//! SHARDS name a slot's coordinator alone, since its other holders answer MOVED. Slots are placed by the ring, so
//! whatever would move them by hand is refused with a hint.

use std::fmt::Write as _;

use crate::base::ids::{NodeId, SLOT_COUNT, Slot, slot_of};
use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply, parse_i64};
use crate::ring::{Row, Rows};
use crate::server::state::slot_map::{SlotMap, SlotRun};
use crate::store::Store;
use crate::store::entry::Entry;

/// What CLUSTER works with.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// The request.
    pub args: Args<'a>,
    /// All nodes.
    pub rows: &'a Rows,
    /// Who coordinates what.
    pub map: &'a SlotMap,
    /// This node.
    pub this: NodeId,
    /// Whether a node is believed to be alive.
    pub is_alive: &'a dyn Fn(&NodeId) -> bool,
    /// The data.
    pub store: &'a Store,
    /// The time of the batch, in milliseconds since 1970.
    pub now_ms: u64,
}

impl<'a> Cx<'a> {
    /// The nodes that belong to the cluster, by id.
    fn nodes(&self) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|row| row.state.is_member())
    }

    /// Argument `at` as a slot; `error` for a number that is none.
    fn slot(&self, at: usize, error: &'static str) -> Result<Slot, CommandError> {
        let number = parse_i64(self.args.get(at).ok_or(CommandError::Syntax)?).ok_or(CommandError::NotInteger)?;
        u16::try_from(number).ok().and_then(Slot::new).ok_or(CommandError::text(error))
    }
}

/// Runs CLUSTER on the cluster face.
pub fn run(row: &'static Command, cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    match subcommands::short_name(subcommands::checked(row, cx.args)?) {
        "myid" => out.bulk(cx.this.to_string().as_bytes()),
        "keyslot" => out.int(slot_of(cx.args.get(2).unwrap_or_default()).number().into()),
        "info" => out.verbatim(b"txt", info(cx).as_bytes()),
        "nodes" => out.verbatim(b"txt", nodes(cx).as_bytes()),
        "slots" => slots(cx, out),
        "shards" => shards(cx, out),
        "replicas" | "slaves" => replicas(cx, out)?,
        "countkeysinslot" => {
            let slot = cx.slot(2, "ERR Invalid slot")?;
            out.int(cx.store.table(slot).iter().filter(|entry| is_live(cx, entry)).count() as i64);
        }
        "getkeysinslot" => keys_in_slot(cx, out)?,
        // Links between nodes are not Redis's, and their figures are in /metrics.
        "links" => out.array(0),
        "help" => subcommands::help(out, row.name),
        refused => {
            let hint = "rondo places slots by itself: nodes join with --join and leave when they are told to stop";
            let name = refused.to_uppercase();
            return Err(CommandError::said(format!("ERR CLUSTER {name} is not available: {hint}")));
        }
    }
    Ok(())
}

/// The answer on the standalone face, which is no node of a Redis Cluster.
pub fn refuse_standalone(row: &'static Command, args: Args<'_>) -> CommandError {
    match subcommands::checked(row, args) {
        Err(error) => error,
        Ok(_) => CommandError::text("ERR This instance has cluster support disabled"),
    }
}

fn info(cx: Cx<'_>) -> String {
    let served = cx.map.slots_served();
    let assigned: usize = cx.map.runs.iter().map(SlotRun::len).sum();
    let state = if served == SLOT_COUNT { "ok" } else { "fail" };
    let coordinators = cx.nodes().filter(|row| cx.map.of_coordinator(&row.id).next().is_some()).count();
    let lines = [
        ("cluster_slots_assigned", assigned),
        ("cluster_slots_ok", served),
        ("cluster_slots_pfail", 0),
        ("cluster_slots_fail", assigned - served),
        ("cluster_known_nodes", cx.nodes().count()),
        ("cluster_size", coordinators),
        ("cluster_current_epoch", cx.nodes().count()),
        ("cluster_my_epoch", epoch(cx, &cx.this)),
        ("cluster_stats_messages_sent", 0),
        ("cluster_stats_messages_received", 0),
        ("total_cluster_links_buffer_limit_exceeded", 0),
    ];
    lines.iter().fold(format!("cluster_state:{state}\r\n"), |text, (name, value)| text + &format!("{name}:{value}\r\n"))
}

/// A number of a node's own, because clients take nodes with equal epochs for a conflict.
fn epoch(cx: Cx<'_>, id: &NodeId) -> usize {
    cx.nodes().position(|row| row.id == *id).map_or(0, |at| at + 1)
}

fn nodes(cx: Cx<'_>) -> String {
    let mut text = String::new();
    for row in cx.nodes() {
        let this = row.id == cx.this;
        let alive = this || (cx.is_alive)(&row.id);
        let flags = match (this, alive) {
            (true, _) => "myself,master",
            (false, true) => "master",
            (false, false) => "master,fail",
        };
        let (id, host, port, bus_port) = (row.id, &row.host, row.cluster_port, row.peer_addr.port());
        let link = if alive { "connected" } else { "disconnected" };
        let (now_ms, epoch) = (cx.now_ms, epoch(cx, &row.id));
        // Writing to a String cannot fail.
        let _ = write!(text, "{id} {host}:{port}@{bus_port} {flags} - 0 {now_ms} {epoch} {link}");
        for run in coordinated(cx.map, &row.id) {
            let _ = match run {
                (first, last) if first == last => write!(text, " {first}"),
                (first, last) => write!(text, " {first}-{last}"),
            };
        }
        text.push('\n');
    }
    text
}

/// The slots that a node coordinates, as ranges as long as they get.
fn coordinated(map: &SlotMap, id: &NodeId) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for run in map.of_coordinator(id) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == run.first.number() => *last = run.last.number(),
            _ => ranges.push((run.first.number(), run.last.number())),
        }
    }
    ranges
}

/// CLUSTER SLOTS: each range with its coordinator alone. The other holders answer MOVED, so they are no replicas that a
/// client could read from; and each of them coordinates other slots, which clients take for a contradiction.
fn slots(cx: Cx<'_>, out: &mut Reply<'_>) {
    let mut ranges: Vec<(u16, u16, &Row)> = Vec::new();
    for row in cx.nodes() {
        ranges.extend(coordinated(cx.map, &row.id).into_iter().map(|(first, last)| (first, last, row)));
    }
    ranges.sort_unstable_by_key(|(first, ..)| *first);
    out.array(ranges.len());
    for (first, last, row) in ranges {
        out.array(3);
        out.int(first.into());
        out.int(last.into());
        out.array(4);
        out.bulk(row.host.as_bytes());
        out.int(row.cluster_port.into());
        out.bulk(row.id.to_string().as_bytes());
        out.map(0);
    }
}

/// CLUSTER SHARDS: a shard for each node, which is its master and only member, for the same reason.
fn shards(cx: Cx<'_>, out: &mut Reply<'_>) {
    out.array(cx.nodes().count());
    for row in cx.nodes() {
        let ranges = coordinated(cx.map, &row.id);
        out.map(2);
        out.bulk(b"slots");
        out.array(ranges.len() * 2);
        for (first, last) in ranges {
            out.int(first.into());
            out.int(last.into());
        }
        out.bulk(b"nodes");
        out.array(1);
        write_shard_node(cx, out, row);
    }
}

fn write_shard_node(cx: Cx<'_>, out: &mut Reply<'_>, row: &Row) {
    let alive = row.id == cx.this || (cx.is_alive)(&row.id);
    let health = match (alive, row.warm) {
        (true, true) => "online",
        (true, false) => "loading",
        (false, _) => "fail",
    };
    out.map(7);
    out.bulk(b"id");
    out.bulk(row.id.to_string().as_bytes());
    out.bulk(b"port");
    out.int(row.cluster_port.into());
    out.bulk(b"ip");
    out.bulk(row.host.as_bytes());
    out.bulk(b"endpoint");
    out.bulk(row.host.as_bytes());
    out.bulk(b"role");
    out.bulk(b"master");
    out.bulk(b"replication-offset");
    out.int(0);
    out.bulk(b"health");
    out.bulk(health.as_bytes());
}

fn replicas(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let name = cx.args.get(2).unwrap_or_default();
    if !cx.nodes().any(|row| row.id.to_string().as_bytes() == name) {
        return Err(CommandError::quoting("ERR Unknown node ", name, ""));
    }
    out.array(0);
    Ok(())
}

fn keys_in_slot(cx: Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let slot = cx.slot(2, "ERR Invalid slot or number of keys")?;
    let count = parse_i64(cx.args.get(3).unwrap_or_default()).ok_or(CommandError::NotInteger)?;
    let count = usize::try_from(count).map_err(|_| CommandError::text("ERR Invalid slot or number of keys"))?;
    let table = cx.store.table(slot);
    let keys: Vec<&[u8]> =
        table.iter().filter(|entry| is_live(cx, entry)).map(|entry| entry.key()).take(count).collect();
    out.array(keys.len());
    keys.iter().for_each(|key| out.bulk(key));
    Ok(())
}

/// Whether a client on this face can see an entry.
fn is_live(cx: Cx<'_>, entry: &Entry) -> bool {
    !entry.is_tombstone() && !entry.is_expired(cx.now_ms) && entry.db() == 0
}

#[cfg(test)]
mod tests;
