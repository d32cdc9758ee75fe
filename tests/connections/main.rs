//! Connections: publish and subscribe, keyspace events, limits, and what a server tells of itself.
//!
//! Wherever a reply can be compared, a real redis-server is asked the same; what spans nodes is asked of two of them.

#[path = "../support/mod.rs"]
mod support;

mod diagnosis;
mod errors;
mod events;
mod limits;
mod logs;
mod monitor;
mod options;
mod pubsub;
mod waits;

use support::client::{Client, encode};
use support::resp::Value;

/// What a fresh connection to this port is answered to these lines, sent in one piece.
fn conversation(port: u16, lines: &[&str]) -> Vec<Value> {
    const END: &str = "the-end";
    let mut client = Client::to(port);
    let mut bytes = Vec::new();
    for line in lines {
        encode(&mut bytes, &line.split_whitespace().collect::<Vec<_>>());
    }
    encode(&mut bytes, &["PING", END]);
    client.send(&bytes).expect("sent");
    let mut replies = Vec::new();
    loop {
        let reply = client.receive().unwrap_or_else(|failure| panic!("{lines:?}: {failure:?} after {replies:?}"));
        if format!("{reply:?}").contains(END) {
            return replies;
        }
        replies.push(reply);
    }
}

/// The texts of a message.
fn texts(message: &Value) -> Vec<String> {
    message.items().unwrap_or_default().iter().map(|item| item.text().unwrap_or_default()).collect()
}
