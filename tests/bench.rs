//! `rondo bench` as a user runs it, against real redis-servers on ports of their own and against a server that stalls.
//!
//! The program is started with `-o json` and its answer is read. Without a redis-server on the path the tests that need
//! one are skipped. Only what a slow machine cannot change is asserted: counts, and latencies from below.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use support::ports::free_port;
use support::redis::Redis;
use support::resp::Value;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One command and its reply, on a connection of its own.
fn ask(redis: &Redis, args: &[&str]) -> Value {
    redis.client().call(args)
}

/// Starts `rondo bench` with these words behind it.
fn spawn_bench(port: u16, line: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
    command.args(["bench", "-o", "json", "-p", &port.to_string()]).args(line.split_whitespace());
    command.env_remove("REDISCLI_AUTH").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rondo starts")
}

/// The results of the phases, in order.
fn results_of(bench: Child) -> Vec<Json> {
    outcome_of(bench).0
}

/// The results, and what it has complained of; nothing if it says to have succeeded.
fn outcome_of(bench: Child) -> (Vec<Json>, Option<String>) {
    let output = bench.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let json: Json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    (json["results"].as_array().expect("results").clone(), (!output.status.success()).then_some(errors))
}

fn count(result: &Json, name: &str) -> u64 {
    result[name].as_u64().unwrap_or_else(|| panic!("no {name} in {result}"))
}

fn errors_of(result: &Json) -> Vec<String> {
    result["errors"].as_object().expect("errors").keys().cloned().collect()
}

#[test]
fn every_operation_reaches_the_server_and_is_counted() {
    let Some(redis) = Redis::start_if_there(&[]) else { return };
    for line in ["-c 7 -P 16 -r 1000 -n 20001 --fill", "-c 3 -P 5 --threads 2 -r 1000 -n 20001 --fill -3 --zipf 0.99"] {
        ask(&redis, &["FLUSHALL"]);
        ask(&redis, &["CONFIG", "RESETSTAT"]);
        let results = results_of(spawn_bench(redis.port, line));
        assert_eq!((count(&results[0], "operations"), count(&results[1], "operations")), (1_000, 20_001), "{line}");
        assert_eq!(ask(&redis, &["DBSIZE"]), Value::Int(1_000));
        assert_eq!((count(&results[1], "misses"), errors_of(&results[1])), (0, vec![]));
        let hits = count(&results[1], "hits");
        assert!((16_000..17_400).contains(&hits), "five of six are GETs: {hits}");
        let Value::Bulk(stats) = ask(&redis, &["INFO", "commandstats"]) else { panic!("INFO answers text") };
        let stats = String::from_utf8_lossy(&stats).into_owned();
        assert!(stats.contains(&format!("cmdstat_get:calls={hits},")), "{hits} in {stats}");
        assert!(stats.contains(&format!("cmdstat_set:calls={},", 21_001 - hits)), "{stats}");
    }
    let Value::Int(ttl) = ask(&redis, &["TTL", "key:000000000001"]) else { panic!("TTL answers a number") };
    assert!((1_700..=1_800).contains(&ttl));
    assert_eq!(ask(&redis, &["STRLEN", "key:000000000001"]), Value::Int(2_048));
}

#[test]
fn large_values_and_deep_pipelines_do_not_deadlock() {
    let Some(redis) = Redis::start_if_there(&[]) else { return };
    let line = "-c 2 -P 100 -r 20 -n 2000 --fill --workload mixed -d 300000";
    let results = results_of(spawn_bench(redis.port, line));
    assert_eq!((count(&results[1], "operations"), errors_of(&results[1])), (2_000, vec![]));
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let Some(redis) = Redis::start_if_there(&[]) else { return };
    let results = results_of(spawn_bench(redis.port, "--rate 2000 --seconds 1.5 --warmup 0.5 -c 5 --workload set"));
    assert_eq!((count(&results[0], "operations"), errors_of(&results[0])), (3_000, vec![]));
}

