//! The SHA-1 signatures of the platform: over deliveries, over JS-SDK configs and over cards.
//!
//! WeChat: "验证消息的确实来自微信服务器", "JS-SDK 使用权限签名算法". Values are glued without a
//! separator, so a digest alone does not tell where one value ends: [`super::query`] keeps the
//! formats of the values strict for that reason.

use std::fmt;

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// A SHA-1 digest as 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 40]);

impl Signature {
    /// The 40 hex digits.
    pub fn as_str(&self) -> &str {
        // Only `finish` makes one, out of ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether `given` is this signature, in a time that does not tell how much of it is.
    pub fn matches(&self, given: &str) -> bool {
        self.0.ct_eq(given.as_bytes()).into()
    }

    fn finish(digest: Sha1) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 40];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(digest.finalize()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(digits)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The `signature` of a delivery or of the URL check: it covers no byte of the body.
pub fn sign(token: &str, timestamp: &str, nonce: &str) -> Signature {
    sorted_digest([token, timestamp, nonce])
}

/// The `msg_signature` of an encrypted body: it covers the text of `Encrypt`.
pub fn sign_encrypted(token: &str, timestamp: &str, nonce: &str, encrypt: &str) -> Signature {
    sorted_digest([token, timestamp, nonce, encrypt])
}

/// The signature of `wx.config`. `url` is signed as given: cut it by [`without_fragment`] first.
pub fn jssdk(ticket: &str, nonce_str: &str, timestamp: u64, url: &str) -> Signature {
    let mut digest = Sha1::new();
    for part in [
        "jsapi_ticket=",
        ticket,
        "&noncestr=",
        nonce_str,
        "&timestamp=",
    ] {
        digest.update(part);
    }
    digest.update(timestamp.to_string());
    digest.update("&url=");
    digest.update(url);
    Signature::finish(digest)
}

/// The part of a URL that the JS-SDK signs: all before the first `#`.
pub fn without_fragment(url: &str) -> &str {
    url.split_once('#').map_or(url, |(page, _)| page)
}

/// The signature of a card (`cardExt`, `cardSign`): the values alone, whatever their names.
pub fn card_ext(values: &[&str]) -> Signature {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    glued_digest(&sorted)
}

fn sorted_digest<const N: usize>(mut values: [&str; N]) -> Signature {
    values.sort_unstable();
    glued_digest(&values)
}

fn glued_digest(values: &[&str]) -> Signature {
    let mut digest = Sha1::new();
    for value in values {
        digest.update(value);
    }
    Signature::finish(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::vectors;

    #[test]
    fn a_delivery_is_signed_over_its_sorted_values() {
        let v = &vectors()["url_verify"];
        let text = |name: &str| v[name].as_str().unwrap();
        let signature = sign(text("token"), text("timestamp"), text("nonce"));
        assert_eq!(signature.as_str(), text("signature"));
        // WeChat's own example, computed anew.
        assert_eq!(
            sign("AAAAA", "1714037059", "486452656").as_str(),
            "899cf89e464efb63f54ddac96b0a0a235f53aa78"
        );
    }

    #[test]
    fn an_encrypted_body_is_signed_with_its_ciphertext() {
        for v in vectors()["msg_crypt"].as_array().unwrap() {
            let text = |name: &str| v[name].as_str().unwrap();
            let signature = sign_encrypted(
                text("token"),
                text("timestamp"),
                text("nonce"),
                text("Encrypt"),
            );
            assert_eq!(signature.as_str(), text("msg_signature"), "{}", v["name"]);
        }
    }

    #[test]
    fn only_the_whole_signature_matches() {
        let signature = sign("simtoken2026", "1700000000", "1320562132");
        assert!(signature.matches("805c5335a35fb1aef061a3affd611cf32e05d0e6"));
        for wrong in [
            "",
            "805c",
            "805c5335a35fb1aef061a3affd611cf32e05d0e7",
            "805C5335A35FB1AEF061A3AFFD611CF32E05D0E6",
            "805c5335a35fb1aef061a3affd611cf32e05d0e60",
        ] {
            assert!(!signature.matches(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_js_sdk_config_is_signed_as_documented() {
        for v in vectors()["jssdk"].as_array().unwrap() {
            let string1 = v["string1"].as_str().unwrap();
            let (ticket, rest) = string1
                .strip_prefix("jsapi_ticket=")
                .unwrap()
                .split_once("&noncestr=")
                .unwrap();
            let (nonce_str, rest) = rest.split_once("&timestamp=").unwrap();
            let (timestamp, url) = rest.split_once("&url=").unwrap();
            let signature = jssdk(ticket, nonce_str, timestamp.parse().unwrap(), url);
            assert_eq!(signature.as_str(), v["signature"].as_str().unwrap());
        }
    }

    #[test]
    fn the_fragment_is_cut_at_the_first_hash() {
        assert_eq!(
            without_fragment("https://a.test/p?q=1#x#y"),
            "https://a.test/p?q=1"
        );
        assert_eq!(without_fragment("https://a.test/p"), "https://a.test/p");
        assert_eq!(without_fragment("#"), "");
    }

    #[test]
    fn a_card_is_signed_over_its_sorted_values() {
        let documented = [
            "123",
            "ojZ8YtyVyr30HheH3CM73y7h4jJE",
            "1434008071",
            "pjZ8Yt1XGILfi-FUsewpnnolGgZk",
            "1404896688",
        ];
        let ours = [
            "simNonce01",
            "1700000000",
            "pSimCard00000000000000000001",
            "SIM_WXCARD_TICKET_1",
        ];
        let expected = &vectors()["card_ext"];
        assert_eq!(card_ext(&documented).as_str(), expected[0]["signature"]);
        assert_eq!(card_ext(&ours).as_str(), expected[1]["signature"]);
    }
}
