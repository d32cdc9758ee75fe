//! Publish and subscribe.

use std::time::Duration;

use super::support::client::Client;
use super::support::cluster::Cluster;
use super::support::redis::Redis;
use super::support::resp::Value;
use super::support::wait_for;
use super::{conversation, texts};

#[test]
fn replies_are_those_of_redis() {
    compare(&[
        &["SUBSCRIBE a b", "GET x", "PING", "PING x", "PING a b", "NOSUCH", "MULTI", "HELLO 3", "SUBSCRIBE", "GET"],
        &[
            "SUBSCRIBE a",
            "PSUBSCRIBE p*",
            "SSUBSCRIBE s",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "GET x",
            "SUNSUBSCRIBE",
            "GET x",
        ],
        &[
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "SUNSUBSCRIBE q r",
            "UNSUBSCRIBE z",
            "PUBLISH a x",
            "SPUBLISH a x",
            "PUBLISH a",
        ],
        &["SUBSCRIBE a a", "UNSUBSCRIBE a a zz", "UNSUBSCRIBE", "PING"],
        &["PUBSUB FOO", "PUBSUB NUMSUB", "PUBSUB NUMSUB a b", "PUBSUB CHANNELS", "PUBSUB NUMPAT", "PUBSUB NUMPAT x"],
        &["PUBSUB SHARDCHANNELS", "PUBSUB SHARDNUMSUB a", "PUBSUB CHANNELS a b", "PUBSUB"],
        &[
            "HELLO 3",
            "SUBSCRIBE a",
            "GET x",
            "PING",
            "PSUBSCRIBE a*",
            "PUBSUB NUMSUB a b",
            "PUBSUB CHANNELS",
            "PUBSUB NUMPAT",
        ],
        &[
            "HELLO 3",
            "SSUBSCRIBE a",
            "PUBSUB SHARDCHANNELS a*",
            "PUBSUB SHARDNUMSUB a b",
            "SUNSUBSCRIBE",
            "UNSUBSCRIBE",
        ],
        &["MULTI", "SUBSCRIBE a b", "EXEC", "PING", "RESET", "PING", "PUBSUB CHANNELS"],
        // What was queued is not refused for what the transaction itself has begun.
        &["MULTI", "SUBSCRIBE b", "CONFIG GET maxmemory", "GET x", "EXEC", "GET x"],
        &["MULTI", "SSUBSCRIBE a", "SUNSUBSCRIBE a", "PSUBSCRIBE c*", "EXEC", "PUBSUB SHARDCHANNELS"],
        // Names what is refused by its whole name, once that is known to be right.
        &[
            "SUBSCRIBE a",
            "CONFIG GET maxmemory",
            "OBJECT ENCODING x",
            "MEMORY USAGE x",
            "CONFIG FOO",
            "CONFIG GET",
            "GET",
        ],
        &["SUBSCRIBE a", "RESET", "GET x", "PUBSUB CHANNELS"],
        &["MULTI", "GET x", "SUBSCRIBE a", "EXEC", "EXEC", "MULTI"],
    ]);
}

#[test]
fn more_names_than_a_connection_may_listen_to_are_refused_together() {
    const REFUSED: &[u8] = b"ERR the subscriptions of a connection may take no more than 256 MB";
    let cluster = Cluster::start(2, &[]);
    let mut client = cluster.nodes[0].client();
    let names: Vec<String> = (0..33).map(|i| format!("{i}:{}", "n".repeat(1 << 20))).collect();
    let asked = |client: &mut Client, count: usize| {
        let words = ["SUBSCRIBE"].into_iter().chain(names.iter().take(count).map(String::as_str));
        client.call(&words.collect::<Vec<&str>>())
    };
    let refused = Value::Error(REFUSED.to_vec());
    assert_eq!(asked(&mut client, 33), refused);
    client.run("MULTI");
    assert_eq!(asked(&mut client, 33), Value::Simple(b"QUEUED".to_vec()));
    assert_eq!(client.run("EXEC"), Value::Array(vec![refused.clone()]));
    assert_eq!(client.run("PUBSUB CHANNELS"), Value::Array(vec![]));
    let confirmed = asked(&mut client, 20);
    assert!(!confirmed.is_error());
    (1..20).for_each(|_| assert!(!client.receive().expect("a confirmation").is_error()));
    assert_eq!(asked(&mut client, 20), refused);
    let heard = cluster.nodes[1].client().call(&["PUBLISH", &names[19], "x"]);
    assert_eq!(heard, Value::Int(1));
}

#[test]
fn to_begin_and_to_end_a_subscription_is_told_whatever_client_reply_says() {
    compare(&[
        &["CLIENT REPLY OFF", "SUBSCRIBE a", "PSUBSCRIBE a*", "PING", "UNSUBSCRIBE", "PUNSUBSCRIBE", "CLIENT REPLY ON"],
        &[
            "HELLO 3",
            "CLIENT REPLY OFF",
            "SUBSCRIBE a",
            "GET x",
            "SSUBSCRIBE a",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "CLIENT REPLY ON",
        ],
        &["CLIENT REPLY SKIP", "SUBSCRIBE b", "PING x", "CLIENT REPLY SKIP", "GET", "UNSUBSCRIBE", "PING y"],
        &[
            "CLIENT REPLY SKIP",
            "CLIENT REPLY SKIP",
            "PING x",
            "PING y",
            "CLIENT REPLY SKIP",
            "CLIENT REPLY ON",
            "PING z",
        ],
    ]);
}

