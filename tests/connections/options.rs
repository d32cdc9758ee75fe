//! CONFIG GET and SET: which values are taken, what they are shown as, and which argument is blamed, compared with
//! redis-server.

use super::support::client::Client;
use super::support::cluster::Cluster;
use super::support::redis::Redis;

/// Values of `maxmemory`.
#[rustfmt::skip]
const MEMORY: &[&str] = &[
    "7", "", "7", "b", "7", "KB", "1k", "1Kb", "18446744073709551615", "18446744073709551616", "7",
    "18446744073709551616kb", "99999999999gb", "9223372036854775808", "-1", " 5", "5 ", "\t5", "+5", "1x", "1.5mb",
    "0x10", "7\0x", "0",
];

/// Values of options that are bytes within limits.
#[rustfmt::skip]
const MEMORY_BOUNDED: &[&str] = &[
    "", "b", "1048575", "1048576", "9223372036854775807", "9223372036854775808", "99999999999999999999", "-1",
];

/// Values of `client-output-buffer-limit`, none so low that it cuts this very connection.
#[rustfmt::skip]
const LIMITS: &[&str] = &[
    "normal 1mb 2mb 3", "", "normal 1mb 2mb 3 ", " normal 1mb 2mb 3", "normal  1mb 2mb 3", "normal 1mb 2mb",
    "normal 1mb 2mb ", " ", "    ", "NORMAL 1mb 2mb 3 Replica 4 5 6", "master 1 2 3", "nope x y z", "normal x 2 3",
    "normal -1 2 3", "normal 1mb 2mb -1", "normal 1mb 2mb +5", "normal 1mb 2mb -", "normal 1mb 2mb 2147483647",
    "normal 1mb 2mb 2147483648", "normal 1mb 2mb 4294967301", "normal 1mb 2mb 9223372036854775808",
    "normal 1mb 2mb -9223372036854775809", "normal 1mb 2mb \t7", "normal 1mb 2mb 7\t", "normal b kb 3",
    "normal 18446744073709551616 2mb 3", "\"normal\" 1 2 3", "pubsub 1 2 3 nope 1 2 3", "normal 1mb 2mb 03",
    "normal 1mb 2mb 3x", "normal 1mb 2mb 0x10", "normal\0x 1mb\0 2mb\0x 3\0x", "pubsub 1 2 3",
];

/// Values of `latency-tracking-info-percentiles`.
#[rustfmt::skip]
const PERCENTILE_LISTS: &[&str] = &[
    "50 99", "", "50  99", " ", "50 ", "\"50\"", "101", "nan", "inf", "50 50",
];

/// What each server answers to these requests, which must be the same.
fn must_agree(requests: &[Vec<&str>]) {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let replies = |port: u16| {
        let mut client = Client::to(port);
        let ask = |request: &Vec<&str>| format!("{request:?}: {:?}", client.call(request));
        requests.iter().map(ask).collect::<Vec<_>>()
    };
    let (ours, theirs) = (replies(cluster.nodes[0].port), replies(redis.port));
    let differing: Vec<_> = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

/// Each value set, and what the option is then.
fn set_and_get<'v>(option: &'v str, values: &[&'v str]) -> Vec<Vec<&'v str>> {
    values.iter().flat_map(|value| [vec!["CONFIG", "SET", option, value], vec!["CONFIG", "GET", option]]).collect()
}

#[test]
fn values_are_taken_and_shown_as_redis_does() {
    let (most, too_many) = ("9".repeat(127), "0".repeat(128));
    let requests = [
        set_and_get("maxmemory", &[&[&most, "7", &too_many], MEMORY].concat()),
        set_and_get("proto-max-bulk-len", MEMORY_BOUNDED),
        set_and_get("client-query-buffer-limit", MEMORY_BOUNDED),
        set_and_get("client-output-buffer-limit", LIMITS),
        set_and_get("latency-tracking-info-percentiles", PERCENTILE_LISTS),
    ];
    must_agree(&requests.concat());
}

#[test]
fn an_option_is_told_once_however_often_it_is_asked_for() {
    must_agree(&[
        vec!["CONFIG", "GET", "maxmemory", "MAXMEMORY"],
        vec!["CONFIG", "GET", "MaxMemory", "maxm*ory", "maxmemory"],
        vec!["CONFIG", "GET", "maxm*ory", "MAXMEMORY"],
    ]);
}

#[test]
fn the_argument_that_is_wrong_is_blamed_as_redis_does() {
    let requests = [
        "maxmemory x nosuch 1",
        "maxmemory 1 MAXMEMORY 2",
        "maxmemory 1 maxmemory 2 nosuch 1",
        "maxmemory 1 maxmemory 2 databases 1",
        "databases 1 maxmemory 1 maxmemory 2",
        "databases 1 databases 2",
        "Databases 4",
        "MaxMemory x",
        "hash-max-ziplist-entries x",
        "hash-max-ziplist-entries 5 hash-max-listpack-entries 6",
        "maxmemory 7 Timeout x",
        "nosuch",
        "maxmemory 1 timeout",
    ];
    let request = |line: &&'static str| ["CONFIG", "SET"].into_iter().chain(line.split(' ')).collect::<Vec<_>>();
    let mut requests: Vec<_> = requests.iter().map(request).collect();
    // One by one: their order is another.
    let options = ["maxmemory", "timeout", "hash-max-listpack-entries", "hash-max-ziplist-entries"];
    requests.extend(options.iter().map(|option| vec!["CONFIG", "GET", option]));
    must_agree(&requests);
}
