//! The route table, and what wraps each route: its name in the metrics, its `Allow`, its errors.

use poem::endpoint::BoxEndpoint;
use poem::error::{MethodNotAllowedError, NotFoundError};
use poem::http::{StatusCode, header};
use poem::{Endpoint, EndpointExt as _, IntoResponse as _, Request, Response};
use prometheus::IntCounter;

use super::error::{Problem, into_response};
use crate::telemetry::metrics::HttpMetrics;

/// Endpoints by their exact paths, and one for every other. poem's own table notes in each request and
/// each response which pattern it was, which nobody here reads.
pub(super) struct Routes {
    at: Vec<(&'static str, BoxEndpoint<'static, Response>)>,
    others: BoxEndpoint<'static, Response>,
}

impl Routes {
    /// A table that gives all paths to one endpoint.
    pub(super) fn new(others: impl Endpoint<Output = Response> + 'static) -> Self {
        Self {
            at: Vec::new(),
            others: others.boxed(),
        }
    }

    /// Gives one path to an endpoint.
    pub(super) fn at(
        mut self,
        path: &'static str,
        endpoint: impl Endpoint<Output = Response> + 'static,
    ) -> Self {
        self.at.push((path, endpoint.boxed()));
        self
    }
}

impl Endpoint for Routes {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path();
        match self.at.iter().find(|(at, _)| *at == path) {
            Some((_, endpoint)) => endpoint.call(request).await,
            None if path.starts_with('/') => self.others.call(request).await,
            None => Err(NotFoundError.into()),
        }
    }
}

/// An endpoint of the table, counted.
pub(super) struct Counted<E> {
    endpoint: E,
    metrics: HttpMetrics,
    name: &'static str,
    /// What a 405 says (RFC 9110, section 15.5.6).
    allow: &'static str,
    /// Nearly all, so it is looked up once.
    ok: IntCounter,
}

/// Wraps an endpoint. `allow` is what its 405 says.
pub(super) fn route<E: Endpoint>(
    metrics: &HttpMetrics,
    name: &'static str,
    allow: &'static str,
    endpoint: E,
) -> Counted<E> {
    Counted {
        endpoint,
        metrics: metrics.clone(),
        name,
        allow,
        ok: metrics.requests(name, StatusCode::OK),
    }
}

impl<E: Endpoint> Endpoint for Counted<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let response = match self.endpoint.call(request).await {
            Ok(response) => response.into_response(),
            Err(error) if error.is::<MethodNotAllowedError>() => not_allowed(self.allow),
            Err(error) => into_response(error),
        };
        match response.status() {
            StatusCode::OK => self.ok.inc(),
            status => self.metrics.requests(self.name, status).inc(),
        }
        Ok(response)
    }
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
