//! Long random sequences of commands on strings, bits, numbers and keys, run here and by a real redis-server 7.0.
//!
//! Every reply must be equal, down to the texts of errors (OBJECT REFCOUNT is left out: which small numbers are shared
//! depends in Redis on how they came about); only how long a key still lives may differ by the time that
//! the test takes. In every other round the keyspace events are compared too, in their order. A failure prints the seed
//! and the commands of its round.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::commands::oracle::Oracle;
use crate::commands::testing::Node;
use crate::protocol::Proto;
use crate::protocol::client::Value;

/// Requests with gaps: `$` and a letter are filled in by [`Source::gap`].
const REQUESTS: &[&str] = &[
    "GET $k",
    "SET $k $v",
    "SET $k $v",
    "SET $k $v $s",
    "SET $k $v $s $s",
    "SET $k $v $s $s $s",
    "SETNX $k $v",
    "SETEX $k $r $v",
    "PSETEX $k $r $v",
    "GETSET $k $v",
    "GETDEL $k",
    "GETEX $k",
    "GETEX $k $x",
    "GETEX $k $x $x",
    "MGET $k $k $k",
    "MSET $k $v $k $v",
    "MSET $k $v $k",
    "MSETNX $k $v $k $v",
    "APPEND $k $v",
    "STRLEN $k",
    "GETRANGE $k $i $i",
    "SUBSTR $k $i $i",
    "SETRANGE $k $i $v",
    "LCS $k $k",
    "LCS $k $k $l",
    "LCS $k $k $l $l $l",
    "INCR $k",
    "DECR $k",
    "INCRBY $k $n",
    "DECRBY $k $n",
    "INCRBYFLOAT $k $f",
    "INCR $k",
    "INCRBYFLOAT $k $f",
    "SETBIT $k $o $b",
    "SETBIT $k $o $b",
    "GETBIT $k $o",
    "BITCOUNT $k",
    "BITCOUNT $k $i $i",
    "BITCOUNT $k $i $i $u",
    "BITCOUNT $k $i",
    "BITPOS $k $b",
    "BITPOS $k $b $i",
    "BITPOS $k $b $i $i",
    "BITPOS $k $b $i $i $u",
    "BITOP $p $k $k",
    "BITOP $p $k $k $k",
    "BITOP NOT $k $k",
    "BITFIELD $k",
    "BITFIELD $k $w",
    "BITFIELD $k $w $w",
    "BITFIELD $k $w $w $w",
    "BITFIELD_RO $k $w",
    "BITFIELD_RO $k $w $w",
    "DEL $k",
    "DEL $k $k",
    "UNLINK $k $k",
    "EXISTS $k $k $k",
    "TOUCH $k $k",
    "TYPE $k",
    "RENAME $k $k",
    "RENAMENX $k $k",
    "COPY $k $k",
    "COPY $k $k $c",
    "COPY $k $k $c $c",
    "MOVE $k $d",
    "EXPIRE $k $r $e",
    "EXPIRE $k $r",
    "PEXPIRE $k $r $e",
    "EXPIREAT $k $t $e",
    "EXPIREAT $k $t $e $e",
    "PEXPIREAT $k $t $e",
    "EXPIREAT $k $t",
    "TTL $k",
    "PTTL $k",
    "EXPIRETIME $k",
    "PEXPIRETIME $k",
    "PERSIST $k",
    "OBJECT ENCODING $k",
    "OBJECT ENCODING $k",
    "OBJECT $q $k",
    "HSET $h f $v",
    "SADD $h $n",
    "SADD $h $v",
    "HLEN $h",
    "SCARD $h",
    "HGET $h f",
    "SELECT $y",
];

struct Source {
    rng: StdRng,
}

