//! What the program at `FORWARD_URL` may answer, and what is an error.

use std::time::Duration;

use crate::wechat::Reply;

/// The longest answer that is read: far over what a reply can hold.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How much of another program's words an error repeats.
const MAX_WORD_CHARS: usize = 40;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What was answered to a forwarded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is said. [`Reply::None`] for 204, an empty body or `{}`.
    Reply(Reply),
    /// 202: the reply comes later, to the reply link.
    Later,
}

impl Answer {
    /// A word for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reply(reply) if reply.is_silent() => "nothing",
            Self::Reply(_) => "reply",
            Self::Later => "later",
        }
    }
}

/// Why a forwarded message has no answer. No text holds the URL, a secret or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection was made, so nothing was sent. Another try may succeed.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// 502, 503 or 504. Another try may succeed.
    #[error("it answered {status}: it is not up, or too busy")]
    Unavailable {
        /// The status.
        status: u16,
        /// How long it asks to be left alone (RFC 9110, section 10.2.3).
        retry_after: Option<Duration>,
    },
    /// It did not come to its turn in time: too many calls are under way. Nothing was sent.
    #[error("too many calls are under way: it is too slow for so many messages")]
    Crowded,
    /// No whole answer in time.
    #[error("no answer within 60 s; for what takes long answer 202 and send the reply later")]
    Timeout,
    /// The other side is not who the URL names, or speaks no TLS.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// The connection broke before the answer was whole.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// A redirect, which is never followed.
    #[error(
        "it answered {0}, a redirect, which is not followed: set FORWARD_URL to where it leads"
    )]
    Redirect(u16),
    /// It is this program that was reached.
    #[error("FORWARD_URL leads back to this program (508)")]
    Loop,
    /// Any other status.
    #[error("it answered {0}; expected 200, 202 or 204")]
    Status(u16),
    /// An answer over 64 KiB.
    #[error("its answer is over 64 KiB")]
    TooLarge,
    /// HTML, most likely.
    #[error("its answer is {0}; expected Content-Type: application/json")]
    NotJson(String),
    /// An answer that says it is JSON and holds no reply.
    #[error("its answer is {0}")]
    NoReply(#[from] NoReply),
}

/// Why a body holds no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// It is not JSON.
    #[error("no valid JSON")]
    Json,
    /// It is JSON of another form.
    #[error("no reply: {0}")]
    Form(String),
}

impl Failure {
    /// A word for metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Unavailable { .. } => "unavailable",
            Self::Crowded => "crowded",
            Self::Timeout => "timeout",
            Self::Tls(_) => "tls",
            Self::Broken(_) => "broken",
            Self::Redirect(_) => "redirect",
            Self::Loop => "loop",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::NotJson(_) => "not_json",
            Self::NoReply(NoReply::Json) => "bad_json",
            Self::NoReply(NoReply::Form(_)) => "bad_reply",
        }
    }

    /// Whether the same message may be sent again at once: it was not taken.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unavailable { .. })
    }
}

/// What a status says by itself; `None` for 200, where the body says it.
pub(super) fn by_status(status: u16, retry_after: Option<&str>) -> Option<Result<Answer, Failure>> {
    Some(match status {
        200 => return None,
        202 => Ok(Answer::Later),
        204 => Ok(Answer::Reply(Reply::None)),
        300..=399 => Err(Failure::Redirect(status)),
        502..=504 => Err(Failure::Unavailable {
            status,
            // The form with a date is for waits that are longer than ours.
            retry_after: retry_after
                .and_then(|seconds| seconds.trim().parse().ok())
                .map(Duration::from_secs),
        }),
        508 => Err(Failure::Loop),
        _ => Err(Failure::Status(status)),
    })
}

/// Reads the body of a 200.
pub(super) fn by_body(content_type: Option<&str>, body: &[u8]) -> Result<Answer, Failure> {
    if without_mark(body).trim_ascii().is_empty() {
        return Ok(Answer::Reply(Reply::None));
    }
    // RFC 9110, section 8.3.1: in any case, and parameters may follow.
    let media_type = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    // RFC 6839, section 3.1.
    if media_type != "application/json" && !media_type.ends_with("+json") {
        return Err(Failure::NotJson(
            word(&media_type).unwrap_or_else(|| "of no known type".to_owned()),
        ));
    }
    Ok(Answer::Reply(read_reply(body)?))
}

