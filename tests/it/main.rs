//! The integration tests: one binary, a file for each capability.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod bot;
mod browser;
mod browser_simulator;
mod centre;
#[cfg(target_os = "linux")]
mod chaos;
mod cli;
mod client;
mod clients;
mod cold;
mod customer_service;
mod deploy;
mod foreign;
mod forward;
mod helpers;
mod instances;
mod jssdk;
mod keys;
mod kills;
mod ladder;
mod life;
mod management;
mod mongod;
mod oauth;
mod outages;
mod parts;
mod program;
mod restart;
mod rules;
mod secrets;
mod server;
mod simulator;
mod slow;
mod store;
mod stored;
mod tokens;
mod visitor;
mod webhook;
mod wire;
