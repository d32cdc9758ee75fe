//! The program from outside: what it prints, and with which code it ends, when a command line is wrong or small.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output};

/// Runs `rondo` with these arguments and nothing of ours in its environment but `env`.
fn rondo_with(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RONDO_")) {
        command.env_remove(name);
    }
    command.args(args).envs(env.iter().copied()).output().unwrap()
}

fn rondo(args: &[&str]) -> Output {
    rondo_with(args, &[])
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn version_and_help_are_no_failures() {
    let version = rondo(&["--version"]);
    let expected = format!("rondo {} (wire version {})\n", env!("CARGO_PKG_VERSION"), rondo::node::WIRE_VERSION);
    assert_eq!((version.status.code(), stdout(&version)), (Some(0), expected));
    for (args, word) in
        [(&["--help"][..], "rondo dev"), (&["server", "--help"], "--maxmemory-policy"), (&["dev", "-h"], "--nodes")]
    {
        let help = rondo(args);
        assert_eq!(help.status.code(), Some(0), "{args:?}");
        assert!(stdout(&help).contains(word) && stderr(&help).is_empty(), "{args:?}");
    }
}

#[test]
fn a_wrong_option_and_a_wrong_value_are_named_together() {
    let expected = "error: command line: unknown option '--maxmemroy' (did you mean '--maxmemory'?)\n\
                    error: environment variable RONDO_LFU_DECAY_TIME: lfu-decay-time fast: argument couldn't be parsed into an integer\n\
                    error: command line: port 70000: argument must be between 0 and 65535 inclusive\n";
    for server in [&["server"][..], &[]] {
        let args = [server, &["--maxmemroy", "1gb", "--port", "70000"]].concat();
        let output = rondo_with(&args, &[("RONDO_LFU_DECAY_TIME", "fast")]);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), expected));
    }
}

#[test]
fn a_log_in_a_file_is_announced_and_holds_why_a_node_did_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("rondo.log");
    let log = log.to_str().unwrap();
    let output = rondo(&[
        "server",
        "--port",
        &port,
        "--cluster-port",
        "0",
        "--admin-port",
        "0",
        "--peer-port",
        "0",
        "--logfile",
        log,
    ]);
    let why = format!("cannot listen on 127.0.0.1:{port} (port): Address already in use (os error 98)");
    let expected = format!("logging to {log}\nerror: {why}\n");
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), expected));
    assert!(std::fs::read_to_string(log).unwrap().contains(&why));
}

#[test]
fn a_wrong_line_of_a_file_is_named_with_its_number() {
    let mut file = tempfile::NamedTempFile::with_suffix(".conf").unwrap();
    write!(file, "# options\nappendonly no\n\nprot 7000\nbind 'open\n").unwrap();
    let path = file.path().to_str().unwrap();
    let output = rondo(&["server", path]);
    let expected =
        format!("error: {path}:4: unknown option 'prot' (did you mean 'port'?)\nerror: {path}:5: unbalanced quotes\n");
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), expected));
    let missing = rondo(&["server", "no/such/file.conf"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).starts_with("error: cannot read no/such/file.conf: "), "{}", stderr(&missing));
}

