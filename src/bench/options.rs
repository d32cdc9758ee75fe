//! The options of `rondo bench`: the command line as clap knows it, and the checked [`Options`] that a load is run by.
//!
//! Names follow redis-benchmark where it has one (`-h -p -c -P -d -n -r -a --threads --cluster`). Everything that would
//! grow with a number has a limit here, so nothing below needs one of its own.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::keys::KEYS_MAX;
use super::ledger::STAMP_BYTES;
use super::link::Login;

const CONNECTIONS_MAX: u64 = 10_000;
const PIPELINE_MAX: u64 = 10_000;
const THREADS_MAX: u64 = 64;
const VALUE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A pipeline's requests, or its replies, may take this many bytes.
const BATCH_BYTES_MAX: u64 = 256 * 1024 * 1024;
const PREFIX_BYTES_MAX: usize = 1024;
/// The largest value that can be read back.
const READ_BACK_BYTES_MAX: usize = 60_000;
const INTERVAL_MS_MAX: u64 = 3_600_000;
const DAYS_365_SECONDS: u64 = 365 * 24 * 3600;

/// What is asked of the server.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mix {
    /// GETs to `sets` SETs.
    pub gets: u32,
    /// SETs to `gets` GETs.
    pub sets: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Seconds to live that a SET carries.
    pub ttl_seconds: Option<u64>,
}

/// When a load ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Limit {
    /// After so many operations.
    Operations(u64),
    /// After so long.
    Time(Duration),
}

/// Everything a load is run by.
#[derive(Clone, Debug)]
pub struct Options {
    /// The servers, as host:port; with `cluster` those that are asked for the map.
    pub addresses: Vec<String>,
    /// Send each key to the owner of its slot.
    pub cluster: bool,
    /// How connections introduce themselves; its timeout also bounds the wait for replies.
    pub login: Login,
    /// How many connections.
    pub connections: usize,
    /// How many threads they are dealt to.
    pub threads: usize,
    /// Unanswered operations per connection.
    pub pipeline: usize,
    /// What every key starts with.
    pub key_prefix: String,
    /// How many different keys.
    pub key_count: u64,
    /// Zipf's exponent; 0 is uniform.
    pub skew: f64,
    /// What is asked.
    pub mix: Mix,
    /// Operations a second of an open loop; `None` is a closed loop.
    pub rate: Option<f64>,
    /// When it ends.
    pub limit: Limit,
    /// How long to run before measuring.
    pub warmup: Duration,
    /// Load every key once before anything else.
    pub fill: bool,
    /// Only that.
    pub fill_only: bool,
    /// What comes due on a broken connection fails at once, instead of waiting for it.
    pub fail_fast: bool,
    /// How long the intervals are that are reported too.
    pub interval: Option<Duration>,
    /// Read every key afterwards, and count the acknowledged writes that are lost.
    pub read_back: bool,
    /// Where the random choices start.
    pub seed: u64,
    /// Print JSON.
    pub json: bool,
}

/// An option that clap cannot judge alone is wrong. The user's fault; nothing was sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{option}: {reason}")]
pub struct OptionsError {
    option: &'static str,
    reason: String,
}

/// `rondo bench`, as a subcommand.
pub fn command() -> Command {
    Command::new("bench")
        .about("Put load on any Redis-protocol server and measure it")
        .long_about(
            "Puts load on any Redis-protocol server (rondo, Redis, Valkey) and prints its throughput and latency.\n\n\
             Without --rate every connection sends a pipeline, waits for its replies and sends the next (closed loop). \
             With --rate operations start on a fixed schedule whatever the server does (open loop), and latency is \
             counted from when an operation should have started, so a stall is charged to everything it delayed.",
        )
        .after_help(
            "Examples:\n  \
             rondo bench --fill                                  sessions on 127.0.0.1:6379\n  \
             rondo bench -h 10.0.0.1,10.0.0.2 --cluster -c 200   straight to the owners\n  \
             rondo bench --workload get -d 3 -P 64 --seconds 10  the most it can do\n  \
             rondo bench --rate 20000 --seconds 60 --zipf 0.99   latency at a steady load",
        )
        .disable_help_flag(true)
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Print this help"))
        .args(target_args())
        .args(load_args())
        .args(data_args())
        .args(evidence_args())
}

