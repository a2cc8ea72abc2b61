//! The platform's wire protocol as values: signatures, the AES envelope, messages, events, replies.
//!
//! Pure. Time, nonces and random bytes are arguments; nothing here knows HTTP or a store.
//!
//! # Layout, as a delivery passes through it
//!
//! - [`query`]: the parameters of the callback address, in exact formats.
//! - [`signature`]: what proves that the platform sent them.
//! - [`crypto`]: the envelope of safe and compatible mode.
//! - [`xml`]: the strict reader and the parts of the writer.
//! - [`message`] and [`event`]: what was said, or what happened.
//! - [`reply`]: what is answered.
//! - [`id`]: identifiers, each a type of its own.

pub mod crypto;
pub mod event;
pub mod id;
pub mod message;
pub mod query;
mod record;
pub mod reply;
pub mod signature;
pub mod xml;

pub use self::crypto::{Cipher, CryptoError, EncodingAesKey};
pub use self::event::Event;
pub use self::id::{AppId, MsgId, OpenId, OriginalId, UnionId};
pub use self::message::{Kind, Message, MessageError, Typed};
pub use self::query::{DeliveryQuery, QueryError};
pub use self::reply::{Article, Reply};
pub use self::signature::Signature;

/// Test vectors, computed with pycryptodome and in agreement with wechatpy and npm wechat-crypto.
#[cfg(test)]
fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../tests/fixtures/vectors.json")).unwrap()
}
