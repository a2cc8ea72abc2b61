//! The backend's HTTP: the route table, and what wraps every route.

use std::sync::Arc;

use poem::{Endpoint, Response, get, post};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Client, Skew};
use crate::audit::Audit;
use crate::config::PublicUrl;
use crate::jssdk::JsSdk;
use crate::keys::{Admin, Gate};
use crate::ledger::Ledger;
use crate::oauth::{BrowserKey, OAuth};
use crate::receiver::Receiver;
use crate::reply_link::{self, ReplyLinks};
use crate::store::Store;
use crate::telemetry::Occasionally;
use crate::telemetry::metrics::Metrics;

mod callback;
mod cookies;
mod error;
mod files;
mod headers;
mod health;
mod jssdk;
mod management;
mod oauth;
mod pages;
mod replies;
mod request;
mod route;
mod trace;

pub(crate) use files::Files;
pub(crate) use headers::PagePolicy;
pub(crate) use pages::Demo;

use route::{Routes, route};
use trace::Traced;

/// What the routes share.
pub(crate) struct Backend {
    pub(crate) receiver: Receiver,
    pub(crate) ledger: Ledger,
    pub(crate) api: Client,
    pub(crate) oauth: OAuth,
    pub(crate) browser_key: BrowserKey,
    pub(crate) jssdk: JsSdk,
    pub(crate) reply_links: ReplyLinks,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) skew: Arc<Skew>,
    pub(crate) metrics: Metrics,
    pub(crate) admin: Option<Admin>,
    pub(crate) gate: Gate,
    pub(crate) audit: Audit,
    pub(crate) public_url: PublicUrl,
    pub(crate) jssdk_url: String,
    pub(crate) files: Files,
    pub(crate) policy: PagePolicy,
    /// `None` outside of the demo.
    pub(crate) demo: Option<Demo>,
    /// Lets the log tell of the URL check without being flooded by whoever repeats one.
    pub(crate) verified: Occasionally,
    /// What must end before the process does.
    pub(crate) tasks: TaskTracker,
    /// Cancelled on SIGTERM.
    pub(crate) shutdown: CancellationToken,
}

/// Every route of the backend.
pub(crate) fn routes(backend: Arc<Backend>) -> impl Endpoint<Output = Response> {
    let http = &backend.metrics.http.clone();
    let js_config = || get(jssdk::get_js_config).post(jssdk::post_js_config);
    let routes = Routes::new(route(http, "/*", "GET, HEAD", pages::home_or_file))
        .at(
            "/wechat",
            route(
                http,
                "/wechat",
                "GET, HEAD, POST",
                get(callback::verify).post(callback::receive),
            ),
        )
        .at(
            "/wxAuthorize",
            route(http, "/wxAuthorize", "GET, HEAD", get(oauth::authorize)),
        )
        .at(
            "/wxCallback",
            route(http, "/wxCallback", "GET, HEAD", get(oauth::callback)),
        )
        .at(
            "/getUser",
            route(http, "/getUser", "GET, HEAD", get(oauth::get_user)),
        )
        .at(
            "/getJSConfig",
            route(http, "/getJSConfig", "GET, HEAD, POST", js_config()),
        )
        .at(
            "/getJsConfig",
            route(http, "/getJsConfig", "GET, HEAD, POST", js_config()),
        )
        .at(
            "/getTokens",
            route(http, "/getTokens", "GET, HEAD", get(management::get_tokens)),
        )
        .at(
            "/refreshTokens",
            route(
                http,
                "/refreshTokens",
                "POST",
                post(management::refresh_tokens),
            ),
        )
        .at(
            "/getTickets",
            route(
                http,
                "/getTickets",
                "GET, HEAD",
                get(management::get_tickets),
            ),
        )
        .at(
            "/getFollowers",
            route(
                http,
                "/getFollowers",
                "GET, HEAD",
                get(management::get_followers),
            ),
        )
        .at(
            reply_link::PATH,
            route(http, reply_link::PATH, "POST", post(replies::take)),
        )
        .at(
            "/healthz",
            route(http, "/healthz", "GET, HEAD", get(health::healthz)),
        )
        .at(
            "/readyz",
            route(http, "/readyz", "GET, HEAD", get(health::readyz)),
        )
        .at(
            "/metrics",
            route(http, "/metrics", "GET, HEAD", get(health::metrics)),
        );
    // One layer for all that wraps every route: each one moves the request.
    Traced { backend, routes }
}
