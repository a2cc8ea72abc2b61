//! Signatures as Standard Webhooks 1.0 defines them: HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// Before the base64 of a secret.
const SECRET_PREFIX: &str = "whsec_";
/// Standard Webhooks: secrets have 24 to 64 bytes.
const FEWEST_BYTES: usize = 24;

/// Secrets are handed around with their padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `FORWARD_SECRET`, ready to sign.
#[derive(Clone)]
pub struct SigningKey(Arc<[u8]>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SigningKey {
    /// Reads `whsec_` and base64, or takes any other text as its bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = match text.strip_prefix(SECRET_PREFIX) {
            Some(base64) => BASE64.decode(base64).ok()?,
            None => text.as_bytes().to_vec(),
        };
        (!bytes.is_empty()).then(|| Self(bytes.into()))
    }

    /// Whether it is shorter than Standard Webhooks asks for.
    pub(crate) fn is_short(&self) -> bool {
        self.0.len() < FEWEST_BYTES
    }

    /// The value of `webhook-signature` for a body that is sent at `timestamp`, in Unix seconds.
    pub(crate) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        let signature = general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        format!("v1,{signature}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the project's own libraries (standard-webhooks, `libraries/go/webhook_test.go`).
    #[test]
    fn the_published_vector_is_signed() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            key.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    /// Computed with Python's `hmac`.
    #[test]
    fn a_secret_without_the_prefix_is_its_bytes() {
        let key = SigningKey::parse("any text").unwrap();
        assert_eq!(
            key.sign("msg_1", 1_614_265_330, r#"{"Content":"你好"}"#.as_bytes()),
            "v1,PEJ2K4GHHbBImwrFsCP2laAnGMagDWNwry0G4qsmvC0="
        );
    }

    #[test]
    fn the_padding_of_a_secret_does_not_matter() {
        let bare = SigningKey::parse("whsec_c2VjcmV0").unwrap();
        let padded = SigningKey::parse("whsec_c2VjcmV0cw==").unwrap();
        let unpadded = SigningKey::parse("whsec_c2VjcmV0cw").unwrap();
        assert_eq!(*bare.0, *b"secret");
        assert_eq!(padded.0, unpadded.0);
    }

    #[test]
    fn what_follows_the_prefix_must_be_base64() {
        for bad in ["", "whsec_", "whsec_no base64", "whsec_c2Vj-mV0"] {
            assert!(SigningKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_secret_prints_stars_and_short_ones_are_known() {
        let key = SigningKey::parse("canary").unwrap();
        assert_eq!(format!("{key:?}"), "***");
        assert!(key.is_short());
        assert!(!SigningKey::parse(&"x".repeat(24)).unwrap().is_short());
    }
}