impl Source {
    fn pick(&mut self, from: &[&str]) -> String {
        from[self.rng.random_range(0..from.len())].to_owned()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..12) {
            0 => vec![b'x'; self.rng.random_range(43..47)],
            1 => (0..self.rng.random_range(0..12)).map(|_| self.rng.random()).collect(),
            2..5 => self.rng.random_range(-20..12_000).to_string().into(),
            5 => self.gap('f'),
            6 => self.gap('n'),
            _ => {
                self.pick(&["", "a", "abc", "ohmytext", "mynewtext", "foobar", "\u{ff}\u{0}", "007", "+1", " 1"]).into()
            }
        }
    }

    /// What stands for one gap; some are several words, or none.
    fn gap(&mut self, letter: char) -> Vec<u8> {
        let word = match letter {
            'k' => self.pick(&["a", "b", "c", "d", "e", "h"]),
            'h' => self.pick(&["h", "h", "h", "g", "e"]),
            'v' => return self.value(),
            'n' => self.pick(&[
                "1",
                "-1",
                "7",
                "100",
                "9999",
                "10000",
                "0",
                "9223372036854775807",
                "-9223372036854775808",
                "x",
                "1.5",
                "01",
                "9223372036854775808",
                "4611686018427387904",
            ]),
            'f' => self.pick(&[
                "0.1",
                "1",
                "-1.5",
                "3.0e3",
                "1e-5",
                "x",
                "inf",
                "-inf",
                "nan",
                "10",
                "1e17",
                "0x10",
                "5000000000",
                "0.30000000000000004",
                "-0",
            ]),
            'i' if self.rng.random_ratio(1, 15) => self.gap_text('n'),
            'i' => self.rng.random_range(-12..40).to_string(),
            'o' if self.rng.random_ratio(1, 15) => self.pick(&["-1", "4294967296", "x", "1.0", "4294967295000"]),
            'o' => self.rng.random_range(0..200).to_string(),
            'b' => self.pick(&["0", "1", "0", "1", "0", "1", "2", "x"]),
            'u' => self.pick(&["BIT", "byte", "Bit", "BITS"]),
            's' => return self.option(&["NX", "XX", "GET", "KEEPTTL", "nx", "get", "foo"]),
            'x' => return self.option(&["PERSIST", "persist", "PERSIST", "KEEPTTL", "NX"]),
            'r' => match self.rng.random_range(0..12) {
                0 => {
                    self.pick(&["x", "1.5", "01", "9223372036854775807", "-9223372036854775808", "9223372036854775808"])
                }
                1 => self.pick(&["0", "-1", "-1000"]),
                _ => self.rng.random_range(1_000_000..900_000_000).to_string(),
            },
            't' => self.pick(&["4000000000", "4000000001", "5000000000000", "5000000000001", "1", "0", "-5", "x"]),
            'e' => self.pick(&["NX", "XX", "GT", "LT", "gt", "lt", "foo"]),
            'l' => self.pick(&["LEN", "IDX", "idx", "WITHMATCHLEN", "MINMATCHLEN 2", "MINMATCHLEN x", "foo"]),
            'p' => self.pick(&["AND", "OR", "XOR", "not", "NOT", "nand"]),
            'c' => self.pick(&["REPLACE", "DB 1", "DB 0", "DB 16", "DB x", "DB", "replace", "DB -1", "DB 4294967297"]),
            'd' => self.pick(&["0", "1", "2", "1", "2", "16", "x", "-1"]),
            'y' => self.pick(&["0", "0", "0", "1", "2"]),
            'q' => self.pick(&["FREQ", "nope", "HELP", "encoding"]),
            'w' => return self.bitfield(),
            other => panic!("no gap {other}"),
        };
        word.into()
    }

    fn gap_text(&mut self, letter: char) -> String {
        String::from_utf8(self.gap(letter)).expect("a text")
    }

    fn option(&mut self, words: &[&str]) -> Vec<u8> {
        match self.rng.random_range(0..6) {
            0 => format!("EX {}", self.gap_text('r')),
            1 => format!("px {}", self.gap_text('r')),
            // None that has passed: Redis would keep the key until somebody looks.
            2 => format!("EXAT {}", self.pick(&["4000000000", "4000000001", "0", "-5", "x", "9223372036854775807"])),
            3 => format!("PXAT {}", self.pick(&["5000000000000", "5000000000001", "0", "x", "9223372036854775807"])),
            _ => self.pick(words),
        }
        .into()
    }

    fn bitfield(&mut self) -> Vec<u8> {
        let kind = self.pick(&["u8", "i8", "u1", "i5", "u63", "i64", "u4", "i16", "i1", "u64", "i65", "x1", "u0", "u"]);
        let index = self.rng.random_range(0..20);
        let offset = if self.rng.random() { format!("#{index}") } else { self.gap_text('o') };
        match self.rng.random_range(0..6) {
            0 => format!("OVERFLOW {}", self.pick(&["WRAP", "SAT", "FAIL", "sat", "up"])),
            1 | 2 => format!("GET {kind} {offset}"),
            3 => format!("set {kind} {offset} {}", self.gap_text('n')),
            _ => format!("INCRBY {kind} {offset} {}", self.gap_text('n')),
        }
        .into()
    }

    fn request(&mut self) -> Vec<Vec<u8>> {
        let template = self.pick(REQUESTS);
        let mut request = Vec::new();
        for word in template.split(' ') {
            let Some(letter) = word.strip_prefix('$').and_then(|gap| gap.chars().next()) else {
                request.push(word.into());
                continue;
            };
            let filled = self.gap(letter);
            match letter {
                'v' => request.push(filled),
                _ => request.extend(filled.split(|byte| *byte == b' ').map(<[u8]>::to_vec)),
            }
        }
        request
    }
}