/// Reads a reply, `{}` for none.
pub(crate) fn read_reply(body: &[u8]) -> Result<Reply, NoReply> {
    let value: serde_json::Value =
        serde_json::from_slice(without_mark(body)).map_err(|_| NoReply::Json)?;
    let Some(object) = value.as_object() else {
        return Err(NoReply::Form("expected a JSON object".into()));
    };
    if object.is_empty() {
        return Ok(Reply::None);
    }
    let msg_type = object.get("MsgType").and_then(serde_json::Value::as_str);
    let msg_type = msg_type.and_then(word);
    serde_json::from_value(value).map_err(|error: serde_json::Error| {
        let error = error.to_string();
        // What was sent in the place of something else stands in its text, and may be the user's words.
        NoReply::Form(match msg_type {
            _ if error.starts_with("missing ") => error,
            Some(msg_type) if error.ends_with("is no MsgType of a reply") => {
                format!("`{msg_type}` is no MsgType of a reply")
            }
            Some(msg_type) => format!("a member is not as in a reply of the type `{msg_type}`"),
            None => "its MsgType is none of a reply".into(),
        })
    })
}

/// RFC 8259, section 8.1: a reader may ignore a byte order mark. Many an editor puts one into a script.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// A plain word of another program's, as it may stand in a log.
fn word(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/+-_.".contains(c);
    (!text.is_empty() && text.len() <= MAX_WORD_CHARS && text.chars().all(is_plain))
        .then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Result<Answer, Failure> {
        by_body(Some("application/json"), body.as_bytes())
    }

    fn cause(answer: Result<Answer, Failure>) -> &'static str {
        answer.unwrap_err().cause()
    }

    #[test]
    fn a_200_holds_a_reply_or_nothing() {
        let said = |text: &str| Ok(Answer::Reply(text.into()));
        let nothing = Ok(Answer::Reply(Reply::None));
        assert_eq!(by_status(200, None), None);
        assert_eq!(json(r#"{"MsgType":"text","Content":"好"}"#), said("好"));
        assert_eq!(json("{}"), nothing);
        assert_eq!(json(" {} "), nothing);
        assert_eq!(
            json("\u{feff}{\"MsgType\":\"text\",\"Content\":\"好\"}"),
            said("好")
        );
        assert_eq!(json("\u{feff}"), nothing);
        for content_type in [None, Some("text/html")] {
            assert_eq!(by_body(content_type, b" \r\n"), nothing);
        }
    }

    #[test]
    fn json_is_known_by_its_content_type() {
        let body = br#"{"MsgType":"text","Content":"a"}"#;
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.bot+json",
        ] {
            assert!(by_body(Some(good), body).is_ok(), "{good}");
        }
        for bad in [None, Some("text/html"), Some("text/plain"), Some("")] {
            assert_eq!(cause(by_body(bad, body)), "not_json", "{bad:?}");
        }
    }

    #[test]
    fn the_other_statuses_say_it_all() {
        let status = |status| by_status(status, None).unwrap();
        assert_eq!(status(202), Ok(Answer::Later));
        assert_eq!(status(204), Ok(Answer::Reply(Reply::None)));
        for (statuses, expected) in [
            (&[301, 302, 303, 307, 308][..], "redirect"),
            (&[502, 503, 504], "unavailable"),
            (&[508], "loop"),
            (
                &[201, 206, 400, 401, 403, 404, 429, 500, 501, 505],
                "status",
            ),
        ] {
            for &number in statuses {
                let failure = status(number).unwrap_err();
                assert_eq!(failure.cause(), expected, "{number}");
                assert_eq!(failure.may_pass(), expected == "unavailable", "{number}");
            }
        }
    }

    #[test]
    fn a_503_may_say_when_to_come_again() {
        let after = |value| match by_status(503, value) {
            Some(Err(Failure::Unavailable { retry_after, .. })) => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after(Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(after(Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(after(None), None);
    }

    #[test]
    fn what_is_no_reply_is_told_without_its_words() {
        for (body, expected) in [
            ("<html>", "its answer is no valid JSON"),
            (r#"{"MsgType":"#, "its answer is no valid JSON"),
            ("null", "expected a JSON object"),
            (r#""canary""#, "expected a JSON object"),
            (r#"[{}]"#, "expected a JSON object"),
            (r#"{"Content":"canary"}"#, "missing member `MsgType`"),
            (r#"{"MsgType":"text"}"#, "missing member `Content`"),
            (
                r#"{"MsgType":"image","Image":{}}"#,
                "missing field `MediaId`",
            ),
            (r#"{"MsgType":"telegram"}"#, "`telegram` is no MsgType"),
            (r#"{"MsgType":"can ary"}"#, "its MsgType is none"),
            (r#"{"MsgType":7}"#, "its MsgType is none"),
            (
                r#"{"MsgType":"image","Image":"canary"}"#,
                "a member is not as in a reply of the type `image`",
            ),
        ] {
            let said = json(body).unwrap_err().to_string();
            assert!(said.contains(expected), "{body}: {said}");
            assert!(
                !said.contains("canary") && !said.contains("can ary"),
                "{said}"
            );
        }
        let html = by_body(Some("text/html; charset=canary"), b"<html>").unwrap_err();
        assert_eq!(
            html.to_string(),
            "its answer is text/html; expected Content-Type: application/json"
        );
    }
}
