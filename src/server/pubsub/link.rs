//! The connection that carries what nodes tell each other about publish and subscribe, one each way between two nodes.
//!
//! The connection is given up when the [`Outbox`] has grown too full, or when the other node deals with nothing for
//! [`SILENCE_MAX`]; another is made at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::base::ids::NodeId;
use crate::base::net::TcpStream;
use crate::peer::buffer::take_off;
use crate::peer::handshake::{Hello, LinkKind};
use crate::peer::link::{connect, note_end};
use crate::peer::registry::Peer;
use crate::server::pubsub::hub::Hub;
use crate::server::pubsub::remote::{Outbox, Remote};
use crate::server::pubsub::wire::Word;

const SILENCE_MAX: Duration = Duration::from_secs(5);
const DIAL_MAX: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 64 << 10;

/// Keeps the link to a node connected as long as the node takes part.
pub async fn keep(hub: Arc<Hub>, remote: Arc<Remote>, ours: Hello, secret: Arc<[u8]>) {
    let hello = Hello { kind: LinkKind::PubSub, ..ours };
    while !hub.forget(&remote) {
        if let Some(peer) = remote.peer()
            && let Ok(Ok((stream, _))) = tokio::time::timeout(DIAL_MAX, connect(&peer, &hello, &secret)).await
        {
            hub.open(&remote);
            let reason = converse(&hub, &remote.outbox, &peer, stream).await;
            let lost = remote.outbox.close();
            hub.progress.notify_waiters();
            note_end(&peer, format_args!("publish"), lost, &reason);
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn converse(hub: &Hub, outbox: &Outbox, peer: &Peer, mut stream: TcpStream) -> std::io::Error {
    let (reader, writer) = stream.split();
    tokio::select! {
        error = write(outbox, writer) => error,
        error = read_heard(hub, outbox, reader) => error,
        error = watch(outbox, peer) => error,
    }
}

async fn write(outbox: &Outbox, mut writer: impl AsyncWriteExt + Unpin) -> std::io::Error {
    loop {
        let bytes = outbox.take();
        if bytes.is_empty() {
            outbox.filled().await;
        } else if let Err(error) = writer.write_all(&bytes).await {
            return error;
        }
    }
}

async fn read_heard(hub: &Hub, outbox: &Outbox, mut reader: impl AsyncReadExt + Unpin) -> std::io::Error {
    loop {
        match reader.read_u64_le().await {
            Ok(count) if outbox.note_heard(count) => {}
            Ok(_) => {
                let reason = "the node counts other words than it was sent";
                return std::io::Error::new(std::io::ErrorKind::InvalidData, reason);
            }
            Err(error) => return error,
        }
        hub.progress.notify_waiters();
    }
}

/// Ends the connection when it was given up, when the other node takes no part any more, or when the other node deals
/// with nothing.
async fn watch(outbox: &Outbox, peer: &Peer) -> std::io::Error {
    let (mut heard, mut since) = (0, Instant::now());
    loop {
        tokio::time::sleep(TICK).await;
        if !outbox.is_open() {
            return std::io::Error::other("too much waited to be sent");
        }
        if peer.is_retired() {
            return std::io::Error::other("the node takes no part any more");
        }
        let (now_heard, is_all) = outbox.progress();
        if now_heard != heard || is_all {
            (heard, since) = (now_heard, Instant::now());
        }
        if since.elapsed() > SILENCE_MAX {
            return std::io::ErrorKind::TimedOut.into();
        }
        outbox.put(&Word::Alive);
    }
}

/// Takes in what a node tells us until its connection ends.
pub async fn receive(hub: Arc<Hub>, node: NodeId, mut stream: TcpStream) -> std::io::Error {
    let (mut buf, mut count) = (Vec::new(), 0_u64);
    loop {
        buf.reserve(READ_BYTES);
        match stream.read_buf(&mut buf).await {
            Ok(0) => return std::io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => {}
            Err(error) => return error,
        }
        // Looked for each time: a node that was forgotten and is back is another.
        let remote = hub.remote(node);
        let mut at = 0;
        loop {
            match Word::next(buf.get(at..).unwrap_or_default()) {
                Ok(Some((word, len))) => {
                    hub.hear(&remote, word);
                    at += len;
                    count += 1;
                }
                Ok(None) => break,
                Err(error) => return std::io::Error::new(std::io::ErrorKind::InvalidData, error),
            }
        }
        take_off(&mut buf, at);
        if at != 0
            && let Err(error) = stream.write_u64_le(count).await
        {
            return error;
        }
    }
}