#[test]
fn a_wrong_command_is_answered_with_the_nearest_one() {
    let output = rondo(&["dve", "--nodes", "3"]);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(2), "error: no command 'dve' (did you mean 'dev'?)\n")
    );
    let unknown = rondo(&["dev", "--node", "3"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(stderr(&unknown), "error: command line: unknown option '--node' (did you mean '--nodes'?)\n");
}

/// What OPERATIONS.md has people write into a file.
#[test]
fn the_file_that_the_handbook_shows_is_a_file_of_options() {
    let handbook = include_str!("../src/OPERATIONS.md");
    let conf = handbook.split("```conf\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a file");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(conf.as_bytes()).unwrap();
    let output = rondo_with(&["server", file.path().to_str().unwrap(), "--print-config"], &[]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert!(stdout(&output).contains("10.0.0.1:16379,10.0.0.2:16379,10.0.0.3:16379"));
}

#[test]
fn print_config_says_where_each_value_comes_from() {
    let mut file = tempfile::NamedTempFile::with_suffix(".conf").unwrap();
    write!(file, "zone cellar\nio-threads 4\ncluster-secret hush\n").unwrap();
    let path = file.path().to_str().unwrap();
    let output =
        rondo_with(&["server", path, "--lfu-decay-time", "20", "--print-config"], &[("RONDO_MAXMEMORY", "1kb")]);
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<Vec<String>> =
        stdout(&output).lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    let has = |line: &str| lines.contains(&line.split(' ').map(str::to_owned).collect());
    assert!(has(&format!("zone cellar {path}:1")), "{lines:?}");
    assert!(has(&format!("cluster-secret (hidden) {path}:3")), "{lines:?}");
    assert!(
        has("lfu-decay-time 20 command line") && has("maxmemory 1024 environment variable RONDO_MAXMEMORY"),
        "{lines:?}"
    );
    assert!(has("port 6379 default"), "{lines:?}");
    assert_eq!(stderr(&output), "warning: options of Redis that change nothing here: io-threads\n");
}

#[test]
fn dev_refuses_from_the_environment_what_each_node_has_its_own_of() {
    let refused = |variable: &str| {
        format!("error: environment variable {variable}: each node of rondo dev has its own, unset it\n")
    };
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let output = rondo_with(&["dev"], &[("RONDO_LOGFILE", log.to_str().unwrap())]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), refused("RONDO_LOGFILE")));
    assert!(stdout(&output).is_empty() && !log.exists(), "nothing was started");
    let output = rondo_with(&["dev"], &[("RONDO_PORT", "7000"), ("RONDO_JOIN", "")]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), refused("RONDO_PORT")));
}

#[test]
fn dev_says_why_it_does_not_take_a_flag_that_each_node_has_its_own_of() {
    let output = rondo(&["dev", "--logfile", "a", "--cluster-secret", "b"]);
    let mut said: Vec<String> = stderr(&output).lines().map(str::to_owned).collect();
    said.sort();
    let expected = [
        "error: command line: --cluster-secret: give RONDO_CLUSTER_SECRET instead, which nobody else can read",
        "error: command line: --logfile: each node of rondo dev has its own, leave it out",
    ];
    assert_eq!((output.status.code(), said), (Some(2), expected.map(str::to_owned).to_vec()));
}

#[test]
fn a_log_that_cannot_be_opened_is_named() {
    let output = rondo(&["server", "--port", "1", "--logfile", "/nonexistent/rondo.log"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("error: cannot log to /nonexistent/rondo.log: No such file"), "{said}");
}

#[test]
fn an_error_that_nobody_reads_is_no_panic() {
    for args in [&["server", "--prot", "1"][..], &["cluster", "status", "127.0.0.1:1"], &["bench", "-p", "1"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_rondo")).args(args).stderr(writer).status().unwrap();
        assert!(matches!(status.code(), Some(1 | 2)), "{args:?}: {status}");
    }
}

#[test]
fn dev_names_the_taken_port_and_starts_nothing() {
    let (holder, port) = loop {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        // Low enough that the peer port of the last node exists.
        if port < 55_000 {
            break (holder, port);
        }
    };
    let output = rondo(&["dev", "--port", &port.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&format!("error: port {port} (port of node 1) is taken\n")),
        "{}",
        stderr(&output)
    );
    assert_eq!(stdout(&output), "");
    drop(holder);

    let high = rondo(&["dev", "--port", "60000"]);
    assert_eq!(high.status.code(), Some(2));
    assert_eq!(stderr(&high), "error: --port 60000 is too high: the peer port of node 1 would be above 65535\n");
}
