//! Messages behind their length: `[length u32, of what follows][message]`, one behind the other.
//!
//! So nodes talk on every kind of link, and so what a command has changed is recorded. A message is written in its
//! place ([`begin`], [`end`]), and cut off the front of what has arrived ([`next`]). Nothing is allocated by a length
//! that was merely announced. What a message says is for its own part to know.

use crate::base::wire::{WireError, put_u32};

/// How many bytes a length takes.
pub const LENGTH_BYTES: usize = 4;

/// Begins a message at the end of `out`; gives its place, for [`end`].
#[inline]
pub fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    put_u32(out, 0);
    at
}

/// Ends the message that was begun at `at`: what has been appended since is all of it. False, with its length not
/// written, when that is more than `bytes_max`.
#[inline]
#[must_use]
pub fn end(out: &mut [u8], at: usize, bytes_max: usize) -> bool {
    let len = out.len().checked_sub(at + LENGTH_BYTES).and_then(|len| length_of(len, bytes_max));
    let (Some(len), Some(head)) = (len, out.get_mut(at..at + LENGTH_BYTES)) else { return false };
    head.copy_from_slice(&len.to_le_bytes());
    true
}

/// The first message in `buf`, and how many bytes it takes with its length; `None` when it has not arrived whole. An
/// error when it is to be longer than `bytes_max`.
#[inline]
pub fn next(buf: &[u8], bytes_max: usize) -> Result<Option<(&[u8], usize)>, WireError> {
    let Some((head, rest)) = buf.split_first_chunk() else { return Ok(None) };
    let len = u32::from_le_bytes(*head) as usize;
    if len > bytes_max {
        return Err(WireError);
    }
    Ok(rest.get(..len).map(|message| (message, LENGTH_BYTES + len)))
}

/// The first message in `buf`, and what stands behind it.
#[inline]
pub fn split(buf: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = buf.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*head) as usize)
}

/// What a length says of so many bytes; `None` for more than it can say, which never stands for fewer.
fn length_of(len: usize, bytes_max: usize) -> Option<u32> {
    u32::try_from(len).ok().filter(|_| len <= bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_are_cut_where_they_were_put(messages in prop::collection::vec(any::<Vec<u8>>(), 0..8), cut: usize) {
            let mut out = Vec::new();
            for message in &messages {
                let at = begin(&mut out);
                out.extend_from_slice(message);
                prop_assert!(end(&mut out, at, usize::MAX));
            }
            let (mut rest, mut read) = (&out[..], Vec::new());
            while let Some((message, len)) = next(rest, usize::MAX).expect("as long as any") {
                prop_assert_eq!(split(rest), Some((message, &rest[len..])));
                read.push(message.to_vec());
                rest = &rest[len..];
            }
            prop_assert_eq!((rest.len(), read), (0, messages));
            let short = &out[..cut % (out.len() + 1)];
            prop_assert_eq!(next(short, usize::MAX).expect("as long as any").map(|(_, len)| len), split(short).map(|(_, behind)| short.len() - behind.len()));
        }
    }

    #[test]
    fn a_length_is_what_it_says_or_refused() {
        const MOST: usize = u32::MAX as usize;
        assert_eq!((length_of(0, 0), length_of(MOST, usize::MAX)), (Some(0), Some(u32::MAX)));
        for (len, bytes_max) in [(1, 0), (8, 7), (MOST + 1, usize::MAX), (usize::MAX, usize::MAX)] {
            assert_eq!(length_of(len, bytes_max), None, "{len}");
        }
        let mut out = b"xx\0\0\0\0abc".to_vec();
        assert!(end(&mut out, 2, 3) && out == b"xx\x03\0\0\0abc" && !end(&mut out[..5], 2, 3) && !end(&mut out, 2, 2));
        assert_eq!((next(&out[2..], 3), next(&out[2..], 2)), (Ok(Some((&b"abc"[..], 7))), Err(WireError)));
    }
}
