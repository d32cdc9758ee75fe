//! Reply reading: every type, every split, every bound, and a round trip with the server's writer.

use super::*;
use crate::protocol::{Args, Limits, Proto, Reply, Scan, Scanner};

fn decode(buf: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
    let whole = ReplyDecoder::default().decode(buf);
    let mut bytewise = ReplyDecoder::default();
    let split = (0..=buf.len()).map(|end| bytewise.decode(&buf[..end])).find(|found| !matches!(found, Ok(None)));
    assert_eq!(split.unwrap_or(Ok(None)), whole, "split {:?}", buf.escape_ascii().to_string());
    whole
}

fn expect(bytes: &str, value: Value) {
    assert_eq!(decode(bytes.as_bytes()), Ok(Some((value, bytes.len()))), "{bytes:?}");
    let followed = format!("{bytes}+next\r\n");
    assert!(matches!(decode(followed.as_bytes()), Ok(Some((_, consumed))) if consumed == bytes.len()), "{followed:?}");
    for end in 0..bytes.len() {
        assert_eq!(decode(&bytes.as_bytes()[..end]), Ok(None), "{:?}", &bytes[..end]);
    }
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

#[test]
fn reads_every_type() {
    expect("+OK\r\n", Value::Simple(b"OK".to_vec()));
    expect("-ERR no\r\n", Value::Error(b"ERR no".to_vec()));
    expect("!9\r\nERR\r\nmore\r\n", Value::Error(b"ERR\r\nmore".to_vec()));
    expect(":-12\r\n", Value::Int(-12));
    expect("$5\r\na\r\nbc\r\n", bulk("a\r\nbc"));
    expect("$0\r\n\r\n", bulk(""));
    for null in ["_\r\n", "$-1\r\n", "*-1\r\n"] {
        expect(null, Value::Null);
    }
    for (text, value) in [("3.25", 3.25), ("-1e5", -1e5), ("inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY)] {
        expect(&format!(",{text}\r\n"), Value::Double(value));
    }
    expect("#t\r\n", Value::Bool(true));
    expect("#f\r\n", Value::Bool(false));
    expect("(-123\r\n", Value::BigNumber(b"-123".to_vec()));
    expect("=6\r\ntxt:hi\r\n", Value::Verbatim { format: *b"txt", text: b"hi".to_vec() });
    // Not by `decode`, which compares.
    assert!(
        matches!(ReplyDecoder::default().decode(b",nan\r\n"), Ok(Some((Value::Double(value), 6))) if value.is_nan())
    );
}

#[test]
fn reads_aggregates_in_order() {
    expect("*0\r\n", Value::Array(vec![]));
    expect("*2\r\n*1\r\n:1\r\n$1\r\na\r\n", Value::Array(vec![Value::Array(vec![Value::Int(1)]), bulk("a")]));
    expect(
        "%2\r\n$1\r\nb\r\n:1\r\n$1\r\na\r\n*0\r\n",
        Value::Map(vec![(bulk("b"), Value::Int(1)), (bulk("a"), Value::Array(vec![]))]),
    );
    expect("~2\r\n:2\r\n:1\r\n", Value::Set(vec![Value::Int(2), Value::Int(1)]));
    expect(">2\r\n+a\r\n_\r\n", Value::Push(vec![Value::Simple(b"a".to_vec()), Value::Null]));
    expect("|1\r\n+ttl\r\n:9\r\n:1\r\n", Value::Int(1));
    expect("*2\r\n|1\r\n+ttl\r\n:9\r\n:1\r\n|0\r\n:2\r\n", Value::Array(vec![Value::Int(1), Value::Int(2)]));
}

#[test]
fn tells_kinds_apart() {
    let cases = [
        ("+OK\r\n", ReplyKind::Value),
        ("-ERR\r\n", ReplyKind::Error),
        ("!3\r\nERR\r\n", ReplyKind::Error),
        ("$-1\r\n", ReplyKind::Null),
        (">1\r\n-ERR\r\n", ReplyKind::Push),
        ("*2\r\n-ERR\r\n_\r\n", ReplyKind::Value),
        ("|1\r\n-a\r\n_\r\n-ERR\r\n", ReplyKind::Error),
    ];
    for (bytes, kind) in cases {
        let found = ReplyScanner::default().scan(bytes.as_bytes());
        assert_eq!(found, Ok(Some(ScannedReply { consumed: bytes.len(), kind })), "{bytes:?}");
    }
}

#[test]
fn one_scanner_takes_replies_as_they_come() {
    let bytes = b"+OK\r\n*2\r\n:1\r\n$3\r\nabc\r\n$-1\r\n%1\r\n+a\r\n-b\r\n";
    let (mut scanner, mut start, mut consumed) = (ReplyScanner::default(), 0, vec![]);
    for end in 0..=bytes.len() {
        while let Some(found) = scanner.scan(&bytes[start..end]).expect("well-formed") {
            consumed.push(found.consumed);
            start += found.consumed;
        }
    }
    assert_eq!(consumed, [5, 17, 5, 12]);
}

#[test]
fn refuses_what_is_no_reply() {
    let malformed = [
        ":\r\n",
        ":1a\r\n",
        "+a\rb\r\n",
        "$0\rX\r\nab",
        "$3\r\nabcd\r\n",
        "$x\r\n",
        "$?\r\n",
        "*-2\r\n",
        "%-1\r\n",
        "#x\r\n",
        ",x\r\n",
        "_x\r\n",
        "(1.5\r\n",
        "(\r\n",
        "=3\r\ntxt\r\n",
        "=5\r\ntxt-a\r\n",
        "!-1\r\n",
        "*1\r\n:x\r\n",
    ];
    for bytes in malformed {
        assert!(matches!(decode(bytes.as_bytes()), Err(ReplyError::Malformed(_))), "{bytes:?}");
    }
    assert_eq!(decode(b"HTTP/1.1 400\r\n"), Err(ReplyError::UnknownType(b'H')));
}

#[test]
fn bounds_hold() {
    assert!(matches!(decode(format!("{}:1\r\n", "*1\r\n".repeat(DEPTH_MAX)).as_bytes()), Ok(Some(_))));
    assert_eq!(decode("*1\r\n".repeat(DEPTH_MAX + 1).as_bytes()), Err(ReplyError::TooDeep));
    assert_eq!(decode("|1\r\n".repeat(DEPTH_MAX + 1).as_bytes()), Err(ReplyError::TooDeep));

    let limits = ReplyLimits { line_bytes_max: 5, bulk_bytes_max: 9, elements_max: 3, reply_bytes_max: 24 };
    let scan = |bytes: &str| ReplyScanner::new(limits).scan(bytes.as_bytes()).map(|found| found.is_some());
    for (within, beyond) in [
        ("+12345\r\n", "+123456"),
        ("$9\r\n123456789\r\n", "$10\r\n"),
        ("*3\r\n:1\r\n:2\r\n:3\r\n", "*4\r\n"),
        ("%1\r\n:1\r\n:2\r\n", "%2\r\n"),
        ("*1\r\n*1\r\n*1\r\n*1\r\n:123\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"),
    ] {
        assert_eq!(scan(within), Ok(true), "{within:?}");
        assert_eq!(scan(beyond), Err(ReplyError::TooLong), "{beyond:?}");
    }
}

#[test]
fn reads_what_the_server_writes() {
    let mut buf = Vec::new();
    let mut reply = Reply::new(&mut buf, Proto::Resp3);
    reply.map(2);
    reply.bulk(b"proto");
    reply.int(3);
    reply.simple("modules");
    reply.push(3);
    reply.double(0.1);
    reply.null();
    reply.set(1);
    reply.null();
    let wanted = Value::Map(vec![
        (bulk("proto"), Value::Int(3)),
        (
            Value::Simple(b"modules".to_vec()),
            Value::Push(vec![Value::Double(0.1), Value::Null, Value::Set(vec![Value::Null])]),
        ),
    ]);
    assert_eq!(decode(&buf), Ok(Some((wanted, buf.len()))));
}

#[test]
fn the_server_reads_what_a_client_writes() {
    let mut buf = b"before".to_vec();
    encode_command(&mut buf, &[b"SET".as_slice(), b"", b"\r\n$1\r\n"]);
    let request = &buf[6..];
    let mut scanner = Scanner::new();
    assert_eq!(scanner.scan(request, &Limits::default()), Ok(Scan::Request { consumed: request.len() }));
    let args: Args<'_> = scanner.args(request);
    assert_eq!(args.iter().collect::<Vec<_>>(), [b"SET".as_slice(), b"", b"\r\n$1\r\n"]);
}
