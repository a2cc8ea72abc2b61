//! Identifiers of the platform, each parsed once into a type of its own.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: expected 1 to 64 of letters, digits, `_`, `-`, `@` and `.`")]
pub struct InvalidId {
    kind: &'static str,
}

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the characters and the length.
            ///
            /// # Errors
            ///
            /// [`InvalidId`] for an empty text, one over 64 characters, or one with other characters.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if is_identifier(text) { Ok(Self(text.into())) } else { Err(InvalidId { kind: $kind }) }
            }

            /// The identifier as the platform writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                (*id.0).into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

identifiers! {
    /// A user as one account sees him: 28 characters that begin with `o`.
    OpenId = "openid";
    /// A user across the accounts of one Open Platform owner.
    UnionId = "unionid";
    /// An account as the API names it: `wx` and 16 hex digits.
    AppId = "appid";
    /// An account as messages name it: `gh_` and 12 hex digits (原始ID).
    OriginalId = "original id";
}

/// The number of a message, or of a job whose result an event tells. It passes 2^53, so it is a string
/// in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MsgId(u64);

impl MsgId {
    /// Takes the number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// Reads decimal digits.
    ///
    /// # Errors
    ///
    /// [`InvalidMsgId`] for anything but digits, and for a number over 64 bits.
    pub fn parse(text: &str) -> Result<Self, InvalidMsgId> {
        // `u64`'s own parser takes a sign.
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidMsgId);
        }
        text.parse().map(Self).map_err(|_| InvalidMsgId)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A text that is no [`MsgId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid MsgId: expected a decimal number of at most 64 bits")]
pub struct InvalidMsgId;

impl TryFrom<String> for MsgId {
    type Error = InvalidMsgId;
    fn try_from(text: String) -> Result<Self, InvalidMsgId> {
        Self::parse(&text)
    }
}

impl From<MsgId> for String {
    fn from(id: MsgId) -> Self {
        id.0.to_string()
    }
}

impl fmt::Display for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Longer and wider than what the platform issues today, narrow enough for a log line and a key.
fn is_identifier(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'@' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_short_and_plain() {
        assert!(OpenId::parse("oFan0000000000000000000000001").is_ok());
        assert!(OpenId::parse("o-_x@y.z").is_ok());
        for bad in ["", "$where", "a b", "a\u{0}", "中", &"o".repeat(65)] {
            assert!(OpenId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_msg_id_has_64_bits_and_is_a_string_in_json() {
        let id = MsgId::parse("18446744073709551615").unwrap();
        assert_eq!(
            (id.get(), id.to_string()),
            (u64::MAX, "18446744073709551615".to_owned())
        );
        assert_eq!(
            serde_json::to_string(&id).unwrap(),
            "\"18446744073709551615\""
        );
        assert_eq!(
            serde_json::from_str::<MsgId>("\"18446744073709551615\"").unwrap(),
            id
        );
        for bad in ["", "+1", "-1", "1.0", " 1", "18446744073709551616"] {
            assert_eq!(MsgId::parse(bad), Err(InvalidMsgId), "{bad:?}");
        }
    }
}
