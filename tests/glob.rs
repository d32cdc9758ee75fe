//! The glob against redis-server itself: random patterns over random keys, asked with KEYS.
//!
//! Skipped where there is no redis-server.

mod support;

use std::collections::BTreeSet;

use rondo::base::glob;

use support::redis::Redis;
use support::resp::Value;

/// Letters few enough that random patterns and keys meet often.
const KEY_LETTERS: &[u8] = b"abAB-]^\\*?";
const PATTERN_LETTERS: &[u8] = b"aabbAB-]]^^\\\\***??[[[";

fn word(letters: &[u8], length_max: usize) -> Vec<u8> {
    let length = rand::random_range(1..=length_max);
    (0..length).map(|_| letters[rand::random_range(0..letters.len())]).collect()
}

#[test]
fn random_patterns_choose_the_keys_that_redis_chooses() {
    let Some(redis) = Redis::start_if_there(&[]) else { return };
    let mut client = redis.client();
    let keys: BTreeSet<Vec<u8>> = (0..400).map(|_| word(KEY_LETTERS, 5)).collect();
    for key in &keys {
        assert_eq!(client.call(&[&b"SET"[..], key, b"1"]), Value::Simple(b"OK".to_vec()));
    }
    for _ in 0..4_000 {
        let pattern = word(PATTERN_LETTERS, 8);
        let ours: BTreeSet<_> = keys.iter().filter(|key| glob::matches(&pattern, key, false)).cloned().collect();
        let reply = client.call(&[&b"KEYS"[..], &pattern]);
        let bytes = |value: &Value| match value {
            Value::Bulk(key) => key.clone(),
            other => panic!("no key: {other:?}"),
        };
        let theirs: BTreeSet<Vec<u8>> = reply.items().expect("a list").iter().map(bytes).collect();
        assert_eq!(ours, theirs, "pattern {:?}", String::from_utf8_lossy(&pattern));
    }
}
