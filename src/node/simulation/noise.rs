//! Requests that nobody judges, about a few keys whose type keeps changing: whatever meets there, in the end all
//! replicas must hold the same of it (`story`).

use rand::RngExt as _;
use rand::rngs::SmallRng;

/// Few, so that they meet.
const KEYS: u32 = 8;
const FIELDS: u32 = 4;

/// The words of one.
pub fn noise(draws: &mut SmallRng) -> Vec<String> {
    let [key, other] = [(); 2].map(|()| format!("noise:{}", draws.random_range(0..KEYS)));
    let field = format!("f{}", draws.random_range(0..FIELDS));
    let number = draws.random_range(1..9).to_string();
    let ms = draws.random_range(100..3_000).to_string();
    let words: &[&str] = match draws.random_range(0..34) {
        0..3 => &["DEL", &key],
        3..5 => &["PEXPIRE", &key, &ms],
        5 => &["PERSIST", &key],
        6..9 => &["INCR", &key],
        9 => &["DECRBY", &key, &number],
        10..13 => &["SADD", &key, &field],
        13 => &["SREM", &key, &field],
        14..17 => &["HSET", &key, &field, &number],
        17 => &["HDEL", &key, &field],
        18..20 => &["HINCRBY", &key, &field, &number],
        20 => &["APPEND", &key, &number],
        21 => &["SETRANGE", &key, &number, &field],
        22 => &["SETBIT", &key, &number, "1"],
        23..25 => &["SET", &key, &number],
        25 => &["SET", &key, &number, "PX", &ms],
        26 => &["SET", &key, &number, "NX"],
        27 => &["GETDEL", &key],
        28 => &["GETEX", &key, "PX", &ms],
        29 => &["SPOP", &key],
        30 => &["SET", &key, &number, "KEEPTTL"],
        31 => &["RENAME", &key, &other],
        32 => &["COPY", &key, &other, "REPLACE"],
        _ => &["SUNIONSTORE", &key, &key, &other],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}
