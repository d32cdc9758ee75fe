//! The `rondo` program.

fn main() {}
