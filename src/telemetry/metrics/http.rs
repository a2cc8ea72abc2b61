//! The HTTP server.

use poem::http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::server::Load;

/// The HTTP server.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    load: Load,
}

impl HttpMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let this = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "offiaccount_http_requests_total",
                    "HTTP requests, by route and status.",
                ),
                &["route", "status"],
            )?,
            load: Load::new(),
        };
        registry.register(Box::new(this.requests.clone()))?;
        registry.register(Box::new(this.load.connections.clone()))?;
        registry.register(Box::new(this.load.shed.clone()))?;
        Ok(this)
    }

    /// The counter of requests that were answered so. `route` is a path of the route table, never the
    /// request's own.
    pub fn requests(&self, route: &'static str, status: StatusCode) -> IntCounter {
        self.requests.with_label_values(&[route, status.as_str()])
    }

    /// What the connection loop counts.
    pub(crate) fn load(&self) -> Load {
        self.load.clone()
    }
}
