//! The integration tests: one binary, a file for each capability.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "wip")]

mod helpers;
mod mongod;
mod simulator;
