//! `rondo bench`: load on any RESP server, measured without coordinated omission.
//!
//! | file | what it is |
//! |---|---|
//! | `options` | the command line, checked |
//! | `run`, `phase` | the threads that carry a phase; what its connections share |
//! | `client` | one connection: writes requests, reads replies, measures |
//! | `schedule`, `alarm` | when operations are meant to start; waking up then |
//! | `requests`, `keys` | GET and SET, encoded; which keys, and their slots |
//! | `replies` | counts replies without keeping them |
//! | `link` | connecting, logging in, asking one question |
//! | `topology` | who owns which hash slot |
//! | `tally`, `timeline` | counts and the latency histogram; what became of each interval |
//! | `ledger`, `read_back` | what was written, and is it still there; reading everything once |
//! | `progress`, `report` | the progress line; the result, for people and scripts |
//!
//! Built to cost less than what it measures: one thread makes several million operations a second with pipelines, and
//! nothing on the way of an operation allocates, locks or wakes a task.
//!
//! It knows no more of a server than GET, SET, AUTH, HELLO, PING and CLUSTER SLOTS. It never sends an operation again:
//! what was not answered is counted as an error.

mod alarm;
mod ledger;
mod link;
mod replies;
mod schedule;
mod timeline;
mod tally;
mod topology;
mod keys;
mod options;
mod phase;
mod progress;
mod read_back;
mod report;
mod requests;
mod client;
mod run;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::json;

use self::keys::{Filler, KeySpace};
use self::link::{LinkError, ask, connect};
use self::options::{Limit, Mix, OptionsError};
use self::phase::Phase;
use self::report::Report;
use self::topology::Directory;

pub use self::options::{Options, command};

/// A fill sends this many keys at once, or the user's pipeline if that is more.
const FILL_PIPELINE: usize = 32;

/// A load could not be run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An option is wrong. The user's fault; nothing was sent.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A server could not be reached, or refused to talk, before the load began. May be tried again.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// This machine has no thread, file descriptor or timer left for us.
    #[error("cannot start a thread of load: {0}")]
    Thread(io::Error),
    /// The histogram could not be made.
    #[error("cannot make a histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// The load was run and its results printed, and they are no success: a line for each reason.
    #[error("{}", .0.join("\nerror: "))]
    Unsuccessful(Vec<String>),
}

/// Runs what the command line asks for and prints the result. Fails unless every phase had an operation that succeeded,
/// and reading back, if it was asked for, has found every acknowledged write.
pub fn run(matches: &ArgMatches) -> Result<(), BenchError> {
    let results = run_phases(&Options::read(matches)?)?;
    let failures: Vec<String> = results.iter().filter_map(failure).collect();
    if failures.is_empty() { Ok(()) } else { Err(BenchError::Unsuccessful(failures)) }
}

/// What makes a phase that has ended a failure.
fn failure(result: &Report) -> Option<String> {
    match result.tally.operations {
        0 => Some(format!("no operation of the {} succeeded", result.name)),
        _ => result.verdict.as_ref()?.failure(),
    }
}

/// Runs the fill, if it is wanted, and the load, and prints their results.
fn run_phases(options: &Options) -> Result<Vec<Report>, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Thread)?;
    let directory = runtime.block_on(meet(options))?;
    let space = Arc::new(KeySpace::new(&options.key_prefix, options.key_count));
    let nodes = directory.as_ref().map_or(0, |directory| directory.map().addresses().len());
    let mut reports = Vec::new();
    let mut stopped = false;
    if options.fill {
        let filler = Arc::new(Filler::new(space.clone()));
        let phase = Phase::new(fill_options(options), space.clone(), directory.clone(), Some(filler.clone()));
        let mut tally = run::run(&phase)?.tally;
        stopped = phase.was_stopped();
        if !stopped && filler.left() > 0 {
            tally.error("not filled", filler.left(), "no node that could be reached owns these keys");
        }
        reports.push(Report::of("fill", &phase, nodes, tally));
    }
    if !options.fill_only && !stopped {
        let phase = Phase::new(options.clone(), space.clone(), directory, None);
        let measured = run::run(&phase)?;
        let mut report = Report::of("load", &phase, nodes, measured.tally);
        if options.read_back {
            report.verdict = Some(runtime.block_on(read_back::read_back(options, &space, &measured.ledgers)));
        }
        reports.push(report);
    }
    if options.json {
        let results = reports.iter().map(Report::json).collect::<Vec<_>>();
        _ = writeln!(io::stdout(), "{}", json!({ "results": results }));
    } else {
        reports.iter().for_each(|report| _ = write!(io::stdout(), "{}", report.text()));
    }
    Ok(reports)
}

/// Makes sure that every server can be talked to, and reads the slot map if it is needed.
async fn meet(options: &Options) -> Result<Option<Arc<Directory>>, BenchError> {
    if options.cluster {
        return Ok(Some(Arc::new(Directory::open(&options.addresses, &options.login).await?)));
    }
    for address in &options.addresses {
        let mut stream = connect(address, &options.login).await?;
        ask(&mut stream, address, &options.login, &["PING"]).await?;
    }
    Ok(None)
}

/// How the key space is loaded, as fast as it goes.
fn fill_options(options: &Options) -> Options {
    Options {
        pipeline: options.pipeline.max(FILL_PIPELINE),
        mix: Mix { gets: 0, sets: 1, ..options.mix },
        rate: None,
        limit: Limit::Operations(u64::MAX),
        warmup: Duration::ZERO,
        ..options.clone()
    }
}
