//! The query of a delivery, parsed once and strictly.
//!
//! The signature is a digest of sorted, glued values: timestamp and nonce can be swapped, digits can
//! move between them, and a nonce could swallow the start of a ciphertext, all with the same digest.
//! So each value must have its exact format, and each parameter may stand once.

use std::borrow::Cow;

use memchr::memchr;
use percent_encoding::percent_decode_str;

use super::id::OpenId;

/// The parameters that the platform appends to the callback address. Values are percent-decoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryQuery<'q> {
    /// 40 lower-case hex digits, see [`super::signature::sign`].
    pub signature: Cow<'q, str>,
    /// Unix seconds in ten digits, as signed.
    pub timestamp: Cow<'q, str>,
    /// 1 to 32 letters and digits.
    pub nonce: Cow<'q, str>,
    /// 40 lower-case hex digits, see [`super::signature::sign_encrypted`].
    pub msg_signature: Option<Cow<'q, str>>,
    /// What the URL check wants back. Not yet checked: see [`is_echostr`].
    pub echostr: Option<Cow<'q, str>>,
    /// The sender, as the query says. Not signed, so not to be trusted; `None` where malformed.
    pub openid: Option<OpenId>,
    /// `aes`, `raw` or nothing. Not signed: the settings decide what must be encrypted.
    pub encrypt_type: Option<Cow<'q, str>>,
}

impl<'q> DeliveryQuery<'q> {
    /// Parses the raw query, without its `?`. Parameters of other names are ignored.
    ///
    /// # Errors
    ///
    /// A required parameter that is missing, one that stands twice, one of a wrong format.
    pub fn parse(raw_query: &'q str) -> Result<Self, QueryError> {
        let mut signature = None;
        let mut timestamp = None;
        let mut nonce = None;
        let mut msg_signature = None;
        let mut echostr = None;
        let mut openid = None;
        let mut encrypt_type = None;
        let mut rest = Some(raw_query);
        while let Some(pairs) = rest {
            let (pair, others) = cut(pairs, b'&');
            rest = others;
            let (name, value) = cut(pair, b'=');
            let value = value.unwrap_or_default();
            let (name, slot) = match name {
                "signature" => ("signature", &mut signature),
                "timestamp" => ("timestamp", &mut timestamp),
                "nonce" => ("nonce", &mut nonce),
                "msg_signature" => ("msg_signature", &mut msg_signature),
                "echostr" => ("echostr", &mut echostr),
                "openid" => ("openid", &mut openid),
                "encrypt_type" => ("encrypt_type", &mut encrypt_type),
                _ => continue,
            };
            // No form decoding: a `+` is a `+`, as in base64. Bytes that are no UTF-8 become U+FFFD,
            // which no format below allows.
            let value = if memchr(b'%', value.as_bytes()).is_some() {
                percent_decode_str(value).decode_utf8_lossy()
            } else {
                Cow::Borrowed(value)
            };
            if slot.replace(value).is_some() {
                return Err(QueryError::Duplicate(name));
            }
        }
        Ok(Self {
            signature: required("signature", signature, is_signature)?,
            timestamp: required("timestamp", timestamp, is_timestamp)?,
            nonce: required("nonce", nonce, is_nonce)?,
            msg_signature: checked("msg_signature", msg_signature, is_signature)?,
            echostr,
            openid: openid.and_then(|text| OpenId::parse(&text).ok()),
            encrypt_type,
        })
    }

    /// `timestamp` as Unix seconds.
    pub fn timestamp_seconds(&self) -> i64 {
        self.timestamp
            .bytes()
            .fold(0, |seconds, digit| seconds * 10 + i64::from(digit - b'0'))
    }
}

/// Why a query is refused. For the log only: every refusal gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A required parameter is not there.
    #[error("the parameter `{0}` is missing")]
    Missing(&'static str),
    /// A parameter stands twice.
    #[error("the parameter `{0}` stands twice")]
    Duplicate(&'static str),
    /// A parameter has not its exact format.
    #[error("the parameter `{0}` is malformed")]
    Malformed(&'static str),
}

/// Whether a text may be answered to the URL check: anything else could be a page with a script.
pub fn is_echostr(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'/' | b'=' | b'-'))
}

/// What stands before the first `at`, and after it.
fn cut(text: &str, at: u8) -> (&str, Option<&str>) {
    match memchr(at, text.as_bytes()) {
        Some(found) => (&text[..found], Some(&text[found + 1..])),
        None => (text, None),
    }
}

fn required<'q>(
    name: &'static str,
    value: Option<Cow<'q, str>>,
    is_valid: fn(&str) -> bool,
) -> Result<Cow<'q, str>, QueryError> {
    checked(name, value, is_valid)?.ok_or(QueryError::Missing(name))
}