/// In the middle of an array a client would take messages for replies, and behind RESET, or a HELLO that changes the
/// protocol, as well: it no longer knows that there may be any. Redis sends those inside a transaction in their places
/// in the array.
#[test]
fn messages_come_before_what_would_make_them_pass_for_replies() {
    let cluster = Cluster::start(1, &[]);
    let conversations: [(&[&str], &[&str]); 5] = [
        (&["PUBLISH a m", "RESET"], &["1", "message a m", "RESET"]),
        (&["PUBLISH a m", "HELLO 2", "PING"], &["1", "message a m", "hello", "pong "]),
        (
            &["MULTI", "PUBLISH a m", "PUBLISH b m", "UNSUBSCRIBE a", "PING", "EXEC", "PING"],
            &["OK", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "message a m", "message b m", "exec", "PONG"],
        ),
        (
            &["MULTI", "PUBLISH a m", "HELLO 2", "EXEC", "RESET"],
            &["OK", "QUEUED", "QUEUED", "message a m", "exec", "RESET"],
        ),
        // Whose subscription has begun in the transaction itself, that reads of it first.
        (&["MULTI", "SUBSCRIBE c", "PUBLISH c m", "EXEC"], &["OK", "QUEUED", "QUEUED", "exec", "message c m"]),
    ];
    for (lines, expected) in conversations {
        let replies = conversation(cluster.nodes[0].port, &[&["HELLO 3", "SUBSCRIBE a b"][..], lines].concat());
        let seen: Vec<String> = replies.iter().skip(3).map(in_short).collect();
        assert_eq!(seen, expected, "{lines:?} {replies:?}");
    }
}

/// A reply's text, or of what kind it is.
fn in_short(reply: &Value) -> String {
    let words = texts(reply);
    match (words.first().map(String::as_str), reply.text()) {
        (_, Some(text)) => text,
        (Some("message" | "pong"), _) => words.join(" "),
        (Some("server"), _) => "hello".to_owned(),
        _ => "exec".to_owned(),
    }
}

/// Has each of these conversations with a redis-server and with a node, and wants the same replies.
fn compare(conversations: &[&[&str]]) {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    for lines in conversations {
        let without_id = |port| {
            let mut replies = conversation(port, lines);
            replies.retain(|reply| !format!("{reply:?}").contains("server"));
            replies
        };
        let (theirs, ours) = (without_id(redis.port), without_id(cluster.nodes[0].port));
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{lines:?}");
    }
}

/// A client that listens; `hello` chooses the protocol.
fn listener(port: u16, hello: &str, line: &str) -> Client {
    let mut client = Client::to(port);
    client.run(hello);
    client.run(line);
    client
}

#[test]
fn a_message_reaches_every_listener_of_every_node_once() {
    let mut cluster = Cluster::start(3, &[]);
    let ports = cluster.ports();
    let mut listeners = Vec::new();
    for port in &ports {
        for hello in ["HELLO 2", "HELLO 3"] {
            listeners.push((listener(*port, hello, "SUBSCRIBE news"), "message news"));
            listeners.push((listener(*port, hello, "PSUBSCRIBE n?ws"), "pmessage n?ws news"));
        }
        listeners.push((listener(*port, "HELLO 2", "SUBSCRIBE other"), ""));
    }
    let mut publishers: Vec<Client> = ports.iter().map(|port| Client::to(*port)).collect();
    for number in 0..300 {
        let count = publishers[number % 3].call(&["PUBLISH", "news", &number.to_string()]).int();
        assert_eq!(count, Some(12), "message {number}");
    }
    for port in &ports {
        let mut client = Client::to(*port);
        assert_eq!(client.run("PUBSUB NUMSUB news other").items().map(<[_]>::len), Some(4));
        assert_eq!(texts(&client.run("PUBSUB NUMSUB news other")), ["news", "6", "other", "3"]);
        assert_eq!(texts(&client.run("PUBSUB CHANNELS")), ["news", "other"]);
        assert_eq!(client.run("PUBSUB NUMPAT").int(), Some(1));
        assert!(client.run("INFO stats").text().unwrap().contains("pubsub_channels:2\r\npubsub_patterns:1\r\n"));
    }
    for (client, head) in &mut listeners {
        for publisher in 0..if head.is_empty() { 0 } else { 300 } {
            let message = texts(&client.receive().expect("a message"));
            let (number, first) = message.split_last().expect("words");
            assert_eq!(&first.join(" "), head);
            // Of one publisher they come in order; the three are not ordered among each other.
            assert!(number.parse::<usize>().is_ok_and(|number| number < 300), "{publisher}: {message:?}");
        }
        assert_eq!(client.drain(Duration::from_millis(100)), b"", "a message came twice");
    }
    cluster.nodes[2].kill();
    let [here, there] = [0, 1].map(|at| ports[at]);
    let mut client = Client::to(here);
    let told = wait_for(Duration::from_secs(30), || (client.run("PUBLISH news last").int() == Some(8)).then_some(()));
    assert!(told.is_some(), "the dead node's listeners are still counted");
    assert_eq!(texts(&Client::to(there).run("PUBSUB NUMSUB news")), ["news", "4"]);
}

