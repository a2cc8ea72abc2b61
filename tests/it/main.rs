//! The integration tests: one binary, a file for each capability.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "wip")]

mod bot;
mod browser;
mod foreign;
mod helpers;
mod mongod;
mod parts;
mod program;
mod server;
mod simulator;
mod store;
mod webhook;
mod wire;