fn checked<'q>(
    name: &'static str,
    value: Option<Cow<'q, str>>,
    is_valid: fn(&str) -> bool,
) -> Result<Option<Cow<'q, str>>, QueryError> {
    match value {
        Some(text) if !is_valid(&text) => Err(QueryError::Malformed(name)),
        value => Ok(value),
    }
}

fn is_signature(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_timestamp(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_nonce(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "805c5335a35fb1aef061a3affd611cf32e05d0e6";

    fn query(timestamp: &str, nonce: &str) -> String {
        format!("signature={SIGNATURE}&timestamp={timestamp}&nonce={nonce}")
    }

    #[track_caller]
    fn refused(raw: &str, error: QueryError) {
        assert_eq!(DeliveryQuery::parse(raw), Err(error), "{raw}");
    }

    #[test]
    fn a_delivery_of_the_platform_is_read() {
        let raw = format!(
            "{}&openid=oFan1&encrypt_type=aes&msg_signature={SIGNATURE}&other=1&other=2",
            query("1700000000", "1320562132")
        );
        let query = DeliveryQuery::parse(&raw).unwrap();
        assert_eq!(query.signature, SIGNATURE);
        assert_eq!(query.timestamp, "1700000000");
        assert_eq!(query.timestamp_seconds(), 1_700_000_000);
        assert_eq!(query.nonce, "1320562132");
        assert_eq!(query.msg_signature.as_deref(), Some(SIGNATURE));
        assert_eq!(query.openid, Some(OpenId::parse("oFan1").unwrap()));
        assert_eq!(query.encrypt_type.as_deref(), Some("aes"));
        assert_eq!(query.echostr, None);
    }

    #[test]
    fn values_are_decoded_once_and_a_plus_stays_a_plus() {
        let raw = format!("{}&echostr=a+b%2Bc%252F", query("17000%30000%30", "n"));
        let query = DeliveryQuery::parse(&raw).unwrap();
        assert_eq!(query.timestamp, "1700000000");
        assert_eq!(query.echostr.as_deref(), Some("a+b+c%2F"));
    }

    #[test]
    fn a_missing_parameter_is_named() {
        refused("", QueryError::Missing("signature"));
        refused(
            &format!("signature={SIGNATURE}&nonce=1"),
            QueryError::Missing("timestamp"),
        );
        refused(
            &format!("signature={SIGNATURE}&timestamp=1700000000"),
            QueryError::Missing("nonce"),
        );
    }

    #[test]
    fn a_known_parameter_stands_once() {
        let query = query("1700000000", "1");
        for name in [
            "signature",
            "timestamp",
            "nonce",
            "msg_signature",
            "echostr",
            "openid",
            "encrypt_type",
        ] {
            refused(
                &format!("{query}&{name}=1&{name}=1"),
                QueryError::Duplicate(name),
            );
            refused(
                &format!("{query}&{name}&{name}"),
                QueryError::Duplicate(name),
            );
        }
    }

    #[test]
    fn formats_are_exact() {
        for timestamp in [
            "",
            "170000000",
            "17000000000",
            "-700000000",
            "170000000a",
            "１700000",
        ] {
            refused(&query(timestamp, "1"), QueryError::Malformed("timestamp"));
        }
        for nonce in ["", "a b", "a+b", "a-b", "%E4%BD%A0", "%ff", &"1".repeat(33)] {
            refused(&query("1700000000", nonce), QueryError::Malformed("nonce"));
        }
        for signature in [
            "",
            "805c",
            &SIGNATURE.to_uppercase(),
            &SIGNATURE.replace('8', "g"),
        ] {
            let rest = "timestamp=1700000000&nonce=1";
            refused(
                &format!("signature={signature}&{rest}"),
                QueryError::Malformed("signature"),
            );
            refused(
                &format!("signature={SIGNATURE}&{rest}&msg_signature={signature}"),
                QueryError::Malformed("msg_signature"),
            );
        }
    }

    #[test]
    fn an_echostr_is_short_and_plain() {
        assert!(is_echostr("5838479218127813673"));
        assert!(is_echostr("aZ09_+/=-"));
        assert!(is_echostr(&"a".repeat(256)));
        for bad in [
            "",
            "<script>",
            "a b",
            "a\n",
            "é",
            "\u{fffd}",
            "a%2F",
            &"a".repeat(257),
        ] {
            assert!(!is_echostr(bad), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(raw in ".*") {
            if let Ok(query) = DeliveryQuery::parse(&raw) {
                query.timestamp_seconds();
            }
        }
    }
}
