//! The command line: one subcommand each way of running the library.
fn main() {}
