//! What CLUSTER and SENTINEL can do.
//!
//! Each row is a row like any other, under the name `parent|subcommand`; what it does not say is as in the first
//! lines of its list.

use crate::commands::spec::{Command, Group, Handler, Keys, NodeCommand, flag};

const CLUSTER_BASE: Command = Command {
    name: "cluster",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::Cluster,
    arity: 2,
    flags: flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Cluster),
};

/// CLUSTER's subcommands.
pub static CLUSTER: &[Command] = &[
    Command {
        name: "cluster|countkeysinslot",
        summary: "Return the number of local keys in the specified hash slot",
        syntax: "slot",
        since: "3.0.0",
        arity: 3,
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|getkeysinslot",
        summary: "Return local key names in the specified hash slot",
        syntax: "slot count",
        since: "3.0.0",
        complexity: "O(log(N)) where N is the number of requested keys",
        arity: 4,
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|help",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: flag::LOADING | flag::STALE,
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|info",
        summary: "Provides info about Redis Cluster node state",
        since: "3.0.0",
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|keyslot",
        summary: "Returns the hash slot of the specified key",
        syntax: "key",
        since: "3.0.0",
        complexity: "O(N) where N is the number of bytes in the key",
        arity: 3,
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|links",
        summary: "Returns a list of all TCP links to and from peer nodes in cluster",
        since: "7.0.0",
        complexity: "O(N) where N is the total number of Cluster nodes",
        ..CLUSTER_BASE
    },
    Command { name: "cluster|myid", summary: "Return the node id", since: "3.0.0", ..CLUSTER_BASE },
    Command {
        name: "cluster|nodes",
        summary: "Get Cluster config for the node",
        since: "3.0.0",
        complexity: "O(N) where N is the total number of Cluster nodes",
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|replicas",
        summary: "List replica nodes of the specified master node",
        syntax: "node-id",
        since: "5.0.0",
        arity: 3,
        flags: flag::ADMIN | flag::STALE,
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|shards",
        summary: "Get array of cluster slots to node mappings",
        since: "7.0.0",
        complexity: "O(N) where N is the total number of cluster nodes",
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|slaves",
        summary: "List replica nodes of the specified master node",
        syntax: "node-id",
        since: "3.0.0",
        arity: 3,
        flags: flag::ADMIN | flag::STALE,
        ..CLUSTER_BASE
    },
    Command {
        name: "cluster|slots",
        summary: "Get array of Cluster slot to node mappings",
        since: "3.0.0",
        complexity: "O(N) where N is the total number of Cluster nodes",
        ..CLUSTER_BASE
    },
];

const CHANGE_BASE: Command =
    Command { summary: "Refused: slots are placed by the ring", flags: flag::ADMIN, ..CLUSTER_BASE };

/// What CLUSTER refuses: all that would change by hand what the ring decides, or asks about votes that are not taken.
pub static CHANGES: &[Command] = &[
    Command { name: "cluster|addslots", arity: -3, ..CHANGE_BASE },
    Command { name: "cluster|addslotsrange", arity: -4, ..CHANGE_BASE },
    Command { name: "cluster|bumpepoch", ..CHANGE_BASE },
    Command { name: "cluster|count-failure-reports", arity: 3, ..CHANGE_BASE },
    Command { name: "cluster|delslots", arity: -3, ..CHANGE_BASE },
    Command { name: "cluster|delslotsrange", arity: -4, ..CHANGE_BASE },
    Command { name: "cluster|failover", arity: -2, ..CHANGE_BASE },
    Command { name: "cluster|flushslots", ..CHANGE_BASE },
    Command { name: "cluster|forget", arity: 3, ..CHANGE_BASE },
    Command { name: "cluster|meet", arity: -4, ..CHANGE_BASE },
    Command { name: "cluster|replicate", arity: 3, ..CHANGE_BASE },
    Command { name: "cluster|reset", arity: -2, ..CHANGE_BASE },
    Command { name: "cluster|saveconfig", ..CHANGE_BASE },
    Command { name: "cluster|set-config-epoch", arity: 3, ..CHANGE_BASE },
    Command { name: "cluster|setslot", arity: -4, ..CHANGE_BASE },
];

const SENTINEL_BASE: Command = Command {
    name: "sentinel",
    summary: "",
    syntax: "",
    since: "",
    complexity: "O(1)",
    group: Group::Sentinel,
    arity: 2,
    flags: flag::ADMIN,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Sentinel),
};

/// SENTINEL's subcommands.
pub static SENTINEL: &[Command] = &[
    Command {
        name: "sentinel|ckquorum",
        summary: "Check whether the nodes that answer make a quorum",
        syntax: "master-name",
        since: "2.8.4",
        arity: 3,
        ..SENTINEL_BASE
    },
    Command {
        name: "sentinel|get-master-addr-by-name",
        summary: "Get the address and port of a live node",
        syntax: "master-name",
        since: "2.8.4",
        arity: 3,
        ..SENTINEL_BASE
    },
    Command {
        name: "sentinel|help",
        summary: "Show helpful text about the different subcommands",
        since: "6.2.0",
        flags: flag::LOADING | flag::STALE,
        ..SENTINEL_BASE
    },
    Command {
        name: "sentinel|master",
        summary: "Show the node that clients are sent to",
        syntax: "master-name",
        since: "2.8.4",
        arity: 3,
        ..SENTINEL_BASE
    },
    Command {
        name: "sentinel|masters",
        summary: "Show the node that clients are sent to, in a list",
        since: "2.8.4",
        ..SENTINEL_BASE
    },
    Command { name: "sentinel|myid", summary: "Return the node id", since: "6.2.0", ..SENTINEL_BASE },
    Command {
        name: "sentinel|replicas",
        summary: "Show the other nodes",
        syntax: "master-name",
        since: "5.0.0",
        complexity: "O(N) where N is the number of nodes",
        arity: 3,
        ..SENTINEL_BASE
    },
    Command {
        name: "sentinel|sentinels",
        summary: "Show the other nodes, each of which answers as a Sentinel",
        syntax: "master-name",
        since: "2.8.4",
        complexity: "O(N) where N is the number of nodes",
        arity: 3,
        ..SENTINEL_BASE
    },
    Command {
        name: "sentinel|slaves",
        summary: "Show the other nodes",
        syntax: "master-name",
        since: "2.8.0",
        complexity: "O(N) where N is the number of nodes",
        arity: 3,
        ..SENTINEL_BASE
    },
];
