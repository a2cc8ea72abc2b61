//! The simulator from the outside: every route over real HTTP, on ports that the system picks.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod api;
mod control;
mod live;
mod oauth;
mod page;
mod push;
mod web;
mod world;
