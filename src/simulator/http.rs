//! Small pieces of HTTP that all sides of the simulator use: queries, bodies, answers.

use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, Request, Response};
use serde_json::Value;

/// The most a request body may hold: the largest media file is 10 MB.
const BODY_LIMIT: usize = 12 << 20;

/// A query or a form: pairs in the order they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The query of a request.
    pub(crate) fn of(request: &Request) -> Self {
        Self::parse(request.original_uri().query().unwrap_or("").as_bytes())
    }

    /// The first value of that name; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Reads the body, up to 12 MiB.
///
/// # Errors
///
/// The answer to give: 413 for a larger body, 400 for one that breaks off.
pub(crate) async fn body(request: Request) -> Result<Vec<u8>, Response> {
    use poem::error::ReadBodyError;
    match request.into_body().into_bytes_limit(BODY_LIMIT).await {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(ReadBodyError::PayloadTooLarge) => {
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, "body too large"))
        }
        Err(_) => Err(text(StatusCode::BAD_REQUEST, "body broke off")),
    }
}

/// An answer with a body of that type.
pub(crate) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(body);
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(crate) fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    answer(status, "text/plain; charset=utf-8", body)
}

pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    answer(status, "application/json; charset=utf-8", value.to_string())
}

/// A page under a policy of its own.
pub(crate) fn html(page: String, policy: &'static str) -> Response {
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", page);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    );
    response
}

pub(crate) fn with_header(
    mut response: Response,
    name: header::HeaderName,
    value: HeaderValue,
) -> Response {
    response.headers_mut().insert(name, value);
    response
}
