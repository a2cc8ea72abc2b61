//! Named keys: how other programs of the account's owner show who they are, and what each may.
//!
//! A key is made on the command line and shown once. The store has its SHA-256 alone, so whoever reads
//! the store can't use it; it holds 256 random bits, so no salt is needed and none can be guessed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::secret::Secret;
use crate::store::Digest;

mod admin;
mod gate;

pub(crate) use admin::Admin;
pub(crate) use gate::Gate;

/// What every key begins with, so that people and secret scanners know one where they see it.
const PREFIX: &str = "oak_";
/// 32 bytes in base64url without padding.
const RANDOM_CHARACTERS: usize = 43;
const LONGEST_NAME: usize = 64;

/// The name in the audit list of whoever comes with `ADMIN_TOKEN`. No key is called so.
pub const ADMIN: &str = "ADMIN_TOKEN";

/// A group of management routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// `GET /getTokens` and `POST /refreshTokens`: the account's `access_token`, with which all that the
    /// account may do can be done.
    Tokens,
    /// `GET /getTickets`: what signs JS-SDK configs and cards.
    Tickets,
    /// `GET /getFollowers`: followers with their records.
    Followers,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tokens, Self::Tickets, Self::Followers];

    /// As it is written on the command line and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Tickets => "tickets",
            Self::Followers => "followers",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is no [`Scope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such scope; the scopes are tokens, tickets and followers")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or(UnknownScope)
    }
}

/// Scopes as the stores hold them: by blanks, each once.
pub(crate) fn scopes_text(scopes: &[Scope]) -> String {
    let mut scopes = scopes.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    let names: Vec<_> = scopes.into_iter().map(Scope::name).collect();
    names.join(" ")
}

/// The other way. What a newer version added opens nothing here.
pub(crate) fn parse_scopes(text: &str) -> Vec<Scope> {
    text.split(' ')
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// What people call a key: the program or the team that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no [`KeyName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyName {
    /// Its characters or its length.
    #[error(
        "expected 1 to 64 letters, digits, `.`, `_` and `-`, the first one a letter or a digit"
    )]
    Form,
    /// It would be taken for the admin token.
    #[error("this name stands for the setting of that name: choose another")]
    Reserved,
    /// A key was given where its name was asked for.
    #[error("this is a key, not the name of one")]
    Key,
}

impl FromStr for KeyName {
    type Err = InvalidKeyName;

    fn from_str(text: &str) -> Result<Self, InvalidKeyName> {
        if is_key(text) {
            return Err(InvalidKeyName::Key);
        }
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let begins_well = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        if !begins_well || text.len() > LONGEST_NAME || !text.bytes().all(is_plain) {
            return Err(InvalidKeyName::Form);
        }
        if text.eq_ignore_ascii_case(ADMIN) {
            return Err(InvalidKeyName::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

/// A new key, to be shown once, and what the store keeps of it.
pub fn generate() -> (Secret, Digest) {
    let random: [u8; 32] = rand::random();
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let digest = digest(&key);
    (Secret::new(key), digest)
}

/// Under what a key is stored.
fn digest(key: &str) -> Digest {
    Digest(Sha256::digest(key).into())
}

/// Whether a text has the form of a key. What has not is not looked up.
fn is_key(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == RANDOM_CHARACTERS
            && random
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_256_random_bits_that_print_as_stars() {
        let (key, digest_of_key) = generate();
        let random = key.expose().strip_prefix("oak_").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
        assert!(is_key(key.expose()));
        assert_eq!(digest(key.expose()), digest_of_key);
        assert_eq!(format!("{key} {key:?}"), "*** ***");
        assert_ne!(generate().0, key);
        for other in [
            "",
            "oak_",
            &key.expose()[1..],
            &format!("{}x", key.expose()),
        ] {
            assert!(!is_key(other), "{other}");
        }
    }

    #[test]
    fn a_name_is_plain_and_stands_for_nothing_else() {
        for good in ["billing", "CRM-2.test_a", "7", &"x".repeat(64)] {
            assert_eq!(good.parse::<KeyName>().unwrap().as_str(), good);
        }
        for bad in ["", "-x", ".x", "a b", "a/b", "钥匙", "a\n", &"x".repeat(65)] {
            assert_eq!(bad.parse::<KeyName>(), Err(InvalidKeyName::Form), "{bad}");
        }
        assert_eq!(
            "Admin_Token".parse::<KeyName>(),
            Err(InvalidKeyName::Reserved)
        );
        let (key, _) = generate();
        assert_eq!(key.expose().parse::<KeyName>(), Err(InvalidKeyName::Key));
    }

    #[test]
    fn scopes_are_stored_once_each_and_unknown_ones_open_nothing() {
        let all = [Scope::Followers, Scope::Tokens, Scope::Followers];
        assert_eq!(scopes_text(&all), "tokens followers");
        assert_eq!(
            parse_scopes("tokens later followers"),
            [Scope::Tokens, Scope::Followers]
        );
        assert_eq!(parse_scopes(""), []);
        let said = "token".parse::<Scope>().unwrap_err().to_string();
        for scope in Scope::ALL {
            assert!(said.contains(scope.name()), "{said}");
        }
    }
}
