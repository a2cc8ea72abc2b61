//! A request's id, its span in the log, and the headers that every answer carries.

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{Endpoint, FromRequest, Request, RequestBody, Response};
use tracing::Instrument as _;

use super::error::{Problem, into_response, or_panic};
use super::route::{Routes, nowhere};
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

    /// The one of a request on its way.
    pub(super) fn of(request: &Request) -> Option<Self> {
        request.data().map(|given: &Given| given.id)
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

/// What handlers are given with each request, as arguments of the types `&Backend`, [`Shared`] and
/// [`RequestId`].
#[derive(Clone)]
struct Given {
    backend: Arc<Backend>,
    id: RequestId,
}

fn given(request: &Request) -> poem::Result<&Given> {
    // Every request of a handler's has passed `Traced`.
    request.data().ok_or_else(|| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        poem::Error::from_string("a handler outside of the route table", status)
    })
}

impl<'a> FromRequest<'a> for &'a Backend {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(&given(request)?.backend)
    }
}

/// The same for a handler whose work goes on though its caller leaves.
pub(super) struct Shared(pub(super) Arc<Backend>);

impl<'a> FromRequest<'a> for Shared {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(Arc::clone(&given(request)?.backend)))
    }
}

impl<'a> FromRequest<'a> for RequestId {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(given(request)?.id)
    }
}

/// What wraps every route: the request's span, the checks that no route does without, what handlers are
/// given, and the headers of every answer.
pub(super) struct Traced {
    pub(super) backend: Arc<Backend>,
    pub(super) routes: Routes,
}

impl Endpoint for Traced {
    type Output = Response;

    // A request is large: it goes on at once, and no future but its handler's has to hold it.
    fn call(&self, mut request: Request) -> impl Future<Output = poem::Result<Response>> + Send {
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
        let backend = Arc::clone(&self.backend);
        request.set_data(Given { backend, id });
        let mut route = self.routes.find(request.uri().path());
        let answering = if let Some(problem) = refusal(&request) {
            route = None;
            Box::pin(ready(Err(problem.into())))
        } else if let Some(route) = route {
            route.answer(request)
        } else {
            nowhere()
        };
        let answering = async move {
            let answered = or_panic(answering).await;
            let response = match route {
                Some(route) => route.finish(answered),
                None => answered.unwrap_or_else(into_response),
            };
            tracing::debug!(
                status = response.status().as_u16(),
                elapsed_us = began.map(|began| began.elapsed().as_micros()),
                "answered"
            );
            response
        };
        async move {
            let mut response = answering.instrument(span).await;
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
