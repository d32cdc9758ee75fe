//! How long does any one key pause? Many keys, each with a client of its own that uses it at a steady pace.
//!
//! A key's pause is the longest time between two successes, less the pace: what a client would have seen that came at
//! any moment (no coordinated omission: a key that hangs does not keep the others from being asked). The figures are
//! printed and never asserted; that every key was used at all during the fault is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::load::Target;
use crate::support::client::Client;

/// Keys of each class.
const KEYS_PER_CLASS: usize = 32;
/// Between two commands on a key.
const PACE: Duration = Duration::from_millis(15);
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
const CLASSES: [&str; 3] = ["GET", "SET", "INCR"];

/// What one key saw.
struct Seen {
    class: &'static str,
    longest: Duration,
    over_at: Duration,
    errors: Vec<String>,
    /// When each success came, since the start.
    successes: Vec<Duration>,
}

/// A running probe; `finish` ends it.
pub struct Probe {
    stop: Arc<AtomicBool>,
    started: Instant,
    threads: Vec<JoinHandle<Seen>>,
}

impl Probe {
    pub fn start(targets: &[Target]) -> Probe {
        let (stop, started) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let mut threads = Vec::new();
        for number in 0..KEYS_PER_CLASS * CLASSES.len() {
            let addr = targets[number / CLASSES.len() % targets.len()].1;
            let (stop, class) = (Arc::clone(&stop), CLASSES[number % CLASSES.len()]);
            threads.push(std::thread::spawn(move || use_key(addr, class, number, started, &stop)));
        }
        Probe { stop, started, threads }
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the probe, prints the pauses, and insists that every key was used between `from` and `to`.
    pub fn finish(self, what: &str, from: Duration, to: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let seen: Vec<Seen> = self.threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        for class in CLASSES {
            let mut of_class: Vec<&Seen> = seen.iter().filter(|seen| seen.class == class).collect();
            of_class.sort_by_key(|seen| seen.longest);
            let ms = |seen: &Seen| seen.longest.as_secs_f64() * 1e3;
            let (median, longest) = (of_class[of_class.len() / 2], of_class[of_class.len() - 1]);
            let errors: Vec<&String> = of_class.iter().flat_map(|seen| &seen.errors).collect();
            println!(
                "{what}: longest pause of {class}: {:.0} ms (over at {:.2} s), half of the keys below {:.0} ms, {} errors {:?}",
                ms(longest),
                longest.over_at.as_secs_f64(),
                ms(median),
                errors.len(),
                errors.first()
            );
        }
        for (number, seen) in seen.iter().enumerate() {
            let used = seen.successes.iter().filter(|at| (from..to).contains(at)).count();
            assert!(used > 0, "{what}: key {number} was never used by {} while the fault lasted", seen.class);
        }
    }
}

fn use_key(addr: SocketAddr, class: &'static str, number: usize, started: Instant, stop: &AtomicBool) -> Seen {
    let mut seen =
        Seen { class, longest: Duration::ZERO, over_at: Duration::ZERO, errors: Vec::new(), successes: Vec::new() };
    let key = format!("probe:{number}");
    let args: &[&str] = if class == "SET" { &["SET", &key, "1"] } else { &[class, &key] };
    let (mut client, mut last) = (None, None);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match ask(&mut client, addr, args) {
            Ok(()) => {
                let since = last.replace(Instant::now()).map_or(began.elapsed(), |last: Instant| last.elapsed());
                seen.successes.push(started.elapsed());
                if since.saturating_sub(PACE) > seen.longest {
                    (seen.longest, seen.over_at) = (since.saturating_sub(PACE), started.elapsed());
                }
                std::thread::sleep(PACE.saturating_sub(began.elapsed()));
            }
            Err(error) => {
                seen.errors.push(error);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    seen
}

fn ask(client: &mut Option<Client>, addr: SocketAddr, args: &[&str]) -> Result<(), String> {
    if client.is_none() {
        *client = Some(Client::connect_to(addr, REPLY_TIMEOUT).map_err(|error| error.to_string())?);
    }
    match client.as_mut().map(|client| client.try_call(args)) {
        Some(Ok(reply)) if reply.is_error() => Err(format!("{:?}: {reply:?}", args[0])),
        Some(Ok(_)) => Ok(()),
        failed => {
            *client = None;
            Err(format!("{failed:?}"))
        }
    }
}
