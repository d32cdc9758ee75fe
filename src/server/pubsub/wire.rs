//! What nodes tell each other about publish and subscribe.
//!
//! One way: frames `[length u32, of what follows][kind u8][body]`. Back: after each read, how many frames of this
//! connection have been dealt with, as a `u64`.

use crate::base::framing;
use crate::base::wire::{Reader, WireError, put_bytes, put_varint};
use crate::commands::node_command::TopicKind;
use crate::commands::spec::WHOLE_BYTES_MAX;

/// The longest frame, in bytes: the message and the channel of the longest request, and headroom.
const FRAME_BYTES_MAX: usize = WHOLE_BYTES_MAX + (1 << 10);

const BEGIN: u8 = 1;
const COMPLETE: u8 = 2;
const LISTEN: u8 = 3;
const CLASSES: u8 = 4;
const MESSAGE: u8 = 5;
const ALIVE: u8 = 6;

/// One frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word<'a> {
    /// "Here comes all that my clients listen to."
    Begin,
    /// "That was all of it."
    Complete,
    /// "So many of my clients listen to this now."
    Listen {
        /// What the name stands for.
        kind: TopicKind,
        /// The name.
        name: &'a [u8],
        /// How many.
        count: u64,
    },
    /// "My option `notify-keyspace-events` is this."
    Classes(&'a str),
    /// "This was published here."
    Message {
        /// A channel or a shard channel.
        kind: TopicKind,
        /// Its name.
        channel: &'a [u8],
        /// The message.
        payload: &'a [u8],
    },
    /// A sign of life is wanted.
    Alive,
}

impl<'a> Word<'a> {
    /// Appends the frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let at = framing::begin(out);
        match *self {
            Word::Begin => out.push(BEGIN),
            Word::Complete => out.push(COMPLETE),
            Word::Listen { kind, name, count } => {
                out.extend_from_slice(&[LISTEN, kind as u8]);
                put_varint(out, count);
                put_bytes(out, name);
            }
            Word::Classes(text) => {
                out.push(CLASSES);
                put_bytes(out, text.as_bytes());
            }
            Word::Message { kind, channel, payload } => {
                out.extend_from_slice(&[MESSAGE, kind as u8]);
                put_bytes(out, channel);
                put_bytes(out, payload);
            }
            Word::Alive => out.push(ALIVE),
        }
        let fits = framing::end(out, at, FRAME_BYTES_MAX);
        debug_assert!(fits, "no request is longer");
    }

    /// The first frame in `buf` and the bytes it takes; `None` when it has not arrived whole.
    pub fn next(buf: &'a [u8]) -> Result<Option<(Word<'a>, usize)>, WireError> {
        let Some((body, len)) = framing::next(buf, FRAME_BYTES_MAX)? else { return Ok(None) };
        let mut reader = Reader::new(body);
        let kind = |reader: &mut Reader<'_>| reader.u8().and_then(|byte| TopicKind::parse(byte).ok_or(WireError));
        let word = match reader.u8()? {
            BEGIN => Word::Begin,
            COMPLETE => Word::Complete,
            LISTEN => {
                let (kind, count) = (kind(&mut reader)?, reader.varint()?);
                Word::Listen { kind, count, name: reader.bytes()? }
            }
            CLASSES => Word::Classes(std::str::from_utf8(reader.bytes()?).map_err(|_| WireError)?),
            MESSAGE => Word::Message { kind: kind(&mut reader)?, channel: reader.bytes()?, payload: reader.bytes()? },
            ALIVE => Word::Alive,
            _ => return Err(WireError),
        };
        if reader.is_empty() { Ok(Some((word, len))) } else { Err(WireError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_read(name: Vec<u8>, payload: Vec<u8>, count: u64, cut: usize) {
            let words = [
                Word::Begin,
                Word::Listen { kind: TopicKind::Pattern, name: &name, count },
                Word::Complete,
                Word::Classes("KEA"),
                Word::Message { kind: TopicKind::Shard, channel: &name, payload: &payload },
                Word::Alive,
            ];
            let mut out = Vec::new();
            words.iter().for_each(|word| word.put(&mut out));
            let (mut at, mut read) = (0, Vec::new());
            while let Some((word, len)) = Word::next(&out[at..]).expect("own frames") {
                read.push(word);
                at += len;
            }
            prop_assert_eq!((at, &read[..]), (out.len(), &words[..]));
            prop_assert!(Word::next(&out[..cut % out.len()]).is_ok());
        }

        #[test]
        fn nonsense_panics_nobody(bytes: Vec<u8>) {
            let _ = Word::next(&bytes);
        }
    }
}
