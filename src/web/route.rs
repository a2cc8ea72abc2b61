//! What wraps each route: its name in the metrics, its `Allow`, its errors.

use poem::error::MethodNotAllowedError;
use poem::http::{StatusCode, header};
use poem::{Endpoint, EndpointExt as _, Request, Response};

use super::error::{Problem, into_response};
use crate::telemetry::metrics::HttpMetrics;

/// Wraps an endpoint. `allow` is what its 405 says (RFC 9110, section 15.5.6).
pub(super) fn route<E: Endpoint + 'static>(
    metrics: &HttpMetrics,
    name: &'static str,
    allow: &'static str,
    endpoint: E,
) -> impl Endpoint<Output = Response> + use<E> {
    let metrics = metrics.clone();
    // Nearly all, so it is looked up once.
    let ok = metrics.requests(name, StatusCode::OK);
    endpoint
        .map_to_response()
        .around(move |endpoint, request: Request| {
            let (metrics, ok) = (metrics.clone(), ok.clone());
            async move {
                let response = match endpoint.call(request).await {
                    Ok(response) => response,
                    Err(error) if error.is::<MethodNotAllowedError>() => not_allowed(allow),
                    Err(error) => into_response(error),
                };
                match response.status() {
                    StatusCode::OK => ok.inc(),
                    status => metrics.requests(name, status).inc(),
                }
                Ok(response)
            }
        })
}

fn not_allowed(allow: &'static str) -> Response {
    let problem = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "Method not allowed",
        format!("this address answers {allow}"),
    );
    into_response(problem.with_header(header::ALLOW, allow).into())
}
