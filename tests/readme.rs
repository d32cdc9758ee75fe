//! Every command of the README is run as it stands there, in a network namespace where its ports are free.
//!
//! The fenced `sh` blocks are the test. Three things are not taken literally: `cargo run --release --` and
//! `target/release/rondo` are the binary under test; `PID` is the third node's of the table that `rondo dev` has
//! printed; and of `scripts/test`, which runs this test, it is only seen that it is there and can be run. The first
//! block's cluster is there until a block starts nodes of its own.
//!
//! Without the right to make a namespace the test says SKIPPED, unless `RONDO_REQUIRED` is set.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const RONDO: &str = env!("CARGO_BIN_EXE_rondo");
/// How the shell waits for what the README leaves to a reader's patience.
const HELPERS: &str = r#"
set -u
ip link set lo up
within() { # SECONDS COMMAND...: repeats it until it succeeds
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { echo "FAILED: never: $*"; exit 1; }; sleep 0.2; done
}
up() { [ "$(curl -sf 127.0.0.1:$1/status | grep -o '"up":[0-9]*')" = "\"up\":$2" ]; }
ran() { # a command, its exit code, and what it printed
  echo "RAN $1: $2"; cat "$dir/out"
  if [ "$2" -ne 0 ] || grep -qE '^\(error\)|^(ERR|CLUSTERDOWN|TIMEOUT)' "$dir/out"; then echo "FAILED: $1"; exit 1; fi
}
stop_dev() {
  [ -n "${dev:-}" ] || return 0
  kill "$dev"; wait "$dev"; dev=
}
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The commands of a text's `sh` blocks, without comments.
fn blocks(text: &str) -> Vec<Vec<String>> {
    let fenced = text.split("```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default());
    let command = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
    fenced.map(|block| block.lines().map(command).filter(|command| !command.is_empty()).collect()).collect()
}

/// A shell script that runs the blocks.
fn script(blocks: &[Vec<String>]) -> String {
    let mut script = HELPERS.to_owned();
    for block in blocks {
        if block.iter().any(|command| command.starts_with("target/release/rondo server")) {
            script.push_str("stop_dev\n");
        }
        for command in block {
            script.push_str(&step(command));
        }
    }
    script
}

fn step(command: &str) -> String {
    let run = command.replace("target/release/rondo", RONDO).replace("PID", "\"$third\"");
    if let Some(arguments) = command.strip_prefix("cargo run --release -- ") {
        return format!(
            "{RONDO} {arguments} >\"$dir/dev\" & dev=$!\nwithin 90 grep -q Ctrl-C \"$dir/dev\"\n\
             third=$(awk -F'┆' '/^│ 3 /{{gsub(/ /, \"\", $5); print $5}}' \"$dir/dev\")\nwithin 90 up 9379 3\n\
             echo 'RAN {command}: 0'\n"
        );
    }
    if command == "scripts/test" {
        return format!("[ -x scripts/test ] && echo 'RAN {command}: 0' || exit 1\n");
    }
    if let Some(run) = run.strip_suffix('&') {
        // A server of its own: it is there when its process goes on and its face answers.
        let port = command.split("--port ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("6379");
        let run = run.replace("--data-dir ", "--data-dir \"$dir\"/");
        return format!(
            "{run} >\"$dir/log\" 2>&1 &\nwithin 90 redis-cli -p {port} ping\n\
             echo 'RAN {command}: 0'\n"
        );
    }
    format!(
        "timeout 60 bash -c '{}' >\"$dir/out\" 2>&1 </dev/null; ran '{command}' $?\n",
        run.replace("\"$third\"", "'$third'")
    )
}

/// Whether a namespace can be made here.
fn has_namespaces() -> bool {
    let probe = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return true;
    }
    support::skipped("network namespaces cannot be made here, for want of root or iproute2");
    false
}

#[test]
fn every_command_of_the_readme_works() {
    if !has_namespaces() {
        return;
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let blocks = blocks(&readme);
    let commands: Vec<&String> = blocks.iter().flatten().collect();
    assert!(commands.len() > 5, "{commands:?}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("readme.sh");
    fs::write(&file, script(&blocks)).unwrap();
    let output = Command::new("unshare")
        .args(["--net", "timeout", "-k", "20", "400", "bash"])
        .arg(&file)
        .current_dir(root())
        .env("dir", dir.path())
        .output()
        .expect("unshare starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    for command in commands {
        assert!(text.contains(&format!("RAN {command}: 0\n")), "{command} did not run:\n{text}");
    }
    assert!(output.status.success() && !text.contains("FAILED"), "{text}");
    assert!(text.contains("RAN redis-cli -p 6381 get greeting: 0\nhello\n"), "{text}");
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files: Vec<&str> = links.filter(|link| !link.contains("://") && !link.starts_with('#')).collect();
    assert!(!files.is_empty());
    for file in files {
        assert!(root().join(file).exists(), "{file}");
    }
    let script = fs::metadata(root().join("scripts/test")).expect("scripts/test");
    assert!(script.permissions().mode() & 0o111 != 0);
}

/// The test can fail: what is not there, and an error reply, are noticed.
#[test]
fn a_command_that_fails_is_noticed() {
    if !has_namespaces() {
        return;
    }
    for command in ["no-such-program", "echo ERR unknown command"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("readme.sh");
        let text = format!("```sh\n{command}   # words\n```\n");
        fs::write(&file, script(&blocks(&text))).unwrap();
        let output =
            Command::new("unshare").args(["--net", "bash"]).arg(&file).env("dir", dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && text.contains(&format!("FAILED: {command}")), "{text}");
    }
}
