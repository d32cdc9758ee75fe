//! The control link: rows, barriers and slot contents, one answer for each request, in order.
//!
//! `[length u32, of what follows][kind u8][body]` in both directions. A [`ControlLink`] dials when it is first asked,
//! keeps the connection, and dials again after anything went wrong; every request has a deadline. [`read_request`]
//! and [`write_response`] are the other side.
//!
//! Whole keys travel as [`Entries`]; what replicas say to each other to find out what differs is in `compare`.
//!
//! Invariants: no buffer grows by a length that was merely announced; a connection on which a request was given up
//! is never used again, so an answer cannot be taken for another's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::base::framing;
use crate::base::ids::{NodeId, Slot};
use crate::base::net::TcpStream;
use crate::base::wire::{Reader, WireError, put_u16, put_u64, put_varint};
use crate::peer::compare::{Compare, CompareAnswer};
use crate::peer::entries::Entries;
use crate::peer::frame::FRAME_BYTES_MAX;
use crate::peer::handshake::{self, HandshakeError, Hello, LinkKind};
use crate::peer::refusal::Refusal;
use crate::ring::Rows;

/// The longest message: one key's largest state, as on the replica link.
const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// What is set aside before the bytes arrive.
const RESERVE_BYTES: usize = 64 << 10;
/// For the connection and the handshake together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

const DIGEST: u8 = 1;
const ROWS: u8 = 2;
const ADOPT: u8 = 3;
const GET_SLOTS: u8 = 4;
const PUT_STATES: u8 = 5;
const REFUSED: u8 = 6;
const COMPARE: u8 = 7;
const TAKEN_OVER: u8 = 8;
const TIME: u8 = 16;
const STANDING: u8 = 17;

/// What one node asks of another.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// "My rows have this digest. Yours?"
    Digest(u64),
    /// "These are my rows. Yours?"
    Rows(Rows),
    /// "Do you act on this row of mine, or a newer one, with everything done that you began before?"
    Adopt {
        /// Whose row.
        node: NodeId,
        /// Its generation.
        generation: u64,
        /// Its version.
        version: u64,
    },
    /// "What do you hold of these slots?" From `cursor` in the first of them on.
    GetSlots {
        /// In the order in which they are to be sent.
        slots: Vec<Slot>,
        /// 0, or what the last answer said.
        cursor: u64,
    },
    /// "Merge these."
    PutStates(Entries),
    /// A step of comparing what both hold.
    Compare(Compare),
    /// "This node joins, leaves, or is dead and given up: do you hold all that you have to before its next step?"
    TakenOver {
        /// Who is on its way.
        node: NodeId,
        /// In which generation.
        generation: u64,
    },
    /// "What time is it?"
    Time,
    /// "Do you belong to a cluster, or what do you remember of one?"
    Standing,
}

/// What the other answers.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    /// To `Digest`; 0 from a node that belongs to no cluster yet.
    Digest(u64),
    /// To `Rows`: the merged map; nothing from a node that belongs to no cluster yet. To `Standing`, from one that
    /// does.
    Rows(Rows),
    /// To `Standing`, from a node that belongs to no cluster yet.
    Unformed(Unformed),
    /// To `Adopt` and `TakenOver`.
    YesNo(bool),
    /// To `GetSlots`.
    Piece {
        /// Some of what was asked for.
        entries: Entries,
        /// How many of the slots are now sent whole.
        slots_done: usize,
        /// Where to go on in the next slot.
        cursor: u64,
    },
    /// To `PutStates`: merged.
    Stored,
    /// To `Compare`.
    Compared(CompareAnswer),
    /// To `Time`: the other's wall clock, in microseconds since 1970.
    Time(u64),
    /// It will not.
    Refused(Refusal),
}

/// What a node says of itself that belongs to no cluster yet.
#[derive(Clone, PartialEq, Debug)]
pub struct Unformed {
    /// Who it is.
    pub node: NodeId,
    /// Whom it lets begin a new cluster.
    pub vote: NodeId,
    /// The cluster that it belonged to, or has heard of from such as it.
    pub remembered: Rows,
}

/// Why a request has no answer. The other may have done it or not; every request may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Whoever listens there is not to be talked to.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The answer is none of ours, or to another question.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// The other will not.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

