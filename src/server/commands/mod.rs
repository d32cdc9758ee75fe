//! Commands that need the server rather than keys: connections, figures, diagnosis.
//!
//! | file | what it is |
//! |---|---|
//! | `connection`, `client` | HELLO, AUTH, SELECT, PING and their like; CLIENT |
//! | `config` | CONFIG: options, read and changed while the node runs |
//! | `info` | INFO: the node's figures as text |
//! | `latency`, `slowlog`, `memory` | LATENCY, SLOWLOG, MEMORY: how long commands take; what the node takes |
//! | `pubsub` | PUBLISH, SPUBLISH and PUBSUB |
//! | `cluster`, `sentinel` | CLUSTER on the cluster face; SENTINEL |
//! | `forget` | RONDO.FORGET: a dead node is given up for ever |
//! | `shutdown` | SHUTDOWN: what SIGTERM does |
//!
//! Each is a function of the request, of the part of the server it is about, and of the time; it writes its reply, or
//! returns an error having written none. None of them waits. Their rows are in `commands::node_rows`, those of their
//! subcommands in `commands::subcommands`. [`run`] is the one entrance; what needs other nodes, the keyspace as a whole
//! or a connection's queue (SCAN, FLUSHALL, EXEC, WAIT ...) it leaves to its caller.

use std::sync::atomic::Ordering;

use crate::base::ids::Slot;
use crate::base::metrics::Count;
use crate::commands::error::{NAME_BYTES_SHOWN, printed_name};
use crate::commands::node_command::TopicKind;
use crate::commands::spec::{Command, NodeCommand};
use crate::commands::{CommandError, absent, introspection};
use crate::protocol::{Args, Reply};
use crate::server::session::Session;
use crate::server::state::NodeState;
use crate::server::state::client::Client;

pub mod client;
pub mod cluster;
pub mod config;
pub mod forget;
pub mod info;
pub mod connection;
pub mod latency;
pub mod memory;
pub mod pubsub;
pub mod sentinel;
pub mod shutdown;
pub mod slowlog;

/// Who asks what, and when.
pub struct Cx<'a> {
    /// The request.
    pub args: Args<'a>,
    /// The node.
    pub node: &'a NodeState,
    /// The connection's state.
    pub session: &'a mut Session,
    /// The connection's record.
    pub client: &'a Client,
    /// The time, in microseconds since 1970.
    pub now_us: u64,
}

impl Cx<'_> {
    fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }
}

/// Runs a command of the server. False when it is one that the caller has to run; nothing was written then.
pub fn run(
    row: &'static Command,
    command: NodeCommand,
    cx: &mut Cx<'_>,
    out: &mut Reply<'_>,
) -> Result<bool, CommandError> {
    let (args, node) = (cx.args, cx.node);
    match command {
        NodeCommand::Client => {
            let (clients, this, now_ms) = (&*node.clients, cx.client, cx.now_ms());
            cx.session.closing |= client::run(row, client::Cx { args, clients, this, now_ms }, out)?;
            node.store.stand_still_until(clients.pause_ends_ms());
        }
        NodeCommand::Cluster => run_cluster(row, cx, out)?,
        NodeCommand::Command => introspection::run(row, args, out)?,
        NodeCommand::Config => {
            let (config, metrics, errors) = (&*node.config, &*node.metrics, &node.errors);
            let (cluster_face, client) = (cx.session.cluster_face, cx.client);
            config::run(row, config::Cx { args, config, metrics, errors, cluster_face, client }, out)?;
        }
        NodeCommand::Forget => forget::run(row, args, node, out)?,
        NodeCommand::Found => found(node, out)?,
        NodeCommand::Debug => return Err(debug_refused()),
        NodeCommand::Info => run_info(cx, out),
        NodeCommand::Latency => latency::run(row, args, &node.metrics.totals_since_reset(), out)?,
        NodeCommand::Memory => memory::run(row, args, node.memory(), out)?,
        NodeCommand::Publish => pubsub::publish(row, args, &node.pubsub, out),
        NodeCommand::PubSub => pubsub::run(row, args, &node.pubsub, !cx.session.cluster_face, out)?,
        NodeCommand::Sentinel => {
            let snapshot = node.snapshot.load();
            let (this, others) = &snapshot.nodes;
            let names = &node.config.settings().sentinel_master_names;
            sentinel::run(row, args, sentinel::Nodes { this, others, names }, out)?;
        }
        NodeCommand::Shutdown => {
            shutdown::run(args, &node.stop)?;
            cx.session.closing = true;
        }
        NodeCommand::SwapDb => return Err(swap_refused()),
        NodeCommand::SlowLog => slowlog::run(row, args, &node.slow_log, out)?,
        NodeCommand::Unsupported => return Err(unsupported(row)),
        _ => return run_connection(row, command, cx, out),
    }
    Ok(true)
}