fn target_args() -> [Arg; 8] {
    [
        Arg::new("host")
            .short('h')
            .long("host")
            .value_name("HOST[:PORT],...")
            .value_delimiter(',')
            .default_value("127.0.0.1")
            .help("Servers; connections are dealt to them in turn"),
        Arg::new("port")
            .short('p')
            .long("port")
            .value_name("PORT")
            .value_parser(value_parser!(u16).range(1..))
            .default_value("6379")
            .help("Port of the hosts that are given without one"),
        Arg::new("cluster")
            .long("cluster")
            .action(ArgAction::SetTrue)
            .help("Read CLUSTER SLOTS, send each key to its owner, and again where MOVED says"),
        Arg::new("password")
            .short('a')
            .long("password")
            .value_name("PASSWORD")
            .help("Log in with AUTH; without it, the environment's REDISCLI_AUTH"),
        Arg::new("user").long("user").value_name("NAME").requires("password").help("ACL user to AUTH as"),
        Arg::new("resp3").short('3').long("resp3").action(ArgAction::SetTrue).help("Speak RESP3 (HELLO 3)"),
        Arg::new("timeout")
            .long("timeout")
            .value_name("SECONDS")
            .value_parser(value_parser!(f64))
            .default_value("5")
            .help("Give a connection up after this long without a reply"),
        Arg::new("output")
            .short('o')
            .long("output")
            .value_name("FORMAT")
            .value_parser(["text", "json"])
            .default_value("text")
            .help("How to print the result"),
    ]
}

fn load_args() -> [Arg; 9] {
    [
        number("connections", Some('c'), "N", CONNECTIONS_MAX, "50", "Connections"),
        number("pipeline", Some('P'), "N", PIPELINE_MAX, "1", "Unanswered operations per connection"),
        number("threads", None, "N", THREADS_MAX, "1", "Threads that make the load"),
        Arg::new("rate")
            .long("rate")
            .value_name("OPS")
            .value_parser(value_parser!(f64))
            .help("Open loop: operations a second, of all connections together"),
        Arg::new("requests")
            .short('n')
            .long("requests")
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..))
            .conflicts_with("seconds")
            .help("Stop after N operations [default: 100000]"),
        Arg::new("seconds")
            .long("seconds")
            .value_name("S")
            .value_parser(value_parser!(f64))
            .help("Stop after S seconds"),
        Arg::new("warmup")
            .long("warmup")
            .value_name("S")
            .value_parser(value_parser!(f64))
            .default_value("0")
            .help("Run S seconds more, before measuring"),
        Arg::new("fill").long("fill").action(ArgAction::SetTrue).help("SET every key once before the load"),
        Arg::new("fill-only")
            .long("fill-only")
            .action(ArgAction::SetTrue)
            .help("SET every key once, and that is the load"),
    ]
}

fn data_args() -> [Arg; 8] {
    [
        Arg::new("workload")
            .long("workload")
            .value_name("NAME")
            .value_parser(["session", "get", "set", "mixed"])
            .default_value("session")
            .help("session: 5 GET to 1 SET of 2048 bytes that live 1800 s; get, set: only that; mixed: as --ratio says, 1:1 if it does not"),
        Arg::new("ratio").long("ratio").value_name("GETS:SETS").help("GETs to SETs, for session and mixed"),
        Arg::new("size")
            .short('d')
            .long("size")
            .value_name("BYTES")
            .value_parser(value_parser!(u64).range(0..=VALUE_BYTES_MAX))
            .help("Bytes of a value [default: 3; session: 2048]"),
        Arg::new("ttl")
            .long("ttl")
            .value_name("SECONDS")
            .value_parser(value_parser!(u64).range(0..=DAYS_365_SECONDS))
            .help("Time to live of what is SET, 0 for ever [default: 0; session: 1800]"),
        Arg::new("keys")
            .short('r')
            .long("keys")
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..=KEYS_MAX))
            .default_value("100000")
            .help("Different keys"),
        Arg::new("zipf")
            .long("zipf")
            .value_name("S")
            .value_parser(value_parser!(f64))
            .default_value("0")
            .help("Skew of the keys: 0 asks all alike, 0.99 as YCSB does"),
        Arg::new("key-prefix").long("key-prefix").value_name("TEXT").default_value("key:").help("What keys start with; 12 digits follow"),
        Arg::new("seed").long("seed").value_name("N").value_parser(value_parser!(u64)).default_value("1").help("Start of the random choices"),
    ]
}

fn evidence_args() -> [Arg; 3] {
    [
        Arg::new("fail-fast")
            .long("fail-fast")
            .action(ArgAction::SetTrue)
            .requires("rate")
            .help("Count what comes due on a broken connection as errors at once, as an application would"),
        Arg::new("interval")
            .long("interval")
            .value_name("MS")
            .value_parser(value_parser!(u64).range(1..=INTERVAL_MS_MAX))
            .requires("rate")
            .help("With -o json: report each interval too, by when its operations were due"),
        Arg::new("read-back")
            .long("read-back")
            .action(ArgAction::SetTrue)
            .help("Afterwards read every key, and count acknowledged writes that are lost"),
    ]
}

