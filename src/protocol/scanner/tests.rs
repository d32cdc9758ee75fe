//! The scanner against single requests, pipelines, every split and every limit.

use super::*;

/// What a scan of one request came to, with the arguments copied out.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Scanned {
    Incomplete,
    Empty(usize),
    Request(usize, Vec<Vec<u8>>),
    Error(ProtocolError),
}

fn scanned(scanner: &mut Scanner, buf: &[u8], limits: &Limits) -> Scanned {
    match scanner.scan(buf, limits) {
        Ok(Scan::Incomplete) => Scanned::Incomplete,
        Ok(Scan::Empty { consumed }) => Scanned::Empty(consumed),
        Ok(Scan::Request { consumed }) => {
            Scanned::Request(consumed, scanner.args(buf).iter().map(<[u8]>::to_vec).collect())
        }
        Err(error) => Scanned::Error(error),
    }
}

fn scan_with(buf: &[u8], limits: &Limits) -> Scanned {
    let whole = scanned(&mut Scanner::new(), buf, limits);
    if buf.len() <= 256 {
        assert_eq!(scan_bytewise(buf, limits), whole, "split {:?}", buf.escape_ascii().to_string());
    }
    whole
}

/// The same bytes, arriving one by one.
fn scan_bytewise(buf: &[u8], limits: &Limits) -> Scanned {
    let mut scanner = Scanner::new();
    for end in 0..=buf.len() {
        match scanned(&mut scanner, &buf[..end], limits) {
            Scanned::Incomplete => assert!(scanner.missing_bytes() > 0),
            other => return other,
        }
    }
    Scanned::Incomplete
}

fn scan(buf: &[u8]) -> Scanned {
    scan_with(buf, &Limits::default())
}

fn request(consumed: usize, args: &[&[u8]]) -> Scanned {
    Scanned::Request(consumed, args.iter().map(|arg| arg.to_vec()).collect())
}

