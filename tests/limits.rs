//! What clients may do to a node's memory: lengths that are only announced, idle connections, replies that nobody
//! reads.
//!
//! Growth is read from the process itself, and the bounds are wide: they tell a bounded buffer from one that is not.

#[path = "support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use support::client::{Client, encode};
use support::cluster::{Cluster, Node};
use support::{skipped, wait_for};

const MB: usize = 1 << 20;

/// The resident bytes of a node's process.
fn resident(node: &Node) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process().pid())).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<usize>().ok()).expect("a number") << 10
}

fn insist_on_growth_below(node: &Node, before: usize, bytes_max: usize, what: &str) {
    let growth = resident(node).saturating_sub(before);
    println!("{what}: grew by {} kB", growth >> 10);
    assert!(growth < bytes_max, "{what}: grew by {growth} bytes, {bytes_max} are too many");
    assert_eq!(node.client().run("PING").text().as_deref(), Some("PONG"));
}

#[test]
fn a_length_that_is_only_announced_takes_no_memory() {
    let cluster = Cluster::start(1, &[]);
    let (node, before) = (&cluster.nodes[0], resident(&cluster.nodes[0]));
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(node.addr(node.port)).expect("a connection");
        // The most elements and the longest argument that the protocol allows, and a thousand bytes of it.
        stream.write_all(b"*1048576\r\n$3\r\nSET\r\n$536870912\r\n").expect("the node reads");
        stream.write_all(&[b'x'; 1_000]).expect("the node reads");
        held.push(stream);
    }
    // A count beyond what is allowed ends the connection.
    let mut client = node.client();
    client.send(b"*2147483647\r\n").expect("the node reads");
    assert!(client.receive().expect("an error").is_error());
    insist_on_growth_below(node, before, 16 * MB, "64 announcements of 512 MB");
}

#[test]
fn ten_thousand_idle_connections_are_no_burden() {
    const CONNECTIONS: usize = 10_000;
    if !may_open(CONNECTIONS + 500) {
        return skipped(&format!("this process may not open {CONNECTIONS} files (ulimit -n)"));
    }
    let cluster = Cluster::start(1, &["--maxclients", "10050"]);
    let (node, before) = (&cluster.nodes[0], resident(&cluster.nodes[0]));
    let addr: SocketAddr = node.addr(node.port);
    let mut held: Vec<Client> = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect_to(addr, Duration::from_secs(20)).expect("a connection");
        client.send(b"PING\r\n").expect("the node reads");
        held.push(client);
    }
    for client in &mut held {
        assert_eq!(client.receive().expect("a reply").text().as_deref(), Some("PONG"));
    }
    insist_on_growth_below(node, before, CONNECTIONS * (20 << 10), "10,000 connections");
    // Beyond `maxclients` one is told so, and whoever is there stays.
    let more: Vec<Client> = (0..60).filter_map(|_| Client::connect_to(addr, Duration::from_secs(20)).ok()).collect();
    let refused = more.into_iter().filter_map(|mut client| client.receive_within(Duration::from_millis(200)));
    assert!(refused.filter_map(|reply| reply.text()).any(|text| text == "ERR max number of clients reached"));
    assert_eq!(held[0].run("PING").text().as_deref(), Some("PONG"));
}

/// As under systemd, whose soft limit is 1,024: the node raises it, and where it may not, takes fewer clients.
#[test]
fn clients_never_take_the_files_that_the_node_needs() {
    const SOFT: u32 = 256;
    let maxclients = |node: &Node| -> usize {
        let reply = format!("{:?}", node.client().run("CONFIG GET maxclients"));
        reply
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .next_back()
            .expect("a number")
    };
    let cluster = Cluster::start_placed(2, &["--maxclients", "500"], |i, node| {
        // The second has a hard limit that is too low.
        node.files_max = Some((SOFT, if i == 0 { 1_024 } else { 300 }));
    });
    let [enough, short] = &cluster.nodes[..] else { panic!("two nodes") };
    assert_eq!((maxclients(enough), enough.process().count_in_log("maxclients has been reduced")), (500, 0));
    let most = maxclients(short);
    assert!((100..300).contains(&most), "{most}");
    assert_eq!(short.process().count_in_log(&format!("requested=500 maxclients={most} ")), 1);
    let refusal = "The operating system is not able to handle the specified number of clients, try with";
    assert_eq!(
        short.client().run("CONFIG SET maxclients 501").text(),
        Some(format!("ERR CONFIG SET failed (possibly related to argument 'maxclients') - {refusal} {most}"))
    );
    assert_eq!(maxclients(short), most);
    assert_eq!(enough.client().run("CONFIG SET maxclients 501").text().as_deref(), Some("OK"));
    // More clients than are taken: other nodes and the admin port are served all the same.
    let addr = short.addr(short.port);
    let held: Vec<_> = (0..most + 20).filter_map(|_| Client::connect_to(addr, Duration::from_secs(20)).ok()).collect();
    assert!(held.len() > most);
    assert!(
        wait_for(Duration::from_secs(20), || (short.metric("rondo_connections_rejected_total") >= Some(1.0))
            .then_some(()))
        .is_some()
    );
    let third = cluster.start_beside("third", &[], &cluster.join_addresses(0));
    assert!(wait_for(Duration::from_secs(60), || third.is_ready().then_some(())).is_some(), "it cannot join");
    let is_known = || (short.metric("rondo_members{state=\"normal\"}") == Some(3.0)).then_some(());
    assert!(wait_for(Duration::from_secs(60), is_known).is_some(), "it is not met");
    assert_eq!(short.process().count_in_log("cannot accept"), 0);
    // Nor do strangers on the peer port, who say nothing: clients and another node are served beside them.
    let mut client = held.into_iter().next().expect("a client");
    let knock = || TcpStream::connect(short.addr(short.peer_port)).ok();
    let strangers: Vec<_> = (0..250).filter_map(|_| knock()).collect();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(client.run("PING").text().as_deref(), Some("PONG"));
    let serves =
        || (Client::connect_to(addr, Duration::from_secs(20)).ok()?.run("PING").text()? == "PONG").then_some(());
    assert!(wait_for(Duration::from_secs(60), serves).is_some(), "nobody is accepted any more");
    // However many come, a node that says who it is gets through.
    let fourth = cluster.start_beside("fourth", &[], &cluster.join_addresses(0));
    let mut crowd = VecDeque::from(strangers);
    let joins = || {
        (0..10).for_each(|_| crowd.extend(knock()));
        crowd.drain(..crowd.len() - 250);
        fourth.is_ready().then_some(())
    };
    assert!(wait_for(Duration::from_secs(60), joins).is_some(), "it cannot join");
    assert_eq!(short.process().count_in_log("cannot accept"), 0);
}

