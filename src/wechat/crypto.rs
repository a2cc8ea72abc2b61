//! The AES envelope of messages and replies (`WXBizMsgCrypt`).
//!
//! WeChat: "消息加解密说明". A plaintext is 16 random bytes, the message's length in bytes as a
//! big-endian `u32`, the message, the AppID, and padding to a multiple of 32 (PKCS#7, but to 32, not
//! to AES's 16). Key: AES-256 in CBC mode, the initial vector is the key's first half.
//!
//! A ciphertext is to be decrypted only after its `msg_signature` held: the errors here tell apart
//! what a stranger must not learn.

mod envelope;

use std::fmt;

use aes::Aes256;
use base64::Engine;
use base64::alphabet;
use base64::engine::{
    DecodePaddingMode,
    general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use zeroize::Zeroizing;

pub use self::envelope::{EncryptedReply, encrypted_reply_xml, read_encrypt, read_encrypted_reply};
use super::id::AppId;

/// Plaintexts are padded to a multiple of this.
const PADDING_BLOCK: usize = 32;
/// The random bytes and the length before the message.
const HEADER: usize = 16 + 4;

/// Real keys end in a character with stray bits, which the standard engine refuses.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// The account's `EncodingAESKey`, as the console shows it: 43 base64 characters for 32 bytes.
#[derive(Clone)]
pub struct EncodingAesKey(Zeroizing<[u8; 32]>);

impl EncodingAesKey {
    /// Decodes the 43 characters. Bits beyond the 32 bytes are ignored.
    ///
    /// # Errors
    ///
    /// [`InvalidAesKey`] for another length or another alphabet.
    pub fn parse(text: &str) -> Result<Self, InvalidAesKey> {
        if text.len() != 43 {
            return Err(InvalidAesKey);
        }
        // The decoder asks for room by the group of four characters.
        let mut bytes = Zeroizing::new([0; 33]);
        match LENIENT.decode_slice(text, bytes.as_mut_slice()) {
            Ok(32) => {}
            _ => return Err(InvalidAesKey),
        }
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&bytes[..32]);
        Ok(Self(key))
    }
}

impl fmt::Debug for EncodingAesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A text that is no `EncodingAESKey`. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an EncodingAESKey: expected 43 of letters, digits, `+` and `/`")]
pub struct InvalidAesKey;

/// Encrypts and decrypts for one account by one key.
pub struct Cipher {
    aes: Aes256,
    iv: [u8; 16],
    appid: AppId,
}

impl Cipher {
    /// Expands the key once, so that a message pays for its own blocks only.
    pub fn new(key: &EncodingAesKey, appid: AppId) -> Self {
        let mut iv = [0; 16];
        iv.copy_from_slice(&key.0[..16]);
        let key: &[u8; 32] = &key.0;
        Self {
            aes: Aes256::new(key.into()),
            iv,
            appid,
        }
    }

    /// The text of `Encrypt` for a message. `random` must be unforeseeable.
    pub fn encrypt(&self, message: &str, random: [u8; 16]) -> String {
        let appid = self.appid.as_str();
        let length = HEADER + message.len() + appid.len();
        let padding = PADDING_BLOCK - length % PADDING_BLOCK;
        let total = length + padding;

        let mut buffer = Vec::with_capacity(total);
        buffer.extend_from_slice(&random);
        #[expect(
            clippy::expect_used,
            reason = "a reply is a few KiB, and the protocol knows no other length"
        )]
        let message_length = u32::try_from(message.len()).expect("a message under 4 GiB");
        buffer.extend_from_slice(&message_length.to_be_bytes());
        buffer.extend_from_slice(message.as_bytes());
        buffer.extend_from_slice(appid.as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "1 to 32")]
        buffer.resize(total, padding as u8);

        let encryptor = cbc::Encryptor::inner_iv_init(&self.aes, (&self.iv).into());
        #[expect(
            clippy::expect_used,
            reason = "the buffer is whole blocks by its making"
        )]
        encryptor
            .encrypt_padded::<NoPadding>(&mut buffer, total)
            .expect("whole blocks");
        STANDARD.encode(&buffer)
    }

    /// The message inside the text of an `Encrypt`, every part of the envelope checked.
    ///
    /// # Errors
    ///
    /// [`CryptoError`] says which check failed, for the log.
    pub fn decrypt(&self, encrypt: &str) -> Result<String, CryptoError> {
        let mut buffer = STANDARD.decode(encrypt).map_err(|_| CryptoError::Base64)?;
        if buffer.is_empty() || buffer.len() % PADDING_BLOCK != 0 {
            return Err(CryptoError::Length);
        }
        let decryptor = cbc::Decryptor::inner_iv_init(&self.aes, (&self.iv).into());
        decryptor
            .decrypt_padded::<NoPadding>(&mut buffer)
            .map_err(|_| CryptoError::Length)?;

        let content = without_padding(&buffer)?;
        let (header, rest) = content.split_at_checked(HEADER).ok_or(CryptoError::Frame)?;
        let message_length = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
        let message_length = usize::try_from(message_length).map_err(|_| CryptoError::Frame)?;
        let (_, appid) = rest
            .split_at_checked(message_length)
            .ok_or(CryptoError::Frame)?;
        if appid != self.appid.as_str().as_bytes() {
            return Err(CryptoError::AppId);
        }
        buffer.truncate(HEADER + message_length);
        buffer.drain(..HEADER);
        String::from_utf8(buffer).map_err(|_| CryptoError::Utf8)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher")
            .field("appid", &self.appid)
            .finish_non_exhaustive()
    }
}

