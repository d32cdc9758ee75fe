//! The threads that carry a phase.
//!
//! A thread is one single-threaded runtime with its share of the connections. It connects them all and waits for the
//! other threads; only then does the phase's clock start, so that connecting is not part of what is measured. The
//! calling thread draws the progress line meanwhile. Ctrl-C ends the phase early; what was measured is kept.

use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};

use super::BenchError;
use super::client::{Client, Lane};
use super::ledger::Ledger;
use super::phase::Phase;
use super::progress::Progress;
use super::tally::Tally;

/// How often the calling thread looks whether the workers are done, in milliseconds.
const POLL_MS: u64 = 20;

/// What the threads of a phase have measured, added up, and what each has written.
#[derive(Debug)]
pub struct Measured {
    /// The results.
    pub tally: Tally,
    /// The SETs, when they were noted.
    pub ledgers: Vec<Ledger>,
}

/// Runs the phase on its threads.
pub fn run(phase: &Arc<Phase>) -> Result<Measured, BenchError> {
    let (ready, all_ready) = mpsc::channel();
    let (mut workers, mut starts) = (Vec::new(), Vec::new());
    for number in 0..phase.options.threads {
        let (phase, ready) = (phase.clone(), ready.clone());
        let (start, started) = mpsc::channel();
        let named = thread::Builder::new().name(format!("bench-{number}"));
        let worker = named.spawn(move || run_thread(&phase, number, ready, &started));
        workers.push(worker.map_err(BenchError::Thread)?);
        starts.push(start);
    }
    drop(ready);
    // A thread that could not begin hangs up: then nobody starts, and its error is found below.
    if all_ready.iter().count() == workers.len() {
        phase.begin();
        starts.iter().for_each(|start| start.send(()).unwrap_or_default());
    }
    drop(starts);
    watch(phase, &workers);
    let mut total = Measured { tally: Tally::new()?, ledgers: Vec::new() };
    for worker in workers {
        let (tally, ledger) = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        total.tally.merge(&tally);
        total.ledgers.extend(ledger);
    }
    Ok(total)
}

/// Draws the progress line until all workers are done.
fn watch<T>(phase: &Phase, workers: &[JoinHandle<T>]) {
    let mut progress = Progress::new(phase.progress_end());
    while workers.iter().any(|worker| !worker.is_finished()) {
        thread::sleep(Duration::from_millis(POLL_MS));
        let (count, elapsed) = phase.progress();
        progress.draw(count, elapsed);
    }
    progress.clear();
}

fn run_thread(
    phase: &Arc<Phase>,
    number: usize,
    ready: mpsc::Sender<()>,
    started: &mpsc::Receiver<()>,
) -> Result<(Tally, Option<Ledger>), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Thread)?;
    let lane = Rc::new(Lane::new(phase.clone(), number)?);
    LocalSet::new().block_on(&runtime, async {
        let mut clients = Vec::new();
        for connection in (number..phase.options.connections).step_by(phase.options.threads) {
            let mut client = Client::new(lane.clone(), connection).map_err(BenchError::Thread)?;
            // One that fails tries again, and counts it, once the clock runs.
            let _ = client.open().await;
            clients.push(client);
        }
        let _ = ready.send(());
        drop(ready);
        if started.recv().is_err() {
            return Ok(());
        }
        let mut running = JoinSet::new();
        clients.into_iter().for_each(|client| drop(running.spawn_local(client.run())));
        let chores = if number == 0 { spawn_chores(phase) } else { JoinSet::new() };
        running.join_all().await;
        drop(chores);
        Ok::<(), BenchError>(())
    })?;
    Ok((lane.tally(), lane.ledger()))
}

/// What one thread does for all: refreshing the map, and listening for Ctrl-C.
fn spawn_chores(phase: &Arc<Phase>) -> JoinSet<()> {
    let mut chores = JoinSet::new();
    if let Some(directory) = phase.directory.clone() {
        chores.spawn_local(async move { directory.keep_fresh().await });
    }
    let phase = phase.clone();
    chores.spawn_local(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            phase.stop();
        }
    });
    chores
}
