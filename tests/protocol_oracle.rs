//! Broken requests, answered by redis-server and by our scanner: the same bytes come back and the same connections
//! close. Floating-point replies are compared too, because only Redis's own C library knows how they look.
//!
//! A real redis-server of version 7.0 is started. Ours runs in this process: the scanner, the reply writer
//! and, since a connection must answer something, PING, ECHO and the error for every other command. Without a
//! redis-server on the path the tests are skipped.
//!
//! What is left out, because Redis's own answer depends on how the bytes were split into reads: a line that is too long
//! and yet ends.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;
use rondo::protocol::{Args, Limits, Proto, Reply, Scan, Scanner};

use support::redis::Redis;

/// How long redis-server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an open connection is watched for being closed after all.
const WATCH: Duration = Duration::from_millis(40);

/// What a client saw.
#[derive(PartialEq, Eq)]
struct Seen {
    bytes: Vec<u8>,
    closed: bool,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\", {}", self.bytes.escape_ascii(), if self.closed { "closed" } else { "open" })
    }
}

/// A redis-server, talked to on its Unix socket.
struct Oracle(Redis);

impl Oracle {
    /// Starts one, with a password if asked; `None` without a redis-server 7.0 on this machine.
    fn start(password: Option<&str>) -> Option<Oracle> {
        let options: Vec<&str> = password.into_iter().flat_map(|password| ["--requirepass", password]).collect();
        Redis::start_if_there(&options).map(Oracle)
    }

    fn connect(&self) -> UnixStream {
        let client = UnixStream::connect(self.0.socket()).expect("connects");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client
    }

