//! Free ports, also when several test processes look for them at once.
//!
//! A process claims a block of ports by listening on the block's first port for as long as it lives, then hands out the
//! others, each tried for TCP and UDP. The blocks lie below the kernel's range for outgoing connections, so that a
//! server that was killed finds its port still free when it is started again.

use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;

const FIRST: u16 = 24_000;
const LAST: u16 = 31_900;
const BLOCK: u16 = 50;

struct Block {
    /// Held, never accepted from: it marks the block as taken.
    _claim: TcpListener,
    next: u16,
    end: u16,
}

static BLOCK_IN_USE: Mutex<Option<Block>> = Mutex::new(None);

/// A port that nobody listens on, given out once per process.
pub fn free_port() -> u16 {
    let mut block = BLOCK_IN_USE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    loop {
        if let Some(block) = block.as_mut() {
            while block.next < block.end {
                block.next += 1;
                if is_free(block.next - 1) {
                    return block.next - 1;
                }
            }
        }
        let from = block.as_ref().map_or(FIRST, |block| block.end);
        *block = Some(claim(from));
    }
}

fn claim(from: u16) -> Block {
    let bases = (from..LAST).step_by(BLOCK as usize).chain((FIRST..from).step_by(BLOCK as usize));
    for base in bases {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", base)) {
            return Block { _claim: listener, next: base + 1, end: base + BLOCK };
        }
    }
    panic!("no block of {BLOCK} ports is free between {FIRST} and {LAST}");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
}