#[test]
fn messages_of_one_publisher_come_in_order_and_a_subscription_holds_once_it_is_confirmed() {
    let cluster = Cluster::start(2, &[]);
    let ports = cluster.ports();
    let mut publisher = Client::to(ports[1]);
    for round in 0..50 {
        let channel = format!("c{round}");
        let mut client = listener(ports[0], "HELLO 2", &format!("SUBSCRIBE {channel}"));
        for number in 0..20 {
            assert_eq!(publisher.call(&["PUBLISH", &channel, &number.to_string()]).int(), Some(1), "round {round}");
        }
        for number in 0..20 {
            let message = client.receive().expect("a message");
            assert_eq!(texts(&message), ["message".to_owned(), channel.clone(), number.to_string()]);
        }
        client.run(&format!("UNSUBSCRIBE {channel}"));
        assert_eq!(client.run("PING").text().as_deref(), Some("PONG"));
    }
    let mut sharded = listener(ports[0], "HELLO 3", "SSUBSCRIBE s");
    assert_eq!(publisher.run("SPUBLISH s x").int(), Some(1));
    assert_eq!(texts(&sharded.receive().expect("a message")), ["smessage", "s", "x"]);
    assert_eq!(publisher.run("PUBLISH s x").int(), Some(0));
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_and_the_others_go_on() {
    let cluster = Cluster::start(2, &[]);
    let ports = cluster.ports();
    Client::to(ports[0]).call(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0"]);
    let mut slow = listener(ports[0], "HELLO 2", "SUBSCRIBE flood");
    let mut quick = listener(ports[0], "HELLO 2", "SUBSCRIBE flood");
    let mut publisher = Client::to(ports[1]);
    let payload = "x".repeat(1 << 18);
    let mut sent = 0;
    let cut = wait_for(Duration::from_secs(60), || {
        sent += 1;
        publisher.call(&["PUBLISH", "flood", &payload]);
        let message = quick.receive().expect("the reader is not cut");
        assert_eq!(message.items().map(<[_]>::len), Some(3));
        (publisher.run("PUBSUB NUMSUB flood").items().unwrap()[1].int() == Some(1)).then_some(())
    });
    assert!(cut.is_some(), "{sent} messages were kept for a reader that does not read");
    let got = slow.drain(Duration::from_secs(30));
    assert!(got.len() < sent * payload.len(), "it got everything");
    let info = Client::to(ports[0]).run("CLIENT LIST TYPE pubsub").text().unwrap();
    assert_eq!(info.lines().count(), 1, "{info}");
    assert!(info.contains(" sub=1 psub=0 ssub=0 ") && info.contains(" flags=P "), "{info}");
}

/// All that waits for it counts, at its connection as well; the soft limit holds also when nothing more is published.
#[test]
fn a_subscriber_is_held_to_the_limits_of_its_class() {
    let (redis, cluster) = (Redis::start(&[]), Cluster::start(1, &[]));
    for port in [redis.port, cluster.nodes[0].port] {
        let mut admin = Client::to(port);
        let payload = "x".repeat(10_000);
        for limit in ["pubsub 200kb 0 0", "pubsub 0 100kb 1"] {
            admin.call(&["CONFIG", "SET", "client-output-buffer-limit", limit]);
            let _deaf = listener(port, "HELLO 2", "SUBSCRIBE flood");
            let mut waits_bytes = || {
                let list = admin.run("CLIENT LIST TYPE pubsub").text().expect("a list");
                let of = |name: &str| list.split(name).nth(1).map(|rest| rest.split(' ').next().expect("a value"));
                let bytes = of(" omem=").map(|bytes| bytes.parse::<usize>().expect("bytes"));
                let is_shown = of(" events=") == Some("rw") && of(" oll=") != Some("0");
                assert!(is_shown || bytes.is_none_or(|bytes| bytes <= 100 << 10), "{list}");
                bytes
            };
            let mut publisher = Client::to(port);
            let over = wait_for(Duration::from_secs(60), || {
                publisher.call(&["PUBLISH", "flood", &payload]);
                waits_bytes().is_none_or(|bytes| bytes > 100 << 10).then_some(())
            });
            assert!(over.is_some(), "{limit}: all was taken");
            if limit.ends_with("0 0") {
                let most = std::iter::from_fn(|| {
                    publisher.call(&["PUBLISH", "flood", &payload]);
                    waits_bytes()
                });
                assert!(most.take(1_000).max() < Some(300 << 10), "{limit}");
            }
            assert!(wait_for(Duration::from_secs(60), || waits_bytes().is_none().then_some(())).is_some(), "{limit}");
        }
    }
}
