//! The table against a real redis-server 7.0, which is started for the test and stopped after it.
//!
//! Without a redis-server 7.0 on the path the tests say so and pass.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use crate::commands::spec::{Keys, flag};
use crate::commands::table::{self, COMMANDS};
use crate::protocol::client::{ReplyDecoder, ReplyLimits, Value, encode_command};

/// How long redis-server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A redis-server on a Unix socket of its own, with one connection to it; it dies with this value.
struct Oracle {
    server: Child,
    client: UnixStream,
    decoder: ReplyDecoder,
    unread: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to stop.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Oracle {
    /// `None` without a redis-server 7.0 on this machine.
    fn start() -> Option<Oracle> {
        let version = Process::new("redis-server").arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if !version.contains(" v=7.0.") {
            eprintln!("skipped: needs redis-server 7.0, found {version:?}");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("socket");
        let mut command = Process::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket);
        let server = command.current_dir(dir.path()).stdout(Stdio::null()).spawn().expect("redis-server starts");
        let deadline = Instant::now() + PATIENCE;
        let client = loop {
            match UnixStream::connect(&socket) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not listen: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let decoder = ReplyDecoder::new(ReplyLimits::default());
        Some(Oracle { server, client, decoder, unread: Vec::new(), _dir: dir })
    }

    /// Runs one command.
    fn run(&mut self, args: &[&str]) -> Value {
        let mut request = Vec::new();
        encode_command(&mut request, args);
        self.client.write_all(&request).expect("sends");
        let mut piece = [0; 65_536];
        loop {
            if let Some((value, len)) = self.decoder.decode(&self.unread).expect("a reply") {
                self.unread.drain(..len);
                return value;
            }
            let len = self.client.read(&mut piece).expect("answers");
            self.unread.extend_from_slice(&piece[..len]);
        }
    }
}

/// An array's elements; a value of another kind has none.
fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        _ => &[],
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) | Value::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("not a text: {other:?}"),
    }
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => panic!("not a number: {other:?}"),
    }
}

#[test]
fn rows_say_of_arity_flags_and_keys_what_redis_says() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut compared = 0;
    for row in elements(&oracle.run(&["COMMAND"])) {
        let [name, arity, flags, first, last, step, categories, ..] = elements(row) else { panic!("{row:?}") };
        let name = text(name);
        let Some((_, ours)) = table::find(name.as_bytes()) else { continue };
        compared += 1;
        assert_eq!(i64::from(ours.arity), int(arity), "{name}");
        let theirs: Vec<String> = elements(flags).iter().map(text).collect();
        let names: Vec<&str> =
            flag::NAMES.iter().filter(|(bit, _)| ours.has(*bit)).map(|(_, flag_name)| *flag_name).collect();
        assert_eq!(names, theirs, "{name}");
        if let Keys::None | Keys::Range { .. } = ours.keys {
            let (of_first, of_last, of_step) = match ours.keys {
                Keys::Range { first, last, step } => (i64::from(first), i64::from(last), i64::from(step)),
                _ => (0, 0, 0),
            };
            assert_eq!((of_first, of_last, of_step), (int(first), int(last), int(step)), "{name}");
        }
        let categories: Vec<String> = elements(categories).iter().map(text).collect();
        for (bit, category) in [(flag::KEYSPACE, "@keyspace"), (flag::DANGEROUS | flag::ADMIN, "@dangerous")] {
            assert_eq!(ours.flags & bit != 0, categories.iter().any(|theirs| theirs == category), "{name} {category}");
        }
    }
    let own = COMMANDS.iter().filter(|row| row.name.starts_with("rondo.") || row.name == "sentinel").count();
    assert_eq!(compared, COMMANDS.len() - own);
}
