//! Long random sequences of commands, run here and by a real redis-server 7.0, reply by reply.
//!
//! A few keys and a few values make commands meet: wrong types, the same set twice, fields that are there or not,
//! numbers at the edge, names long enough to end a packed encoding. Replies whose order Redis does not promise are
//! sorted before they are compared; of random answers the shape is compared. After each round the encodings must be
//! equal too. A failure prints the seed and the commands of its round.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::base::ids::slot_of;
use crate::commands::oracle::Oracle;
use crate::commands::testing::Node;
use crate::protocol::Proto;
use crate::protocol::client::Value;
use crate::store::ValueRef;

type Request = Vec<Vec<u8>>;

/// The first three mostly hold hashes, the others mostly sets.
const KEYS: [&str; 6] = ["{k}a", "{k}b", "{k}c", "{k}d", "{k}e", "{k}f"];

/// How a reply of Redis may differ from ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Not at all.
    Exact,
    /// In the order of its elements.
    Any,
    /// In the order of its pairs.
    Pairs,
    /// In everything but its shape.
    Random,
}

struct Source {
    rng: StdRng,
    /// The keys that suit the command in the making.
    keys: &'static [&'static str],
}

impl Source {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.random_range(0..from.len())]
    }

    fn key(&mut self) -> Vec<u8> {
        let keys = if self.rng.random_ratio(1, 30) { &KEYS[..] } else { self.keys };
        self.pick(keys).into()
    }

    /// A field, member or value.
    fn text(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..40) {
            0 => vec![b'x'; self.rng.random_range(63..67)],
            1 => vec![0, b'\r', b'\n', 0xff],
            2 => Vec::new(),
            3..12 => self
                .pick(&["a", "b", "1.5", "1e2", "-0", "007", "x1", "9223372036854775807", "-9223372036854775808"])
                .into(),
            12..16 => format!("m{}", self.rng.random_range(0..900)).into(),
            16..24 => self.rng.random_range(0..900).to_string().into(),
            _ => self.rng.random_range(-20..20).to_string().into(),
        }
    }

    fn count(&mut self) -> Vec<u8> {
        let edges =
            ["0", "1", "2", "5", "100", "-1", "-3", "x", "9223372036854775807", "-9223372036854775808", "1.0", ""];
        self.pick(&edges).into()
    }

    fn several(&mut self, most: usize, mut one: impl FnMut(&mut Source) -> Vec<u8>) -> Request {
        let most = if self.rng.random_ratio(1, 30) { 150 * most } else { most };
        (0..self.rng.random_range(1..=most)).map(|_| one(self)).collect()
    }

    fn pairs(&mut self) -> Request {
        let mut pairs = self.several(3, Source::text);
        let values: Request = pairs.iter().map(|_| self.text()).collect();
        pairs = pairs.into_iter().zip(values).flat_map(|(field, value)| [field, value]).collect();
        if self.rng.random_ratio(1, 20) {
            pairs.pop();
        }
        pairs
    }

    fn scan_options(&mut self) -> Request {
        let options = [
            &[][..],
            &["MATCH", "*"],
            &["match", "m*"],
            &["MATCH", "[0-5]"],
            &["COUNT", "5000"],
            &["count", "0"],
            &["COUNT", "x"],
            &["TYPE", "hash"],
            &["MATCH"],
            &["MATCH", "m?", "COUNT", "5000"],
        ];
        options[self.rng.random_range(0..options.len())].iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn request(&mut self) -> (Request, Order) {
        let (name, order) = COMMANDS[self.rng.random_range(0..COMMANDS.len())];
        self.keys = match name.as_bytes() {
            [b'H', ..] => &KEYS[..3],
            _ => &KEYS[3..],
        };
        let mut request = vec![name.as_bytes().to_vec()];
        match name {
            "HSET" | "HMSET" => request.extend([vec![self.key()], self.pairs()].concat()),
            "HSETNX" | "HINCRBY" | "HINCRBYFLOAT" => request.extend([self.key(), self.text(), self.text()]),
            // Seldom, because it stays.
            "SET" if self.rng.random_ratio(4, 5) => return self.request(),
            "SET" | "HGET" | "HEXISTS" | "HSTRLEN" | "SISMEMBER" => request.extend([self.key(), self.text()]),
            "HMGET" | "HDEL" | "SADD" | "SREM" | "SMISMEMBER" => {
                request.extend([vec![self.key()], self.several(4, Source::text)].concat());
            }
            "SMOVE" => request.extend([self.key(), self.key(), self.text()]),
            "SINTER" | "SUNION" | "SDIFF" => request.extend(self.several(3, Source::key)),
            "SINTERSTORE" | "SUNIONSTORE" | "SDIFFSTORE" => {
                request.extend([vec![self.key()], self.several(2, Source::key)].concat());
            }
            "SINTERCARD" => {
                let keys = self.several(2, Source::key);
                let count = if self.rng.random_ratio(1, 6) { self.count() } else { keys.len().to_string().into() };
                request.extend([vec![count], keys].concat());
                if self.rng.random() {
                    request.extend([b"LIMIT".to_vec(), self.count()]);
                }
            }
            "HRANDFIELD" | "SRANDMEMBER" => {
                request.extend([self.key(), self.count()]);
                if self.rng.random_ratio(1, 3) {
                    request.push(self.pick(&["WITHVALUES", "withvalues", "x"]).into());
                }
            }
            // Larger than any set here: what is popped is known.
            "SPOP" => request.extend([self.key(), self.pick(&["100000", "-1", "x", "0"]).into()]),
            "HSCAN" | "SSCAN" => {
                request.extend([self.key(), self.pick(&["0", "0", "0", "x", "", "+0"]).into()]);
                request.extend([vec![b"COUNT".to_vec(), b"9000".to_vec()], self.scan_options()].concat());
            }
            _ => request.push(self.key()),
        }
        (request, order)
    }
}

