//! The backend of a WeChat Official Account (公众号): it answers the platform's message webhook,
//! signs users in by OAuth, signs JS-SDK configs and keeps the account's tokens. It brings a local
//! simulator of the platform, so all of it can be written and tested without an account.
//!
//! # Layout
//!
//! - [`wechat`]: the wire protocol. Pure: no I/O, no clock, no hidden randomness.
//! - [`store`]: what is kept, as traits, and the two back ends SQLite and MongoDB.
//! - [`simulator`]: the platform on a laptop. It shares the protocol with the backend, nothing else.

pub mod secret;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod wechat;
