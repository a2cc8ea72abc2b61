//! The backend of a WeChat Official Account (公众号): it answers the platform's message webhook,
//! signs users in by OAuth, signs JS-SDK configs and keeps the account's tokens. It brings a local
//! simulator of the platform, so all of it can be written and tested without an account.
//!
//! # Layout
//!
//! In the order of a message's way through it:
//!
//! - [`app`]: everything put together; [`config`] its settings, [`telemetry`] its logs and metrics.
//! - `server` and `web`: the connection loop, and the route table.
//! - [`receiver`]: the checks that a delivery passes before it is a message.
//! - [`wechat`]: the wire protocol. Pure: no I/O, no clock, no hidden randomness.
//! - [`ledger`]: one handling and one reply for each message.
//! - [`bot`]: Koa-style middleware, router and handlers.
//! - [`rules`]: answers without code, from a file.
//! - [`customer_service`]: what is said to a user outside of a reply, and when that may be.
//! - [`forward`]: what goes to a program of the owner's, and [`reply_link`], where its late replies come.
//! - [`api`]: the client of the platform's API, and [`token`], which keeps its credentials.
//! - [`keys`] and [`audit`]: who else may have those credentials, and who had them.
//! - [`oauth`] and [`jssdk`]: sign-in, and signed configs for pages.
//! - [`store`]: what is kept, as traits, and the two back ends SQLite and MongoDB.
//! - [`check`]: what `offiaccount check` finds.
//! - [`simulator`]: the platform on a laptop. It shares the protocol with the backend, nothing else.

pub mod api;
pub mod app;
pub mod audit;
pub mod bot;
pub mod check;
pub mod config;
pub mod customer_service;
pub mod forward;
mod hashed;
pub mod jssdk;
mod key_file;
pub mod keys;
pub mod ledger;
pub mod oauth;
mod privacy;
pub mod receiver;
pub mod reply_link;
pub mod rules;
pub mod secret;
mod server;
pub mod simulator;
pub mod store;
pub mod telemetry;
mod timeout;
pub mod token;
mod web;
pub mod wechat;

pub use app::{Application, serve};
pub use bot::{Bot, BotError, BotResult, Context, Next};
pub use config::Config;
pub use wechat::{Message, Reply};

/// The programs in the README are compiled with the other documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../README.zh-CN.md")]
struct ReadmeInChinese;
