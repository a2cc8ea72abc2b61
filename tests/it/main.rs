//! The integration tests: one binary, a file for each capability.
#![allow(dead_code, reason = "wip")]

mod helpers;
mod mongod;