/// Raises the limit of open files, which the node inherits; false when that is not allowed.
fn may_open(files: usize) -> bool {
    let wanted = libc::rlimit { rlim_cur: files as libc::rlim_t, rlim_max: files as libc::rlim_t };
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a whole `rlimit` of this frame and keep none of it.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now) == 0
            && (now.rlim_cur >= wanted.rlim_cur || libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) == 0)
    }
}

#[test]
fn replies_that_nobody_reads_are_bounded() {
    let cluster = Cluster::start(1, &[]);
    // 4 GB are asked for; a connection keeps a reply or two above the megabyte at which it stops.
    insist_on_bounded_replies(&cluster, 20, 8 * MB);
}

#[test]
fn replies_of_other_nodes_that_nobody_reads_are_bounded() {
    let cluster = Cluster::start(3, &[]);
    // Two of the nodes have to ask the third. A connection's first requests are sent before it knows how large replies
    // are.
    insist_on_bounded_replies(&cluster, 2, 150 * MB);
}

/// `count` clients of each node ask for 2,000 replies of a megabyte each, read none, and make no node grow by more than
/// `bytes_max` each. Whoever reads at last gets a reply to each; a busy machine may refuse some.
fn insist_on_bounded_replies(cluster: &Cluster, count: usize, bytes_max: usize) {
    const REPLIES: usize = 2_000;
    let mut setter = cluster.nodes[0].client();
    assert!(!setter.call(&[&b"SET"[..], b"large", &vec![b'v'; MB]]).is_error());
    let before: Vec<usize> = cluster.nodes.iter().map(resident).collect();
    let mut held = Vec::new();
    for node in cluster.nodes.iter().cycle().take(count * cluster.nodes.len()) {
        let mut client = node.client();
        let mut requests = Vec::new();
        (0..REPLIES).for_each(|_| encode(&mut requests, &["GET", "large"]));
        client.send(&requests).expect("the node reads");
        held.push(client);
    }
    std::thread::sleep(Duration::from_secs(2));
    for (node, before) in cluster.nodes.iter().zip(before) {
        insist_on_growth_below(node, before, count * bytes_max, "clients that read nothing");
    }
    let last = held.last_mut().expect("a client");
    let is_refusal = |text: &str| cluster.nodes.len() > 1 && text.starts_with("CLUSTERDOWN");
    let texts: Vec<String> =
        (0..100).filter_map(|_| last.receive().expect("a reply for every request").text()).collect();
    let values = texts.iter().filter(|text| text.len() == MB).count();
    let others: Vec<&String> = texts.iter().filter(|text| text.len() != MB && !is_refusal(text)).collect();
    assert!(values > 0 && others.is_empty(), "{values} values, and {others:?}");
}

/// Values larger than all that a link between nodes may hold otherwise: no link breaks over them, and they get
/// everywhere, whichever node is asked. A busy machine may refuse some for a while.
#[test]
fn values_larger_than_a_link_holds_go_everywhere() {
    let cluster = Cluster::start(3, &["--link-bytes-max", "1mb"]);
    let breaks = || -> f64 { cluster.nodes.iter().filter_map(|node| node.metric("rondo_link_breaks_total")).sum() };
    let before = breaks();
    let value = |at: usize| char::from(b'a' + at as u8).to_string().repeat(10 * MB + at);
    // Six keys: each node coordinates some, and asks others for some.
    for at in 0..6 {
        let mut client = cluster.nodes[at % 3].client();
        let mut pipeline = Vec::new();
        encode(&mut pipeline, &["SET", &format!("large{at}"), &value(at)]);
        (0..20).for_each(|n| encode(&mut pipeline, &["SET", &format!("small{at}:{n}"), "v"]));
        let stored = wait_for(Duration::from_secs(60), || {
            client.send(&pipeline).expect("the node reads");
            let replies: Vec<_> = (0..21).map(|_| client.receive().expect("a reply").text()).collect();
            replies.iter().all(|reply| reply.as_deref() == Some("OK")).then_some(())
        });
        assert!(stored.is_some(), "large{at} and what comes behind it is refused");
        // A link holds two such values at most, and the slower of two replicas may be that far behind.
        assert_eq!(client.run("WAIT 2 60000").int(), Some(2), "large{at} does not reach all replicas");
    }
    for (at, node) in (0..6).flat_map(|at| cluster.nodes.iter().map(move |node| (at, node))) {
        let mut client = node.client();
        let is_read = || (client.call(&["GET", &format!("large{at}")]).text() == Some(value(at))).then_some(());
        assert!(wait_for(Duration::from_secs(60), is_read).is_some(), "large{at} is not read at {}", node.port);
    }
    assert_eq!(breaks(), before, "links were lost");
}
