//! `rondo server`: one node, from file, environment and flags.

use super::{Failure, complain, flags, logs};
use crate::base::config::{Config, Sources, load};
use clap::{Arg, ArgAction, ArgMatches, Command};
use comfy_table::Table;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Ends the node when standard input ends: `rondo dev` holds the other side of the pipe.
pub const STOP_WITH_PARENT: &str = "stop-with-parent";

const EXAMPLES: &str = "\
Every option is also a line of FILE (maxmemory 1gb), an environment variable (RONDO_MAXMEMORY=1gb) and, where it may be \
changed while the node runs, a name for CONFIG SET. A flag wins over the environment, the environment over the file.

Files are written like redis.conf; directives of Redis that rondo does not have are skipped with one warning.

Examples:
  rondo server                                        one node on this machine
  rondo server /etc/rondo.conf --maxmemory 4gb
  rondo server --bind 10.0.0.2 --data-dir d --join 10.0.0.1:16379,10.0.0.2:16379
                                                      one of two, same --join

Nodes on several machines need one cluster-secret, best given as RONDO_CLUSTER_SECRET.";

/// The command with its flags.
pub fn command() -> Command {
    Command::new("server")
        .about("Start one node")
        .arg(Arg::new("file").value_name("FILE").help("Options in the form of redis.conf"))
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Check the options, print each with its value and where it comes from, and exit"),
        )
        .arg(Arg::new(STOP_WITH_PARENT).long(STOP_WITH_PARENT).action(ArgAction::SetTrue).hide(true))
        .args(flags::of_table(&[]))
        .after_help(EXAMPLES)
}

/// Runs the node until it is told to stop. `mistakes` are errors that were found in the command line before.
pub fn run(matches: &ArgMatches, mistakes: Vec<String>) -> Result<(), Failure> {
    let sources = Sources {
        file: matches.get_one::<String>("file").map(PathBuf::from),
        env: environment(),
        flags: flags::given(matches),
    };
    let (config, warnings) = configure(&sources, mistakes)?;
    if matches.get_flag("print-config") {
        print_config(&config, &warnings);
        return Ok(());
    }
    let logfile = config.settings().logfile.clone();
    let log = logs::open(&config).map_err(|error| {
        let place = if logfile.is_empty() { "standard output" } else { &logfile };
        Failure::Failed(format!("cannot log to {place}: {error}"))
    })?;
    if !logfile.is_empty() {
        complain(&format!("logging to {logfile}"));
    }
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if matches.get_flag(STOP_WITH_PARENT) {
        stop_with_parent();
    }
    crate::node::run(Arc::new(config), move || log.reopen()).map_err(|error| {
        if !logfile.is_empty() {
            tracing::error!("{error}");
        }
        Failure::Failed(error.to_string())
    })
}

/// The options that `sources` give, checked; all mistakes together are one failure.
pub fn configure(sources: &Sources, mut mistakes: Vec<String>) -> Result<(Config, Vec<String>), Failure> {
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    let loaded = load(sources, &read).and_then(|loaded| {
        let warnings = loaded.warnings.clone();
        Config::new(loaded).map(|config| (config, warnings))
    });
    match loaded {
        Ok(config) if mistakes.is_empty() => Ok(config),
        Ok(_) => Err(Failure::Usage(mistakes)),
        Err(problems) => {
            mistakes.extend(problems.0.iter().map(ToString::to_string));
            Err(Failure::Usage(mistakes))
        }
    }
}

/// The variables that may name options. One that is not text is none of ours.
pub fn environment() -> Vec<(String, String)> {
    let text =
        |(name, value): (std::ffi::OsString, std::ffi::OsString)| name.into_string().ok().zip(value.into_string().ok());
    std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("RONDO_")).collect()
}

fn print_config(config: &Config, warnings: &[String]) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["option", "value", "from"]);
    for (name, value, origin) in config.describe() {
        table.add_row([name.to_owned(), value, origin.to_string()]);
    }
    // A reader that has gone away (`| head`) has seen what it wanted.
    _ = writeln!(std::io::stdout(), "{table}");
    warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
}

/// Asks this process to stop once standard input ends, however the process at its other end ended.
fn stop_with_parent() {
    std::thread::spawn(|| {
        _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tracing::warn!("the process that started this node is gone");
        let stopped = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
        if stopped.is_err() {
            std::process::exit(1);
        }
    });
}
