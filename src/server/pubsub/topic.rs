//! What belongs to each kind of name that one can listen to, and messages as clients read them.

use crate::commands::node_command::TopicKind;
use crate::protocol::{Proto, Reply};

impl TopicKind {
    /// All of them.
    pub const ALL: [TopicKind; 3] = [TopicKind::Channel, TopicKind::Pattern, TopicKind::Shard];

    /// The kind with this number.
    pub fn parse(byte: u8) -> Option<TopicKind> {
        TopicKind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The first word of the confirmation of a subscription.
    pub fn subscribe_word(self) -> &'static str {
        match self {
            TopicKind::Channel => "subscribe",
            TopicKind::Pattern => "psubscribe",
            TopicKind::Shard => "ssubscribe",
        }
    }

    /// The first word of the confirmation that a subscription has ended.
    pub fn unsubscribe_word(self) -> &'static str {
        match self {
            TopicKind::Channel => "unsubscribe",
            TopicKind::Pattern => "punsubscribe",
            TopicKind::Shard => "sunsubscribe",
        }
    }
}

/// One of something for each [`TopicKind`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ByKind<T> {
    channels: T,
    patterns: T,
    shards: T,
}

impl<T> ByKind<T> {
    /// That of this kind.
    pub fn of(&self, kind: TopicKind) -> &T {
        match kind {
            TopicKind::Channel => &self.channels,
            TopicKind::Pattern => &self.patterns,
            TopicKind::Shard => &self.shards,
        }
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, kind: TopicKind) -> &mut T {
        match kind {
            TopicKind::Channel => &mut self.channels,
            TopicKind::Pattern => &mut self.patterns,
            TopicKind::Shard => &mut self.shards,
        }
    }
}

/// A message as the subscribers of one name read it; written at most once for each protocol.
#[derive(Debug)]
pub struct Letter<'a> {
    kind: TopicKind,
    pattern: &'a [u8],
    channel: &'a [u8],
    payload: &'a [u8],
    resp2: Option<Vec<u8>>,
    resp3: Option<Vec<u8>>,
}

impl<'a> Letter<'a> {
    /// To the subscribers of the channel itself.
    pub fn to_channel(kind: TopicKind, channel: &'a [u8], payload: &'a [u8]) -> Letter<'a> {
        Letter { kind, pattern: &[], channel, payload, resp2: None, resp3: None }
    }

    /// To the subscribers of a pattern that the channel matches.
    pub fn to_pattern(pattern: &'a [u8], channel: &'a [u8], payload: &'a [u8]) -> Letter<'a> {
        Letter { kind: TopicKind::Pattern, pattern, channel, payload, resp2: None, resp3: None }
    }

    /// Its bytes.
    pub fn bytes(&mut self, proto: Proto) -> &[u8] {
        let (kind, pattern, channel, payload) = (self.kind, self.pattern, self.channel, self.payload);
        let place = if proto == Proto::Resp3 { &mut self.resp3 } else { &mut self.resp2 };
        place.get_or_insert_with(|| {
            let mut bytes = Vec::with_capacity(channel.len() + payload.len() + pattern.len() + 64);
            let mut out = Reply::new(&mut bytes, proto);
            match kind {
                TopicKind::Pattern => {
                    out.push(4);
                    out.bulk(b"pmessage");
                    out.bulk(pattern);
                }
                TopicKind::Channel | TopicKind::Shard => {
                    out.push(3);
                    out.bulk(if kind == TopicKind::Shard { b"smessage" } else { b"message" });
                }
            }
            out.bulk(channel);
            out.bulk(payload);
            bytes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_worded_as_redis_words_them() {
        let mut plain = Letter::to_channel(TopicKind::Channel, b"a", b"1");
        assert_eq!(plain.bytes(Proto::Resp2), b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n");
        assert_eq!(plain.bytes(Proto::Resp3), b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n");
        let mut matched = Letter::to_pattern(b"a*", b"a", b"1");
        assert_eq!(matched.bytes(Proto::Resp3), b">4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$1\r\na\r\n$1\r\n1\r\n");
        assert!(
            Letter::to_channel(TopicKind::Shard, b"a", b"1").bytes(Proto::Resp2).starts_with(b"*3\r\n$8\r\nsmessage")
        );
        assert!(
            TopicKind::ALL.iter().all(|kind| TopicKind::parse(*kind as u8) == Some(*kind))
                && TopicKind::parse(3).is_none()
        );
    }
}
