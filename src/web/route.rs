//! The route table: the endpoints of each path by method, its name in the metrics, its `Allow`, its errors.

use std::future::ready;

use futures_util::future::BoxFuture;
use poem::endpoint::{BoxEndpoint, DynEndpoint};
use poem::error::{MethodNotAllowedError, NotFoundError};
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, EndpointExt as _, Request, Response};
use prometheus::IntCounter;

use super::error::{Problem, into_response};
use crate::telemetry::metrics::HttpMetrics;

/// Endpoints by their exact paths, and one for every other. poem's own table notes in each request and
/// each response which pattern it was, which nobody here reads.
pub(super) struct Routes {
    metrics: HttpMetrics,
    at: Vec<Route>,
    others: Route,
}

/// What answers one path.
pub(super) struct Route {
    /// The path, and its name in the metrics.
    path: &'static str,
    methods: Methods,
    metrics: HttpMetrics,
    /// Counts nearly all answers, so it is looked up once.
    ok: IntCounter,
}

/// The endpoints of one path by method. poem's `RouteMethod` would box a request's future a second time.
pub(super) enum Methods {
    Get(BoxEndpoint<'static, Response>),
    Post(BoxEndpoint<'static, Response>),
    Both {
        get: BoxEndpoint<'static, Response>,
        post: BoxEndpoint<'static, Response>,
    },
    /// It looks at the method itself, and takes GET and HEAD.
    Any(BoxEndpoint<'static, Response>),
}

/// What comes of a request, boxed.
pub(super) type Answering<'a> = BoxFuture<'a, poem::Result<Response>>;

/// Answers GET and HEAD.
pub(super) fn get(endpoint: impl Endpoint<Output = Response> + 'static) -> Methods {
    Methods::Get(endpoint.boxed())
}

/// Answers POST.
pub(super) fn post(endpoint: impl Endpoint<Output = Response> + 'static) -> Methods {
    Methods::Post(endpoint.boxed())
}

impl Methods {
    /// Answers POST beside GET and HEAD.
    pub(super) fn post(self, endpoint: impl Endpoint<Output = Response> + 'static) -> Self {
        let post = endpoint.boxed();
        match self {
            Self::Get(get) | Self::Both { get, .. } => Self::Both { get, post },
            Self::Post(_) => Self::Post(post),
            any @ Self::Any(_) => any,
        }
    }

    /// What a 405 says (RFC 9110, section 15.5.6).
    fn allow(&self) -> &'static str {
        match self {
            Self::Get(_) | Self::Any(_) => "GET, HEAD",
            Self::Post(_) => "POST",
            Self::Both { .. } => "GET, HEAD, POST",
        }
    }

    fn answer(&self, request: Request) -> Answering<'_> {
        match (self, request.method()) {
            (Self::Any(any), _) => start(any, request),
            (Self::Get(get) | Self::Both { get, .. }, &Method::GET) => start(get, request),
            (Self::Post(post) | Self::Both { post, .. }, &Method::POST) => start(post, request),
            (Self::Get(get) | Self::Both { get, .. }, &Method::HEAD) => {
                Box::pin(answer_head(get, request))
            }
            _ => Box::pin(ready(Err(MethodNotAllowedError.into()))),
        }
    }
}

fn start<'a>(endpoint: &'a BoxEndpoint<'static, Response>, request: Request) -> Answering<'a> {
    DynEndpoint::call(&**endpoint, request)
}

/// As GET, without the body (RFC 9110, section 9.3.2).
async fn answer_head(
    get: &BoxEndpoint<'static, Response>,
    mut request: Request,
) -> poem::Result<Response> {
    request.set_method(Method::GET);
    let mut response = start(get, request).await?;
    response.set_body(());
    Ok(response)
}

impl Routes {
    /// A table that gives all paths to one endpoint, which looks at the method itself.
    pub(super) fn new(
        metrics: &HttpMetrics,
        others: impl Endpoint<Output = Response> + 'static,
    ) -> Self {
        Self {
            metrics: metrics.clone(),
            at: Vec::new(),
            others: Route::new(metrics, "/*", Methods::Any(others.boxed())),
        }
    }

    /// Gives one path to its endpoints.
    pub(super) fn at(mut self, path: &'static str, methods: Methods) -> Self {
        self.at.push(Route::new(&self.metrics, path, methods));
        self
    }

    /// What answers a path. Nothing takes `OPTIONS *` and `CONNECT`.
    pub(super) fn find(&self, path: &str) -> Option<&Route> {
        let exact = self.at.iter().find(|route| route.path == path);
        exact.or_else(|| path.starts_with('/').then_some(&self.others))
    }
}

impl Route {
    fn new(metrics: &HttpMetrics, path: &'static str, methods: Methods) -> Self {
        Self {
            path,
            methods,
            metrics: metrics.clone(),
            ok: metrics.requests(path, StatusCode::OK),
        }
    }

    /// Begins to answer a request. No work is done before it is polled.
    pub(super) fn answer(&self, request: Request) -> Answering<'_> {
        self.methods.answer(request)
    }

    /// The response for what came of a request, counted.
    pub(super) fn finish(&self, answered: poem::Result<Response>) -> Response {
        let response = match answered {
            Ok(response) => response,
            Err(error) if error.is::<MethodNotAllowedError>() => self.not_allowed(),
            Err(error) => into_response(error),
        };
        match response.status() {
            StatusCode::OK => self.ok.inc(),
            status => self.metrics.requests(self.path, status).inc(),
        }
        response
    }

    fn not_allowed(&self) -> Response {
        let allow = self.methods.allow();
        let problem = Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method not allowed",
            format!("this address answers {allow}"),
        );
        into_response(problem.with_header(header::ALLOW, allow).into())
    }
}

/// What no route takes.
pub(super) fn nowhere() -> Answering<'static> {
    Box::pin(ready(Err(NotFoundError.into())))
}
