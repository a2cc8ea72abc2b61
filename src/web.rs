//! The backend's HTTP: the route table, and what wraps every route.

use std::sync::Arc;

use poem::{Endpoint, Response};
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

use route::{Routes, get, post};
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
    let js_config = || get(jssdk::get_js_config).post(jssdk::post_js_config);
    let routes = Routes::new(&backend.metrics.http, pages::home_or_file)
        .at("/wechat", get(callback::verify).post(callback::receive))
        .at("/wxAuthorize", get(oauth::authorize))
        .at("/wxCallback", get(oauth::callback))
        .at("/getUser", get(oauth::get_user))
        .at("/getJSConfig", js_config())
        .at("/getJsConfig", js_config())
        .at("/getTokens", get(management::get_tokens))
        .at("/refreshTokens", post(management::refresh_tokens))
        .at("/getTickets", get(management::get_tickets))
        .at("/getFollowers", get(management::get_followers))
        .at(reply_link::PATH, post(replies::take))
        .at("/healthz", get(health::healthz))
        .at("/readyz", get(health::readyz))
        .at("/metrics", get(health::metrics));
    Traced { backend, routes }
}
