//! PUBLISH, SPUBLISH and PUBSUB.
//!
//! On the standalone face PUBSUB tells of the whole cluster, on the cluster face of this node, as a node of a Redis
//! Cluster does. PUBLISH counts the subscribers of all nodes on either face: those of other nodes as this node last
//! heard of them, and not those of a node whose link is down at the moment.

use crate::commands::node_command::TopicKind;
use crate::commands::spec::Command;
use crate::commands::{CommandError, subcommands};
use crate::protocol::{Args, Reply};
use crate::server::pubsub::Hub;

/// Runs PUBLISH or SPUBLISH.
pub fn publish(row: &Command, args: Args<'_>, hub: &Hub, out: &mut Reply<'_>) {
    let kind = if row.name == "spublish" { TopicKind::Shard } else { TopicKind::Channel };
    let (channel, payload) = (args.get(1).unwrap_or_default(), args.get(2).unwrap_or_default());
    out.int(hub.publish(kind, channel, payload) as i64);
}

/// Runs PUBSUB; `is_whole` asks for the whole cluster.
pub fn run(
    row: &'static Command,
    args: Args<'_>,
    hub: &Hub,
    is_whole: bool,
    out: &mut Reply<'_>,
) -> Result<(), CommandError> {
    match subcommands::short_name(subcommands::checked(row, args)?) {
        "channels" => list(row, args, hub.names(TopicKind::Channel, is_whole), out)?,
        "shardchannels" => list(row, args, hub.names(TopicKind::Shard, is_whole), out)?,
        "numpat" => out.int(hub.names(TopicKind::Pattern, is_whole).len() as i64),
        "numsub" => count(args, |name| hub.count(TopicKind::Channel, name, is_whole), out),
        "shardnumsub" => count(args, |name| hub.count(TopicKind::Shard, name, is_whole), out),
        _ => subcommands::help(out, row.name),
    }
    Ok(())
}

fn list(
    row: &'static Command,
    args: Args<'_>,
    mut names: Vec<Box<[u8]>>,
    out: &mut Reply<'_>,
) -> Result<(), CommandError> {
    if args.len() > 3 {
        return Err(subcommands::unknown_or_wrong(row.name, args.get(1).unwrap_or_default()));
    }
    if let Some(pattern) = args.get(2) {
        names.retain(|name| crate::base::glob::matches(pattern, name, false));
    }
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name));
    Ok(())
}

fn count(args: Args<'_>, count: impl Fn(&[u8]) -> u64, out: &mut Reply<'_>) {
    out.array(2 * (args.len() - 2));
    for name in args.iter().skip(2) {
        out.bulk(name);
        out.int(count(name) as i64);
    }
}
