//! The XML around a ciphertext: what comes in, and what goes out.

use std::borrow::Cow;

use crate::wechat::signature::Signature;
use crate::wechat::xml::{self, Element, XmlError};

/// The text of `Encrypt` in an incoming body, `None` where the body has none. What else stands
/// beside it is not authentic and not read.
///
/// # Errors
///
/// [`XmlError`] for what is no XML, and for a second `Encrypt`.
pub fn read_encrypt(body: &[u8]) -> Result<Option<Cow<'_, str>>, XmlError> {
    let mut root = xml::parse(body)?;
    take(&mut root, "Encrypt")
}

/// An encrypted reply as it went over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedReply {
    /// The ciphertext, base64.
    pub encrypt: String,
    /// To be compared with [`sign_encrypted`](crate::wechat::signature::sign_encrypted) over the other three.
    pub msg_signature: String,
    /// Unix seconds as they were signed.
    pub timestamp: String,
    /// As it was signed.
    pub nonce: String,
}

/// Writes an encrypted reply. `timestamp` (Unix seconds) and `nonce` are those of the signature.
pub fn encrypted_reply_xml(
    encrypt: &str,
    msg_signature: &Signature,
    timestamp: i64,
    nonce: &str,
) -> String {
    let mut out = String::with_capacity(encrypt.len() + nonce.len() + 224);
    out.push_str("<xml>");
    xml::push_cdata(&mut out, "Encrypt", encrypt);
    xml::push_cdata(&mut out, "MsgSignature", msg_signature.as_str());
    xml::push_number(&mut out, "TimeStamp", timestamp);
    xml::push_cdata(&mut out, "Nonce", nonce);
    out.push_str("</xml>");
    out
}

/// Reads an encrypted reply, as the platform does.
///
/// # Errors
///
/// [`XmlError`] for what is no XML, for a member that is missing and for one that stands twice.
pub fn read_encrypted_reply(body: &[u8]) -> Result<EncryptedReply, XmlError> {
    let mut root = xml::parse(body)?;
    let mut member = |name| {
        take(&mut root, name)?
            .map(Cow::into_owned)
            .ok_or(XmlError::Missing(name))
    };
    Ok(EncryptedReply {
        encrypt: member("Encrypt")?,
        msg_signature: member("MsgSignature")?,
        timestamp: member("TimeStamp")?.trim().to_owned(),
        nonce: member("Nonce")?,
    })
}

fn take<'x>(root: &mut Element<'x>, name: &'static str) -> Result<Option<Cow<'x, str>>, XmlError> {
    let mut named = root.children.iter_mut().filter(|child| child.name == name);
    let found = named.next();
    if named.next().is_some() {
        return Err(XmlError::Duplicate(name));
    }
    Ok(found.map(|child| std::mem::take(&mut child.text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::crypto::{Cipher, EncodingAesKey};
    use crate::wechat::id::AppId;
    use crate::wechat::signature::sign_encrypted;
    use crate::wechat::vectors;

    macro_rules! sample {
        ($path:literal) => {
            include_bytes!(concat!("../../../tests/fixtures/", $path)).as_slice()
        };
    }

    #[test]
    fn encrypt_is_found_in_safe_and_in_compatible_mode() {
        let safe = read_encrypt(sample!("messages/_envelope_safe_mode.xml")).unwrap();
        assert_eq!(safe.as_deref(), Some("BASE64_CIPHERTEXT_SEE_VECTORS_V2"));
        let compatible = read_encrypt(sample!("messages/_envelope_compat_mode.xml")).unwrap();
        assert_eq!(
            compatible.as_deref(),
            Some("BASE64_CIPHERTEXT_OF_THE_SAME_XML")
        );
        assert_eq!(read_encrypt(sample!("messages/text.xml")), Ok(None));
    }

    #[test]
    fn encrypt_stands_once_and_at_the_top() {
        let twice = b"<xml><Encrypt>a</Encrypt><Encrypt>b</Encrypt></xml>";
        assert_eq!(read_encrypt(twice), Err(XmlError::Duplicate("Encrypt")));
        assert_eq!(
            read_encrypt(b"<xml><a><Encrypt>b</Encrypt></a></xml>"),
            Ok(None)
        );
    }

    #[test]
    fn an_encrypted_reply_is_written_as_documented() {
        let v = &vectors()["msg_crypt"][2];
        let text = |name: &str| v[name].as_str().unwrap();
        let key = EncodingAesKey::parse(text("EncodingAESKey")).unwrap();
        let cipher = Cipher::new(&key, AppId::parse(text("appid")).unwrap());
        let encrypt = cipher.encrypt(text("msg"), text("random").as_bytes().try_into().unwrap());
        let signature = sign_encrypted(text("token"), text("timestamp"), text("nonce"), &encrypt);
        let written = encrypted_reply_xml(&encrypt, &signature, 1_700_000_001, text("nonce"));

        let sample = sample!("replies/_envelope_encrypted_reply.xml");
        assert_eq!(written, str::from_utf8(sample).unwrap().replace('\n', ""));
        let read = read_encrypted_reply(sample).unwrap();
        assert_eq!(read, read_encrypted_reply(written.as_bytes()).unwrap());
        assert_eq!(
            (&*read.timestamp, &*read.nonce),
            (text("timestamp"), text("nonce"))
        );
        assert!(signature.matches(&read.msg_signature));
        assert_eq!(cipher.decrypt(&read.encrypt).as_deref(), Ok(text("msg")));
    }

    #[test]
    fn an_encrypted_reply_has_all_four_members() {
        let whole = str::from_utf8(sample!("replies/_envelope_encrypted_reply.xml")).unwrap();
        for name in ["Encrypt", "MsgSignature", "TimeStamp", "Nonce"] {
            let without = whole.replace(&format!("{name}>"), "Other>");
            assert_eq!(
                read_encrypted_reply(without.as_bytes()),
                Err(XmlError::Missing(name))
            );
        }
    }
}
