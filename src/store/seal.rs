//! Encryption at rest: XChaCha20-Poly1305 under a key derived from `STORE_KEY`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::secret::Secret;

/// A value under seal: a 24-byte nonce and the ciphertext with its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// Why a sealed value stays closed: another key, another purpose, or damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed under another STORE_KEY, or damaged")]
pub struct UnsealError;

/// The 32 bytes of `STORE_KEY`, from which a key for each purpose is derived.
#[derive(Clone)]
pub struct StoreKey([u8; 32]);

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl StoreKey {
    /// Reads 64 hex digits, or base64 of 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = hex::decode(text).or_else(|_| STANDARD.decode(text)).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// A new key of the operating system's randomness.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// 64 hex digits, to be written to a file of mode 0600.
    pub fn to_secret(&self) -> Secret {
        Secret::new(hex::encode(self.0))
    }

    /// The key for one purpose. Purposes can't be told from one another's keys.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Seals and opens what is stored, with the current key and, while it rotates, the previous one.
#[derive(Clone)]
pub struct Vault {
    current: XChaCha20Poly1305,
    previous: Option<XChaCha20Poly1305>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Seals under `current`, opens under both.
    pub fn new(current: &StoreKey, previous: Option<&StoreKey>) -> Self {
        let cipher =
            |key: &StoreKey| XChaCha20Poly1305::new(&key.derive("offiaccount seal v1").into());
        Self {
            current: cipher(current),
            previous: previous.map(cipher),
        }
    }

    /// Seals `clear`. What was sealed for one `purpose` does not open for another.
    pub fn seal(&self, purpose: &str, clear: &str) -> Sealed {
        let nonce: [u8; 24] = rand::random();
        #[expect(clippy::expect_used, reason = "the cipher fails only past 2^38 bytes")]
        let ciphertext = self
            .current
            .encrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: clear.as_bytes(),
                    aad: purpose.as_bytes(),
                },
            )
            .expect("a value shorter than 256 GiB");
        Sealed([nonce.as_slice(), &ciphertext].concat())
    }

    /// Opens what [`seal`](Self::seal) made for the same purpose.
    ///
    /// # Errors
    ///
    /// [`UnsealError`] when neither key fits.
    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Secret, UnsealError> {
        let (nonce, ciphertext) = sealed.0.split_at_checked(24).ok_or(UnsealError)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| UnsealError)?;
        let payload = || Payload {
            msg: ciphertext,
            aad: purpose.as_bytes(),
        };
        let clear = self
            .current
            .decrypt(&nonce, payload())
            .or_else(|error| match &self.previous {
                Some(previous) => previous.decrypt(&nonce, payload()),
                None => Err(error),
            })
            .map_err(|_| UnsealError)?;
        String::from_utf8(clear)
            .map(Secret::new)
            .map_err(|_| UnsealError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_key_alone() {
        let (key, other) = (StoreKey::generate(), StoreKey::generate());
        let vault = Vault::new(&key, None);
        let sealed = vault.seal("access_token", "token-1");
        assert_eq!(
            vault.open("access_token", &sealed).unwrap().expose(),
            "token-1"
        );
        assert_eq!(vault.open("refresh_token", &sealed), Err(UnsealError));
        assert_eq!(
            Vault::new(&other, None).open("access_token", &sealed),
            Err(UnsealError)
        );
        assert!(
            Vault::new(&other, Some(&key))
                .open("access_token", &sealed)
                .is_ok(),
            "the previous key opens"
        );
    }

    #[test]
    fn damage_is_noticed_at_every_byte() {
        let vault = Vault::new(&StoreKey::generate(), None);
        let sealed = vault.seal("p", "x");
        for at in 0..sealed.0.len() {
            let mut torn = sealed.clone();
            torn.0[at] ^= 1;
            assert_eq!(vault.open("p", &torn), Err(UnsealError));
        }
        assert_eq!(vault.open("p", &Sealed(vec![0; 10])), Err(UnsealError));
    }

    #[test]
    fn a_key_is_hex_or_base64_of_32_bytes() {
        let key = StoreKey::generate();
        let text = key.to_secret();
        assert_eq!(StoreKey::parse(text.expose()).unwrap().0, key.0);
        assert!(StoreKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").is_some());
        assert!(StoreKey::parse("abc").is_none());
    }
}
