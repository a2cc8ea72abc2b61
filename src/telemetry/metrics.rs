//! The metrics of `GET /metrics`, in a registry of the application's own.
//!
//! One small struct per concern, handed to the part that it measures.

use prometheus::{Gauge, IntGauge, Opts, Registry, TextEncoder};

mod api;
mod audit;
mod credentials;
mod customer_service;
mod forward;
mod http;
mod messages;
mod rules;
mod store;
mod words;

pub use api::ApiMetrics;
pub use audit::AuditMetrics;
pub use credentials::CredentialMetrics;
pub use customer_service::CustomerServiceMetrics;
pub use forward::ForwardMetrics;
pub use http::HttpMetrics;
pub use messages::MessageMetrics;
pub use rules::RuleMetrics;
pub use store::StoreMetrics;

/// What [`CredentialMetrics::count_refresh`] and [`RuleMetrics::count_reload`] count.
const RENEWALS: &[&str] = &["ok", "failed"];

/// All metrics of one application.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages and their handling.
    pub messages: MessageMetrics,
    /// Customer-service messages.
    pub customer_service: CustomerServiceMetrics,
    /// The rules of `REPLIES`.
    pub rules: RuleMetrics,
    /// Calls to the platform.
    pub api: ApiMetrics,
    /// Calls to `FORWARD_URL`.
    pub forward: ForwardMetrics,
    /// The token centre.
    pub credentials: CredentialMetrics,
    /// The audit list.
    pub audit: AuditMetrics,
    /// The store.
    pub store: StoreMetrics,
    /// The HTTP server.
    pub http: HttpMetrics,
    clock_skew: Gauge,
}

impl Metrics {
    /// Registers every family.
    ///
    /// # Errors
    ///
    /// Never, unless two families share a name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let build = IntGauge::with_opts(
            Opts::new("offiaccount_build_info", "1, labelled with the version.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        let clock_skew = Gauge::new(
            "offiaccount_clock_skew_seconds",
            "WeChat's clock less this machine's, by the Date of its answers.",
        )?;
        registry.register(Box::new(clock_skew.clone()))?;
        Ok(Self {
            messages: MessageMetrics::register(&registry)?,
            customer_service: CustomerServiceMetrics::register(&registry)?,
            rules: RuleMetrics::register(&registry)?,
            api: ApiMetrics::register(&registry)?,
            forward: ForwardMetrics::register(&registry)?,
            credentials: CredentialMetrics::register(&registry)?,
            audit: AuditMetrics::register(&registry)?,
            store: StoreMetrics::register(&registry)?,
            http: HttpMetrics::register(&registry)?,
            clock_skew,
            registry,
        })
    }

    /// The Prometheus text, version 0.0.4.
    ///
    /// # Errors
    ///
    /// When a family has no samples of its own kind, which the registry rules out.
    pub fn encode(&self, skew_seconds: Option<i64>) -> prometheus::Result<String> {
        if let Some(seconds) = skew_seconds {
            // A skew is far below 2^52 seconds.
            #[expect(
                clippy::cast_precision_loss,
                reason = "a skew is far below 2^52 seconds"
            )]
            self.clock_skew.set(seconds as f64);
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
