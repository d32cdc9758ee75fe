//! The command line: `rondo server`, `rondo dev`, `rondo cluster`, `rondo top`, `rondo bench`.
//!
//! | file | what it is |
//! |---|---|
//! | `server` | `rondo server`: one node, from file, environment and flags |
//! | `dev` | `rondo dev`: a whole cluster on this machine |
//! | `cluster` | `rondo cluster`: status and nodes, as tables or JSON |
//! | `top` | `rondo top`: a live view of a cluster |
//! | `ask` | asks a cluster for its status |
//! | `flags` | the options of a node as flags |
//! | `logs` | the log: one line per event |
//! | `units` | figures for people, short enough for a column |
//!
//! `rondo` alone is `rondo server`, also when the first argument is a flag or a file, as with redis-server. What is
//! wrong with a command line is reported all at once, each mistake with the nearest thing that would have been right.
//!
//! Exit codes: 0 done or stopped by a signal, 1 it did not work, 2 the command line or a file of options is wrong, and
//! 3 from `rondo cluster status` when something is wrong with the cluster.

mod ask;
mod flags;
mod logs;
mod server;
mod dev;
mod units;
mod cluster;
mod top;

use crate::base::config::nearest;
use crate::bench::BenchError;
use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

/// Why a command ended without doing its work.
#[derive(Debug)]
pub enum Failure {
    /// The person who typed it must change something: one line per mistake.
    Usage(Vec<String>),
    /// It did not work: one message.
    Failed(String),
}

/// The exit code for a mistake of the person who typed it.
const WRONG_USAGE: u8 = 2;

const ABOUT: &str = "A Redis-protocol distributed cache without a leader: any node answers, a node's death stops no write \
                     and loses none.";

const AFTER: &str = "\
`rondo` alone starts a node: `rondo [FILE] [--option value ...]` is `rondo server [FILE] [--option value ...]`.

Try it:
  rondo dev                     three nodes on this machine, until Ctrl-C
  redis-cli -p 6379 set a 1     any Redis client, any node
  redis-cli -p 6380 get a
  rondo cluster status          how it is, and what to do
  rondo top                     the same, live";

/// Runs a command line, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = with_command(args.into_iter().collect());
    let command = command();
    let (args, mistakes) = without_unknown(&command, args);
    if args.is_empty() {
        print_mistakes(&mistakes);
        return ExitCode::from(WRONG_USAGE);
    }
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return clap_ended(&error, &mistakes),
    };
    let outcome = match matches.subcommand() {
        Some(("server", matches)) => server::run(matches, mistakes).map(|()| ExitCode::SUCCESS),
        Some(("dev", matches)) => dev::run(matches, mistakes).map(|()| ExitCode::SUCCESS),
        Some(("cluster", matches)) => cluster::run(matches, mistakes),
        Some(("top", matches)) => top::run(matches, mistakes).map(|()| ExitCode::SUCCESS),
        Some(("bench", matches)) => bench(matches, mistakes).map(|()| ExitCode::SUCCESS),
        _ => Err(Failure::Usage(vec!["no such command".into()])),
    };
    match outcome {
        Ok(code) => code,
        Err(Failure::Usage(mistakes)) => {
            print_mistakes(&mistakes);
            ExitCode::from(WRONG_USAGE)
        }
        Err(Failure::Failed(message)) => {
            complain(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn bench(matches: &ArgMatches, mistakes: Vec<String>) -> Result<(), Failure> {
    if !mistakes.is_empty() {
        return Err(Failure::Usage(mistakes));
    }
    crate::bench::run(matches).map_err(|error| match error {
        BenchError::Options(error) => Failure::Usage(vec![error.to_string()]),
        error => Failure::Failed(error.to_string()),
    })
}

fn command() -> Command {
    Command::new("rondo")
        .version(format!("{} (wire version {})", env!("CARGO_PKG_VERSION"), crate::node::WIRE_VERSION))
        .about(ABOUT)
        .after_help(AFTER)
        .subcommand_required(true)
        .max_term_width(120)
        .subcommands([server::command(), dev::command(), cluster::command(), top::command(), crate::bench::command()])
}

/// Puts `server` in when no command is named.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let is_file = |first: &OsStr| first.to_string_lossy().contains(['/', '.']);
    let is_flag =
        |first: &OsStr| first.to_string_lossy().starts_with("--") && first != "--help" && first != "--version";
    if args.get(1).is_none_or(|first| is_file(first) || is_flag(first)) {
        args.insert(args.len().min(1), "server".into());
    }
    args
}

/// Takes out what the named command does not know, see [`flags::take_unknown`]; the mistakes found.
fn without_unknown(command: &Command, mut args: Vec<OsString>) -> (Vec<OsString>, Vec<String>) {
    let Some(name) = args.get(1).map(|name| name.to_string_lossy().into_owned()) else { return (args, Vec::new()) };
    match command.find_subcommand(&name) {
        Some(named) => {
            let (rest, mistakes) = flags::take_unknown(named, args.split_off(2));
            args.extend(rest);
            (args, mistakes)
        }
        None if name == "help" || name.starts_with('-') => (args, Vec::new()),
        None => {
            let near = nearest(&name, command.get_subcommands().map(Command::get_name));
            let hint = near.map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
            (Vec::new(), vec![format!("no command '{name}'{hint}")])
        }
    }
}

/// clap had something to say: help and version are no failure.
fn clap_ended(error: &clap::Error, mistakes: &[String]) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe (`rondo --help | head`) is the reader's choice.
        _ = error.print();
        return ExitCode::SUCCESS;
    }
    print_mistakes(mistakes);
    _ = error.print();
    ExitCode::from(WRONG_USAGE)
}

fn print_mistakes(mistakes: &[String]) {
    mistakes.iter().for_each(|mistake| complain(&format!("error: {mistake}")));
}

/// Writes a line to standard error. That nobody reads it (`2>&1 | head`) is no reason to panic, and changes no exit
/// code.
fn complain(line: &str) {
    _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_commands_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn what_stands_below_the_options_is_not_broken_twice() {
        // clap breaks lines at the terminal's edge: a longer one must be a paragraph, and one of a list must fit.
        for command in std::iter::once(&command()).chain(command().get_subcommands()) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let is_broken = |pair: &[&str]| pair[0].len() > 80 && !pair[1].is_empty();
            assert!(!lines.windows(2).any(is_broken), "{}: {text}", command.get_name());
            let overflows = |line: &&str| line.starts_with("  ") && line.len() > 80;
            assert_eq!(lines.iter().find(|line| overflows(line)), None, "{}", command.get_name());
        }
    }

    #[test]
    fn a_line_without_a_command_starts_a_server() {
        let cases = [
            ("rondo", "rondo server"),
            ("rondo --port 1", "rondo server --port 1"),
            ("rondo etc/r.conf --port 1", "rondo server etc/r.conf --port 1"),
            ("rondo --help", "rondo --help"),
            ("rondo dev --nodes 3", "rondo dev --nodes 3"),
            ("rondo serve", "rondo serve"),
        ];
        for (given, expected) in cases {
            assert_eq!(with_command(words(given)), words(expected), "{given}");
        }
    }
}
