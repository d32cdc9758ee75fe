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
pub mod resp;

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

/// A number from the environment, for the length of a test.
pub fn env_number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}