impl Request {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Digest(digest) => {
                out.push(DIGEST);
                put_u64(out, *digest);
            }
            Request::Rows(rows) => {
                out.push(ROWS);
                out.extend_from_slice(&rows.encode());
            }
            Request::Adopt { node, generation, version } => {
                out.push(ADOPT);
                out.extend_from_slice(node.as_bytes());
                put_u64(out, *generation);
                put_u64(out, *version);
            }
            Request::GetSlots { slots, cursor } => {
                out.push(GET_SLOTS);
                put_u64(out, *cursor);
                slots.iter().for_each(|slot| put_u16(out, slot.number()));
            }
            Request::PutStates(entries) => {
                out.push(PUT_STATES);
                entries.encode(out);
            }
            Request::Compare(question) => {
                out.push(COMPARE);
                question.encode(out);
            }
            Request::TakenOver { node, generation } => {
                out.push(TAKEN_OVER);
                out.extend_from_slice(node.as_bytes());
                put_u64(out, *generation);
            }
            Request::Time => out.push(TIME),
            Request::Standing => out.push(STANDING),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Request, WireError> {
        let mut reader = Reader::new(bytes);
        let request = match reader.u8()? {
            DIGEST => Request::Digest(reader.u64()?),
            ROWS => return Rows::decode(reader.rest()).map(Request::Rows).map_err(|_| WireError),
            ADOPT => Request::Adopt {
                node: NodeId::from_bytes(reader.array()?),
                generation: reader.u64()?,
                version: reader.u64()?,
            },
            GET_SLOTS => {
                let cursor = reader.u64()?;
                let mut slots = Vec::new();
                while !reader.is_empty() {
                    slots.push(reader.slot()?);
                }
                Request::GetSlots { slots, cursor }
            }
            PUT_STATES => Request::PutStates(Entries::decode(&mut reader)?),
            COMPARE => Request::Compare(Compare::decode(&mut reader)?),
            TAKEN_OVER => Request::TakenOver { node: NodeId::from_bytes(reader.array()?), generation: reader.u64()? },
            TIME => Request::Time,
            STANDING => Request::Standing,
            _ => return Err(WireError),
        };
        if reader.is_empty() { Ok(request) } else { Err(WireError) }
    }
}

impl Response {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Response::Digest(digest) => {
                out.push(DIGEST);
                put_u64(out, *digest);
            }
            Response::Rows(rows) => {
                out.push(ROWS);
                out.extend_from_slice(&rows.encode());
            }
            Response::Unformed(Unformed { node, vote, remembered }) => {
                out.push(STANDING);
                out.extend_from_slice(node.as_bytes());
                out.extend_from_slice(vote.as_bytes());
                out.extend_from_slice(&remembered.encode());
            }
            Response::YesNo(adopted) => out.extend_from_slice(&[ADOPT, u8::from(*adopted)]),
            Response::Piece { entries, slots_done, cursor } => {
                out.push(GET_SLOTS);
                put_varint(out, *slots_done as u64);
                put_u64(out, *cursor);
                entries.encode(out);
            }
            Response::Stored => out.push(PUT_STATES),
            Response::Compared(answer) => {
                out.push(COMPARE);
                answer.encode(out);
            }
            Response::Time(us) => {
                out.push(TIME);
                put_u64(out, *us);
            }
            Response::Refused(refusal) => out.extend_from_slice(&[REFUSED, *refusal as u8]),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Response, WireError> {
        let mut reader = Reader::new(bytes);
        let response = match reader.u8()? {
            DIGEST => Response::Digest(reader.u64()?),
            ROWS => return Rows::decode(reader.rest()).map(Response::Rows).map_err(|_| WireError),
            STANDING => {
                let [node, vote] = [reader.array()?, reader.array()?].map(NodeId::from_bytes);
                let remembered = Rows::decode(reader.rest()).map_err(|_| WireError)?;
                return Ok(Response::Unformed(Unformed { node, vote, remembered }));
            }
            ADOPT => Response::YesNo(reader.u8()? != 0),
            GET_SLOTS => {
                let slots_done = usize::try_from(reader.varint()?).map_err(|_| WireError)?;
                let cursor = reader.u64()?;
                Response::Piece { entries: Entries::decode(&mut reader)?, slots_done, cursor }
            }
            PUT_STATES => Response::Stored,
            COMPARE => Response::Compared(CompareAnswer::decode(&mut reader)?),
            TIME => Response::Time(reader.u64()?),
            REFUSED => Response::Refused(Refusal::read(&mut reader)?),
            _ => return Err(WireError),
        };
        if reader.is_empty() { Ok(response) } else { Err(WireError) }
    }
}

/// The asking side of a control connection. One request at a time: further ones wait their turn.
#[derive(Debug)]
pub struct ControlLink {
    addr: SocketAddr,
    expected: Option<NodeId>,
    ours: Hello,
    secret: Arc<[u8]>,
    stream: tokio::sync::Mutex<Option<TcpStream>>,
}

impl ControlLink {
    /// A link to whoever listens at `addr`, or to `expected` only. Nothing is dialled yet.
    pub fn new(addr: SocketAddr, expected: Option<NodeId>, ours: Hello, secret: Arc<[u8]>) -> ControlLink {
        let ours = Hello { kind: LinkKind::Control, ..ours };
        ControlLink { addr, expected, ours, secret, stream: tokio::sync::Mutex::new(None) }
    }

