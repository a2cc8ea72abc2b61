//! The one shape of errors: RFC 9457 `application/problem+json`.
//!
//! Two audiences. The caller reads `title`, `detail` (what to do) and a stable `code`; the cause goes
//! to the log, where it is handled.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use poem::Response;
use poem::error::{NotFoundError, ResponseError};
use poem::http::{HeaderName, StatusCode, header};
use serde::Serialize;

use crate::api::{ApiError, advice};
use crate::store::StoreError;

/// A problem to be told to the caller.
#[derive(Debug, thiserror::Error)]
#[error("{} {}: {}", .0.status, .0.code, .0.detail)]
pub(super) struct Problem(Box<Members>);

/// The members of RFC 9457, section 3, and our own.
#[derive(Debug, Serialize)]
struct Members {
    title: &'static str,
    #[serde(serialize_with = "status_as_number")]
    status: StatusCode,
    detail: Cow<'static, str>,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errcode: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errmsg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorize_url: Option<String>,
    #[serde(skip)]
    header: Option<(HeaderName, &'static str)>,
}

fn status_as_number<S: serde::Serializer>(
    status: &StatusCode,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// `code` is stable: programs branch on it. `detail` says what to do.
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let detail = detail.into();
        Self(Box::new(Members {
            title,
            status,
            detail,
            code,
            errcode: None,
            errmsg: None,
            authorize_url: None,
            header: None,
        }))
    }

    /// 400 for what the caller can mend.
    pub(super) fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, "Bad request", detail)
    }

    /// 404.
    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "Not found",
            "there is nothing at this address",
        )
    }

    /// 503 for a store of ours that did not do its part; `cause` is for the log.
    fn store_unavailable(cause: &str) -> Self {
        tracing::error!(cause, "the store failed a request");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store_unavailable",
            "The store is not available",
            "our own store did not answer; try again in a moment",
        )
    }

    /// The same with 503: it is this instance that is not ready.
    pub(super) fn not_ready(mut self) -> Self {
        self.0.status = StatusCode::SERVICE_UNAVAILABLE;
        self
    }

    /// WeChat's return code, where it refused.
    pub(super) fn errcode(&self) -> Option<i64> {
        self.0.errcode
    }

    /// Where the user signs in again.
    pub(super) fn with_authorize_url(mut self, url: String) -> Self {
        self.0.authorize_url = Some(url);
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.header = Some((name, value));
        self
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.0.status
    }

    // Overridden: the default prints the Display text.
    fn as_response(&self) -> Response {
        // A struct of strings and numbers always serializes.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = Response::builder()
            .status(self.0.status)
            .content_type("application/problem+json")
            .header(header::CACHE_CONTROL, "no-store")
            .body(body);
        if let Some((name, value)) = &self.0.header {
            response
                .headers_mut()
                .insert(name.clone(), header::HeaderValue::from_static(value));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::store_unavailable(&error.to_string())
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let (status, code, title) = match &error {
            ApiError::Refused { .. } => (
                StatusCode::BAD_GATEWAY,
                "wechat_refused",
                "WeChat refused the call",
            ),
            ApiError::Nonsense(_) => (
                StatusCode::BAD_GATEWAY,
                "wechat_nonsense",
                "WeChat's answer can't be read",
            ),
            ApiError::Unreachable(_) | ApiError::Network(_) => (
                StatusCode::BAD_GATEWAY,
                "wechat_unreachable",
                "WeChat can't be reached",
            ),
            ApiError::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "wechat_timeout",
                "WeChat did not answer in time",
            ),
            ApiError::Store(error) => return Self::store_unavailable(error),
        };
        let detail = error.errcode().and_then(advice).unwrap_or(match &error {
            ApiError::Refused { .. } => "errcode and errmsg say why",
            _ => "try again in a moment; the log has the cause",
        });
        tracing::warn!(errcode = error.errcode(), %error, "a request failed at WeChat");
        let mut problem = Self::new(status, code, title, detail);
        problem.0.errcode = error.errcode();
        problem.0.errmsg = error.errmsg().map(str::to_owned);
        problem
    }
}

/// Turns poem's own errors into problems.
pub(super) fn into_response(error: poem::Error) -> Response {
    if error.is::<NotFoundError>() {
        return Problem::not_found().as_response();
    }
    if error.is_from_response() || error.is::<Problem>() {
        return error.into_response();
    }
    let status = error.status();
    if status.is_server_error() {
        tracing::error!(%error, "a request failed");
    }
    Problem::new(
        status,
        "bad_request",
        status.canonical_reason().unwrap_or("Error"),
        "the request can't be read",
    )
    .as_response()
}

/// What comes of a request: 500 where its handler panics, while others are untouched.
pub(super) async fn or_panic(
    answering: impl Future<Output = poem::Result<Response>>,
) -> poem::Result<Response> {
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    answered.unwrap_or_else(|_panic| {
        tracing::error!("a request handler panicked");
        let detail = "this is our fault; the log has the cause";
        let problem = Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            detail,
        );
        Err(problem.into())
    })
}
