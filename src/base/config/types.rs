//! The values that are more than a number or a text, each with its parser and its way of being shown.
//!
//! What `Display` writes is what CONFIG GET answers and CONFIG REWRITE puts into the file, and the parser reads it back
//! to the same value.

use super::error::ValueError;
use super::units::{parse_bytes, parse_soft_seconds};
use crate::base::words::until_nul;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

/// Defines an enum of the words that an option may be set to.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// All of them, in the same order as [`Self::NAMES`]; the place of each is its discriminant.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The words, in the order in which error texts list them.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The word that stands for this value.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The value that this word stands for.
            pub fn from_name(text: &str) -> Option<$name> {
                match text { $($text => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

choices! {
    /// What to give up when `maxmemory` is reached (Redis's policies, in Redis's order).
    MaxmemoryPolicy {
        /// The key with a TTL that was used longest ago.
        VolatileLru = "volatile-lru",
        /// The key with a TTL that is used least often.
        VolatileLfu = "volatile-lfu",
        /// Any key with a TTL.
        VolatileRandom = "volatile-random",
        /// The key nearest to its deadline.
        VolatileTtl = "volatile-ttl",
        /// The key that was used longest ago.
        AllkeysLru = "allkeys-lru",
        /// The key that is used least often.
        AllkeysLfu = "allkeys-lfu",
        /// Any key.
        AllkeysRandom = "allkeys-random",
        /// Nothing: commands that need memory are refused.
        Noeviction = "noeviction",
    }
}

impl MaxmemoryPolicy {
    /// True when the policy chooses by frequency of use.
    pub fn is_lfu(self) -> bool {
        matches!(self, MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu)
    }

    /// True when the policy chooses by use: each key's own, so that Redis shares no value between keys.
    pub fn notes_use(self) -> bool {
        self.is_lfu() || matches!(self, MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru)
    }

    /// True when the policy takes keys with a TTL alone.
    pub fn only_volatile(self) -> bool {
        use MaxmemoryPolicy::{VolatileLfu, VolatileLru, VolatileRandom, VolatileTtl};
        matches!(self, VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl)
    }
}

choices! {
    /// Who may be counted towards a quorum.
    QuorumMode {
        /// Home replicas, and stand-ins for those that are down.
        Sloppy = "sloppy",
        /// Home replicas only; a request that cannot reach enough of them is refused.
        Strict = "strict",
    }
}

choices! {
    /// How much is logged: Redis's words.
    LogLevel {
        /// Everything, for development.
        Debug = "debug",
        /// Much that is rarely useful.
        Verbose = "verbose",
        /// What production wants.
        Notice = "notice",
        /// Only what is wrong.
        Warning = "warning",
    }
}

choices! {
    /// How a log line is written.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

/// One address to listen on, as redis.conf writes it: `127.0.0.1`, `-::1` (may be missing), `*`, `::*`, `localhost`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bind {
    /// How it was written.
    text: Box<str>,
    /// The address.
    pub ip: IpAddr,
    /// Written with a `-`: not an error when this machine does not have the address.
    pub optional: bool,
}

impl Bind {
    /// The loopback address of IPv4.
    pub fn loopback() -> Bind {
        Bind { text: "127.0.0.1".into(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST), optional: false }
    }

    /// Reads one address. A name is looked up at once, and stands for its first IPv4 address, as in Redis.
    pub fn parse(text: &str) -> Result<Bind, ValueError> {
        let (optional, address) = match text.strip_prefix('-') {
            Some(address) => (true, address),
            None => (false, text),
        };
        let ip = match address {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => {
                let ip = address.parse().ok().or_else(|| looked_up(address));
                ip.ok_or_else(|| ValueError::Address(text.to_owned()))?
            }
        };
        Ok(Bind { text: text.into(), ip, optional })
    }
}

fn looked_up(name: &str) -> Option<IpAddr> {
    // What has a colon is an IPv6 address, or was to be one.
    let name = Some(name).filter(|name| !name.is_empty() && !name.contains(':'))?;
    (name, 0).to_socket_addrs().ok()?.map(|addr| addr.ip()).find(IpAddr::is_ipv4)
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Another node's `host:peer-port`. The host may be a name: it is looked up at every attempt, not here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAddr {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// The peer port.
    pub port: u16,
}

impl PeerAddr {
    /// Reads `host:port` or `[v6]:port`.
    pub fn parse(text: &str) -> Result<PeerAddr, ValueError> {
        let wrong = || ValueError::Peer(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inside) => inside.parse::<Ipv6Addr>().map_err(|_| wrong())?.to_string(),
            None if host.is_empty() || host.contains(':') => return Err(wrong()),
            None => host.to_owned(),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        Ok(PeerAddr { host, port })
    }

    /// Whether the host is certain to be this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How many reply bytes may wait for one client before it is disconnected. Zero means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BufferLimit {
    /// Disconnect at once above this many bytes.
    pub hard_bytes: u64,
    /// Disconnect after `soft_seconds` above this many bytes.
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// `client-output-buffer-limit`: one [`BufferLimit`] per class of client.
///
/// The class `slave` (or `replica`) is read, kept and shown as Redis does, and applies to nobody: peers have links of
/// their own, bounded by `link-bytes-max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BufferLimits {
    /// Ordinary clients.
    pub normal: BufferLimit,
    /// Redis's replicas.
    pub replica: BufferLimit,
    /// Clients in subscriber mode.
    pub pubsub: BufferLimit,
}

impl BufferLimits {
    /// Reads any number of `class hard soft seconds`; classes that are not named stay as they are in `before`.
    pub fn parse(words: &[&str], before: BufferLimits) -> Result<BufferLimits, ValueError> {
        let mut limits = before;
        let (groups, []) = words.as_chunks() else { return Err(ValueError::BufferLimitCount) };
        for [class, hard, soft, seconds] in groups {
            let of_class = match until_nul(class.as_bytes()).to_ascii_lowercase().as_slice() {
                b"normal" => &mut limits.normal,
                b"slave" | b"replica" => &mut limits.replica,
                b"pubsub" => &mut limits.pubsub,
                _ => return Err(ValueError::BufferLimitClass),
            };
            let numbers = parse_bytes(hard).zip(parse_bytes(soft)).zip(parse_soft_seconds(seconds));
            let ((hard_bytes, soft_bytes), soft_seconds) = numbers.ok_or(ValueError::BufferLimitNumber)?;
            *of_class = BufferLimit { hard_bytes, soft_bytes, soft_seconds };
        }
        Ok(limits)
    }
}

impl fmt::Display for BufferLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)];
        for (i, (class, limit)) in classes.into_iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)?;
        }
        Ok(())
    }
}