    /// Where it dials.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The answer to `request`, within `deadline` from when the connection stands. A refusal is an error.
    pub async fn ask(&self, request: &Request, deadline: Duration) -> Result<Response, ControlError> {
        let mut place = self.stream.lock().await;
        // Taken out: should this future be dropped or fail, the connection goes with it.
        let kept = place.take();
        let reused = kept.is_some();
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.dial().await?,
        };
        let mut answer = exchange(&mut stream, request, deadline).await;
        if reused && matches!(answer, Err(ControlError::Io(_))) {
            // The other closed it while it was idle; requests may be repeated.
            stream = self.dial().await?;
            answer = exchange(&mut stream, request, deadline).await;
        }
        if answer.is_ok() {
            *place = Some(stream);
        }
        match answer? {
            Response::Refused(refusal) => Err(refusal.into()),
            response => Ok(response),
        }
    }

    async fn dial(&self) -> Result<TcpStream, ControlError> {
        let dialling = async {
            let mut stream = TcpStream::connect(self.addr).await?;
            stream.set_nodelay(true)?;
            handshake::dial(&mut stream, &self.ours, self.expected, &self.secret).await?;
            Ok(stream)
        };
        timeout(DIAL_TIMEOUT, dialling).await.unwrap_or(Err(ControlError::TimedOut))
    }
}

async fn exchange(stream: &mut TcpStream, request: &Request, deadline: Duration) -> Result<Response, ControlError> {
    let talking = async {
        send(stream, |out| request.encode(out)).await?;
        let body = receive(stream).await?;
        Ok(Response::decode(&body)?)
    };
    timeout(deadline, talking).await.unwrap_or(Err(ControlError::TimedOut))
}

/// The next request on a connection that was accepted.
pub async fn read_request(stream: &mut TcpStream) -> Result<Request, ControlError> {
    let body = receive(stream).await?;
    Ok(Request::decode(&body)?)
}

/// Answers the request that was read last.
pub async fn write_response(stream: &mut TcpStream, response: &Response) -> Result<(), ControlError> {
    send(stream, |out| response.encode(out)).await
}

/// Sends the message that `write` appends.
async fn send(stream: &mut TcpStream, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), ControlError> {
    let mut out = Vec::new();
    let at = framing::begin(&mut out);
    write(&mut out);
    match framing::end(&mut out, at, BODY_BYTES_MAX) {
        true => Ok(stream.write_all(&out).await?),
        false => Err(WireError.into()),
    }
}

async fn receive(stream: &mut TcpStream) -> Result<Vec<u8>, ControlError> {
    let len = stream.read_u32_le().await? as usize;
    if len > BODY_BYTES_MAX {
        return Err(WireError.into());
    }
    let mut body = Vec::with_capacity(len.min(RESERVE_BYTES));
    let read = stream.take(len as u64).read_to_end(&mut body).await?;
    if read < len {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ActorId;
    use crate::store::Store;
    use proptest::prelude::*;

    #[test]
    fn messages_read_back() {
        let entries = Entries::default();
        let compared = CompareAnswer::Calm(true);
        let slots: Vec<Slot> = Slot::all().step_by(1_000).collect();
        let node = NodeId::random();
        for request in [
            Request::Digest(7),
            Request::Rows(Rows::new()),
            Request::Adopt { node, generation: 5, version: 6 },
            Request::GetSlots { slots, cursor: 9 },
            Request::PutStates(entries.clone()),
            Request::Compare(Compare::Calm),
            Request::TakenOver { node, generation: 7 },
            Request::Time,
            Request::Standing,
        ] {
            let mut out = Vec::new();
            request.encode(&mut out);
            assert_eq!(Request::decode(&out), Ok(request));
        }
        for response in [
            Response::Digest(7),
            Response::Rows(Rows::new()),
            Response::Unformed(Unformed { node, vote: NodeId::random(), remembered: Rows::new() }),
            Response::YesNo(true),
            Response::Piece { entries, slots_done: 3, cursor: 4 },
            Response::Stored,
            Response::Compared(compared),
            Response::Time(8),
            Response::Refused(Refusal::Skew),
        ] {
            let mut out = Vec::new();
            response.encode(&mut out);
            assert_eq!(Response::decode(&out), Ok(response));
        }
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let store = Store::new(ActorId { node: 1, generation: 1 });
            if let Ok(Request::PutStates(entries)) = Request::decode(&bytes) {
                prop_assert!(entries.iter(&store.actors).count() <= bytes.len() + 1);
            }
            let _ = Response::decode(&bytes);
        }
    }
}
