//! The program: hands the command line to `rondo::cli` and exits with its code.

use std::process::ExitCode;

/// Small allocations from many threads are most of what a cache does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rondo::cli::run(std::env::args_os())
}