/// Which keyspace events are published (`notify-keyspace-events`): a set of Redis's class letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventClasses(u16);

/// The letters, in the order in which Redis shows them; the bit is the position.
const EVENT_LETTERS: [char; 14] = ['g', '$', 'l', 's', 'h', 'z', 'x', 'e', 't', 'd', 'n', 'K', 'E', 'm'];

/// The classes that `A` stands for: all but new keys, key misses and the two kinds of channel.
const EVENT_ALL: u16 = 0b11_1111_1111;

impl EventClasses {
    /// Reads the letters in any order.
    pub fn parse(text: &str) -> Result<EventClasses, ValueError> {
        text.chars().try_fold(EventClasses(0), |set, letter| match letter {
            'A' => Ok(EventClasses(set.0 | EVENT_ALL)),
            _ => match EVENT_LETTERS.iter().position(|known| *known == letter) {
                Some(bit) => Ok(EventClasses(set.0 | 1 << bit)),
                None => Err(ValueError::EventClass),
            },
        })
    }

    /// Whether events of the class with this letter are published (`'K'` and `'E'` ask for the kind of channel).
    pub fn has(self, letter: char) -> bool {
        EVENT_LETTERS.iter().position(|known| *known == letter).is_some_and(|bit| self.0 & 1 << bit != 0)
    }

    /// The classes of both.
    pub fn union(self, other: EventClasses) -> EventClasses {
        EventClasses(self.0 | other.0)
    }

    /// Whether nothing is published at all.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for EventClasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & EVENT_ALL == EVENT_ALL;
        if all {
            f.write_str("A")?;
        }
        for (bit, letter) in EVENT_LETTERS.into_iter().enumerate() {
            let covered = all && EVENT_ALL & 1 << bit != 0;
            if self.0 & 1 << bit != 0 && !covered {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}