fn run_connection(
    row: &'static Command,
    command: NodeCommand,
    cx: &mut Cx<'_>,
    out: &mut Reply<'_>,
) -> Result<bool, CommandError> {
    let settings = cx.node.config.settings();
    let mut connection = connection::Cx {
        args: cx.args,
        session: cx.session,
        client: cx.client,
        password: &settings.requirepass,
        metrics: &cx.node.metrics,
        databases: settings.databases,
        now_us: cx.now_us,
    };
    let done = connection::run(row, command, &mut connection, out)?;
    cx.client.db.store(cx.session.db, Ordering::Relaxed);
    cx.client.resp.store(cx.session.proto.version(), Ordering::Relaxed);
    cx.client.mailbox.speak(cx.session.proto);
    Ok(done)
}

fn run_cluster(row: &'static Command, cx: &Cx<'_>, out: &mut Reply<'_>) -> Result<(), CommandError> {
    if !cx.session.cluster_face {
        return Err(cluster::refuse_standalone(row, cx.args));
    }
    let snapshot = cx.node.snapshot.load();
    let cx = cluster::Cx {
        args: cx.args,
        rows: &snapshot.rows,
        map: &snapshot.map,
        this: snapshot.this,
        is_alive: &|id| snapshot.serving.contains(id),
        store: &cx.node.store,
        now_ms: cx.now_ms(),
    };
    cluster::run(row, cx, out)
}

/// INFO; the cluster face counts the keys that this node coordinates, so that sums over nodes are right.
fn run_info(cx: &Cx<'_>, out: &mut Reply<'_>) {
    let node = cx.node;
    let (settings, snapshot) = (node.config.settings(), node.snapshot.load());
    let cluster = cx.session.cluster_face;
    let counts = match cluster {
        true => node.store.count_keys(snapshot.coordinated.iter().copied()),
        false => node.store.count_keys(Slot::all()),
    };
    let database = |(db, of_db): (u8, crate::store::census::DbCounts)| info::Database {
        db,
        keys: of_db.keys,
        expires: of_db.expires,
    };
    let databases: Vec<info::Database> = counts.into_iter().map(database).collect();
    let clients = node.clients.all();
    let most = |of: fn(&Client) -> usize| clients.iter().map(|client| of(client)).max().unwrap_or(0);
    let port = if cluster { settings.ports.cluster } else { settings.ports.port };
    let facts = info::Facts {
        settings: &settings,
        config_file: &node.config.file().map(|path| path.display().to_string()).unwrap_or_default(),
        process: &node.process,
        totals: &node.metrics.totals_since_reset(),
        gauges: &node.metrics.gauges(),
        rates: node.sampler.rates(),
        changes: node.metrics.totals().count(Count::KeyChanges),
        errors: &node.errors.all(),
        memory: node.memory(),
        databases: &databases,
        clients: info::ClientFigures {
            connected: clients.len(),
            blocked: node.clients.count_blocked(),
            input_bytes_max: most(|client| client.input_bytes.load(Ordering::Relaxed)),
            output_bytes_max: most(|client| client.mailbox.len_bytes()),
            subscribed: TopicKind::ALL.map(|kind| node.pubsub.names(kind, false).len()),
        },
        face: info::Face { port, cluster },
        ring: &snapshot.figures,
        now_ms: cx.now_ms(),
    };
    info::run(cx.args, &facts, out);
}

/// Begins as a Redis answers whose `enable-debug-command` is `no`.
fn debug_refused() -> CommandError {
    CommandError::text(
        "ERR DEBUG command not allowed. rondo has none of its subcommands, and no option that allows them",
    )
}

/// RONDO.FOUND.
fn found(node: &NodeState, out: &mut Reply<'_>) -> Result<(), CommandError> {
    let cluster = node.cluster.get().ok_or(CommandError::text("ERR this node has not started yet"))?;
    cluster.found().map_err(|error| CommandError::said(error.to_string()))?;
    out.ok();
    Ok(())
}

fn swap_refused() -> CommandError {
    CommandError::text(
        "ERR SWAPDB is not supported: the keys of a database lie on many nodes, and no two databases can change places on \
         all of them at one moment",
    )
}

fn unsupported(row: &Command) -> CommandError {
    let name = row.name.to_uppercase();
    CommandError::said(format!(
        "ERR {name} is not supported: rondo keeps data in memory and on other nodes, not in files"
    ))
}

/// Redis's words for a command that does not exist (`server.c`, 7.0): the name and the first arguments, cut short. Of
/// one that Redis has, in place of the arguments, why it is not here.
pub fn unknown_command(args: Args<'_>) -> CommandError {
    let name = printed_name(args.name());
    if let Some(reason) = absent::reason(args.name()) {
        return CommandError::quoting("ERR unknown command '", name, &format!("': {reason}"));
    }
    let mut text = [b"ERR unknown command '", name, b"', with args beginning with: "].concat();
    let mut room = NAME_BYTES_SHOWN;
    for arg in args.iter().skip(1).map(printed_name) {
        let shown = arg.get(..room).unwrap_or(arg);
        text.extend_from_slice(&[b"'", shown, b"' "].concat());
        room = room.saturating_sub(shown.len() + 3);
        if room == 0 {
            break;
        }
    }
    CommandError::said(text)
}

#[cfg(test)]
mod tests;
