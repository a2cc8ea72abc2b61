//! The simulator from the outside: every route over real HTTP, on ports that the system picks.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod api;
mod articles;
mod control;
mod customer_service;
mod endpoints;
mod groups;
mod late;
mod live;
mod mass;
mod media;
mod menu;
mod oauth;
mod page;
mod push;
mod quotas;
mod tags;
mod templates;
mod web;
pub(crate) mod world;
