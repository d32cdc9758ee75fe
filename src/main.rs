//! The `rondo` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let matches =
        clap::Command::new("rondo").subcommand_required(true).subcommand(rondo::bench::command()).get_matches();
    match matches.subcommand() {
        Some(("bench", matches)) => rondo::bench::run(matches),
        _ => ExitCode::FAILURE,
    }
}
