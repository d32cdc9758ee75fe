//! Publish and subscribe.
//!
//! Rows only: the server runs these commands, because they need connections, options or other nodes. Arity, flags
//! and key positions are Redis 7.0.15's: `oracle_tests` compares them with a real redis-server.

use crate::commands::node_command::TopicKind;
use crate::commands::spec::{Command, Group, Handler, KEY, Keys, NodeCommand, flag};

/// SUBSCRIBE: one confirmation a channel, then its messages.
pub static SUBSCRIBE: Command = Command {
    name: "subscribe",
    summary: "Listen for messages published to the given channels",
    syntax: "channel [channel ...]",
    since: "2.0.0",
    complexity: "O(N) where N is the number of channels to subscribe to.",
    group: Group::PubSub,
    arity: -2,
    flags: flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Subscribe(TopicKind::Channel)),
};

/// PSUBSCRIBE: one confirmation a pattern, then the messages of all channels that match.
pub static PSUBSCRIBE: Command = Command {
    name: "psubscribe",
    summary: "Listen for messages published to channels matching the given patterns",
    syntax: "pattern [pattern ...]",
    since: "2.0.0",
    complexity: "O(N) where N is the number of patterns the client is already subscribed to.",
    group: Group::PubSub,
    arity: -2,
    flags: flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Subscribe(TopicKind::Pattern)),
};

/// SSUBSCRIBE: as SUBSCRIBE, for channels that live in a hash slot.
pub static SSUBSCRIBE: Command = Command {
    name: "ssubscribe",
    summary: "Listen for messages published to the given shard channels",
    syntax: "shardchannel [shardchannel ...]",
    since: "7.0.0",
    complexity: "O(N) where N is the number of shard channels to subscribe to.",
    group: Group::PubSub,
    arity: -2,
    flags: flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::Node(NodeCommand::Subscribe(TopicKind::Shard)),
};

/// UNSUBSCRIBE: one confirmation a channel; without arguments all go.
pub static UNSUBSCRIBE: Command = Command {
    name: "unsubscribe",
    summary: "Stop listening for messages posted to the given channels",
    syntax: "[channel [channel ...]]",
    since: "2.0.0",
    complexity: "O(N) where N is the number of clients already subscribed to a channel.",
    group: Group::PubSub,
    arity: -1,
    flags: flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Unsubscribe(TopicKind::Channel)),
};

/// PUNSUBSCRIBE: one confirmation a pattern; without arguments all go.
pub static PUNSUBSCRIBE: Command = Command {
    name: "punsubscribe",
    summary: "Stop listening for messages posted to channels matching the given patterns",
    syntax: "[pattern [pattern ...]]",
    since: "2.0.0",
    complexity: "O(N+M) where N is the number of patterns the client is already subscribed and M is the number of total patterns subscribed in the system (by any client).",
    group: Group::PubSub,
    arity: -1,
    flags: flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Unsubscribe(TopicKind::Pattern)),
};

/// SUNSUBSCRIBE: as UNSUBSCRIBE, for channels that live in a hash slot.
pub static SUNSUBSCRIBE: Command = Command {
    name: "sunsubscribe",
    summary: "Stop listening for messages posted to the given shard channels",
    syntax: "[shardchannel [shardchannel ...]]",
    since: "7.0.0",
    complexity: "O(N) where N is the number of clients already subscribed to a shard channel.",
    group: Group::PubSub,
    arity: -1,
    flags: flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    keys: Keys::Range { first: 1, last: -1, step: 1 },
    handler: Handler::Node(NodeCommand::Unsubscribe(TopicKind::Shard)),
};

/// PUBLISH: how many clients got the message.
pub static PUBLISH: Command = Command {
    name: "publish",
    summary: "Post a message to a channel",
    syntax: "channel message",
    since: "2.0.0",
    complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed patterns (by any client).",
    group: Group::PubSub,
    arity: 3,
    flags: flag::PUBSUB | flag::LOADING | flag::STALE | flag::FAST | flag::MAY_REPLICATE,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::Publish),
};

/// SPUBLISH: how many clients got the message.
pub static SPUBLISH: Command = Command {
    name: "spublish",
    summary: "Post a message to a shard channel",
    syntax: "shardchannel message",
    since: "7.0.0",
    complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
    group: Group::PubSub,
    arity: 3,
    flags: flag::PUBSUB | flag::LOADING | flag::STALE | flag::FAST | flag::MAY_REPLICATE,
    keys: KEY,
    handler: Handler::Node(NodeCommand::Publish),
};

/// PUBSUB: who listens to what.
pub static PUBSUB: Command = Command {
    name: "pubsub",
    summary: "A container for Pub/Sub commands",
    syntax: "subcommand [argument ...]",
    since: "2.8.0",
    complexity: "Depends on subcommand.",
    group: Group::PubSub,
    arity: -2,
    flags: 0,
    keys: Keys::None,
    handler: Handler::Node(NodeCommand::PubSub),
};