#[test]
fn what_a_server_refuses_is_said() {
    let Some(redis) = Redis::start_if_there(&["--requirepass", "secret"]) else { return };
    let refused = |line: &str| {
        let output = spawn_bench(redis.port, line).wait_with_output().expect("it ends");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused("").contains(&format!("127.0.0.1:{}: NOAUTH Authentication required.", redis.port)));
    assert!(refused("-a wrong").contains("WRONGPASS"));
    assert!(refused("-a secret --cluster").contains("ERR This instance has cluster support disabled"));
    let wrong = spawn_bench(redis.port, "-a secret --workload mixed --ratio 5").wait_with_output().expect("it ends");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let nobody = free_port();
    let expected = format!("127.0.0.1:{nobody}: connection refused");
    assert!(refused(&format!("-a secret -h 127.0.0.1:{nobody}")).contains(&expected));
    let results = results_of(spawn_bench(redis.port, "-a secret -n 100"));
    assert_eq!(count(&results[0], "operations"), 100);
    // A command that fails is counted by its first word, with the text.
    let full = Redis::start_if_there(&["--maxmemory", "1"]).expect("as before");
    let results = results_of(spawn_bench(full.port, "-n 100 --workload set"));
    assert_eq!((count(&results[0], "operations"), errors_of(&results[0])), (0, vec!["OOM".to_string()]));
    assert_eq!(count(&results[0]["errors"]["OOM"], "count"), 100);
}

#[test]
fn a_server_that_dies_is_waited_for_and_nothing_is_hidden() {
    let Some(mut redis) = Redis::start_if_there(&[]) else { return };
    let bench = spawn_bench(redis.port, "-c 4 --rate 1000 --seconds 4 --workload set");
    std::thread::sleep(Duration::from_millis(1_000));
    redis.process.kill();
    std::thread::sleep(Duration::from_millis(1_000));
    redis.restart();
    let results = results_of(bench);
    let result = &results[0];
    let errors = result["errors"].as_object().expect("errors");
    let of = |label: &str| errors.get(label).map_or(0, |error| count(error, "count"));
    assert!(of("connection refused") > 0, "{result}");
    assert!(count(result, "reconnects") >= 1, "{result}");
    // Each scheduled operation was answered, lost or not sent; what was lost is no more than what was in flight.
    let lost = of("connection closed") + of("connection reset") + of("not sent");
    assert_eq!(count(result, "operations") + lost, 4_000, "{result}");
    // The pause is in the latencies.
    assert!(result["latency_ms"]["p99"].as_f64().expect("a number") > 500.0, "{result}");
}

#[test]
fn what_a_server_forgets_is_found_by_reading_back() {
    let Some(mut redis) = Redis::start_if_there(&[]) else { return };
    let line = "-c 4 --rate 1000 --seconds 3 --workload set -d 64 -r 3000 --fail-fast --interval 100 --read-back";
    let check = |result: &Json| {
        let intervals = result["timeline"]["intervals"].as_array().expect("a timeline");
        let sum = |name: &str| intervals.iter().map(|interval| count(interval, name)).sum::<u64>();
        let errors = result["errors"].as_object().expect("errors").values().map(|error| count(error, "count")).sum();
        assert_eq!((sum("answered"), sum("refused")), (count(result, "operations"), errors), "{result}");
        assert_eq!(sum("answered") + sum("refused"), 3_000, "{result}");
        let verdict = &result["read_back"];
        assert_eq!((count(verdict, "keys"), count(verdict, "unreadable")), (3_000, 0), "{result}");
        assert_eq!(count(verdict, "acknowledged"), count(result, "operations"), "{result}");
        count(verdict, "lost")
    };
    let (results, failure) = outcome_of(spawn_bench(redis.port, line));
    assert_eq!((check(&results[0]), failure), (0, None));
    let bench = spawn_bench(redis.port, line);
    std::thread::sleep(Duration::from_millis(1_500));
    redis.process.kill();
    std::thread::sleep(Duration::from_millis(300));
    redis.restart();
    let (results, failure) = outcome_of(bench);
    let lost = check(&results[0]);
    assert!(lost > 0, "it came back empty, and most keys were not written again");
    let acknowledged = count(&results[0]["read_back"], "acknowledged");
    let told = format!("error: {lost} of {acknowledged} acknowledged writes are lost\n");
    assert_eq!(failure, Some(told));
}

