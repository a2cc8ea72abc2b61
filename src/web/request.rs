//! Reading requests: queries without surprises, bodies within limits.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use poem::error::ReadBodyError;
use poem::http::{StatusCode, header};
use poem::{Body, Request};
use url::form_urlencoded;

use super::error::Problem;
use crate::timeout::timeout;

/// A body of the platform's or of a page's. Beyond: 413.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Most are no longer.
const USUAL_BODY_BYTES: usize = 4 << 10;
/// A body must arrive within this.
const BODY_WITHIN: Duration = Duration::from_secs(2);

/// The value of a query's parameter. One that stands twice is an error: which is meant?
pub(super) fn parameter<'r>(
    request: &'r Request,
    name: &str,
) -> Result<Option<Cow<'r, str>>, Problem> {
    let query = request.uri().query().unwrap_or_default();
    single(form_urlencoded::parse(query.as_bytes()), name)
}

/// The same of a form.
pub(super) fn single<'a>(
    pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    name: &str,
) -> Result<Option<Cow<'a, str>>, Problem> {
    let mut values = pairs
        .filter(|(given, _)| given == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        // What decoding puts in the place of bytes that are no UTF-8. They could not be given back.
        (Some(value), _) if value.contains(char::REPLACEMENT_CHARACTER) => Err(
            Problem::bad_request("bad_parameter", format!("`{name}` is not UTF-8")),
        ),
        (_, Some(_)) => Err(Problem::bad_request(
            "duplicate_parameter",
            format!("`{name}` stands twice"),
        )),
        (value, None) => Ok(value),
    }
}

/// Reads a body within its limits. It must not be compressed: its size would mean nothing.
pub(super) async fn body(request: &Request, body: Body) -> Result<Vec<u8>, Problem> {
    if request
        .headers()
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        let detail = "send the body without Content-Encoding";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "encoded_body",
            "Unsupported media type",
            detail,
        ));
    }
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let reading = async {
        let mut frames = body.into_bytes_stream();
        let mut read = Vec::with_capacity(length.unwrap_or(0).min(USUAL_BODY_BYTES));
        // Copied: each frame keeps a buffer of the connection's, however few bytes it holds.
        while let Some(frame) = frames.try_next().await? {
            if read.len() + frame.len() > MAX_BODY_BYTES {
                return Err(ReadBodyError::PayloadTooLarge);
            }
            read.extend_from_slice(&frame);
        }
        Ok(read)
    };
    match timeout(BODY_WITHIN, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(ReadBodyError::PayloadTooLarge)) => Err(too_large()),
        Ok(Err(_)) => Err(Problem::bad_request(
            "broken_body",
            "the body did not arrive whole",
        )),
        Err(_) => {
            let detail = "the body took over 2 s to arrive";
            Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "slow_body",
                "Request timeout",
                detail,
            ))
        }
    }
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "Content too large",
        "a body holds 64 KiB at most",
    )
}