#[test]
fn finds_requests() {
    assert_eq!(scan(b"*1\r\n$4\r\nPING\r\n"), request(14, &[b"PING"]));
    assert_eq!(scan(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\nrest"), request(26, &[b"SET", b"k", b""]));
    assert_eq!(scan(b"*2\r\n$3\r\nGET\r\n$4\r\n\r\n\0$\r\n"), request(23, &[b"GET", b"\r\n\0$"]));
    assert_eq!(scan(b"PING\r\n"), request(6, &[b"PING"]));
    assert_eq!(scan(b" SET k \"a b\"\n*1"), request(13, &[b"SET", b"k", b"a b"]));
}

#[test]
fn skips_what_redis_skips() {
    // The byte behind a carriage return and the two behind an argument are not looked at.
    assert_eq!(scan(b"*1\rX$4\rYPINGZZ"), request(14, &[b"PING"]));
    for (empty, consumed) in [("\r\n", 2), ("\n", 1), (" \t\r\n", 4), ("*0\r\n", 4), ("*-1\r\n", 5), ("*-70\r\n", 6)] {
        assert_eq!(scan(empty.as_bytes()), Scanned::Empty(consumed), "{empty:?}");
    }
}

#[test]
fn numbers_of_every_width() {
    let limits = Limits::default();
    for len in [0, 1, 9, 10, 99, 100, 999, 1000, 9_999, 10_000, 123_456] {
        let arg = vec![b'v'; len];
        let mut bytes = format!("*1\r\n${len}\r\n").into_bytes();
        bytes.extend_from_slice(&arg);
        bytes.extend_from_slice(b"\r\n");
        assert_eq!(scan_with(&bytes, &limits), request(bytes.len(), &[&arg]));
        for end in [bytes.len() - 1, bytes.len() - 2] {
            assert_eq!(scan_with(&bytes[..end], &limits), Scanned::Incomplete);
        }
    }
    for count in [1, 7, 8, 9, 10, 11, 99, 100, 5_000, 12_345] {
        let mut bytes = format!("*{count}\r\n").into_bytes();
        bytes.extend_from_slice(&b"$1\r\nx\r\n".repeat(count));
        assert_eq!(scan_with(&bytes, &limits), request(bytes.len(), &vec![b"x".as_slice(); count]));
    }
}

#[test]
fn one_scanner_takes_a_pipeline_of_every_kind() {
    let bytes = b"*1\r\n$4\r\nPING\r\nECHO 'a b'\r\n\r\n*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n*0\r\nPING\r\n*1\r\n:1\r\n";
    let wanted = [
        request(14, &[b"PING"]),
        request(12, &[b"ECHO", b"a b"]),
        Scanned::Empty(2),
        request(21, &[b"ECHO", b"x"]),
        Scanned::Empty(4),
        request(6, &[b"PING"]),
        Scanned::Error(ProtocolError::ExpectedBulk(b':')),
    ];
    let (mut scanner, mut rest) = (Scanner::new(), &bytes[..]);
    for wanted in wanted {
        let found = scanned(&mut scanner, rest, &Limits::default());
        assert_eq!(found, wanted);
        if let Scanned::Request(consumed, _) | Scanned::Empty(consumed) = found {
            rest = &rest[consumed..];
        }
    }
}

#[test]
fn refuses_what_redis_refuses() {
    use ProtocolError::*;
    let refused: &[(&[u8], ProtocolError)] = &[
        (b"*x\r\n", InvalidMultibulkLength),
        (b"*\r\n", InvalidMultibulkLength),
        (b"*01\r\n", InvalidMultibulkLength),
        (b"*+1\r\n", InvalidMultibulkLength),
        (b"*-0\r\n", InvalidMultibulkLength),
        (b"*1048577\r\n", InvalidMultibulkLength),
        (b"*2147483648\r\n", InvalidMultibulkLength),
        (b"*99999999999999999999\r\n", InvalidMultibulkLength),
        (b"*1\r\n:4\r\n", ExpectedBulk(b':')),
        (b"*1\r\n\r\n", ExpectedBulk(b'\r')),
        (b"*1\r\n\nx\r\n", ExpectedBulk(b'\n')),
        (b"*1\r\n\xff\r\n", ExpectedBulk(0xff)),
        (b"*2\r\n$4\r\nECHO\r\n\r\n$1\r\n", ExpectedBulk(b'\r')),
        (b"*1\r\n$\r\n", InvalidBulkLength),
        (b"*1\r\n$-1\r\n", InvalidBulkLength),
        (b"*1\r\n$04\r\nPING\r\n", InvalidBulkLength),
        (b"*1\r\n$536870913\r\n", InvalidBulkLength),
        (b"ECHO \"a\r\n", UnbalancedQuotes),
        (b"ECHO 'a'b\r\n", UnbalancedQuotes),
    ];
    for (bytes, error) in refused {
        assert_eq!(scan(bytes), Scanned::Error(*error), "{:?}", bytes.escape_ascii().to_string());
    }
    // Not before the byte behind the carriage return is there.
    for bytes in ["*x\r", "*1\r\nx\r", "*1\r\n$x\r"] {
        assert_eq!(scan(bytes.as_bytes()), Scanned::Incomplete, "{bytes:?}");
    }
}

#[test]
fn lines_have_an_end() {
    let limits = Limits { inline_bytes_max: 20, ..Limits::default() };
    let cases = [("", ProtocolError::TooBigInline), ("*", ProtocolError::TooBigCountLine)];
    for (start, error) in cases {
        let line = format!("{start}{}", "1".repeat(20 - start.len()));
        assert_eq!(scan_with(line.as_bytes(), &limits), Scanned::Incomplete);
        assert_eq!(scan_with(format!("{line}1").as_bytes(), &limits), Scanned::Error(error));
        assert_eq!(scan_with(format!("{line}1\r\n").as_bytes(), &limits), Scanned::Error(error));
    }
    let line = format!("*1\r\n${}", "1".repeat(19));
    assert_eq!(scan_with(line.as_bytes(), &limits), Scanned::Incomplete);
    assert_eq!(scan_with(format!("{line}1").as_bytes(), &limits), Scanned::Error(ProtocolError::TooBigBulkLine));
    // A NUL hides the end of its line, which thus grows until it is too long.
    assert_eq!(scan_with(b"PI\0NG\r\nPING\r\n", &limits), Scanned::Incomplete);
    assert_eq!(scan_with(b"*1\0\r\nPING\r\nPING\r\nPING", &limits), Scanned::Error(ProtocolError::TooBigCountLine));
}

#[test]
fn strangers_get_little() {
    let limits = Limits::unauthenticated();
    let refused: &[(&[u8], ProtocolError)] = &[
        (b"*11\r\n", ProtocolError::UnauthenticatedMultibulkLength),
        (b"*1048577\r\n", ProtocolError::UnauthenticatedMultibulkLength),
        (b"*2147483648\r\n", ProtocolError::InvalidMultibulkLength),
        (b"*1\r\n$16385\r\n", ProtocolError::UnauthenticatedBulkLength),
        (b"*1\r\n$536870913\r\n", ProtocolError::InvalidBulkLength),
    ];
    for (bytes, error) in refused {
        assert_eq!(scan_with(bytes, &limits), Scanned::Error(*error), "{:?}", bytes.escape_ascii().to_string());
    }
    assert_eq!(scan_with(b"*10\r\n$16384\r\n", &limits), Scanned::Incomplete);
}

#[test]
fn a_request_has_an_end() {
    let limits = Limits { request_bytes_max: 22, ..Limits::default() };
    let whole = b"*2\r\n$4\r\nECHO\r\n$2\r\nab\r\n";
    assert_eq!(scan_with(whole, &limits), request(22, &[b"ECHO", b"ab"]));
    let too_big = Scanned::Error(ProtocolError::TooBigRequest);
    assert_eq!(scan_with(b"*2\r\n$4\r\nECHO\r\n$3\r\n", &limits), too_big);
    assert_eq!(scan_with(b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n", &limits), too_big);
    assert_eq!(scan_with(b"*3\r\n$4\r\nECHO\r\n$2\r\nab\r\n", &limits), too_big);
    assert_eq!(scan_with(b"ECHO aaaaaaaaaaaaaaaaaa", &limits), too_big);
}

#[test]
fn says_how_much_is_missing() {
    let mut scanner = Scanner::new();
    let limits = Limits::default();
    let mut bytes = b"*2\r\n$3\r\nGET\r\n$1000000\r\n".to_vec();
    assert_eq!(scanner.scan(&bytes, &limits), Ok(Scan::Incomplete));
    assert_eq!(scanner.missing_bytes(), 1_000_002);
    bytes.resize(bytes.len() + 400_000, b'x');
    assert_eq!(scanner.scan(&bytes, &limits), Ok(Scan::Incomplete));
    assert_eq!(scanner.missing_bytes(), 600_002);
    bytes.resize(bytes.len() + 600_002, b'x');
    assert_eq!(scanner.scan(&bytes, &limits), Ok(Scan::Request { consumed: bytes.len() }));
}

#[test]
fn an_announced_count_allocates_nothing() {
    let mut scanner = Scanner::new();
    assert_eq!(scanner.scan(b"*1048576\r\n$536870912\r\n", &Limits::default()), Ok(Scan::Incomplete));
    assert!(!scanner.ranges.spilled());
    assert_eq!(scanner.unquoted.capacity(), 0);
}

#[test]
fn memory_of_a_large_request_is_given_back() {
    let mut scanner = Scanner::new();
    let limits = Limits::default();
    let mut bytes = b"*10000\r\n".to_vec();
    bytes.extend_from_slice(&b"$0\r\n\r\n".repeat(10_000));
    assert_eq!(scanner.scan(&bytes, &limits), Ok(Scan::Request { consumed: bytes.len() }));
    assert!(scanner.ranges.spilled());
    let mut line = vec![b'a'; 60_000];
    line.push(b'\n');
    assert_eq!(scanner.scan(&line, &limits), Ok(Scan::Request { consumed: line.len() }));
    assert_eq!(scanner.scan(b"", &limits), Ok(Scan::Incomplete));
    assert!(!scanner.ranges.spilled());
    assert!(scanner.unquoted.capacity() <= UNQUOTED_BYTES_KEPT_MAX);
}

#[test]
fn http_is_recognised() {
    let cases =
        [("POST / HTTP/1.1\r\n", true), ("host: x\r\n", true), ("GET / HTTP/1.1\r\n", false), ("Host x\n", false)];
    for (line, is_http) in cases {
        let mut scanner = Scanner::new();
        assert!(matches!(scanner.scan(line.as_bytes(), &Limits::default()), Ok(Scan::Request { .. })));
        assert_eq!(scanner.args(line.as_bytes()).is_http(), is_http, "{line:?}");
    }
}

#[test]
fn errors_are_worded_as_redis_words_them() {
    let cases: [(ProtocolError, &[u8]); 4] = [
        (ProtocolError::ExpectedBulk(b'x'), b"-ERR Protocol error: expected '$', got 'x'\r\n"),
        (ProtocolError::ExpectedBulk(b'\r'), b"-ERR Protocol error: expected '$', got ' '\r\n"),
        (ProtocolError::ExpectedBulk(0xff), b"-ERR Protocol error: expected '$', got '\xff'\r\n"),
        (ProtocolError::InvalidBulkLength, b"-ERR Protocol error: invalid bulk length\r\n"),
    ];
    for (error, wanted) in cases {
        let mut buf = Vec::new();
        error.write(&mut super::super::Reply::new(&mut buf, super::super::Proto::Resp2));
        assert_eq!(buf, wanted);
    }
}
