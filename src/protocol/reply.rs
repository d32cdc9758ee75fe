//! Writes replies, in RESP2 or RESP3.
//!
//! A [`Reply`] appends to a buffer that the connection owns; nothing is kept back, so what a command has written so far
//! is always a prefix of the wire. Types that RESP2 does not know are written as Redis 7.0.15 writes them there: a map
//! as an array of keys and values, a set or push as an array, a double or verbatim text as a bulk. Booleans and big
//! numbers are not here, because no command answers with one.
//!
//! Invariants: a simple text or error never holds a line break, whatever it was given, so that no value can pose as a
//! second reply; and values never make the buffer longer than its limit, so that few bytes of request cannot make any
//! number of them. What would is left out, and the reply is cut ([`Reply::is_cut`]): good for nothing but to be thrown
//! away. What is no value (numbers, nulls, lengths) is small, no more than a few times the request, and not counted.
//! Not done here: counting that an aggregate's announced elements really follow.

use super::double::DoubleText;

/// The version of RESP that a client has asked for with HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Proto {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Proto {
    /// The number that HELLO calls it by.
    pub fn version(self) -> u8 {
        match self {
            Proto::Resp2 => 2,
            Proto::Resp3 => 3,
        }
    }
}

/// Most bytes of replies that a buffer may hold, as long as nobody says otherwise: half of what a frame between nodes
/// can say, and room for several of the longest strings.
pub const REPLY_BYTES_MAX: usize = 2 << 30;

/// Appends replies to `buf`.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Where replies go.
    pub buf: &'a mut Vec<u8>,
    /// How they are written.
    pub proto: Proto,
    bytes_max: usize,
    is_cut: bool,
}

impl<'a> Reply<'a> {
    /// A writer that appends to `buf`.
    #[inline]
    pub fn new(buf: &'a mut Vec<u8>, proto: Proto) -> Reply<'a> {
        Reply { buf, proto, bytes_max: REPLY_BYTES_MAX, is_cut: false }
    }

    /// No value is to make the buffer longer than this from now on.
    pub fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Whether a value was left out because the buffer was full.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// How many bytes a value may have: whoever puts one together need not go on beyond that.
    #[inline]
    pub fn room_bytes(&self) -> usize {
        self.bytes_max.saturating_sub(self.buf.len())
    }

    /// Whether there is room for a value of so many bytes; if not, the reply is cut.
    #[inline]
    fn has_room(&mut self, value_bytes: usize) -> bool {
        self.is_cut |= value_bytes > self.room_bytes();
        !self.is_cut
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.buf.extend_from_slice(b"+OK\r\n");
    }

    /// A short text. Line breaks in it become spaces.
    pub fn simple(&mut self, text: &str) {
        self.buf.push(b'+');
        self.one_line(text.as_bytes());
    }

    /// An error: its code in capitals, a space and a sentence, without `-`. Line breaks at its end are dropped, others
    /// become spaces. Takes bytes too, because Redis quotes what clients sent.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        self.buf.push(b'-');
        self.one_line(text.get(..end).unwrap_or_default());
    }

    /// A whole number.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.header(b':', value);
    }

    /// A byte string of any content.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        if !self.has_room(value.len()) {
            return;
        }
        self.buf.reserve(value.len() + HEADER_BYTES_MAX + 2);
        self.header(b'$', value.len() as i64);
        self.buf.extend_from_slice(value);
        self.buf.extend_from_slice(b"\r\n");
    }

    /// A whole number as a byte string.
    pub fn bulk_int(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// No value.
    #[inline]
    pub fn null(&mut self) {
        self.by_proto(b"$-1\r\n", b"_\r\n");
    }

    /// No value where an array would be.
    pub fn null_array(&mut self) {
        self.by_proto(b"*-1\r\n", b"_\r\n");
    }

    /// Announces an array; its `len` elements are to follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// Announces a map; its `len` pairs of key and value are to follow.
    pub fn map(&mut self, len: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', len as i64 * 2),
            Proto::Resp3 => self.header(b'%', len as i64),
        }
    }

    /// Announces a set; its `len` elements are to follow.
    pub fn set(&mut self, len: usize) {
        self.aggregate(b'~', len);
    }

    /// Announces a message that answers no request; its `len` elements are to follow.
    pub fn push(&mut self, len: usize) {
        self.aggregate(b'>', len);
    }

    /// A floating-point number, with 17 significant digits.
    pub fn double(&mut self, value: f64) {
        let text = DoubleText::new(value);
        match self.proto {
            Proto::Resp2 => self.bulk(text.as_bytes()),
            Proto::Resp3 => {
                self.buf.push(b',');
                self.one_line(text.as_bytes());
            }
        }
    }

    /// A text meant for people, with its format: `txt` or `mkd`.
    pub fn verbatim(&mut self, format: &[u8; 3], text: &[u8]) {
        let proto = self.proto;
        match proto {
            Proto::Resp2 => self.bulk(text),
            Proto::Resp3 if self.has_room(text.len()) => {
                self.header(b'=', text.len() as i64 + 4);
                self.buf.extend_from_slice(format);
                self.buf.push(b':');
                self.buf.extend_from_slice(text);
                self.buf.extend_from_slice(b"\r\n");
            }
            Proto::Resp3 => {}
        }
    }

    /// A set or push, which RESP2 writes as an array.
    fn aggregate(&mut self, marker: u8, len: usize) {
        let marker = if self.proto == Proto::Resp2 { b'*' } else { marker };
        self.header(marker, len as i64);
    }

    #[inline]
    fn by_proto(&mut self, resp2: &[u8], resp3: &[u8]) {
        self.buf.extend_from_slice(if self.proto == Proto::Resp2 { resp2 } else { resp3 });
    }

    /// A marker, a number and the end of the line.
    #[inline]
    fn header(&mut self, marker: u8, value: i64) {
        if let 0..10 = value {
            self.buf.extend_from_slice(&[marker, b'0' + value as u8, b'\r', b'\n']);
            return;
        }
        self.buf.push(marker);
        self.buf.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.buf.extend_from_slice(b"\r\n");
    }

    /// `text` with its line breaks made spaces, and the end of the line.
    fn one_line(&mut self, text: &[u8]) {
        let start = self.buf.len();
        self.buf.extend_from_slice(text);
        for byte in self.buf.iter_mut().skip(start).filter(|byte| matches!(byte, b'\r' | b'\n')) {
            *byte = b' ';
        }
        self.buf.extend_from_slice(b"\r\n");
    }
}

