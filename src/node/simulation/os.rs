//! Time, randomness and sleep of a thread that simulates: the three calls by which a program gets them from the system.
//!
//! The symbols below stand before those of the C library in the program of the unit tests, and only there. On a thread
//! that has called [`begin`], the clocks show a time that only [`set_now`] moves, random bytes come from a seed, and a
//! runtime that has nothing to do, and would sleep, ends its turn instead ([`turn`]). On every other thread they are
//! the system's own. So all code runs as it is, libraries included: `Instant::now`, timers, hash seeds, `rand::random`.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

/// The wall clock when a simulation begins, in seconds since 1970.
const EPOCH_S: u64 = 1_790_000_000;
/// What a monotonic clock shows then: more than any code looks back.
const UPTIME_S: u64 = 1_000_000;

thread_local! {
    static SIMULATES: Cell<bool> = const { Cell::new(false) };
    static NOW_US: Cell<u64> = const { Cell::new(0) };
    /// How far the wall clock is ahead, in microseconds.
    static AHEAD_US: Cell<i64> = const { Cell::new(0) };
    static DRAW: Cell<u64> = const { Cell::new(0) };
    /// Set when the runtime would have slept: until when, in microseconds.
    static IDLE_UNTIL: Cell<Option<u64>> = const { Cell::new(None) };
    static ROOT: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Makes the current thread one that simulates, with this seed, for good.
pub fn begin(seed: u64) {
    DRAW.set(seed);
    SIMULATES.set(true);
}

/// Microseconds since the beginning.
pub fn now_us() -> u64 {
    NOW_US.get()
}

/// Makes it this many microseconds since the beginning, and the wall clock this far ahead of that.
pub fn set_now(now_us: u64, ahead_us: i64) {
    NOW_US.set(now_us);
    AHEAD_US.set(ahead_us);
}

/// Resolves when the runtime that it is awaited on has nothing more to do, and says when its next timer is due, in
/// microseconds.
pub async fn turn() -> u64 {
    IDLE_UNTIL.set(None);
    std::future::poll_fn(|cx| match IDLE_UNTIL.take() {
        Some(until_us) => Poll::Ready(until_us),
        None => {
            ROOT.set(Some(cx.waker().clone()));
            Poll::Pending
        }
    })
    .await
}

/// splitmix64 (Steele, Lea, Flood 2014).
fn draw() -> u64 {
    let next = DRAW.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    DRAW.set(next);
    let mixed = (next ^ next >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

// SAFETY: the signature is that of the C library, which this stands before; no other definition is in this program.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: clockid_t, out: *mut timespec) -> c_int {
    let us = match clock {
        libc::CLOCK_MONOTONIC => UPTIME_S * 1_000_000 + NOW_US.get(),
        libc::CLOCK_REALTIME => (EPOCH_S * 1_000_000 + NOW_US.get()).wrapping_add_signed(AHEAD_US.get()),
        _ => return system_time(clock, out),
    };
    if !SIMULATES.get() {
        return system_time(clock, out);
    }
    let time = timespec { tv_sec: (us / 1_000_000) as _, tv_nsec: (us % 1_000_000 * 1_000) as _ };
    // SAFETY: the caller gives a place for the answer, as the C library demands.
    unsafe { out.write(time) };
    0
}

fn system_time(clock: clockid_t, out: *mut timespec) -> c_int {
    // SAFETY: the arguments are those of the call that this stands for.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, out) as c_int }
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn getrandom(out: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    if !SIMULATES.get() {
        // SAFETY: the arguments are those of the call that this stands for.
        return unsafe { libc::syscall(libc::SYS_getrandom, out, len, flags) as ssize_t };
    }
    for at in 0..len {
        // SAFETY: the caller gives room for `len` bytes.
        unsafe { out.cast::<u8>().add(at).write(draw() as u8) };
    }
    len as ssize_t
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn epoll_wait(epoll: c_int, events: *mut libc::epoll_event, most: c_int, timeout_ms: c_int) -> c_int {
    let wait = |timeout_ms: c_int| {
        // SAFETY: the arguments are those of the call that this stands for; no signal mask is set.
        unsafe { libc::syscall(libc::SYS_epoll_pwait, epoll, events, most, timeout_ms, 0_usize, 8_usize) as c_int }
    };
    if !SIMULATES.get() {
        return wait(timeout_ms);
    }
    let count = wait(0);
    if count == 0 && timeout_ms != 0 {
        // Nobody has woken anybody: the turn is over.
        IDLE_UNTIL.set(Some(match u64::try_from(timeout_ms) {
            Ok(timeout_ms) => NOW_US.get() + timeout_ms * 1_000,
            Err(_) => u64::MAX,
        }));
        if let Some(root) = ROOT.take() {
            root.wake();
        }
    }
    count
}
