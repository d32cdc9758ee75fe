//! A client as CLIENT LIST and CLIENT INFO show it, and the kinds by which they and CLIENT KILL choose.

use std::sync::atomic::Ordering::Relaxed;

use crate::commands::node_command::TopicKind;
use crate::server::state::client::{Client, state};

impl Client {
    /// The line of CLIENT LIST and CLIENT INFO, without its end. Fields that have no meaning here are 0: what waits to
    /// be sent is one stretch of memory, shown as a list of one (`oll`, `omem`), and there is no buffer beside it.
    pub fn line(&self, now_ms: u64) -> Vec<u8> {
        let seconds_since = |ms: u64| now_ms.saturating_sub(ms) / 1_000;
        let names = self.names();
        let input = self.input_bytes.load(Relaxed);
        let output = self.mailbox.len_bytes();
        let (id, addr, laddr) = (self.id, self.addr, self.laddr);
        let mut line = format!("id={id} addr={addr} laddr={laddr} fd=0 name=").into_bytes();
        line.extend_from_slice(&names.name);
        let text = format!(
            " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} qbuf={input} qbuf-free=0 argv-mem=0 \
             multi-mem=0 rbs=0 rbp=0 obl=0 oll={} omem={output} tot-mem={} events={} cmd={} user=default redir=-1 \
             resp={} lib-name=",
            seconds_since(self.connected_ms),
            seconds_since(self.active_ms.load(Relaxed)),
            self.flag_letters(),
            self.db.load(Relaxed),
            self.mailbox.count(TopicKind::Channel),
            self.mailbox.count(TopicKind::Pattern),
            self.mailbox.count(TopicKind::Shard),
            self.queued.load(Relaxed),
            u8::from(output > 0),
            input + output + size_of::<Client>(),
            if output > 0 { "rw" } else { "r" },
            self.command_name(),
            self.resp.load(Relaxed),
        );
        line.extend_from_slice(text.as_bytes());
        line.extend_from_slice(&names.lib_name);
        line.extend_from_slice(b" lib-ver=");
        line.extend_from_slice(&names.lib_version);
        line
    }

    fn flag_letters(&self) -> String {
        let letters = [
            (state::MONITOR, 'O'),
            (state::SUBSCRIBED, 'P'),
            (state::MULTI, 'x'),
            (state::BLOCKED, 'b'),
            (state::CLOSING, 'c'),
            (state::READONLY, 'r'),
            (state::NO_EVICT, 'e'),
            (state::NO_TOUCH, 'T'),
        ];
        let found: String = letters.iter().filter(|(bit, _)| self.is_in(*bit)).map(|(_, letter)| *letter).collect();
        if found.is_empty() { "N".into() } else { found }
    }
}

/// What CLIENT LIST and KILL call a kind of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientType {
    /// Sends commands.
    Normal,
    /// Another server; there are none among the clients of rondo, whose nodes have links of their own.
    Server,
    /// Subscribed.
    PubSub,
}

impl ClientType {
    /// The kind called so, in any case.
    pub fn parse(name: &[u8]) -> Option<ClientType> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"normal" => ClientType::Normal,
            b"pubsub" => ClientType::PubSub,
            b"master" | b"replica" | b"slave" => ClientType::Server,
            _ => return None,
        })
    }

    /// Whether a client is of this kind.
    pub fn includes(self, client: &Client) -> bool {
        let subscribed = client.is_in(state::SUBSCRIBED);
        match self {
            ClientType::Normal => !subscribed,
            ClientType::PubSub => subscribed,
            ClientType::Server => false,
        }
    }
}
