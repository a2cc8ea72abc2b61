//! A request's id, its span in the log, and the headers that every answer carries.

use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use poem::error::ResponseError as _;
use poem::http::{HeaderValue, header};
use poem::{Endpoint, Request, Response};
use tracing::Instrument as _;

use super::error::Problem;

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

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The outermost layer.
pub(super) async fn trace<E: Endpoint<Output = Response>>(
    endpoint: Arc<E>,
    mut request: Request,
) -> poem::Result<Response> {
    let id = RequestId::next();
    request.set_data(id);
    // The path alone: queries hold codes, signatures and tokens.
    let span = tracing::info_span!("request", request_id = %id, method = %request.method(), path = request.uri().path());
    let began = Instant::now();
    let is_too_long = request
        .uri()
        .path_and_query()
        .is_some_and(|target| target.as_str().len() > MAX_TARGET);
    let mut response = async {
        let response = if is_too_long {
            Problem::new(
                poem::http::StatusCode::URI_TOO_LONG,
                "uri_too_long",
                "URI too long",
                "an address holds 8 KiB at most",
            )
            .as_response()
        } else {
            match endpoint.call(request).await {
                Ok(response) => response,
                Err(error) => super::error::into_response(error),
            }
        };
        tracing::debug!(
            status = response.status().as_u16(),
            elapsed_us = began.elapsed().as_micros(),
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
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-request-id", id);
    }
    Ok(response)
}