#[test]
fn keys_go_to_the_owners_of_their_slots_and_follow_them() {
    let buses = [free_port(), free_port()].map(|port| port.to_string());
    let start = |bus: &str| {
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "60000", "--cluster-port", bus];
        Redis::start_if_there(&options)
    };
    let (Some(one), Some(two)) = (start(&buses[0]), start(&buses[1])) else { return };
    ask(&one, &["CLUSTER", "ADDSLOTSRANGE", "0", "8000"]);
    ask(&two, &["CLUSTER", "ADDSLOTSRANGE", "8001", "16383"]);
    ask(&one, &["CLUSTER", "MEET", "127.0.0.1", &two.port.to_string(), &buses[1]]);
    let deadline = Instant::now() + PATIENCE;
    let is_whole = |redis: &Redis| match ask(redis, &["CLUSTER", "INFO"]) {
        Value::Bulk(info) => String::from_utf8_lossy(&info).contains("cluster_state:ok"),
        other => panic!("CLUSTER INFO answers text, not {other:?}"),
    };
    while !(is_whole(&one) && is_whole(&two)) {
        assert!(Instant::now() < deadline, "the two nodes do not find each other");
        std::thread::sleep(Duration::from_millis(50));
    }
    let results = results_of(spawn_bench(one.port, "--cluster --fill-only -r 5000 -c 5 --workload set"));
    assert_eq!((count(&results[0], "operations"), errors_of(&results[0])), (5_000, vec![]));
    let (Value::Int(at_one), Value::Int(at_two)) = (ask(&one, &["DBSIZE"]), ask(&two, &["DBSIZE"])) else {
        panic!("DBSIZE answers a number")
    };
    assert!(at_one + at_two == 5_000 && at_one > 2_000 && at_two > 2_000, "{at_one} and {at_two}");

    // Slots without keys may change hands at once.
    let (_, _) = (ask(&one, &["FLUSHALL"]), ask(&two, &["FLUSHALL"]));
    let bench = spawn_bench(one.port, "--cluster --workload get -r 5000 -c 4 --seconds 2");
    std::thread::sleep(Duration::from_millis(700));
    let Value::Bulk(id) = ask(&two, &["CLUSTER", "MYID"]) else { panic!("CLUSTER MYID answers text") };
    let id = String::from_utf8_lossy(&id).into_owned();
    for slot in 0..200 {
        for node in [&two, &one] {
            ask(node, &["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
        }
    }
    let results = results_of(bench);
    assert_eq!(errors_of(&results[0]), Vec::<String>::new(), "{}", results[0]);
    let moved = count(&results[0], "moved");
    assert!(moved > 0 && moved < count(&results[0], "operations") / 10, "the map was read again: {}", results[0]);
}

/// A server that answers `+OK` to each SET, and once, `stall_after` the first one, nothing for `stall`.
fn stalling_server(stall_after: Duration, stall: Duration) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut first = None;
        let mut stalled = false;
        for stream in listener.incoming() {
            let (mut stream, mut piece) = (stream.expect("a connection"), [0; 65_536]);
            while let Ok(length @ 1..) = stream.read(&mut piece) {
                let requests = piece[..length].iter().filter(|byte| **byte == b'*').count();
                if piece[..length].windows(3).any(|word| word == b"SET") {
                    let first = *first.get_or_insert_with(Instant::now);
                    if !stalled && first.elapsed() >= stall_after {
                        stalled = true;
                        std::thread::sleep(stall);
                    }
                }
                if stream.write_all("+OK\r\n".repeat(requests).as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[test]
fn a_stall_shows_in_the_percentiles_of_an_open_loop() {
    let port = stalling_server(Duration::from_millis(300), Duration::from_millis(200));
    // Values without an asterisk, so that the server can count requests: none at all.
    let open = results_of(spawn_bench(port, "-c 1 -P 1 -d 0 --workload set --rate 1000 --seconds 1"));
    assert_eq!((count(&open[0], "operations"), errors_of(&open[0])), (1_000, vec![]));
    let latency = |name: &str| open[0]["latency_ms"][name].as_f64().expect("a number");
    // 200 of 1000 operations should have started during the stall: the worst of them waited for all of it, and those
    // between the 98th and 99th percentile for at least nine tenths.
    assert!(latency("max") >= 195.0, "{}", open[0]);
    assert!(latency("p99") >= 180.0, "{}", open[0]);
    // A closed loop meets the same stall with one operation.
    let port = stalling_server(Duration::from_millis(300), Duration::from_millis(200));
    let closed = results_of(spawn_bench(port, "-c 1 -P 1 -d 0 --workload set --seconds 1"));
    assert!(closed[0]["latency_ms"]["max"].as_f64().expect("a number") >= 195.0, "{}", closed[0]);
    assert!(count(&closed[0], "operations") > 100, "{}", closed[0]);
}