fn number(
    name: &'static str,
    short: Option<char>,
    value: &'static str,
    max: u64,
    default: &'static str,
    help: &'static str,
) -> Arg {
    let parser = value_parser!(u64).range(1..=max);
    let arg = Arg::new(name).long(name).value_name(value).value_parser(parser).default_value(default).help(help);
    match short {
        Some(letter) => arg.short(letter),
        None => arg,
    }
}

impl Options {
    /// Checks what [`command`] has parsed.
    pub fn read(matches: &ArgMatches) -> Result<Options, OptionsError> {
        let count = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or(1) as usize;
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let key_prefix = text("key-prefix").unwrap_or_default();
        if key_prefix.len() > PREFIX_BYTES_MAX {
            return wrong("--key-prefix", format!("longer than {PREFIX_BYTES_MAX} bytes"));
        }
        let timeout = seconds_of(matches, "timeout", "--timeout")?.unwrap_or_default();
        if timeout.is_zero() {
            return wrong("--timeout", "must be more than 0".into());
        }
        let limit = match seconds_of(matches, "seconds", "--seconds")? {
            Some(time) if time.is_zero() => return wrong("--seconds", "must be more than 0".into()),
            Some(time) => Limit::Time(time),
            None => Limit::Operations(matches.get_one::<u64>("requests").copied().unwrap_or(100_000)),
        };
        let rate = matches.get_one::<f64>("rate").copied();
        if rate.is_some_and(|rate| !(0.001..=1e9).contains(&rate)) {
            return wrong("--rate", "must be between 0.001 and 1000000000 operations a second".into());
        }
        let skew = matches.get_one::<f64>("zipf").copied().unwrap_or(0.0);
        if !(0.0..=100.0).contains(&skew) {
            return wrong("--zipf", "must be between 0 and 100".into());
        }
        let password = text("password").or_else(|| std::env::var("REDISCLI_AUTH").ok()).filter(|text| !text.is_empty());
        let options = Options {
            addresses: addresses_of(matches)?,
            cluster: matches.get_flag("cluster"),
            login: Login { user: text("user"), password, resp3: matches.get_flag("resp3"), timeout },
            connections: count("connections"),
            threads: count("threads").min(count("connections")),
            pipeline: count("pipeline"),
            key_prefix,
            key_count: matches.get_one::<u64>("keys").copied().unwrap_or(1),
            skew,
            mix: mix_of(matches)?,
            rate,
            limit,
            warmup: seconds_of(matches, "warmup", "--warmup")?.unwrap_or_default(),
            fill: matches.get_flag("fill") || matches.get_flag("fill-only"),
            fill_only: matches.get_flag("fill-only"),
            fail_fast: matches.get_flag("fail-fast"),
            interval: matches.get_one::<u64>("interval").copied().map(Duration::from_millis),
            read_back: matches.get_flag("read-back"),
            seed: matches.get_one::<u64>("seed").copied().unwrap_or(1),
            json: text("output").is_some_and(|format| format == "json"),
        };
        if options.read_back && !(STAMP_BYTES..=READ_BACK_BYTES_MAX).contains(&options.mix.value_bytes) {
            return wrong("--read-back", format!("needs values of {STAMP_BYTES} to {READ_BACK_BYTES_MAX} bytes"));
        }
        let batch_bytes = options.pipeline as u64 * (options.mix.value_bytes + options.key_prefix.len()) as u64;
        if batch_bytes > BATCH_BYTES_MAX {
            return wrong(
                "--pipeline",
                format!("{} operations of {} bytes are too much at once", options.pipeline, options.mix.value_bytes),
            );
        }
        Ok(options)
    }
}

fn wrong<T>(option: &'static str, reason: String) -> Result<T, OptionsError> {
    Err(OptionsError { option, reason })
}

fn seconds_of(matches: &ArgMatches, name: &str, option: &'static str) -> Result<Option<Duration>, OptionsError> {
    let Some(seconds) = matches.get_one::<f64>(name) else { return Ok(None) };
    let time = Duration::try_from_secs_f64(*seconds).ok().filter(|time| time.as_secs() <= DAYS_365_SECONDS);
    match time {
        Some(time) => Ok(Some(time)),
        None => wrong(option, format!("{seconds} is not a number of seconds up to a year")),
    }
}

