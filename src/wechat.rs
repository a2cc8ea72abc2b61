//! The platform's wire protocol as values: signatures, the AES envelope, messages, events, replies.
//!
//! Pure. Time, nonces and random bytes are arguments; nothing here knows HTTP or a store.

pub mod crypto;
pub mod id;
pub mod query;
pub mod reply;
pub mod signature;
pub mod xml;

/// Test vectors, computed with pycryptodome and in agreement with wechatpy and npm wechat-crypto.
#[cfg(test)]
fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../tests/fixtures/vectors.json")).unwrap()
}
