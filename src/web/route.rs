//! What wraps each route: its name in the metrics, its `Allow`, its errors.

use std::sync::Arc;

use poem::error::MethodNotAllowedError;
use poem::http::{StatusCode, header};
use poem::{Endpoint, EndpointExt as _, Request, Response};

use super::Backend;
use super::error::{Problem, into_response};

/// Wraps an endpoint. `allow` is what its 405 says (RFC 9110, section 15.5.6).
pub(super) fn route<E: Endpoint + 'static>(
    name: &'static str,
    allow: &'static str,
    endpoint: E,
) -> impl Endpoint<Output = Response> {
    endpoint
        .map_to_response()
        .around(move |endpoint, request: Request| async move {
            let backend = request.data::<Arc<Backend>>().cloned();
            let response = match endpoint.call(request).await {
                Ok(response) => response,
                Err(error) if error.is::<MethodNotAllowedError>() => {
                    let detail = format!("this address answers {allow}");
                    let problem = Problem::new(
                        StatusCode::METHOD_NOT_ALLOWED,
                        "method_not_allowed",
                        "Method not allowed",
                        detail,
                    )
                    .with_header(header::ALLOW, allow);
                    into_response(problem.into())
                }
                Err(error) => into_response(error),
            };
            if let Some(backend) = backend {
                backend
                    .metrics
                    .http
                    .count_request(name, response.status().as_u16());
            }
            Ok(response)
        })
}
