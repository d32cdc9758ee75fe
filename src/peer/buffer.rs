//! What has come from another node and is not understood yet, and what is to be sent to it.
//!
//! The same for all kinds of connections between nodes. Both sides are plain bytes in one stretch: what is done with is
//! cut off its start, and one large message leaves no memory behind that nothing after it needs. How much may wait is
//! for the owner to bound, who knows what to give up.

use tokio::io::AsyncReadExt;

use crate::base::net::ReadHalf;

/// How much is read at a time, in bytes, and the room that is kept for it.
const READ_BYTES: usize = 64 << 10;
/// Memory that an empty [`SendBuffer`] keeps, and a buffer of input in which little is left, in bytes.
const BUFFER_BYTES_KEPT_MAX: usize = 1 << 20;

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct SendBuffer {
    bytes: Vec<u8>,
    /// How many of them, from the front, have been sent.
    sent: usize,
}

impl SendBuffer {
    /// Where what is to be sent is appended.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        if self.bytes.capacity() > BUFFER_BYTES_KEPT_MAX {
            self.bytes.shrink_to(READ_BYTES);
        }
    }

    /// Has `write` send until there is no more, or it would block. What was sent is cut off once it is most of what is
    /// there, so that a long message is not moved again and again.
    pub fn write_out(&mut self, mut write: impl FnMut(&[u8]) -> std::io::Result<usize>) -> std::io::Result<()> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.sent * 2 > self.bytes.len() {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(())
    }
}

/// Waits for bytes and reads what is there. After a short read the runtime knows that there is no more, and does not
/// ask the system again before it says so. May be cancelled: what was read is in `buf`.
pub async fn read_more(stream: &mut ReadHalf<'_>, buf: &mut Vec<u8>) -> std::io::Result<()> {
    buf.reserve(READ_BYTES);
    match stream.read_buf(buf).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Takes what was understood off the start of what a link has brought. One large message leaves no memory behind that
/// nothing after it needs.
pub fn take_off(buf: &mut Vec<u8>, count: usize) {
    buf.drain(..count);
    if buf.capacity() > BUFFER_BYTES_KEPT_MAX && buf.len() <= READ_BYTES {
        buf.shrink_to(READ_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_message_leaves_no_memory_behind_that_nothing_needs() {
        let mut buf = vec![1; 4 * BUFFER_BYTES_KEPT_MAX];
        take_off(&mut buf, 10);
        assert!(buf.capacity() >= 4 * BUFFER_BYTES_KEPT_MAX, "most of it is still to come");
        let count = buf.len() - 3;
        take_off(&mut buf, count);
        assert!(buf == [1; 3] && buf.capacity() <= BUFFER_BYTES_KEPT_MAX);
    }

    #[test]
    fn a_send_buffer_gives_its_bytes_in_order_however_they_are_taken() {
        let (mut out, mut sent, mut put) = (SendBuffer::default(), Vec::new(), 0u8);
        for round in 0..200 {
            out.bytes().extend(
                std::iter::repeat_with(|| {
                    put = put.wrapping_add(1);
                    put
                })
                .take(round % 7),
            );
            let mut may_take = round % 5;
            out.write_out(|bytes| {
                let count = bytes.len().min(may_take);
                may_take -= count;
                sent.extend_from_slice(&bytes[..count]);
                if count == 0 { Err(std::io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
            })
            .expect("it only blocks");
        }
        assert_eq!(sent.len() + out.len(), (0..200).map(|round| round % 7).sum::<usize>());
        assert!(sent.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
    }
}
