//! The talking half of a lane: dials, writes what the lane holds, reads what the replica answers, and gives up in time.
//!
//! One task a lane, on the worker that owns it. It flushes after all clients that can run have run, so one write carries
//! many clients' frames. A replica that acknowledges nothing for [`STALL_MS_MAX`] while frames wait counts as gone: a
//! stopped process keeps its connections open, and nobody may wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::peer::frame::{Frame, Kind, next_frame, read_ack};
use crate::peer::handshake::{HandshakeError, Hello, LinkKind, dial};
use crate::peer::lane::Lane;
use crate::peer::registry::Peer;

/// How long frames may wait without any acknowledgement, in milliseconds.
pub const STALL_MS_MAX: u64 = 180;
const TICK: Duration = Duration::from_millis(20);
/// How often an idle lane asks for a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(40);
const DIAL_DEADLINE: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(200);
const READ_BYTES: usize = 64 << 10;

/// What the owner of a lane does with what arrives.
pub trait LaneEvents {
    /// The replica answered; acknowledgements are the link's own business and do not come here. Numbers in the frame
    /// count from `base`.
    fn answer(&self, peer: &Peer, lane: usize, base: u64, frame: Frame<'_>);
    /// A connection stands: this is who answers.
    fn opened(&self, peer: &Peer, theirs: &Hello);
    /// The connection broke before this frame was acknowledged.
    fn lost(&self, peer: &Peer, frame: Frame<'_>);
}

/// Keeps lane `index` of `peer` connected for ever.
pub async fn keep(peer: Arc<Peer>, index: usize, ours: Hello, secret: Arc<[u8]>, events: impl LaneEvents) {
    let Some(lane) = peer.lanes.get(index) else { return };
    let mut retry = RETRY_MIN;
    loop {
        let hello = Hello { kind: LinkKind::Replica { lane: index as u8 }, ..ours.clone() };
        match tokio::time::timeout(DIAL_DEADLINE, connect(&peer, &hello, &secret)).await {
            Ok(Ok((stream, theirs))) => {
                retry = RETRY_MIN;
                events.opened(&peer, &theirs);
                lane.open();
                peer.note_change();
                let end = converse(&peer, index, lane, &stream, &events).await;
                lane.close(|frame| events.lost(&peer, frame));
                peer.note_change();
                tracing::info!(peer = %peer.addr, lane = index, reason = %end, "replica link closed");
            }
            Ok(Err(HandshakeError::Io(_))) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(peer = %peer.addr, %error, "peer refused"),
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Dials a peer and shakes hands.
pub async fn connect(peer: &Peer, ours: &Hello, secret: &[u8]) -> Result<(TcpStream, Hello), HandshakeError> {
    let mut stream = TcpStream::connect(peer.addr).await?;
    stream.set_nodelay(true)?;
    let theirs = dial(&mut stream, ours, secret).await?;
    Ok((stream, theirs))
}

/// Writes and reads until the connection ends; says why it did.
async fn converse(
    peer: &Peer,
    index: usize,
    lane: &Lane,
    stream: &TcpStream,
    events: &impl LaneEvents,
) -> std::io::Error {
    // The replica counts from 1 on every connection; the lane's numbers go on.
    let base = lane.acked();
    let mut buf: Vec<u8> = Vec::with_capacity(READ_BYTES);
    let mut progress = Progress { acked: base, since: Instant::now(), looked: Instant::now() };
    let mut more = false;
    let mut tick = tokio::time::interval(TICK);
    loop {
        let step = tokio::select! {
            biased;
            readable = stream.readable() => readable.and_then(|()| {
                read_answers(&mut buf, stream, |frame| match frame.kind {
                    Kind::Ack => read_ack(frame.body).map(|number| lane.ack(base + number)).map_err(invalid),
                    _ => {
                        events.answer(peer, index, base, frame);
                        Ok(())
                    }
                })
            }),
            writable = stream.writable(), if more => writable,
            () = lane.flushed(), if !more => Ok(()),
            _ = tick.tick() => check_progress(lane, &mut progress),
        };
        if let Err(error) = step {
            return error;
        }
        if !lane.is_open() {
            return std::io::Error::other("the lane was closed or full");
        }
        match write_frames(lane, stream) {
            Ok(left) => more = left,
            Err(error) => return error,
        }
    }
}

fn write_frames(lane: &Lane, stream: &TcpStream) -> std::io::Result<bool> {
    loop {
        match lane.write_with(|bytes| stream.try_write(bytes)) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// How a lane's acknowledgements come along.
struct Progress {
    acked: u64,
    /// When the last one came, or when we had to start looking anew.
    since: Instant,
    looked: Instant,
}

/// Fails when the replica has been silent for too long. An idle lane is made to speak by a heartbeat.
fn check_progress(lane: &Lane, progress: &mut Progress) -> std::io::Result<()> {
    let acked = lane.acked();
    // A look that comes late means that we slept, and says nothing of the replica.
    let overslept = progress.looked.elapsed() > TICK * 3;
    progress.looked = Instant::now();
    if acked != progress.acked || overslept {
        progress.acked = acked;
        progress.since = Instant::now();
    }
    if !lane.is_waiting() && progress.since.elapsed() > HEARTBEAT {
        lane.append(Kind::Heartbeat, |_| {});
        progress.since = Instant::now();
    }
    if progress.since.elapsed() > Duration::from_millis(STALL_MS_MAX) {
        return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "nothing was acknowledged in time"));
    }
    Ok(())
}

/// Reads what is there and gives out every whole frame.
pub fn read_answers(
    buf: &mut Vec<u8>,
    stream: &TcpStream,
    mut each: impl FnMut(Frame<'_>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    buf.reserve(READ_BYTES);
    match stream.try_read_buf(buf) {
        Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut at = 0;
    while let Some((frame, len)) = next_frame(buf.get(at..).unwrap_or_default()).map_err(invalid)? {
        each(frame)?;
        at += len;
    }
    buf.drain(..at);
    Ok(())
}

fn invalid(error: crate::base::wire::WireError) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, error)
}
