//! Network namespaces: a host for each node on one bridge, whose ways to each other can be cut, one way or both.
//!
//! A cut is a blackhole route, so a connection over it is not reset: it falls silent, as with a cable that was pulled.
//! Needs root and `ip`; [`Network::new`] says when it cannot be had. Everything is taken away when it is dropped.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// Hosts 0.. of one network.
pub struct Network {
    /// Part of the names of namespaces and links, and of addresses: several test processes may run at once.
    number: u8,
    hosts: usize,
}

impl Network {
    /// A network of so many hosts; an error says why there is none.
    pub fn new(hosts: usize) -> Result<Network, String> {
        let number = (std::process::id() % 200) as u8 + 20;
        // Whatever was made before a step failed is taken away by dropping it.
        let network = Network { number, hosts };
        let bridge = network.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add 10.231.{number}.254/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        for host in 0..hosts {
            let (netns, link) = (network.netns(host), format!("{bridge}h{host}"));
            let addr = network.addr(host);
            ip(&format!("netns add {netns}"))?;
            ip(&format!("link add {link} type veth peer name eth0 netns {netns}"))?;
            ip(&format!("link set {link} master {bridge} up"))?;
            ip(&format!("-n {netns} addr add {addr}/24 dev eth0"))?;
            ip(&format!("-n {netns} link set eth0 up"))?;
            ip(&format!("-n {netns} link set lo up"))?;
        }
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("rondo{}", self.number)
    }

    pub fn netns(&self, host: usize) -> String {
        format!("rondo{}h{host}", self.number)
    }

    pub fn addr(&self, host: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 231, self.number, host as u8 + 1))
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        ip(&format!("-n {} route add blackhole {}/32", self.netns(from), self.addr(to))).unwrap();
    }

    pub fn heal_one_way(&self, from: usize, to: usize) {
        ip(&format!("-n {} route del blackhole {}/32", self.netns(from), self.addr(to))).unwrap();
    }

    /// Cuts one host off from all others, both ways.
    pub fn isolate(&self, host: usize) {
        self.each_way(host, Network::cut_one_way);
    }

    pub fn rejoin(&self, host: usize) {
        self.each_way(host, Network::heal_one_way);
    }

    /// Lets no more bytes a second reach a host, from wherever: those above that queue for a moment, and are dropped
    /// then.
    pub fn slow_down(&self, host: usize, bytes_per_s: usize) -> Result<(), String> {
        let link = format!("{}h{host}", self.bridge());
        let rate = format!("qdisc add dev {link} root tbf rate {bytes_per_s}bps burst 64kb latency 30ms");
        run("tc", &rate)
    }

    fn each_way(&self, host: usize, change: impl Fn(&Network, usize, usize)) {
        for other in (0..self.hosts).filter(|other| *other != host) {
            change(self, host, other);
            change(self, other, host);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            // The link first: with its namespace a link goes some time later, and the next network has the same names.
            let _ = ip(&format!("link del {}h{host}", self.bridge()));
            let _ = ip(&format!("netns del {}", self.netns(host)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments.split(' ')).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
