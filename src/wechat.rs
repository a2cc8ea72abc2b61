//! The platform's wire protocol as values: signatures, the AES envelope, messages, events, replies.
//!
//! Pure. Time, nonces and random bytes are arguments; nothing here knows HTTP or a store.

pub mod id;