const COMMANDS: &[(&str, Order)] = &[
    ("SET", Order::Exact),
    ("HSET", Order::Exact),
    ("HSET", Order::Exact),
    ("HMSET", Order::Exact),
    ("HSETNX", Order::Exact),
    ("HGET", Order::Exact),
    ("HMGET", Order::Exact),
    ("HGETALL", Order::Pairs),
    ("HDEL", Order::Exact),
    ("HEXISTS", Order::Exact),
    ("HLEN", Order::Exact),
    ("HSTRLEN", Order::Exact),
    ("HKEYS", Order::Any),
    ("HVALS", Order::Any),
    ("HINCRBY", Order::Exact),
    ("HINCRBYFLOAT", Order::Exact),
    ("HRANDFIELD", Order::Random),
    ("HSCAN", Order::Pairs),
    ("SADD", Order::Exact),
    ("SADD", Order::Exact),
    ("SREM", Order::Exact),
    ("SISMEMBER", Order::Exact),
    ("SMISMEMBER", Order::Exact),
    ("SMEMBERS", Order::Any),
    ("SCARD", Order::Exact),
    ("SPOP", Order::Any),
    ("SRANDMEMBER", Order::Random),
    ("SMOVE", Order::Exact),
    ("SINTER", Order::Any),
    ("SINTERCARD", Order::Exact),
    ("SINTERSTORE", Order::Exact),
    ("SUNION", Order::Any),
    ("SUNIONSTORE", Order::Exact),
    ("SDIFF", Order::Any),
    ("SDIFFSTORE", Order::Exact),
    ("SSCAN", Order::Any),
];

/// The reply with everything removed in which it may differ.
fn comparable(value: Value, order: Order) -> Value {
    let sorted = |mut values: Vec<Value>| {
        values.sort_by_key(|value| format!("{value:?}"));
        values
    };
    match (value, order) {
        (value, Order::Exact) => value,
        (Value::Array(values) | Value::Set(values), Order::Random) => Value::Int(values.len() as i64),
        (Value::Bulk(_), Order::Random) => Value::Bulk(Vec::new()),
        // A cursor and what was found.
        (Value::Array(parts), order) if matches!(parts[..], [Value::Bulk(_), Value::Array(_)]) => {
            Value::Array(parts.into_iter().map(|part| comparable(part, order)).collect())
        }
        (Value::Array(values), Order::Any) => Value::Array(sorted(values)),
        (Value::Set(values), Order::Any) => Value::Set(sorted(values)),
        (Value::Array(values), Order::Pairs) => {
            Value::Array(sorted(values.chunks(2).map(|pair| Value::Array(pair.to_vec())).collect()))
        }
        (Value::Map(mut pairs), _) => {
            pairs.sort_by_key(|pair| format!("{pair:?}"));
            Value::Map(pairs)
        }
        (value, _) => value,
    }
}

/// What OBJECT ENCODING says of a hash or set; nothing for other types.
fn encoding(node: &mut Node, key: &str) -> Option<&'static str> {
    let mut keys = node.store.lock(slot_of(key.as_bytes()), node.db, node.now_ms(), &mut node.effects);
    Some(match keys.read(key.as_bytes())? {
        ValueRef::Hash(fields) if fields.is_packed() => "listpack",
        ValueRef::Set(set) if set.intset => "intset",
        ValueRef::Hash(_) | ValueRef::Set(_) => "hashtable",
        ValueRef::String(_) | ValueRef::Number(_) => return None,
    })
}

fn compare_round(oracle: &mut Oracle, seed: u64, proto: Proto) {
    let mut source = Source { rng: StdRng::seed_from_u64(seed), keys: &KEYS };
    let mut node = Node::new();
    node.proto = proto;
    oracle.run(&["FLUSHALL"]);
    oracle.run(&["HELLO", if proto == Proto::Resp3 { "3" } else { "2" }]);
    let mut history = String::new();
    for _ in 0..300 {
        let (request, order) = source.request();
        let shown: Vec<String> = request.iter().map(|arg| arg.escape_ascii().to_string()).collect();
        history += &format!("{shown:?}\n");
        let ours = comparable(node.run_args(&request), order);
        let theirs = comparable(oracle.run(&request), order);
        assert_eq!(ours, theirs, "ours and redis's reply, seed {seed}, {proto:?}, after\n{history}");
    }
    for key in KEYS {
        if let Some(ours) = encoding(&mut node, key) {
            let theirs = oracle.run(&["OBJECT", "ENCODING", key]);
            assert_eq!(Value::Bulk(ours.into()), theirs, "encoding of {key}, seed {seed}, after\n{history}");
        }
    }
}

#[test]
fn hashes_and_sets_answer_as_redis_does() {
    let Some(mut oracle) = Oracle::start() else { return };
    let first: u64 = rand::random();
    println!("first seed {first}");
    for round in 0..40 {
        let proto = if round % 2 == 0 { Proto::Resp2 } else { Proto::Resp3 };
        compare_round(&mut oracle, first.wrapping_add(round), proto);
    }
}