/// True when the replies are the same, or are times that differ by no more than the test takes.
fn agree(name: &[u8], ours: &Value, theirs: &Value) -> bool {
    let is_time = [&b"TTL"[..], b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"].contains(&name);
    match (ours, theirs) {
        (Value::Int(ours), Value::Int(theirs)) if is_time && *ours > 0 => ours.abs_diff(*theirs) < 20_000,
        _ => ours == theirs,
    }
}

/// A reply for people to read.
fn shown(value: &Value) -> String {
    match value {
        Value::Error(text) => format!("-{}", text.escape_ascii()),
        Value::Bulk(text) => format!("\"{}\"", text.escape_ascii()),
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}

/// The events of keys as `db:name:key`. When a key that has expired is noticed is each server's own affair.
fn events_of(node: &mut Node) -> Vec<String> {
    let events = node.take_events();
    let shown = |event: &crate::store::Event| format!("{}:{}:{}", event.db, event.name, event.key.escape_ascii());
    events.iter().filter(|event| event.name != "expired").map(shown).collect()
}

fn pushed_events(oracle: &mut Oracle) -> Vec<String> {
    oracle.run(&["PING"]);
    let text = |value: &Value| match value {
        Value::Bulk(bytes) => bytes.escape_ascii().to_string(),
        _ => String::new(),
    };
    let shown = oracle.take_pushes().into_iter().map(|message| match &message[..] {
        [_, _, channel, key] => text(channel).replace("__keyevent@", "").replace("__", "") + ":" + &text(key),
        other => panic!("not a message: {other:?}"),
    });
    shown.filter(|event| !event.contains(":expired:")).collect()
}

fn compare_round(oracle: &mut Oracle, seed: u64, proto: Proto) {
    let mut source = Source { rng: StdRng::seed_from_u64(seed) };
    let mut node = Node::new();
    node.proto = proto;
    node.effects.notify = true;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    node.advance_ms(now_ms - node.now_ms());
    oracle.run(&["SELECT", "0"]);
    oracle.run(&["FLUSHALL"]);
    oracle.take_pushes();
    let mut history = String::new();
    for _ in 0..400 {
        let request = source.request();
        let words: Vec<String> = request.iter().map(|arg| arg.escape_ascii().to_string()).collect();
        history += &format!("{words:?}\n");
        let theirs = oracle.run(&request);
        if request[0] == b"SELECT" {
            node.db = request[1][0] - b'0';
            continue;
        }
        let ours = node.run_args(&request);
        let agree = agree(&request[0], &ours, &theirs);
        let (ours, theirs) = (shown(&ours), shown(&theirs));
        assert!(agree, "ours {ours}, redis's {theirs}, seed {seed}, {proto:?}, after\n{history}");
        if proto == Proto::Resp3 {
            let (ours, theirs) = (events_of(&mut node), pushed_events(oracle));
            assert_eq!(ours, theirs, "our and redis's events, seed {seed}, after\n{history}");
        }
    }
}

#[test]
fn strings_and_keys_answer_as_redis_does() {
    let Some(mut oracle) = Oracle::start() else { return };
    let first: u64 =
        std::env::var("RONDO_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("first seed {first}");
    for round in 0..40 {
        let proto = if round % 2 == 0 { Proto::Resp2 } else { Proto::Resp3 };
        oracle.run(&["RESET"]);
        if proto == Proto::Resp3 {
            oracle.run(&["CONFIG", "SET", "notify-keyspace-events", "EAn"]);
            oracle.run(&["HELLO", "3"]);
            oracle.subscribe("__keyevent@*__:*");
        }
        compare_round(&mut oracle, first.wrapping_add(round), proto);
    }
}
