//! A request's id, its span in the log, and the headers that every answer carries.

use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use poem::error::ResponseError as _;
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{Endpoint, Request, Response};
use tracing::Instrument as _;

use super::error::{Problem, response_of};
use super::{Backend, replies};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request target. Beyond: 414.
const MAX_TARGET: usize = 8 << 10;

/// Names a request in the log and, as `X-Request-Id`, to the caller. Ids of others are never taken
/// over: they could hold anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestId(u64);

impl RequestId {
    /// A prefix of this process and a counter: unique, and cheap enough for every request.
    fn next() -> Self {
        static PREFIX: LazyLock<u32> = LazyLock::new(rand::random);
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        Self(u64::from(*PREFIX) << 32 | u64::from(COUNTER.fetch_add(1, Ordering::Relaxed)))
    }
}

/// An id as it is written: 16 hex digits.
struct Digits([u8; 16]);

impl RequestId {
    fn digits(self) -> Digits {
        let mut digits = [0; 16];
        // Two digits for each byte are what there is room for.
        let _ = hex::encode_to_slice(self.0.to_be_bytes(), &mut digits);
        Digits(digits)
    }
}

impl Digits {
    fn as_str(&self) -> &str {
        // Hex digits are ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits().as_str())
    }
}

/// What wraps every route: the request's span, the checks that no route does without, what the routes
/// share, and the headers of every answer.
pub(super) struct Traced<E> {
    pub(super) backend: Arc<Backend>,
    pub(super) routes: E,
}

impl<E: Endpoint<Output = Response>> Endpoint for Traced<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let id = RequestId::next();
        let digits = id.digits();
        let began = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        // The path alone: queries hold codes, signatures and tokens.
        let span = tracing::info_span!(
            "request",
            request_id = digits.as_str(),
            method = request.method().as_str(),
            path = request.uri().path()
        );
        request.set_data(id);
        request.set_data(Arc::clone(&self.backend));
        let mut response = async {
            let response = match refusal(&request) {
                Some(problem) => problem.as_response(),
                None => response_of(self.routes.call(request)).await,
            };
            tracing::debug!(
                status = response.status().as_u16(),
                elapsed_us = began.map(|began| began.elapsed().as_micros()),
                "answered"
            );
            response
        }
        .instrument(span)
        .await;
        let headers = response.headers_mut();
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        if let Ok(id) = HeaderValue::from_str(digits.as_str()) {
            headers.insert(REQUEST_ID, id);
        }
        Ok(response)
    }
}

/// Why no route gets to see a request.
fn refusal(request: &Request) -> Option<Problem> {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Some(Problem::new(
            StatusCode::URI_TOO_LONG,
            "uri_too_long",
            "URI too long",
            "an address holds 8 KiB at most",
        ));
    }
    replies::is_loop(request).then(replies::loop_detected)
}
