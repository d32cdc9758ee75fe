//! What errors say of the request that they refuse: compared with redis-server.

use super::support::client::Client;
use super::support::cluster::Cluster;
use super::support::redis::Redis;

/// The replies to these requests, each as it looks to a client.
fn replies(port: u16, requests: &[Vec<Vec<u8>>]) -> Vec<String> {
    let mut client = Client::to(port);
    requests.iter().map(|request| format!("{:?}", client.call(request))).collect()
}

/// A request of which the words `*` are to be replaced.
fn request(line: &str, word: &[u8]) -> Vec<Vec<u8>> {
    line.split(' ').map(|it| if it == "*" { word.to_vec() } else { it.as_bytes().to_vec() }).collect()
}

#[test]
fn errors_quote_what_a_client_sent_byte_for_byte() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    let words = [
        b"\xff\xfe".to_vec(),
        b"a\0b".to_vec(),
        b"a\r\nb\r\n".to_vec(),
        // A letter of two bytes is cut in its middle.
        [&b"x"[..], "\u{e9}".repeat(90).as_bytes()].concat(),
    ];
    let lines = [
        "*",
        "* * * *",
        "nosuch *",
        "nosuch a * b",
        "OBJECT *",
        "CLIENT *",
        "CONFIG *",
        "MEMORY *",
        "PUBSUB *",
        "LATENCY *",
        "EXPIRE k 1 *",
        "HELLO 3 *",
        "CLIENT KILL TYPE *",
        "CLIENT KILL USER *",
        "CLIENT LIST TYPE *",
        "LATENCY GRAPH *",
        "CONFIG SET * 1",
        "CONFIG SET * 1 maxmemory x",
        "CONFIG GET *",
    ];
    let requests: Vec<_> = lines.iter().flat_map(|line| words.iter().map(|word| request(line, word))).collect();
    let (ours, theirs) = (replies(cluster.nodes[0].port, &requests), replies(redis.port, &requests));
    let shown = |request: &Vec<Vec<u8>>| request.join(&b' ').escape_ascii().to_string();
    let told = |replies: Vec<String>| requests.iter().map(shown).zip(replies).collect::<Vec<_>>();
    let (ours, theirs) = (told(ours), told(theirs));
    let differing: Vec<_> = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(differing.is_empty(), "{differing:#?}");
}
