//! SUBSCRIBE, UNSUBSCRIBE and their kind: a connection begins or ends to listen.
//!
//! They stand alone among a connection's requests: all before them is answered, and messages stay in the mailbox until
//! the confirmation is in the output, so that no message of a channel comes before its confirmation. For the same
//! reason the end of a subscription brings first what had come before; inside a transaction that comes before EXEC's
//! array.

use std::sync::Arc;

use crate::commands::CommandError;
use crate::commands::node_command::TopicKind;
use crate::commands::spec::{Command, Handler, NodeCommand, flag};
use crate::protocol::{Args, Proto, Reply};
use crate::server::pubsub::{Hub, Mailbox};
use crate::server::request::run::Run;
use crate::server::state::client::{Client, state};

/// What a watcher reads that asks for keys.
const NO_KEYSPACE: &str = "ERR Replica can't interact with the keyspace";

/// Redis's words for a shard channel inside a transaction, where it takes all others.
const NO_SHARD_CHANNELS: &str = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client";

impl Run<'_> {
    /// A subscription inside a transaction; false when the request is something else.
    pub fn subscribe_together(&mut self, command: &Command, args: Args<'_>) -> bool {
        let is_one = is_subscription(command);
        if matches!(command.handler, Handler::Node(NodeCommand::Subscribe(TopicKind::Shard))) {
            self.fail(NO_SHARD_CHANNELS);
        } else if is_one {
            // It is to come before EXEC's array, and not in the middle of it.
            let set_aside = |mailbox: &Mailbox, _: &mut Vec<u8>| mailbox.set_aside();
            let hub = &self.worker.shared.node.pubsub;
            change(hub, self.client, command, args, self.session.proto, &mut self.batch.out, set_aside);
        }
        is_one
    }

    /// What a connection may not ask while it listens. In RESP2 messages could be taken for replies; and who watches
    /// what others ask, by MONITOR, is a kind of replica to Redis.
    pub fn admit_listening(&self, command: &Command) -> Result<(), CommandError> {
        use NodeCommand::{Ping, Quit, Reset};
        let is_allowed = is_subscription(command) || matches!(command.handler, Handler::Node(Ping | Quit | Reset));
        let is_subscribed = self.client.is_in(state::SUBSCRIBED);
        if is_subscribed && self.session.proto == Proto::Resp2 && !is_allowed {
            return Err(refused_while_subscribed(command));
        }
        let is_of_keys = command.flags & (flag::READONLY | flag::WRITE | flag::MAY_REPLICATE) != 0;
        match self.client.is_in(state::MONITOR) && is_of_keys {
            true => Err(CommandError::text(NO_KEYSPACE)),
            false => Ok(()),
        }
    }
}

fn refused_while_subscribed(command: &Command) -> CommandError {
    let text = format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        command.name
    );
    CommandError::said(text)
}

/// Whether a command begins or ends subscriptions.
pub fn is_subscription(command: &Command) -> bool {
    command.has(flag::PUBSUB) && matches!(command.handler, Handler::Node(node) if node.is_subscription())
}

/// Begins or ends subscriptions, and confirms each. `hand_over` is given what came before an end, in the mailbox. Does
/// nothing for any other command.
pub fn change(
    hub: &Hub,
    client: &Client,
    command: &Command,
    args: Args<'_>,
    proto: Proto,
    out: &mut Vec<u8>,
    hand_over: fn(&Mailbox, &mut Vec<u8>),
) {
    let mailbox = &client.mailbox;
    mailbox.speak(proto);
    let mut reply = Reply::new(out, proto);
    match command.handler {
        Handler::Node(NodeCommand::Subscribe(kind)) => {
            for name in args.iter().skip(1) {
                hub.subscribe(mailbox, kind, name);
                confirm(&mut reply, kind.subscribe_word(), Some(name), kind, mailbox);
            }
        }
        Handler::Node(NodeCommand::Unsubscribe(kind)) => end(hub, mailbox, kind, args, &mut reply, hand_over),
        _ => {}
    }
    client.set_state(state::SUBSCRIBED, TopicKind::ALL.iter().any(|kind| mailbox.count(*kind) != 0));
}

fn end(
    hub: &Hub,
    mailbox: &Arc<Mailbox>,
    kind: TopicKind,
    args: Args<'_>,
    reply: &mut Reply<'_>,
    hand_over: fn(&Mailbox, &mut Vec<u8>),
) {
    let names = match args.len() {
        1 => mailbox.names(kind),
        _ => args.iter().skip(1).map(Into::into).collect(),
    };
    for name in &names {
        hub.unsubscribe(mailbox, kind, name);
        hand_over(mailbox, reply.buf);
        confirm(reply, kind.unsubscribe_word(), Some(name), kind, mailbox);
    }
    if names.is_empty() {
        confirm(reply, kind.unsubscribe_word(), None, kind, mailbox);
    }
}

/// How many subscriptions a confirmation counts: shard channels apart from all others.
fn confirm(reply: &mut Reply<'_>, word: &str, name: Option<&[u8]>, kind: TopicKind, mailbox: &Mailbox) {
    let count = match kind {
        TopicKind::Shard => mailbox.count(TopicKind::Shard),
        TopicKind::Channel | TopicKind::Pattern => {
            mailbox.count(TopicKind::Channel) + mailbox.count(TopicKind::Pattern)
        }
    };
    reply.push(3);
    reply.bulk(word.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.int(count as i64);
}
