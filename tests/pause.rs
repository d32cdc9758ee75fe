//! CLIENT PAUSE beside redis-server: the same steps to both, told apart by nothing that a client can see.
//!
//! A step that is held back is one whose client is counted by `blocked_clients`; nothing here measures time.

mod support;

use std::time::Duration;

use support::client::{Client, encode};
use support::cluster::Cluster;
use support::redis::Redis;
use support::resp::Value;
use support::wait_for;

const LONG: Duration = Duration::from_secs(20);

fn info(client: &mut Client, field: &str) -> i64 {
    let text = client.run("INFO").text().unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap_or_default().to_owned();
    line.parse().unwrap_or_else(|_| panic!("{field} is {line:?}"))
}

/// Sends commands without waiting for their replies.
fn send(client: &mut Client, lines: &[&str]) {
    let mut request = Vec::new();
    lines.iter().for_each(|line| encode(&mut request, &line.split(' ').collect::<Vec<_>>()));
    client.send(&request).expect("taken");
}

fn receive(client: &mut Client, replies: usize) -> Vec<Value> {
    (0..replies).map(|_| client.receive().expect("a reply")).collect()
}

fn must_block(watcher: &mut Client, clients: i64) {
    let found = wait_for(LONG, || (info(watcher, "blocked_clients") == clients).then_some(()));
    assert!(found.is_some(), "{} clients are blocked, not {clients}", info(watcher, "blocked_clients"));
}

/// What the clients of one server read.
fn scenes(port: u16) -> Vec<Vec<Value>> {
    let (mut watcher, mut one, mut two) = (Client::to(port), Client::to(port), Client::to(port));
    let mut read = Vec::new();

    // Writes wait, and what is behind them; reads do not.
    watcher.run("CLIENT PAUSE 600000 WRITE");
    send(&mut one, &["PUBLISH a x", "SET a 1", "GET a", "PING"]);
    must_block(&mut watcher, 1);
    read.push(vec![two.run("GET a"), two.run("MULTI"), two.run("GET a"), two.run("PING"), two.run("EXEC")]);
    read.push(vec![watcher.run("GET a"), watcher.run("CLIENT UNPAUSE")]);
    read.push(receive(&mut one, 4));

    // A transaction that writes waits with EXEC, and with a command that is to be queued.
    read.push(vec![one.run("MULTI"), one.run("INCR a")]);
    watcher.run("CLIENT PAUSE 600000 WRITE");
    send(&mut one, &["EXEC"]);
    send(&mut two, &["MULTI", "INCR a", "EXEC"]);
    must_block(&mut watcher, 2);
    read.push(vec![watcher.run("GET a"), watcher.run("CLIENT UNPAUSE")]);
    read.push(receive(&mut one, 1));
    read.push(receive(&mut two, 3));

    // A key whose time is over is not seen, and stays until the pause is over; none is evicted for want of memory.
    let before = two.run("DBSIZE");
    read.push(vec![before.clone(), two.run("SET goes 1 PX 200")]);
    watcher.run("CONFIG SET maxmemory-policy allkeys-lru");
    watcher.run("CLIENT PAUSE 600000 WRITE");
    watcher.run("CONFIG SET maxmemory 1");
    assert!(wait_for(LONG, || two.run("GET goes").is_null().then_some(())).is_some(), "it expires all the same");
    // Long enough for whoever sweeps or evicts to have come by.
    std::thread::sleep(Duration::from_millis(500));
    read.push(vec![two.run("TTL goes"), two.run("EXISTS goes a"), two.run("DBSIZE"), two.run("TYPE goes")]);
    assert_eq!((info(&mut two, "expired_keys"), info(&mut two, "evicted_keys")), (0, 0));
    watcher.run("CONFIG SET maxmemory 0");
    watcher.run("CLIENT UNPAUSE");
    assert!(wait_for(LONG, || (two.run("DBSIZE") == before).then_some(())).is_some(), "and leaves then");
    assert_eq!(info(&mut two, "expired_keys"), 1);

    // The longer of two pauses holds, and the one of all commands; it holds CLIENT UNPAUSE back too.
    watcher.run("CLIENT PAUSE 600000 WRITE");
    watcher.run("CLIENT PAUSE 1 WRITE");
    send(&mut one, &["SET a 5"]);
    must_block(&mut watcher, 1);
    read.push(vec![watcher.run("CLIENT UNPAUSE")]);
    read.push(receive(&mut one, 1));
    watcher.run("CLIENT PAUSE 300");
    send(&mut one, &["PING", "GET a", "CLIENT UNPAUSE", "SUBSCRIBE c"]);
    send(&mut two, &["CLIENT REPLY SKIP", "PING", "ECHO 1"]);
    read.push(receive(&mut one, 4));
    read.push(receive(&mut two, 1));
    assert_eq!(info(&mut watcher, "blocked_clients"), 0);
    read
}