/// Why a ciphertext was refused. For the log only: every refusal gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// Not standard base64 with its padding.
    #[error("the ciphertext is not base64")]
    Base64,
    /// Empty, or no multiple of 32 bytes.
    #[error("the ciphertext is no multiple of 32 bytes")]
    Length,
    /// The padding is not 1 to 32 equal bytes of their number: most likely another key.
    #[error("the padding is wrong, the EncodingAESKey may be another one")]
    Padding,
    /// The length field points outside the plaintext.
    #[error("the length field does not fit the plaintext")]
    Frame,
    /// The message was encrypted for another account.
    #[error("the AppID inside is not ours")]
    AppId,
    /// The message is no UTF-8.
    #[error("the message is not UTF-8")]
    Utf8,
}

fn without_padding(plain: &[u8]) -> Result<&[u8], CryptoError> {
    let padding = usize::from(*plain.last().ok_or(CryptoError::Length)?);
    if !(1..=PADDING_BLOCK).contains(&padding) {
        return Err(CryptoError::Padding);
    }
    let (content, tail) = plain
        .split_at_checked(plain.len() - padding)
        .ok_or(CryptoError::Padding)?;
    if tail.iter().all(|&byte| usize::from(byte) == padding) {
        Ok(content)
    } else {
        Err(CryptoError::Padding)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wechat::vectors;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn cipher() -> Cipher {
        let key = EncodingAesKey::parse(KEY).unwrap();
        Cipher::new(&key, AppId::parse("wx0000000000000sim").unwrap())
    }

    /// Encrypts a plaintext that is already padded, or wrongly so.
    fn seal(plain: &[u8]) -> String {
        let cipher = cipher();
        let mut buffer = plain.to_vec();
        cbc::Encryptor::inner_iv_init(&cipher.aes, (&cipher.iv).into())
            .encrypt_padded::<NoPadding>(&mut buffer, plain.len())
            .unwrap();
        STANDARD.encode(buffer)
    }

    fn plaintext(length: u32, message: &[u8], appid: &str, padding: &[u8]) -> Vec<u8> {
        [
            &[7; 16],
            length.to_be_bytes().as_slice(),
            message,
            appid.as_bytes(),
            padding,
        ]
        .concat()
    }

    #[test]
    fn all_vectors_hold_in_both_directions() {
        for v in vectors()["msg_crypt"].as_array().unwrap() {
            let text = |name: &str| v[name].as_str().unwrap();
            let key = EncodingAesKey::parse(text("EncodingAESKey")).unwrap();
            assert_eq!(hex::encode(*key.0), text("key_hex"), "{}", v["name"]);
            let cipher = Cipher::new(&key, AppId::parse(text("appid")).unwrap());
            let random = text("random").as_bytes().try_into().unwrap();
            assert_eq!(
                cipher.encrypt(text("msg"), random),
                text("Encrypt"),
                "{}",
                v["name"]
            );
            assert_eq!(cipher.decrypt(text("Encrypt")).as_deref(), Ok(text("msg")));
        }
    }

    #[test]
    fn a_key_is_43_characters_of_base64() {
        for bad in [
            "",
            &KEY[1..],
            &format!("{KEY}8"),
            &KEY.replace('A', "-"),
            &KEY.replace('A', "="),
            &format!("{}=", &KEY[1..]),
        ] {
            assert_eq!(
                EncodingAesKey::parse(bad).unwrap_err(),
                InvalidAesKey,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_key_prints_stars() {
        assert_eq!(format!("{:?}", EncodingAesKey::parse(KEY).unwrap()), "***");
        assert!(!format!("{:?}", cipher()).contains("aes"));
    }

    #[test]
    fn base64_is_strict() {
        let good = cipher().encrypt("hello", [1; 16]);
        assert_eq!(cipher().decrypt(&good).as_deref(), Ok("hello"));
        let unpadded = good.trim_end_matches('=');
        let bad = [
            unpadded.to_owned(),
            format!("{good}="),
            format!("{good}\n"),
            format!(" {good}"),
            good.replace('/', "_").replace('+', "-") + "_",
            format!("{}\n{}", &good[..10], &good[10..]),
        ];
        for bad in bad {
            assert_eq!(cipher().decrypt(&bad), Err(CryptoError::Base64), "{bad:?}");
        }
    }

    #[test]
    fn a_ciphertext_is_whole_blocks_of_32() {
        assert_eq!(cipher().decrypt(""), Err(CryptoError::Length));
        for length in [1, 16, 31, 33, 48] {
            assert_eq!(
                cipher().decrypt(&STANDARD.encode(vec![0; length])),
                Err(CryptoError::Length)
            );
        }
    }

    #[test]
    fn every_byte_of_the_padding_is_checked() {
        let appid = "wx0000000000000sim";
        let good = plaintext(5, b"hello", appid, &[21; 21]);
        assert_eq!(cipher().decrypt(&seal(&good)).as_deref(), Ok("hello"));
        for at in 43..64 {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert_eq!(
                cipher().decrypt(&seal(&bad)),
                Err(CryptoError::Padding),
                "byte {at}"
            );
        }
        for last in [0, 33, 255] {
            assert_eq!(
                cipher().decrypt(&seal(&[last; 64])),
                Err(CryptoError::Padding)
            );
        }
    }

    #[test]
    fn the_length_field_stays_within_the_plaintext() {
        let appid = "wx0000000000000sim";
        for length in [24, 44, 1000, u32::MAX] {
            let bad = plaintext(length, b"hello", appid, &[21; 21]);
            assert_eq!(
                cipher().decrypt(&seal(&bad)),
                Err(CryptoError::Frame),
                "{length}"
            );
        }
        // Shorter than the header itself.
        for padding in [13, 20, 32] {
            assert_eq!(
                cipher().decrypt(&seal(&[padding; 32])),
                Err(CryptoError::Frame)
            );
        }
    }

    #[test]
    fn a_message_for_another_account_is_refused() {
        for appid in [
            "wx0000000000000sin",
            "wx0000000000000si",
            "",
            "xwx0000000000000sim",
        ] {
            let length = 25 + appid.len();
            let padding = 32 - length % 32;
            let plain = plaintext(5, b"hello", appid, &vec![padding as u8; padding]);
            assert_eq!(
                cipher().decrypt(&seal(&plain)),
                Err(CryptoError::AppId),
                "{appid:?}"
            );
        }
    }

    #[test]
    fn a_message_is_utf8() {
        let plain = plaintext(5, b"he\xffll", "wx0000000000000sim", &[21; 21]);
        assert_eq!(cipher().decrypt(&seal(&plain)), Err(CryptoError::Utf8));
    }

    #[test]
    fn another_key_reads_nothing() {
        let key = EncodingAesKey::parse(&KEY.replace('A', "B")).unwrap();
        let other = Cipher::new(&key, AppId::parse("wx0000000000000sim").unwrap());
        assert!(other.decrypt(&cipher().encrypt("hello", [1; 16])).is_err());
    }

    proptest! {
        #[test]
        fn what_was_encrypted_is_decrypted(message in "(?s).{0,200}", random: [u8; 16]) {
            let cipher = cipher();
            prop_assert_eq!(cipher.decrypt(&cipher.encrypt(&message, random)), Ok(message));
        }

        #[test]
        fn no_ciphertext_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(cipher().decrypt(&STANDARD.encode(&bytes)).is_err());
        }

        #[test]
        fn no_plaintext_makes_it_panic(blocks in 1_usize..4, last: u8, bytes: [u8; 128]) {
            let mut plain = bytes[..blocks * 32].to_vec();
            let end = plain.len() - usize::from(last % 33).min(plain.len());
            plain[end..].fill(last % 33);
            prop_assert!(cipher().decrypt(&seal(&plain)).is_err());
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = EncodingAesKey::parse(&text);
            let _ = cipher().decrypt(&text);
        }
    }
}
