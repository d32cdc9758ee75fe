//! What the tests with real processes share: servers, clusters, ports, and a blocking client.
//!
//! Every process is started with its own ports and its own directory, waited for until it answers, killed when its
//! handle is dropped, and its log is printed when the test that owns it fails. Nothing here knows a test.
//!
//! Each test crate uses a part of it, hence the `allow`.
#![allow(dead_code)]

pub mod client;
pub mod cluster;
pub mod network;
pub mod ports;
pub mod process;
pub mod random;
pub mod redis;
pub mod resp;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Asks until `question` answers, at most `within`; `None` when it never did.
pub fn wait_for<T>(within: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Held by a test that needs the machine for itself: the others of its program that hold it wait.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Says that a test does nothing, for want of something. Where `RONDO_REQUIRED` is set, as `scripts/test` does when it
/// may install what tests need, the test fails instead.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("RONDO_REQUIRED").is_none(), "RONDO_REQUIRED is set, and {why}");
    println!("SKIPPED: {why}");
}

/// Sets the flag when it is dropped, by a failed assertion too: scoped threads that go on until it is set would else
/// have the test wait for them for ever.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A number from the environment, for the length of a test.
pub fn env_number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}