/// A marker, a sign, 19 digits and the end of the line.
const HEADER_BYTES_MAX: usize = 23;

#[cfg(test)]
mod tests {
    use super::*;

    /// What `write` writes in RESP2 and in RESP3, behind what was there before.
    fn expect(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
        for (proto, wanted) in [(Proto::Resp2, resp2), (Proto::Resp3, resp3)] {
            let mut buf = b"before".to_vec();
            write(&mut Reply::new(&mut buf, proto));
            assert_eq!(buf.escape_ascii().to_string(), format!("before{}", wanted.escape_default()), "{proto:?}");
        }
    }

    fn expect_same(write: impl Fn(&mut Reply<'_>), wanted: &str) {
        expect(write, wanted, wanted);
    }

    #[test]
    fn texts_and_errors() {
        expect_same(|reply| reply.ok(), "+OK\r\n");
        expect_same(|reply| reply.simple("PONG"), "+PONG\r\n");
        expect_same(|reply| reply.simple("a\nb\r\n"), "+a b  \r\n");
        expect_same(|reply| reply.error("ERR no\r\n+OK"), "-ERR no  +OK\r\n");
        expect_same(|reply| reply.error("ERR a\nb\r\n\n"), "-ERR a b\r\n");
        expect_same(|reply| reply.error(""), "-\r\n");
        let mut buf = Vec::new();
        Reply::new(&mut buf, Proto::Resp2).error(b"ERR got '\xff'");
        assert_eq!(buf, b"-ERR got '\xff'\r\n");
    }

    #[test]
    fn numbers() {
        for value in [0, 9, 10, 99, 100, 12_345, -1, -10, i64::MAX, i64::MIN] {
            expect_same(|reply| reply.int(value), &format!(":{value}\r\n"));
            let text = value.to_string();
            expect_same(|reply| reply.bulk_int(value), &format!("${}\r\n{text}\r\n", text.len()));
        }
        expect(|reply| reply.double(3.1), "$18\r\n3.1000000000000001\r\n", ",3.1000000000000001\r\n");
        expect(|reply| reply.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
        expect(|reply| reply.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        expect(|reply| reply.double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n");
    }

    #[test]
    fn bulks_and_nulls() {
        expect_same(|reply| reply.bulk(b""), "$0\r\n\r\n");
        expect_same(|reply| reply.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n");
        expect_same(|reply| reply.bulk(&[b'x'; 1000]), &format!("$1000\r\n{}\r\n", "x".repeat(1000)));
        expect(|reply| reply.verbatim(b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        expect(|reply| reply.null(), "$-1\r\n", "_\r\n");
        expect(|reply| reply.null_array(), "*-1\r\n", "_\r\n");
    }

    #[test]
    fn values_beyond_the_limit_are_left_out_and_cut_the_reply() {
        for proto in [Proto::Resp2, Proto::Resp3] {
            let mut buf = b"before".to_vec();
            let mut reply = Reply::new(&mut buf, proto);
            reply.limit(20);
            reply.bulk(b"12345678");
            assert!(!reply.is_cut());
            reply.verbatim(b"txt", b"1");
            assert!(reply.is_cut());
            // What is small goes on: whoever cut it throws all of it away.
            reply.bulk(b"");
            reply.int(7);
            assert_eq!(buf, b"before$8\r\n12345678\r\n:7\r\n");
        }
        let mut buf = Vec::new();
        let mut reply = Reply::new(&mut buf, Proto::Resp3);
        reply.limit(5);
        reply.bulk(b"123456");
        assert!(reply.is_cut() && buf.is_empty());
    }

    #[test]
    fn aggregates() {
        expect_same(|reply| reply.array(0), "*0\r\n");
        expect_same(|reply| reply.array(16_384), "*16384\r\n");
        expect(|reply| reply.map(7), "*14\r\n", "%7\r\n");
        expect(|reply| reply.set(3), "*3\r\n", "~3\r\n");
        expect(|reply| reply.push(3), "*3\r\n", ">3\r\n");
    }
}