#[test]
fn clients_are_paused_as_by_redis() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let expected = scenes(redis.port);
    for (at, (found, expected)) in scenes(cluster.nodes[0].port).iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "replies {at}");
    }
}

/// By all that change keys where they are; a RENAME is one change there and two here.
#[test]
fn changes_are_counted_as_by_redis() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let lines = [
        "SET a 1",
        "GET a",
        "MSET b 1 c 2",
        "SETBIT a 1 0",
        "SETBIT a 1 1",
        "BITFIELD a SET u8 0 3",
        "BITFIELD a SET u8 0 3",
        "SADD s m n o",
        "SADD s m",
        "HSET h f 1 g 2",
        "HDEL h f none",
        "DEL a none",
        "EXPIRE b 100",
        "PERSIST b",
        "SET d 1 NX",
        "SET d 1 NX",
        "INCR b",
        "APPEND c x",
        "SREM s m n",
        "MULTI",
        "INCR b",
        "SET e 1",
        "EXEC",
    ];
    let (mut ours, mut theirs) = (cluster.nodes[0].client(), redis.client());
    for line in lines {
        assert_eq!(ours.run(line), theirs.run(line), "{line}");
        let changes = |client: &mut Client| info(client, "rdb_changes_since_last_save");
        // What is queued is not done yet, and INFO would be queued too.
        if !matches!(line, "MULTI" | "INCR b" | "SET e 1") {
            assert_eq!(changes(&mut ours), changes(&mut theirs), "after {line}");
        }
    }
}

/// Changes that Redis tells nobody of abort no transaction: bits that stay as they are, room made for what then fails.
#[test]
fn watch_notices_what_redis_notices() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let changes = [
        "SETBIT counter 7 1",
        "SETBIT counter 0 0",
        "SETBIT counter 1 0",
        "BITFIELD counter OVERFLOW FAIL INCRBY u2 500 9",
        "BITFIELD counter OVERFLOW FAIL INCRBY u2 500 9 GET u8 0",
        "BITFIELD counter OVERFLOW FAIL INCRBY u2 500 9 SET u8 0 1",
        "BITFIELD none OVERFLOW FAIL INCRBY u2 500 9",
        "BITFIELD none SET u8 0 0",
        "BITFIELD counter SET u8 0 49",
        "BITFIELD counter GET u8 0",
        "PERSIST counter",
        "SADD set a",
        "SADD set b",
        "HSET hash f 1",
        "INCRBY counter 0",
        "EXPIRE counter 100",
        "DEL other",
        "FLUSHALL",
    ];
    for change in changes {
        let read = [redis.port, cluster.nodes[0].port].map(|port| {
            let (mut one, mut two) = (Client::to(port), Client::to(port));
            let prepare = ["FLUSHALL", "INCRBY counter 9", "SADD set a", "HSET hash f 1"];
            prepare.iter().for_each(|line| drop(one.run(line)));
            let mut read = vec![one.run("WATCH counter none set hash"), two.run(change)];
            let check = ["MULTI", "SET done 1", "EXEC", "OBJECT ENCODING counter", "STRLEN counter", "STRLEN none"];
            read.extend(check.iter().map(|line| one.run(line)));
            read
        });
        assert_eq!(read[0], read[1], "redis-server's and ours after {change}");
    }
}