    /// Everything that Redis answers to `request` when nothing follows.
    fn answer_to(&self, request: &[u8]) -> Vec<u8> {
        let mut client = self.connect();
        let mut answer = Vec::new();
        // Redis may close first; what it said before that is what counts.
        let sent = client.write_all(request).and_then(|()| client.shutdown(Shutdown::Write));
        if let Err(error) = sent.and_then(|()| client.read_to_end(&mut answer).map(drop)) {
            assert!(matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected
            ));
        }
        answer
    }

    /// The same, and whether Redis closes the connection although the client has not. `wanted` only says when to stop
    /// waiting for more.
    fn seen_by_client(&self, request: &[u8], wanted: &Seen) -> Seen {
        let mut client = self.connect();
        client.write_all(request).expect("sends");
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let is_settled = !wanted.closed && bytes.len() >= wanted.bytes.len();
            client.set_read_timeout(Some(if is_settled { WATCH } else { PATIENCE })).expect("a timeout");
            match client.read(&mut piece) {
                Ok(0) => return Seen { bytes, closed: true },
                Ok(len) => bytes.extend_from_slice(&piece[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Seen { bytes, closed: false };
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Seen { bytes, closed: true },
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// What a connection of ours does with `request`.
fn ours(request: &[u8], limits: &Limits) -> Seen {
    let (mut scanner, mut rest, mut bytes) = (Scanner::new(), request, Vec::new());
    let mut reply = Reply::new(&mut bytes, Proto::Resp2);
    loop {
        match scanner.scan(rest, limits) {
            Ok(Scan::Incomplete) => return Seen { bytes, closed: false },
            Ok(Scan::Empty { consumed }) => rest = &rest[consumed..],
            Ok(Scan::Request { consumed }) => {
                let args = scanner.args(rest);
                if args.is_http() {
                    // Redis drops the replies of this batch with the connection.
                    return Seen { bytes: Vec::new(), closed: true };
                }
                run(args, limits, &mut reply);
                rest = &rest[consumed..];
            }
            Err(error) => {
                error.write(&mut reply);
                return Seen { bytes, closed: true };
            }
        }
    }
}

fn run(args: Args<'_>, limits: &Limits, reply: &mut Reply<'_>) {
    match (args.name().to_ascii_lowercase().as_slice(), args.get(1), args.len()) {
        (b"ping" | b"echo", ..) if !limits.authenticated => reply.error("NOAUTH Authentication required."),
        (b"ping", None, _) => reply.simple("PONG"),
        (b"ping" | b"echo", Some(message), 2) => reply.bulk(message),
        (b"ping", ..) => reply.error("ERR wrong number of arguments for 'ping' command"),
        (b"echo", ..) => reply.error("ERR wrong number of arguments for 'echo' command"),
        _ => {
            // C prints strings up to their first NUL.
            let printed =
                |arg: &[u8], len: usize| arg.iter().copied().take_while(|byte| *byte != 0).take(len).collect();
            let mut listed = Vec::new();
            for arg in args.iter().skip(1) {
                if listed.len() < 128 {
                    let arg: Vec<u8> = printed(arg, 128 - listed.len());
                    listed.extend_from_slice(&[b"'", arg.as_slice(), b"' "].concat());
                }
            }
            let name: Vec<u8> = printed(args.name(), 128);
            reply
                .error([b"ERR unknown command '", name.as_slice(), b"', with args beginning with: ", &listed].concat());
        }
    }
}

fn compare(oracle: &Oracle, requests: &[Vec<u8>], limits: &Limits) {
    for request in requests {
        let ours = ours(request, limits);
        let theirs = oracle.seen_by_client(request, &ours);
        let start = &request[..request.len().min(80)];
        assert_eq!(ours, theirs, "ours, redis-server's; {} bytes: {}", request.len(), start.escape_ascii());
    }
}

/// `start` followed by so many ones that the line has `len` bytes.
fn long_line(start: &str, len: usize) -> Vec<u8> {
    let mut line = start.as_bytes().to_vec();
    let line_start = start.rfind('\n').map_or(0, |end| end + 1);
    line.resize(line_start + len, b'1');
    line
}

/// Requests to compare one by one, most of them broken.
const BROKEN: &[&str] = &[
    // Counts.
    "*x\r\n",
    "*\r\n",
    "*01\r\n",
    "*00\r\n",
    "*-0\r\n",
    "*+1\r\n",
    "* 1\r\n",
    "*1 \r\n",
    "*2147483648\r\n",
    "*1048576\r\n",
    "*99999999999999999999\r\n",
    "*12345678901234567890123\r\n",
    "*-9223372036854775809\r\nPING\r\n",
    "*-9223372036854775808\r\nPING\r\n",
    "*0\r\nPING\r\n",
    "*-1\r\nPING\r\n",
    "*-5\r\nPING\r\n",
    "*1",
    "*1\r",
    "*x\r",
    "*1\r\n",
    "*\0\r\n",
    "*1\0\r\n$4\r\nPING\r\n",
    // Lengths.
    "*1\r\n:4\r\n",
    "*1\r\n\r\n",
    "*1\r\n\nx\r\n",
    "*1\r\n\tx\r\n",
    "*1\r\n'\r\n",
    "*1\r\n%s\r\n",
    "*1\r\n\0x\r\n",
    "*1\r\nx\r",
    "*1\r\n$\r\n",
    "*1\r\n$-1\r\n",
    "*1\r\n$x\r\n",
    "*1\r\n$04\r\nPING\r\n",
    "*1\r\n$+4\r\nPING\r\n",
    "*1\r\n$536870912\r\n",
    "*1\r\n$536870913\r\n",
    "*1\r\n$99999999999999999999\r\n",
    "*1\r\n$4",
    "*1\r\n$4\r",
    "*1\r\n$4\r\nPIN",
    "*1\r\n$4\r\nPING\r",
    "*2\r\n$4\r\nECHO\r\n\r\n$1\r\na\r\n",
    "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    // What Redis skips unread.
    "*1\rX$4\rYPINGZZPING\r\n",
    "*1\r\n$3\r\nPINGX\r\n",
    "*1\r\n$5\r\nPING\r\nPING\r\nPING\r\n",
    // Names.
    "*1\r\n$0\r\n\r\n",
    "*1\r\n$4\r\nP\0NG\r\n",
    "*2\r\n$3\r\nN\nO\r\n$4\r\na\r\nb\r\n",
    // Inline.
    "\r\n\r\nPING\r\n",
    "\nPING\n",
    "  \t \r\nPING\r\n",
    "PING",
    "PING a\r\r\n",
    "\rPING\n",
    "PI\rNG a\n",
    "PI\0NG\r\n",
    "\0\r\nPING\r\n",
    "PING a\x0bb\r\n",
    "\x0bPING\r\n",
    "\x0cPING \x0ca\r\n",
    "PING \"a\"\x0b\r\n",
    "\"\"\r\n",
    "'' a\r\n",
    "PING \"a\r\n",
    "PING 'a\r\n",
    "PING \"a\"b\r\n",
    "PING 'a'b\r\n",
    "PING \"a\\\"\r\n",
    "PING 'a\\'b'\r\n",
    "PING \"\\x41\\n\\r\\t\\b\\a\\q\\\"\\x4\\xzz\\x00\"\r\n",
    "PING '\\x41\\n'\r\n",
    "PING a\\n\r\n",
    "P\"IN\"G\r\n",
    "pInG\r\n",
    "NO \"a\\x00b\" c\r\n",
    "ECHO\r\n",
    "PING a b\r\n",
    // Errors end a pipeline, the replies before them stand.
    "PING\r\n*1\r\nx\r\nPING\r\n",
    "*1\r\n$4\r\nPING\r\nPING \"\r\nPING\r\n",
    // A browser's requests.
    "POST / HTTP/1.1\r\nPING\r\n",
    "*1\r\n$5\r\nhost:\r\n",
    "Host: x\r\n",
    "PING\r\npost\r\n",
    "POSTS\r\n",
    "Host x\r\n",
];

/// Those, and others that are not text or too long to write down.
fn requests() -> Vec<Vec<u8>> {
    let mut requests: Vec<Vec<u8>> = BROKEN.iter().map(|text| text.as_bytes().to_vec()).collect();
    requests.push(b"*1\r\n\xff\r\n".to_vec());
    for start in ["", "*", "*1\r\n$", "*1\r\n"] {
        for len in [65_536, 65_537] {
            requests.push(long_line(start, len));
        }
    }
    requests.push([b"*1\0\r\n".to_vec(), vec![b'1'; 65_532]].concat());
    requests.push([b"NO ".to_vec(), vec![b'a'; 300], b" ".to_vec(), vec![b'b'; 300], b"\r\n".to_vec()].concat());
    requests
}

#[test]
fn broken_requests_are_answered_as_redis_answers_them() {
    let Some(oracle) = Oracle::start(None) else { return };
    compare(&oracle, &requests(), &Limits::default());
}

#[test]
fn strangers_are_answered_as_redis_answers_them() {
    let Some(oracle) = Oracle::start(Some("secret")) else { return };
    let texts = [
        "*10\r\n",
        "*11\r\n",
        "*1048577\r\n",
        "*2147483648\r\n",
        "*1\r\n$16384\r\n",
        "*1\r\n$16385\r\n",
        "*1\r\n$536870913\r\n",
        "*1\r\n$x\r\n",
        "PING\r\n",
        "PING \"\r\n",
        "*1\r\nx\r\n",
        "POST\r\n",
    ];
    let mut requests: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    requests.push(long_line("", 65_537));
    requests.push([b"PING ".to_vec(), vec![b'a'; 20_000], b"\r\n".to_vec()].concat());
    compare(&oracle, &requests, &Limits::unauthenticated());
}

#[test]
fn random_streams_are_answered_as_redis_answers_them() {
    let Some(oracle) = Oracle::start(None) else { return };
    let piece = prop_oneof![
        6 => prop::sample::select(vec!["PING\r\n", "*1\r\n$4\r\nPING\r\n", "*2\r\n$4\r\necho\r\n$2\r\n\r\n\r\n", "\r\n", "*0\r\n"])
            .prop_map(|text| text.as_bytes().to_vec()),
        3 => "(PING|ECHO) [a-c\"'\\\\ x0-9\t]{0,8}\r?\n".prop_map(String::into_bytes),
        1 => "\\*[0-3]\r\n(\\$[0-4]\r\n[PING]{0,4}\r\n){0,3}".prop_map(String::into_bytes),
        1 => prop::collection::vec(prop::sample::select(b"*$-0123\r\n \"'\\\0PING\xff".to_vec()), 0..12),
    ];
    let stream = prop::collection::vec(piece, 1..10).prop_map(|pieces| pieces.concat());
    let config = ProptestConfig { cases: 2000, ..ProptestConfig::default() };
    proptest!(config, |(request in stream)| {
        let ours = ours(&request, &Limits::default()).bytes.escape_ascii().to_string();
        let theirs = oracle.answer_to(&request).escape_ascii().to_string();
        prop_assert_eq!(ours, theirs, "ours, redis-server's: {}", request.escape_ascii());
    });
}

#[test]
fn doubles_are_printed_as_redis_prints_them() {
    let Some(oracle) = Oracle::start(None) else { return };
    let any_kind = prop_oneof![
        any::<f64>(),
        (-1_000_000i64..1_000_000, 0..7i32).prop_map(|(digits, places)| digits as f64 / 10f64.powi(places)),
        (any::<i64>(), 0..64i32).prop_map(|(bits, places)| bits as f64 / 2f64.powi(places)),
    ];
    // Sorted sets know neither NaN nor a negative zero.
    let score = any_kind.prop_filter("no score", |score| !score.is_nan()).prop_map(|score| score + 0.0);
    let proto = prop_oneof![Just(Proto::Resp2), Just(Proto::Resp3)];
    let config = ProptestConfig { cases: 100, ..ProptestConfig::default() };
    proptest!(config, |(scores in prop::collection::vec(score, 100), proto in proto)| {
        let hello = if proto == Proto::Resp2 { "" } else { "HELLO 3\r\n" };
        let mut request = format!("{hello}DEL z\r\n");
        let mut ours = Vec::new();
        let mut reply = Reply::new(&mut ours, proto);
        for (member, score) in scores.iter().enumerate() {
            request.push_str(&format!("ZADD z {score:e} {member}\r\nZSCORE z {member}\r\n"));
            reply.int(1);
            reply.double(*score);
        }
        let theirs = oracle.answer_to(request.as_bytes());
        prop_assert!(theirs.ends_with(&ours), "{}\n{}", ours.escape_ascii(), theirs.escape_ascii());
    });
}
