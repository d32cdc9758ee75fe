//! The glob against redis-server itself: random patterns over random keys, asked with KEYS.
//!
//! Needs `redis-server` on the path; the test starts one of its own on a Unix socket in a temporary directory and says so
//! when there is none.

use rondo::base::glob;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Letters few enough that random patterns and keys meet often.
const KEY_LETTERS: &[u8] = b"abAB-]^\\*?";
const PATTERN_LETTERS: &[u8] = b"aabbAB-]]^^\\\\***??[[[";

struct Server {
    child: Child,
    stream: BufReader<UnixStream>,
    _dir: tempfile::TempDir,
}

impl Server {
    /// `None` when this machine has no redis-server.
    fn start() -> Option<Server> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).stdout(Stdio::null());
        let mut child = command.spawn().ok()?;
        for _ in 0..200 {
            if let Ok(stream) = UnixStream::connect(&socket) {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                return Some(Server { child, stream: BufReader::new(stream), _dir: dir });
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        child.kill().unwrap();
        panic!("redis-server did not listen within 5 s");
    }

    fn send(&mut self, words: &[&[u8]]) {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend(*word);
            request.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn keys(&mut self, pattern: &[u8]) -> BTreeSet<Vec<u8>> {
        self.send(&[b"KEYS", pattern]);
        let count: usize = self.line().strip_prefix('*').unwrap().parse().unwrap();
        (0..count)
            .map(|_| {
                let length: usize = self.line().strip_prefix('$').unwrap().parse().unwrap();
                let mut key = vec![0; length + 2];
                self.stream.read_exact(&mut key).unwrap();
                key.truncate(length);
                key
            })
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn word(letters: &[u8], length_max: usize) -> Vec<u8> {
    let length = rand::random_range(1..=length_max);
    (0..length).map(|_| letters[rand::random_range(0..letters.len())]).collect()
}

#[test]
fn random_patterns_choose_the_keys_that_redis_chooses() {
    let Some(mut redis) = Server::start() else {
        println!("skipped: no redis-server on the path");
        return;
    };
    let keys: BTreeSet<Vec<u8>> = (0..400).map(|_| word(KEY_LETTERS, 5)).collect();
    for key in &keys {
        redis.send(&[b"SET", key, b"1"]);
        assert_eq!(redis.line(), "+OK");
    }
    for _ in 0..4_000 {
        let pattern = word(PATTERN_LETTERS, 8);
        let ours: BTreeSet<_> = keys.iter().filter(|key| glob::matches(&pattern, key, false)).cloned().collect();
        assert_eq!(ours, redis.keys(&pattern), "pattern {:?}", String::from_utf8_lossy(&pattern));
    }
}
