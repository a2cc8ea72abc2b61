//! The browser's name: a random id under a signature of ours, kept in a cookie. It names the browser,
//! not one sign-in: several may run at once.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::digest;
use crate::store::{Digest, StoreKey};

/// Signs browser ids.
#[derive(Clone)]
pub struct BrowserKey {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl fmt::Debug for BrowserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A browser, by its id: 32 hex digits.
#[derive(Clone, PartialEq, Eq)]
pub struct BrowserId(String);

impl fmt::Debug for BrowserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl BrowserId {
    /// A name for a browser that has none.
    pub fn new() -> Self {
        Self(hex::encode(rand::random::<[u8; 16]>()))
    }

    pub(super) fn digest(&self) -> Digest {
        digest(&self.0)
    }
}

impl Default for BrowserId {
    fn default() -> Self {
        Self::new()
    }
}

impl BrowserKey {
    /// Signs with `current`, accepts both.
    pub fn new(current: &StoreKey, previous: Option<&StoreKey>) -> Self {
        let mac = |key: &StoreKey| {
            #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
            Hmac::new_from_slice(&key.derive("offiaccount browser v1"))
                .expect("a key of any length")
        };
        Self {
            current: mac(current),
            previous: previous.map(mac),
        }
    }

    /// The cookie's value: `<id>.<HMAC-SHA256 in hex>`.
    pub fn sign(&self, browser: &BrowserId) -> String {
        let mut mac = self.current.clone();
        mac.update(browser.0.as_bytes());
        format!("{}.{}", browser.0, hex::encode(mac.finalize().into_bytes()))
    }

    /// The browser, if the cookie's signature is ours.
    pub fn verify(&self, cookie: &str) -> Option<BrowserId> {
        let (id, signature) = cookie.split_once('.')?;
        let signature = hex::decode(signature).ok()?;
        let fits = |mac: &Hmac<Sha256>| {
            let mut mac = mac.clone();
            mac.update(id.as_bytes());
            mac.verify_slice(&signature).is_ok()
        };
        std::iter::once(&self.current)
            .chain(&self.previous)
            .any(fits)
            .then(|| BrowserId(id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_known_by_our_signature_alone() {
        let (key, other) = (StoreKey::generate(), StoreKey::generate());
        let browser = BrowserId::new();
        let cookie = BrowserKey::new(&key, None).sign(&browser);
        assert_eq!(
            BrowserKey::new(&key, None).verify(&cookie),
            Some(browser.clone())
        );
        assert_eq!(
            BrowserKey::new(&other, Some(&key)).verify(&cookie),
            Some(browser)
        );
        assert_eq!(BrowserKey::new(&other, None).verify(&cookie), None);
        let forged = format!("{}{cookie}", "0");
        assert_eq!(BrowserKey::new(&key, None).verify(&forged), None);
        assert_eq!(BrowserKey::new(&key, None).verify("x"), None);
    }
}
