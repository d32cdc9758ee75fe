//! Bytes: what a client's request looks like and how a reply is written. Knows no command and no key.
//!
//! | file | what it is |
//! |---|---|
//! | `scanner` | finds requests in the bytes that a client sends |
//! | `limits` | what a request may not exceed, and what breaking it is answered |
//! | `reply` | writes replies, in RESP2 or RESP3 |
//! | `number`, `double` | whole numbers as Redis reads them; doubles as it prints them |
//! | `client` | the client's side: writes commands, reads replies |
//!
//! A connection appends what it reads to one buffer and asks its [`Scanner`] for requests, one [`Scan`] at a time; the
//! answer is a set of ranges into that same buffer, read through [`Args`]. Replies go the other way: [`Reply`] appends
//! them to the connection's output buffer in the [`Proto`] that the client asked for. Neither copies a value twice and
//! neither allocates per request. What reads replies and writes requests is in [`client`].
//!
//! Invariants: malformed input is a [`ProtocolError`] and never a panic; no memory is sized by a number that a client
//! merely announced; the result of scanning depends on the bytes alone, never on how they were split into reads.

mod number;
mod double;
pub mod client;
mod reply;
#[cfg(test)]
mod properties;
mod limits;
mod scanner;

pub use limits::{Limits, ProtocolError};
pub use number::parse_i64;
pub use reply::{Proto, REPLY_BYTES_MAX, Reply};
pub use scanner::{Args, ArgsIter, Range, Scan, Scanner};