/// The hosts with their ports: `host`, `host:port`, `::1` or `[::1]:port`.
fn addresses_of(matches: &ArgMatches) -> Result<Vec<String>, OptionsError> {
    let port = matches.get_one::<u16>("port").copied().unwrap_or(6379);
    let mut addresses = Vec::new();
    for host in matches.get_many::<String>("host").into_iter().flatten() {
        let address = match host.rsplit_once(':') {
            None => format!("{host}:{port}"),
            Some(_) if host.ends_with(']') => format!("{host}:{port}"),
            Some((head, _)) if head.contains(':') && !head.starts_with('[') => format!("[{host}]:{port}"),
            Some((_, own)) if own.parse::<u16>().is_ok_and(|own| own > 0) => host.clone(),
            Some((_, own)) => return wrong("--host", format!("'{own}' in '{host}' is not a port")),
        };
        if address.starts_with(':') {
            return wrong("--host", format!("'{host}' names no host"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn mix_of(matches: &ArgMatches) -> Result<Mix, OptionsError> {
    let workload = matches.get_one::<String>("workload").map_or("session", String::as_str);
    let ratio = match matches.get_one::<String>("ratio") {
        None => None,
        Some(_) if matches!(workload, "get" | "set") => {
            return wrong("--ratio", format!("--workload {workload} has none; use --workload mixed"));
        }
        Some(text) => {
            let parts = text.split_once(':').and_then(|(gets, sets)| Some((gets.parse().ok()?, sets.parse().ok()?)));
            let sane = |(gets, sets): &(u32, u32)| (1..=1_000_000_000).contains(&(u64::from(*gets) + u64::from(*sets)));
            match parts.filter(sane) {
                Some(ratio) => Some(ratio),
                None => return wrong("--ratio", format!("'{text}' is not GETS:SETS, like 5:1")),
            }
        }
    };
    let ((gets, sets), value_bytes, ttl) = match workload {
        "get" => ((1, 0), 3, 0),
        "set" => ((0, 1), 3, 0),
        "mixed" => (ratio.unwrap_or((1, 1)), 3, 0),
        _ => (ratio.unwrap_or((5, 1)), 2048, 1800),
    };
    let value_bytes = matches.get_one::<u64>("size").copied().unwrap_or(value_bytes) as usize;
    let ttl = matches.get_one::<u64>("ttl").copied().unwrap_or(ttl);
    Ok(Mix { gets, sets, value_bytes, ttl_seconds: (ttl > 0).then_some(ttl) })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Options {
        /// The options of a command line without its first word.
        pub fn of_line(line: &str) -> Result<Options, String> {
            let matches = command().try_get_matches_from(std::iter::once("bench").chain(line.split_whitespace()));
            Options::read(&matches.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn the_defaults_are_sessions_on_the_local_server() {
        let options = Options::of_line("").unwrap();
        assert_eq!(options.addresses, ["127.0.0.1:6379"]);
        assert_eq!(options.mix, Mix { gets: 5, sets: 1, value_bytes: 2048, ttl_seconds: Some(1800) });
        assert_eq!((options.connections, options.pipeline, options.limit), (50, 1, Limit::Operations(100_000)));
        let options = Options::of_line("--workload mixed --ratio 9:1 --ttl 60 -d 100 --seconds 1.5").unwrap();
        assert_eq!(options.mix, Mix { gets: 9, sets: 1, value_bytes: 100, ttl_seconds: Some(60) });
        assert_eq!(options.limit, Limit::Time(Duration::from_millis(1_500)));
    }

    #[test]
    fn hosts_take_the_port_unless_they_have_their_own() {
        let options = Options::of_line("-h a,b:7,[::1],[::1]:8,::1 -p 5").unwrap();
        assert_eq!(options.addresses, ["a:5", "b:7", "[::1]:5", "[::1]:8", "[::1]:5"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (line, expected) in [
            ("-h a:b", "--host: 'b' in 'a:b' is not a port"),
            ("-h :6379", "--host: ':6379' names no host"),
            ("--ratio 0:0", "--ratio: '0:0' is not GETS:SETS, like 5:1"),
            ("--ratio 1:1 --workload get", "--ratio: --workload get has none; use --workload mixed"),
            ("--rate 0", "--rate: must be between"),
            ("--zipf=-1", "--zipf: must be between 0 and 100"),
            ("--seconds 0", "--seconds: must be more than 0"),
            ("--warmup inf", "--warmup: inf is not a number of seconds up to a year"),
            ("-P 10000 -d 64000000", "--pipeline: 10000 operations of 64000000 bytes are too much at once"),
            ("--read-back -d 15", "--read-back: needs values of 16 to 60000 bytes"),
            ("--fail-fast", "--rate"),
            ("-c 0", "0 is not in 1..=10000"),
            ("--pipelin 3", "--pipeline"),
            ("-n 5 --seconds 1", "cannot be used with"),
        ] {
            let error = Options::of_line(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
